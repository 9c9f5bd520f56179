//! One event as a line of text or a JSON object: the same fields in both.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::bits::{causes, decode};
use super::descriptors;
use super::names::{FINDING, name_of, name_of_hit};
use super::symbols::Symbols;
use crate::fault::{CableEffect, CableHit};
use crate::nic::e1000::doctor::Finding;
use crate::nic::e1000::observe::{Disposition, Event, Moment, Ring, SentFrame};

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Number(u64),
    Hex(u64),
    Text(String),
}

/// An event, decoded.
#[derive(Debug)]
pub(super) struct Record {
    pub name: &'static str,
    pub moment: Moment,
    pub fields: Vec<(&'static str, Field)>,
}

fn hex(value: impl Into<u64>) -> Field {
    Field::Hex(value.into())
}

fn number(value: impl Into<u64>) -> Field {
    Field::Number(value.into())
}

fn text(value: impl Into<String>) -> Field {
    Field::Text(value.into())
}

fn verb(write: bool) -> Field {
    text(if write { "write" } else { "read" })
}

impl Record {
    /// `event`, decoded.
    pub fn of(moment: &Moment, event: &Event<'_>) -> Self {
        Self { name: name_of(event), moment: *moment, fields: fields(event) }
    }

    /// A finding of the doctor.
    pub fn finding(finding: &Finding) -> Self {
        let kind = finding.kind;
        let fields = vec![
            ("id", text(kind.id)),
            ("severity", text(kind.severity.to_string())),
            ("what", text(kind.what)),
            ("subject", text(&*finding.subject)),
            ("manual", text(kind.section)),
        ];
        Self { name: FINDING, moment: finding.moment, fields }
    }

    /// A fault on a cable.
    pub fn cable_fault(now_ns: u64, hit: &CableHit<'_>) -> Self {
        let mut fields = struck(hit.id, hit.kind, hit.hit);
        match hit.what {
            CableEffect::Frame { to_guest, bytes, seed, of, done } => fields.extend([
                ("of", number(of)),
                ("seed", number(seed)),
                ("way", text(if to_guest { "to the guest" } else { "from the guest" })),
                ("length", number(bytes.len() as u64)),
                ("done", text(done.to_string())),
                ("addresses", text(addresses(bytes))),
            ]),
            CableEffect::Link { up } => fields.push(("cable", text(if up { "in" } else { "out" }))),
        }
        Self { name: name_of_hit(hit), moment: Moment { now_ns, ..Moment::default() }, fields }
    }

    /// One line; `place` is the NIC's or the netdev's name.
    pub fn line(&self, place: &str, symbols: &Symbols) -> String {
        let now = self.moment.now_ns;
        let mut line = format!("{:>6}.{:09} {place} {}", now / 1_000_000_000, now % 1_000_000_000, self.name);
        for (key, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = match value {
                Field::Number(n) => write!(line, " {key}={n}"),
                Field::Hex(n) => write!(line, " {key}={n:#x}"),
                Field::Text(t) if t.is_empty() => Ok(()),
                Field::Text(t) if t.contains(' ') => write!(line, " {key}=\"{t}\""),
                Field::Text(t) => write!(line, " {key}={t}"),
            };
        }
        if let Some(origin) = self.moment.origin {
            let _ = write!(line, " cpu={}", origin.cpu);
            if let Some(rip) = origin.rip {
                let _ = write!(line, " rip={}", symbols.describe(rip));
            }
        }
        line.push('\n');
        line
    }

