//! The engine on a datagram socket in place of a tap: what a real tap does too rarely to be waited for.

use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::*;
use crate::event::EventLoop;
use crate::memory::GuestRam;
use crate::netport::{CsumRequest, Gso, GsoKind, join};

/// Stands for the NIC.
#[derive(Debug, Default)]
struct Nic {
    slot: PeerSlot,
    offloads: Offloads,
    frames: Mutex<Vec<(Vec<u8>, FrameMeta)>>,
    ready: AtomicUsize,
}

impl FramePort for Nic {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        self.frames.lock().unwrap().push((bytes, frame.meta));
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        self.offloads
    }

    fn peer_ready(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
    }

    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

struct Bench {
    tap: Arc<Tap>,
    host: UnixDatagram,
    nic: Arc<Nic>,
    _event_loop: EventLoop,
}

fn bench(header: usize, offloads: Offloads) -> Bench {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (host, ours) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let opened =
        open::Opened { fd: ours.into(), name: "socket".into(), header, offload: header > 0, found: None };
    let options =
        TapOptions { script: ScriptChoice::No, downscript: ScriptChoice::No, ..TapOptions::default() };
    let tap = Tap::on(opened, TAP, "n0", &options, &events, Notices::stderr()).unwrap();
    let nic = Arc::new(Nic { offloads, ..Nic::default() });
    let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (tap.clone(), nic.clone());
    join(&a, &b);
    Bench { tap, host, nic, _event_loop: event_loop }
}

fn eventually(why: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "never: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const ALL: Offloads = Offloads { csum: true, tso4: true, tso6: true };

#[test]
fn a_host_without_room_says_full_and_later_ready_and_nothing_is_lost() {
    let b = bench(0, Offloads::default());
    let frame = |i: u32| [[0xff; 14].as_slice(), &i.to_be_bytes()].concat();
    let mut sent = 0;
    while b.tap.deliver(&Frame::whole(&frame(sent))) == Delivery::Taken {
        sent += 1;
        assert!(sent < 100_000, "a socket has an end");
    }
    assert_eq!(b.tap.deliver(&Frame::whole(&frame(sent))), Delivery::Full);
    assert_eq!(b.nic.ready.load(Ordering::SeqCst), 0);
    let mut buf = [0; 100];
    for i in 0..sent {
        let n = b.host.recv(&mut buf).unwrap();
        assert_eq!(buf[..n], frame(i));
    }
    eventually("the NIC is called", || b.nic.ready.load(Ordering::SeqCst) == 1);
    assert_eq!(b.tap.deliver(&Frame::whole(&frame(sent))), Delivery::Taken);
    let stats = b.tap.counters().read().from_peer;
    assert_eq!((stats.frames, stats.full, stats.dropped), (u64::from(sent) + 1, 2, vec![]));
}

#[test]
fn guest_memory_is_gathered_in_order_however_many_pieces() {
    let b = bench(12, ALL);
    let ram = GuestRam::new(&[(0, 0x10000)]).unwrap();
    let content: Vec<u8> = (0..0x1000u32).map(|i| (i % 251) as u8).collect();
    ram.write(0x1000, &content).unwrap();
    for pieces in [0, 1, 16, 62, 63, 300] {
        let body: Vec<_> = (0..pieces).map(|i| ram.slice(0x1000 + 7 * i, 7).unwrap()).collect();
        let frame = Frame { head: &[0xaa; 14], body: &body, meta: FrameMeta::default() };
        assert_eq!(b.tap.deliver(&frame), Delivery::Taken);
        let mut buf = [1; 5000];
        let n = b.host.recv(&mut buf).unwrap();
        let expected = [&[0; 12][..], &[0xaa; 14], &content[..7 * pieces as usize]].concat();
        assert!(buf[..n] == expected, "{pieces} pieces");
    }
}

#[test]
fn what_the_tap_cannot_take_is_dropped_for_a_reason() {
    let csum = Some(CsumRequest { start: 34, offset: 16 });
    let gso = Some(Gso { kind: GsoKind::Tcp4, mss: 1448, header_len: 66 });
    let long = vec![0; MAX_FRAME + 1];
    let plain = bench(0, ALL);
    let offer = |tap: &Tap, head: &[u8], meta| tap.deliver(&Frame { head, body: &[], meta });
    let unfinished = FrameMeta { csum, ..FrameMeta::default() };
    assert_eq!(plain.tap.accepts(), Offloads::default());
    assert_eq!(offer(&plain.tap, &[0; 60], unfinished), Delivery::Dropped(DropReason::BadMeta));
    assert_eq!(offer(&plain.tap, &[0; 13], FrameMeta::default()), Delivery::Dropped(DropReason::BadLength));
    assert_eq!(offer(&plain.tap, &long, FrameMeta::default()), Delivery::Dropped(DropReason::BadLength));
    let vnet = bench(10, ALL);
    let no_csum = FrameMeta { gso, ..FrameMeta::default() };
    assert_eq!(offer(&vnet.tap, &[0; 60], no_csum), Delivery::Dropped(DropReason::BadMeta));
    assert_eq!(offer(&vnet.tap, &[0; 60], unfinished), Delivery::Taken);
    let stats = vnet.tap.counters().read().from_peer;
    assert_eq!((stats.frames, stats.dropped_for(DropReason::BadMeta)), (1, 1));
}

/// An Ethernet, IPv4 and TCP frame whose checksum field holds the pseudo-header's sum.
fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 54 + payload];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[23] = 6;
    frame[46] = 5 << 4;
    let pseudo = 6 + 20 + payload as u16;
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

