//! What accesses alone show: widths, classes, reserved bits, reset, EEPROM and PHY.

use super::kinds::*;
use super::{Chart, Registers, register};
use crate::nic::e1000::Model;
use crate::nic::e1000::observe::{Event, Moment};
use crate::nic::e1000::regs::table::{Class, Effect, Found, State};
use crate::nic::e1000::spec::{cause, ctrl, eeprom, mdic, rah, rctl, reg, tctl};

/// How long the EEPROM takes to load at least (14.3 asks for more).
const RESET_NS: u64 = 1_000_000;
/// After so long an MDIC cycle is over, even if nobody has looked (13.4.7 says 64 us).
const MDIC_NS: u64 = 100_000;
/// Bits 0, 11, 14, 21 and 24 (13.4.22).
const RCTL_RESERVED: u32 = 1 | 1 << 11 | 1 << 14 | 1 << 21 | 1 << 24;
/// Bits 0 and 2 (13.4.33).
const TCTL_RESERVED: u32 = 1 | 1 << 2;
/// What Linux's self-test writes to STATUS, to see that nothing comes of it; its next write puts the old value back.
const SELF_TEST_STATUS: u32 = 0xffff_f833;
/// KiB of the packet buffer that each direction needs.
const LEAST_FIFO: u32 = 8;

#[derive(Debug)]
pub(super) struct Watch {
    model: Model,
    /// When CTRL.RST was written last.
    reset_at: Option<u64>,
    /// The high half of this counter was the last register read.
    high_read: Option<u32>,
    /// When MDIC was written, if its end has not been seen since.
    mdic_since: Option<u64>,
    /// Linux's self-test is at STATUS.
    status_test: bool,
    pba_changed: bool,
}

impl Watch {
    pub fn new(model: Model) -> Self {
        Self {
            model,
            reset_at: None,
            high_read: None,
            mdic_since: None,
            status_test: false,
            pba_changed: false,
        }
    }

    /// The EEPROM has to be asked for by EECD.REQ.
    fn shares_eeprom(&self) -> bool {
        self.model != Model::I82544Gc
    }

    pub fn reset(&mut self) {
        self.mdic_since = None;
        self.pba_changed = false;
    }

    pub fn event(&mut self, registers: &Registers, chart: &mut Chart<'_>, event: &Event<'_>) {
        match *event {
            Event::RegisterRead { register, value } => self.read(chart, register, value),
            Event::RegisterWrite { register, written, .. } => {
                self.written(registers, chart, register, written)
            }
            Event::NoRegister { offset, .. } => {
                chart.note(&NO_SUCH_REGISTER, || format!("offset {offset:#x}"));
            }
            Event::BadAccess { offset, width, write } => {
                let verb = if write { "written" } else { "read" };
                chart
                    .note(&NARROW_ACCESS, || format!("{:#x} {verb} with {} bits", offset, 8 * width.bytes()));
            }
            _ => {}
        }
    }

    fn read(&mut self, chart: &mut Chart<'_>, found: Found, value: u32) {
        if !matches!(found.offset, reg::CTRL | reg::STATUS) {
            self.touched(chart, found);
        }
        if found.row.class == Class::Wo {
            chart.note(&READ_OF_WRITE_ONLY, || found.name());
        }
        if found.row.effect == Effect::CounterLow && self.high_read == Some(found.offset + 4) {
            chart.note(&COUNTER_HIGH_FIRST, || found.name());
        }
        self.high_read = (found.row.effect == Effect::CounterHigh).then_some(found.offset);
        // Its end can be asked for as an interrupt instead.
        let seen = found.offset == reg::MDIC && value & mdic::READY != 0
            || found.offset == reg::ICR && value & cause::MDAC != 0;
        if seen {
            self.mdic_since = None;
        }
    }

    /// Within the time that a reset takes. The 82544 is told by CTRL_EXT.EE_RST to load its EEPROM then.
    fn touched(&mut self, chart: &mut Chart<'_>, found: Found) {
        let Some(at) = self.reset_at.filter(|_| found.offset != reg::CTRL_EXT) else { return };
        let Moment { now_ns, .. } = chart.moment;
        if now_ns.saturating_sub(at) >= RESET_NS {
            self.reset_at = None;
        } else {
            chart.note(&TOO_SOON_AFTER_RESET, || {
                format!("{}, {} us after CTRL.RST", found.name(), now_ns.saturating_sub(at) / 1000)
            });
        }
    }

