//! Panics of ours, turned into words for whoever ends the run.
//!
//! A thread that dies in silence leaves the others waiting for it. So whoever runs the machine's work (vCPU threads, the
//! event loop, monitors, `main`) runs it in [`caught`], or in a thread of [`Failures::spawn`], and the run ends in order
//! with exit status 125. Nothing here knows what the work is; what a panic left half done is used for nothing but the
//! end, which is why unwinding through shared state is safe enough.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Does `work`.
///
/// # Errors
/// What it said when it panicked.
pub fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| words(&*payload))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without words"))
}

/// Where panics are told. Clones tell the same one.
#[derive(Clone)]
pub struct Failures(Arc<dyn Fn(String) + Send + Sync>);

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failures")
    }
}

impl Failures {
    /// Each is given to `told`, on the thread that it struck, with all locks released that it held.
    pub fn new(told: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Does `work`; a panic in it is told as one of `who`, and gives None.
    pub fn catch<R>(&self, who: &str, work: impl FnOnce() -> R) -> Option<R> {
        caught(work).map_err(|words| (self.0)(format!("{who}: {words}"))).ok()
    }

    /// Starts a thread called `name`, at most 15 bytes, whose panic is told.
    ///
    /// # Errors
    /// The host's, when it gives no thread.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let (failures, who) = (self.clone(), name.to_owned());
        let guarded = move || failures.catch(&who, body).unwrap_or_default();
        Builder::new().name(name.to_owned()).spawn(guarded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_a_thread_said_when_it_panicked_is_told_once() {
        let (sender, told) = mpsc::channel();
        let failures = Failures::new(move |what| sender.send(what).unwrap());
        let number = 7;
        failures.spawn("worker", move || panic!("no more than {number}")).unwrap().join().unwrap();
        failures.spawn("other", || panic!("plain")).unwrap().join().unwrap();
        failures.spawn("odd", || std::panic::panic_any(3)).unwrap().join().unwrap();
        failures.spawn("good", || ()).unwrap().join().unwrap();
        assert_eq!(failures.catch("here", || 5), Some(5));
        drop(failures);
        let told: Vec<String> = told.iter().collect();
        assert_eq!(
            told,
            ["worker: panic: no more than 7", "other: panic: plain", "odd: panic: without words"]
        );
    }
}
