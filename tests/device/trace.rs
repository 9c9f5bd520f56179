//! Trace and coverage over the device: what a run looks like in text, JSON and pcapng.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::coverage::Coverage;
use minivmm::nic::e1000::spec::{cause, rctl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic, frame_to};
use minivmm::trace::{Format, NAMES, Options, Symbols, Timeline, TraceError, Tracer};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

/// A device with a trace of `pattern` into a file.
fn traced(pattern: &str, format: Format, limit: u32) -> (TestNic, Arc<Timeline>, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = Options {
        pattern: pattern.into(),
        file: Some(file.path().into()),
        format,
        limit,
        epoch: Duration::from_secs(1_000_000),
    };
    let timeline = Timeline::new(&options, Arc::new(Symbols::default())).unwrap();
    let observer = Some(Arc::new(Tracer::new(timeline.clone(), "n0")) as _);
    (TestNic::new(Config { observer, ..Config::new(MAC) }), timeline, file)
}

/// One frame each way.
fn traffic(bench: &mut TestNic) {
    bench.start_rx(8, rctl::BAM);
    bench.start_tx(8);
    bench.write(reg::IMS, cause::RXT0 | cause::TXDW);
    bench.send(&frame_to(OTHER, 60));
    bench.advance(1_500_000_000);
    bench.inject(&frame_to(MAC, 100));
    bench.inject(&frame_to(OTHER, 100));
    bench.read(reg::ICR);
}

fn read(file: &tempfile::NamedTempFile) -> String {
    std::fs::read_to_string(file.path()).unwrap()
}

#[test]
fn text_is_one_timeline_of_decoded_events() {
    let (mut bench, _, file) = traced("e1000_*", Format::Text, 0);
    traffic(&mut bench);
    let text = read(&file);
    let mut lines = text.lines();
    for expected in [
        "0.000000000 n0 e1000_reset kind=RST#",
        "e1000_register_write register=RCTL value=0x8002 bits=EN|LBM=0x0|RDMTS=0x0|MO=0x0|BAM|BSIZE=0x0 old=0x0 new=0x8002",
        "e1000_irq_mask old=0x0 new=0x81 bits=TXDW|RXT0",
        "e1000_register_write register=TDT value=0x1 old=0x0 new=0x1 cpu=0",
        "e1000_tx_fetch index=0 at=0x10000 descriptor=\"legacy address=0x100000 length=60 EOP|IFCS|RS cso=0 css=0 special=0x0000\"",
        "e1000_tx_frame length=60 checksum=done fcs=appended disposition=sent addresses=02:00:00:00:00:01>02:00:00:00:00:01,0x88b5",
        "e1000_tx_writeback index=0 at=0x10000 descriptor=status=0x1",
        "e1000_tx_head head=1 causes=TXDW|TXQE",
        "e1000_irq_raise causes=TXDW|TXQE",
        "e1000_irq_deliver line=asserted",
        "1.500000000 n0 e1000_rx_fetch index=0 at=0x20000 descriptor=\"address=0x400000 status=[]\"",
        "e1000_rx_writeback index=0 at=0x20000 descriptor=\"length=104",
        "e1000_rx_head head=1",
        "e1000_rx_frame length=100 disposition=\"stored by Station(0)\"",
        "e1000_rx_frame length=100 disposition=\"dropped: Address\"",
        "e1000_irq_ack causes=",
        "e1000_register_read register=ICR value=",
    ] {
        assert!(lines.any(|line| line.contains(expected)), "no line (in order) with {expected}\n{text}");
    }
}

#[test]
fn json_lines_have_the_same_fields() {
    let (mut bench, _, file) = traced("e1000_register_*", Format::Json, 0);
    traffic(&mut bench);
    let text = read(&file);
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object on each line")).collect();
    assert!(objects.iter().all(|o| o["event"].as_str().unwrap().starts_with("e1000_register_")));
    let tail = objects.iter().find(|o| o["register"] == "TDT" && o["value"] == 1).unwrap();
    assert_eq!(
        (&tail["old"], &tail["new"], &tail["cpu"], &tail["nic"]),
        (&0.into(), &1.into(), &0.into(), &"n0".into())
    );
}

