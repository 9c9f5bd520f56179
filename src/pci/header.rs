//! The type 0 configuration header of one function: registers in, what they switch out.
//!
//! Pure state behind [`super::slot::Slot`]: no bus, no lock, no device call. [`Header::controls`] says what
//! the registers demand now; the slot carries it out.

use super::msi::MsiMessage;
use super::spec;
use super::{BarKind, BarSpec, Capability, ConfigRegister, Identity, PowerState};
use crate::bus::Width;

use super::config_space::ConfigSpace;

/// The largest expansion ROM (PCI Local Bus 3.0, section 6.2.5.2).
pub const MAX_ROM: u64 = 16 << 20;

/// What a function's description had wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Size, index or order.
    #[error("BAR {index} of {size:#x} bytes is not possible")]
    BadBar {
        /// Register number.
        index: u8,
        /// Size in bytes.
        size: u64,
    },
    /// Misplaced, or over another.
    #[error("capability {id:#04x} at {offset:#04x} does not fit configuration space")]
    BadCapability {
        /// Capability id.
        id: u8,
        /// Where it should lie.
        offset: u8,
    },
}

/// A BAR that decodes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedBar {
    /// Which one.
    pub spec: BarSpec,
    /// First address or port.
    pub base: u64,
}

/// What the registers switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controls {
    /// The BARs that Command and the power state let decode.
    pub decoded: Vec<DecodedBar>,
    /// The function may master the bus.
    pub bus_master: bool,
    /// INTx may not leave: Command bit 10, MSI, or D3hot.
    pub intx_disabled: bool,
    /// The MSI capability.
    pub msi: MsiMessage,
    /// D0 or D3hot.
    pub power: PowerState,
}

/// Configuration space of one function.
#[derive(Debug, Clone)]
pub struct Header {
    space: ConfigSpace,
    bars: Vec<BarSpec>,
    msi: Option<u8>,
    power_management: Option<u8>,
}

impl Header {
    /// The header after reset.
    ///
    /// # Errors
    /// [`HeaderError`] when BARs or capabilities do not fit.
    pub fn new(identity: &Identity, bars: &[BarSpec], caps: &[Capability]) -> Result<Self, HeaderError> {
        let mut space = ConfigSpace::default();
        define_identity(&mut space, identity);
        define_command(&mut space, identity, bars);
        check_bars(bars)?;
        for bar in bars {
            define_bar(&mut space, bar);
        }
        define_capabilities(&mut space, caps)?;
        let find = |id| caps.iter().find(|c| c.id == id).map(|c| c.offset);
        let (msi, power_management) = (find(spec::CAP_MSI), find(spec::CAP_POWER_MANAGEMENT));
        Ok(Self { space, bars: bars.to_vec(), msi, power_management })
    }

    /// Adds a register of the function's own, behind the header.
    pub fn define_register(&mut self, register: &ConfigRegister) {
        self.space.define(register.offset, &register.reset, &register.writable);
    }

    /// A function of PCI 2.2 or before: Command has no INTx disable.
    pub fn without_intx_disable(&mut self) {
        self.space.forbid(spec::COMMAND, &spec::COMMAND_INTX_DISABLE.to_le_bytes());
    }

    /// Configuration read. `live_status` and `live_pmcsr` hold the bits of Status and PMCSR that the function shows at
    /// this moment.
    pub fn read(&self, offset: u16, width: Width, live_status: u16, live_pmcsr: u16) -> u64 {
        let mut live = ConfigSpace::default();
        live.force(spec::STATUS, &live_status.to_le_bytes());
        if let Some(at) = self.power_management {
            live.force(at + spec::PMCSR, &live_pmcsr.to_le_bytes());
        }
        self.space.read(offset, width) | live.read(offset, width)
    }

    /// The byte with PME_En and PME_Status, if a write of `value` at `offset` reaches it.
    pub fn pme_byte(&self, offset: u16, width: Width, value: u64) -> Option<u8> {
        let high_byte = u64::from(self.power_management? + spec::PMCSR) + 1;
        let lane = high_byte.wrapping_sub(u64::from(offset));
        (lane < width.bytes()).then(|| (value >> (8 * lane)) as u8)
    }

    /// PME_En and PME_Status belong to the device.
    pub fn leave_pme_to_the_device(&mut self) {
        if let Some(at) = self.power_management {
            self.space.forbid(at + spec::PMCSR, &spec::PMCSR_PME_ENABLE.to_le_bytes());
        }
    }

    /// Configuration write.
    pub fn write(&mut self, offset: u16, width: Width, value: u64) {
        let before = self.power();
        self.space.write(offset, width, value);
        if let Some(at) = self.power_management {
            self.settle_power(at + spec::PMCSR, before);
        }
    }

