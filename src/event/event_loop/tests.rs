//! The loop with pipes: what is watched is called, and only while it is wanted.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::event::Waker;

const SOON: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(30);

/// Sends what it reads to the test.
struct Echo {
    stream: UnixStream,
    heard: mpsc::Sender<(Ready, Vec<u8>)>,
}

impl FdHandler for Echo {
    fn ready(&self, ready: Ready) {
        let mut buf = [0; 64];
        let n = (&self.stream).read(&mut buf).unwrap_or(0);
        self.heard.send((ready, buf[..n].to_vec())).unwrap();
    }
}

struct Pair {
    events: EventHandle,
    event_loop: EventLoop,
    far: UnixStream,
    registration: Registration,
    heard: mpsc::Receiver<(Ready, Vec<u8>)>,
}

fn pair(interest: Interest) -> Pair {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let (sender, heard) = mpsc::channel();
    let handler = Arc::new(Echo { stream: near.try_clone().unwrap(), heard: sender });
    let registration = events.watch(Arc::new(near), interest, handler).unwrap();
    Pair { events, event_loop, far, registration, heard }
}

/// Waits until the loop has done all that it was asked for before.
fn settle(events: &EventHandle) {
    let (sender, done) = mpsc::channel();
    events.run(move || sender.send(()).unwrap());
    done.recv_timeout(SOON).unwrap();
}

#[test]
fn data_reaches_the_handler() {
    let mut p = pair(Interest::READ);
    p.far.write_all(b"hello").unwrap();
    let (ready, bytes) = p.heard.recv_timeout(SOON).unwrap();
    assert_eq!(bytes, b"hello");
    assert_eq!(ready, Ready { readable: true, writable: false, hangup: false });
}

#[test]
fn without_interest_nothing_is_called_not_even_for_a_hangup() {
    let Pair { events, mut far, registration, heard, event_loop: _loop } = pair(Interest::NONE);
    far.write_all(b"x").unwrap();
    drop(far);
    assert!(heard.recv_timeout(QUIET).is_err());
    registration.set_interest(Interest::READ);
    let (ready, bytes) = heard.recv_timeout(SOON).unwrap();
    assert_eq!((ready.hangup, bytes), (true, b"x".to_vec()));
    registration.set_interest(Interest::NONE);
    settle(&events);
    while heard.try_recv().is_ok() {}
    assert!(heard.recv_timeout(QUIET).is_err());
}

#[test]
fn writable_is_reported_when_asked_for() {
    let p = pair(Interest::WRITE);
    assert!(p.heard.recv_timeout(SOON).unwrap().0.writable);
}

#[test]
fn a_dropped_registration_is_silent_and_its_source_closed() {
    let Pair { events, far, registration, heard, event_loop } = pair(Interest::READ);
    drop(registration);
    settle(&events);
    // Both ends of the handler are gone: the far end sees the end of the stream.
    assert_eq!((&far).read(&mut [0; 1]).unwrap(), 0);
    assert!(heard.recv_timeout(QUIET).is_err());
    event_loop.join();
}

#[test]
fn closures_run_on_the_loop_thread_in_order() {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (sender, done) = mpsc::channel();
    for i in 0..100 {
        let (sender, handle) = (sender.clone(), events.clone());
        events.run(move || sender.send((i, handle.on_loop_thread())).unwrap());
    }
    let order: Vec<_> = (0..100).map(|_| done.recv_timeout(SOON).unwrap()).collect();
    assert_eq!(order, (0..100).map(|i| (i, true)).collect::<Vec<_>>());
    assert!(!events.on_loop_thread());
    event_loop.join();
    events.run(|| panic!("runs after the end"));
}

#[test]
fn a_thread_that_takes_the_loop_over_runs_the_handlers_until_it_gives_it_back() {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (sender, done) = mpsc::channel();
    let ask = |events: &EventHandle| {
        let sender = sender.clone();
        events.run(move || sender.send(thread::current().id()).unwrap());
    };
    events.take_over();
    assert!(events.on_loop_thread());
    ask(&events);
    assert!(done.recv_timeout(QUIET).is_err(), "the loop's thread runs on");
    events.work(true);
    assert_eq!(done.try_recv(), Ok(thread::current().id()));
    // Another thread ends the wait.
    let other = events.clone();
    let waker = thread::spawn(move || {
        thread::sleep(QUIET);
        other.wake();
    });
    events.work(true);
    waker.join().unwrap();
    events.give_back();
    ask(&events);
    assert_ne!(done.recv_timeout(SOON).unwrap(), thread::current().id());
    event_loop.join();
}

