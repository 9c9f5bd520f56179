//! What goes wrong in the card on request, one test for each fault, and that it ends.

use std::sync::{Arc, Mutex};

use minivmm::fault::{CardFault, Schedule};
use minivmm::netport::{Delivery, DropReason};
use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::observe::{Event, Moment, Observer};
use minivmm::nic::e1000::spec::{cause, ctrl, mdic, rctl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, TestNic, frame_to};

const MS: u64 = 1_000_000;
const ONCE: Schedule = Schedule { skip: 0, every: 1, rate: minivmm::fault::ALWAYS, count: 1, seed: 1 };

fn with(fault: CardFault, schedule: Schedule) -> TestNic {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(16, rctl::BAM);
    assert!(bench.nic.add_fault("f", fault, MS, schedule));
    bench
}

fn hits(bench: &TestNic) -> (u64, u64) {
    let state = &bench.nic.fault_states()[0];
    (state.hit, state.of)
}

#[test]
fn a_lost_interrupt_comes_with_the_next_cause() {
    let bench = with(CardFault::InterruptLost, ONCE);
    bench.write(reg::IMS, cause::RXT0 | cause::TXDW);
    bench.write(reg::ICS, cause::RXT0);
    assert!(!bench.interrupted());
    bench.write(reg::ICS, cause::TXDW);
    assert!(bench.interrupted());
    assert_eq!(
        bench.read(reg::ICR) & (cause::RXT0 | cause::TXDW),
        cause::RXT0 | cause::TXDW,
        "no cause is lost"
    );
    assert_eq!(hits(&bench), (1, 2));
}

#[test]
fn a_spurious_interrupt_has_no_cause_and_ends_with_icr() {
    let bench = with(CardFault::InterruptSpurious, ONCE);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    assert_eq!(bench.read(reg::ICR), cause::RXT0);
    assert!(bench.interrupted());
    assert_eq!(bench.read(reg::ICR), 0);
    assert!(!bench.interrupted());
}

#[test]
fn a_storm_lasts_its_time_whatever_the_driver_does() {
    let bench = with(CardFault::InterruptStorm, ONCE);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    for _ in 0..3 {
        bench.read(reg::ICR);
        bench.write(reg::IMC, 0xffff_ffff);
        assert!(bench.interrupted());
        bench.advance(MS / 4);
    }
    bench.advance(MS / 4);
    assert!(!bench.interrupted());
}

#[test]
fn a_late_dd_comes_after_its_time_with_an_interrupt() {
    let mut bench = with(CardFault::LateDone, ONCE);
    bench.write(reg::IMS, cause::TXDW);
    let first = bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 1, "the frame itself is not late");
    bench.read(reg::ICR);
    assert_eq!(bench.read(reg::TDH), 1);
    bench.advance(MS - 1);
    assert_eq!((bench.tx_status(first) & txd::DD, bench.interrupted()), (0, false));
    bench.advance(1);
    assert_eq!((bench.tx_status(first) & txd::DD, bench.interrupted()), (txd::DD, true));
    let second = bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.tx_status(second) & txd::DD, txd::DD, "the plan is used up");
}

#[test]
fn descriptors_behind_a_late_one_wait_with_it_and_a_reset_forgets_them() {
    let mut bench = with(CardFault::LateDone, ONCE);
    let (first, second) = (bench.send(&frame_to(MAC, 100)), bench.send(&frame_to(MAC, 100)));
    assert_eq!(bench.tx_status(second) & txd::DD, 0);
    bench.write(reg::CTRL, ctrl::RST);
    bench.advance(2 * MS);
    assert_eq!((bench.tx_status(first) | bench.tx_status(second)) & txd::DD, 0);
}

#[test]
fn a_driver_that_does_not_wait_for_late_descriptors_gets_no_endless_memory() {
    let mut bench = with(CardFault::LateDone, ONCE);
    let frame = frame_to(MAC, 60);
    for _ in 0..1 << 16 {
        let slot = bench.send(&frame);
        assert_eq!(bench.tx_status(slot) & txd::DD, 0);
        bench.peer.take_all();
    }
    let slot = bench.send(&frame);
    assert_eq!(bench.tx_status(slot) & txd::DD, txd::DD, "one more than the longest ring has");
}

#[test]
fn a_hung_transmitter_stands_until_it_is_reset() {
    let mut bench = with(CardFault::TxHang, ONCE);
    for _ in 0..3 {
        bench.send(&frame_to(MAC, 100));
    }
    assert_eq!((bench.peer.take_all().len(), bench.read(reg::TDH)), (0, 0));
    bench.write(reg::CTRL, ctrl::RST);
    bench.start_tx(16);
    bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 1);
}

#[test]
fn ending_a_hang_lets_the_transmitter_go_on() {
    let mut bench = with(CardFault::TxHang, Schedule::default());
    bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 0);
    assert!(bench.nic.remove_fault("f") && !bench.nic.remove_fault("f"));
    assert_eq!(bench.peer.take_all().len(), 1);
}

#[test]
fn an_overrun_loses_frames_that_a_filter_takes() {
    let mut bench = with(CardFault::RxOverrun, Schedule { every: 2, ..Schedule::default() });
    let other = [2, 0, 0, 0, 0, 9];
    assert_eq!(bench.inject(&frame_to(other, 100)), Delivery::Dropped(DropReason::Filtered));
    assert_eq!(bench.inject(&frame_to(MAC, 100)), Delivery::Dropped(DropReason::Overrun));
    assert_eq!(bench.inject(&frame_to(MAC, 101)), Delivery::Taken);
    assert_eq!((bench.read(reg::MPC), bench.read(reg::ICR) & cause::RXO), (1, cause::RXO));
    assert_eq!(bench.receive().map(|f| f.bytes.len()), Some(105));
    assert_eq!(hits(&bench), (1, 2));
}

