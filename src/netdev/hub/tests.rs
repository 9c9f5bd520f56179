//! Every frame in the right places and only there, on ports whose peers record and can be full.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::port::{QUEUE_BYTES, QUEUE_FRAMES};
use super::*;
use crate::event::EventLoop;
use crate::netdev::{Backend, Notices, PortStats};
use crate::netport::{CsumRequest, FrameMeta, FramePort, Gso, GsoKind, OwnedFrame, PeerSlot, join};

/// Stands for a NIC or a backend.
#[derive(Debug, Default)]
struct Peer {
    slot: PeerSlot,
    offloads: Offloads,
    got: Mutex<Vec<OwnedFrame>>,
    full: AtomicBool,
    called: AtomicU64,
    /// Answers every frame at once, from inside `deliver`, this many times.
    answers: AtomicU64,
}

impl FramePort for Peer {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        if self.full.load(Ordering::SeqCst) {
            return Delivery::Full;
        }
        self.got.lock().unwrap().push(OwnedFrame::copy(frame));
        if self.answers.load(Ordering::SeqCst) > 0 {
            self.answers.fetch_sub(1, Ordering::SeqCst);
            self.slot.send(frame);
        }
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        self.offloads
    }

    fn peer_ready(&self) {
        self.called.fetch_add(1, Ordering::SeqCst);
    }

    fn peer_link(&self, _: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

impl Peer {
    fn send(&self, bytes: &[u8]) -> Delivery {
        self.slot.send(&Frame::whole(bytes))
    }

    fn got(&self) -> Vec<Vec<u8>> {
        self.got.lock().unwrap().iter().map(|frame| frame.bytes.clone()).collect()
    }

    fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
        if !full {
            self.slot.ready();
        }
    }
}

struct Bench {
    hubs: Hubs,
    around: Surroundings,
    _event_loop: EventLoop,
}

impl Bench {
    fn new() -> Self {
        let (event_loop, events) = EventLoop::start().unwrap();
        let around = Surroundings::new(events, Notices::stderr());
        Self { hubs: Hubs::default(), around, _event_loop: event_loop }
    }

    fn port(&self, hubid: u32, id: &str, learning: Option<bool>) -> Arc<HubPort> {
        self.hubs.open(id, &HubPortOptions { hubid, netdev: None, learning }, &self.around).unwrap()
    }

    /// A port with a peer on it.
    fn station(&self, hubid: u32, offloads: Offloads) -> (Arc<HubPort>, Arc<Peer>) {
        let port = self.port(hubid, "p", None);
        let peer = Arc::new(Peer { offloads, ..Peer::default() });
        let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (port.clone(), peer.clone());
        join(&a, &b);
        (port, peer)
    }

    fn stations(&self, hubid: u32, n: usize) -> Vec<(Arc<HubPort>, Arc<Peer>)> {
        (0..n).map(|_| self.station(hubid, Offloads::default())).collect()
    }
}

const ALL: Offloads = Offloads { csum: true, tso4: true, tso6: true };
const TAKEN: Delivery = Delivery::Taken;

fn frame(to: u8, from: u8, tag: u32) -> Vec<u8> {
    let address = |last| if last == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, last] };
    [address(to).as_slice(), &address(from), &[0x88, 0xb5], &tag.to_be_bytes(), &[0; 40]].concat()
}

fn stats(port: &HubPort) -> PortStats {
    port.counters().read()
}

#[test]
fn all_others_get_it_and_the_sender_does_not() {
    let b = Bench::new();
    let s = b.stations(0, 4);
    let foreign = b.stations(1, 1);
    let sent = frame(0xff, 1, 7);
    assert_eq!(s[1].1.send(&sent), TAKEN);
    let counts: Vec<usize> = s.iter().map(|(_, peer)| peer.got().len()).collect();
    assert_eq!((counts, foreign[0].1.got().len()), (vec![1, 0, 1, 1], 0));
    assert_eq!(s[3].1.got()[0], sent);
    assert_eq!((stats(&s[1].0).from_peer.frames, stats(&s[1].0).to_peer.frames), (1, 0));
    assert_eq!((stats(&s[2].0).from_peer.frames, stats(&s[2].0).to_peer.frames), (0, 1));
    assert_eq!(foreign[0].1.send(&sent), Delivery::Dropped(DropReason::NoPeer), "alone on its hub");
}

