//! The PC's small chips: UART, RTC, i8042, power management, debug exit, fw_cfg, pvpanic;
//! and the interrupt controllers and timer that `accel` uses where no kernel has them.
//!
//! Each chip is a [`crate::bus::BusDevice`]; wiring (ports, lines, host files) is `machine`'s. A chip takes
//! time, interrupt wires and the way to the host from outside, so every one is tested by itself.

mod calendar;
mod debug_exit;
mod fw_cfg;
mod i8042;
pub mod ioapic;
mod lanes;
pub mod lapic;
pub mod pic;
mod pirq;
pub mod pit;
mod pm;
mod port92;
mod power;
mod pvpanic;
mod reset_control;
mod rtc;
mod serial_port;
mod uart16550;

pub use debug_exit::DebugExit;
pub use fw_cfg::{FW_CFG_LEN, FwCfg, FwCfgError, FwCfgFile, FwCfgItem};
pub use i8042::{I8042, I8042_COMMAND_OFFSET};
pub use pirq::{PIRQS, PirqRouter};
pub use pm::{PM_LEN, PM_TIMER, PM1_CONTROL, PmBlock, SLEEP_TYPE_S5};
pub use port92::Port92;
pub use power::{PowerEvent, PowerSink};
pub use pvpanic::Pvpanic;
pub use reset_control::{RESET_VALUE, ResetControl};
pub use rtc::{CENTURY, CmosMemory, RTC_LEN, Rtc, WallClock};
pub use serial_port::{SERIAL_PORT_LEN, SerialPort, SerialSink};
pub use uart16550::Uart16550;