#[test]
fn a_frame_that_cannot_be_read_does_not_go_out_and_is_reported() {
    let mut bench = with(CardFault::DmaError, ONCE);
    let slot = bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 0);
    assert_eq!(bench.tx_status(slot) & txd::DD, txd::DD);
    bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 1);
}

#[test]
fn eeprom_words_are_wrong_and_the_contents_are_not() {
    let bench = with(CardFault::EepromChecksum, Schedule::default());
    let sum = |bench: &TestNic| (0..64).fold(0u16, |sum, n| sum.wrapping_add(bench.eeprom_read(n)));
    bench.eeprom_acquire();
    assert_eq!(sum(&bench), 0xbaba + 1);
    assert!(bench.nic.remove_fault("f"));
    assert!(bench.nic.add_fault("f", CardFault::EepromBit, 0, Schedule { skip: 10, ..ONCE }));
    let good = bench.nic.eeprom();
    let read: Vec<u16> = (0..64).map(|n| bench.eeprom_read(n)).collect();
    let wrong: Vec<_> = (0..64).filter(|&n| read[n] != good.words()[n]).collect();
    assert_eq!(wrong, [10]);
    assert_eq!((read[10] ^ good.words()[10]).count_ones(), 1);
    assert_eq!(sum(&bench), 0xbaba, "read again it is right");
    bench.eeprom_release();
}

#[test]
fn eerd_reads_wrong_words_too() {
    let bench = with(CardFault::EepromBit, ONCE);
    let read = || {
        bench.write(reg::EERD, 1);
        (bench.read(reg::EERD) >> 16) as u16
    };
    let (first, second) = (read(), read());
    assert_eq!((first ^ second).count_ones(), 1);
}

#[test]
fn mdic_is_never_ready_and_then_is() {
    let bench = with(CardFault::MdicTimeout, ONCE);
    let read = || {
        bench.write(reg::MDIC, 2 << 16 | 1 << 21 | mdic::OP_READ << 26 | mdic::INT_EN);
        bench.read(reg::MDIC) & mdic::READY != 0
    };
    bench.read(reg::ICR);
    assert!(!read());
    assert_eq!(bench.read(reg::ICR) & cause::MDAC, 0);
    assert!(read());
}

#[test]
fn a_card_that_is_gone_reads_as_ones_until_it_is_back() {
    let mut bench = with(CardFault::Removal, Schedule { count: 0, ..Schedule::default() });
    bench.write(reg::IMS, cause::RXT0);
    assert!(bench.nic.remove_fault("f"));
    assert!(bench.nic.add_fault("f", CardFault::Removal, 0, Schedule { skip: 2, ..Schedule::default() }));
    bench.write(reg::ICS, cause::RXT0);
    let status = bench.read(reg::STATUS);
    assert_ne!(status, 0xffff_ffff);
    assert!(bench.interrupted());
    assert_eq!(bench.read(reg::STATUS), 0xffff_ffff);
    assert!(!bench.interrupted(), "its line went with it");
    bench.write(reg::IMC, cause::RXT0);
    bench.send(&frame_to(MAC, 100));
    assert_eq!(bench.peer.take_all().len(), 0);
    assert_eq!(bench.inject(&frame_to(MAC, 100)), Delivery::Dropped(DropReason::LinkDown));
    assert!(bench.nic.remove_fault("f"));
    assert_eq!(bench.read(reg::STATUS), status);
    assert_eq!(bench.read(reg::IMS), cause::RXT0, "what was written meanwhile is lost");
    assert!(bench.interrupted());
}

#[test]
fn plans_have_names_and_count_for_themselves() {
    let mut bench = with(CardFault::DmaError, Schedule { skip: 1, ..ONCE });
    assert!(!bench.nic.add_fault("f", CardFault::TxHang, 0, ONCE), "the name is taken");
    assert!(bench.nic.add_fault("g", CardFault::DmaError, 0, ONCE));
    for _ in 0..4 {
        bench.send(&frame_to(MAC, 100));
    }
    assert_eq!(bench.peer.take_all().len(), 2);
    let counts: Vec<_> = bench.nic.fault_states().iter().map(|f| (f.id.clone(), f.hit, f.of)).collect();
    assert_eq!(counts, [("f".to_owned(), 1, 4), ("g".to_owned(), 1, 4)]);
}

/// What was heard of hits: the fault, the plan, how often it has struck, of how many, its seed.
type Told = (CardFault, String, u64, u64, u64);

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Told>>);

impl Observer for Heard {
    fn event(&self, _: &Moment, event: &Event<'_>) {
        if let Event::Fault { fault, plan, hit, of, seed } = *event {
            self.0.lock().unwrap().push((fault, plan.to_owned(), hit, of, seed));
        }
    }
}

#[test]
fn observers_hear_of_each_hit_and_of_nothing_else() {
    let heard = Arc::new(Heard::default());
    let config = Config { observer: Some(heard.clone()), ..Config::new(MAC) };
    let mut bench = TestNic::new(config);
    bench.start_tx(16);
    for fault in CardFault::ALL {
        assert!(bench.nic.add_fault(fault.name(), fault, MS, Schedule { count: 0, ..ONCE }));
    }
    bench.send(&frame_to(MAC, 100));
    assert_eq!(*heard.0.lock().unwrap(), []);
    let plan = Schedule { skip: 1, seed: 9, ..ONCE };
    assert!(bench.nic.add_fault("f", CardFault::DmaError, 0, plan));
    (0..3).for_each(|_| {
        bench.send(&frame_to(MAC, 100));
    });
    assert_eq!(*heard.0.lock().unwrap(), [(CardFault::DmaError, "f".to_owned(), 1, 2, 9)]);
}
