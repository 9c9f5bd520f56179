//! The driver doctor: an observer that finds what the driver did wrong.
//!
//! Knows only the device's events; what it must remember (registers, rings, contexts) it remembers itself. Each
//! finding is of one of the [`KINDS`], which say what the real part does. `machine` makes one for each NIC and
//! prints what it reports; tests compare ids. Never looks into guest memory, never changes the device.

mod causes;
mod kinds;
mod receive;
mod registers;
mod sums;
mod transmit;

use kinds::CROSSES_64K;
pub use kinds::{KINDS, Kind, Severity};

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::observe::{Event, Moment, Observer, Ring};
use super::regs::table::{DWORDS, find};
use super::{Model, spec::reg};

/// Something that the driver did wrong: the first time, and how often.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it is.
    pub kind: &'static Kind,
    /// The register or descriptor, and its values.
    pub subject: String,
    /// When it happened first, and by which instruction.
    pub moment: Moment,
    /// How often it happened.
    pub count: u64,
}

type Listener = dyn Fn(&Finding) + Send + Sync;

/// The doctor of one NIC.
pub struct Doctor {
    state: Mutex<State>,
    listener: Box<Listener>,
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor").field("findings", &self.findings().len()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    model: Model,
    findings: Vec<Finding>,
    /// Those from before [`Doctor::tell_again`].
    earlier: Vec<Finding>,
    registers: Registers,
    access: registers::Watch,
    tx: transmit::Watch,
    rx: receive::Watch,
    causes: causes::Watch,
}

impl State {
    fn all_findings(&self) -> Vec<Finding> {
        let mut all = self.earlier.clone();
        for finding in &self.findings {
            match all.iter_mut().find(|known| known.kind == finding.kind) {
                Some(known) => known.count += finding.count,
                None => all.push(finding.clone()),
            }
        }
        all
    }
}

/// The registers as the driver knows them.
#[derive(Debug)]
pub(super) struct Registers(Vec<u32>);

impl Registers {
    fn get(&self, offset: u32) -> u32 {
        self.0.get((offset / 4) as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: u32, value: u32) {
        if let Some(register) = self.0.get_mut((offset / 4) as usize) {
            *register = value;
        }
    }

    fn has(&self, offset: u32, bits: u32) -> bool {
        self.get(offset) & bits != 0
    }
}

/// Where findings are written down.
struct Chart<'a> {
    findings: &'a mut Vec<Finding>,
    moment: Moment,
    model: Model,
    /// How many there were before this event.
    known: usize,
}

impl Chart<'_> {
    /// Notes a finding; `subject` is asked for the first time only.
    fn note(&mut self, kind: &'static Kind, subject: impl FnOnce() -> String) {
        self.note_at(kind, None, subject);
    }

    /// So, for something that began at another moment; without one it is what happens now that shows it.
    fn note_at(&mut self, kind: &'static Kind, moment: Option<Moment>, subject: impl FnOnce() -> String) {
        let moment = moment.unwrap_or(self.moment);
        match self.findings.iter_mut().find(|finding| finding.kind == kind) {
            Some(known) => known.count += 1,
            None => self.findings.push(Finding { kind, subject: subject(), moment, count: 1 }),
        }
    }
}

/// A condition that lasts: it counts once, when it begins.
#[derive(Debug, Default)]
struct Lasting(bool);

impl Lasting {
    /// Whether it begins, now that it `holds` or does not.
    fn begins(&mut self, holds: bool) -> bool {
        let held = std::mem::replace(&mut self.0, holds);
        holds && !held
    }
}

/// On an 82545: `what`, of `len` bytes at `base`, must not lie across a multiple of 64 KiB.
fn check_64k(chart: &mut Chart<'_>, what: impl FnOnce() -> String, base: u64, len: u64) {
    let last = base.wrapping_add(len.saturating_sub(1));
    if chart.model == Model::I82545Em && base >> 16 != last >> 16 {
        chart.note(&CROSSES_64K, || format!("{}: {len} bytes at {base:#x}", what()));
    }
}

/// A register by name and value.
fn register(offset: u32, value: u32) -> String {
    let name = find(offset).map_or_else(|| format!("{offset:#x}"), |found| found.name());
    format!("{name} = {value:#x}")
}

impl Doctor {
    /// The doctor of a NIC of this `model`. `listener` is called when a kind of finding happens for the first time, by
    /// the thread that caused it; it must not call the device and must not wait.
    pub fn new(model: Model, listener: impl Fn(&Finding) + Send + Sync + 'static) -> Self {
        let state = State {
            model,
            findings: Vec::new(),
            earlier: Vec::new(),
            registers: Registers(vec![0; DWORDS]),
            access: registers::Watch::new(model),
            tx: transmit::Watch::default(),
            rx: receive::Watch::default(),
            causes: causes::Watch::default(),
        };
        Self { state: Mutex::new(state), listener: Box::new(listener) }
    }

    /// All findings so far, in the order in which they happened first.
    pub fn findings(&self) -> Vec<Finding> {
        self.lock().all_findings()
    }

    /// From now on each kind is told again when it happens first: the driver may be another one.
    pub fn tell_again(&self) {
        let mut state = self.lock();
        state.earlier = state.all_findings();
        state.findings.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Doctor {
    fn event(&self, moment: &Moment, event: &Event<'_>) {
        let fresh = {
            let mut state = self.lock();
            let State { model, findings, earlier: _, registers, access, tx, rx, causes } = &mut *state;
            let known = findings.len();
            let mut chart = Chart { findings, moment: *moment, model: *model, known };
            match event {
                Event::Reset { registers: now, power_on } => {
                    registers.0.copy_from_slice(&now[..DWORDS.min(now.len())]);
                    access.reset();
                    tx.reset(*power_on);
                    rx.reset(*power_on);
                    causes.reset();
                }
                Event::RegisterWrite { register: found, new, .. } => {
                    access.event(registers, &mut chart, event);
                    let old = registers.get(found.offset);
                    registers.set(found.offset, *new);
                    tx.written(registers, &mut chart, event, old);
                    rx.written(registers, &mut chart, event, old);
                    causes.event(registers, &mut chart, event);
                }
                Event::HeadMoved { ring, head, .. } => {
                    registers.set(if *ring == Ring::Tx { reg::TDH } else { reg::RDH }, *head);
                    rx.event(registers, &mut chart, event);
                    causes.event(registers, &mut chart, event);
                }
                Event::WrittenBack { ring, slot, .. } => {
                    // The driver may see DD and go on before it is told that the head has moved.
                    let (length, head) = match ring {
                        Ring::Tx => (reg::TDLEN, reg::TDH),
                        Ring::Rx => (reg::RDLEN, reg::RDH),
                    };
                    let next = slot.index + 1;
                    registers.set(head, if next < registers.get(length) / 16 { next } else { 0 });
                    tx.event(registers, &mut chart, event);
                    rx.event(registers, &mut chart, event);
                }
                _ => {
                    access.event(registers, &mut chart, event);
                    tx.event(registers, &mut chart, event);
                    rx.event(registers, &mut chart, event);
                    causes.event(registers, &mut chart, event);
                }
            }
            let known = chart.known;
            findings[known..].to_vec()
        };
        fresh.iter().for_each(|finding| (self.listener)(finding));
    }
}
