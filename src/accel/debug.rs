//! What a debugger asks of a CPU: registers as one struct ([`CpuState`](crate::cpu::CpuState)), and a plan of where to stop.
//!
//! Used by `machine` for its debugger, through [`Vcpu`](super::Vcpu); implemented by `soft` and `kvm`. Plain data: says
//! nothing of gdb, and nothing here touches a guest. Addresses are linear ones.

pub use crate::cpu::debug::{DebugStop, Watch, WatchKind};

/// Where a CPU is to stop. The default stops nowhere and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebugPlan {
    /// Before the instructions at these addresses.
    pub breakpoints: Vec<u64>,
    /// The debugger has put INT3 at these addresses; executing one is a stop at it, and no exception of the guest's.
    pub patched: Vec<u64>,
    /// After these accesses.
    pub watches: Vec<Watch>,
    /// After one instruction, with interrupts held off if the host can. Once: the stop takes it out of the plan.
    pub step: bool,
}

/// How much of a [`DebugPlan`] an accelerator's CPUs can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugMeans {
    /// How many `breakpoints` and `watches` there may be together.
    pub slots: usize,
    /// Whether `watches` works.
    pub watches: bool,
    /// Whether more breakpoints are to be had by `patched`.
    pub patches: bool,
}
