//! What a driver has used of the device: registers and their bits, descriptors, filters, offloads, interrupts.
//!
//! An observer, asked for by `coverage=FILE`; `machine` writes its [`Report`] when the run ends. Counts only,
//! judges nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::fault::CardFault;

use super::observe::{Disposition, Event, Moment, Observer, Ring};
use super::regs::table::{Class, Found, TABLE};
use super::spec::{cause, txd};

/// Use of one register, or of all of an array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegisterUse {
    /// How often it was read.
    pub reads: u64,
    /// How often it was written.
    pub writes: u64,
    /// Writable bits.
    pub writable: u32,
    /// Writable bits that were written as 1 at least once.
    pub ones: u32,
    /// Writable bits that were written as 0 at least once.
    pub zeros: u32,
}

/// Everything that was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Layout of this object; grows with incompatible changes.
    pub version: u32,
    /// By the manual's names; registers that were never touched have zeros.
    pub registers: BTreeMap<&'static str, RegisterUse>,
    /// Offsets without a register that were touched, and how often.
    pub unknown_offsets: BTreeMap<String, u64>,
    /// Kinds and options of transmit descriptors.
    pub descriptors: BTreeMap<String, u64>,
    /// What became of frames: filters that took them, reasons why they were dropped.
    pub frames: BTreeMap<String, u64>,
    /// Work that was left to the device.
    pub offloads: BTreeMap<&'static str, u64>,
    /// Causes that were raised, by name.
    pub causes: BTreeMap<&'static str, u64>,
    /// Faults that struck, in the card and on its netdev's cable (`-fault`), by their names; zero if not met.
    pub faults: BTreeMap<&'static str, u64>,
    /// Interrupts delivered, link changes, resets, EEPROM words, PHY registers, failed DMA.
    pub events: BTreeMap<String, u64>,
}

const CAUSES: &[(u32, &str)] = &[
    (cause::TXDW, "TXDW"),
    (cause::TXQE, "TXQE"),
    (cause::LSC, "LSC"),
    (cause::RXSEQ, "RXSEQ"),
    (cause::RXDMT0, "RXDMT0"),
    (cause::RXO, "RXO"),
    (cause::RXT0, "RXT0"),
    (cause::MDAC, "MDAC"),
    (cause::TXD_LOW, "TXD_LOW"),
    (cause::SRPD, "SRPD"),
];
const OFFLOADS: &[&str] = &["checksum by context", "checksum by legacy IC", "segmentation", "VLAN insertion"];

impl Report {
    fn new() -> Self {
        let registers = TABLE.iter().map(|row| {
            let writable = if row.class == Class::Rc { 0 } else { row.mask | row.w1c };
            (row.name, RegisterUse { writable, ..RegisterUse::default() })
        });
        Self {
            version: 1,
            registers: registers.collect(),
            offloads: OFFLOADS.iter().map(|name| (*name, 0)).collect(),
            causes: CAUSES.iter().map(|(_, name)| (*name, 0)).collect(),
            faults: CardFault::ALL.iter().map(|fault| (fault.name(), 0)).collect(),
            ..Self::default()
        }
    }

    fn register(&mut self, found: Found) -> &mut RegisterUse {
        self.registers.entry(found.row.name).or_default()
    }

