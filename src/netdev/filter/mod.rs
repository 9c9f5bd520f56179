//! Filters: what sits in the cable of a netdev and sees, keeps or adds frames (`-object filter-...`, `-fault`).
//!
//! `machine` and the monitor open one with [`open`] and put it into a cable by
//! [`Network::insert_filter`](crate::netdev::Network::insert_filter). A filter is two ports back to back
//! (`node.rs`) with a behaviour in between; it knows neither NICs nor backends.

mod buffer;
pub mod capture;
mod dump;
mod fault;
#[cfg(test)]
mod fault_tests;
mod held;
mod inlet;
mod mirror;
mod node;
mod outlet;
mod redirector;
mod refused;
mod replay;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Weak};

use self::buffer::Buffer;
use self::capture::{CaptureError, Reader, Writer};
use self::dump::Dump;
use self::fault::Fault;
use self::inlet::Inlet;
use self::mirror::Mirror;
use self::node::{Behaviour, Node, Way};
use self::outlet::Outlet;
use self::redirector::Redirector;
use self::replay::Replay;
use super::Surroundings;
use super::network::Filter;
use crate::cli::{FilterKind, FilterOptions, FilterQueue};
use crate::event::{EventError, HostTimer};
use crate::time::MonotonicClock;

/// Why a filter could not be made: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// `file=`.
    #[error("-object {kind},id={id}: {path}: {error}")]
    File {
        /// Type of the filter.
        kind: &'static str,
        /// `id=`.
        id: String,
        /// `file=`.
        path: String,
        /// What was wrong.
        error: CaptureError,
    },
    /// The host gives no timer.
    #[error("-object {kind},id={id}: {error}")]
    Event {
        /// Type of the filter.
        kind: &'static str,
        /// `id=`.
        id: String,
        /// What was wrong.
        error: EventError,
    },
}

/// Makes a filter, on or off as the options say; it does nothing before it is put into a cable.
///
/// # Errors
/// [`FilterError`].
pub fn open(options: &FilterOptions, around: &Surroundings) -> Result<Arc<dyn Filter>, FilterError> {
    let (id, kind) = (&options.id, options.kind.name());
    let file_error = |path: &Path, error| {
        let (id, path) = (id.clone(), path.display().to_string());
        FilterError::File { kind, id, path, error }
    };
    let timer = || {
        let timer = HostTimer::new(&around.events, &MonotonicClock::new());
        timer.map_err(|error| FilterError::Event { kind, id: id.clone(), error })
    };
    let notices = around.notices.about(&format!("{kind} {id}"));
    let make: Box<dyn FnOnce(Weak<Node>) -> Box<dyn Behaviour>> = match &options.kind {
        FilterKind::Dump(dump) => {
            let writer = Writer::create(&dump.file, dump.format, dump.max_len, &options.netdev)
                .map_err(|error| file_error(&dump.file, error))?;
            let dump = Dump::new(dump.file.clone(), writer, notices);
            Box::new(|_| Box::new(dump))
        }
        FilterKind::Buffer { interval } => {
            let (interval, timer) = (*interval, timer()?);
            Box::new(move |node| Box::new(Buffer::new(interval, timer, node)))
        }
        FilterKind::Fault(fault) => {
            let (fault, timer, listener) = (fault.clone(), timer()?, around.faults.clone());
            let names = (id.clone(), options.netdev.clone());
            Box::new(move |node| Box::new(Fault::new(fault, names, timer, node, listener)))
        }
        FilterKind::Mirror { outdev } => {
            let (outdev, events) = (outdev.clone(), around.events.clone());
            Box::new(move |node| Box::new(Mirror::new(outdev, Outlet::new(node, events))))
        }
        FilterKind::Redirector { indev, outdev } => {
            let (indev, outdev, events) = (indev.clone(), outdev.clone(), around.events.clone());
            Box::new(move |node| {
                let inlet = || Inlet::new(node.clone(), events.clone());
                let outlet = || Outlet::new(node.clone(), events.clone());
                let indev = indev.map(|id| (id, inlet()));
                Box::new(Redirector { indev, outdev: outdev.map(|id| (id, outlet())) })
            })
        }
        FilterKind::Replay(replay) => {
            let reader = Reader::open(&replay.file).map_err(|error| file_error(&replay.file, error))?;
            let way = if options.queue == FilterQueue::Rx { Way::ToNetdev } else { Way::FromNetdev };
            let (file, speed, timer) = (replay.file.clone(), replay.speed, timer()?);
            Box::new(move |node| Box::new(Replay::new((file, reader), way, speed, timer, node, notices)))
        }
    };
    Ok(Node::new(id, options.queue, options.on, make))
}
