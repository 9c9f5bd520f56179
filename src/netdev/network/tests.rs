//! Who is joined with whom, on ports that only record.

mod branches;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::cli::{CableFault, HubPortOptions, LinkFlap};
use crate::event::EventLoop;
use crate::fault::{CableEffect, CableListener};
use crate::netdev::{Notices, PortCounters};
use crate::netport::{Delivery, DropReason, Frame, Offloads, PeerSlot};

#[derive(Debug, Default)]
struct Port {
    id: String,
    slot: PeerSlot,
    frames: Mutex<Vec<Vec<u8>>>,
    links: Mutex<Vec<bool>>,
    ready: AtomicUsize,
    counters: PortCounters,
    /// As a backend whose connection is missing.
    waits: AtomicBool,
    /// A filter's face: where frames go on.
    other: Mutex<Option<Arc<Port>>>,
}

impl FramePort for Port {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        self.frames.lock().unwrap().push(bytes);
        let other = self.other.lock().unwrap().clone();
        other.map_or(Delivery::Taken, |other| other.slot.send(frame))
    }
    fn accepts(&self) -> Offloads {
        Offloads::default()
    }
    fn peer_ready(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
    }
    fn peer_link(&self, up: bool) {
        self.links.lock().unwrap().push(up);
    }
    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

