//! Filters with ports in other cables: mirror and redirector.

use super::*;

fn mirror(_: &Path) -> FilterKind {
    FilterKind::Mirror { outdev: "out".into() }
}

fn redirector(indev: bool, outdev: bool) -> impl FnOnce(&Path) -> FilterKind {
    move |_| FilterKind::Redirector {
        indev: indev.then(|| "in".into()),
        outdev: outdev.then(|| "out".into()),
    }
}

impl Bench {
    /// What is joined with the filter's `indev=` or `outdev=`.
    fn joined(&self, key: &str) -> Arc<Port> {
        let branch = self.filter.branches().into_iter().find(|branch| branch.key == key).expect(key);
        let (port, other): (Arc<dyn FramePort>, _) = (branch.port, Arc::new(Port::default()));
        join(&port, &(other.clone() as _));
        other
    }

    fn dropped(&self, key: &str) -> Vec<(&'static str, u64)> {
        let branch = self.filter.branches().into_iter().find(|branch| branch.key == key).expect(key);
        branch.port.counters().read().to_peer.dropped
    }
}

#[test]
fn a_mirror_copies_the_directions_it_was_told_and_passes_everything() {
    for (queue, copied) in
        [(FilterQueue::All, vec![1, 2]), (FilterQueue::Rx, vec![2]), (FilterQueue::Tx, vec![1])]
    {
        let b = bench(queue, true, mirror);
        let out = b.joined("outdev");
        assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
        assert_eq!(b.guest.send(&frame(2, 61)), Delivery::Taken);
        assert_eq!((b.guest.frames(), b.netdev.frames()), (vec![frame(1, 60)], vec![frame(2, 61)]));
        let copies: Vec<u8> = out.frames().iter().map(|frame| frame[0]).collect();
        assert_eq!(copies, copied, "{queue:?}");
        b.filter.switch(false);
        b.netdev.send(&frame(3, 60));
        assert_eq!((b.guest.frames().len(), out.frames().len()), (2, copied.len()));
        // What comes from there goes nowhere.
        assert_eq!(out.send(&frame(4, 60)), Delivery::Dropped(DropReason::Filtered));
    }
}

#[test]
fn copies_are_wire_frames_and_the_original_passes_uncut() {
    let b = bench(FilterQueue::Tx, true, mirror);
    let out = b.joined("outdev");
    // TCP over IPv4: 54 bytes of headers, 3000 of payload.
    let mut bytes = vec![0; 54 + 3000];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14] = 0x45;
    bytes[16..18].copy_from_slice(&3040u16.to_be_bytes());
    bytes[23] = 6;
    bytes[46] = 0x50;
    let gso = Some(Gso { kind: GsoKind::Tcp4, mss: 1000, header_len: 54 });
    let meta = FrameMeta { gso, ..FrameMeta::default() };
    assert_eq!(b.netdev.slot.send(&Frame { head: &bytes, body: &[], meta }), Delivery::Taken);
    assert_eq!(b.guest.frames(), [bytes]);
    assert_eq!(out.frames().iter().map(Vec::len).collect::<Vec<_>>(), [1054; 3]);
}

#[test]
fn a_frame_that_finds_no_room_is_copied_once() {
    let b = bench(FilterQueue::All, true, mirror);
    let out = b.joined("outdev");
    b.guest.answer([Delivery::Full]);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Full);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken, "the same again is another frame");
    assert_eq!((out.frames().len(), b.guest.frames().len()), (2, 2));
}

#[test]
fn a_slow_receiver_of_copies_loses_them_counted_and_holds_up_nobody() {
    let b = bench(FilterQueue::All, true, mirror);
    let out = b.joined("outdev");
    out.answer(vec![Delivery::Full; 2 * held::MOST_FRAMES]);
    for _ in 0..held::MOST_FRAMES + 5 {
        assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    }
    assert_eq!(b.guest.frames().len(), held::MOST_FRAMES + 5);
    assert_eq!(b.dropped("outdev"), [("overrun", 5)]);
    out.answers.lock().unwrap().clear();
    out.slot.ready();
    assert_eq!(out.frames().len(), held::MOST_FRAMES);
    b.netdev.send(&frame(2, 60));
    assert_eq!(out.frames().last(), Some(&frame(2, 60)));
}

#[test]
fn a_mirror_without_a_receiver_counts_what_is_lost() {
    let b = bench(FilterQueue::All, true, mirror);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    assert_eq!((b.guest.frames().len(), b.dropped("outdev")), (1, vec![("no-peer", 1)]));
}

#[test]
fn a_redirector_takes_frames_out_of_the_cable_and_its_sender_waits_for_room() {
    let b = bench(FilterQueue::Tx, true, redirector(false, true));
    let out = b.joined("outdev");
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    assert_eq!(b.guest.send(&frame(2, 60)), Delivery::Taken, "the other direction");
    assert_eq!((out.frames(), b.netdev.frames()), (vec![frame(1, 60)], vec![frame(2, 60)]));
    assert!(b.guest.frames().is_empty());
    out.answer(vec![Delivery::Full; 2 * held::MOST_FRAMES]);
    let mut taken = 0;
    while b.netdev.send(&frame(3, 60)) == Delivery::Taken {
        taken += 1;
        assert!(taken <= held::MOST_FRAMES);
    }
    assert_eq!((taken, b.netdev.ready()), (held::MOST_FRAMES, 0));
    out.answers.lock().unwrap().clear();
    out.slot.ready();
    assert_eq!((out.frames().len(), b.netdev.ready()), (1 + taken, 1));
    b.filter.switch(false);
    assert_eq!(b.netdev.send(&frame(4, 60)), Delivery::Taken);
    assert_eq!(b.guest.frames(), [frame(4, 60)]);
}

#[test]
fn frames_of_an_indev_enter_in_the_directions_of_the_queue() {
    for (queue, to_guest, to_netdev) in
        [(FilterQueue::All, true, true), (FilterQueue::Rx, false, true), (FilterQueue::Tx, true, false)]
    {
        let b = bench(queue, true, redirector(true, false));
        let input = b.joined("indev");
        assert_eq!(input.send(&frame(1, 60)), Delivery::Taken);
        let got = |port: &Port| port.frames() == [frame(1, 60)];
        assert_eq!((got(&b.guest), got(&b.netdev)), (to_guest, to_netdev), "{queue:?}");
        // Without outdev= the cable's own frames pass.
        b.netdev.send(&frame(2, 60));
        assert_eq!(b.guest.frames().last(), Some(&frame(2, 60)));
    }
}

#[test]
fn an_indev_waits_while_the_filter_is_off_and_while_there_is_no_room() {
    let b = bench(FilterQueue::Tx, false, redirector(true, false));
    let input = b.joined("indev");
    assert_eq!(input.send(&frame(0, 60)), Delivery::Full);
    b.filter.switch(true);
    assert_eq!(input.ready(), 1);
    b.guest.answer(vec![Delivery::Full; 2 * held::MOST_FRAMES]);
    let mut taken = 0;
    while input.send(&frame(taken as u8, 60)) == Delivery::Taken {
        taken += 1;
        assert!(taken <= held::MOST_FRAMES);
    }
    assert_eq!((taken, input.ready()), (held::MOST_FRAMES, 1));
    b.guest.answers.lock().unwrap().clear();
    b.guest.slot.ready();
    assert_eq!(input.ready(), 2);
    let order: Vec<u8> = b.guest.frames().iter().map(|frame| frame[0]).collect();
    assert_eq!(order, (0..taken).map(|n| n as u8).collect::<Vec<_>>());
}