    fn written(&mut self, registers: &Registers, chart: &mut Chart<'_>, found: Found, value: u32) {
        self.touched(chart, found);
        self.high_read = None;
        match (found.row.class, found.row.state) {
            (Class::Ro, State::ReadsZero) => chart.note(&NO_SUCH_REGISTER, || found.name()),
            (Class::Ro, _) if found.offset == reg::STATUS => {
                let test = value == SELF_TEST_STATUS || self.status_test;
                self.status_test = value == SELF_TEST_STATUS;
                if !test {
                    chart.note(&WRITE_TO_READ_ONLY, || register(found.offset, value));
                }
            }
            (Class::Ro | Class::Rc, _) => {
                chart.note(&WRITE_TO_READ_ONLY, || register(found.offset, value));
            }
            _ => {}
        }
        let running = registers.has(reg::RCTL, rctl::EN) || registers.has(reg::TCTL, tctl::EN);
        match found.offset {
            reg::CTRL if value & ctrl::RST != 0 => {
                self.reset_at = Some(chart.moment.now_ns);
                if running {
                    chart.note(&RESET_WHILE_RUNNING, || register(reg::CTRL, value));
                }
            }
            reg::RCTL => {
                let reserved = value & RCTL_RESERVED;
                if reserved != 0 {
                    chart.note(&RESERVED_BITS, || register(reg::RCTL, value));
                }
                if value & rctl::BSEX != 0 && value >> rctl::BSIZE_SHIFT & 3 == 0 {
                    chart.note(&RX_BUFFER_SIZE_RESERVED, || register(reg::RCTL, value));
                }
                if value & rctl::EN != 0 && !registers.has(reg::RCTL, rctl::EN) {
                    self.switched_on(registers, chart, found.offset, value);
                }
            }
            reg::TCTL => {
                if value & TCTL_RESERVED != 0 {
                    chart.note(&RESERVED_BITS, || register(reg::TCTL, value));
                }
                if value & tctl::EN != 0 && !registers.has(reg::TCTL, tctl::EN) {
                    self.switched_on(registers, chart, found.offset, value);
                }
            }
            reg::PBA => {
                let rx = value & 0x7f;
                if !(LEAST_FIFO..=64 - LEAST_FIFO).contains(&rx) {
                    chart.note(&PBA_OUT_OF_RANGE, || register(reg::PBA, value));
                }
                self.pba_changed |= rx != registers.get(reg::PBA) & 0x7f;
            }
            reg::MDIC => {
                let now = chart.moment.now_ns;
                if self.mdic_since.replace(now).is_some_and(|since| now.saturating_sub(since) < MDIC_NS) {
                    chart.note(&MDIC_NOT_AWAITED, || register(reg::MDIC, value));
                }
                let (number, write) = (value >> 21 & 0x1f, value >> 26 & 3 == mdic::OP_WRITE);
                if write && number != mdic::PHY_ADDRESS {
                    chart.note(&PHY_WRONG_ADDRESS, || {
                        format!("MDIC = {value:#x}: PHY {number}, register {}", value >> 16 & 0x1f)
                    });
                }
            }
            reg::EECD if value & (eeprom::CS | eeprom::REQ) == eeprom::CS && self.shares_eeprom() => {
                let released = registers.has(reg::EECD, eeprom::REQ);
                let kind = if released { &EEPROM_SELECTED } else { &EEPROM_NO_REQUEST };
                chart.note(kind, || register(reg::EECD, value));
            }
            // In this order, too, a multicast address is none. Zero may be on its way to another.
            reg::RAL if value & 1 != 0 && registers.has(reg::RAH, rah::AV) => {
                chart.note(&RX_ADDRESS, || format!("RAL[0] = {value:#x} while RAH[0].AV is set"));
            }
            reg::RAH if value & rah::AV != 0 => {
                let low = registers.get(reg::RAL);
                if low & 1 != 0 || low == 0 && value & 0xffff == 0 {
                    chart.note(&RX_ADDRESS, || format!("RAH[0] = {value:#x}, RAL[0] = {low:#x}"));
                }
            }
            _ => {}
        }
    }

    /// RCTL.EN or TCTL.EN was set.
    fn switched_on(&mut self, registers: &Registers, chart: &mut Chart<'_>, offset: u32, value: u32) {
        if !chart.moment.bus_master {
            chart.note(&BUS_MASTER_OFF, || register(offset, value));
        }
        if registers.has(reg::CTRL, ctrl::PHY_RST) {
            chart.note(&PHY_HELD_IN_RESET, || register(reg::CTRL, registers.get(reg::CTRL)));
        }
        if registers.has(reg::EECD, eeprom::REQ) && self.shares_eeprom() {
            chart.note(&EEPROM_HELD, || register(reg::EECD, registers.get(reg::EECD)));
        }
        if registers.has(reg::EECD, eeprom::CS) {
            chart.note(&EEPROM_SELECTED, || register(reg::EECD, registers.get(reg::EECD)));
        }
        if std::mem::take(&mut self.pba_changed) {
            chart.note(&PBA_WITHOUT_RESET, || register(reg::PBA, registers.get(reg::PBA)));
        }
    }
}
