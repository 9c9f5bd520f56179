//! Drivers that are right in unusual ways: the driver doctor has nothing to say about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minivmm::netport::FramePort;
use minivmm::nic::e1000::doctor::{Doctor, Severity};
use minivmm::nic::e1000::observe::{Event, Moment, Observer};
use minivmm::nic::e1000::spec::{cause, ctrl, mdic, rctl, reg, rxd, tctl, txd};
use minivmm::nic::e1000::testing::{
    MAC, OTHER, RX_BUFFER_STEP, RX_BUFFERS, RX_RING, TX_BUFFERS, TestNic, frame_to,
};
use minivmm::nic::e1000::{Config, Model};

use super::doctor::{FRAME, bench, context, ids};
use super::doctor_sums::{Flow, seeded};

const MS: u64 = 1_000_000;

fn is_well(doctor: &Doctor) {
    assert_eq!(ids(doctor, Severity::Note), [""; 0], "{:#?}", doctor.findings());
}

#[test]
fn one_that_polls_dd_with_interrupts_masked() {
    let (mut nic, doctor) = bench();
    nic.write(reg::IMC, !0);
    nic.start_rx(8, rctl::BAM);
    nic.start_tx(8);
    for _ in 0..100 {
        nic.inject(&frame_to(MAC, 60));
        assert!(nic.receive().is_some());
        nic.refill();
        let sent = nic.send(&frame_to(OTHER, 60));
        assert_eq!(nic.tx_status(sent) & txd::DD, txd::DD);
        nic.advance(20 * MS);
    }
    is_well(&doctor);
}

#[test]
fn one_that_asks_for_a_report_of_the_last_of_a_batch_only() {
    for write_back in [0, 1 << 24 | 8 << 16] {
        let (mut nic, doctor) = bench();
        nic.start_tx(16);
        nic.write(reg::TXDCTL, write_back);
        nic.write(reg::TIDV, 10);
        for _ in 0..10 {
            for n in 0..15 {
                let cmd = if n == 14 { FRAME } else { txd::EOP | txd::IFCS };
                nic.queue_legacy(TX_BUFFERS, 60, cmd);
            }
            nic.ring_doorbell();
            nic.advance(MS);
        }
        assert_eq!(nic.peer.take_all().len(), 150);
        is_well(&doctor);
    }
}

#[test]
fn one_that_fills_its_smallest_rings_to_the_last() {
    let (mut nic, doctor) = bench();
    nic.start_rx(8, rctl::BAM);
    nic.start_tx(8);
    for _ in 0..20 {
        for _ in 0..7 {
            nic.inject(&frame_to(MAC, 60));
        }
        for _ in 0..7 {
            nic.receive();
            nic.refill();
        }
        nic.peer.set_room(0);
        (0..7).for_each(|_| {
            nic.send(&frame_to(OTHER, 60));
        });
        nic.peer.set_room(7);
        nic.nic.peer_ready();
    }
    is_well(&doctor);
}

#[test]
fn one_that_mixes_descriptors_and_keeps_its_contexts() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    let (frame, start, at) = seeded(Flow { payload: 100, ..Flow::default() }, 0);
    nic.poke(TX_BUFFERS, &frame);
    nic.queue_descriptor(context(start as u64, at as u64, false, 0, 0, 0));
    nic.queue_descriptor(context(start as u64, at as u64, true, 54, 20, 46));
    for _ in 0..30 {
        nic.queue_legacy(TX_BUFFERS, 60, FRAME);
        nic.queue_data(TX_BUFFERS, frame.len() as u32, FRAME, txd::POPTS_TXSM, 0);
        nic.queue_data(TX_BUFFERS, 70, FRAME, 0, 0);
        nic.ring_doorbell();
    }
    is_well(&doctor);
}

#[test]
fn one_that_reads_icr_until_it_is_zero_and_refills_by_the_dozen() {
    let (mut nic, doctor) = bench();
    nic.start_rx(128, rctl::BAM);
    nic.start_tx(16);
    nic.write(reg::IMS, cause::RXT0 | cause::TXDW | cause::LSC);
    for n in 1..=400 {
        nic.inject(&frame_to(MAC, 60));
        while nic.read(reg::ICR) != 0 {
            while nic.receive().is_some() {}
        }
        if n % 32 == 0 {
            nic.refill();
        }
        nic.send(&frame_to(OTHER, 60));
        while nic.read(reg::ICR) != 0 {}
    }
    is_well(&doctor);
}

