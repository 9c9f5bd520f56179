//! `e1000 break`: the machine stops when a NIC's driver touches a register, or when a descriptor is done.
//!
//! Set by the monitor (or gdb's `monitor`); watches every NIC as one more observer, so it hears of what traces hear of. The
//! CPU that did it comes to rest right behind its instruction; what a timer or the network causes stops the machine where
//! its CPUs are.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lifecycle::Lifecycle;
use crate::gdb::{Stopped, Why};
use crate::nic::e1000::observe::{Event, Moment, Observer};
use crate::nic::e1000::regs::table;
use crate::trace;

/// What is waited for.
#[derive(Debug)]
pub struct DeviceBreaks {
    life: Lifecycle,
    /// Something is waited for.
    armed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Vec<Wanted>,
    /// What was met last.
    last: Option<String>,
}

/// One thing to stop at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// An access to the register of this name.
    Register(String),
    /// An event of this name.
    Event(&'static str),
}

impl Wanted {
    /// What `word` names: a register, with or without the index of an array's element, or a trace event.
    fn named(word: &str) -> Option<Self> {
        let names =
            || trace::NAMES.iter().map(|(name, _)| *name).filter(|name| trace::is_of_the_device(name));
        let event = names().find(|name| *name == word).map(Self::Event);
        let base = word.split('[').next().unwrap_or(word);
        let row = || table::TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(base));
        event.or_else(|| row().map(|row| Self::Register(word.replacen(base, row.name, 1))))
    }

    fn name(&self) -> &str {
        match self {
            Self::Register(name) => name,
            Self::Event(name) => name,
        }
    }

    /// What happened, if it is this.
    fn met(&self, event: &Event<'_>) -> Option<String> {
        match (self, event) {
            (Self::Register(name), Event::RegisterRead { register, value }) => {
                is(register, name).then(|| format!("{} read: {value:#x}", register.name()))
            }
            (Self::Register(name), Event::RegisterWrite { register, written, old, .. }) => is(register, name)
                .then(|| format!("{} written: {written:#x} (was {old:#x})", register.name())),
            (Self::Event(name), _) => {
                let index = match event {
                    Event::Fetched { slot, .. } | Event::WrittenBack { slot, .. } => {
                        format!(" {} at {:#x}", slot.index, slot.address)
                    }
                    _ => String::new(),
                };
                (*name == trace::name_of(event)).then(|| format!("{name}{index}"))
            }
            _ => None,
        }
    }
}

/// Whether `name` is this register's, or that of the array that it is in.
fn is(register: &table::Found, name: &str) -> bool {
    let row = register.row.name;
    row == name || name.starts_with(row) && register.name() == name
}

impl DeviceBreaks {
    /// Waits for nothing.
    pub fn new(life: Lifecycle) -> Self {
        Self { life, armed: AtomicBool::new(false), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `e1000 break WHAT`: adds what `word` names; `off` takes all away; nothing tells what there is and what was met last.
    ///
    /// # Errors
    /// One line, when `word` names neither a register nor an event.
    pub fn command(&self, word: &str) -> Result<String, String> {
        let mut state = self.state();
        match word {
            "" => {}
            "off" => state.wanted.clear(),
            _ => {
                let wanted = Wanted::named(word).ok_or_else(|| {
                    format!(
                        "'{word}' is neither a register (TDT) nor an event of -trace (e1000_tx_writeback)"
                    )
                })?;
                if !state.wanted.contains(&wanted) {
                    state.wanted.push(wanted);
                }
            }
        }
        self.armed.store(!state.wanted.is_empty(), Ordering::Release);
        let mut text = String::new();
        // Writing to a String cannot fail.
        for wanted in &state.wanted {
            let _ = writeln!(text, "stops at {}", wanted.name());
        }
        if let Some(last) = &state.last {
            let _ = writeln!(text, "last: {last}");
        }
        Ok(text)
    }
}

impl Observer for DeviceBreaks {
    fn event(&self, moment: &Moment, event: &Event<'_>) {
        if !self.armed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        let Some(met) = state.wanted.iter().find_map(|wanted| wanted.met(event)) else { return };
        let cpu = moment.origin.map(|origin| origin.cpu);
        state.last = Some(match moment.origin {
            Some(origin) => {
                let rip = origin.rip.map(|rip| format!(" at {rip:#x}")).unwrap_or_default();
                format!("{met}, by CPU {}{rip}", origin.cpu)
            }
            None => met,
        });
        drop(state);
        self.life.stop_soon(Stopped { cpu: cpu.unwrap_or(0), why: Why::Device });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_events_are_known_by_name() {
        assert_eq!(Wanted::named("TDT"), Some(Wanted::Register("TDT".into())));
        assert_eq!(Wanted::named("tdt"), Some(Wanted::Register("TDT".into())));
        assert_eq!(Wanted::named("e1000_tx_writeback"), Some(Wanted::Event("e1000_tx_writeback")));
        assert_eq!((Wanted::named("nonsense"), Wanted::named("")), (None, None));
        let breaks = DeviceBreaks::new(Lifecycle::default());
        assert!(breaks.command("x").is_err());
        assert_eq!(breaks.command("TDT").unwrap(), "stops at TDT\n");
        assert_eq!(breaks.command("off").unwrap(), "");
    }

    #[test]
    fn what_is_met_stops_the_machine_and_is_told() {
        let life = Lifecycle::default();
        let breaks = DeviceBreaks::new(life.clone());
        let register = table::find(0x3818).unwrap();
        let write = Event::RegisterWrite { register, written: 5, old: 4, new: 5 };
        breaks.event(&Moment::default(), &write);
        assert_eq!(life.take_stop(), None, "nothing is waited for");
        breaks.command("TDT").unwrap();
        breaks
            .event(&Moment::default(), &Event::RegisterRead { register: table::find(8).unwrap(), value: 0 });
        assert_eq!(life.take_stop(), None, "another register");
        breaks.event(&Moment::default(), &write);
        assert_eq!(life.take_stop(), Some(Stopped { cpu: 0, why: Why::Device }));
        assert_eq!(breaks.command("").unwrap(), "stops at TDT\nlast: TDT written: 0x5 (was 0x4)\n");
    }
}