#[test]
fn a_full_peer_stops_nobody_and_what_it_misses_is_counted() {
    let b = Bench::new();
    let s = b.stations(0, 3);
    s[1].1.set_full(true);
    let many = QUEUE_FRAMES as u32 + 50;
    for tag in 0..many {
        assert_eq!(s[0].1.send(&frame(0xff, 0, tag)), TAKEN);
    }
    assert_eq!(s[2].1.got().len(), many as usize);
    assert_eq!(stats(&s[1].0).to_peer.dropped_for(DropReason::Overrun), 50);
    s[1].1.set_full(false);
    // The first go is bounded; the event loop does the rest.
    wait(|| s[1].1.got().len() == QUEUE_FRAMES);
    let expected: Vec<_> = (0..QUEUE_FRAMES as u32).map(|tag| frame(0xff, 0, tag)).collect();
    assert!(s[1].1.got() == expected, "in order");
    let to_peer = stats(&s[1].0).to_peer;
    assert_eq!((to_peer.frames, to_peer.dropped), (QUEUE_FRAMES as u64, vec![("overrun", 50)]));
}

fn wait(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn long_frames_are_bounded_by_bytes() {
    let b = Bench::new();
    let s = b.stations(0, 3);
    s[1].1.set_full(true);
    let long = [frame(0xff, 0, 0), vec![0; 60_000]].concat();
    let fit = QUEUE_BYTES / long.len();
    for _ in 0..fit + 3 {
        assert_eq!(s[0].1.send(&long), TAKEN);
    }
    assert_eq!(stats(&s[1].0).to_peer.dropped_for(DropReason::Overrun), 3);
}

#[test]
fn when_nobody_has_room_the_sender_waits_and_nothing_is_lost() {
    let b = Bench::new();
    let s = b.stations(0, 3);
    s.iter().skip(1).for_each(|(_, peer)| peer.set_full(true));
    let mut sent = 0;
    while s[0].1.send(&frame(0xff, 0, sent)) == TAKEN {
        sent += 1;
        assert!(sent <= QUEUE_FRAMES as u32);
    }
    assert_eq!((sent as usize, s[0].1.called.load(Ordering::SeqCst)), (QUEUE_FRAMES, 0));
    assert_eq!(stats(&s[0].0).from_peer.full, 1);
    s[1].1.set_full(false);
    wait(|| s[0].1.called.load(Ordering::SeqCst) == 1);
    wait(|| s[1].1.got().len() == QUEUE_FRAMES);
    assert_eq!(s[0].1.send(&frame(0xff, 0, sent)), TAKEN);
    assert_eq!(s[1].1.got().len(), QUEUE_FRAMES + 1);
    assert_eq!(stats(&s[2].0).to_peer.dropped_for(DropReason::Overrun), 1, "the other is still full");
}

#[test]
fn a_port_without_peer_holds_up_nobody() {
    let b = Bench::new();
    let s = b.stations(0, 2);
    let lone = b.port(0, "lone", None);
    assert_eq!(s[0].1.send(&frame(0xff, 0, 0)), TAKEN);
    assert_eq!((s[1].1.got().len(), stats(&lone)), (1, PortStats::default()));
}

#[test]
fn an_answer_from_inside_arrives_in_order() {
    let b = Bench::new();
    let s = b.stations(0, 2);
    s[0].1.answers.store(3, Ordering::SeqCst);
    s[1].1.answers.store(3, Ordering::SeqCst);
    assert_eq!(s[0].1.send(&frame(1, 0, 0)), TAKEN);
    assert_eq!((s[0].1.got().len(), s[1].1.got().len()), (3, 4));
}

fn tcp(payload: usize) -> (Vec<u8>, FrameMeta) {
    let mut bytes = [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0][..], &[0; 40]].concat();
    bytes[14] = 0x45;
    bytes[23] = 6;
    bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[34 + 12] = 5 << 4;
    bytes.extend((0..payload).map(|i| (i % 251) as u8));
    let gso = Some(Gso { kind: GsoKind::Tcp4, mss: 1000, header_len: 54 });
    (bytes, FrameMeta { csum: Some(CsumRequest { start: 34, offset: 16 }), csum_valid: false, gso })
}

