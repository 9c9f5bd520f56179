//! Time that the kernel counts, over a stop of the machine: saved when it begins, put back when it ends.
//!
//! Called by `vm.rs` and `vcpu.rs`, each vCPU's part on its own thread. Without this the guest would find its
//! time-stamp counter far ahead, and every tick of the PIT that fell into the stop would be delivered at once.

use kvm_bindings::{kvm_clock_data, kvm_pit_state2};
use kvm_ioctls::{VcpuFd, VmFd};

use super::host;
use super::registers::{get_msr, set_msr};
use crate::accel::AccelError;

const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6e0;

/// What the kernel counts for the whole machine.
#[derive(Debug)]
pub(super) struct PausedVm {
    clock: kvm_clock_data,
    pit: kvm_pit_state2,
}

impl PausedVm {
    /// # Errors
    /// [`AccelError::Host`].
    pub fn save(fd: &VmFd) -> Result<Self, AccelError> {
        let clock = fd.get_clock().map_err(host("KVM_GET_CLOCK"))?;
        let pit = fd.get_pit2().map_err(host("KVM_GET_PIT2"))?;
        Ok(Self { clock, pit })
    }

    /// # Errors
    /// [`AccelError::Host`].
    pub fn restore(self, fd: &VmFd) -> Result<(), AccelError> {
        // The flags say what KVM_GET_CLOCK filled in; what is set is the guest's time alone.
        let clock = kvm_clock_data { clock: self.clock.clock, ..Default::default() };
        fd.set_clock(&clock).map_err(host("KVM_SET_CLOCK"))?;
        fd.set_pit2(&self.pit).map_err(host("KVM_SET_PIT2"))
    }
}

/// One vCPU's counter and the time it wants to be woken at. A pause of less than a second may stay visible: KVM
/// takes a write that is so near for an attempt to bring the counters of several CPUs in step.
#[derive(Debug)]
pub(super) struct PausedVcpu {
    tsc: Option<u64>,
    deadline: Option<u64>,
}

impl PausedVcpu {
    pub fn save(fd: &VcpuFd) -> Self {
        Self { tsc: get_msr(fd, TSC), deadline: get_msr(fd, TSC_DEADLINE) }
    }

    /// The deadline comes last: KVM translates it by the counter. A host that refuses leaves time as it runs.
    pub fn restore(self, fd: &VcpuFd) {
        if let Some(tsc) = self.tsc {
            set_msr(fd, TSC, tsc);
        }
        // Zero is a timer that is not armed.
        if let Some(deadline) = self.deadline.filter(|&at| at != 0) {
            set_msr(fd, TSC_DEADLINE, deadline);
        }
    }
}