    /// One JSON object on a line.
    pub fn json(&self, place: &str, symbols: &Symbols) -> String {
        let mut object = Map::new();
        object.insert("ns".into(), self.moment.now_ns.into());
        let key = if self.name.starts_with("net_") { "netdev" } else { "nic" };
        object.insert(key.into(), place.into());
        object.insert("event".into(), self.name.into());
        for (key, value) in &self.fields {
            object.insert(
                (*key).into(),
                match value {
                    Field::Number(n) | Field::Hex(n) => Value::from(*n),
                    Field::Text(t) => Value::from(t.as_str()),
                },
            );
        }
        if let Some(origin) = self.moment.origin {
            object.insert("cpu".into(), origin.cpu.into());
            if let Some(rip) = origin.rip {
                object.insert("rip".into(), rip.into());
                if let Some(symbol) = symbols.name(rip) {
                    object.insert("symbol".into(), symbol.into());
                }
            }
        }
        Value::Object(object).to_string() + "\n"
    }
}

fn fields(event: &Event<'_>) -> Vec<(&'static str, Field)> {
    match *event {
        Event::RegisterRead { register, value } => {
            let bits = decode(register.offset, value);
            vec![("register", text(register.name())), ("value", hex(value)), ("bits", text(bits))]
        }
        Event::RegisterWrite { register, written, old, new } => vec![
            ("register", text(register.name())),
            ("value", hex(written)),
            ("bits", text(decode(register.offset, written))),
            ("old", hex(old)),
            ("new", hex(new)),
        ],
        Event::NoRegister { offset, written } => {
            let mut fields = vec![
                ("offset", hex(offset)),
                ("access", verb(written.is_some())),
                ("why", text("no register")),
            ];
            fields.extend(written.map(|value| ("value", hex(value))));
            fields
        }
        Event::BadAccess { offset, width, write } => vec![
            ("offset", hex(offset)),
            ("access", verb(write)),
            ("width", number(8 * width.bytes())),
            ("why", text("narrow or misaligned")),
        ],
        Event::Reset { power_on, .. } => vec![("kind", text(if power_on { "RST#" } else { "CTRL.RST" }))],
        Event::Fetched { ring, slot, raw } => {
            let words = if ring == Ring::Tx { descriptors::tx(&raw) } else { descriptors::rx(&raw) };
            vec![("index", number(slot.index)), ("at", hex(slot.address)), ("descriptor", text(words))]
        }
        Event::WrittenBack { ring, slot, raw, .. } => {
            let words =
                if ring == Ring::Tx { format!("status={:#x}", raw[4]) } else { descriptors::rx_done(&raw) };
            vec![("index", number(slot.index)), ("at", hex(slot.address)), ("descriptor", text(words))]
        }
        Event::HeadMoved { head, causes: set, .. } => {
            vec![("head", number(head)), ("causes", text(causes(set)))]
        }
        Event::Sent(SentFrame { head, rest, mss, checksum_left, fcs, disposition }) => {
            let mut fields = vec![("length", number((head.len() + rest) as u64))];
            fields.extend(mss.map(|mss| ("mss", number(mss))));
            fields.push(("checksum", text(if checksum_left { "left to the peer" } else { "done" })));
            fields.push(("fcs", text(format!("{fcs:?}").to_lowercase())));
            fields.push(("disposition", text(words(disposition))));
            fields.push(("addresses", text(addresses(head))));
            fields
        }
        Event::Arrived { head, len, disposition, .. } => vec![
            ("length", number(len as u64)),
            ("disposition", text(words(disposition))),
            ("addresses", text(addresses(head))),
        ],
        Event::DmaFailed { ring, descriptor, address, len } => vec![
            ("ring", text(if ring == Ring::Tx { "tx" } else { "rx" })),
            ("what", text(if descriptor { "descriptor" } else { "buffer" })),
            ("address", hex(address)),
            ("length", number(len as u64)),
        ],
        Event::Raised { causes: set, icr, ims } => {
            vec![("causes", text(causes(set))), ("icr", hex(icr)), ("ims", hex(ims))]
        }
        Event::Acknowledged { causes: cleared } => vec![("causes", text(causes(cleared)))],
        Event::Masked { old, new } => {
            vec![("old", hex(old)), ("new", hex(new)), ("bits", text(causes(new)))]
        }
        Event::Line { asserted } => vec![("line", text(if asserted { "asserted" } else { "deasserted" }))],
        Event::Link { up } => vec![("link", text(if up { "up" } else { "down" }))],
        Event::Phy { number: phy, register, value, write, ok } => vec![
            ("phy", number(phy)),
            ("register", number(register)),
            ("access", verb(write)),
            ("value", hex(value)),
            ("answer", text(if ok { "ready" } else { "error" })),
        ],
        Event::Eeprom { address, value, write } => {
            vec![("word", hex(address)), ("access", verb(write)), ("value", hex(value))]
        }
        Event::Fault { fault, plan, hit, of, seed } => {
            let mut fields = struck(plan, fault.name(), hit);
            fields.extend([("of", number(of)), ("seed", number(seed)), ("done", text(fault.effect()))]);
            fields
        }
    }
}

/// A plan that has struck.
fn struck(plan: &str, kind: &str, hit: u64) -> Vec<(&'static str, Field)> {
    vec![("plan", text(plan)), ("kind", text(kind)), ("hit", number(hit))]
}

/// A disposition in words.
pub(super) fn words(disposition: Disposition) -> String {
    match disposition {
        Disposition::Sent => "sent".to_owned(),
        Disposition::LoopedBack => "looped back".to_owned(),
        Disposition::PeerFull => "peer full, kept".to_owned(),
        Disposition::BadFcs => "sent with a bad FCS".to_owned(),
        Disposition::BadRequest => "not sent: impossible request".to_owned(),
        Disposition::TooLong => "not sent: too long".to_owned(),
        Disposition::Unreadable => "not sent: buffer is not memory".to_owned(),
        Disposition::Stored(filter) => format!("stored by {filter:?}"),
        Disposition::NoDescriptors(filter) => format!("let in by {filter:?}, waits for descriptors"),
        Disposition::Dropped(_, refusal) => format!("dropped: {refusal:?}"),
    }
}

/// Destination, source and EtherType.
fn addresses(head: &[u8]) -> String {
    let Some((to, rest)) = head.split_first_chunk::<6>() else { return String::new() };
    let Some((from, rest)) = rest.split_first_chunk::<6>() else { return String::new() };
    let mac = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let kind = rest.first_chunk().map_or(0, |kind| u16::from_be_bytes(*kind));
    format!("{}>{},{kind:#06x}", mac(from), mac(to))
}
