//! Interrupts: unmasked when, acknowledged how.

use super::kinds::*;
use super::{Chart, Registers, register};
use crate::nic::e1000::observe::{Event, Instruction, Ring};
use crate::nic::e1000::spec::{cause, ctrl, reg};

const RX: u32 = cause::RXT0 | cause::RXDMT0 | cause::RXO;
/// Assertions without a look at ICR that are no accident.
const UNHEARD: u32 = 16;
/// The same for frames that came while INTA# stayed asserted, and how long that must last.
const UNHEARD_FRAMES: u32 = 64;
/// The same for accesses to other registers: a handler that runs again and again.
const UNHEARD_ACCESSES: u32 = 10_000;
const UNHEARD_NS: u64 = 1_000_000_000;
/// Double reads that make a habit, and the frames that pass meanwhile without a new RDT: the driver does not know of them.
const DOUBLE_READS: u32 = 8;
const FRAMES_LOST: u32 = 64;
/// Reads with everything masked that are polling.
const POLLS: u32 = 1000;

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Assertions since ICR was read or written.
    unheard: u32,
    /// INTA# is up.
    asserted: Option<Asserted>,
    /// It was told that nobody hears.
    told: bool,
    /// The last register access was a read of ICR that found causes, by this CPU.
    found_causes: Option<Option<Instruction>>,
    double_reads: u32,
    /// Frames since RDT was written.
    untouched: u32,
    polls: u32,
    mask: u32,
}

/// Since when, and what has happened meanwhile.
#[derive(Debug)]
struct Asserted {
    since: u64,
    frames: u32,
    accesses: u32,
}

impl Watch {
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn event(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>) {
        self.handled_in_vain(chart, event);
        match *event {
            Event::RegisterRead { register: found, value } if found.offset == reg::ICR => {
                self.read(registers, chart, value);
            }
            Event::RegisterWrite { register: found, .. } if found.offset == reg::ICR => {
                self.heard(chart.moment.now_ns);
            }
            Event::RegisterWrite { register: found, written, .. } if found.offset == reg::IMS => {
                self.found_causes = None;
                unmasked(registers, chart, written);
            }
            Event::RegisterWrite { register: found, written, .. }
                if found.offset == reg::CTRL && written & ctrl::RST != 0 && self.mask != 0 =>
            {
                let mask = self.mask;
                chart.note(&RESET_UNMASKED, || register(reg::IMS, mask));
            }
            Event::RegisterWrite { register: found, .. } if found.offset == reg::RDT => {
                (self.found_causes, self.double_reads, self.untouched) = (None, 0, 0);
            }
            Event::RegisterRead { .. } | Event::RegisterWrite { .. } => self.found_causes = None,
            Event::Masked { new, .. } => {
                self.mask = new;
                self.polls = if new == 0 { self.polls } else { 0 };
            }
            Event::Line { asserted: true } => {
                self.unheard += 1;
                self.asserted = Some(Asserted { since: chart.moment.now_ns, frames: 0, accesses: 0 });
                if self.unheard >= UNHEARD {
                    self.not_heard(chart);
                }
            }
            Event::Line { asserted: false } => self.asserted = None,
            Event::HeadMoved { ring: Ring::Rx, .. } => self.untouched += 1,
            _ => {}
        }
    }

    /// INTA# has been up for long, and frames come or the driver does other things.
    fn handled_in_vain(&mut self, chart: &mut Chart<'_>, event: &Event<'_>) {
        let Some(Asserted { since, frames, accesses }) = &mut self.asserted else { return };
        match event {
            Event::HeadMoved { ring: Ring::Rx, .. } => *frames += 1,
            Event::RegisterRead { .. } | Event::RegisterWrite { .. } => *accesses += 1,
            _ => return,
        }
        let long = chart.moment.now_ns.saturating_sub(*since) > UNHEARD_NS;
        if long && (*frames >= UNHEARD_FRAMES || *accesses >= UNHEARD_ACCESSES) {
            self.not_heard(chart);
        }
    }

    fn not_heard(&mut self, chart: &mut Chart<'_>) {
        let times = self.unheard;
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        chart.note(&IRQ_NOT_ACKNOWLEDGED, || format!("asserted {times} times since ICR was last looked at"));
    }

    fn heard(&mut self, now_ns: u64) {
        self.unheard = 0;
        self.told = false;
        if let Some(Asserted { since, frames, accesses }) = &mut self.asserted {
            (*since, *frames, *accesses) = (now_ns, 0, 0);
        }
        self.found_causes = None;
    }

    fn read(&mut self, registers: &Registers, chart: &mut Chart<'_>, value: u32) {
        let before = self.found_causes.take();
        let by = chart.moment.origin.map(|origin| Instruction { rip: None, ..origin });
        self.heard(chart.moment.now_ns);
        if self.mask == 0 {
            // Without interrupts there is none that ICR could be read twice for: iPXE polls it.
            self.polls += 1;
            if self.polls == POLLS {
                chart.note(&ICR_POLLED, || format!("{POLLS} reads with IMS = 0"));
            }
        } else if value != 0 {
            self.found_causes = Some(by);
        } else if before == Some(by) {
            // A handler that loops until ICR is 0 does so, too; but it sees to its ring.
            self.double_reads += 1;
            let empty = registers.get(reg::RDH) == registers.get(reg::RDT);
            let lost = self.untouched >= FRAMES_LOST || self.untouched > 0 && empty;
            if self.double_reads >= DOUBLE_READS && lost {
                let (times, frames) = (self.double_reads, self.untouched);
                chart.note(&ICR_READ_TWICE, || {
                    format!(
                        "{times} times, the second read gave 0; {frames} frames came, and RDT was not moved"
                    )
                });
                (self.double_reads, self.untouched) = (0, 0);
            }
        }
    }
}

/// IMS was written. One cause at a time is how Linux's self-test asks for them, without rings.
fn unmasked(registers: &Registers, chart: &mut Chart<'_>, mask: u32) {
    let rx = mask & RX != 0 && registers.get(reg::RDLEN) == 0;
    let tx = mask & cause::TXDW != 0 && registers.get(reg::TDLEN) == 0;
    if (rx || tx) && mask.count_ones() > 1 {
        let length = if rx { reg::RDLEN } else { reg::TDLEN };
        chart.note(&IRQ_TOO_EARLY, || format!("{}, {} = 0", register(reg::IMS, mask), register_name(length)));
    }
}

fn register_name(offset: u32) -> &'static str {
    if offset == reg::RDLEN { "RDLEN" } else { "TDLEN" }
}
