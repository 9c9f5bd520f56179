//! The monitor: asking and commanding a machine while it runs, by programs (QMP) and by people (HMP).
//!
//! `machine` opens one [`Session`] for each `-qmp` and `-monitor` and implements [`Controls`], which is all that
//! the monitor knows of CPUs and devices; the network it reaches by [`Network`](crate::netdev::Network). It never
//! touches the guest's memory, and nothing here runs on a vCPU's or the event loop's thread: each session has a
//! thread of its own, so that a command may take its time.
//!
//! ```text
//! commands.rs      what can be asked: typed, one method for each command
//! qmp.rs           QMP's conversation          json_stream.rs   bytes into JSON values
//! qmp_commands.rs  QMP's table of commands     hmp.rs           HMP's conversation and table
//! events.rs        what happens, and who listens   line_editor.rs   a line typed on a raw terminal
//! session.rs       the thread, its inbox and its character device
//! ```

pub mod commands;
pub mod events;
mod hmp;
pub mod json_stream;
mod line_editor;
pub mod qmp;
mod qmp_commands;
mod registers;
mod session;
#[cfg(test)]
mod testing;

use std::fmt::Debug;

use serde::Serialize;

use crate::cli::CardFaultPlan;
use crate::cpu::CpuState;
use crate::netdev::FaultSnapshot;

pub use commands::{CommandError, Commands};
pub use events::{Cause, Event, Events};
pub use hmp::Hmp;
pub use qmp::Qmp;
pub use session::{Protocol, Session};

/// What a machine does at the moment: QMP's RunState, as far as it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// `-S`, and nobody has said `cont` yet.
    Prelaunch,
    /// The guest runs.
    Running,
    /// `stop` was said.
    Paused,
    /// A debugger's breakpoint, watchpoint or step stopped it.
    Debug,
    /// The guest's kernel has panicked and the run is about to end.
    GuestPanicked,
    /// The run is over.
    Shutdown,
}

/// One vCPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuInfo {
    /// Its number.
    pub index: u32,
    /// The host's thread that runs it.
    pub thread_id: u32,
}

/// One PCI function, as its configuration space shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciInfo {
    /// Slot on bus 0.
    pub slot: u8,
    /// Vendor and device id.
    pub id: (u16, u16),
    /// Class code: base class and sub-class.
    pub class: u16,
    /// Interrupt pin (1 is INTA#) and line, if it has one.
    pub interrupt: Option<(u8, u8)>,
    /// The BARs as firmware placed them.
    pub bars: Vec<PciBarInfo>,
}

/// One base address register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciBarInfo {
    /// Its number.
    pub index: u8,
    /// Ports, not memory.
    pub io: bool,
    /// Where.
    pub base: u64,
    /// How large.
    pub size: u64,
}

/// One NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicInfo {
    /// By which the network knows it.
    pub name: String,
    /// PCI slot.
    pub slot: u8,
    /// Its present station address.
    pub mac: [u8; 6],
    /// Whether its driver sees a link.
    pub link_up: bool,
    /// The machine's counters of it, which the guest cannot clear.
    pub counters: serde_json::Map<String, serde_json::Value>,
}

/// A NIC's address filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RxFilterInfo {
    /// The NIC.
    pub name: String,
    /// Every unicast address is let through.
    pub all_unicast: bool,
    /// Every multicast address is.
    pub all_multicast: bool,
    /// Broadcasts are.
    pub broadcast: bool,
    /// The station address.
    pub mac: [u8; 6],
    /// Unicast addresses that are let through, the station's among them.
    pub unicast: Vec<[u8; 6]>,
    /// Multicast addresses that are let through exactly.
    pub multicast: Vec<[u8; 6]>,
    /// A hash lets more multicast addresses through, wanted and others.
    pub hash: bool,
    /// Tagged frames are let through by their VLAN only.
    pub vlan_filter: bool,
    /// These VLANs.
    pub vlans: Vec<u16>,
}

/// A machine, as far as monitors command it. Callable from any thread but the event loop's and the vCPUs'.
pub trait Controls: Debug + Send + Sync {
    /// What it does.
    fn state(&self) -> RunState;

    /// CPUs and time stand still; returns when they do.
    ///
    /// # Errors
    /// One line, when the accelerator cannot.
    fn stop(&self) -> Result<(), String>;

    /// They go on.
    ///
    /// # Errors
    /// One line, when the accelerator cannot.
    fn cont(&self) -> Result<(), String>;

    /// The reset button.
    fn reset(&self);

    /// The power button: the guest may shut down, or not.
    fn press_power_button(&self);

    /// Ends the run at once.
    fn quit(&self);

    /// Name of the accelerator.
    fn accel(&self) -> &'static str;

    /// The CPUs.
    fn cpus(&self) -> Vec<CpuInfo>;

    /// The registers of one, between two of its instructions.
    ///
    /// # Errors
    /// One line, when there is no such CPU or it does not answer.
    fn registers(&self, cpu: u32) -> Result<CpuState, String>;

    /// The registers of one or all NICs, by name, read without their side effects; none if there is no such NIC.
    fn nic_registers(&self, name: Option<&str>) -> Vec<(String, Vec<(String, u32)>)>;

    /// Stops the machine at the next access to a NIC's register, or at a trace event, of this name; `off` ends that. Gives
    /// what is waited for and what was met last.
    ///
    /// # Errors
    /// One line, when nothing has that name or nobody debugs.
    fn device_break(&self, what: &str) -> Result<String, String>;

    /// What the driver doctors have told already is told again when it happens next: another driver was loaded.
    fn doctors_tell_again(&self);

    /// The PCI functions, by slot.
    fn pci(&self) -> Vec<PciInfo>;

    /// The NICs, in the order of the command line.
    fn nics(&self) -> Vec<NicInfo>;

    /// The address filters of one or all of them; none if there is no such NIC. Their next change is told.
    fn rx_filters(&self, name: Option<&str>) -> Vec<RxFilterInfo>;

    /// Lets something go wrong in a card.
    ///
    /// # Errors
    /// One line, when there is no such card.
    fn add_card_fault(&self, plan: &CardFaultPlan) -> Result<(), String>;

    /// Ends it; `false` if there is none of this id.
    fn remove_card_fault(&self, id: &str) -> bool;

    /// What goes wrong in cards by request.
    fn card_faults(&self) -> Vec<FaultSnapshot>;

    /// Sends a frame out of a NIC, as if its driver had; `false` if there is no such NIC.
    fn transmit(&self, nic: &str, frame: &[u8]) -> bool;
}
