//! One thread that waits for file descriptors and calls their handlers, one at a time.
//!
//! Callers: network backends, serial lines, timers, signals. Built on event-manager; its remote endpoint
//! carries every change of the watched set to the loop thread, so all calls here work from any thread, also
//! from inside a handler, and changes take effect in the order in which they were asked for.
//!
//! An idle CPU in software runs the loop itself ([`EventHandle::take_over`]), which spares it being woken by another
//! thread; the loop's own thread sleeps meanwhile.
//!
//! A handler that panics is told to whoever ends the run, and not called again; the loop goes on, since the way out needs
//! it (signals, monitors' answers).
//!
//! A descriptor without interest is taken out of the epoll set altogether: epoll reports errors and hang-ups
//! even to those who wait for nothing, and a paused descriptor must not spin.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, RemoteEndpoint, SubscriberId, SubscriberOps,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent};

use crate::failures::Failures;

/// Why the event loop could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The host gave no epoll descriptor, eventfd or thread.
    #[error("cannot start the event loop: {0}")]
    Start(String),
    /// The descriptor cannot be waited for (a regular file, /dev/null): it is always ready.
    #[error("this file cannot be waited for")]
    NotPollable,
    /// The kernel refused to watch the descriptor.
    #[error("cannot watch a file descriptor: {0}")]
    Watch(io::Error),
}

/// What a handler wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Data to read, or the end of it.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
}

impl Interest {
    /// Nothing, not even errors.
    pub const NONE: Self = Self { readable: false, writable: false };
    /// Only reading.
    pub const READ: Self = Self { readable: true, writable: false };
    /// Only writing.
    pub const WRITE: Self = Self { readable: false, writable: true };

    fn events(self) -> EventSet {
        let mut set = EventSet::empty();
        set.set(EventSet::IN, self.readable);
        set.set(EventSet::OUT, self.writable);
        set
    }
}

/// What a descriptor is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// A read will not block (also at the end of the data and on errors).
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The other side is gone or the descriptor is broken: a handler that stays interested spins.
    pub hangup: bool,
}

impl Ready {
    fn from_events(set: EventSet) -> Self {
        let hangup = set.intersects(EventSet::HANG_UP | EventSet::ERROR);
        Self { readable: set.contains(EventSet::IN) || hangup, writable: set.contains(EventSet::OUT), hangup }
    }
}

/// Something that is called when its descriptor is ready. Always on the loop thread, never two at a time.
pub trait FdHandler: Send + Sync {
    /// The descriptor is ready. Level-triggered: comes again as long as it stays ready.
    fn ready(&self, ready: Ready);
}

/// A handler that does not keep its owner alive: the owner holds the [`Registration`].
impl<T: FdHandler> FdHandler for Weak<T> {
    fn ready(&self, ready: Ready) {
        if let Some(owner) = self.upgrade() {
            owner.ready(ready);
        }
    }
}

/// Anything with a descriptor that the loop may hold. The loop keeps it open until it no longer watches it.
pub trait Source: AsRawFd + Send + Sync {}
impl<T: AsRawFd + Send + Sync> Source for T {}

struct Watched {
    source: Arc<dyn Source>,
    handler: Arc<dyn FdHandler>,
    interest: Interest,
    failures: Option<Failures>,
}

/// Brings the epoll set from `old` to `new` interest in `fd`.
fn change(fd: RawFd, old: Interest, new: Interest, ops: &mut EventOps<'_>) -> event_manager::Result<()> {
    match (old == Interest::NONE, new == Interest::NONE) {
        _ if old == new => Ok(()),
        (true, _) => ops.add(Events::new_raw(fd, new.events())),
        (_, true) => ops.remove(Events::new_raw(fd, old.events())),
        _ => ops.modify(Events::new_raw(fd, new.events())),
    }
}