#[test]
fn long_frames_are_cut_only_for_those_that_cannot_take_them() {
    let b = Bench::new();
    let (from, sender) = b.station(0, ALL);
    let (whole, plain) = (b.station(0, ALL), b.station(0, Offloads::default()));
    let checksums = b.station(0, Offloads { csum: true, ..Offloads::default() });
    let (bytes, meta) = tcp(2500);
    assert_eq!(sender.slot.send(&Frame { head: &bytes, body: &[], meta }), TAKEN);
    assert_eq!(*whole.1.got.lock().unwrap(), [OwnedFrame { bytes: bytes.clone(), meta }]);
    for (port, peer) in [&plain, &checksums] {
        let got = peer.got();
        let payload: Vec<u8> = got.iter().flat_map(|frame| frame[54..].to_vec()).collect();
        assert_eq!((got.len(), payload), (3, bytes[54..].to_vec()));
        assert!(got.iter().all(|frame| tcp_checksum_is_good(frame)));
        assert_eq!((stats(port).to_peer.frames, stats(port).to_peer.gso_units), (3, 0));
    }
    assert_eq!((stats(&from).from_peer.frames, stats(&from).from_peer.gso_units), (3, 1));
    let unfinished = FrameMeta { gso: None, ..meta };
    sender.slot.send(&Frame { head: &bytes[..500], body: &[], meta: unfinished });
    assert_eq!(checksums.1.got.lock().unwrap()[3].meta, unfinished);
    assert!(tcp_checksum_is_good(&plain.1.got()[3]) || plain.1.got.lock().unwrap()[3].meta.csum_valid);
    assert_eq!(plain.1.got.lock().unwrap()[3].meta.csum, None);
}

fn tcp_checksum_is_good(frame: &[u8]) -> bool {
    let mut sum = crate::netport::checksum::Sum::new(6);
    sum.add_word((frame.len() - 34) as u16);
    sum.add(&frame[26..34]);
    sum.add(&frame[34..]);
    sum.folded() == 0xffff
}

#[test]
fn a_port_offers_what_some_other_takes() {
    let b = Bench::new();
    let (a, _) = b.station(0, Offloads { tso4: true, csum: true, tso6: false });
    let (c, _) = b.station(0, Offloads { csum: true, ..Offloads::default() });
    assert_eq!(a.accepts(), Offloads { csum: true, ..Offloads::default() });
    assert_eq!(c.accepts(), Offloads { tso4: true, csum: true, tso6: false });
    let (bytes, mut meta) = tcp(100);
    meta.csum = Some(CsumRequest { start: 2000, offset: 0 });
    meta.gso = None;
    let (_, plain) = b.station(0, Offloads::default());
    a.deliver(&Frame { head: &bytes, body: &[], meta });
    assert_eq!(plain.got().len(), 0, "metadata that contradicts the frame");
}

#[test]
fn a_switch_sends_to_known_stations_only_where_they_are() {
    let b = Bench::new();
    let keep = b.port(0, "keep", None);
    drop(b.port(0, "first", Some(true)));
    let s = b.stations(0, 3);
    assert_eq!(s[0].1.send(&frame(2, 0, 0)), TAKEN);
    assert_eq!((s[1].1.got().len(), s[2].1.got().len()), (1, 1), "unknown: to all");
    s[2].1.send(&frame(0, 2, 1));
    s[0].1.send(&frame(2, 0, 2));
    s[0].1.send(&frame(0xff, 0, 3));
    assert_eq!([0, 1, 2].map(|n: usize| s[n].1.got().len()), [1, 2, 3]);
    assert_eq!(s[0].1.send(&frame(0, 9, 4)), Delivery::Dropped(DropReason::Filtered), "it is on that side");
    let hub = &b.hubs.snapshot()[0];
    let stations: Vec<&str> = hub.stations.iter().map(|station| station.mac.as_str()).collect();
    assert_eq!(stations, ["02:00:00:00:00:00", "02:00:00:00:00:02", "02:00:00:00:00:09"]);
    assert!(hub.learning && hub.ports == ["keep", "p", "p", "p"], "{:?}", hub.ports);
    s[2].0.peer_link(false);
    s[0].1.send(&frame(2, 0, 5));
    assert_eq!(s[1].1.got().len(), 3, "forgotten with the cable");
    let wrong =
        b.hubs.open("x", &HubPortOptions { hubid: 0, netdev: None, learning: Some(false) }, &b.around);
    let says = wrong.unwrap_err().to_string();
    assert_eq!(says, "hub 0 is there with learning=on; leave learning= out or write the same");
    assert!(!keep.describe().is_empty());
}

