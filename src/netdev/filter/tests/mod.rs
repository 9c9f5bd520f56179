//! Filters between two ports that record.

mod branches;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::cli::{CaptureFormat, DumpOptions, FilterPlace, ReplayOptions, ReplaySpeed};
use crate::event::EventLoop;
use crate::fault::{CableEffect, CableListener};
use crate::netdev::Notices;
use crate::netport::{
    Delivery, DropReason, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads, PeerSlot, join,
};

#[derive(Debug, Default)]
pub(super) struct Port {
    pub(super) slot: PeerSlot,
    frames: Mutex<Vec<Vec<u8>>>,
    /// What `deliver` answers, then `Taken`.
    answers: Mutex<VecDeque<Delivery>>,
    ready: Mutex<usize>,
    links: Mutex<Vec<bool>>,
}

impl FramePort for Port {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Delivery::Taken);
        if answer == Delivery::Taken {
            let mut bytes = Vec::new();
            frame.copy_to(&mut bytes);
            self.frames.lock().unwrap().push(bytes);
        }
        answer
    }
    fn accepts(&self) -> Offloads {
        Offloads { csum: true, tso4: true, tso6: false }
    }
    fn peer_ready(&self) {
        *self.ready.lock().unwrap() += 1;
    }
    fn peer_link(&self, up: bool) {
        self.links.lock().unwrap().push(up);
    }
    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

impl Port {
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Delivery>) {
        self.answers.lock().unwrap().extend(answers);
    }
    pub(super) fn frames(&self) -> Vec<Vec<u8>> {
        self.frames.lock().unwrap().clone()
    }
    pub(super) fn ready(&self) -> usize {
        *self.ready.lock().unwrap()
    }
    pub(super) fn send(&self, frame: &[u8]) -> Delivery {
        self.slot.send(&Frame::whole(frame))
    }
    /// Waits until it has given all of its answers.
    pub(super) fn has_answered(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.answers.lock().unwrap().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    /// Waits until this many frames have come.
    pub(super) fn wait(&self, count: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(10);
        while self.frames().len() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.frames()
    }
}

pub(super) struct Bench {
    pub(super) filter: Arc<dyn Filter>,
    pub(super) netdev: Arc<Port>,
    pub(super) guest: Arc<Port>,
    said: Arc<Mutex<Vec<String>>>,
    /// Faults that struck, in words.
    pub(super) struck: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    _event_loop: EventLoop,
}

/// A filter in a cable; `kind` gets a folder for files.
pub(super) fn bench(queue: FilterQueue, on: bool, kind: impl FnOnce(&Path) -> FilterKind) -> Bench {
    let (event_loop, events) = EventLoop::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = said.clone();
    let notices = Notices::new(move |line| heard.lock().unwrap().push(line.to_owned()));
    let options = FilterOptions {
        id: "f0".into(),
        netdev: "n0".into(),
        queue,
        on,
        place: FilterPlace::Tail,
        kind: kind(folder.path()),
    };
    let struck: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = struck.clone();
    let mut around = Surroundings::new(events, notices);
    around.faults = CableListener::new(move |hit| {
        let CableEffect::Frame { to_guest, bytes, seed, of, done } = hit.what else { panic!("{hit:?}") };
        assert_eq!((hit.netdev, hit.id), ("n0", "f0"));
        let way = if to_guest { "in" } else { "out" };
        let first = bytes.first().copied().unwrap_or(0);
        let words =
            format!("{} {} of {of} seed {seed} {way} {first}+{}: {done}", hit.kind, hit.hit, bytes.len());
        told.lock().unwrap().push(words);
    });
    let filter = open(&options, &around).unwrap();
    assert_eq!(filter.is_on(), on);
    let (netdev, guest) = (Arc::new(Port::default()), Arc::new(Port::default()));
    join(&(netdev.clone() as _), &filter.near());
    join(&filter.far(), &(guest.clone() as _));
    Bench { filter, netdev, guest, said, struck, folder, _event_loop: event_loop }
}

fn dump_to(folder: &Path, format: CaptureFormat, max_len: u32) -> FilterKind {
    FilterKind::Dump(DumpOptions { file: folder.join("cap"), max_len, format })
}

impl Bench {
    fn captured(&self) -> Vec<capture::Captured> {
        let mut reader = Reader::open(&self.folder.path().join("cap")).unwrap();
        std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
    }
}

fn frame(byte: u8, len: usize) -> Vec<u8> {
    vec![byte; len]
}

#[test]
fn a_dump_holds_what_passed_in_order_in_both_formats() {
    for format in [CaptureFormat::Pcap, CaptureFormat::PcapNg] {
        let b = bench(FilterQueue::All, true, |folder| dump_to(folder, format, 100));
        assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
        assert_eq!(b.guest.send(&frame(2, 1514)), Delivery::Taken);
        b.guest.answer([Delivery::Dropped(DropReason::Filtered)]);
        assert_eq!(b.netdev.send(&frame(3, 99)), Delivery::Dropped(DropReason::Filtered));
        // The file is whole after every frame, not only at the end.
        let all = b.captured();
        let lens: Vec<(u8, usize, bool)> = all.iter().map(|c| (c.frame[0], c.frame.len(), c.cut)).collect();
        assert_eq!(lens, [(1, 60, false), (2, 100, true), (3, 99, false)], "{format:?}");
        assert!(all.windows(2).all(|two| two[0].at <= two[1].at));
        let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() - all[0].at;
        assert!(age < Duration::from_secs(60), "{age:?}");
        assert_eq!((b.guest.frames().len(), b.netdev.frames().len()), (1, 1));
    }
}

