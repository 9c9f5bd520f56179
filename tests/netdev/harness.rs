//! Runs each test as a process in its own namespaces, and what the tests share.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use minivmm::cli::TapOptions;
use minivmm::event::{EventHandle, EventLoop};
use minivmm::netdev::{Backend, NetdevError, Network, NicEnd, Notices, Surroundings, Tap};
use minivmm::netport::{Delivery, Frame, FrameMeta, FramePort, Offloads, PeerSlot};

/// A test's name and what it does; it fails by panicking.
pub type Test = (&'static str, fn());

const TEST: &str = "MINIVMM_NETDEV_TEST";
const ROLE: &str = "MINIVMM_NETDEV_ROLE";
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Long enough for anything that must happen.
pub const SOON: Duration = Duration::from_secs(10);

/// The three things this program can be: the runner, one test, or a helper process of a test.
pub fn main(tests: &[Test], role: fn(&str)) -> ExitCode {
    if let Ok(name) = std::env::var(ROLE) {
        role(&name);
        return ExitCode::SUCCESS;
    }
    if let Ok(name) = std::env::var(TEST) {
        let test = tests.iter().find(|test| test.0 == name).expect("no such test");
        sh("ip link set lo up");
        (test.1)();
        return ExitCode::SUCCESS;
    }
    run_all(tests)
}

fn run_all(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        tests.iter().for_each(|test| println!("{}: test", test.0));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if let Some(why) = why_not() {
        println!("SKIP tap: {why}");
        let allowed = std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default();
        return if allowed.split(',').any(|a| a == "tap") { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let begin = Instant::now();
        let ok = run_one(name);
        println!(
            "test {name} ... {} ({:.1} s)",
            if ok { "ok" } else { "FAILED" },
            begin.elapsed().as_secs_f64()
        );
        if ok { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why taps cannot be had here.
fn why_not() -> Option<String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun: {error}"));
    }
    let status = unshare().args(["ip", "tuntap", "add", "dev", "probe", "mode", "tap"]).output();
    match status {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            Some(format!("no namespace with a tap: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// New network and mount namespaces; as a user's root where we are not root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args([if is_root() { "-nm" } else { "-rnm" }, "--"]);
    command
}

/// Whether this process is the real root (or root of its namespace).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run_one(name: &str) -> bool {
    let exe = std::env::current_exe().expect("our own path");
    let mut child = unshare().arg(exe).env(TEST, name).spawn().expect("unshare was tried before");
    wait(&mut child, TIME_LIMIT).unwrap_or_else(|| {
        println!("test {name}: no end after {TIME_LIMIT:?}");
        // Ends `unshare`, which has become the test itself by exec.
        child.kill().and_then(|()| child.wait()).expect("our own child");
        false
    })
}

/// Whether the child succeeded; None if it is still running after `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Runs a shell line; panics with its words if it fails.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until `what` holds.
pub fn eventually(why: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !what() {
        assert!(Instant::now() < deadline, "never: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This program in a helper role, its first line of output read.
pub fn spawn_role(role: &str, prefix: &[&str]) -> (Child, String) {
    let exe = std::env::current_exe().expect("our own path");
    let mut command = match prefix {
        [] => Command::new(&exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(&exe);
            command
        }
    };
    let mut child = command.env(ROLE, role).stdout(Stdio::piped()).spawn().expect("a helper process");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    (child, line.trim_end().to_owned())
}

/// An event loop, and what was remarked.
pub struct Host {
    /// Keeps the thread.
    pub event_loop: EventLoop,
    /// To open taps with.
    pub events: EventHandle,
    /// Collects.
    pub notices: Notices,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub fn new() -> Self {
        let (event_loop, events) = EventLoop::start().expect("an event loop");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let notices = Notices::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        Self { event_loop, events, notices, lines }
    }

    pub fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn open(&self, options: &TapOptions) -> Arc<Tap> {
        self.try_open(options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_open(&self, options: &TapOptions) -> Result<Arc<Tap>, NetdevError> {
        let (events, notices) = (self.events.clone(), self.notices.clone());
        Tap::open("n0", options, &Surroundings::new(events, notices))
    }
}

/// `-netdev tap,id=n0`.
pub fn options() -> TapOptions {
    TapOptions::default()
}

/// `-netdev tap,id=n0,ifname=NAME`.
pub fn named(name: &str) -> TapOptions {
    TapOptions { ifname: Some(name.into()), ..options() }
}

/// A port that plays the NIC: keeps what it is given, as long as it has room.
#[derive(Debug, Default)]
pub struct Nic {
    slot: PeerSlot,
    offloads: Offloads,
    state: Mutex<NicState>,
}

#[derive(Debug, Default)]
struct NicState {
    room: usize,
    frames: Vec<(Vec<u8>, FrameMeta)>,
    link: Vec<bool>,
    ready_calls: usize,
}

impl Nic {
    pub fn new(room: usize, offloads: Offloads) -> Arc<Self> {
        let state = NicState { room, ..NicState::default() };
        Arc::new(Self { offloads, state: Mutex::new(state), ..Self::default() })
    }

    /// A NIC with room for everything, plugged into `tap`.
    pub fn plugged(tap: &Arc<Tap>) -> Arc<Self> {
        let nic = Self::new(usize::MAX, Offloads::default());
        nic.plug(tap);
        nic
    }

    pub fn plug(self: &Arc<Self>, tap: &Arc<Tap>) {
        let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (self.clone(), tap.clone());
        minivmm::netport::join(&a, &b);
    }

    pub fn frames(&self) -> Vec<(Vec<u8>, FrameMeta)> {
        self.state.lock().unwrap().frames.clone()
    }

    /// UDP payloads to this port that came in, in order.
    pub fn udp_payloads(&self, port: u16) -> Vec<Vec<u8>> {
        let is_udp = |f: &[u8]| f.len() >= 42 && f[12..14] == [8, 0] && f[23] == 17;
        let to_port = |f: &[u8]| f[36..38] == port.to_be_bytes();
        let payload = |f: &[u8]| f[42..34 + usize::from(u16::from_be_bytes([f[38], f[39]]))].to_vec();
        let frames = self.frames();
        frames.iter().filter(|(f, _)| is_udp(f) && to_port(f)).map(|(f, _)| payload(f)).collect()
    }

    pub fn ready_calls(&self) -> usize {
        self.state.lock().unwrap().ready_calls
    }

    pub fn link_changes(&self) -> Vec<bool> {
        self.state.lock().unwrap().link.clone()
    }

    /// Makes room for so many frames more, and says so.
    pub fn make_room(&self, frames: usize) {
        let mut state = self.state.lock().unwrap();
        state.room += frames;
        drop(state);
        self.slot.ready();
    }

    pub fn send(&self, frame: &[u8]) -> Delivery {
        self.slot.send(&Frame::whole(frame))
    }
}

impl FramePort for Nic {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let mut state = self.state.lock().unwrap();
        if state.room == 0 {
            return Delivery::Full;
        }
        state.room -= 1;
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        state.frames.push((bytes, frame.meta));
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        self.offloads
    }

    fn peer_ready(&self) {
        self.state.lock().unwrap().ready_calls += 1;
    }

    fn peer_link(&self, up: bool) {
        self.state.lock().unwrap().link.push(up);
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

/// A NIC and a backend that a line of options made, joined as the machine joins them.
pub struct Cable {
    pub nic: Arc<Nic>,
    pub backend: Arc<dyn Backend>,
    network: Network,
    pub host: Host,
}

impl Cable {
    /// `-netdev LINE` with id=n0, and a NIC that has room for everything.
    pub fn new(line: &str) -> Self {
        Self::with_room(line, usize::MAX)
    }

    pub fn with_room(line: &str, room: usize) -> Self {
        Self::try_new(line, room).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_new(line: &str, room: usize) -> Result<Self, String> {
        let words = ["-kernel", "k", "-netdev", line].map(Into::into);
        let config = match minivmm::cli::parse(words.into_iter()) {
            Ok(minivmm::cli::Command::Run(config)) => config,
            other => panic!("{line}: {other:?}"),
        };
        let host = Host::new();
        let (events, notices) = (host.events.clone(), host.notices.clone());
        let network = Network::new(Surroundings::new(events, notices));
        network.add_netdev(&config.netdevs[0]).map_err(|error| error.to_string())?;
        let nic = Nic::new(room, Offloads::default());
        let netdev = Some("n0".into());
        let mac = [2, 0, 0, 0, 0, 1];
        let end = NicEnd { id: Some("nic".into()), model: "test", mac, port: nic.clone(), netdev };
        network.add_nic(end).expect("both are free");
        let backend = network.netdev("n0").expect("just added");
        Ok(Self { nic, backend, network, host })
    }

    /// Sends a frame, waiting for room.
    pub fn send_patiently(&self, frame: &[u8]) {
        eventually("there is room", || match self.nic.send(frame) {
            Delivery::Full => false,
            outcome => {
                assert_eq!(outcome, Delivery::Taken);
                true
            }
        });
    }
}

impl Drop for Cable {
    /// Ends of a cable hold each other.
    fn drop(&mut self) {
        let _ = self.network.unplug("nic");
        let _ = self.network.remove_netdev("n0");
    }
}

/// An Ethernet, IPv4 and UDP frame with correct checksums (UDP's is 0: none).
pub fn udp_frame(to: ([u8; 6], [u8; 4], u16), from: ([u8; 6], [u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    ip.extend(from.1);
    ip.extend(to.1);
    let mut sum: u32 = ip.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut frame = [&to.0[..], &from.0, &[8, 0], &ip].concat();
    for word in [from.2, to.2, 8 + payload.len() as u16, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// The MAC address of an interface of this namespace.
pub fn mac_of(ifname: &str) -> [u8; 6] {
    let text = sh(&format!("ip -o link show dev {ifname}"));
    let mac = text.split("link/ether ").nth(1).expect("a MAC").split(' ').next().expect("a word");
    let bytes: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    bytes.try_into().expect("six bytes")
}

/// A scratch directory that everybody may enter, with our own program in it for other users to run.
pub fn public_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    sh(&format!("chmod 755 {}", dir.path().display()));
    dir
}

/// Writes an executable script.
pub fn script(dir: &Path, name: &str, body: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a file");
    sh(&format!("chmod 755 {}", path.display()));
    path
}

/// Processor time of this process so far.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
