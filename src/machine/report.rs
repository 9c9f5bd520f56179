//! `-result FILE`: how the run ended and what passed, as one JSON object.
//!
//! Written at the end, and at any moment on SIGUSR1 (`reason` is then `running`). Each time a new file replaces
//! the old one whole, so a reader never sees half of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::error::SetupError;
use super::exit_code::EndReason;
use super::lifecycle::Lifecycle;
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
    /// When the program started, in seconds since 1970.
    pub started_unix_s: f64,
    /// Seconds from there to the guest's first instruction; null before it.
    pub setup_s: Option<f64>,
    /// `-expect`, in the order of the command line.
    pub expect: Vec<ExpectReport>,
    /// Backends, in the order of the command line.
    pub netdevs: Vec<NetdevReport>,
    /// NICs, in the order of the command line.
    pub nics: Vec<NicReport>,
}

/// One `-expect`.
#[derive(Debug, Serialize)]
pub struct ExpectReport {
    regex: String,
    /// Seconds from the program's start; null if it was not seen.
    seen_s: Option<f64>,
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
    /// What has happened.
    pub life: Lifecycle,
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

    /// Writes the report, if it was asked for, and to `besides`. `end` is `None` while the machine runs.
    pub fn write(&self, end: Option<&EndReason>, besides: Option<PathBuf>) {
        let paths: Vec<PathBuf> = self.path.iter().cloned().chain(besides).collect();
        if paths.is_empty() {
            return;
        }
        let since_start = |at: Instant| at.saturating_duration_since(self.started).as_secs_f64();
        let report = Report {
            version: 1,
            status: end.map(EndReason::status),
            reason: end.map_or("running", EndReason::name),
            message: end.map_or_else(|| "the machine is running".to_owned(), EndReason::to_string),
            accel: self.accel,
            uptime_s: self.started.elapsed().as_secs_f64(),
            started_unix_s: (now_unix() - self.started.elapsed()).as_secs_f64(),
            setup_s: self.life.begin().map(since_start),
            expect: (self.life.expectations().into_iter())
                .map(|(wanted, seen)| ExpectReport {
                    regex: wanted.pattern.text().to_owned(),
                    seen_s: seen.map(since_start),
                })
                .collect(),
            netdevs: self.network.netdevs().iter().map(|b| NetdevReport::new(&**b)).collect(),
            nics: self.nics.iter().map(|nic| NicReport::new(nic, &self.network)).collect(),
        };
        for path in paths {
            if let Err(error) = write(&path, &report) {
                self.notices.say(&format!("-result {}: {error}", path.display()));
            }
        }
    }
}

fn now_unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Removes the report of an earlier run, so that nobody takes it for this one's should we be killed, and looks whether there
/// can be one at the end.
///
/// # Errors
/// [`SetupError::File`] when there is something that cannot be removed, or nothing can be written.
pub fn forget_result(path: &Path) -> Result<(), SetupError> {
    let forget = || match std::fs::symlink_metadata(path) {
        // Others are replaced at the end: a link, or what somebody else waits at.
        Ok(data) if data.is_file() => std::fs::remove_file(path),
        _ => Ok(()),
    };
    files::replaceable(path).and_then(|()| forget()).map_err(|source| SetupError::File {
        option: "-result",
        path: path.display().to_string(),
        source,
    })
}

/// What is known of a run without its machine.
#[derive(Debug, Serialize)]
struct Bare {
    version: u32,
    status: u8,
    reason: &'static str,
    message: String,
}

/// Writes the report of a run whose machine cannot be asked, never having been set up or no longer answering, so that
/// nobody reads the one of an earlier run.
///
/// # Errors
/// The host's.
pub fn write_bare(path: &Path, reason: &EndReason) -> io::Result<()> {
    write(
        path,
        &Bare { version: 1, status: reason.status(), reason: reason.name(), message: reason.to_string() },
    )
}

/// Replaces `path` by `report`.
fn write(path: &Path, report: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    files::replace(path, &text)
}