#[test]
fn a_frame_without_room_is_captured_once() {
    let b = bench(FilterQueue::All, true, |folder| dump_to(folder, CaptureFormat::Pcap, 65536));
    b.guest.answer([Delivery::Full, Delivery::Full]);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Full);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Full);
    assert_eq!(b.guest.send(&frame(9, 60)), Delivery::Taken);
    b.filter.far().peer_ready();
    assert_eq!(b.netdev.ready(), 1);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    assert_eq!(b.netdev.send(&frame(1, 60)), Delivery::Taken);
    let firsts: Vec<u8> = b.captured().iter().map(|c| c.frame[0]).collect();
    assert_eq!(firsts, [1, 9, 1]);
}

#[test]
fn a_dump_chooses_directions_and_can_be_switched() {
    let b = bench(FilterQueue::Rx, false, |folder| dump_to(folder, CaptureFormat::Pcap, 65536));
    b.guest.send(&frame(1, 60));
    b.filter.switch(true);
    b.guest.send(&frame(2, 60));
    b.netdev.send(&frame(3, 60));
    b.filter.switch(false);
    b.guest.send(&frame(4, 60));
    let firsts: Vec<u8> = b.captured().iter().map(|c| c.frame[0]).collect();
    assert_eq!(firsts, [2]);
    assert_eq!((b.netdev.frames().len(), b.guest.frames().len()), (3, 1));
    assert!(b.filter.describe().contains("status=off"));
}

/// A TCP segment over IPv4 that is to be cut.
fn gso_frame(payload: usize, mss: u16) -> (Vec<u8>, FrameMeta) {
    let mut bytes = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    builder.tcp(1, 2, 3, 4).write(&mut bytes, &vec![7; payload]).unwrap();
    let gso = Some(Gso { kind: GsoKind::Tcp4, mss, header_len: 54 });
    let csum = Some(crate::netport::CsumRequest { start: 34, offset: 16 });
    (bytes, FrameMeta { gso, csum, ..FrameMeta::default() })
}

#[test]
fn a_dump_shows_wire_frames_and_passes_the_long_one_on() {
    let b = bench(FilterQueue::All, true, |folder| dump_to(folder, CaptureFormat::PcapNg, 65536));
    let (bytes, meta) = gso_frame(2500, 1000);
    assert_eq!(b.guest.slot.send(&Frame { head: &bytes, body: &[], meta }), Delivery::Taken);
    assert_eq!(b.netdev.frames()[0].len(), bytes.len());
    let all = b.captured();
    assert_eq!(all.iter().map(|c| c.frame.len()).collect::<Vec<_>>(), [1054, 1054, 554]);
    for captured in &all {
        let slices = etherparse::SlicedPacket::from_ethernet(&captured.frame).unwrap();
        let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Tcp(tcp))) =
            (slices.net, slices.transport)
        else {
            panic!("{captured:?}")
        };
        let checksum = tcp.calc_checksum_ipv4([10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        assert_eq!(tcp.checksum(), checksum);
        assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
    }
}

#[test]
fn links_and_offloads_pass_through() {
    let b = bench(FilterQueue::All, true, |folder| dump_to(folder, CaptureFormat::Pcap, 65536));
    assert_eq!(b.netdev.slot.accepts(), b.guest.accepts());
    b.filter.near().peer_link(false);
    b.filter.far().peer_link(true);
    assert_eq!(*b.guest.links.lock().unwrap(), [false]);
    assert_eq!(*b.netdev.links.lock().unwrap(), [true]);
}

fn buffer_of(millis: u64) -> impl FnOnce(&Path) -> FilterKind {
    move |_| FilterKind::Buffer { interval: Duration::from_millis(millis) }
}

