//! The transmit ring and what its descriptors ask for.

use std::collections::HashMap;

use super::kinds::*;
use super::{Chart, Lasting, Registers, check_64k, register, sums};
use crate::netport::segment::Insert;
use crate::nic::e1000::observe::{Disposition, Event, Fcs, Moment, Ring, Slot};
use crate::nic::e1000::spec::{MAX_TX_FRAME, MIN_FRAME, ctrl, rctl, reg, tctl, txd};
use crate::nic::e1000::tx_context::Context;
use crate::nic::e1000::tx_frame::{Data, Descriptor, MAX_PACKET, Offload, decode};

/// RPS of a descriptor (3.3.3.1): the 82544's other way to ask for DD. Linux's self-test uses it everywhere.
const RPS: u32 = 1 << 28;
/// Doorbells with reads of TDH before them that make a habit, if they are more than a fifth of all.
const POLLS: u32 = 16;
/// A doorbell without takes away so much less than one with it adds.
const POLL_WEIGHT: u32 = 4;
/// Doorbells so long after the first that found the transmitter off are not just early.
const OFF_NS: u64 = 1_000_000_000;
/// Bytes that VLE adds.
const TAG_LEN: usize = 4;
/// Shortest packet that the part sends at all (13.4.33).
const LEAST_PACKET: usize = 17;
/// Longest prototype header (3.3.6).
const MAX_HEADER: usize = 240;

/// A length or base register as it was written last; without a moment if nobody has done so since reset.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub value: u32,
    pub moment: Option<Moment>,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    length: Written,
    base: Written,
    /// The ring's length and base have been looked at.
    checked: bool,
    no_master: Lasting,
    no_link: Lasting,
    /// When the driver rang first while the transmitter is off.
    off: Option<u64>,
    /// Descriptors as they were fetched and not written back yet.
    fetched: HashMap<u32, [u8; 16]>,
    tso: Option<Loaded>,
    plain: Option<Loaded>,
    packet: Packet,
    /// Descriptors since the last with RS.
    unreported: u32,
    /// TDH was read since the last doorbell; so was what only a register dump reads.
    head_read: bool,
    dumped: bool,
    /// How much of a habit reading it is.
    polls: u32,
    loopback: bool,
    /// The checksum that the device was to insert into the last packet.
    asked: Option<Insert>,
}

#[derive(Debug, Clone, Copy)]
struct Loaded {
    context: Context,
    payload_len: usize,
}

/// What the descriptors of a packet have said so far.
#[derive(Debug, Default)]
struct Packet {
    descriptors: u32,
    len: usize,
    tse: bool,
    offload: Option<Offload>,
    hopeless: bool,
    /// A tag is inserted.
    tagged: bool,
}

impl Watch {
    /// The base address outlives CTRL.RST.
    pub fn reset(&mut self, power_on: bool) {
        let base = if power_on { Written::default() } else { self.base };
        *self = Self { loopback: self.loopback, base, ..Self::default() };
    }

    pub fn written(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>, old: u32) {
        let Event::RegisterWrite { register: found, written, new, .. } = *event else { return };
        let enabled = registers.has(reg::TCTL, tctl::EN);
        let pending = registers.get(reg::TDT) != registers.get(reg::TDH);
        let written = Written { value: written, moment: Some(chart.moment) };
        match found.offset {
            reg::TDLEN => self.length = written,
            reg::TDBAL => self.base = written,
            _ => {}
        }
        match found.offset {
            reg::TDLEN | reg::TDBAL | reg::TDBAH | reg::TDH => {
                self.unreported = 0;
                self.checked = false;
                self.fetched.clear();
                self.packet = Packet::default();
                if enabled {
                    chart.note(&TX_MOVED_WHILE_ON, || register(found.offset, written.value));
                }
            }
            reg::TDT => {
                self.weigh_head_reads(registers, chart);
                if enabled {
                    self.doorbell(registers, chart, (old, new));
                } else if old != new {
                    self.in_vain(registers, chart, new);
                }
            }
            reg::TCTL if enabled && old & tctl::EN == 0 => {
                self.off = None;
                if pending {
                    self.ring_is_used(registers, chart);
                }
            }
            _ => {}
        }
    }

