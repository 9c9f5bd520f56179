//! Who watches the NICs: tracers, driver doctors, coverage and a debugger's stops, as the command line asks
//! for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::device_break::DeviceBreaks;
use super::error::SetupError;
use super::exit_code::EndReason;
use super::lifecycle::Lifecycle;
use crate::cli::{DoctorMode, E1000Options, ObserveConfig, TraceFormat};
use crate::fault::CableListener;
use crate::nic::e1000::Model;
use crate::nic::e1000::coverage::Coverage;
use crate::nic::e1000::doctor::{Doctor, Finding, Severity};
use crate::nic::e1000::observe::{Observer, Observers};
use crate::sys::{Notices, files};
use crate::time::MonotonicClock;
use crate::trace::{self, Format, Symbols, Timeline, Tracer};

/// Coverage of NICs, with the netdevs that they have.
type Covered = Arc<Mutex<Vec<(String, Arc<Coverage>)>>>;

/// What all NICs share.
#[derive(Debug)]
pub struct Watchers {
    doctor: Option<DoctorMode>,
    symbols: Arc<Symbols>,
    /// Read for its symbols at the end, where they were not wanted before.
    kernel: Option<PathBuf>,
    timelines: Vec<Arc<Timeline>>,
    /// Coverage of NICs, and the netdevs whose faults they meet.
    covered: Covered,
    clock: MonotonicClock,
    /// `e1000 break`, for all NICs.
    breaks: Option<Arc<DeviceBreaks>>,
    life: Lifecycle,
    notices: Notices,
}

/// Who watches one NIC.
#[derive(Debug, Default)]
pub struct NicWatchers {
    /// What the device is given; none if nobody watches.
    pub observer: Option<Arc<dyn Observer>>,
    doctor: Option<Arc<Doctor>>,
    symbols: Arc<Symbols>,
    coverage: Option<(PathBuf, Arc<Coverage>)>,
}

/// A finding as `-result` tells it.
#[derive(Debug, Serialize)]
pub struct FindingReport {
    id: &'static str,
    severity: String,
    what: &'static str,
    subject: String,
    hardware: &'static str,
    manual: &'static str,
    count: u64,
    ns: u64,
    cpu: Option<u32>,
    rip: Option<u64>,
    symbol: Option<String>,
}

impl Watchers {
    /// Reads symbols and opens trace files.
    ///
    /// # Errors
    /// [`SetupError`] when one of them is of no use.
    pub fn new(
        config: &ObserveConfig,
        kernel: Option<&Path>,
        clock: &MonotonicClock,
        breaks: Option<Arc<DeviceBreaks>>,
        life: &Lifecycle,
        notices: &Notices,
    ) -> Result<Self, SetupError> {
        let wanted = config.doctor.is_some() || !config.traces.is_empty();
        let symbols = match &config.symbols {
            Some(path) => Symbols::read(path)?,
            None if wanted => kernel.map(kernel_symbols).unwrap_or_default(),
            None => Symbols::default(),
        };
        let symbols = Arc::new(symbols);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = now.saturating_sub(Duration::from_nanos(clock.now_ns()));
        let timeline = |trace: &crate::cli::TraceOptions| {
            let format = match trace.format {
                TraceFormat::Text => Format::Text,
                TraceFormat::Json => Format::Json,
                TraceFormat::PcapNg => Format::PcapNg,
            };
            let (pattern, file, limit) = (trace.pattern.clone(), trace.file.clone(), trace.limit);
            Timeline::new(&trace::Options { pattern, file, format, limit, epoch }, symbols.clone())
        };
        let timelines = config.traces.iter().map(timeline).collect::<Result<_, _>>()?;
        let (doctor, life, notices) = (config.doctor, life.clone(), notices.clone());
        let (covered, clock) = (Arc::default(), clock.clone());
        let kernel = kernel.map(Path::to_owned);
        Ok(Self { doctor, symbols, kernel, timelines, covered, clock, breaks, life, notices })
    }

    /// Who hears of faults that strike on cables.
    pub fn of_cables(&self) -> CableListener {
        let (timelines, covered, clock) = (self.timelines.clone(), self.covered.clone(), self.clock.clone());
        CableListener::new(move |hit| {
            let now_ns = clock.now_ns();
            timelines.iter().for_each(|timeline| timeline.cable_fault(now_ns, hit));
            let covered = covered.lock().unwrap_or_else(PoisonError::into_inner);
            let met = covered.iter().filter(|(netdev, _)| netdev == hit.netdev);
            met.for_each(|(_, coverage)| coverage.cable_fault(hit.kind));
        })
    }