#[test]
fn one_that_interrupts_itself() {
    let (mut nic, doctor) = bench();
    nic.start_rx(16, rctl::BAM);
    nic.start_tx(16);
    nic.write(reg::IMS, cause::RXT0 | cause::RXDMT0);
    for _ in 0..100 {
        nic.write(reg::ICS, cause::RXDMT0);
        assert!(nic.interrupted());
        // Acknowledged by writing.
        nic.write(reg::ICR, !0);
        nic.advance(MS);
    }
    is_well(&doctor);
}

#[test]
fn one_that_resets_in_traffic_after_a_drain() {
    let (mut nic, doctor) = bench();
    for _ in 0..5 {
        nic.start_rx(16, rctl::BAM);
        nic.start_tx(16);
        nic.write(reg::IMS, cause::RXT0 | cause::TXDW);
        nic.inject(&frame_to(MAC, 60));
        nic.peer.set_room(0);
        (0..10).for_each(|_| {
            nic.send(&frame_to(OTHER, 60));
        });
        nic.write(reg::IMC, !0);
        nic.write(reg::RCTL, 0);
        nic.inject(&frame_to(MAC, 60));
        nic.peer.set_room(usize::MAX);
        nic.nic.peer_ready();
        while nic.read(reg::TDH) != nic.read(reg::TDT) {}
        nic.write(reg::TCTL, 0);
        nic.advance(10 * MS);
        nic.write(reg::CTRL, ctrl::RST);
        nic.advance(5 * MS);
        nic.read(reg::ICR);
    }
    is_well(&doctor);
}

#[test]
fn one_that_takes_jumbo_frames_in_small_buffers() {
    let (mut nic, doctor) = bench();
    nic.start_rx(16, rctl::BAM | rctl::LPE);
    nic.start_tx(16);
    for _ in 0..20 {
        nic.inject(&frame_to(MAC, 9000));
        assert_eq!(nic.receive().expect("a frame").descriptors, 5);
        nic.refill();
        nic.poke(TX_BUFFERS, &frame_to(OTHER, 9000));
        for part in 0..9 {
            let cmd = if part == 8 { FRAME } else { txd::IFCS };
            nic.queue_legacy(TX_BUFFERS + part * 1000, 1000, cmd);
        }
        nic.ring_doorbell();
    }
    is_well(&doctor);
}

#[test]
fn one_that_switches_filters_and_the_receiver_itself() {
    let (mut nic, doctor) = bench();
    nic.start_rx(16, rctl::BAM);
    for round in 0..20u64 {
        nic.write(reg::RCTL, rctl::EN | rctl::BAM | rctl::UPE | rctl::MPE);
        nic.inject(&frame_to(OTHER, 60));
        nic.write(reg::RCTL, rctl::EN | rctl::BAM);
        nic.inject(&frame_to(MAC, 60));
        while nic.receive().is_some() {}
        // Off and on again, with the same buffers in other places.
        nic.write(reg::RCTL, 0);
        for n in 0..16u64 {
            nic.post_rx_descriptor(n as u32, RX_BUFFERS + (n + 16 - round % 16) % 16 * RX_BUFFER_STEP);
        }
        nic.refill();
        nic.write(reg::RCTL, rctl::EN | rctl::BAM);
    }
    is_well(&doctor);
}

#[test]
fn one_that_leaves_holes_in_its_ring_and_uses_the_last_buffer_first() {
    let (nic, doctor) = bench();
    let mut nic = nic;
    nic.start_rx(16, rctl::BAM);
    for n in 1..4 {
        nic.post_rx_descriptor(n, 0);
    }
    nic.inject(&frame_to(MAC, 60));
    nic.receive();
    // The first buffer is free again: it goes where the ring ends.
    nic.post_rx_descriptor(15, RX_BUFFERS);
    nic.write(reg::RDT, 0);
    for _ in 0..12 {
        nic.inject(&frame_to(MAC, 60));
    }
    assert_eq!(ids(&doctor, Severity::Warning), [""; 0], "{:#?}", doctor.findings());
}

#[test]
fn one_whose_registers_somebody_dumps_now_and_then() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    for _ in 0..100 {
        nic.send(&frame_to(OTHER, 60));
        // ethtool -d
        for at in [reg::CTRL, reg::STATUS, reg::RCTL, reg::TCTL, reg::TDLEN, reg::TDH, reg::TDT, reg::TIDV] {
            nic.read(at);
        }
    }
    for n in 0..1000 {
        nic.send(&frame_to(OTHER, 60));
        // A watchdog, every 20 frames.
        if n % 20 == 0 {
            nic.read(reg::TDH);
        }
    }
    is_well(&doctor);
}

