//! Frame faults between two ports that record.

use std::time::{Duration, Instant};

use super::tests::{Bench, bench};
use super::*;
use crate::cli::{FrameFault, FrameFaultOptions, FramePattern};
use crate::fault::Schedule;
use crate::netport::{Delivery, DropReason, Offloads};

fn with(fault: FrameFault, schedule: Schedule, pattern: Option<FramePattern>) -> Bench {
    bench(FilterQueue::Tx, true, |_| FilterKind::Fault(FrameFaultOptions { fault, schedule, pattern }))
}

fn always(fault: FrameFault) -> Bench {
    with(fault, Schedule::default(), None)
}

/// Sends frames of one byte each, numbered from zero, towards the guest.
fn send(b: &Bench, numbers: impl IntoIterator<Item = u8>) {
    numbers.into_iter().for_each(|n| assert_eq!(b.netdev.send(&[n; 60]), Delivery::Taken));
}

fn numbers(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().map(|frame| frame[0]).collect()
}

const TWICE_FROM_THE_SECOND: Schedule =
    Schedule { skip: 1, every: 2, rate: crate::fault::ALWAYS, count: 2, seed: 1 };

#[test]
fn frames_that_are_hit_are_lost_and_counted() {
    let b = with(FrameFault::Drop, TWICE_FROM_THE_SECOND, None);
    send(&b, 0..8);
    assert_eq!(numbers(&b.guest.frames()), [0, 2, 4, 5, 6, 7]);
    assert!(b.filter.describe().starts_with("type=fault,kind=drop,hit=2,of=8"), "{}", b.filter.describe());
}

#[test]
fn only_frames_of_the_pattern_and_the_direction_count() {
    let pattern = FramePattern { offset: 2, bytes: vec![3, 3] };
    let b = with(FrameFault::Drop, Schedule::default(), Some(pattern));
    send(&b, 0..6);
    assert_eq!(b.netdev.send(&[3]), Delivery::Taken);
    assert_eq!(numbers(&b.guest.frames()), [0, 1, 2, 4, 5, 3], "the last one is too short to match");
    assert_eq!(b.guest.send(&[3; 60]), Delivery::Taken);
    assert_eq!(numbers(&b.netdev.frames()), [3]);
}

#[test]
fn a_corrupted_frame_differs_in_one_bit() {
    for offset in [None, Some(14)] {
        let b = always(FrameFault::Corrupt { offset });
        send(&b, [0]);
        let frame = &b.guest.frames()[0];
        assert_eq!(frame.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1, "{frame:02x?}");
        assert!(offset.is_none_or(|at| frame[at] != 0));
    }
    let b = always(FrameFault::Corrupt { offset: Some(60) });
    send(&b, [0]);
    assert_eq!(b.guest.frames(), [[0; 60]], "beyond the end nothing happens");
}

#[test]
fn a_duplicated_frame_comes_again_at_once() {
    let b = with(FrameFault::Duplicate { copies: 2 }, TWICE_FROM_THE_SECOND, None);
    send(&b, 0..4);
    assert_eq!(numbers(&b.guest.frames()), [0, 1, 1, 1, 2, 3, 3, 3]);
}

#[test]
fn a_reordered_frame_comes_after_so_many_others_or_after_a_while() {
    let b = with(FrameFault::Reorder { distance: 2 }, Schedule { count: 1, ..Schedule::default() }, None);
    send(&b, 0..5);
    assert_eq!(numbers(&b.guest.frames()), [1, 2, 0, 3, 4]);
    let b = always(FrameFault::Reorder { distance: 2 });
    send(&b, [7]);
    assert_eq!(numbers(&b.guest.frames()), [0u8; 0]);
    assert_eq!(numbers(&b.guest.wait(1)), [7], "nobody overtakes it");
}

#[test]
fn a_delayed_frame_is_never_early_and_jitter_lets_others_overtake() {
    let time = Duration::from_millis(40);
    let b = always(FrameFault::Delay { time, jitter: Duration::ZERO });
    let begin = Instant::now();
    send(&b, 0..3);
    assert_eq!(numbers(&b.guest.frames()), [0u8; 0]);
    assert_eq!(numbers(&b.guest.wait(3)), [0, 1, 2]);
    assert!(begin.elapsed() >= time);
    let b = always(FrameFault::Delay { time, jitter: Duration::from_millis(40) });
    send(&b, 0..50);
    let mut came = numbers(&b.guest.wait(50));
    assert_ne!(came, (0..50).collect::<Vec<u8>>());
    came.sort_unstable();
    assert_eq!(came, (0..50).collect::<Vec<u8>>());
}

#[test]
fn a_receiver_without_room_gets_late_frames_when_it_has_room() {
    let b = always(FrameFault::Duplicate { copies: 1 });
    b.guest.answer([Delivery::Taken, Delivery::Full]);
    send(&b, [1]);
    assert_eq!(numbers(&b.guest.frames()), [1]);
    b.guest.slot.ready();
    assert_eq!(numbers(&b.guest.frames()), [1, 1]);
}

