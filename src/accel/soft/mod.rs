//! The software accelerator: runs the whole machine with `cpu/`, no KVM needed.
//!
//! `machine` uses it through the traits of `accel`. It owns what KVM has in the kernel: interrupt controllers,
//! PIT, local APIC timers, and the order in which CPUs take turns.
//!
//! ```text
//! vm.rs        what all CPUs share                 vcpu.rs      the run loop of one CPU
//! machine.rs   what one CPU sees: memory, ports    msrs.rs      model-specific registers of the machine
//! chips.rs     interrupt controllers, joined       start.rs     registers at power-on, INIT, SIPI and entry
//! doorbell.rs  waking and kicking one CPU          turns.rs     one CPU runs at a time
//! ```
//!
//! Lock order: device locks and interrupt pins, then the chips, then a doorbell. The turn is taken with no lock
//! held and kept while a device handler runs.

pub mod chips;
mod doorbell;
mod machine;
mod msrs;
mod start;
mod turns;
mod vcpu;
mod vm;

use std::sync::Arc;

use super::{Accel, AccelError, Vm};
use crate::memory::GuestRam;
use crate::time::MonotonicClock;

/// CPUs at most: sets of CPUs are kept in 64-bit words.
pub const MAX_CPUS: u32 = 64;

/// The accelerator. Works on every host.
#[derive(Debug, Default)]
pub struct SoftAccel;

impl Accel for SoftAccel {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn create_vm(
        &self,
        ram: &GuestRam,
        vcpus: u32,
        clock: &MonotonicClock,
    ) -> Result<Arc<dyn Vm>, AccelError> {
        if !(1..=MAX_CPUS).contains(&vcpus) {
            return Err(AccelError::Unavailable(format!(
                "-accel soft runs 1 to {MAX_CPUS} CPUs, not {vcpus}"
            )));
        }
        Ok(Arc::new(vm::SoftVm::new(ram.clone(), vcpus, clock.clone())?))
    }
}
