//! Which instruction a finding of the driver doctor is blamed on, and how often it counts.

use minivmm::nic::e1000::doctor::Doctor;
use minivmm::nic::e1000::spec::{cause, ctrl, rctl, reg, tctl};
use minivmm::nic::e1000::testing::{OTHER, TX_RING, frame_to};

use super::doctor::{N, bench};

#[test]
fn a_ring_that_nobody_has_set_up_is_found_by_what_switches_its_engine_on() {
    let rips = |doctor: &Doctor| -> Vec<_> {
        doctor.findings().iter().map(|f| (f.kind.id, f.moment.origin.and_then(|origin| origin.rip))).collect()
    };
    let (nic, doctor) = bench();
    nic.count_instructions();
    nic.write(reg::TDLEN, 0x1000);
    nic.write(reg::TDT, 1);
    nic.write(reg::TCTL, tctl::EN);
    assert_eq!(rips(&doctor)[..1], [("E1000-TX-002", Some(nic.last_instruction()))]);
    let (nic, doctor) = bench();
    nic.count_instructions();
    nic.write(reg::RDT, 1);
    nic.write(reg::RCTL, rctl::EN);
    let last = Some(nic.last_instruction());
    assert_eq!(rips(&doctor), [("E1000-RX-001", last), ("E1000-RX-002", last)]);
    // The base that was written before a reset is still there, and so is what was wrong with it.
    let (nic, doctor) = bench();
    nic.count_instructions();
    nic.write(reg::TDBAL, TX_RING as u32 + 4);
    let guilty = Some(nic.last_instruction());
    nic.write(reg::CTRL, ctrl::RST);
    nic.advance(5_000_000);
    nic.write(reg::TDLEN, 0x1000);
    nic.write(reg::TDT, 1);
    nic.write(reg::TCTL, tctl::EN);
    assert_eq!(rips(&doctor)[..1], [("E1000-TX-002", guilty)]);
}

#[test]
fn what_lasts_counts_once() {
    let (mut nic, doctor) = bench();
    nic.write(reg::RDTR, 8);
    nic.write(reg::RADV, 8);
    nic.write(reg::ITR, 200);
    nic.write(reg::RDLEN, 250 * 16);
    nic.write(reg::CTRL, ctrl::SLU);
    nic.write(reg::RCTL, rctl::EN);
    (1..9).for_each(|n| nic.write(reg::RDT, n));
    nic.start_tx(N);
    nic.dma.set_enabled(false);
    nic.write(reg::CTRL, 0);
    nic.write(reg::ITR, 0);
    nic.write(reg::IMS, cause::LSC);
    for _ in 0..7 {
        nic.send(&frame_to(OTHER, 60));
    }
    for _ in 0..40 {
        nic.write(reg::ICS, cause::LSC);
        nic.write(reg::IMC, !0);
        nic.write(reg::IMS, cause::LSC);
    }
    let counts: Vec<_> = doctor.findings().iter().map(|f| (f.kind.id, f.count)).collect();
    let ids = [
        "E1000-RX-001",
        "E1000-RX-002",
        "E1000-RX-018",
        "E1000-RX-021",
        "E1000-DMA-001",
        "E1000-LNK-001",
        "E1000-INT-002",
    ];
    assert_eq!(counts, ids.map(|id| (id, 1)));
    // Another time is another episode.
    nic.write(reg::RDTR, 0);
    nic.write(reg::RDT, 9);
    nic.write(reg::RDTR, 8);
    nic.write(reg::RDT, 10);
    assert_eq!(doctor.findings()[2].count, 2);
}
