//! Memory slots where a firmware's area lies over RAM: the first region is cut around it, and its stretches have
//! slots of their own, which are replaced when the host bridge switches them.
//!
//! Called by `vm.rs`, at set-up and from the thread of the vCPU that does the switching.
#![expect(unsafe_code, reason = "memory slots hand host addresses to the kernel")]

use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use super::host;
use crate::accel::AccelError;
use crate::memory::{AREA_BASE, AREA_END, Behind, FirmwareArea, RamRegion, Stretch};

/// The slot of RAM's first region, cut to what lies below the area.
const BELOW: u32 = 0;
/// The rest of RAM's first region. RAM has two regions at most.
const ABOVE: u32 = 2;
/// The first of the stretches'.
const STRETCHES: u32 = 3;

/// What is in the slots.
#[derive(Debug)]
pub(super) struct FirmwareSlots {
    low: RamRegion,
    mapped: Vec<Stretch>,
    /// The slots point into its memory.
    area: Arc<FirmwareArea>,
}

impl FirmwareSlots {
    /// Maps `area` over `low`, RAM's first region, which has slot 0 up to now. No vCPU may be running.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn new(fd: &VmFd, low: RamRegion, area: &Arc<FirmwareArea>) -> Result<Self, AccelError> {
        remove(fd, BELOW)?;
        let part = |from: u64, to: u64| kvm_userspace_memory_region {
            slot: if from < AREA_BASE { BELOW } else { ABOVE },
            flags: 0,
            guest_phys_addr: from,
            memory_size: to.saturating_sub(from),
            userspace_addr: low.host_base + (from - low.guest_base),
        };
        let end = low.guest_base + low.len;
        for part in [part(low.guest_base, AREA_BASE.min(end)), part(AREA_END, end)] {
            set(fd, part)?;
        }
        let mut this = Self { low, mapped: Vec::new(), area: area.clone() };
        this.update(fd)?;
        Ok(this)
    }

    /// What they are slots of.
    pub fn area(&self) -> &FirmwareArea {
        &self.area
    }

    /// Maps what has changed.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn update(&mut self, fd: &VmFd) -> Result<(), AccelError> {
        let now = self.area.stretches();
        for (n, stretch) in now.iter().enumerate() {
            let before = self.mapped.get(n);
            if before == Some(stretch) {
                continue;
            }
            let slot = STRETCHES + n as u32;
            // A slot's place and rights are fixed: what was there goes first.
            if before.is_some_and(|before| before.behind != Behind::Nothing) {
                remove(fd, slot)?;
            }
            let (host, flags) = match stretch.behind {
                Behind::Nothing => continue,
                Behind::Image(host) => (host, KVM_MEM_READONLY),
                Behind::Ram { writable } => {
                    let host = self.low.host_base + (stretch.base - self.low.guest_base);
                    (host, if writable { 0 } else { KVM_MEM_READONLY })
                }
            };
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: stretch.base,
                memory_size: stretch.len,
                userspace_addr: host,
            };
            set(fd, region)?;
        }
        self.mapped = now;
        Ok(())
    }
}

fn remove(fd: &VmFd, slot: u32) -> Result<(), AccelError> {
    let region = kvm_userspace_memory_region { slot, ..Default::default() };
    // SAFETY: a slot without length refers to no memory.
    unsafe { fd.set_user_memory_region(region) }.map_err(host("KVM_SET_USER_MEMORY_REGION"))
}

fn set(fd: &VmFd, region: kvm_userspace_memory_region) -> Result<(), AccelError> {
    if region.memory_size == 0 {
        return Ok(());
    }
    // SAFETY: the host range lies in guest RAM or in the firmware's image, both of which the machine keeps mapped as
    // long as `fd` lives, and the ranges do not overlap.
    unsafe { fd.set_user_memory_region(region) }.map_err(host("KVM_SET_USER_MEMORY_REGION"))
}
