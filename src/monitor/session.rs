//! One monitor: a thread that waits for what its client types and for what happens, and the protocol on it.
//!
//! The event loop's thread puts input into the inbox, whoever raises an event puts that in, the session's thread
//! takes both out in order, and answers through the character device. Both kinds are bounded: input that finds no
//! room stays with the device, and a client that does not read its events loses the newest.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::events::{Event, Events, Listener};
use crate::failures::Failures;
use crate::sys::chardev::{CharDevice, CharReceiver};

/// Input that waits, in bytes.
const INPUT: usize = 64 << 10;
/// Events that wait.
const EVENTS: usize = 4096;
/// How long the last command may take at the end.
const LAST_COMMAND: Duration = Duration::from_secs(2);

/// What is spoken on a session. Called on the session's thread only; what is to be said goes into `out`.
pub trait Protocol: Send {
    /// A client is there (on a shared terminal: has been switched to).
    fn opened(&mut self, out: &mut Vec<u8>);

    /// Input.
    fn input(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]));

    /// Something happened.
    fn happened(&mut self, event: &Event, text: &str, out: &mut Vec<u8>);

    /// The client has gone.
    fn closed(&mut self);
}

#[derive(Debug)]
enum Item {
    Opened,
    Input(Vec<u8>),
    Happened(Event, Arc<str>),
    Closed,
}

#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    input: usize,
    events: usize,
    /// Input was turned away.
    full: bool,
    over: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let result = f(&mut self.lock());
        self.arrived.notify_all();
        result
    }

    /// The next item, and whether the device is to be told that there is room; None at the end.
    fn next(&self) -> Option<(Item, bool)> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                match &item {
                    Item::Input(bytes) => state.input -= bytes.len(),
                    Item::Happened(..) => state.events -= 1,
                    Item::Opened | Item::Closed => {}
                }
                let room = std::mem::take(&mut state.full);
                return Some((item, room));
            }
            if state.over {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Listener for Inbox {
    fn happened(&self, event: &Event, text: &Arc<str>) {
        self.change(|state| {
            if state.events < EVENTS && !state.over {
                state.events += 1;
                state.items.push_back(Item::Happened(event.clone(), text.clone()));
            }
        });
    }
}

/// The inbox as the character device sees it.
struct Receiver(Arc<Inbox>);

impl CharReceiver for Receiver {
    fn receive(&self, bytes: &[u8]) -> usize {
        self.0.change(|state| {
            let taken = bytes.len().min(INPUT - state.input);
            if taken > 0 {
                state.input += taken;
                state.items.push_back(Item::Input(bytes[..taken].to_vec()));
            }
            state.full = taken < bytes.len();
            taken
        })
    }

    /// A break means nothing to a monitor.
    fn receive_break(&self) {}

    fn opened(&self) {
        self.0.change(|state| state.items.push_back(Item::Opened));
    }

    /// The next client waits until the answers to this one's last commands are out of the way.
    fn closed(&self) -> bool {
        self.0.change(|state| state.items.push_back(Item::Closed));
        false
    }
}

/// A running monitor. Dropping it answers what was asked so far, and ends it.
#[derive(Debug)]
pub struct Session {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Starts `protocol` on `device`. A panic in it is told to `failures`; the client hears nothing more then.
    ///
    /// # Errors
    /// The host's, when it gives no thread.
    pub fn start(
        device: Arc<dyn CharDevice>,
        events: &Events,
        failures: &Failures,
        mut protocol: Box<dyn Protocol>,
    ) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let listener: Arc<dyn Listener> = inbox.clone();
        events.listen(Arc::downgrade(&listener));
        let (work, line) = (inbox.clone(), device.clone());
        let body = move || {
            while let Some((item, room)) = work.next() {
                if room {
                    line.input_ready();
                }
                serve(item, &mut *protocol, &*line);
            }
        };
        let thread = failures.spawn("monitor", body)?;
        device.start(Box::new(Receiver(inbox.clone())));
        Ok(Self { inbox, thread: Some(thread) })
    }
}

