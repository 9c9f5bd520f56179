//! gdb's remote protocol: one debugger at a time looks at a stopped machine and lets it go on.
//!
//! `machine` starts one [`Gdb`] on the place that `-gdb` names, as it starts monitors, and implements [`Debuggee`], which
//! is all that is known here of CPUs and memory. Runs on the session's thread. Never touches a CPU, a device or the host;
//! never waits for the guest to do something.
//!
//! ```text
//! session.rs   the conversation: bytes in, packets by the crate gdbstub, stops out
//! target.rs    what gdbstub asks of a target, in terms of Debuggee
//! registers.rs the registers that gdb sees, by one table       target_xml.rs  the same table as gdb reads it
//! ```

mod registers;
mod session;
mod target;
mod target_xml;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use session::Gdb;

use crate::accel::debug::{DebugStop, Watch};
use crate::cpu::CpuState;

/// Why a machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The CPU that it is about.
    pub cpu: u32,
    /// What happened.
    pub why: Why,
}

/// What stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Something of the debugger's plan.
    Plan(DebugStop),
    /// A device did what a monitor command asked to stop at.
    Device,
}

/// A place where the machine is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before the instruction at this linear address.
    Software(u64),
    /// The same, without a change to memory.
    Hardware(u64),
    /// After an access.
    Watch(Watch),
}

/// How a machine goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// CPUs that execute one instruction.
    pub steps: Vec<u32>,
    /// CPUs that run, or step; all of them if None.
    pub only: Option<Vec<u32>>,
}

/// A machine as its debugger sees it. Called on the session's thread, which is neither a CPU's nor the event loop's.
pub trait Debuggee: Debug + Send + Sync {
    /// How many CPUs there are.
    fn cpus(&self) -> u32;

    /// The registers of a CPU of a stopped machine.
    ///
    /// # Errors
    /// One line.
    fn registers(&self, cpu: u32) -> Result<CpuState, String>;

    /// Replaces them.
    ///
    /// # Errors
    /// One line.
    fn set_registers(&self, cpu: u32, state: &CpuState) -> Result<(), String>;

    /// Reads memory at linear addresses as a CPU with these registers maps them, whatever its rights; gives how many
    /// bytes there are before the first that is not RAM. Breakpoints do not show.
    fn read(&self, state: &CpuState, addr: u64, data: &mut [u8]) -> usize;

    /// Writes likewise: all of it, or nothing and `false`.
    fn write(&self, state: &CpuState, addr: u64, data: &[u8]) -> bool;

    /// Adds a place to stop at; `false` when there is no means for it. `state`: whose memory is meant.
    fn add(&self, point: Point, state: &CpuState) -> bool;

    /// Takes one away; `false` when there was none.
    fn remove(&self, point: Point) -> bool;

    /// The machine is to stand still; returns when it does.
    ///
    /// # Errors
    /// One line.
    fn stop(&self) -> Result<(), String>;

    /// Lets it go on.
    ///
    /// # Errors
    /// One line.
    fn resume(&self, how: &Resume) -> Result<(), String>;

    /// Nobody debugs any more: no place to stop at is left.
    fn forget(&self);

    /// Whether it stands still.
    fn is_stopped(&self) -> bool;

    /// Why it stopped by itself, if it did since this was last asked.
    fn take_stop(&self) -> Option<Stopped>;

    /// What went wrong when it stopped by itself, in one line, once. It stands still all the same.
    fn take_trouble(&self) -> Option<String>;

    /// One line for the user, where he reads of what gdb cannot be told.
    fn say(&self, line: &str);

    /// Ends the run.
    fn quit(&self);

    /// Runs a monitor's command; gives what it says.
    fn command(&self, line: &str) -> String;
}
