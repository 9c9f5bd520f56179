//! `-result FILE`: how the run ended and what passed, as one JSON object.
//!
//! Written at the end, and at any moment on SIGUSR1 (`reason` is then `running`). Each time a new file replaces
//! the old one whole, so a reader never sees half of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::exit_code::EndReason;
use super::nics::Nic;
use super::observers::{FindingReport, Watchers};
use crate::netdev::{Backend, DirectionStats, Network};
use crate::sys::{Notices, files};

/// The object.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Layout of this object; grows with incompatible changes.
    pub version: u32,
    /// Process exit status; null while running.
    pub status: Option<u8>,
    /// Why it ended, one stable word (docs/exit-status.md).
    pub reason: &'a str,
    /// The same for people.
    pub message: String,
    /// Name of the accelerator.
    pub accel: &'a str,
    /// Seconds since the program started.
    pub uptime_s: f64,
    /// Backends, in the order of the command line.
    pub netdevs: Vec<NetdevReport>,
    /// NICs, in the order of the command line.
    pub nics: Vec<NicReport>,
}

/// One backend.
#[derive(Debug, Serialize)]
pub struct NetdevReport {
    id: String,
    what: String,
    /// Offered by the host and taken by the NIC, or dropped.
    to_guest: Direction,
    /// Offered by the NIC and taken by the host, or dropped.
    from_guest: Direction,
}

/// One direction of a backend. Wire frames are cut frames without FCS; units are system calls.
#[derive(Debug, Serialize)]
struct Direction {
    wire_frames: u64,
    bytes: u64,
    units: u64,
    gso_units: u64,
    full: u64,
    dropped: serde_json::Map<String, serde_json::Value>,
}

/// One NIC: what it counted, whatever the guest has cleared.
#[derive(Debug, Serialize)]
pub struct NicReport {
    netdev: Option<String>,
    link_up: bool,
    counters: serde_json::Value,
    /// What the driver doctor found; null without `-d guest_errors`.
    findings: Option<Vec<FindingReport>>,
}

impl From<DirectionStats> for Direction {
    fn from(stats: DirectionStats) -> Self {
        let DirectionStats { frames, bytes, units, gso_units, full, dropped } = stats;
        let dropped = dropped.into_iter().map(|(why, n)| (why.to_owned(), n.into())).collect();
        Self { wire_frames: frames, bytes, units, gso_units, full, dropped }
    }
}

impl NetdevReport {
    /// The present counters of `backend`.
    pub fn new(backend: &dyn Backend) -> Self {
        let stats = backend.counters().read();
        Self {
            id: backend.id().to_owned(),
            what: backend.describe(),
            to_guest: stats.to_peer.into(),
            from_guest: stats.from_peer.into(),
        }
    }
}

impl NicReport {
    /// The present counters of `nic`.
    pub fn new(nic: &Nic, network: &Network) -> Self {
        Self {
            netdev: network.peer(&nic.name),
            link_up: nic.device.link_is_up(),
            counters: serde_json::to_value(nic.device.stats_snapshot()).unwrap_or_default(),
            findings: nic.watchers.findings(),
        }
    }
}

/// Knows everything that a report tells, and writes it.
#[derive(Debug)]
pub struct Reporter {
    /// `-result`.
    pub path: Option<PathBuf>,
    /// Name of the accelerator.
    pub accel: &'static str,
    /// When the program started.
    pub started: Instant,
    /// Backends and cables.
    pub network: Network,
    /// NICs.
    pub nics: Vec<Nic>,
    /// Traces.
    pub watchers: Watchers,
    /// Where trouble with the file is told.
    pub notices: Notices,
}

impl Reporter {
    /// The run is over: traces end, coverage is written.
    pub fn end_watch(&self) {
        self.watchers.finish();
        self.nics.iter().for_each(|nic| nic.watchers.write_coverage(&self.notices));
    }

    /// Writes the report, if it was asked for. `end` is `None` while the machine runs.
    pub fn write(&self, end: Option<&EndReason>) {
        let Some(path) = &self.path else { return };
        let report = Report {
            version: 1,
            status: end.map(EndReason::status),
            reason: end.map_or("running", EndReason::name),
            message: end.map_or_else(|| "the machine is running".to_owned(), EndReason::to_string),
            accel: self.accel,
            uptime_s: self.started.elapsed().as_secs_f64(),
            netdevs: self.network.netdevs().iter().map(|b| NetdevReport::new(&**b)).collect(),
            nics: self.nics.iter().map(|nic| NicReport::new(nic, &self.network)).collect(),
        };
        if let Err(error) = write(path, &report) {
            self.notices.say(&format!("-result {}: {error}", path.display()));
        }
    }
}

/// Replaces `path` by `report`.
fn write(path: &Path, report: &Report<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    files::replace(path, &text)
}