#[test]
fn a_frame_that_is_offered_again_is_decided_on_once() {
    let b = with(FrameFault::Drop, TWICE_FROM_THE_SECOND, None);
    b.guest.answer([Delivery::Full, Delivery::Full]);
    for expected in [Delivery::Full, Delivery::Full, Delivery::Taken] {
        assert_eq!(b.netdev.send(&[0; 60]), expected);
    }
    send(&b, 1..3);
    assert_eq!(numbers(&b.guest.frames()), [0, 2]);
}

#[test]
fn senders_finish_their_frames_while_a_fault_is_there() {
    let b = always(FrameFault::Drop);
    assert_eq!(b.netdev.slot.accepts(), Offloads::default());
    assert!(b.guest.slot.accepts().csum, "the other direction is left alone");
    b.filter.switch(false);
    assert!(b.netdev.slot.accepts().csum);
}

#[test]
fn what_is_held_goes_on_when_the_fault_is_switched_off() {
    let b = always(FrameFault::Delay { time: Duration::from_secs(3600), jitter: Duration::ZERO });
    send(&b, 0..3);
    b.filter.switch(false);
    assert_eq!(numbers(&b.guest.frames()), [0, 1, 2]);
    send(&b, [3]);
    assert_eq!(numbers(&b.guest.frames()), [0, 1, 2, 3]);
}

#[test]
fn drops_of_the_receiver_are_told_to_the_sender() {
    let b = with(FrameFault::Drop, TWICE_FROM_THE_SECOND, None);
    b.guest.answer([Delivery::Dropped(DropReason::LinkDown)]);
    assert_eq!(b.netdev.send(&[0; 60]), Delivery::Dropped(DropReason::LinkDown));
}

/// What was told of the hits of `fault` on frames 0 to 3 towards the guest, of which the second and the fourth are hit.
fn told(fault: FrameFault) -> Vec<String> {
    let b = with(fault, Schedule { seed: 5, ..TWICE_FROM_THE_SECOND }, None);
    send(&b, 0..4);
    b.struck.lock().unwrap().clone()
}

#[test]
fn each_hit_is_told_with_what_was_done() {
    assert_eq!(
        told(FrameFault::Drop),
        ["drop 1 of 2 seed 5 in 1+60: lost", "drop 2 of 4 seed 5 in 3+60: lost"]
    );
    let copies = told(FrameFault::Duplicate { copies: 2 });
    assert_eq!(copies[1], "duplicate 2 of 4 seed 5 in 3+60: 2 more sent");
    let (time, jitter) = (Duration::from_millis(3), Duration::ZERO);
    assert_eq!(told(FrameFault::Delay { time, jitter })[0], "delay 1 of 2 seed 5 in 1+60: held for 3000 us");
    let beyond = told(FrameFault::Corrupt { offset: Some(60) });
    assert_eq!(beyond[1], "corrupt 2 of 4 seed 5 in 3+60: let through as it was");
    let others = told(FrameFault::Reorder { distance: 3 });
    assert_eq!(others[0], "reorder 1 of 2 seed 5 in 1+60: held until 3 others have passed");
    assert_eq!(others[1], "reorder 2 of 4 seed 5 in 3+60: let through as it was");
}

#[test]
fn the_bit_that_was_told_is_the_one_that_is_wrong() {
    let b = always(FrameFault::Corrupt { offset: None });
    send(&b, [0]);
    let frame = &b.guest.frames()[0];
    let at = frame.iter().position(|&byte| byte != 0).unwrap();
    let bit = frame[at].trailing_zeros();
    assert_eq!(
        *b.struck.lock().unwrap(),
        [format!("corrupt 1 of 1 seed 1 in 0+60: bit {bit} of byte {at} inverted")]
    );
}

#[test]
fn frames_that_no_fault_hits_are_not_told_of() {
    let b = with(FrameFault::Drop, Schedule { count: 0, ..Schedule::default() }, None);
    send(&b, 0..4);
    assert_eq!(b.guest.send(&[9; 60]), Delivery::Taken);
    assert_eq!(*b.struck.lock().unwrap(), [""; 0]);
}

#[test]
fn late_frames_without_a_place_are_lost_and_told() {
    let b = always(FrameFault::Delay { time: Duration::from_secs(3600), jitter: Duration::ZERO });
    (0..super::held::MOST_FRAMES).for_each(|_| send(&b, [0]));
    send(&b, [1]);
    let struck = b.struck.lock().unwrap();
    assert!(struck.last().unwrap().ends_with("in 1+60: lost: too many are held back"), "{:?}", struck.last());
    assert!(b.filter.describe().contains(",lost=1,"), "{}", b.filter.describe());
}
