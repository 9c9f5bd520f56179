//! A timeline: the events that one `-trace` asks for, in one order, in one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limit::Limit;
use super::names::{FINDING, NAMES, name_of};
use super::packets::Packets;
use super::pattern::matches;
use super::record::Record;
use super::symbols::Symbols;
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
    /// Events a second; zero: no limit. Frames of a pcapng file have none.
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
    },
    Packets(Packets),
    /// Writing failed: the error was told, and nothing more is tried.
    Broken,
}

struct State {
    sink: Sink,
    limit: Limit,
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
        let sink = match (&options.file, options.format) {
            (Some(path), Format::PcapNg) => {
                let packets = Packets::new(create(path)?, options.epoch);
                Sink::Packets(packets.map_err(|source| TraceError::File { path: path.clone(), source })?)
            }
            (Some(path), format) => {
                Sink::Lines { out: Box::new(create(path)?), json: format == Format::Json }
            }
            (None, format) => Sink::Lines { out: Box::new(io::stderr()), json: format == Format::Json },
        };
        let state = State { sink, limit: Limit::new(options.limit) };
        Ok(Arc::new(Self { names, symbols, state: Mutex::new(state) }))
    }

    /// A finding of the doctor of `nic`.
    pub fn finding(&self, nic: &str, finding: &Finding) {
        if self.names.contains(&FINDING) {
            let mut state = self.lock();
            state.put(nic, &self.symbols, finding.moment.now_ns, || Record::finding(finding));
        }
    }

    /// The run is over: what still waits is written.
    pub fn finish(&self) {
        let mut state = self.lock();
        let dropped = state.limit.rest();
        state.tell_dropped(dropped);
        if let Sink::Packets(packets) = &mut state.sink
            && let Err(error) = packets.finish()
        {
            state.fail(&error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, nic: &str, symbols: &Symbols, now_ns: u64, record: impl FnOnce() -> Record) {
        let verdict = self.limit.event(now_ns);
        self.tell_dropped(verdict.dropped);
        let Sink::Lines { out, json } = &mut self.sink else { return };
        if verdict.take {
            let record = record();
            let line = if *json { record.json(nic, symbols) } else { record.line(nic, symbols) };
            if let Err(error) = out.write_all(line.as_bytes()) {
                self.fail(&error);
            }
        }
    }

    fn tell_dropped(&mut self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        if let Sink::Lines { out, json } = &mut self.sink {
            let line = if *json {
                format!("{{\"event\":\"dropped\",\"count\":{dropped}}}\n")
            } else {
                format!("... {dropped} events more than limit= dropped\n")
            };
            if let Err(error) = out.write_all(line.as_bytes()) {
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        eprintln!("minivmm: -trace: {error}; the trace ends here");
        self.sink = Sink::Broken;
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
        if let Sink::Packets(packets) = &mut state.sink {
            // Descriptors and causes are for the comments; the pattern chooses frames.
            let frame = matches!(event, Event::Sent(_) | Event::Arrived { .. });
            if (!frame || timeline.names.contains(&name))
                && let Err(error) = packets.event(&self.nic, moment, event)
            {
                state.fail(&error);
            }
        } else if timeline.names.contains(&name) {
            state.put(&self.nic, &timeline.symbols, moment.now_ns, || Record::of(moment, event));
        }
    }
}