impl Backend for Port {
    fn id(&self) -> &str {
        &self.id
    }
    fn kind(&self) -> &'static str {
        "test"
    }
    fn describe(&self) -> String {
        "a port that records".into()
    }
    fn counters(&self) -> &PortCounters {
        &self.counters
    }
    fn link_up(&self) -> bool {
        !self.waits.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Pass {
    id: &'static str,
    near: Arc<Port>,
    far: Arc<Port>,
}

impl Pass {
    fn new(id: &'static str) -> Arc<Self> {
        let (near, far) = (port(""), port(""));
        *near.other.lock().unwrap() = Some(far.clone());
        *far.other.lock().unwrap() = Some(near.clone());
        Arc::new(Self { id, near, far })
    }

    fn saw(&self) -> (usize, usize) {
        (self.near.seen(), self.far.seen())
    }
}

impl Filter for Pass {
    fn id(&self) -> &str {
        self.id
    }
    fn describe(&self) -> String {
        String::new()
    }
    fn is_on(&self) -> bool {
        true
    }
    fn switch(&self, _: bool) {}
    fn near(&self) -> Arc<dyn FramePort> {
        self.near.clone()
    }
    fn far(&self) -> Arc<dyn FramePort> {
        self.far.clone()
    }
}

impl Port {
    fn seen(&self) -> usize {
        self.frames.lock().unwrap().len()
    }
    fn send(&self, byte: u8) -> Delivery {
        self.slot.send(&Frame::whole(&[byte; 60]))
    }
    fn links(&self) -> Vec<bool> {
        self.links.lock().unwrap().clone()
    }
}

fn port(id: &str) -> Arc<Port> {
    Arc::new(Port { id: id.into(), ..Port::default() })
}

struct Bench {
    network: Network,
    /// Faults of links that struck: the plan, how often, and whether the cable is in now.
    struck: Arc<Mutex<Vec<(String, u64, bool)>>>,
    _event_loop: EventLoop,
}

fn bench() -> Bench {
    let (event_loop, events) = EventLoop::start().unwrap();
    let struck: Arc<Mutex<Vec<(String, u64, bool)>>> = Arc::default();
    let told = struck.clone();
    let mut around = Surroundings::new(events, Notices::stderr());
    around.faults = CableListener::new(move |hit| {
        let CableEffect::Link { up } = hit.what else { panic!("{hit:?}") };
        assert_eq!((hit.netdev, hit.kind), ("n0", "link-flap"));
        told.lock().unwrap().push((hit.id.to_owned(), hit.hit, up));
    });
    Bench { network: Network::new(around), struck, _event_loop: event_loop }
}

impl Bench {
    fn backend(&self, id: &str) -> Arc<Port> {
        let port = port(id);
        self.network.add_backend(port.clone(), None).unwrap();
        port
    }
    fn try_nic(&self, id: Option<&str>, netdev: Option<&str>) -> Result<(String, Arc<Port>), NetworkError> {
        let port = port("");
        let id = id.map(str::to_owned);
        let netdev = netdev.map(str::to_owned);
        let nic = NicEnd { id, model: "e1000", mac: [2, 0, 0, 0, 0, 1], port: port.clone(), netdev };
        Ok((self.network.add_nic(nic)?, port))
    }
    fn nic(&self, id: Option<&str>, netdev: Option<&str>) -> (String, Arc<Port>) {
        self.try_nic(id, netdev).unwrap()
    }
    fn end(&self, name: &str, kind: &str) -> EndSnapshot {
        let ends = self.network.snapshot().ends;
        ends.into_iter().find(|end| end.name == name && end.kind == kind).unwrap()
    }
}

#[test]
fn a_nic_and_its_netdev_are_peers_and_others_are_not() {
    let b = bench();
    let (n0, n1) = (b.backend("n0"), b.backend("n1"));
    let (name, nic) = b.nic(None, Some("n0"));
    let (_, lone) = b.nic(None, None);
    assert_eq!(name, "e1000.0");
    assert_eq!((nic.send(1), n0.send(2)), (Delivery::Taken, Delivery::Taken));
    assert_eq!((n0.seen(), nic.seen(), n1.seen(), lone.seen()), (1, 1, 0, 0));
    assert_eq!(n1.send(3), Delivery::Dropped(DropReason::NoPeer));
    assert_eq!((nic.links(), lone.links()), (vec![true], vec![false]), "no cable is a link that is down");
    assert_eq!(b.end("n0", "test").peer.as_deref(), Some("e1000.0"));
    assert_eq!(b.end("e1000.1", "nic").peer, None);
    assert!(b.end("e1000.0", "nic").link_up && !b.end("e1000.1", "nic").link_up);
    assert_eq!(b.end("e1000.0", "nic").what, "model=e1000,macaddr=02:00:00:00:00:01");
}

#[test]
fn a_netdev_in_use_is_neither_shared_nor_removed() {
    let b = bench();
    let n0 = b.backend("n0");
    let (nic, _) = b.nic(Some("n0"), Some("n0"));
    let says = |result: Result<(), NetworkError>| result.unwrap_err().to_string();
    assert_eq!(says(b.try_nic(None, Some("n0")).map(drop)), "the netdev 'n0' is in use by 'n0'");
    assert_eq!(says(b.try_nic(None, Some("x")).map(drop)), "there is no netdev 'x'");
    assert_eq!(says(b.try_nic(Some("n0"), None).map(drop)), "the id 'n0' is taken");
    assert_eq!(says(b.network.remove_netdev("n0")), "the netdev 'n0' is in use by 'n0'");
    assert_eq!(b.network.snapshot().ends.len(), 2, "nothing of what was refused stays");
    b.network.unplug(&nic).unwrap();
    b.network.remove_netdev("n0").unwrap();
    assert_eq!(Arc::strong_count(&n0), 1, "nobody holds it any more");
    assert_eq!(says(b.network.remove_netdev("n0")), "there is no netdev 'n0'");
    assert_eq!(b.end("n0", "nic").peer, None);
}

#[test]
fn a_link_set_down_drops_both_ways_until_it_is_up() {
    let b = bench();
    let n0 = b.backend("n0");
    let (name, nic) = b.nic(None, Some("n0"));
    for off in ["n0", name.as_str()] {
        b.network.set_link(off, false).unwrap();
        b.network.set_link(off, false).unwrap();
        let down = Delivery::Dropped(DropReason::LinkDown);
        assert_eq!((nic.send(1), n0.send(2)), (down, down));
        assert!(!b.end("n0", "test").link_up);
        let ready = nic.ready.load(Ordering::SeqCst);
        b.network.set_link(off, true).unwrap();
        assert_eq!((nic.send(1), n0.send(2)), (Delivery::Taken, Delivery::Taken));
        assert!(nic.ready.load(Ordering::SeqCst) > ready, "it may have kept a frame");
    }
    assert_eq!(nic.links(), [true, false, false, true, false, false, true]);
    assert_eq!(b.network.set_link("x", true).unwrap_err().to_string(), "there is no NIC and no netdev 'x'");
}

#[test]
fn a_backend_speaks_for_its_nic() {
    let b = bench();
    b.backend("n0");
    let (name, _) = b.nic(None, Some("n0"));
    b.network.set_link(&name, false).unwrap();
    b.network.set_link("n0", true).unwrap();
    assert!(b.end(&name, "nic").link_up);
}

#[test]
fn a_backend_without_a_connection_is_a_link_that_is_down() {
    let b = bench();
    let n0 = b.backend("n0");
    n0.waits.store(true, Ordering::SeqCst);
    let (_, nic) = b.nic(None, Some("n0"));
    b.network.set_link("n0", false).unwrap();
    b.network.set_link("n0", true).unwrap();
    assert_eq!(nic.links(), [false, false, false]);
    assert!(!b.end("n0", "test").link_up);
    n0.waits.store(false, Ordering::SeqCst);
    b.network.set_link("n0", true).unwrap();
    assert_eq!(nic.links().last(), Some(&true));
}

#[test]
fn a_cable_may_be_moved() {
    let b = bench();
    let (n0, n1) = (b.backend("n0"), b.backend("n1"));
    let (name, nic) = b.nic(None, Some("n0"));
    b.network.unplug(&name).unwrap();
    assert_eq!(nic.send(1), Delivery::Dropped(DropReason::NoPeer));
    assert_eq!(n0.send(1), Delivery::Dropped(DropReason::NoPeer));
    b.network.plug(&name, "n1").unwrap();
    assert!(matches!(b.network.plug(&name, "n0"), Err(NetworkError::InUse { .. })));
    assert_eq!((nic.send(1), n1.seen(), n0.seen()), (Delivery::Taken, 1, 0));
    assert_eq!(nic.links(), [true, false, true]);
    b.network.remove_nic(&name).unwrap();
    assert_eq!((n1.send(1), Arc::strong_count(&nic)), (Delivery::Dropped(DropReason::NoPeer), 1));
}

#[test]
fn filters_sit_in_the_cable_in_their_order_and_leave_it_whole() {
    let b = bench();
    let n0 = b.backend("n0");
    let filters = ["b", "a", "d", "c"].map(Pass::new);
    let [fb, fa, fd, fc] = &filters;
    let put = |f: &Arc<Pass>, place| b.network.insert_filter("n0", f.clone(), &place).unwrap();
    put(fb, Place::Tail);
    put(fa, Place::Head);
    put(fd, Place::Behind("b".into()));
    let (_, nic) = b.nic(None, Some("n0"));
    put(fc, Place::Before("d".into()));
    assert_eq!(b.end("n0", "test").filters, ["a", "b", "c", "d"]);
    assert_eq!((nic.send(1), n0.seen()), (Delivery::Taken, 1));
    assert!(filters.iter().all(|f| f.saw() == (0, 1)), "from the NIC it enters at the far face");
    assert_eq!((n0.send(1), nic.seen()), (Delivery::Taken, 1));
    assert!(filters.iter().all(|f| f.saw() == (1, 1)));
    b.network.set_link("n0", false).unwrap();
    assert_eq!(nic.send(1), Delivery::Dropped(DropReason::LinkDown));
    b.network.set_link("n0", true).unwrap();
    assert!(matches!(b.network.remove_netdev("n0"), Err(NetworkError::InUse { .. })));
    b.network.remove_filter("b").unwrap();
    assert!(fb.near.slot.get().is_none() && fb.far.slot.get().is_none());
    assert_eq!((nic.send(1), n0.seen()), (Delivery::Taken, 2));
    assert_eq!((fa.saw().1, fb.saw().1), (2, 1));
    let taken = b.network.insert_filter("n0", Pass::new("a"), &Place::Head);
    assert!(matches!(taken, Err(NetworkError::Taken(_))));
    let lost = b.network.insert_filter("n0", Pass::new("e"), &Place::Before("b".into()));
    assert!(matches!(lost, Err(NetworkError::NoFilter(_))));
}

#[test]
fn the_end_of_the_network_lets_every_port_go() {
    let b = bench();
    let n0 = b.backend("n0");
    let (_, nic) = b.nic(None, Some("n0"));
    let filter = Pass::new("f");
    b.network.insert_filter("n0", filter.clone(), &Place::Tail).unwrap();
    drop(b);
    assert_eq!((Arc::strong_count(&n0), Arc::strong_count(&nic), Arc::strong_count(&filter)), (1, 1, 1));
}

fn hub_port(id: &str, hubid: u32, netdev: Option<&str>) -> Netdev {
    let options = HubPortOptions { hubid, netdev: netdev.map(str::to_owned), learning: None };
    Netdev { id: id.into(), kind: NetdevKind::HubPort(options) }
}

#[test]
fn hub_ports_join_backends_nics_and_other_hubs() {
    let b = bench();
    let (n0, n1) = (b.backend("n0"), b.backend("n1"));
    let add = |id, hub, netdev| b.network.add_netdev(&hub_port(id, hub, netdev));
    add("p0", 0, Some("n0")).unwrap();
    add("p1", 0, None).unwrap();
    add("x", 0, None).unwrap();
    add("y", 1, Some("x")).unwrap();
    add("p2", 1, Some("n1")).unwrap();
    let (_, nic) = b.nic(None, Some("p1"));
    assert_eq!((nic.send(1), n0.seen(), n1.seen(), nic.seen()), (Delivery::Taken, 1, 1, 0));
    assert_eq!((n1.send(1), n0.seen(), n1.seen(), nic.seen()), (Delivery::Taken, 2, 1, 1));
    let snapshot = b.network.snapshot();
    assert_eq!(snapshot.hubs[0].ports, ["p0", "p1", "x"]);
    assert_eq!(b.end("y", "hubport").hub, Some(1));
    assert_eq!(b.end("x", "hubport").peer.as_deref(), Some("y"));

    let says = |result: Result<(), NetworkError>| result.unwrap_err().to_string();
    assert_eq!(says(b.network.remove_netdev("n0")), "the netdev 'n0' is in use by 'p0'");
    assert_eq!(says(add("q", 0, Some("n0"))), "the netdev 'n0' is in use by 'p0'");
    assert_eq!(says(add("q", 0, Some("nope"))), "there is no netdev 'nope'");
    assert_eq!(says(add("p0", 0, None)), "the id 'p0' is taken");
    add("z", 0, None).unwrap();
    let loops = "joining hub 1 with hub 0 would make a loop, in which frames go round for ever";
    assert_eq!(says(add("q", 1, Some("z"))), loops);
    assert!(matches!(add("q", 0, Some("z")), Err(NetworkError::HubLoop(0, 0))));
    add("w", 2, Some("z")).unwrap();
    add("v", 2, None).unwrap();
    assert!(matches!(add("q", 1, Some("v")), Err(NetworkError::HubLoop(1, 2))), "a ring of three");

    b.network.remove_netdev("p0").unwrap();
    assert_eq!(n0.send(1), Delivery::Dropped(DropReason::NoPeer));
    b.network.remove_netdev("n0").unwrap();
    b.network.remove_netdev("y").unwrap();
    assert_eq!((nic.send(1), n1.seen()), (Delivery::Taken, 1), "hub 2 is still joined, hub 1 is not");
    assert_eq!(b.network.snapshot().hubs.len(), 3);
}

#[test]
fn a_link_flaps_as_often_as_it_is_to_and_ends_with_the_cable_in() {
    let b = bench();
    b.backend("n0");
    let (_, nic) = b.nic(None, Some("n0"));
    let plan = |id: &str, netdev: &str, count| {
        let (down, period) = (Duration::from_millis(5), Duration::from_millis(10));
        CableFault::Link(LinkFlap { id: id.into(), netdev: netdev.into(), down, period, count })
    };
    let says = |result: Result<(), NetworkError>| result.unwrap_err().to_string();
    assert_eq!(says(b.network.add_fault(&plan("f", "x", 1))), "there is no netdev 'x'");
    b.network.add_fault(&plan("two", "n0", 2)).unwrap();
    assert_eq!(says(b.network.add_fault(&plan("two", "n0", 1))), "the id 'two' is taken");
    let end = Instant::now() + Duration::from_secs(20);
    while nic.links().len() < 5 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(nic.links(), [true, false, true, false, true], "twice, not more often");
    assert_eq!(b.network.faults()[0].text, "type=fault,kind=link-flap,link=on,hit=2");
    let told = [(1, false), (1, true), (2, false), (2, true)].map(|(hit, up)| ("two".to_owned(), hit, up));
    assert_eq!(*b.struck.lock().unwrap(), told);
    b.network.remove_fault("two").unwrap();
    assert_eq!(says(b.network.remove_fault("two")), "there is no fault 'two'");
    b.network.add_fault(&plan("more", "n0", u64::MAX)).unwrap();
    while nic.links().len() < 6 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    b.network.remove_fault("more").unwrap();
    assert!(b.network.faults().is_empty());
    assert!(b.struck.lock().unwrap().last().unwrap().2, "the end puts it in, and says so");
    let after = nic.links();
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(nic.links(), after, "a fault that has been ended does nothing");
    assert_eq!(after.last(), Some(&true));
    assert!(b.end("n0", "test").link_up);
}