#[test]
fn a_loop_that_is_taken_over_can_be_ended() {
    let (event_loop, events) = EventLoop::start().unwrap();
    events.take_over();
    event_loop.join();
    events.work(true);
}

/// Watches and unwatches from inside a handler, and stops the loop from there.
#[test]
fn everything_may_be_done_from_inside_a_handler() {
    struct Busy {
        events: EventHandle,
        calls: AtomicUsize,
    }
    impl FdHandler for Busy {
        fn ready(&self, _ready: Ready) {
            let (near, _far) = UnixStream::pair().unwrap();
            let extra = self.events.watch(Arc::new(near), Interest::READ, Arc::new(Weak::<Busy>::new()));
            extra.unwrap().set_interest(Interest::NONE);
            if self.calls.fetch_add(1, Ordering::SeqCst) == 2 {
                self.events.stop();
            }
        }
    }
    let (event_loop, events) = EventLoop::start().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let busy = Arc::new(Busy { events: events.clone(), calls: AtomicUsize::new(0) });
    let _registration = events.watch(Arc::new(near), Interest::READ, busy.clone()).unwrap();
    far.write_all(b"x").unwrap();
    let deadline = std::time::Instant::now() + SOON;
    while !events.stopping() {
        assert!(std::time::Instant::now() < deadline, "the handler was not called");
        thread::yield_now();
    }
    event_loop.join();
    assert_eq!(busy.calls.load(Ordering::SeqCst), 3);
}

#[test]
fn files_that_cannot_be_waited_for_are_refused() {
    let (_loop, events) = EventLoop::start().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let handler = Arc::new(Weak::<Echo>::new());
    let refused = events.watch(Arc::new(null), Interest::READ, handler.clone());
    assert!(matches!(refused, Err(EventError::NotPollable)));
    struct Closed;
    impl AsRawFd for Closed {
        fn as_raw_fd(&self) -> RawFd {
            -1
        }
    }
    assert!(matches!(events.watch(Arc::new(Closed), Interest::READ, handler), Err(EventError::Watch(_))));
}

#[test]
fn wakes_are_never_lost_and_may_be_merged() {
    let (_loop, events) = EventLoop::start().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let waker = {
        let (seen, asked) = (seen.clone(), asked.clone());
        Waker::new(&events, move || seen.store(asked.load(Ordering::SeqCst), Ordering::SeqCst)).unwrap()
    };
    for i in 1..=10_000 {
        asked.store(i, Ordering::SeqCst);
        waker.wake();
    }
    let deadline = std::time::Instant::now() + SOON;
    while seen.load(Ordering::SeqCst) != 10_000 {
        assert!(std::time::Instant::now() < deadline, "a wake was lost");
        thread::yield_now();
    }
}

/// Panics whenever it is called.
struct Broken;

impl FdHandler for Broken {
    fn ready(&self, _: Ready) {
        panic!("a handler's own");
    }
}

#[test]
fn a_panic_is_told_once_and_everybody_else_is_served() {
    let (sender, told) = mpsc::channel();
    let failures = Failures::new(move |what| sender.send(what).unwrap());
    let (event_loop, events) = EventLoop::start_guarded(failures).unwrap();
    let (broken, mut far_of_broken) = UnixStream::pair().unwrap();
    let _broken = events.watch(Arc::new(broken), Interest::READ, Arc::new(Broken)).unwrap();
    far_of_broken.write_all(b"never read").unwrap();
    assert_eq!(told.recv_timeout(SOON).unwrap(), "event loop: panic: a handler's own");
    events.run(|| panic!("a request's own"));
    assert_eq!(told.recv_timeout(SOON).unwrap(), "event loop: panic: a request's own");

    let (near, mut far) = UnixStream::pair().unwrap();
    let (sender, heard) = mpsc::channel();
    let handler = Arc::new(Echo { stream: near.try_clone().unwrap(), heard: sender });
    let _good = events.watch(Arc::new(near), Interest::READ, handler).unwrap();
    far.write_all(b"still there").unwrap();
    assert_eq!(heard.recv_timeout(SOON).unwrap().1, b"still there");
    // Also when another thread runs the loop.
    events.take_over();
    events.run(|| panic!("elsewhere"));
    while told.try_recv().map_or(true, |what| what != "event loop: panic: elsewhere") {
        events.work(false);
    }
    events.give_back();
    event_loop.join();
    assert!(told.try_recv().is_err(), "the broken handler was called again");
}
