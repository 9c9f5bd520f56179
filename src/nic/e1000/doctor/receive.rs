//! The receive ring, its buffers, and frames that do not get in.

use std::collections::{BTreeMap, HashMap};

use super::kinds::*;
use super::transmit::Written;
use super::{Chart, Lasting, Registers, check_64k, register};
use crate::nic::e1000::observe::{Disposition, Event, Moment, Refusal, Ring, Slot};
use crate::nic::e1000::spec::{DELAY_TICK_NS, ITR_TICK_NS, MAX_STANDARD, rctl, reg, rxd};

/// Frames that find no descriptor for so long are not just early.
const STARVING_NS: u64 = 1_000_000_000;
/// Told already: no time is so long ago.
const TOLD: Option<u64> = Some(u64::MAX);
/// Buffers that are forgotten no sooner than that there are so many, and twice what the device owned last time.
const BUFFERS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Watch {
    length: Written,
    base: Written,
    /// A descriptor has been given since the receiver was switched on.
    given: bool,
    /// The ring's length and base have been looked at.
    checked: bool,
    delayed: Lasting,
    in_vain: Lasting,
    /// The receiver has been on since reset.
    was_on: bool,
    /// Since when frames find the receiver off, although it has descriptors.
    off: Option<u64>,
    /// Since when frames find nothing.
    starving: Option<u64>,
    /// Descriptors as they were fetched and not written back yet.
    fetched: HashMap<u32, [u8; 16]>,
    /// Descriptors that were fetched so far: a lap-free index.
    sequence: u64,
    /// Buffers that were fetched: address to the first sequence number that it was not given together with.
    buffers: BTreeMap<u64, u64>,
    /// How many of them were the device's when the others were forgotten.
    live: usize,
    /// A descriptor with DD set was fetched.
    stale: Option<(Slot, u8)>,
    /// RDT was moved too far.
    passed: bool,
    stale_told: bool,
}

impl Watch {
    /// The base address outlives CTRL.RST.
    pub fn reset(&mut self, power_on: bool) {
        let base = if power_on { Written::default() } else { self.base };
        *self = Self { base, ..Self::default() };
    }

    pub fn written(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>, old: u32) {
        let Event::RegisterWrite { register: found, written, new, .. } = *event else { return };
        let enabled = registers.has(reg::RCTL, rctl::EN);
        let written = Written { value: written, moment: Some(chart.moment) };
        let (head, tail) = (registers.get(reg::RDH), registers.get(reg::RDT));
        match found.offset {
            reg::RDLEN => self.length = written,
            reg::RDBAL => self.base = written,
            _ => {}
        }
        match found.offset {
            reg::RDLEN | reg::RDBAL | reg::RDBAH | reg::RDH => {
                let had = if found.offset == reg::RDH { old != tail } else { head != tail };
                if enabled && had {
                    chart.note(&RX_MOVED_WHILE_ON, || register(found.offset, written.value));
                }
                let whole = std::mem::take(self);
                let Self { length, base, was_on, .. } = whole;
                *self = Self { length, base, was_on, ..Self::default() };
            }
            reg::RDT if enabled => self.given(registers, chart, (old, new)),
            reg::RCTL if enabled && old & rctl::EN == 0 => {
                // What the device had before, the driver may have taken back.
                let Self { length, base, .. } = std::mem::take(self);
                *self = Self { length, base, was_on: true, ..Self::default() };
                if head != tail {
                    self.ring_is_used(registers, chart);
                    self.given = true;
                }
            }
            _ => {}
        }
    }

    /// RDT was moved while the receiver is on.
    fn given(&mut self, registers: &Registers, chart: &mut Chart<'_>, (old, new): (u32, u32)) {
        let (len, head) = (registers.get(reg::RDLEN) / 16, registers.get(reg::RDH));
        if new != head {
            self.given = true;
            self.starving = None;
            self.ring_is_used(registers, chart);
        }
        if len == 0 || new >= len || old >= len || head >= len {
            return;
        }
        let distance = |from: u32, to: u32| (to + len - from) % len;
        let given = distance(head, old) + distance(old, new);
        let ring = || format!("RDT {old} -> {new}, RDH = {head}, {len} descriptors");
        if given == len {
            chart.note(&RX_TAIL_MEETS_HEAD, ring);
        } else if given > len {
            chart.note(&RX_TAIL_PASSES_HEAD, ring);
        }
        if given >= len {
            self.passed = true;
            self.took_old_frames(chart);
        }
    }