    fn doorbell(&mut self, registers: &Registers, chart: &mut Chart<'_>, (old, new): (u32, u32)) {
        self.ring_is_used(registers, chart);
        if self.no_master.begins(!chart.moment.bus_master) {
            chart.note(&BUS_MASTER_OFF, || register(reg::TDT, new));
        }
        let looped = self.loopback || registers.has(reg::RCTL, rctl::LBM_MASK);
        if self.no_link.begins(!registers.has(reg::CTRL, ctrl::SLU) && !looped) {
            chart.note(&LINK_NOT_SET_UP, || register(reg::CTRL, registers.get(reg::CTRL)));
        }
        let (len, head) = (registers.get(reg::TDLEN) / 16, registers.get(reg::TDH));
        if len > 0 && new < len && old < len && head < len {
            let distance = |from: u32, to: u32| (to + len - from) % len;
            if distance(head, old) + distance(old, new) >= len {
                chart.note(&TX_TAIL_PASSES_HEAD, || {
                    format!("TDT {old} -> {new}, TDH = {head}, {len} descriptors")
                });
            }
        }
    }

    /// The transmitter is about to read descriptors.
    fn ring_is_used(&mut self, registers: &Registers, chart: &mut Chart<'_>) {
        if !std::mem::replace(&mut self.checked, true) {
            self.check(registers, chart);
        }
        let length = registers.get(reg::TDLEN);
        for offset in [reg::TDT, reg::TDH] {
            let value = registers.get(offset);
            if length != 0 && value >= length / 16 {
                chart.note(&TX_TAIL_OUTSIDE, || {
                    format!("{}, the ring has {} descriptors", register(offset, value), length / 16)
                });
            }
        }
    }

    /// Its length and base.
    fn check(&self, registers: &Registers, chart: &mut Chart<'_>) {
        let (length, base) = (registers.get(reg::TDLEN), registers.get(reg::TDBAL));
        if length == 0 || self.length.value & 0x7f != 0 {
            let value = if length == 0 { 0 } else { self.length.value };
            chart.note_at(&TX_LENGTH, self.length.moment, || register(reg::TDLEN, value));
        }
        let nowhere = base == 0 && registers.get(reg::TDBAH) == 0;
        if nowhere || self.base.value & 0xf != 0 {
            chart.note_at(&TX_BASE, self.base.moment, || register(reg::TDBAL, self.base.value));
        }
        let whole = u64::from(registers.get(reg::TDBAH)) << 32 | u64::from(base);
        check_64k(chart, || "the transmit ring".to_owned(), whole, u64::from(length));
    }

    /// TDT was moved to `tail` while the transmitter is off.
    fn in_vain(&mut self, registers: &Registers, chart: &mut Chart<'_>, tail: u32) {
        let now = chart.moment.now_ns;
        if now.saturating_sub(*self.off.get_or_insert(now)) > OFF_NS {
            self.off = Some(u64::MAX);
            chart.note(&TX_NEVER_ON, || {
                format!("TDT = {tail}, {}", register(reg::TCTL, registers.get(reg::TCTL)))
            });
        }
    }

    pub fn event(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>) {
        match *event {
            Event::RegisterRead { register: found, .. } => match found.offset {
                reg::TDH => self.head_read = true,
                reg::TDLEN | reg::TDBAL | reg::TDBAH => self.dumped = true,
                _ => {}
            },
            Event::Fetched { ring: Ring::Tx, slot, raw } => self.fetched(registers, chart, slot, raw),
            Event::WrittenBack { ring: Ring::Tx, slot, found, .. } => self.written_back(chart, slot, found),
            Event::Sent(frame) if frame.fcs == Fcs::Missing && frame.disposition != Disposition::PeerFull => {
                chart.note(&TX_NO_FCS, || format!("a frame of {} bytes", frame.head.len() + frame.rest));
            }
            Event::Sent(frame)
                if matches!(frame.disposition, Disposition::Sent | Disposition::LoopedBack) =>
            {
                if let Some(asked) = &self.asked
                    && sums::is_good(&frame) == Some(false)
                {
                    let len = frame.head.len() + frame.rest;
                    chart.note(&TX_BAD_SUM, || {
                        format!("a frame of {len} bytes, start {}, offset {}", asked.start, asked.at)
                    });
                }
            }
            Event::DmaFailed { ring: Ring::Tx, descriptor, address, len } => {
                let kind = if descriptor { &TX_RING_NOT_MEMORY } else { &TX_BUFFER_NOT_MEMORY };
                chart.note(kind, || format!("{len} bytes at {address:#x}"));
            }
            Event::Phy { register: 0, value, write: true, ok: true, .. } => {
                self.loopback = value & 1 << 14 != 0;
            }
            _ => {}
        }
    }

