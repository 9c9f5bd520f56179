//! Serial lines on real files: a pseudo-terminal, pipes, sockets.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, OutputModes, tcgetattr};

use super::*;
use crate::event::EventLoop;

const SOON: Duration = Duration::from_secs(10);

/// A guest whose UART has room for so many bytes.
#[derive(Debug)]
struct Guest {
    room: AtomicUsize,
    got: Mutex<Vec<u8>>,
    breaks: AtomicUsize,
}

impl Guest {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room: room.into(), got: Mutex::default(), breaks: AtomicUsize::new(0) })
    }

    fn got(&self) -> Vec<u8> {
        self.got.lock().unwrap().clone()
    }
}

impl CharReceiver for Arc<Guest> {
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut got = self.got.lock().unwrap();
        let taken = bytes.len().min(self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(taken, Ordering::SeqCst);
        got.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn receive_break(&self) {
        self.breaks.fetch_add(1, Ordering::SeqCst);
    }
}

struct Host {
    context: CharContext,
    quits: Arc<AtomicUsize>,
    said: Arc<Mutex<Vec<String>>>,
    _event_loop: EventLoop,
}

fn host() -> Host {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (quits, said) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (quit, sink) = (quits.clone(), said.clone());
    let context = CharContext {
        option: "-serial",
        events,
        clock: MonotonicClock::new(),
        notices: Notices::new(move |line| sink.lock().unwrap().push(line.to_owned())),
        quit: Arc::new(move || {
            quit.fetch_add(1, Ordering::SeqCst);
        }),
    };
    Host { context, quits, said, _event_loop: event_loop }
}

fn eventually(why: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !what() {
        assert!(Instant::now() < deadline, "never: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The user's side and the program's side of a pseudo-terminal. One test at a time: a process has one
/// terminal in raw mode.
fn pty() -> (std::sync::MutexGuard<'static, ()>, std::fs::File, OwnedFd) {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let program = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (guard, user.into(), program)
}

fn canonical(terminal: &OwnedFd) -> bool {
    tcgetattr(terminal)
        .unwrap()
        .local_modes
        .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

fn read_until(file: &mut std::fs::File, end: &str) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        file.read_exact(&mut byte).unwrap();
        text.push(byte[0].into());
    }
    text
}

#[test]
fn a_terminal_is_raw_while_the_guest_has_it_and_restored_after() {
    let (_one, mut user, program) = pty();
    let (host, guest) = (host(), Guest::new(usize::MAX));
    let stdio = Stdio::on(program.as_fd(), program.as_fd(), Use::Person, &host.context).unwrap();
    assert!(canonical(&program), "not before the machine starts");
    stdio.start(Box::new(guest.clone()));
    assert!(!canonical(&program));
    assert!(tcgetattr(&program).unwrap().output_modes.contains(OutputModes::OPOST));
    user.write_all(b"\x03\x1aa\r\x01\x01\x01b\x04").unwrap();
    eventually("keys arrive untouched", || guest.got() == b"\x03\x1aa\r\x01\x04");
    assert_eq!(guest.breaks.load(Ordering::SeqCst), 1);
    stdio.write(b"login: ");
    stdio.write(b"ok\n");
    assert_eq!(read_until(&mut user, "\n"), "login: ok\r\n");
    drop(stdio);
    assert!(canonical(&program));
    let flags = rustix::fs::fcntl_getfl(&program).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "others on this terminal must not notice");
}

#[test]
fn a_terminal_is_restored_before_a_panic_s_message() {
    let (_one, _user, program) = pty();
    let host = host();
    let stdio = Stdio::on(program.as_fd(), program.as_fd(), Use::Person, &host.context).unwrap();
    stdio.start(Box::new(Guest::new(0)));
    assert!(!canonical(&program));
    std::thread::spawn(|| panic!("a test's own panic")).join().unwrap_err();
    assert!(canonical(&program));
    super::super::terminal::continued();
    assert!(!canonical(&program), "raw again after a stop");
    super::super::terminal::restore();
    assert!(canonical(&program));
}

#[test]
fn ctrl_a_quits_helps_and_explains() {
    let (_one, mut user, program) = pty();
    let (host, guest) = (host(), Guest::new(usize::MAX));
    let stdio = Stdio::on(program.as_fd(), program.as_fd(), Use::Person, &host.context).unwrap();
    stdio.start(Box::new(guest.clone()));
    user.write_all(b"\x01h").unwrap();
    assert!(read_until(&mut user, "send Ctrl-A\r\n").contains("Ctrl-A x        end minivmm"));
    user.write_all(b"\x01c").unwrap();
    assert!(read_until(&mut user, ")\r\n").contains("not on this terminal"));
    assert_eq!(host.quits.load(Ordering::SeqCst), 0);
    user.write_all(b"\x01x").unwrap();
    eventually("quit", || host.quits.load(Ordering::SeqCst) == 1);
    assert_eq!(guest.got(), b"");
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time of the loop thread over a while.
fn loop_load(events: &EventHandle) -> Duration {
    let measure = || {
        let (sender, time) = std::sync::mpsc::channel();
        events.run(move || sender.send(cpu_time()).unwrap());
        time.recv_timeout(SOON).unwrap()
    };
    let before = measure();
    std::thread::sleep(Duration::from_millis(100));
    measure() - before
}

#[test]
fn the_end_of_input_neither_quits_nor_spins() {
    for regular in [false, true] {
        let (host, guest) = (host(), Guest::new(usize::MAX));
        let (from, to) = std::io::pipe().unwrap();
        let mut content = tempfile::tempfile().unwrap();
        let input = if regular {
            content.write_all(b"typed").unwrap();
            std::io::Seek::rewind(&mut content).unwrap();
            content.as_fd()
        } else {
            (&to).write_all(b"typed").unwrap();
            from.as_fd()
        };
        let null = std::fs::File::create("/dev/null").unwrap();
        let stdio = Stdio::on(input, null.as_fd(), Use::Person, &host.context).unwrap();
        drop(to);
        stdio.start(Box::new(guest.clone()));
        eventually("the input arrives", || guest.got() == b"typed");
        let load = loop_load(&host.context.events);
        assert!(load < Duration::from_millis(20), "{load:?}");
        assert_eq!(host.quits.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn dev_null_as_input_is_an_end_at_once() {
    let host = host();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let stdio = Stdio::on(null.as_fd(), null.as_fd(), Use::Person, &host.context).unwrap();
    stdio.start(Box::new(Guest::new(usize::MAX)));
    assert!(loop_load(&host.context.events) < Duration::from_millis(20));
}

#[test]
fn a_uart_without_room_loses_no_input() {
    let (host, guest) = (host(), Guest::new(0));
    let (from, to) = std::io::pipe().unwrap();
    let null = std::fs::File::create("/dev/null").unwrap();
    let stdio = Stdio::on(from.as_fd(), null.as_fd(), Use::Person, &host.context).unwrap();
    stdio.start(Box::new(guest.clone()));
    let typed: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8 + 2).collect();
    (&to).write_all(&typed).unwrap();
    let load = loop_load(&host.context.events);
    assert!(load < Duration::from_millis(20), "{load:?}");
    let deadline = Instant::now() + SOON;
    while guest.got().len() < typed.len() {
        assert!(Instant::now() < deadline, "{} bytes came", guest.got().len());
        guest.room.fetch_add(16, Ordering::SeqCst);
        stdio.input_ready();
    }
    assert_eq!(guest.got(), typed);
}

#[test]
fn a_slow_reader_slows_the_guest_and_loses_nothing() {
    let host = host();
    let (mut from, to) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let stdio = Stdio::on(null.as_fd(), to.as_fd(), Use::Person, &host.context).unwrap();
    drop(to);
    let sent: Vec<u8> = (0..400_000u32).map(|i| if i % 80 == 79 { b'\n' } else { (i / 80) as u8 }).collect();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut chunk = vec![0; 4096];
        loop {
            std::thread::sleep(Duration::from_millis(2));
            match from.read(&mut chunk).unwrap() {
                0 => return got,
                n => got.extend_from_slice(&chunk[..n]),
            }
        }
    });
    let begin = Instant::now();
    sent.chunks(10).for_each(|chunk| stdio.write(chunk));
    assert!(begin.elapsed() > Duration::from_millis(50), "the guest was held back");
    drop(stdio);
    drop(host);
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn nobody_waits_for_ever_for_a_reader_that_has_stopped() {
    let host = host();
    let (from, to) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let stdio = Stdio::on(null.as_fd(), to.as_fd(), Use::Person, &host.context).unwrap();
    drop(to);
    stdio.write(&vec![b'x'; 200_000]);
    let begin = Instant::now();
    stdio.write(b"y");
    let held = begin.elapsed();
    assert!((Duration::from_millis(90)..Duration::from_millis(1000)).contains(&held), "{held:?}");
    drop(from);
    eventually("the loss is told", || !host.said.lock().unwrap().is_empty());
    let said = host.said.lock().unwrap().clone();
    assert!(said.len() == 1 && said[0].starts_with("standard output: Broken pipe"), "{said:?}");
    stdio.write(b"into the void");
}

#[test]
fn output_without_a_line_end_comes_within_milliseconds() {
    let host = host();
    let (mut from, to) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let stdio = Stdio::on(null.as_fd(), to.as_fd(), Use::Person, &host.context).unwrap();
    stdio.write(b"# ");
    let mut got = [0; 2];
    from.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"# ");
}

#[test]
fn a_file_gets_everything() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let path = dir.path().join("serial.log");
    let line = open(&Chardev::File(path.clone()), &host.context).unwrap().unwrap();
    line.start(Box::new(Guest::new(0)));
    line.write(b"one\ntwo");
    drop(line);
    assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo");
    let missing = dir.path().join("no/such");
    let error = open(&Chardev::File(missing.clone()), &host.context).unwrap_err().to_string();
    assert!(error.starts_with(&format!("-serial file:{}: No such file", missing.display())), "{error}");
    assert!(open(&Chardev::None, &host.context).unwrap().is_none());
    assert!(open(&Chardev::Null, &host.context).unwrap().is_some());
}

fn unix(path: &std::path::Path, server: bool, wait: bool) -> Chardev {
    Chardev::Unix { path: path.to_owned(), server, wait }
}

#[test]
fn a_unix_server_serves_one_client_after_the_other() {
    let (host, dir, guest) = (host(), tempfile::tempdir().unwrap(), Guest::new(usize::MAX));
    let path = dir.path().join("ttyS1");
    // A dead server's socket is in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let line = open(&unix(&path, true, false), &host.context).unwrap().unwrap();
    line.start(Box::new(guest.clone()));
    line.write(b"nobody hears this\n");
    for i in 0..3u8 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&[b'0' + i]).unwrap();
        eventually("input", || guest.got().len() == usize::from(i) + 1);
        line.write(format!("hello {i}\n").as_bytes());
        let mut got = [0; 8];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, format!("hello {i}\n").as_bytes());
    }
    assert_eq!(guest.got(), b"012");
    let error = open(&unix(&path, true, false), &host.context).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "-serial unix:{}: cannot listen: Address already in use (os error 98); somebody is there already: choose \
             another place",
            path.display()
        )
    );
    drop(line);
    eventually("the socket is removed", || !path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(open(&unix(&path, true, false), &host.context).is_err(), "a file that is no socket stays");
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[test]
fn a_server_that_waits_starts_with_its_client_and_a_client_needs_a_server() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let path = dir.path().join("ttyS0");
    let error = open(&unix(&path, false, false), &host.context).unwrap_err().to_string();
    assert!(error.contains("cannot connect: No such file"), "{error}");
    assert!(error.ends_with("; start the other side first, or add server=on to listen there"), "{error}");
    let server = std::thread::scope(|scope| {
        let server = scope.spawn(|| open(&unix(&path, true, true), &host.context).unwrap().unwrap());
        eventually("it listens", || path.exists());
        let client = open(&unix(&path, false, false), &host.context).unwrap().unwrap();
        let (server, guest) = (server.join().unwrap(), Guest::new(usize::MAX));
        server.start(Box::new(guest.clone()));
        client.write(b"to the server\n");
        eventually("the server hears", || guest.got() == b"to the server\n");
        server
    });
    assert!(host.said.lock().unwrap()[0].starts_with("waiting for a connection to -serial unix:"));
    drop(server);
}