#[test]
fn the_host_s_unfinished_frames_arrive_as_far_as_the_nic_accepts_them() {
    let needs_csum = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0];
    let gso = [1, 1, 54, 0, 100, 0, 34, 0, 16, 0];
    let able = bench(10, ALL);
    able.host.send(&[&gso[..], &tcp_frame(1000)].concat()).unwrap();
    eventually("the frame arrives", || able.nic.frames.lock().unwrap().len() == 1);
    let (bytes, meta) = able.nic.frames.lock().unwrap()[0].clone();
    assert_eq!(bytes, tcp_frame(1000));
    assert_eq!(meta.gso, Some(Gso { kind: GsoKind::Tcp4, mss: 100, header_len: 54 }));
    let stats = able.tap.counters().read().to_peer;
    assert_eq!((stats.frames, stats.bytes, stats.gso_units), (10, 10 * 154, 1));

    let unable = bench(10, Offloads::default());
    unable.host.send(&[&gso[..], &tcp_frame(1000)].concat()).unwrap();
    unable.host.send(&[&needs_csum[..], &tcp_frame(3)].concat()).unwrap();
    eventually("the second frame arrives", || unable.nic.frames.lock().unwrap().len() == 1);
    let (bytes, meta) = unable.nic.frames.lock().unwrap()[0].clone();
    assert_eq!(meta, FrameMeta::default());
    let mut sum = checksum::Sum::new(6 + 23);
    sum.add(&bytes[34..]);
    assert_eq!(sum.folded(), 0xffff, "the checksum was finished");
    assert_eq!(unable.tap.counters().read().to_peer.dropped_for(DropReason::BadMeta), 10);
}

#[test]
fn malformed_input_is_dropped_and_the_next_frame_passes() {
    let b = bench(10, ALL);
    let mut broken = [0xff; 10];
    b.host.send(&broken[..4]).unwrap();
    b.host.send(&[&broken[..], &[0; 60]].concat()).unwrap();
    broken = [0; 10];
    b.host.send(&[&broken[..], &[0; 13]].concat()).unwrap();
    b.host.send(&[&broken[..], &[7; 60]].concat()).unwrap();
    eventually("the good one arrives", || b.nic.frames.lock().unwrap().len() == 1);
    assert_eq!(b.nic.frames.lock().unwrap()[0].0, [7; 60]);
    let stats = b.tap.counters().read().to_peer;
    assert_eq!(stats.dropped, [("bad-length", 2), ("bad-meta", 1)]);
}

#[test]
fn without_a_peer_frames_are_read_and_counted_as_dropped() {
    let b = bench(0, Offloads::default());
    crate::netport::part(&(b.nic.clone() as Arc<dyn FramePort>));
    b.host.send(&[0; 60]).unwrap();
    eventually("it is counted", || b.tap.counters().read().to_peer.dropped == [("no-peer", 1)]);
}