fn serve(item: Item, protocol: &mut dyn Protocol, device: &dyn CharDevice) {
    let mut out = Vec::new();
    match item {
        Item::Opened => protocol.opened(&mut out),
        Item::Input(bytes) => protocol.input(&bytes, &mut |answer| device.write(answer)),
        Item::Happened(event, text) => protocol.happened(&event, &text, &mut out),
        Item::Closed if device.has_clients() => {
            protocol.closed();
            device.next_client();
        }
        // Who has no more to say may still listen.
        Item::Closed => {}
    }
    if !out.is_empty() {
        device.write(&out);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inbox.change(|state| state.over = true);
        let Some(thread) = self.thread.take() else { return };
        let begin = Instant::now();
        while !thread.is_finished() && begin.elapsed() < LAST_COMMAND {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A command that is stuck (a script that hangs) does not keep the run from ending.
        if thread.is_finished() {
            // Its panic, if any, has been printed.
            thread.join().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes; remembers what it heard.
    #[derive(Debug, Default)]
    struct Line {
        receiver: Mutex<Option<Box<dyn CharReceiver>>>,
        said: Mutex<Vec<u8>>,
        next: std::sync::atomic::AtomicU32,
    }

    impl std::fmt::Debug for Box<dyn CharReceiver> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("CharReceiver")
        }
    }

    impl CharDevice for Line {
        fn write(&self, bytes: &[u8]) {
            self.said.lock().unwrap().extend_from_slice(bytes);
        }

        fn input_ready(&self) {}

        fn start(&self, receiver: Box<dyn CharReceiver>) {
            *self.receiver.lock().unwrap() = Some(receiver);
        }

        fn has_clients(&self) -> bool {
            true
        }

        fn next_client(&self) {
            self.next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    struct Echo(Duration);

    impl Protocol for Echo {
        fn opened(&mut self, out: &mut Vec<u8>) {
            out.push(b'<');
        }

        fn input(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
            std::thread::sleep(self.0);
            out(bytes);
        }

        fn happened(&mut self, event: &Event, _: &str, out: &mut Vec<u8>) {
            out.extend_from_slice(event.name().as_bytes());
        }

        fn closed(&mut self) {}
    }

    #[test]
    fn everything_comes_in_order_and_is_answered_before_the_end() {
        let (line, events) = (Arc::new(Line::default()), Events::default());
        let echo = Box::new(Echo(Duration::from_millis(5)));
        let failures = Failures::new(|what| panic!("{what}"));
        let session = Session::start(line.clone(), &events, &failures, echo).unwrap();
        {
            let receiver = line.receiver.lock().unwrap();
            let receiver = receiver.as_ref().unwrap();
            receiver.opened();
            assert_eq!(receiver.receive(b"ab"), 2);
            events.raise(&Event::Stop);
            assert_eq!(receiver.receive(b"c"), 1);
            assert!(!receiver.closed());
        }
        drop(session);
        assert_eq!(*line.said.lock().unwrap(), b"<abSTOPc");
        assert_eq!(line.next.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    struct Broken;

    impl Protocol for Broken {
        fn opened(&mut self, _: &mut Vec<u8>) {}

        fn input(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {
            panic!("no such protocol");
        }

        fn happened(&mut self, _: &Event, _: &str, _: &mut Vec<u8>) {}

        fn closed(&mut self) {}
    }

    #[test]
    fn a_protocol_s_panic_is_told_and_does_not_keep_the_end() {
        let (line, events) = (Arc::new(Line::default()), Events::default());
        let (sender, told) = std::sync::mpsc::channel();
        let failures = Failures::new(move |what| sender.send(what).unwrap());
        let session = Session::start(line.clone(), &events, &failures, Box::new(Broken)).unwrap();
        let receive = |bytes: &[u8]| line.receiver.lock().unwrap().as_ref().unwrap().receive(bytes);
        assert_eq!(receive(b"x"), 1);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), "monitor: panic: no such protocol");
        receive(b"nobody reads this");
        drop(session);
    }

    #[test]
    fn input_and_events_are_bounded() {
        let inbox = Arc::new(Inbox::default());
        let receiver = Receiver(inbox.clone());
        assert_eq!(receiver.receive(&[0; INPUT - 1]), INPUT - 1);
        assert_eq!(receiver.receive(&[0; 5]), 1);
        assert_eq!(receiver.receive(&[0; 5]), 0);
        for _ in 0..EVENTS + 10 {
            inbox.happened(&Event::Stop, &"".into());
        }
        assert_eq!(inbox.lock().events, EVENTS);
        assert!(inbox.next().is_some_and(|(_, room)| room), "the device is told of the room");
        assert!(inbox.next().is_some_and(|(_, room)| !room));
        assert_eq!(receiver.receive(&[0; 5]), 5);
    }
}