    /// RST#.
    pub fn reset(&mut self) {
        self.space.reset();
    }

    /// What the registers switch now.
    pub fn controls(&self) -> Controls {
        let command = self.space.word(spec::COMMAND);
        let (power, msi) = (self.power(), self.msi());
        let on = power == PowerState::D0;
        Controls {
            decoded: if on { self.decoded(command) } else { Vec::new() },
            bus_master: on && command & spec::COMMAND_BUS_MASTER != 0,
            intx_disabled: !on || msi.enabled || command & spec::COMMAND_INTX_DISABLE != 0,
            msi,
            power,
        }
    }

    /// Firmware: puts a BAR at `base` and turns on its kind of decoding.
    pub fn program_bar(&mut self, bar: &BarSpec, base: u64) {
        let decode = if bar.kind == BarKind::Io { spec::COMMAND_IO } else { spec::COMMAND_MEMORY };
        let command = self.space.word(spec::COMMAND) | decode;
        self.space.write(u16::from(bar_offset(bar.index)), bar_width(bar), base);
        self.space.write(u16::from(spec::COMMAND), Width::Word, u64::from(command));
    }

    /// Firmware: which interrupt the function's pin reaches.
    pub fn program_interrupt_line(&mut self, gsi: u8) {
        self.space.force(spec::INTERRUPT_LINE, &[gsi]);
    }

    fn decoded(&self, command: u16) -> Vec<DecodedBar> {
        let enabled = |bar: &&BarSpec| match bar.kind {
            BarKind::Io => command & spec::COMMAND_IO != 0,
            BarKind::Mem32 | BarKind::Mem64 => command & spec::COMMAND_MEMORY != 0,
            BarKind::Rom => command & spec::COMMAND_MEMORY != 0 && self.space.byte(spec::ROM_BAR) & 1 != 0,
        };
        self.bars
            .iter()
            .filter(enabled)
            .map(|bar| DecodedBar { spec: *bar, base: self.bar_base(bar) })
            .collect()
    }

    fn bar_base(&self, bar: &BarSpec) -> u64 {
        let raw = self.space.read(u16::from(bar_offset(bar.index)), bar_width(bar));
        raw & !(bar.size - 1)
    }

    fn msi(&self) -> MsiMessage {
        let Some(at) = self.msi else { return MsiMessage::default() };
        let address = self.space.read(u16::from(at + spec::MSI_ADDRESS), Width::Qword);
        let enabled = self.space.word(at + spec::MSI_CONTROL) & spec::MSI_ENABLE != 0;
        MsiMessage { enabled, address, data: self.space.word(at + spec::MSI_DATA) }
    }

    fn power(&self) -> PowerState {
        let state = self.power_management.map_or(0, |at| self.space.word(at + spec::PMCSR));
        if state & spec::PMCSR_STATE == 3 { PowerState::D3hot } else { PowerState::D0 }
    }

    /// D1 and D2 do not exist here: writing them changes nothing (PM 1.2, section 3.2.4). Leaving D3hot
    /// resets configuration space unless No_Soft_Reset says otherwise; the Interrupt Line, which only
    /// firmware can work out, and PME stay.
    fn settle_power(&mut self, pmcsr: u8, before: PowerState) {
        let csr = self.space.word(pmcsr);
        if matches!(csr & spec::PMCSR_STATE, 1 | 2) {
            let state = if before == PowerState::D3hot { spec::PMCSR_STATE } else { 0 };
            self.space.force(pmcsr, &(csr & !spec::PMCSR_STATE | state).to_le_bytes());
        }
        let woke = before == PowerState::D3hot && self.power() == PowerState::D0;
        if woke && csr & spec::PMCSR_NO_SOFT_RESET == 0 {
            let line = self.space.byte(spec::INTERRUPT_LINE);
            self.space.reset();
            self.space.force(spec::INTERRUPT_LINE, &[line]);
            self.space.force(pmcsr, &(csr & !spec::PMCSR_STATE).to_le_bytes());
        }
    }
}

fn bar_offset(index: u8) -> u8 {
    if index == BarSpec::ROM { spec::ROM_BAR } else { spec::BAR0 + 4 * index }
}

fn bar_width(bar: &BarSpec) -> Width {
    if bar.kind == BarKind::Mem64 { Width::Qword } else { Width::Dword }
}