    /// TDT is written: was TDH read since the last time, by somebody who frees buffers by it?
    fn weigh_head_reads(&mut self, registers: &Registers, chart: &mut Chart<'_>) {
        let (read, dumped) = (std::mem::take(&mut self.head_read), std::mem::take(&mut self.dumped));
        if !read {
            self.polls = self.polls.saturating_sub(1);
        } else if !dumped && registers.has(reg::TCTL, tctl::EN) {
            self.polls += POLL_WEIGHT;
        }
        if self.polls >= POLLS * POLL_WEIGHT {
            self.polls = 0;
            let head = registers.get(reg::TDH);
            chart.note(&TX_HEAD_POLLED, || {
                format!("TDH, now {head}, was read between doorbells, {POLLS} times and more")
            });
        }
    }

    fn written_back(&mut self, chart: &mut Chart<'_>, slot: Slot, found: Option<[u8; 16]>) {
        let fetched = self.fetched.remove(&slot.index);
        if let (Some(fetched), Some(found)) = (fetched, found)
            && fetched != found
        {
            chart.note(&TX_CHANGED, || {
                format!("transmit descriptor {}: {fetched:02x?} became {found:02x?}", slot.index)
            });
        }
    }

    fn fetched(&mut self, registers: &Registers, chart: &mut Chart<'_>, slot: Slot, raw: [u8; 16]) {
        let len = registers.get(reg::TDLEN) / 16;
        let lower = u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]);
        self.fetched.insert(slot.index, raw);
        self.unreported += 1;
        if lower & (txd::RS | RPS) != 0 {
            self.unreported = 0;
        } else if len > 1 && self.unreported >= len - 1 {
            chart.note(&TX_NO_REPORT, || format!("{} transmit descriptors without RS", self.unreported));
            self.unreported = 0;
        }
        if raw == [0; 16] {
            chart.note(&TX_ZERO_DESCRIPTOR, || {
                format!("transmit descriptor {} at {:#x}", slot.index, slot.address)
            });
            self.packet = Packet::default();
            return;
        }
        match decode(&raw).0 {
            Descriptor::Context(context) => {
                let loaded = Loaded { context, payload_len: (lower & 0xf_ffff) as usize };
                let place = if context.is_tso() { &mut self.tso } else { &mut self.plain };
                *place = Some(loaded);
            }
            Descriptor::Data(data) => self.data(registers, chart, slot, &data),
            Descriptor::Unknown => {}
        }
    }

    fn data(&mut self, registers: &Registers, chart: &mut Chart<'_>, slot: Slot, data: &Data) {
        let here =
            || format!("transmit descriptor {}, {} bytes at {:#x}", slot.index, data.len, data.address);
        let tse = matches!(data.offload, Offload::Extended { tse: true, .. });
        if data.address == 0 && data.len > 0 {
            chart.note(&TX_NULL_BUFFER, here);
        }
        if data.len == 0 && (!data.eop || self.packet.len > 0) {
            chart.note(&TX_ZERO_LENGTH, here);
        } else if data.len == 0 {
            chart.note(&TX_EMPTY, here);
        }
        let packet = &mut self.packet;
        if packet.descriptors == 0 {
            (packet.tse, packet.offload) = (tse, Some(data.offload));
        } else if packet.tse != tse {
            chart.note(&TX_SEGMENT_MIXED, here);
        }
        if let Offload::Legacy { .. } = data.offload {
            packet.offload = Some(data.offload);
        }
        packet.descriptors += 1;
        packet.len += data.len;
        packet.tagged = data.vle && registers.has(reg::CTRL, ctrl::VME);
        if data.vle && data.eop && !packet.tagged {
            chart.note(&TX_TAG_NOT_INSERTED, here);
        }
        let most = if packet.tse { MAX_PACKET } else { MAX_TX_FRAME };
        let lap = registers.get(reg::TDLEN) / 16;
        if !data.eop && !packet.hopeless && (packet.len > most || lap > 1 && packet.descriptors >= lap - 1) {
            packet.hopeless = true;
            chart.note(&TX_NO_EOP, || {
                format!("{} descriptors with {} bytes up to {}", packet.descriptors, packet.len, slot.index)
            });
        }
        if data.eop {
            let packet = std::mem::take(&mut self.packet);
            self.packet_ends(registers, chart, &packet, &here());
        }
    }

    fn packet_ends(&mut self, registers: &Registers, chart: &mut Chart<'_>, packet: &Packet, last: &str) {
        let whole = || format!("packet of {} bytes that ends with {last}", packet.len);
        if !packet.tse && packet.len > longest(registers.get(reg::PBA)) && !packet.hopeless {
            chart.note(&TX_TOO_LONG, whole);
        }
        let least = if registers.has(reg::TCTL, tctl::PSP) { LEAST_PACKET } else { MIN_FRAME };
        if packet.len > 0 && packet.len + if packet.tagged { TAG_LEN } else { 0 } < least {
            chart.note(&TX_RUNT, whole);
        }
        self.asked = None;
        if let Some(Offload::Legacy { ic: true, cso, css }) = packet.offload {
            let sum = Insert { start: usize::from(css), end: usize::MAX, at: usize::from(cso) };
            if misplaced(&sum, packet.len) {
                chart.note(&TX_CONTEXT_OFFSETS, || format!("CSS {css}, CSO {cso}: {}", whole()));
            }
            self.asked = Some(sum);
        }
        let Some(Offload::Extended { tse, popts }) = packet.offload else { return };
        let Some(loaded) = (if tse { self.tso } else { self.plain }) else {
            if tse {
                chart.note(&TX_SEGMENT_NO_CONTEXT, whole);
            } else if popts & (txd::POPTS_IXSM | txd::POPTS_TXSM) != 0 {
                chart.note(&TX_NO_CONTEXT, whole);
            }
            return;
        };
        let context = loaded.context;
        self.asked = (popts & txd::POPTS_TXSM != 0).then(|| context.l4_checksum());
        let sums = [(txd::POPTS_TXSM, context.l4_checksum()), (txd::POPTS_IXSM, context.ip_checksum())];
        for (_, sum) in sums.into_iter().filter(|(asked, _)| popts & asked != 0) {
            if misplaced(&sum, packet.len) {
                chart.note(&TX_CONTEXT_OFFSETS, || {
                    format!("start {}, offset {}: {}", sum.start, sum.at, whole())
                });
            }
        }
        if tse {
            let (header, mss) = context.segmentation();
            if header == 0 || header > MAX_HEADER || mss == 0 {
                chart.note(&TX_SEGMENT_PARAMETERS, || format!("HDRLEN {header}, MSS {mss}: {}", whole()));
            } else if loaded.payload_len + header != packet.len {
                chart.note(&TX_PAYLOAD_LENGTH, || {
                    format!("PAYLEN {}, HDRLEN {header}: {}", loaded.payload_len, whole())
                });
            }
        }
    }
}

/// The longest frame that fits the transmit FIFO, which has what PBA.RXA leaves of 64 KiB.
fn longest(packet_buffer: u32) -> usize {
    let fifo = 64usize.saturating_sub((packet_buffer & 0x7f) as usize) * 1024;
    MAX_TX_FRAME.min(fifo.saturating_sub(80))
}

/// A checksum that goes behind the packet or before the first byte that it covers.
fn misplaced(sum: &Insert, len: usize) -> bool {
    sum.at + 2 > len || sum.at < sum.start
}
