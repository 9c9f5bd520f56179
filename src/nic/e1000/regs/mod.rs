//! The register file: storage behind the table, and the side effects that need nothing but registers.
//!
//! Lives behind one lock (`Regs` of the design). A handler changes registers and returns [`Effects`], which
//! the device performs after unlocking: nothing here calls a port, an interrupt line or an engine. ICR, ICS,
//! IMS, IMC and ITR have rows here but live in `interrupt.rs`.

use std::sync::Arc;

pub mod table;

use super::eeprom::{self, Eeprom};
use super::fault::Faults;
use super::phy::Phy;
use super::spec::{ctrl, ctrl_ext, mdic, rah, rctl, reg, tctl};
use super::stats::Counters;
use super::{Model, Overflow};
use crate::fault::CardFault;
use crate::pci::Pme;
use crate::time::Clock;
use table::{Class, DWORDS, Effect, Found, OnReset, TABLE};

/// What is to be done once the register file is unlocked.
#[derive(Debug, Default)]
pub struct Effects {
    /// Causes to latch in ICR.
    pub raise: u32,
    /// The cause set goes to its reset state first.
    pub reset_interrupts: bool,
    /// RDTR.FPD was written.
    pub flush_rx_delay: bool,
    /// TIDV.FPD was written.
    pub flush_tx_delay: bool,
    /// The transmit ring may have work.
    pub tx_kick: bool,
    /// The receive ring may have room for somebody who waits.
    pub rx_wake: bool,
    /// The transmitter was switched off or reset: it must have stopped when the write returns.
    pub stop_tx: bool,
    /// The receiver was switched off or reset: it must have stopped when the write returns.
    pub stop_rx: bool,
    /// A PAUSE frame is owed.
    pub send_pause: bool,
    /// The link went up or down.
    pub link: Option<bool>,
    /// The address filters are set otherwise than before.
    pub filters_changed: bool,
    /// The guest has programmed the EEPROM.
    pub eeprom_programmed: bool,
    /// It was RST#, not CTRL.RST.
    pub power_on: bool,
    /// Autonegotiation's deadline may have changed, to this.
    pub negotiation: Option<Option<u64>>,
}

/// The register file with what hangs directly on it.
#[derive(Debug)]
pub struct Regs {
    model: Model,
    values: Vec<u32>,
    pub(super) eeprom: Eeprom,
    pub(super) phy: Phy,
    /// No allowances for drivers that work on emulators only: link needs CTRL.SLU, rings need a length.
    pub(super) strict: bool,
    /// What happens to frames without descriptors.
    pub(super) overflow: Overflow,
    pub(super) link_up: bool,
    /// Changes when everything the engine remembers of the transmit ring becomes void.
    pub(super) tx_epoch: u64,
    /// Device resets so far: transmit contexts do not outlive one.
    pub(super) resets: u64,
    /// The same as `tx_epoch`, for the receive ring.
    pub(super) rx_epoch: u64,
    /// TDT was written while TDLEN was 0 and the descriptor at TDBA has not been sent yet.
    pub(super) zero_ring_doorbell: bool,
    /// Transmitted descriptors that have gathered are to be written back now.
    pub(super) tx_flush: bool,
    /// Somebody was told `Full` and waits for descriptors.
    pub(super) rx_waiting: bool,
    /// A PAUSE frame holds the transmitter until then.
    pub(super) paused_until: u64,
    /// The peer was asked to pause, and does until then.
    pub(super) peer_paused_until: Option<u64>,
    /// Quanta of a PAUSE frame that is to be sent.
    pub(super) pause_owed: Option<u16>,
    /// D3hot: frames are only looked at for a reason to wake.
    pub(super) asleep: bool,
    /// PME_En and PME_Status, which PMCSR shows too.
    pub(super) pme: Pme,
    pub(super) counters: Counters,
    clock: Arc<dyn Clock>,
    pub(super) faults: Arc<Faults>,
}

impl Regs {
    /// The state after power-up; autonegotiation has begun.
    pub fn new(
        model: Model,
        eeprom: Eeprom,
        link_delay_ns: u64,
        strict: bool,
        clock: Arc<dyn Clock>,
        faults: Arc<Faults>,
    ) -> Self {
        let phy = Phy::new(model.phy_id2(), link_delay_ns, clock.now_ns());
        let mut regs = Self {
            model,
            values: vec![0; DWORDS],
            eeprom,
            phy,
            strict,
            overflow: Overflow::default(),
            link_up: false,
            tx_epoch: 0,
            resets: 0,
            rx_epoch: 0,
            zero_ring_doorbell: false,
            tx_flush: false,
            rx_waiting: false,
            paused_until: 0,
            peer_paused_until: None,
            pause_owed: None,
            asleep: false,
            pme: Pme::default(),
            counters: Counters::default(),
            clock,
            faults,
        };
        regs.load_reset_values(true);
        regs.update_link(&mut Effects::default());
        regs
    }