fn define_identity(space: &mut ConfigSpace, id: &Identity) {
    let class = id.class.to_le_bytes();
    space.define(spec::VENDOR_ID, &id.vendor.to_le_bytes(), &[]);
    space.define(spec::DEVICE_ID, &id.device.to_le_bytes(), &[]);
    space.define(spec::REVISION, &[id.revision, class[0], class[1], class[2]], &[]);
    space.define(spec::CACHE_LINE_SIZE, &[0, 0], &[0xff, 0xff]);
    space.define(spec::SUBSYSTEM_VENDOR, &id.subsystem_vendor.to_le_bytes(), &[]);
    space.define(spec::SUBSYSTEM, &id.subsystem.to_le_bytes(), &[]);
    let line_writable = if id.interrupt_pin == 0 { 0 } else { 0xff };
    let tail = [0, id.interrupt_pin, id.min_gnt, id.max_lat];
    space.define(spec::INTERRUPT_LINE, &tail, &[line_writable]);
}

/// Command takes only the bits that mean something for this function (section 6.2.2).
fn define_command(space: &mut ConfigSpace, id: &Identity, bars: &[BarSpec]) {
    let mut writable =
        spec::COMMAND_BUS_MASTER | spec::COMMAND_MWI | spec::COMMAND_PARITY | spec::COMMAND_SERR;
    for bar in bars {
        writable |= if bar.kind == BarKind::Io { spec::COMMAND_IO } else { spec::COMMAND_MEMORY };
    }
    if id.interrupt_pin != 0 {
        writable |= spec::COMMAND_INTX_DISABLE;
    }
    space.define(spec::COMMAND, &[0, 0], &writable.to_le_bytes());
    space.define(spec::STATUS, &spec::STATUS_DEVSEL_MEDIUM.to_le_bytes(), &[]);
    space.define_clear(spec::STATUS, &spec::STATUS_ERRORS.to_le_bytes());
}

/// Sizing is this: address bits below the size stay what they are (section 6.2.5.1).
fn define_bar(space: &mut ConfigSpace, bar: &BarSpec) {
    let kind = match bar.kind {
        BarKind::Io => spec::BAR_IO,
        BarKind::Mem32 | BarKind::Rom => 0,
        BarKind::Mem64 => spec::BAR_64,
    };
    let enable = if bar.kind == BarKind::Rom { u64::from(spec::ROM_ENABLE) } else { 0 };
    let writable = (!(bar.size - 1) | enable).to_le_bytes();
    let len = bar_width(bar).bytes() as usize;
    space.define(bar_offset(bar.index), &u64::from(kind).to_le_bytes()[..len], &writable[..len]);
}

fn check_bars(bars: &[BarSpec]) -> Result<(), HeaderError> {
    let mut free = 0;
    for bar in bars {
        let (low, high, registers, end) = match bar.kind {
            BarKind::Io => (4, 256, 1, spec::BAR_COUNT),
            BarKind::Mem32 => (16, 1 << 31, 1, spec::BAR_COUNT),
            BarKind::Mem64 => (16, 1 << 40, 2, spec::BAR_COUNT),
            BarKind::Rom => (2 << 10, MAX_ROM, 1, BarSpec::ROM + 1),
        };
        let size_ok = bar.size.is_power_of_two() && (low..=high).contains(&bar.size);
        let misplaced = bar.index < free || (bar.kind == BarKind::Rom) != (bar.index == BarSpec::ROM);
        if !size_ok || misplaced || bar.index.saturating_add(registers) > end {
            return Err(HeaderError::BadBar { index: bar.index, size: bar.size });
        }
        free = bar.index + registers;
    }
    Ok(())
}

fn define_capabilities(space: &mut ConfigSpace, caps: &[Capability]) -> Result<(), HeaderError> {
    let mut pointer = spec::CAPABILITIES_POINTER;
    let mut taken: Vec<(usize, usize)> = Vec::new();
    for cap in caps {
        let (start, end) = (usize::from(cap.offset), usize::from(cap.offset) + cap.len());
        let aligned = cap.offset >= spec::HEADER_END && cap.offset.is_multiple_of(4);
        let free = taken.iter().all(|&(s, e)| end <= s || e <= start);
        if !aligned || !free || end > spec::CONFIG_LEN {
            return Err(HeaderError::BadCapability { id: cap.id, offset: cap.offset });
        }
        taken.push((start, end));
        space.define(pointer, &[cap.offset], &[]);
        space.define(cap.offset, &[cap.id, 0], &[]);
        space.define(cap.offset + 2, &cap.body, &cap.writable);
        space.define_clear(cap.offset + 2, &cap.clear);
        pointer = cap.offset + 1;
    }
    if !caps.is_empty() {
        let status = spec::STATUS_DEVSEL_MEDIUM | spec::STATUS_CAPABILITIES;
        space.define(spec::STATUS, &status.to_le_bytes(), &[]);
    }
    Ok(())
}
