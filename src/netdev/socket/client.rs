//! The connecting side of a stream: the first attempt, and those after a connection was lost.
//!
//! The first attempt of a client without `reconnect` is waited for, up to [`PATIENCE`]; all others run on the
//! event loop and never block it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketType, connect, sockopt};

use super::address::{self, HostAddress};
use super::error::SocketError;
use super::stream::Stream;
use crate::event::{EventHandle, FdHandler, HostTimer, Ready, Watch};
use crate::time::{Clock, MonotonicClock};

/// How long the first attempt may take for each address.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where to connect to, and the attempt that is under way.
#[derive(Debug)]
pub struct Client {
    to: Vec<HostAddress>,
    reconnect: Option<Duration>,
    keep_alive: bool,
    events: EventHandle,
    timer: Arc<HostTimer>,
    this: Weak<Self>,
    stream: OnceLock<Weak<Stream>>,
    /// Touched on the loop thread only.
    attempt: Mutex<Option<Attempt>>,
}

/// A connection in the making.
#[derive(Debug)]
struct Attempt {
    fd: Arc<OwnedFd>,
    /// Which of the addresses.
    number: usize,
    _watch: Watch,
}

impl Client {
    /// Prepares; nothing is connected yet.
    ///
    /// # Errors
    /// [`SocketError::Event`] when the host gives no timer.
    pub fn new(
        to: Vec<HostAddress>,
        reconnect: Option<Duration>,
        keep_alive: bool,
        events: &EventHandle,
    ) -> Result<Arc<Self>, SocketError> {
        let timer = HostTimer::new(events, &MonotonicClock::new())?;
        let (stream, attempt) = (OnceLock::new(), Mutex::new(None));
        let events = events.clone();
        let client = Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            Self { to, reconnect, keep_alive, events, timer, this, stream, attempt }
        });
        let this = client.this.clone();
        client.timer.on_wake(move || {
            if let Some(client) = this.upgrade() {
                client.try_from(0);
            }
        });
        Ok(client)
    }

    /// Connects and waits until that has succeeded or failed.
    ///
    /// # Errors
    /// [`SocketError::Connect`] with the last address's answer.
    pub fn connect_now(&self) -> Result<(OwnedFd, String), SocketError> {
        let connect = |to: &HostAddress| {
            match begin(to) {
                Ok((fd, true)) => Ok((fd, to.to_string())),
                Ok((fd, false)) => finish(fd).map(|fd| (fd, to.to_string())),
                Err(error) => Err(error),
            }
            .map_err(|error| SocketError::Connect { to: to.to_string(), error: error.into() })
        };
        let (first, others) = self.to.split_first().ok_or_else(SocketError::no_address)?;
        others.iter().fold(connect(first), |done, to| done.or_else(|_| connect(to)))
    }

    /// Names whom to give connections to, once.
    pub fn serve(&self, stream: &Arc<Stream>) {
        self.stream.get_or_init(|| Arc::downgrade(stream));
    }

    /// Tries to connect after so many nanoseconds, and from then on until it succeeds.
    pub fn retry_at(&self, delay_ns: u64) {
        self.timer.wake_at(self.timer.now_ns().saturating_add(delay_ns));
    }

    /// The connection was lost; what happens now, in words.
    pub fn lost(&self) -> String {
        self.again();
        self.reconnect.map(|time| format!("trying again every {time:?}")).unwrap_or_default()
    }

    /// For the user.
    pub fn target(&self) -> String {
        self.to.first().map(ToString::to_string).unwrap_or_default()
    }

    fn again(&self) {
        if let Some(time) = self.reconnect {
            self.retry_at(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Begins with address `number`, or with the first after it that does not refuse at once.
    fn try_from(&self, number: usize) {
        for (number, to) in self.to.iter().enumerate().skip(number) {
            let begun = match begin(to) {
                Ok((fd, true)) => return self.succeeded(fd, number),
                Ok((fd, false)) => self.wait_for(fd, number).is_ok(),
                Err(_) => false,
            };
            if begun {
                return;
            }
        }
        self.again();
    }

    fn wait_for(&self, fd: OwnedFd, number: usize) -> Result<(), SocketError> {
        let (fd, watch) = (Arc::new(fd), Watch::default());
        watch.want(|interest| interest.writable = true);
        watch.start(&self.events, fd.clone(), Arc::new(self.this.clone()))?;
        *self.attempt() = Some(Attempt { fd, number, _watch: watch });
        Ok(())
    }

    fn attempt(&self) -> std::sync::MutexGuard<'_, Option<Attempt>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self, fd: OwnedFd, number: usize) {
        let to = self.to.get(number).map(ToString::to_string).unwrap_or_default();
        if let Some(stream) = self.stream.get().and_then(Weak::upgrade) {
            stream.connected(fd, &to, self.keep_alive);
        }
    }
}

/// The attempt under way has succeeded or failed.
impl FdHandler for Client {
    fn ready(&self, _ready: Ready) {
        let Some(attempt) = self.attempt().take() else { return };
        let number = attempt.number;
        // The event loop still holds the descriptor that it watched; the stream gets one of its own.
        let outcome = result_of(&attempt.fd).and_then(|()| rustix::io::fcntl_dupfd_cloexec(&attempt.fd, 3));
        drop(attempt);
        match outcome {
            Ok(fd) => self.succeeded(fd, number),
            Err(_) => self.try_from(number + 1),
        }
    }
}

/// A socket on its way to `to`, and whether it has arrived.
fn begin(to: &HostAddress) -> rustix::io::Result<(OwnedFd, bool)> {
    let fd = address::open(to.addr.address_family(), SocketType::STREAM, None)?;
    match connect(&fd, &to.addr) {
        Ok(()) => Ok((fd, true)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, false)),
        Err(error) => Err(error),
    }
}

/// Waits for a connection in the making.
fn finish(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let arrived = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&patience))?;
    if arrived == 0 {
        return Err(Errno::TIMEDOUT);
    }
    result_of(&fd)?;
    Ok(fd)
}

/// Whether a connection in the making has become one. A TCP socket that connects to its own port while it tries
/// is none.
fn result_of(fd: &OwnedFd) -> rustix::io::Result<()> {
    sockopt::socket_error(fd)??;
    let name = |addr| SocketAddr::try_from(addr).ok();
    let ours = name(rustix::net::getsockname(fd)?);
    let theirs = rustix::net::getpeername(fd)?.and_then(name);
    if ours.is_some() && ours == theirs { Err(Errno::CONNREFUSED) } else { Ok(()) }
}