#[test]
fn pcapng_frames_have_comments_with_descriptors_and_causes() {
    let (mut bench, timeline, file) = traced("*", Format::PcapNg, 0);
    traffic(&mut bench);
    timeline.finish();
    let mut reader = PcapNgReader::new(File::open(file.path()).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            let comment = packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                _ => None,
            });
            packets.push((packet.timestamp, packet.data.to_vec(), comment.unwrap()));
        }
    }
    assert_eq!(packets.len(), 3);
    let start = Duration::from_secs(1_000_000);
    let (at, bytes, comment) = &packets[0];
    assert_eq!((*at, &bytes[..]), (start, &frame_to(OTHER, 60)[..]));
    assert!(comment.contains("descriptor 0: legacy address=0x100000 length=60"), "{comment}");
    assert!(comment.contains("sent\nTDH = 1, causes: TXDW|TXQE"), "{comment}");
    let (at, bytes, comment) = &packets[1];
    assert_eq!((*at, &bytes[..]), (start + Duration::from_millis(1500), &frame_to(MAC, 100)[..]));
    assert!(comment.contains("stored by Station(0)\ndescriptor 0: length=104"), "{comment}");
    assert!(packets[2].2.contains("dropped: Address"));
}

#[test]
fn what_is_over_the_limit_is_said() {
    let (mut bench, timeline, file) = traced("e1000_*", Format::Text, 8);
    traffic(&mut bench);
    timeline.finish();
    let text = read(&file);
    let dropped: usize = text
        .lines()
        .filter_map(|line| line.strip_prefix("... ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    let (mut all, _, whole) = traced("e1000_*", Format::Text, 0);
    traffic(&mut all);
    let told = text.lines().filter(|line| !line.starts_with("...")).count();
    assert_eq!(told, 16, "two seconds: {text}");
    assert_eq!(told + dropped, read(&whole).lines().count());
}

#[test]
fn a_pattern_without_events_is_refused() {
    let options = |pattern: &str| Options {
        pattern: pattern.into(),
        file: None,
        format: Format::Text,
        limit: 0,
        epoch: Duration::ZERO,
    };
    let symbols = Arc::new(Symbols::default());
    let error = Timeline::new(&options("virtio_*"), symbols.clone()).unwrap_err();
    assert!(matches!(error, TraceError::NoEvent(name) if name == "virtio_*"));
    for (name, _) in NAMES {
        Timeline::new(&options(name), symbols.clone()).unwrap();
    }
}

#[test]
fn coverage_counts_what_the_driver_used() {
    let coverage = Arc::new(Coverage::default());
    let mut bench = TestNic::new(Config { observer: Some(coverage.clone()), ..Config::new(MAC) });
    traffic(&mut bench);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | txd::IC | txd::RS);
    bench.ring_doorbell();
    bench.read(0x3c);
    let report = coverage.report();
    assert_eq!((report.registers["ICR"].reads, report.registers["ICR"].writes), (1, 0));
    assert_eq!(report.registers["TDT"].writes, 3);
    assert_eq!(report.registers["RCTL"].ones, rctl::EN | rctl::BAM);
    assert_eq!(report.registers["RCTL"].zeros & rctl::EN, 0);
    assert_eq!(report.registers["MTA"].reads + report.registers["MTA"].writes, 0);
    assert_eq!(report.unknown_offsets["0x0003c"], 1);
    assert_eq!((report.descriptors["tx legacy"], report.descriptors["rx"]), (2, 1));
    assert_eq!(report.offloads["checksum by legacy IC"], 1);
    assert_eq!(report.frames["rx stored by Station(0)"], 1);
    assert_eq!(report.frames["rx dropped Address"], 1);
    assert_eq!(report.frames["tx Sent"], 2);
    assert_eq!((report.causes["RXT0"], report.causes["SRPD"]), (1, 0));
    let table = report.table();
    assert!(table.contains("never used: ") && table.contains("rx stored by Station(0)"), "{table}");
    assert!(serde_json::to_string(&report).unwrap().contains("\"registers\""));
}

#[test]
fn the_documented_events_are_those_in_the_code() {
    let rows: String = NAMES.iter().map(|(name, about)| format!("| `{name}` | {about} |\n")).collect();
    super::register_docs::replace_block_of(
        "trace.md",
        "events",
        &format!("\n| event | |\n|---|---|\n{rows}"),
    );
}

#[test]
fn registers_can_be_looked_at_without_side_effects() {
    let mut bench = TestNic::default();
    traffic(&mut bench);
    bench.inject(&frame_to(MAC, 100));
    let look = || bench.nic.registers();
    let seen: std::collections::HashMap<String, u32> = look().into_iter().collect();
    assert_eq!((seen["ICR"], seen["IMS"], seen["RDT"]), (cause::RXT0, cause::RXT0 | cause::TXDW, 7));
    assert_eq!((seen["GPRC"], seen["STATUS"]), (2, bench.read(reg::STATUS)));
    assert!(seen.contains_key("RAH[15]") && !seen.contains_key("MTA[0]"));
    assert_eq!(look().into_iter().collect::<std::collections::HashMap<_, _>>(), seen, "nothing was cleared");
    assert_eq!((bench.read(reg::GPRC), bench.read(reg::ICR)), (2, cause::RXT0));
}