    /// The stored value of the register at `offset`.
    pub fn get(&self, offset: u32) -> u32 {
        self.values[(offset / 4) as usize % DWORDS]
    }

    /// Replaces the stored value of the register at `offset`, without side effects.
    pub fn set(&mut self, offset: u32, value: u32) {
        self.values[(offset / 4) as usize % DWORDS] = value;
    }

    /// Now, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.now_ns()
    }

    /// All stored values, one dword after the other.
    pub(super) fn dwords(&self) -> &[u32] {
        &self.values
    }

    /// What a register would read, without side effects. ICR, ICS, IMS and ITR live elsewhere.
    pub fn peek(&self, found: &Found) -> u32 {
        match found.row.effect {
            Effect::Status => self.status(),
            Effect::Eecd => self.eeprom.read_eecd(),
            Effect::Wuc => self.read_wuc(),
            _ if found.row.class == Class::Wo => 0,
            _ => self.values[found.index()],
        }
    }

    /// Reads a register with its side effects.
    pub fn read(&mut self, found: &Found) -> u32 {
        match found.row.effect {
            Effect::Status => self.status(),
            Effect::Eecd => self.eeprom.read_eecd(),
            Effect::Wuc => self.read_wuc(),
            Effect::CounterLow => self.get(found.offset),
            Effect::CounterHigh => {
                self.set(found.offset - 4, 0);
                std::mem::take(&mut self.values[found.index()])
            }
            _ => match found.row.class {
                Class::Wo => 0,
                Class::Rc => std::mem::take(&mut self.values[found.index()]),
                Class::Rw | Class::Ro | Class::W1c => self.values[found.index()],
            },
        }
    }

    /// Writes a register; returns what is to be done after unlocking.
    pub fn write(&mut self, found: &Found, value: u32) -> Effects {
        let mut effects = Effects::default();
        let old = self.values[found.index()];
        self.store(found, value);
        match found.row.effect {
            Effect::Ctrl => self.ctrl_written(old, value, &mut effects),
            Effect::Eecd => {
                self.eeprom.write_eecd(value);
                effects.eeprom_programmed = self.eeprom.take_programmed();
            }
            Effect::Eerd => {
                let answer = self.eeprom.read_by_eerd(value);
                self.set(reg::EERD, answer);
            }
            Effect::CtrlExt if value & ctrl_ext::EE_RST != 0 => self.load_from_eeprom(),
            Effect::Mdic => self.mdic_written(value, &mut effects),
            Effect::Rctl => {
                let new = self.get(reg::RCTL);
                effects.stop_rx = old & rctl::EN != 0 && new & rctl::EN == 0;
                effects.rx_wake = true;
                effects.tx_kick = (old ^ new) & rctl::LBM_MASK != 0;
            }
            Effect::Tctl => self.tctl_written(old, value, &mut effects),
            Effect::Pba => self.set(reg::PBA, (old & 0xffff_0000) | (value & found.row.mask)),
            Effect::RxRing => {
                self.rx_epoch += 1;
                effects.rx_wake = true;
            }
            Effect::Rdt => effects.rx_wake = true,
            Effect::Rdtr => effects.flush_rx_delay = value & 1 << 31 != 0,
            Effect::TxRing => self.tx_epoch += 1,
            Effect::Tdt => {
                self.zero_ring_doorbell = self.get(reg::TDLEN) == 0 && self.get(reg::TDT) != 0;
                effects.tx_kick = true;
            }
            Effect::Wuc => self.wuc_written(value),
            Effect::Tidv => effects.flush_tx_delay = value & 1 << 31 != 0,
            _ => {}
        }
        effects.filters_changed = found.is_filter() && old != self.values[found.index()];
        effects
    }

    /// Autonegotiation or a PAUSE time may have ended.
    pub fn time_passed(&mut self) -> Effects {
        let mut effects = Effects { tx_kick: true, ..Effects::default() };
        let now = self.now();
        self.phy.time_passed(now);
        self.update_link(&mut effects);
        effects
    }

    /// Plugs the cable in or pulls it out.
    pub fn set_cable(&mut self, plugged: bool) -> Effects {
        let mut effects = Effects::default();
        let now = self.now();
        self.phy.set_cable(plugged, now);
        self.update_link(&mut effects);
        effects
    }

    /// What CTRL.RST does, for whoever else resets the device.
    pub fn device_reset(&mut self) -> Effects {
        self.reset(false)
    }

    /// RST#: everything, the PHY and the kept registers too. The EEPROM's contents stay.
    pub fn power_on_reset(&mut self) -> Effects {
        let now = self.now();
        self.asleep = false;
        self.pme.set_enabled(false);
        self.pme.clear();
        self.phy.hard_reset(now);
        self.reset(true)
    }

    fn store(&mut self, found: &Found, value: u32) {
        let row = found.row;
        if matches!(row.class, Class::Rw | Class::W1c) {
            let old = self.values[found.index()];
            let untouched = old & !(row.mask | row.w1c);
            self.values[found.index()] = untouched | (value & row.mask) | (old & row.w1c & !value);
        }
    }

    /// CTRL.RST and RST#: manual, section 14.
    fn reset(&mut self, power_on: bool) -> Effects {
        let mut effects = Effects {
            reset_interrupts: true,
            stop_rx: true,
            stop_tx: true,
            rx_wake: true,
            power_on,
            ..Effects::default()
        };
        self.tx_epoch += 1;
        self.rx_epoch += 1;
        self.resets += 1;
        self.zero_ring_doorbell = false;
        self.tx_flush = false;
        self.paused_until = 0;
        self.peer_paused_until = None;
        self.pause_owed = None;
        self.load_reset_values(power_on);
        // The pins fall, and that is when the chip programs.
        effects.eeprom_programmed = self.eeprom.take_programmed();
        let now = self.now();
        self.phy.hold_in_reset(false, now);
        self.update_link(&mut effects);
        effects
    }

    fn load_reset_values(&mut self, power_on: bool) {
        for row in TABLE.iter().filter(|row| power_on || row.on_reset == OnReset::Value) {
            for k in 0..row.count {
                self.set(row.offset + k * row.stride, row.reset);
            }
        }
        let rx_kib = self.get(reg::PBA) & 0x7f;
        self.set(reg::PBA, 64u32.saturating_sub(rx_kib) << 16 | rx_kib);
        for fifo in [reg::TDFH, reg::TDFT, reg::TDFHS, reg::TDFTS] {
            self.set(fifo, (rx_kib << 7) & 0x1fff);
        }
        self.eeprom.reset_pins();
        self.load_from_eeprom();
    }

    /// What the part loads by itself: station address, LED and wake-up defaults, CTRL (manual, section 5.6).
    fn load_from_eeprom(&mut self) {
        let image = self.eeprom.image();
        let mac = if image.is_signed() { Some(image.mac()) } else { None };
        let (ledctl, wuc, ctrl) = (image.ledctl(), image.wuc(self.model), image.ctrl());
        let [a, b, c, d, e, f] = mac.unwrap_or_default();
        self.set(reg::RAL, u32::from_le_bytes([a, b, c, d]));
        self.set(reg::RAH, u32::from(u16::from_le_bytes([e, f])) | if mac.is_some() { rah::AV } else { 0 });
        self.set(reg::LEDCTL, ledctl);
        self.set(reg::WUC, wuc);
        let kept = self.get(reg::CTRL) & !eeprom::Image::CTRL_BITS;
        self.set(reg::CTRL, kept | ctrl);
    }

    fn ctrl_written(&mut self, old: u32, value: u32, effects: &mut Effects) {
        if value & ctrl::RST != 0 {
            *effects = self.reset(false);
            return;
        }
        let now = self.now();
        self.phy.hold_in_reset(value & ctrl::PHY_RST != 0, now);
        effects.tx_kick = (old ^ value) & (ctrl::RFCE | ctrl::SLU) != 0;
        self.update_link(effects);
    }

    fn tctl_written(&mut self, old: u32, value: u32, effects: &mut Effects) {
        let on = value & tctl::EN != 0;
        effects.stop_tx = old & tctl::EN != 0 && !on;
        effects.tx_kick = on;
        if on && value & tctl::SWXOFF != 0 {
            self.pause_owed = Some(self.get(reg::FCTTV) as u16);
            effects.send_pause = true;
        }
    }

    fn mdic_written(&mut self, value: u32, effects: &mut Effects) {
        let number = (value >> 16 & 0x1f) as usize;
        let op = value >> 26 & 3;
        let mut answer = (value & 0x2fff_ffff) | mdic::READY;
        if value >> 21 & 0x1f != mdic::PHY_ADDRESS {
            answer |= mdic::ERROR | u32::from(super::phy::NOBODY);
        } else if op == mdic::OP_READ {
            answer = (answer & 0xffff_0000) | u32::from(self.phy.read(number));
        } else if op == mdic::OP_WRITE {
            let now = self.now();
            self.phy.write(number, value as u16, now);
            self.update_link(effects);
        }
        if self.faults.strikes(CardFault::MdicTimeout).is_some() {
            answer &= !mdic::READY;
        }
        self.set(reg::MDIC, answer);
        if value & mdic::INT_EN != 0 && answer & mdic::READY != 0 {
            effects.raise |= super::spec::cause::MDAC;
        }
    }
}