#[test]
fn one_that_waits_for_the_phy_by_interrupt_or_by_time() {
    let (nic, doctor) = bench();
    let write = mdic::PHY_ADDRESS << 21 | mdic::OP_WRITE << 26 | 4 << 16 | 0x1e1;
    for _ in 0..3 {
        nic.write(reg::MDIC, write | 1 << 29);
        assert_ne!(nic.read(reg::ICR) & cause::MDAC, 0);
    }
    for _ in 0..3 {
        nic.write(reg::MDIC, write);
        nic.advance(MS / 5);
    }
    is_well(&doctor);
}

#[test]
fn one_whose_short_frames_are_long_enough_with_their_tag() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    nic.write(reg::CTRL, ctrl::SLU | ctrl::VME);
    nic.write(reg::TCTL, tctl::EN);
    nic.queue_legacy(TX_BUFFERS, 56, FRAME | txd::VLE);
    nic.ring_doorbell();
    is_well(&doctor);
    nic.queue_legacy(TX_BUFFERS, 55, FRAME | txd::VLE);
    nic.ring_doorbell();
    assert_eq!(ids(&doctor, Severity::Note), ["E1000-TX-011"]);
}

#[test]
fn one_that_delays_reports_of_what_it_sends() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    nic.write(reg::TIDV, 100);
    nic.write(reg::TADV, 400);
    nic.write(reg::IMS, cause::TXDW);
    for _ in 0..50 {
        (0..10).for_each(|_| {
            nic.queue_legacy(TX_BUFFERS, 60, FRAME | txd::IDE);
        });
        nic.ring_doorbell();
        nic.advance(MS);
        assert!(nic.interrupted());
        nic.read(reg::ICR);
    }
    is_well(&doctor);
}

#[test]
fn one_that_tests_itself_in_the_phy_without_a_link() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    nic.write(reg::CTRL, 0);
    nic.phy_write(0, 0x4140);
    nic.send(&frame_to(OTHER, 60));
    is_well(&doctor);
    // The test is over.
    nic.phy_write(0, 0x1140);
    nic.send(&frame_to(OTHER, 60));
    assert_eq!(ids(&doctor, Severity::Note), ["E1000-LNK-001"]);
}

/// The doctor, told late of each write to a tail register: as if its thread had lost the processor there.
#[derive(Debug)]
struct Late(Arc<Doctor>, AtomicBool);

impl Observer for Late {
    fn event(&self, moment: &Moment, event: &Event<'_>) {
        if let Event::RegisterWrite { register, .. } = event
            && matches!(register.offset, reg::RDT | reg::TDT)
            && self.1.swap(false, Ordering::SeqCst)
        {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.0.event(moment, event);
    }
}

/// A bench in which a write to `tail` is told late, while `meanwhile` happens on another thread.
fn races(tail: u32, value: u32, prepare: fn(&mut TestNic), meanwhile: fn(&TestNic)) -> Vec<&'static str> {
    let doctor = Arc::new(Doctor::new(Model::default(), |_| ()));
    let late = Arc::new(Late(doctor.clone(), AtomicBool::new(false)));
    let mut nic = TestNic::new(Config { observer: Some(late.clone()), ..Config::new(MAC) });
    prepare(&mut nic);
    late.1.store(true, Ordering::SeqCst);
    std::thread::scope(|threads| {
        threads.spawn(|| nic.write(tail, value));
        // Until the first is about to tell.
        while late.1.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        meanwhile(&nic);
    });
    ids(&doctor, Severity::Note)
}

#[test]
fn one_whose_frames_come_while_it_gives_descriptors() {
    // All descriptors are used; three are given back, and two frames come at once.
    let found = races(
        reg::RDT,
        2,
        |nic| {
            nic.start_rx(16, rctl::BAM);
            (0..15).for_each(|_| {
                nic.inject(&frame_to(MAC, 60));
            });
            (0..16).for_each(|n| nic.poke(RX_RING + n * 16 + 12, &[0]));
        },
        |nic| {
            nic.inject(&frame_to(MAC, 60));
            nic.inject(&frame_to(MAC, 60));
            assert_eq!(nic.peek(RX_RING + 16 * 15 + 12, 1)[0] & rxd::DD, rxd::DD);
        },
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn one_whose_peer_becomes_ready_while_it_queues() {
    let found = races(
        reg::TDT,
        8,
        |nic| {
            nic.start_tx(16);
            (0..8).for_each(|_| {
                nic.queue_legacy(TX_BUFFERS, 60, FRAME);
            });
        },
        |nic| nic.nic.peer_ready(),
    );
    assert_eq!(found, [""; 0]);
}
