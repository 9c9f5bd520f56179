//! Trace and coverage over the device: what a run looks like in text, JSON and pcapng.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use minivmm::fault::{CableEffect, CableHit, CardFault, FrameEffect, Schedule};
use minivmm::netport::Delivery;
use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::coverage::Coverage;
use minivmm::nic::e1000::spec::{cause, mdic, rctl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic, frame_to};
use minivmm::trace::{Format, NAMES, Options, Symbols, Timeline, TraceError, Tracer};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
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

/// A frame's length and comment.
type Captured = (usize, String);
/// An interface's name, the frames seen there, and those left out.
type Interface = (String, u64, u64);

/// The blocks of a capture.
fn blocks(file: &tempfile::NamedTempFile) -> (Vec<Captured>, Vec<Interface>) {
    let mut reader = PcapNgReader::new(File::open(file.path()).unwrap()).unwrap();
    let (mut frames, mut interfaces) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(block) => {
                let name = block.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                interfaces.push((name.unwrap(), 0, 0));
            }
            Block::EnhancedPacket(packet) => {
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                frames.push((packet.data.len(), comment.unwrap()));
            }
            Block::InterfaceStatistics(block) => {
                for option in &block.options {
                    let entry = &mut interfaces[block.interface_id as usize];
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(count) => entry.1 = *count,
                        InterfaceStatisticsOption::IsbIfDrop(count) => entry.2 = *count,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (frames, interfaces)
}

#[test]
fn frames_over_the_limit_of_a_capture_are_counted_in_it() {
    let (mut bench, timeline, file) = traced("*", Format::PcapNg, 2);
    bench.start_rx(16, rctl::BAM);
    (0..5).for_each(|n| assert_eq!(bench.inject(&frame_to(MAC, 60 + n)), Delivery::Taken));
    bench.advance(1_000_000_000);
    (0..3).for_each(|n| assert_eq!(bench.inject(&frame_to(MAC, 70 + n)), Delivery::Taken));
    timeline.finish();
    let (frames, interfaces) = blocks(&file);
    let lengths: Vec<usize> = frames.iter().map(|frame| frame.0).collect();
    assert_eq!(lengths, [60, 61, 70, 71]);
    assert!(frames[2].1.starts_with("3 frames more than limit= were left out before this one\nstored by"));
    assert!(frames[2].1.contains("descriptor 5: length=74"), "its own descriptor only: {}", frames[2].1);
    assert!(!frames[2].1.contains("descriptor 4"), "{}", frames[2].1);
    assert!(frames[3].1.starts_with("stored by"), "{}", frames[3].1);
    assert_eq!(interfaces, [("n0".to_owned(), 8, 4)]);
}

#[test]
fn a_capture_of_one_direction_has_only_its_frames() {
    for (pattern, lengths) in [("e1000_tx_frame", vec![60]), ("e1000_rx_*", vec![100, 100])] {
        let (mut bench, timeline, file) = traced(pattern, Format::PcapNg, 0);
        traffic(&mut bench);
        timeline.finish();
        let (frames, interfaces) = blocks(&file);
        assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), lengths, "{pattern}");
        assert_eq!(interfaces, [("n0".to_owned(), lengths.len() as u64, 0)]);
    }
}

/// Two hits on a cable: a frame that is damaged, and the cable itself.
fn cable_faults(timeline: &Timeline) {
    let frame = frame_to(OTHER, 60);
    let done = FrameEffect::Flipped { byte: 20, bit: 3 };
    let what = CableEffect::Frame { to_guest: true, bytes: &frame, seed: 9, of: 40, done };
    timeline.cable_fault(1_500_000, &CableHit { netdev: "net0", id: "f1", kind: "corrupt", hit: 2, what });
    let what = CableEffect::Link { up: false };
    timeline.cable_fault(2_000_000, &CableHit { netdev: "net0", id: "f2", kind: "link-flap", hit: 1, what });
}

#[test]
fn faults_are_in_the_timeline() {
    let (mut bench, timeline, file) = traced("*fault*", Format::Text, 0);
    bench.start_tx(8);
    let schedule = Schedule { skip: 1, seed: 9, ..Schedule::default() };
    assert!(bench.nic.add_fault("late", CardFault::DmaError, 0, schedule));
    (0..2).for_each(|_| {
        bench.send(&frame_to(OTHER, 60));
    });
    cable_faults(&timeline);
    let expected = [
        "     0.000000000 n0 e1000_fault plan=late kind=dma-error hit=1 of=2 seed=9 done=\"the frame cannot be read\" cpu=0",
        "     0.001500000 net0 net_fault_frame plan=f1 kind=corrupt hit=2 of=40 seed=9 way=\"to the guest\" length=60 \
         done=\"bit 3 of byte 20 inverted\" addresses=02:00:00:00:00:01>02:00:00:00:00:01,0x88b5",
        "     0.002000000 net0 net_fault_link plan=f2 kind=link-flap hit=1 cable=out",
    ];
    assert_eq!(read(&file).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn patterns_choose_faults_of_cables_and_of_cards() {
    let lines = |pattern: &str| {
        let (_, timeline, file) = traced(pattern, Format::Json, 0);
        cable_faults(&timeline);
        read(&file)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<serde_json::Value>>()
    };
    assert!(lines("e1000_fault").is_empty());
    assert_eq!(lines("net_*").len(), 2);
    let [frame] = &lines("net_fault_frame")[..] else { panic!("one line") };
    assert_eq!(
        (&frame["netdev"], &frame["event"], &frame["length"], &frame["ns"]),
        (&"net0".into(), &"net_fault_frame".into(), &60.into(), &1_500_000.into())
    );
    assert_eq!(frame.get("nic"), None);
}

#[test]
fn a_capture_has_the_frames_that_a_fault_has_hit() {
    let (_, timeline, file) = traced("*", Format::PcapNg, 0);
    cable_faults(&timeline);
    timeline.finish();
    let (frames, interfaces) = blocks(&file);
    assert_eq!(frames, [(60, "-fault corrupt,id=f1: bit 3 of byte 20 inverted".to_owned())]);
    assert!(interfaces.contains(&("net0-cable".to_owned(), 1, 0)), "{interfaces:?}");
}

#[test]
fn a_capture_needs_a_file() {
    let (pattern, file, format) = ("*".to_owned(), None, Format::PcapNg);
    let options = Options { pattern, file, format, limit: 0, epoch: Duration::ZERO };
    let error = Timeline::new(&options, Arc::new(Symbols::default())).unwrap_err();
    assert_eq!(error.to_string(), "-trace format=pcapng needs file=");
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
    assert_eq!((report.faults["irq-lost"], report.faults.len()), (0, CardFault::ALL.len()));
    assert!(bench.nic.add_fault("f", CardFault::MdicTimeout, 0, Schedule::default()));
    bench.write(reg::MDIC, 1 << 21 | 1 << 16 | mdic::OP_READ << 26);
    coverage.cable_fault("drop");
    let report = coverage.report();
    assert_eq!((report.faults["mdic-timeout"], report.faults["drop"]), (1, 1));
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