    fn took_old_frames(&mut self, chart: &mut Chart<'_>) {
        if let (Some((slot, status)), true, false) = (self.stale, self.passed, self.stale_told) {
            self.stale_told = true;
            chart.note(&RX_STALE_STATUS, || {
                format!("receive descriptor {} was given with status {status:#04x}", slot.index)
            });
        }
    }

    /// The receiver is about to read descriptors.
    fn ring_is_used(&mut self, registers: &Registers, chart: &mut Chart<'_>) {
        if !std::mem::replace(&mut self.checked, true) {
            self.check(registers, chart);
        }
        let len = registers.get(reg::RDLEN) / 16;
        let (head, tail) = (registers.get(reg::RDH), registers.get(reg::RDT));
        let ring =
            |offset| format!("{}, the ring has {len} descriptors", register(offset, registers.get(offset)));
        if len > 0 && tail == len {
            chart.note(&RX_TAIL_IS_LENGTH, || ring(reg::RDT));
        } else if len > 0 && tail > len {
            chart.note(&RX_TAIL_OUTSIDE, || ring(reg::RDT));
        }
        if len > 0 && head >= len {
            chart.note(&RX_TAIL_OUTSIDE, || ring(reg::RDH));
        }
        if self.delayed.begins(registers.get(reg::RDTR) != 0) {
            chart.note(&RX_DELAY_TIMER, || register(reg::RDTR, registers.get(reg::RDTR)));
        }
        let (absolute, interval) = (registers.get(reg::RADV), registers.get(reg::ITR));
        let ticks = (u64::from(absolute) * DELAY_TICK_NS, u64::from(interval) * ITR_TICK_NS);
        if self.in_vain.begins(absolute != 0 && ticks.0 < ticks.1) {
            chart.note(&RX_ABSOLUTE_DELAY, || {
                format!("{}, {}", register(reg::RADV, absolute), register(reg::ITR, interval))
            });
        }
    }

    /// Its length and base.
    fn check(&self, registers: &Registers, chart: &mut Chart<'_>) {
        let (length, base) = (registers.get(reg::RDLEN), registers.get(reg::RDBAL));
        if length == 0 || self.length.value & 0x7f != 0 {
            let value = if length == 0 { 0 } else { self.length.value };
            chart.note_at(&RX_LENGTH, self.length.moment, || register(reg::RDLEN, value));
        }
        let nowhere = base == 0 && registers.get(reg::RDBAH) == 0;
        if nowhere || self.base.value & 0xf != 0 {
            chart.note_at(&RX_BASE, self.base.moment, || register(reg::RDBAL, self.base.value));
        }
        let (base, len) = (u64::from(registers.get(reg::RDBAH)) << 32 | u64::from(base), u64::from(length));
        check_64k(chart, || "the receive ring".to_owned(), base, len);
    }

    pub fn event(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>) {
        if let Some(since) = self.starving
            && chart.moment.now_ns.saturating_sub(since) > STARVING_NS
        {
            self.starving = TOLD;
            let kind = if self.given { &RX_NOT_REFILLED } else { &RX_NEVER_GIVEN };
            // Time has shown it; whoever comes by then is not to blame.
            chart.note_at(kind, Some(Moment { origin: None, ..chart.moment }), || {
                format!("RDH = RDT = {}, RDLEN = {:#x}", registers.get(reg::RDT), registers.get(reg::RDLEN))
            });
        }
        match *event {
            Event::Fetched { ring: Ring::Rx, slot, raw } => {
                self.fetched.insert(slot.index, raw);
                self.fetched(registers, chart, slot, raw);
            }
            Event::WrittenBack { ring: Ring::Rx, slot, found, .. } => {
                let fetched = self.fetched.remove(&slot.index);
                if let (Some(fetched), Some(found)) = (fetched, found)
                    && fetched != found
                {
                    chart.note(&RX_CHANGED, || {
                        format!("receive descriptor {}: {fetched:02x?} became {found:02x?}", slot.index)
                    });
                }
            }
            Event::Arrived { disposition: Disposition::Dropped(_, Refusal::Off), .. } => {
                self.found_off(registers, chart);
            }
            Event::Arrived { head, len, disposition, .. } => {
                self.arrived(chart, head, len, disposition);
            }
            Event::DmaFailed { ring: Ring::Rx, descriptor, address, len } => {
                let kind = if descriptor { &RX_RING_NOT_MEMORY } else { &RX_BUFFER_NOT_MEMORY };
                chart.note(kind, || format!("{len} bytes at {address:#x}"));
            }
            _ => {}
        }
    }

