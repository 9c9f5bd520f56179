//! One KVM virtual machine: memory slots, interrupt lines and messages, reset of what the kernel emulates.
//!
//! Created by `caps.rs`, used by `machine` through the traits. The order of the calls is the API's: TSS and
//! identity map before vCPUs, interrupt controllers before vCPUs.
#![expect(unsafe_code, reason = "memory slots hand host addresses to the kernel")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{KVM_CAP_EXIT_ON_EMULATION_FAILURE, kvm_enable_cap, kvm_msi, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use super::caps::Host;
use super::deaf;
use super::firmware_slots::FirmwareSlots;
use super::guest_debug;
use super::host;
use super::irqchip::IrqChips;
use super::pause::PausedVm;
use super::quirks;
use super::vcpu::KvmVcpu;
use crate::accel::debug::DebugMeans;
use crate::accel::{AccelError, Vcpu, Vm};
use crate::irq::{GsiSink, MsiSink};
use crate::machine::pc;
use crate::memory::{Behind, FirmwareArea, GuestRam, RamRegion};

/// A virtual machine.
#[derive(Debug)]
pub(super) struct KvmVm {
    shared: Arc<VmShared>,
    chips: IrqChips,
    paused: Mutex<Option<PausedVm>>,
    /// A message was sent that RFLAGS.IF does not hold off.
    strange_msi: AtomicBool,
}

/// What the vCPUs share with their machine.
#[derive(Debug)]
pub(super) struct VmShared {
    pub host: Arc<Host>,
    /// The slots point into this memory: it outlives the descriptor.
    pub ram: GuestRam,
    pub regions: Vec<RamRegion>,
    pub fd: VmFd,
    pub vcpus: u32,
    /// The firmware's slots, which point into its memory likewise.
    pub firmware: Mutex<Option<FirmwareSlots>>,
}

impl VmShared {
    /// What stands behind a page of the firmware's area; none elsewhere.
    pub fn firmware(&self, page: u64) -> Option<Behind> {
        let slots = self.firmware.lock().unwrap_or_else(PoisonError::into_inner);
        slots.as_ref().map(FirmwareSlots::area).filter(|area| area.covers(page)).map(|area| area.page(page))
    }
}

impl KvmVm {
    /// Creates the machine with its memory, PIC, IOAPIC and PIT.
    ///
    /// # Errors
    /// [`AccelError::Host`] with the call that failed.
    pub fn new(host_caps: Arc<Host>, ram: &GuestRam, vcpus: u32) -> Result<Self, AccelError> {
        let fd = host_caps.kvm.create_vm().map_err(host("KVM_CREATE_VM"))?;
        fd.set_identity_map_address(pc::KVM_IDENTITY_MAP_BASE).map_err(host("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(pc::KVM_TSS_BASE as usize).map_err(host("KVM_SET_TSS_ADDR"))?;
        map_ram(&fd, ram)?;
        let chips = IrqChips::create(&fd)?;
        if host_caps.emulation_exit {
            let mut cap = kvm_enable_cap { cap: KVM_CAP_EXIT_ON_EMULATION_FAILURE, ..Default::default() };
            cap.args[0] = 1;
            fd.enable_cap(&cap).map_err(host("KVM_ENABLE_CAP EXIT_ON_EMULATION_FAILURE"))?;
        }
        if host_caps.quirks.syscall_stays_at_cpl3 {
            quirks::watch_syscall_msrs(&fd)?;
        }
        let shared = VmShared {
            host: host_caps,
            ram: ram.clone(),
            regions: ram.regions(),
            fd,
            vcpus,
            firmware: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            chips,
            paused: Mutex::default(),
            strange_msi: AtomicBool::new(false),
        })
    }
}

/// Makes the regions of `ram` the guest's memory slots. The caller keeps `ram` for as long as `fd`.
///
/// # Errors
/// [`AccelError::Host`].
pub(super) fn map_ram(fd: &VmFd, ram: &GuestRam) -> Result<(), AccelError> {
    for (slot, region) in ram.regions().iter().enumerate() {
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.guest_base,
            memory_size: region.len,
            userspace_addr: region.host_base,
        };
        // SAFETY: the host range is mapped by `ram`, which the caller keeps as long as `fd` lives;
        // the regions do not overlap (GuestRam refuses that).
        unsafe { fd.set_user_memory_region(region) }.map_err(host("KVM_SET_USER_MEMORY_REGION"))?;
    }
    Ok(())
}

impl GsiSink for KvmVm {
    fn set_gsi(&self, gsi: u32, level: bool) {
        // Fails only for a number without a route, which the address map does not contain (pc::tests).
        let _ = self.shared.fd.set_irq_line(gsi, level);
    }
}

impl MsiSink for KvmVm {
    fn send(&self, addr: u64, data: u32) {
        let msi =
            kvm_msi { address_lo: addr as u32, address_hi: (addr >> 32) as u32, data, ..Default::default() };
        if !deaf::is_maskable(data) {
            self.strange_msi.store(true, Ordering::Relaxed);
        }
        // The message of a hostile or confused guest may address no APIC; the bus drops it, and so do we.
        let _ = self.shared.fd.signal_msi(msi);
    }
}

impl Vm for KvmVm {
    fn create_vcpu(&self, id: u32) -> Result<Box<dyn Vcpu>, AccelError> {
        Ok(Box::new(KvmVcpu::new(self.shared.clone(), id)?))
    }

    fn reset(&self) -> Result<(), AccelError> {
        // What stood still has no past to go on from.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.chips.reset(&self.shared.fd)
    }

    fn map_firmware(&self, area: &Arc<FirmwareArea>) -> Result<(), AccelError> {
        let mut slots = self.shared.firmware.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *slots, self.shared.regions.first()) {
            (Some(slots), _) => slots.update(&self.shared.fd),
            (None, Some(low)) => {
                *slots = Some(FirmwareSlots::new(&self.shared.fd, *low, area)?);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn pause(&self) -> Result<(), AccelError> {
        let paused = PausedVm::save(&self.shared.fd)?;
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(paused);
        Ok(())
    }

    fn resume(&self) -> Result<(), AccelError> {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        paused.map_or(Ok(()), |paused| paused.restore(&self.shared.fd))
    }

    fn halts_unseen(&self) -> bool {
        true
    }

    fn is_silent(&self) -> bool {
        !self.strange_msi.load(Ordering::Relaxed) && deaf::is_silent(&self.shared.fd)
    }

    fn debug_means(&self) -> DebugMeans {
        guest_debug::means(&self.shared.host)
    }

    fn describe(&self) -> String {
        if self.shared.host.hardware {
            "KVM with the processor's own virtualization".to_owned()
        } else {
            "KVM without hardware under it: guest kernel code is emulated and slow (docs/kvm-hosts.md)"
                .to_owned()
        }
    }
}
