//! Interrupting a vCPU's run from another thread.
//!
//! A kick sets `pending`, then `immediate_exit` in the shared page, then sends a signal whose handler does
//! nothing: a vCPU inside KVM_RUN leaves it with EINTR, one just before it finds `immediate_exit`. The vCPU's
//! thread clears `immediate_exit` before it takes `pending`, so no kick is lost (api.rst, section 5, `immediate_exit`).
#![expect(unsafe_code, reason = "tgkill has no safe wrapper")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

use super::host;
use super::run_page::RunPage;
use crate::accel::{AccelError, Kicker};

/// Interrupts one vCPU.
#[derive(Debug)]
pub(super) struct KvmKicker {
    pending: AtomicBool,
    page: RunPage,
    /// The thread to signal; none before [`Self::attach`] and after [`Self::detach`].
    thread: Mutex<Option<i32>>,
}

extern "C" fn nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

fn install_handler() -> Result<(), AccelError> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = INSTALLED.get_or_init(|| register_signal_handler(SIGRTMIN(), nothing).map_err(|e| e.errno()));
    done.map_err(|errno| {
        host("cannot install the signal handler for kicks")(vmm_sys_util::errno::Error::new(errno))
    })
}

impl KvmKicker {
    pub fn new(page: RunPage) -> Arc<Self> {
        Arc::new(Self { pending: AtomicBool::new(false), page, thread: Mutex::new(None) })
    }

    /// The page shared with the kernel.
    pub fn page(&self) -> &RunPage {
        &self.page
    }

    /// Makes the calling thread the one that kicks interrupt.
    ///
    /// # Errors
    /// [`AccelError::Host`] when the signal cannot be set up.
    pub fn attach(&self) -> Result<(), AccelError> {
        install_handler()?;
        unblock_signal(SIGRTMIN()).map_err(|error| AccelError::Host {
            what: "cannot unblock the signal for kicks",
            source: std::io::Error::other(error.to_string()),
        })?;
        // SAFETY: gettid has no arguments and cannot fail.
        let tid = unsafe { libc::gettid() };
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(tid);
        Ok(())
    }

    /// The vCPU is going away: kicks do nothing from now on.
    pub fn detach(&self) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// After `immediate_exit` was used for something else: leaves it as the kicks so far want it.
    pub fn rearm(&self) {
        self.page.set_immediate_exit(false);
        if self.pending.load(Ordering::SeqCst) {
            self.page.set_immediate_exit(true);
        }
    }

    /// After EINTR: whether it was a kick. Arms the next one.
    pub fn take(&self) -> bool {
        self.page.set_immediate_exit(false);
        self.pending.swap(false, Ordering::SeqCst)
    }
}

impl Kicker for KvmKicker {
    fn kick(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.page.set_immediate_exit(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tid) = *thread {
            // SAFETY: plain system call; the handler of this signal does nothing. It can fail only when the thread
            // is gone, and then nobody waits for the kick.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, SIGRTMIN()) };
        }
    }
}
