//! A timeline: the events that one `-trace` asks for, in one order, in one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limit::Limit;
use super::names::{FINDING, NAMES, name_of, name_of_hit};
use super::packets::Packets;
use super::pattern::matches;
use super::record::Record;
use super::symbols::Symbols;
use crate::fault::CableHit;
use crate::nic::e1000::doctor::Finding;
use crate::nic::e1000::observe::{Event, Moment, Observer};

/// How a timeline is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for each event.
    Text,
    /// A JSON object on a line for each event.
    Json,
    /// Frames with comments.
    PcapNg,
}

/// What a `-trace` says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which events.
    pub pattern: String,
    /// Where they go. None: standard error.
    pub file: Option<PathBuf>,
    /// How they are written.
    pub format: Format,
    /// Events a second, or frames of a pcapng file; zero: no limit.
    pub limit: u32,
    /// Time since 1970 at device time zero.
    pub epoch: Duration,
}

/// Why a trace cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No event has such a name.
    #[error("-trace {0}: no event has such a name; -trace help lists them")]
    NoEvent(String),
    /// Only a file can have such a format.
    #[error("-trace format=pcapng needs file=")]
    NoFile,
    /// The file.
    #[error("-trace file={}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
}

enum Sink {
    Lines {
        out: Box<dyn Write + Send>,
        json: bool,
        limit: Limit,
    },
    Packets(Packets),
    /// Writing failed: the error was told, and nothing more is tried.
    Broken,
}

struct State {
    sink: Sink,
    /// The moment of the last event.
    now_ns: u64,
}

/// One `-trace`.
pub struct Timeline {
    names: Vec<&'static str>,
    symbols: Arc<Symbols>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline").field("names", &self.names).finish_non_exhaustive()
    }
}

fn create(path: &Path) -> Result<File, TraceError> {
    File::create(path).map_err(|source| TraceError::File { path: path.to_owned(), source })
}

impl Timeline {
    /// Opens the file.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn new(options: &Options, symbols: Arc<Symbols>) -> Result<Arc<Self>, TraceError> {
        let names: Vec<&str> =
            NAMES.iter().map(|(name, _)| *name).filter(|name| matches(&options.pattern, name)).collect();
        if names.is_empty() {
            return Err(TraceError::NoEvent(options.pattern.clone()));
        }
        let lines = |out: Box<dyn Write + Send>| {
            let (json, limit) = (options.format == Format::Json, Limit::new(options.limit));
            Sink::Lines { out, json, limit }
        };
        let sink = match (&options.file, options.format) {
            (Some(path), Format::PcapNg) => {
                let packets = Packets::new(create(path)?, options.epoch, options.limit);
                Sink::Packets(packets.map_err(|source| TraceError::File { path: path.clone(), source })?)
            }
            (None, Format::PcapNg) => return Err(TraceError::NoFile),
            (Some(path), _) => lines(Box::new(create(path)?)),
            (None, _) => lines(Box::new(io::stderr())),
        };
        Ok(Arc::new(Self { names, symbols, state: Mutex::new(State { sink, now_ns: 0 }) }))
    }

    /// A finding of the doctor of `nic`.
    pub fn finding(&self, nic: &str, finding: &Finding) {
        if self.names.contains(&FINDING) {
            let mut state = self.lock();
            state.put(nic, &self.symbols, finding.moment.now_ns, || Record::finding(finding));
        }
    }

    /// A fault has struck on a cable.
    pub fn cable_fault(&self, now_ns: u64, hit: &CableHit<'_>) {
        if self.names.contains(&name_of_hit(hit)) {
            let mut state = self.lock();
            if let Sink::Packets(packets) = &mut state.sink {
                let written = packets.cable_fault(now_ns, hit);
                state.check(now_ns, written);
            } else {
                state.put(hit.netdev, &self.symbols, now_ns, || Record::cable_fault(now_ns, hit));
            }
        }
    }

    /// The run is over: what still waits is written.
    pub fn finish(&self) {
        let mut state = self.lock();
        let now_ns = state.now_ns;
        let written = match &mut state.sink {
            Sink::Lines { out, json, limit } => tell_dropped(out, *json, limit.rest()),
            Sink::Packets(packets) => packets.finish(now_ns),
            Sink::Broken => Ok(()),
        };
        state.check(now_ns, written);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says how many events the limit has left out, if any.
fn tell_dropped(out: &mut dyn Write, json: bool, dropped: u64) -> io::Result<()> {
    match (dropped, json) {
        (0, _) => Ok(()),
        (_, true) => out.write_all(format!("{{\"event\":\"dropped\",\"count\":{dropped}}}\n").as_bytes()),
        (_, false) => out.write_all(format!("... {dropped} events more than limit= dropped\n").as_bytes()),
    }
}

impl State {
    fn put(&mut self, place: &str, symbols: &Symbols, now_ns: u64, record: impl FnOnce() -> Record) {
        let Sink::Lines { out, json, limit } = &mut self.sink else { return };
        let verdict = limit.event(now_ns);
        let mut written = tell_dropped(out, *json, verdict.dropped);
        if verdict.take && written.is_ok() {
            let record = record();
            let line = if *json { record.json(place, symbols) } else { record.line(place, symbols) };
            written = out.write_all(line.as_bytes());
        }
        self.check(now_ns, written);
    }

    /// Something happened, and was written or not.
    fn check(&mut self, now_ns: u64, written: io::Result<()>) {
        self.now_ns = self.now_ns.max(now_ns);
        if let Err(error) = written {
            eprintln!("minivmm: -trace: {error}; the trace ends here");
            self.sink = Sink::Broken;
        }
    }
}

/// The observer of one NIC that writes into a timeline.
#[derive(Debug)]
pub struct Tracer {
    timeline: Arc<Timeline>,
    nic: String,
}

impl Tracer {
    /// `nic` is what the NIC is called in the timeline.
    pub fn new(timeline: Arc<Timeline>, nic: &str) -> Self {
        Self { timeline, nic: nic.to_owned() }
    }
}

impl Observer for Tracer {
    fn event(&self, moment: &Moment, event: &Event<'_>) {
        let timeline = &*self.timeline;
        let name = name_of(event);
        let mut state = timeline.lock();
        let wanted = timeline.names.contains(&name);
        if let Sink::Packets(packets) = &mut state.sink {
            // Descriptors and causes are for the comments; the pattern chooses frames.
            let written = packets.event(&self.nic, moment, event, wanted);
            state.check(moment.now_ns, written);
        } else if wanted {
            state.put(&self.nic, &timeline.symbols, moment.now_ns, || Record::of(moment, event));
        }
    }
}