    fn descriptor(&mut self, raw: &[u8; 16]) {
        let lower = u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]);
        let kind = match (lower & txd::DEXT != 0, lower >> txd::DTYP_SHIFT & 0xf) {
            (false, _) => "legacy",
            (true, txd::DTYP_CONTEXT) => "context",
            (true, txd::DTYP_DATA) => "data",
            (true, _) => "unknown",
        };
        *self.descriptors.entry(format!("tx {kind}")).or_default() += 1;
        let options =
            [(txd::EOP, "EOP"), (txd::IFCS, "IFCS"), (txd::RS, "RS"), (txd::VLE, "VLE"), (txd::IDE, "IDE")];
        for (_, name) in options.iter().filter(|(bit, _)| kind != "context" && lower & bit != 0) {
            *self.descriptors.entry(format!("tx {name}")).or_default() += 1;
        }
        let offload = match kind {
            "data" if lower & txd::TSE != 0 => Some("segmentation"),
            "data" if raw[13] != 0 => Some("checksum by context"),
            "legacy" if lower & txd::IC != 0 => Some("checksum by legacy IC"),
            _ => None,
        };
        let tag = (kind != "context" && lower & txd::VLE != 0).then_some("VLAN insertion");
        for name in offload.into_iter().chain(tag) {
            *self.offloads.entry(name).or_default() += 1;
        }
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.events.entry(what.into()).or_default() += 1;
    }

    fn frame(&mut self, what: String) {
        *self.frames.entry(what).or_default() += 1;
    }

    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::RegisterRead { register, .. } => self.register(register).reads += 1,
            Event::RegisterWrite { register, written, .. } => {
                let entry = self.register(register);
                entry.writes += 1;
                entry.ones |= written & entry.writable;
                entry.zeros |= !written & entry.writable;
            }
            Event::NoRegister { offset, .. } => {
                *self.unknown_offsets.entry(format!("{offset:#07x}")).or_default() += 1;
            }
            Event::BadAccess { .. } => self.count("narrow or misaligned access"),
            Event::Reset { power_on, .. } => {
                self.count(if power_on { "power-on reset" } else { "device reset" })
            }
            Event::Fetched { ring: Ring::Tx, raw, .. } => self.descriptor(&raw),
            Event::Fetched { ring: Ring::Rx, .. } => {
                *self.descriptors.entry("rx".to_owned()).or_default() += 1;
            }
            Event::Sent(frame) => self.frame(format!("tx {:?}", frame.disposition)),
            Event::Arrived { disposition, .. } => self.frame(match disposition {
                Disposition::Dropped(_, refusal) => format!("rx dropped {refusal:?}"),
                Disposition::Stored(filter) => format!("rx stored by {filter:?}"),
                Disposition::NoDescriptors(_) => "rx without descriptors".to_owned(),
                other => format!("rx {other:?}"),
            }),
            Event::DmaFailed { .. } => self.count("DMA that failed"),
            Event::Raised { causes, .. } => {
                for (_, name) in CAUSES.iter().filter(|(bit, _)| causes & bit != 0) {
                    *self.causes.entry(name).or_default() += 1;
                }
            }
            Event::Line { asserted: true } => self.count("interrupt delivered"),
            Event::Link { up } => self.count(if up { "link up" } else { "link down" }),
            Event::Phy { register, write, .. } => {
                self.count(format!("PHY register {register:02} {}", if write { "written" } else { "read" }));
            }
            Event::Eeprom { write, .. } => {
                self.count(if write { "EEPROM word programmed" } else { "EEPROM word read" });
            }
            Event::Fault { fault, .. } => *self.faults.entry(fault.name()).or_default() += 1,
            Event::WrittenBack { .. }
            | Event::HeadMoved { .. }
            | Event::Acknowledged { .. }
            | Event::Masked { .. }
            | Event::Line { asserted: false } => {}
        }
    }

    /// The same as a table for people.
    pub fn table(&self) -> String {
        let used = self.registers.values().filter(|use_| use_.reads + use_.writes > 0).count();
        let mut text = format!("{used} of {} registers used\n\n", self.registers.len());
        let head = ("register", "reads", "writes", "bits never set", "bits never cleared");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:10} {:>9} {:>9}  {:14}  {:14}", head.0, head.1, head.2, head.3, head.4);
        for (name, register) in self.registers.iter().filter(|(_, r)| r.reads + r.writes > 0) {
            let never = |bits: u32| if bits == 0 { "-".to_owned() } else { format!("{bits:#010x}") };
            let missing = if register.writes == 0 {
                ("-".to_owned(), "-".to_owned())
            } else {
                (never(register.writable & !register.ones), never(register.writable & !register.zeros))
            };
            let (reads, writes) = (register.reads, register.writes);
            let _ = writeln!(text, "{name:10} {reads:>9} {writes:>9}  {:14}  {:14}", missing.0, missing.1);
        }
        let untouched = self.registers.iter().filter(|(_, r)| r.reads + r.writes == 0).map(|(name, _)| *name);
        let _ = writeln!(text, "\nnever used: {}", untouched.collect::<Vec<_>>().join(" "));
        let mut section = |title: &str, rows: Vec<(String, u64)>| {
            let _ = writeln!(text, "\n{title}");
            for (name, count) in rows {
                let _ = writeln!(text, "  {name:40} {count:>10}");
            }
        };
        let own = |map: &BTreeMap<String, u64>| map.iter().map(|(k, v)| (k.clone(), *v)).collect();
        let named = |map: &BTreeMap<&str, u64>| map.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        section("descriptors", own(&self.descriptors));
        section("offloads", named(&self.offloads));
        section("frames", own(&self.frames));
        section("causes", named(&self.causes));
        section("faults", named(&self.faults));
        section("events", own(&self.events));
        section("offsets without a register", own(&self.unknown_offsets));
        text
    }
}

/// The observer that counts.
#[derive(Debug)]
pub struct Coverage(Mutex<Report>);

impl Default for Coverage {
    fn default() -> Self {
        Self(Mutex::new(Report::new()))
    }
}

impl Coverage {
    /// A fault of this name has struck on the cable.
    pub fn cable_fault(&self, kind: &'static str) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *report.faults.entry(kind).or_default() += 1;
    }

    /// What was used so far.
    pub fn report(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Coverage {
    fn event(&self, _: &Moment, event: &Event<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).event(event);
    }
}
