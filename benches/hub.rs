//! Throughput of a hub without a guest: one port's frames to all others, which only count.
//!
//! Every port gets every frame, so a hub of n ports carries n-1 times what comes in. `cargo bench --bench hub` prints
//! a line for each number of ports and each kind of frame; of one thread, in frames that come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use minivmm::cli::{HubPortOptions, Netdev, NetdevKind};
use minivmm::event::EventLoop;
use minivmm::netdev::{Network, NicEnd, Notices, Surroundings};
use minivmm::netport::{Delivery, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads, PeerSlot};

/// A NIC whose guest takes everything.
#[derive(Debug, Default)]
struct Sink {
    slot: PeerSlot,
    bytes: AtomicU64,
}

impl FramePort for Sink {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        self.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        Delivery::Taken
    }
    fn accepts(&self) -> Offloads {
        Offloads { csum: true, tso4: true, tso6: true }
    }
    fn peer_ready(&self) {}
    fn peer_link(&self, _up: bool) {}
    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

fn main() {
    // cargo passes --bench, and cargo test runs benches once for their own sake.
    let frames = if std::env::args().any(|arg| arg == "--bench") { 2_000_000 } else { 1000 };
    for learning in [false, true] {
        for ports in [2, 5] {
            for (name, len, gso) in
                [("64-byte", 64, None), ("1514-byte", 1514, None), ("uncut 64 KiB", 65_000, Some(1448))]
            {
                let seconds = run(ports, learning, frames, len, gso);
                let kind = if learning { "switch" } else { "hub" };
                println!(
                    "{kind} of {ports} ports, {name} frames: {:.2} million/s, {:.1} Gbit/s",
                    frames as f64 * 1e-6 / seconds,
                    (frames * len) as f64 * 8e-9 / seconds
                );
            }
        }
    }
}

fn run(ports: u32, learning: bool, frames: usize, len: usize, mss: Option<u16>) -> f64 {
    let (_event_loop, events) = EventLoop::start().expect("the host has descriptors");
    let network = Network::new(Surroundings::new(events, Notices::stderr()));
    let sinks: Vec<Arc<Sink>> = (0..ports).map(|_| Arc::default()).collect();
    for (n, sink) in sinks.iter().enumerate() {
        let port = HubPortOptions { hubid: 0, netdev: None, learning: Some(learning) };
        let id = format!("p{n}");
        network
            .add_netdev(&Netdev { id: id.clone(), kind: NetdevKind::HubPort(port) })
            .expect("a port needs nothing");
        let nic = NicEnd { id: None, model: "sink", mac: [2; 6], port: sink.clone(), netdev: Some(id) };
        network.add_nic(nic).expect("the port is free");
    }
    let mut bytes = vec![0; len];
    // To a station that nobody knows, from one that is always the same.
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[8, 0]);
    let gso = mss.map(|mss| Gso { kind: GsoKind::Tcp4, mss, header_len: 54 });
    let frame = Frame { head: &bytes, body: &[], meta: FrameMeta { gso, ..FrameMeta::default() } };
    let begin = Instant::now();
    for _ in 0..frames {
        assert_eq!(sinks[0].slot.send(&frame), Delivery::Taken);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let expected = (frames * len) as u64;
    assert!(sinks[1..].iter().all(|sink| sink.bytes.load(Ordering::Relaxed) == expected), "frames were lost");
    seconds
}