    /// A frame came while the receiver is off.
    fn found_off(&mut self, registers: &Registers, chart: &mut Chart<'_>) {
        let (head, tail) = (registers.get(reg::RDH), registers.get(reg::RDT));
        if self.was_on || head == tail || registers.has(reg::RCTL, rctl::EN) {
            self.off = None;
        } else if chart.moment.now_ns.saturating_sub(*self.off.get_or_insert(chart.moment.now_ns))
            > STARVING_NS
        {
            self.off = TOLD;
            chart.note(&RX_NEVER_ON, || {
                format!("RDT = {tail}, {}", register(reg::RCTL, registers.get(reg::RCTL)))
            });
        }
    }

    fn arrived(&mut self, chart: &mut Chart<'_>, head: &[u8], len: usize, disposition: Disposition) {
        match disposition {
            Disposition::NoDescriptors(_) => {
                self.starving.get_or_insert(chart.moment.now_ns);
            }
            Disposition::Dropped(_, Refusal::Vlan { table_empty: true }) => {
                chart.note(&RX_VLAN_TABLE_EMPTY, || format!("a frame of {len} bytes"));
            }
            Disposition::Dropped(_, Refusal::Address) if head.starts_with(&[0xff; 6]) => {
                chart.note(&RX_NO_BROADCAST, || format!("a frame of {len} bytes"));
            }
            Disposition::Dropped(_, Refusal::TooLong) => {
                chart.note(&RX_TOO_LONG, || format!("a frame of {len} bytes"));
            }
            _ => {}
        }
    }

    fn fetched(&mut self, registers: &Registers, chart: &mut Chart<'_>, slot: Slot, raw: [u8; 16]) {
        let [a, b, c, d, e, f, g, h, ..] = raw;
        let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if raw[12] & rxd::DD != 0 {
            self.stale.get_or_insert((slot, raw[12]));
            self.took_old_frames(chart);
        }
        self.sequence += 1;
        if address == 0 {
            chart.note(&RX_NULL_BUFFER, || format!("receive descriptor {}", slot.index));
            return;
        }
        let reach = reach(registers.get(reg::RCTL));
        check_64k(chart, || format!("the buffer of receive descriptor {}", slot.index), address, reach);
        let (len, tail) = (registers.get(reg::RDLEN) / 16, registers.get(reg::RDT));
        if len == 0 || self.passed {
            return;
        }
        let together = |until: u64| self.sequence < until;
        let near = self.buffers.range(address.saturating_sub(reach - 1)..address.saturating_add(reach));
        if let Some((&other, _)) = near.into_iter().find(|&(_, &until)| together(until)) {
            let subject =
                || format!("receive descriptor {}: buffer {address:#x}, another at {other:#x}", slot.index);
            let kind = if other == address { &RX_BUFFER_TWICE } else { &RX_BUFFERS_OVERLAP };
            chart.note(kind, subject);
        }
        // This one and those behind it up to the tail are the device's at the same time.
        let owned = (tail + len).saturating_sub(slot.index) % len;
        self.buffers.insert(address, self.sequence + u64::from(owned));
        if self.buffers.len() > BUFFERS + 2 * self.live {
            let now = self.sequence;
            self.buffers.retain(|_, until| *until > now);
            self.live = self.buffers.len();
        }
    }
}

/// How many bytes of a buffer a frame may take.
fn reach(control: u32) -> u64 {
    let code = control >> rctl::BSIZE_SHIFT & 3;
    let size = if control & rctl::BSEX != 0 && code != 0 { 32768 >> code } else { 2048 >> code };
    if control & (rctl::LPE | rctl::SBP) != 0 { size } else { size.min(MAX_STANDARD as u64) }
}