    /// Those who watch the NIC of `options`.
    pub fn of_nic(&self, options: &E1000Options, model: Model, slot: u8) -> NicWatchers {
        let name =
            options.id.clone().or(options.netdev.clone()).unwrap_or_else(|| format!("e1000.{slot:02x}"));
        let doctor = self.doctor.map(|mode| Arc::new(self.doctor_of(&name, model, mode)));
        let coverage = options.coverage.clone().map(|path| (path, Arc::new(Coverage::default())));
        if let (Some((_, coverage)), Some(netdev)) = (&coverage, &options.netdev) {
            let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
            covered.push((netdev.clone(), coverage.clone()));
        }
        let mut all: Vec<Arc<dyn Observer>> = Vec::new();
        for timeline in &self.timelines {
            all.push(Arc::new(Tracer::new(timeline.clone(), &name)));
        }
        all.extend(doctor.clone().map(|doctor| doctor as Arc<dyn Observer>));
        all.extend(self.breaks.clone().map(|breaks| breaks as Arc<dyn Observer>));
        all.extend(coverage.iter().map(|(_, coverage)| coverage.clone() as Arc<dyn Observer>));
        let observer = match all.len() {
            0 => None,
            1 => all.pop(),
            _ => Some(Arc::new(Observers(all)) as Arc<dyn Observer>),
        };
        NicWatchers { observer, doctor, symbols: self.symbols.clone(), coverage }
    }

    fn doctor_of(&self, name: &str, model: Model, mode: DoctorMode) -> Doctor {
        let (life, notices, symbols) = (self.life.clone(), self.notices.about(name), self.symbols.clone());
        let (timelines, name) = (self.timelines.clone(), name.to_owned());
        Doctor::new(model, move |finding| {
            timelines.iter().for_each(|timeline| timeline.finding(&name, finding));
            notices.say(&sentence(finding, &symbols));
            if mode == DoctorMode::Fatal && finding.kind.severity > Severity::Note {
                life.end(EndReason::DriverFinding(format!("{}: {}", finding.kind.id, finding.kind.what)));
            }
        })
    }

    /// Guest addresses with the names of what lies there, where those are known.
    pub fn describe(&self, addresses: &[u64]) -> Vec<String> {
        let own = self.kernel.as_deref().filter(|_| self.symbols.is_empty()).map(kernel_symbols);
        let symbols = own.as_ref().unwrap_or(&self.symbols);
        addresses.iter().map(|&address| symbols.describe(address)).collect()
    }

    /// The run is over.
    pub fn finish(&self) {
        self.timelines.iter().for_each(|timeline| timeline.finish());
    }
}

impl NicWatchers {
    /// What the doctor has found; none without a doctor.
    pub fn findings(&self) -> Option<Vec<FindingReport>> {
        let findings = self.doctor.as_ref()?.findings();
        Some(findings.into_iter().map(|finding| self.report(finding)).collect())
    }

    /// The doctor's, if there is one: another driver was loaded.
    pub fn doctor_tells_again(&self) {
        self.doctor.iter().for_each(|doctor| doctor.tell_again());
    }

    fn report(&self, finding: Finding) -> FindingReport {
        let Finding { kind, subject, moment, count } = finding;
        let rip = moment.origin.and_then(|origin| origin.rip);
        FindingReport {
            id: kind.id,
            severity: kind.severity.to_string(),
            what: kind.what,
            subject,
            hardware: kind.hardware,
            manual: kind.section,
            count,
            ns: moment.now_ns,
            cpu: moment.origin.map(|origin| origin.cpu),
            rip,
            symbol: rip.and_then(|rip| self.symbols.name(rip)),
        }
    }

    /// Writes `coverage=`, if it was asked for: JSON, and a table beside it.
    pub fn write_coverage(&self, notices: &Notices) {
        let Some((path, coverage)) = &self.coverage else { return };
        let report = coverage.report();
        let table = PathBuf::from(format!("{}.txt", path.display()));
        let written = serde_json::to_vec_pretty(&report)
            .map_err(std::io::Error::from)
            .and_then(|json| files::replace(path, &[&json[..], b"\n"].concat()))
            .and_then(|()| files::replace(&table, report.table().as_bytes()));
        if let Err(error) = written {
            notices.say(&format!("coverage={}: {error}", path.display()));
        }
    }
}

/// The kernel's own symbols, if it is an ELF file that has some.
fn kernel_symbols(kernel: &Path) -> Symbols {
    match std::fs::read(kernel) {
        Ok(bytes) if bytes.starts_with(b"\x7fELF") => Symbols::of(&bytes),
        // Whoever boots it says what is wrong with it.
        _ => Symbols::default(),
    }
}

/// A finding in one line.
fn sentence(finding: &Finding, symbols: &Symbols) -> String {
    let Finding { kind, subject, moment, .. } = finding;
    let place = match moment.origin.map(|origin| (origin.cpu, origin.rip)) {
        Some((cpu, Some(rip))) => format!(", CPU {cpu} at {}", symbols.describe(rip)),
        Some((cpu, None)) => format!(", CPU {cpu}"),
        None => String::new(),
    };
    format!(
        "{} {}: {} ({subject}{place}); hardware: {} (manual {})",
        kind.severity, kind.id, kind.what, kind.hardware, kind.section
    )
}