impl MutEventSubscriber for Watched {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let ready = Ready::from_events(events.event_set());
        if guarded(self.failures.as_ref(), || self.handler.ready(ready)).is_none() {
            // It would panic again: what made it ready is still there. If the descriptor cannot be taken out, it does.
            let fd = self.source.as_raw_fd();
            if change(fd, self.interest, Interest::NONE, ops).is_ok() {
                self.interest = Interest::NONE;
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let fd = self.source.as_raw_fd();
        if change(fd, Interest::NONE, self.interest, ops).is_err() {
            self.interest = Interest::NONE;
        }
    }
}

/// Does `work` of a handler. None after a panic, which goes on where nobody is to be told.
fn guarded<R>(failures: Option<&Failures>, work: impl FnOnce() -> R) -> Option<R> {
    match failures {
        Some(failures) => failures.catch("event loop", work),
        None => Some(work()),
    }
}

struct Shared {
    stop: AtomicBool,
    failures: Option<Failures>,
    /// None once the loop is over. Whoever runs the loop holds the lock while it waits and while handlers run.
    manager: Mutex<Option<EventManager<Watched>>>,
    /// The thread that runs the loop.
    runner: Mutex<Option<ThreadId>>,
    /// Whether that is not the loop's own: see [`EventHandle::take_over`]. Lock order: alone.
    taken: Mutex<bool>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits until something is ready, if `wait`, and calls the handlers of all that is.
    fn work(&self, wait: bool) {
        if let Some(manager) = lock(&self.manager).as_mut() {
            let done = if wait { manager.run() } else { manager.run_with_timeout(0) };
            if let Err(error) = done {
                // epoll_wait fails only for a broken set; there is nothing to wait for any more.
                panic!("event loop: {error}");
            }
        }
    }
}

/// Access to a running loop from any thread. Clones are the same loop.
#[derive(Clone)]
pub struct EventHandle {
    remote: RemoteEndpoint<Watched>,
    shared: Arc<Shared>,
}

impl fmt::Debug for EventHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandle").field("stopping", &self.stopping()).finish_non_exhaustive()
    }
}

impl EventHandle {
    /// Watches `source` until the returned registration is dropped, and calls `handler` on the loop thread.
    /// Takes effect soon after, also when called from a handler.
    ///
    /// # Errors
    /// [`EventError::NotPollable`] for files that are always ready, [`EventError::Watch`] for a bad
    /// descriptor.
    pub fn watch(
        &self,
        source: Arc<dyn Source>,
        interest: Interest,
        handler: Arc<dyn FdHandler>,
    ) -> Result<Registration, EventError> {
        check_watchable(&*source)?;
        let id = Arc::new(OnceLock::new());
        let slot = id.clone();
        let failures = self.shared.failures.clone();
        self.fire(move |ops| {
            let id = ops.add_subscriber(Watched { source, handler, interest, failures });
            slot.get_or_init(|| id);
        });
        Ok(Registration { handle: self.clone(), id })
    }

    /// Runs `work` on the loop thread, after everything asked for before. Never inside this call. Once the
    /// loop has stopped, `work` is dropped without being run.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        let failures = self.shared.failures.clone();
        self.fire(move |_| guarded(failures.as_ref(), work).unwrap_or_default());
    }

    /// Ends the loop after the handlers that are ready now. Callable more than once and from a handler.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.taken));
        self.shared.changed.notify_all();
        self.fire(|_| ());
    }

    /// Whether [`Self::stop`] was called.
    pub fn stopping(&self) -> bool {
        self.shared.stopping()
    }

    /// Whether the caller is the loop thread, or has taken the loop over.
    pub fn on_loop_thread(&self) -> bool {
        *lock(&self.shared.runner) == Some(thread::current().id())
    }

    /// From now on the loop runs on the caller's thread, in [`Self::work`], and the loop's own thread sleeps. Returns
    /// when the handler that is running has ended. One thread at a time; never from a handler.
    pub fn take_over(&self) {
        *lock(&self.shared.taken) = true;
        // The loop's thread comes out of its wait, sees that it is not wanted, and lets go of the manager.
        self.fire(|_| ());
        drop(lock(&self.shared.manager));
        *lock(&self.shared.runner) = Some(thread::current().id());
    }

    /// Ends [`Self::take_over`].
    pub fn give_back(&self) {
        *lock(&self.shared.runner) = None;
        *lock(&self.shared.taken) = false;
        self.shared.changed.notify_all();
    }

    /// For the thread that has taken the loop over: calls the handlers of all that is ready, once; waits for
    /// something to be ready, if `wait`. [`Self::wake`] ends the wait.
    pub fn work(&self, wait: bool) {
        self.shared.work(wait);
    }

    /// Ends the wait of the thread that runs the loop; nothing when the caller is that thread.
    pub fn wake(&self) {
        if !self.on_loop_thread() {
            self.fire(|_| ());
        }
    }

    fn fire(&self, f: impl FnOnce(&mut dyn SubscriberOps<Subscriber = Watched>) + Send + 'static) {
        // Fails only when the loop is gone, and with it everything that the request could have meant.
        let _ = self.remote.fire(f);
    }
}