#[test]
fn a_buffer_holds_and_releases_in_order() {
    let b = bench(FilterQueue::Tx, true, buffer_of(30));
    let sent: Vec<Vec<u8>> = (0..50).map(|n| frame(n, 60)).collect();
    let start = Instant::now();
    for bytes in &sent {
        assert_eq!(b.netdev.send(bytes), Delivery::Taken);
    }
    // The other direction is not chosen.
    b.guest.send(&frame(99, 60));
    assert_eq!(b.netdev.frames().len(), 1);
    assert_eq!(b.guest.wait(50), sent);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_buffer_waits_for_room_and_lets_go_when_switched_off() {
    let b = bench(FilterQueue::All, true, buffer_of(3_600_000));
    for n in 0..4 {
        b.netdev.send(&frame(n, 60));
    }
    assert!(b.guest.frames().is_empty());
    b.guest.answer([Delivery::Taken, Delivery::Full, Delivery::Full]);
    b.filter.switch(false);
    assert_eq!(b.guest.frames().len(), 1);
    // What comes now may not overtake.
    assert_eq!(b.netdev.send(&frame(4, 60)), Delivery::Taken);
    assert_eq!(b.guest.frames().len(), 1);
    b.filter.far().peer_ready();
    assert_eq!(b.guest.frames(), (0..5).map(|n| frame(n, 60)).collect::<Vec<_>>());
    assert_eq!(b.netdev.send(&frame(5, 60)), Delivery::Taken);
    assert_eq!(b.guest.frames().len(), 6);
}

#[test]
fn a_full_buffer_makes_its_sender_wait_and_calls_it_back() {
    let b = bench(FilterQueue::All, true, buffer_of(3_600_000));
    let mut taken = 0;
    while b.netdev.send(&frame(1, 60)) == Delivery::Taken {
        taken += 1;
        assert!(taken <= held::MOST_FRAMES);
    }
    assert_eq!((taken, b.netdev.ready()), (held::MOST_FRAMES, 0));
    b.filter.switch(false);
    assert_eq!((b.guest.frames().len(), b.netdev.ready()), (taken, 1));
}

fn capture_file(path: &Path, format: CaptureFormat, frames: &[(u64, Vec<u8>)], max_len: u32) {
    let mut writer = Writer::create(path, format, max_len, "x").unwrap();
    for (ms, bytes) in frames {
        writer.add(Duration::from_millis(1_000_000 + ms), Way::ToNetdev, bytes).unwrap();
    }
}

#[test]
fn a_replay_sends_the_file_in_its_time_once_somebody_listens() {
    let frames: Vec<(u64, Vec<u8>)> = vec![(0, frame(1, 60)), (40, frame(2, 1514)), (80, frame(3, 61))];
    for format in [CaptureFormat::Pcap, CaptureFormat::PcapNg] {
        let b = bench(FilterQueue::Tx, false, |folder| {
            let file = folder.join("in");
            capture_file(&file, format, &frames, 65536);
            FilterKind::Replay(ReplayOptions { file, speed: ReplaySpeed::Real })
        });
        b.guest.answer([Delivery::Dropped(DropReason::LinkDown), Delivery::Full]);
        std::thread::sleep(Duration::from_millis(20));
        assert!(b.guest.frames().is_empty(), "switched off");
        b.filter.switch(true);
        b.guest.has_answered();
        assert!(b.guest.frames().is_empty(), "no room");
        let start = Instant::now();
        b.filter.far().peer_ready();
        assert_eq!(b.guest.wait(3), frames.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>());
        assert!(start.elapsed() >= Duration::from_millis(75), "{:?}", start.elapsed());
        assert!(b.netdev.frames().is_empty());
        let end = Instant::now() + Duration::from_secs(5);
        while b.said.lock().unwrap().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let said = b.said.lock().unwrap().join("");
        assert!(said.starts_with("filter-replay f0: ") && said.ends_with("the end: 3 frames sent"), "{said}");
    }
}

#[test]
fn a_replay_skips_cut_frames_and_can_go_the_other_way_at_full_speed() {
    let frames: Vec<(u64, Vec<u8>)> =
        vec![(0, frame(1, 60)), (3_600_000, frame(2, 200)), (7_200_000, frame(3, 70))];
    let b = bench(FilterQueue::Rx, true, |folder| {
        let file = folder.join("in");
        capture_file(&file, CaptureFormat::Pcap, &frames, 100);
        FilterKind::Replay(ReplayOptions { file, speed: ReplaySpeed::Max })
    });
    assert_eq!(b.netdev.wait(2), [frame(1, 60), frame(3, 70)]);
    assert!(b.guest.frames().is_empty());
}

#[test]
fn files_that_are_no_captures_are_refused_in_one_line() {
    let (event_loop, events) = EventLoop::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open_file = |name: &str, content: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let options = FilterOptions {
            id: "f0".into(),
            netdev: "n0".into(),
            queue: FilterQueue::All,
            on: true,
            place: FilterPlace::Tail,
            kind: FilterKind::Replay(ReplayOptions { file, speed: ReplaySpeed::Max }),
        };
        let around = Surroundings::new(events.clone(), Notices::stderr());
        open(&options, &around).err().map(|error| error.to_string())
    };
    let mut loopback =
        pcap_file::pcap::PcapHeader { datalink: pcap_file::DataLink::NULL, ..Default::default() };
    loopback.snaplen = 100;
    let mut null_link = Vec::new();
    pcap_file::pcap::PcapWriter::with_header(&mut null_link, loopback).unwrap();
    for (name, content) in
        [("empty", &b""[..]), ("text", b"this is not a capture file, is it?"), ("null", &null_link)]
    {
        let error = open_file(name, content).expect(name);
        assert!(error.starts_with("-object filter-replay,id=f0: /") && !error.contains('\n'), "{error}");
        let short = error.ends_with(": too short for a capture; name a pcap or pcapng file");
        assert_eq!(short, content.is_empty(), "{error}");
    }
    drop(event_loop);
}
