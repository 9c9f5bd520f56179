//! Two CPUs of a hostile guest at one device with everything on that watches it or lets it go wrong: what is kept is
//! bounded, and so is what is written.
//!
//! `MINIVMM_OPERATIONS=10000000` makes it as long as one likes; it says then how long it took, and how much memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use minivmm::fault::{CardFault, Schedule};
use minivmm::netport::{Frame, FramePort};
use minivmm::nic::e1000::coverage::Coverage;
use minivmm::nic::e1000::doctor::{Doctor, KINDS};
use minivmm::nic::e1000::observe::{Observer, Observers};
use minivmm::nic::e1000::regs::table::{DWORDS, TABLE};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, tctl};
use minivmm::nic::e1000::testing::{MAC, RX_RING, TX_RING, TestNic, frame_to};
use minivmm::nic::e1000::{Config, Model};
use minivmm::trace::{Format, Options, Symbols, Timeline, Tracer};

const OPERATIONS: u64 = 60_000;
/// Events a second of device time that each trace may have.
const LIMIT: u32 = 1000;
/// Time that each operation takes.
const STEP_NS: u64 = 10_000;

fn operation(nic: &TestNic, random: &mut Rng) {
    let row = &TABLE[random.usize(..TABLE.len())];
    let register = row.offset + random.u32(..row.count) * row.stride;
    match random.u32(..16) {
        0 => {
            nic.read(random.u32(..DWORDS as u32) * 4);
        }
        1..=3 => nic.write(register, random.u32(..)),
        4 => {
            nic.read(register);
        }
        5 => nic.write(reg::TCTL, tctl::EN | random.u32(..) & 0xff),
        6 => nic.write(reg::RCTL, rctl::EN | random.u32(..)),
        7 => {
            let bases = [(reg::TDBAL, TX_RING), (reg::RDBAL, RX_RING), (reg::TDBAH, 0), (reg::RDBAH, 0)];
            bases.iter().for_each(|&(at, base)| nic.write(at, base as u32));
            let len = [128, 4096, 0xf_ff80][random.usize(..3)];
            [reg::TDLEN, reg::RDLEN].iter().for_each(|&at| nic.write(at, len));
            nic.write(reg::CTRL, ctrl::SLU);
        }
        8..=10 => nic.write([reg::TDT, reg::RDT, reg::TDH, reg::RDH][random.usize(..4)], random.u32(..300)),
        11..=13 => {
            let ring = [TX_RING, RX_RING][random.usize(..2)];
            let mut raw = random.u128(..).to_le_bytes();
            // Mostly in memory, and not too long.
            raw[3..8].fill(0);
            raw[2] &= 0x7f;
            raw[9] &= 0x3f;
            nic.poke(ring + 16 * random.u64(..256), &raw);
        }
        14 => {
            let len = [60, 1514, 9000][random.usize(..3)];
            let to = [MAC, [0xff; 6], [random.u8(..); 6]][random.usize(..3)];
            nic.nic.deliver(&Frame::whole(&frame_to(to, len)));
        }
        _ => nic.write(reg::ICS, random.u32(..)),
    }
    nic.clock.advance(STEP_NS);
    if nic.clock.due() {
        nic.nic.time_passed();
    }
    nic.peer.take_all();
}

#[test]
fn watchers_keep_and_write_no_more_than_they_may() {
    let operations = std::env::var("MINIVMM_OPERATIONS").map_or(OPERATIONS, |n| n.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let ears = told.clone();
    let doctor = Arc::new(Doctor::new(Model::default(), move |_| {
        ears.fetch_add(1, Ordering::SeqCst);
    }));
    let coverage = Arc::new(Coverage::default());
    let timelines =
        [("text", Format::Text), ("json", Format::Json), ("pcapng", Format::PcapNg)].map(|(name, format)| {
            let file = Some(folder.path().join(name));
            let options =
                Options { pattern: "*".to_owned(), file, format, limit: LIMIT, epoch: Duration::ZERO };
            Timeline::new(&options, Arc::new(Symbols::default())).unwrap()
        });
    let mut all: Vec<Arc<dyn Observer>> = vec![doctor.clone(), coverage.clone()];
    all.extend(
        timelines.iter().map(|timeline| Arc::new(Tracer::new(timeline.clone(), "n0")) as Arc<dyn Observer>),
    );
    let observer = Some(Arc::new(Observers(all)) as _);
    let mut nic = TestNic::new(Config { observer, strict: true, ..Config::new(MAC) });
    nic.count_instructions();
    for fault in CardFault::ALL.into_iter().filter(|fault| *fault != CardFault::Removal) {
        let schedule = Schedule { skip: 0, every: 7, rate: minivmm::fault::ALWAYS, count: u64::MAX, seed: 1 };
        assert!(nic.nic.add_fault(fault.name(), fault, 1_000_000, schedule));
    }
    nic.start_tx(64);
    nic.start_rx(64, rctl::BAM);
    let began = Instant::now();
    std::thread::scope(|threads| {
        for cpu in 0..2 {
            let nic = &nic;
            threads.spawn(move || {
                let mut random = Rng::with_seed(cpu);
                (0..operations / 2).for_each(|_| operation(nic, &mut random));
            });
        }
    });
    if operations > OPERATIONS {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!(
            "{operations} operations in {:?}; {memory}; {} findings",
            began.elapsed(),
            doctor.findings().len()
        );
    }
    timelines.iter().for_each(|timeline| timeline.finish());
    let findings = doctor.findings();
    assert!(findings.len() > KINDS.len() / 3, "{} kinds only", findings.len());
    assert_eq!(told.load(Ordering::SeqCst), findings.len(), "each kind is told once");
    // A second more than the time that has passed, and what was dropped in each.
    let seconds = operations * STEP_NS / 1_000_000_000 + 2;
    for name in ["text", "json"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let lines = text.lines().count() as u64;
        assert!(
            lines > 100 && lines <= seconds * (u64::from(LIMIT) + 1),
            "{name}: {lines} lines in {seconds} s"
        );
        assert!(text.lines().all(|line| line.len() < 4000));
    }
    let report = serde_json::to_vec(&coverage.report()).unwrap();
    assert!(report.len() < 4 << 20, "{} bytes of coverage", report.len());
}