/// Tries the descriptor on an epoll set of its own, so that the caller hears of a refusal.
fn check_watchable(source: &dyn Source) -> Result<(), EventError> {
    let probe = Epoll::new().map_err(EventError::Watch)?;
    let event = EpollEvent::new(EventSet::empty(), 0);
    probe.ctl(ControlOperation::Add, source.as_raw_fd(), event).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => EventError::NotPollable,
        _ => EventError::Watch(error),
    })
}

/// A watched descriptor; dropping it ends the watch. The handler may still be running, or run once more,
/// while another thread drops it.
pub struct Registration {
    handle: EventHandle,
    id: Arc<OnceLock<SubscriberId>>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.id.get()).finish_non_exhaustive()
    }
}

impl Registration {
    /// Changes what the handler hears of.
    pub fn set_interest(&self, new: Interest) {
        let id = self.id.clone();
        self.handle.fire(move |ops| {
            let Some(&id) = id.get() else { return };
            let Ok(watched) = ops.subscriber_mut(id) else { return };
            let (fd, old) = (watched.source.as_raw_fd(), watched.interest);
            // The descriptor was found watchable and is kept open, so only the host's limit on watches
            // (fs.epoll.max_user_watches) can refuse; the recorded interest then stays and the next
            // change tries again.
            let changed = ops.event_ops(id).and_then(|mut ops| change(fd, old, new, &mut ops));
            if let (Ok(()), Ok(watched)) = (changed, ops.subscriber_mut(id)) {
                watched.interest = new;
            }
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let id = self.id.clone();
        self.handle.fire(move |ops| {
            if let Some(&id) = id.get() {
                // Cannot fail: nobody else removes it. The source is closed after it left the epoll set.
                drop(ops.remove_subscriber(id));
            }
        });
    }
}

/// The loop itself: owns the thread.
#[derive(Debug)]
pub struct EventLoop {
    handle: EventHandle,
    thread: Option<JoinHandle<()>>,
}

impl EventLoop {
    /// Starts the thread. A handler's panic ends it, and goes on in [`Self::join`].
    ///
    /// # Errors
    /// [`EventError::Start`] when the host is out of descriptors or threads.
    pub fn start() -> Result<(Self, EventHandle), EventError> {
        Self::start_with(None)
    }

    /// Starts the thread; panics are told to `failures`, and only the handler that panicked is not called any more.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_guarded(failures: Failures) -> Result<(Self, EventHandle), EventError> {
        Self::start_with(Some(failures))
    }

    fn start_with(failures: Option<Failures>) -> Result<(Self, EventHandle), EventError> {
        let manager = EventManager::new().map_err(|e| EventError::Start(e.to_string()))?;
        let remote = manager.remote_endpoint();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            failures,
            manager: Mutex::new(Some(manager)),
            runner: Mutex::default(),
            taken: Mutex::default(),
            changed: Condvar::new(),
        });
        let handle = EventHandle { remote, shared: shared.clone() };
        let thread = thread::Builder::new()
            .name("event-loop".into())
            .spawn(move || run(&shared))
            .map_err(|e| EventError::Start(e.to_string()))?;
        Ok((Self { handle: handle.clone(), thread: Some(thread) }, handle))
    }

    /// Access to the loop.
    #[cfg(test)]
    pub fn handle(&self) -> &EventHandle {
        &self.handle
    }

    /// Stops the loop, waits for its thread, and closes every watched source that nobody else holds.
    ///
    /// # Panics
    /// Goes on with the panic of a handler, if one ended the thread.
    pub fn join(mut self) {
        self.handle.stop();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.handle.stop();
        // Dropped by the loop thread itself, it cannot be joined; a handler's panic was already printed.
        if !self.handle.on_loop_thread() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn run(shared: &Shared) {
    // A panic that reaches this is the loop's own (a broken epoll set), or one of the closing of a source.
    guarded(shared.failures.as_ref(), || serve(shared)).unwrap_or_default();
    // Handlers may hold handles of this loop, which keep `shared`: the manager, and with it the watched sources,
    // must not wait for them.
    let manager = lock(&shared.manager).take();
    guarded(shared.failures.as_ref(), || drop(manager)).unwrap_or_default();
}

fn serve(shared: &Shared) {
    loop {
        let unwanted = |taken: &mut bool| *taken && !shared.stopping();
        let taken = shared.changed.wait_while(lock(&shared.taken), unwanted);
        drop(taken.unwrap_or_else(PoisonError::into_inner));
        if shared.stopping() {
            break;
        }
        *lock(&shared.runner) = Some(thread::current().id());
        shared.work(true);
    }
}

#[cfg(test)]
mod tests;