#[test]
fn a_hub_goes_with_its_last_port() {
    let b = Bench::new();
    let s = b.stations(3, 2);
    assert_eq!(b.hubs.snapshot().len(), 1);
    s.iter().for_each(|(port, _)| port.peer_slot().clear());
    s.iter().for_each(|(_, peer)| peer.slot.clear());
    drop(s);
    assert_eq!(b.hubs.snapshot(), []);
    assert!(
        b.hubs.open("x", &HubPortOptions { hubid: 3, netdev: None, learning: Some(true) }, &b.around).is_ok()
    );
}

#[test]
fn many_threads_lose_nothing_and_keep_each_senders_order() {
    let b = Bench::new();
    let s = b.stations(0, 4);
    const EACH: u32 = 200;
    std::thread::scope(|scope| {
        for (n, (_, peer)) in s.iter().enumerate() {
            scope.spawn(move || {
                for tag in 0..EACH {
                    while peer.send(&frame(0xff, n as u8, tag)) == Delivery::Full {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    for (n, (port, peer)) in s.iter().enumerate() {
        wait(|| peer.got().len() == 3 * EACH as usize);
        for from in (0..4).filter(|from| *from != n) {
            let of_one: Vec<_> = peer.got().into_iter().filter(|f| f[11] == from as u8).collect();
            let expected: Vec<_> = (0..EACH).map(|tag| frame(0xff, from as u8, tag)).collect();
            assert!(of_one == expected, "{from} to {n}");
        }
        assert_eq!(stats(port).to_peer.dropped, []);
    }
}

#[derive(Debug, Clone)]
enum Op {
    Send { from: usize, to: u8 },
    Full(usize, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let send = (0..6usize, prop_oneof![Just(0xffu8), 0..8u8]).prop_map(|(from, to)| Op::Send { from, to });
    let full = (0..6usize, any::<bool>()).prop_map(|(port, full)| Op::Full(port, full));
    proptest::collection::vec(prop_oneof![12 => send, 1 => full], 1..300)
}

/// Who is to get a frame on two joined hubs of three stations each; `heard` is what each hub has learned.
fn receivers(from: usize, to: u8, heard: Option<&mut [[bool; 8]; 2]>) -> Vec<usize> {
    let others = |hub: usize| (3 * hub..3 * hub + 3).filter(move |n| *n != from);
    let Some(heard) = heard else { return others(0).chain(others(1)).collect() };
    let (near, to) = (from / 3, usize::from(to));
    let mut all = Vec::new();
    for hub in [near, 1 - near] {
        heard[hub][from] = true;
        if to >= 6 || !heard[hub][to] {
            all.extend(others(hub));
        } else if to / 3 == hub {
            // Its port is known, so nobody else gets it, nor the other hub.
            all.extend(others(hub).filter(|n| *n == to));
            break;
        } else if hub != near {
            // It is where the frame comes from.
            break;
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Stations 0-2 on hub 0, 3-5 on hub 1, the hubs joined. Against a model that knows of no queue: a station is
    /// to get what all others sent, each once and in order, whenever it has room; with learning, only what is for
    /// it or for all or for somebody who was never heard.
    #[test]
    fn every_frame_is_in_the_right_places_and_only_there(ops in ops(), learning: bool) {
        let b = Bench::new();
        let joints = [0, 1].map(|hub| b.port(hub, "joint", Some(learning)));
        let (x, y): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (joints[0].clone(), joints[1].clone());
        join(&x, &y);
        let s: Vec<_> = (0..6).map(|n| b.station(n / 3, Offloads::default())).collect();
        let mut expected = vec![Vec::new(); 6];
        let mut heard = [[false; 8]; 2];
        for (tag, op) in ops.iter().enumerate() {
            match *op {
                Op::Full(port, full) => s[port].1.set_full(full),
                Op::Send { from, to } => {
                    let bytes = frame(to, from as u8, tag as u32);
                    let outcome = s[from].1.send(&bytes);
                    prop_assert!(matches!(outcome, TAKEN | Delivery::Dropped(DropReason::Filtered)));
                    for n in receivers(from, to, learning.then_some(&mut heard)) {
                        expected[n].push(bytes.clone());
                    }
                }
            }
        }
        for (n, (_, peer)) in s.iter().enumerate() {
            peer.set_full(false);
            wait(|| peer.got().len() >= expected[n].len());
            prop_assert_eq!(&peer.got(), &expected[n], "station {}", n);
        }
        for port in &joints {
            port.peer_slot().clear();
        }
        for (port, peer) in &s {
            prop_assert_eq!(stats(port).to_peer.dropped, vec![]);
            port.peer_slot().clear();
            peer.slot.clear();
        }
    }
}
