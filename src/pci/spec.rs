//! Configuration-space offsets and bits, PCI Local Bus 3.0 chapter 6 and PCI Power Management 1.2.
//!
//! Constants only; read by the rest of this folder and by its tests.

/// Bytes of configuration space that a conventional function has.
pub const CONFIG_LEN: usize = 256;
/// Slots on a bus.
pub const SLOTS: u8 = 32;

/// Vendor ID, 16 bits.
pub const VENDOR_ID: u8 = 0x00;
/// Device ID, 16 bits.
pub const DEVICE_ID: u8 = 0x02;
/// Command, 16 bits.
pub const COMMAND: u8 = 0x04;
/// Status, 16 bits.
pub const STATUS: u8 = 0x06;
/// Revision ID, 8 bits; the class code follows in 24 bits.
pub const REVISION: u8 = 0x08;
/// Cache Line Size, 8 bits, in dwords.
pub const CACHE_LINE_SIZE: u8 = 0x0c;
/// Latency Timer, 8 bits, in bus clocks.
pub const LATENCY_TIMER: u8 = 0x0d;
/// Base address register 0; five more follow, 32 bits each.
pub const BAR0: u8 = 0x10;
/// Number of base address registers of a type 0 header.
pub const BAR_COUNT: u8 = 6;
/// Subsystem Vendor ID, 16 bits.
pub const SUBSYSTEM_VENDOR: u8 = 0x2c;
/// Subsystem ID, 16 bits.
pub const SUBSYSTEM: u8 = 0x2e;
/// Expansion ROM base address register, 32 bits.
pub const ROM_BAR: u8 = 0x30;
/// Expansion ROM BAR: decode, if Command decodes memory.
pub const ROM_ENABLE: u32 = 1;
/// Capabilities Pointer, 8 bits.
pub const CAPABILITIES_POINTER: u8 = 0x34;
/// Interrupt Line, 8 bits.
pub const INTERRUPT_LINE: u8 = 0x3c;
/// Interrupt Pin, 8 bits.
pub const INTERRUPT_PIN: u8 = 0x3d;
/// Min_Gnt, 8 bits.
pub const MIN_GNT: u8 = 0x3e;
/// Max_Lat, 8 bits.
pub const MAX_LAT: u8 = 0x3f;
/// First byte behind the type 0 header: capabilities and registers of the function's own.
pub const HEADER_END: u8 = 0x40;

/// Command: I/O space decoding.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: memory space decoding.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: bus master enable.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: memory write and invalidate.
pub const COMMAND_MWI: u16 = 1 << 4;
/// Command: parity error response.
pub const COMMAND_PARITY: u16 = 1 << 6;
/// Command: SERR# enable.
pub const COMMAND_SERR: u16 = 1 << 8;
/// Command: INTx disable.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;

/// Status: the function wants an interrupt, whether or not Command lets it out.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status: there is a capability list.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Status: DEVSEL# medium timing.
pub const STATUS_DEVSEL_MEDIUM: u16 = 1 << 9;
/// Status: received master abort: this function addressed nobody.
pub const STATUS_MASTER_ABORT: u16 = 1 << 13;
/// Status: the error bits, cleared by writing one.
pub const STATUS_ERRORS: u16 = 0xf900;

/// BAR bit 0: I/O space.
pub const BAR_IO: u32 = 1;
/// BAR bits 2:1: 64-bit memory.
pub const BAR_64: u32 = 0b100;

/// Capability id: power management.
pub const CAP_POWER_MANAGEMENT: u8 = 0x01;
/// Capability id: message-signalled interrupts.
pub const CAP_MSI: u8 = 0x05;

/// PMCSR, counted from the capability's first byte, 16 bits.
pub const PMCSR: u8 = 4;
/// PMCSR: power state, 0 = D0, 3 = D3hot.
pub const PMCSR_STATE: u16 = 0b11;
/// PMCSR: coming from D3hot to D0 keeps configuration space.
pub const PMCSR_NO_SOFT_RESET: u16 = 1 << 3;
/// PMCSR: PME# enable.
pub const PMCSR_PME_ENABLE: u16 = 1 << 8;
/// PMCSR: PME# status, cleared by writing one.
pub const PMCSR_PME_STATUS: u16 = 1 << 15;

/// MSI Message Control, counted from the capability's first byte, 16 bits.
pub const MSI_CONTROL: u8 = 2;
/// MSI Message Address, 64 bits.
pub const MSI_ADDRESS: u8 = 4;
/// MSI Message Data of the 64-bit layout, 16 bits.
pub const MSI_DATA: u8 = 12;
/// MSI control: enable.
pub const MSI_ENABLE: u16 = 1 << 0;
/// MSI control: multiple message enable field.
pub const MSI_MULTIPLE: u16 = 0b111 << 4;
/// MSI control: 64-bit address capable.
pub const MSI_64: u16 = 1 << 7;
