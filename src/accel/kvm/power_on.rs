//! A vCPU's power-on state: taken once after creation, written back at every reset.
//!
//! Used by `vcpu.rs`. Registers that KVM lets us write are all in it, so that nothing of the last run survives a
//! reboot. The order of the writes is what KVM needs: APIC base (in SREGS) before the APIC, the APIC's mode before
//! the deadline MSR, MP state last.
#![expect(unsafe_code, reason = "the XSAVE image's size is known to us only")]

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_VCPUEVENT_VALID_NMI_PENDING,
    KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SIPI_VECTOR, Msrs, Xsave, kvm_debugregs, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Cap, VcpuFd};

use super::boot_regs;
use super::caps::Host;
use super::host;
use crate::accel::{AccelError, StartState};

const MSR_TSC: u32 = 0x10;
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// IA32_MISC_ENABLE bit 0: fast strings, as firmware leaves it.
const FAST_STRINGS: u64 = 1;
/// MTRRs on, default type write-back, as firmware leaves them for RAM.
const MTRR_ON_WRITE_BACK: u64 = 0x806;
/// Variable and fixed MTRRs, which older kernels leave out of KVM_GET_MSR_INDEX_LIST.
const MTRRS: [u32; 28] = [
    0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e,
    0x20f, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff,
];

/// Local APIC register offsets and values (SDM volume 3, chapter 11).
const APIC_SVR: usize = 0xf0;
const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
const SVR_ENABLED: u32 = 0x1ff;
const LVT_EXTINT: u32 = 0x700;
const LVT_NMI: u32 = 0x400;

/// The state.
pub(super) struct PowerOn {
    sregs: kvm_sregs,
    lapic: kvm_lapic_state,
    debug: kvm_debugregs,
    xcrs: Option<kvm_xcrs>,
    xsave: Xsave,
    msrs: Vec<kvm_msr_entry>,
}

impl std::fmt::Debug for PowerOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PowerOn").field("msrs", &self.msrs.len()).finish_non_exhaustive()
    }
}

impl PowerOn {
    /// Reads the state of a vCPU that has its CPUID and has never run.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn take(host_caps: &Host, fd: &VcpuFd) -> Result<Self, AccelError> {
        let has_xcrs = host_caps.kvm.check_extension(Cap::Xcrs);
        let xcrs = if has_xcrs { Some(fd.get_xcrs().map_err(host("KVM_GET_XCRS"))?) } else { None };
        Ok(Self {
            sregs: fd.get_sregs().map_err(host("KVM_GET_SREGS"))?,
            lapic: fd.get_lapic().map_err(host("KVM_GET_LAPIC"))?,
            debug: fd.get_debug_regs().map_err(host("KVM_GET_DEBUGREGS"))?,
            xcrs,
            xsave: get_xsave(host_caps, fd)?,
            msrs: get_msrs(host_caps, fd)?,
        })
    }

    /// Puts the vCPU into `start`, everything else as at power-on.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn restore(&self, fd: &VcpuFd, start: &StartState) -> Result<(), AccelError> {
        let (mut sregs, mut lapic) = (self.sregs, self.lapic);
        let (mut regs, mut mp_state) = (kvm_regs { rflags: 2, rip: 0xfff0, ..Default::default() }, waiting());
        if let StartState::Run(entry) = start {
            boot_regs::apply(entry, &mut sregs);
            regs = boot_regs::regs(entry);
            mp_state = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            virtual_wire(&mut lapic);
        }
        fd.set_sregs(&sregs).map_err(host("KVM_SET_SREGS"))?;
        fd.set_regs(&regs).map_err(host("KVM_SET_REGS"))?;
        if let Some(xcrs) = &self.xcrs {
            fd.set_xcrs(xcrs).map_err(host("KVM_SET_XCRS"))?;
        }
        // SAFETY: the image has the size that KVM_CAP_XSAVE2 told, see `get_xsave`.
        unsafe { fd.set_xsave2(&self.xsave) }.map_err(host("KVM_SET_XSAVE"))?;
        fd.set_lapic(&lapic).map_err(host("KVM_SET_LAPIC"))?;
        set_msrs(fd, &self.msrs)?;
        fd.set_debug_regs(&self.debug).map_err(host("KVM_SET_DEBUGREGS"))?;
        fd.set_vcpu_events(&no_events()).map_err(host("KVM_SET_VCPU_EVENTS"))?;
        fd.set_mp_state(mp_state).map_err(host("KVM_SET_MP_STATE"))
    }
}

fn waiting() -> kvm_mp_state {
    kvm_mp_state { mp_state: KVM_MP_STATE_UNINITIALIZED }
}

/// Nothing pending, nothing blocked.
fn no_events() -> kvm_vcpu_events {
    let flags =
        KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW;
    kvm_vcpu_events { flags, ..Default::default() }
}

/// Virtual wire mode through the boot CPU's APIC, as firmware hands over (MP specification 1.4, section 3.6.2.2).
fn virtual_wire(lapic: &mut kvm_lapic_state) {
    set_apic(lapic, APIC_SVR, SVR_ENABLED);
    set_apic(lapic, APIC_LVT_LINT0, LVT_EXTINT);
    set_apic(lapic, APIC_LVT_LINT1, LVT_NMI);
}

fn set_apic(lapic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
        lapic.regs[offset + i] = byte as _;
    }
}

fn get_xsave(host_caps: &Host, fd: &VcpuFd) -> Result<Xsave, AccelError> {
    let extra = host_caps.xsave_size.saturating_sub(4096).div_ceil(4);
    let mut image = Xsave::new(extra).map_err(|_| out_of_memory())?;
    if host_caps.kvm.check_extension(Cap::Xsave2) {
        // SAFETY: the image is as large as KVM_CAP_XSAVE2 says that the kernel writes.
        unsafe { fd.get_xsave2(&mut image) }.map_err(host("KVM_GET_XSAVE2"))?;
    } else {
        let plain = fd.get_xsave().map_err(host("KVM_GET_XSAVE"))?;
        // SAFETY: only the register image is replaced, the length field stays.
        unsafe { image.as_mut_fam_struct() }.xsave = plain;
    }
    Ok(image)
}

fn out_of_memory() -> AccelError {
    AccelError::Host { what: "cannot allocate", source: std::io::ErrorKind::OutOfMemory.into() }
}

/// Every MSR that KVM lets us read, with what firmware would have set.
fn get_msrs(host_caps: &Host, fd: &VcpuFd) -> Result<Vec<kvm_msr_entry>, AccelError> {
    let list = host_caps.kvm.get_msr_index_list().map_err(host("KVM_GET_MSR_INDEX_LIST"))?;
    let mut indices: Vec<u32> = list.as_slice().iter().copied().chain(MTRRS).collect();
    indices.sort_unstable();
    indices.dedup();
    let mut found = Vec::new();
    let mut rest: Vec<_> =
        indices.into_iter().map(|index| kvm_msr_entry { index, ..Default::default() }).collect();
    while !rest.is_empty() {
        let mut msrs = Msrs::from_entries(&rest).map_err(|_| out_of_memory())?;
        // Stops at the first that cannot be read; that one is skipped.
        let got = fd.get_msrs(&mut msrs).map_err(host("KVM_GET_MSRS"))?;
        found.extend_from_slice(&msrs.as_slice()[..got]);
        rest.drain(..(got + 1).min(rest.len()));
    }
    found.iter_mut().for_each(as_firmware_leaves_it);
    Ok(found)
}

fn as_firmware_leaves_it(msr: &mut kvm_msr_entry) {
    match msr.index {
        MSR_MISC_ENABLE => msr.data |= FAST_STRINGS,
        MSR_MTRR_DEF_TYPE => msr.data = MTRR_ON_WRITE_BACK,
        // Zero makes KVM put this vCPU's counter in step with the others'.
        MSR_TSC => msr.data = 0,
        _ => {}
    }
}

/// Writes them; one that KVM shows but does not take is skipped.
fn set_msrs(fd: &VcpuFd, all: &[kvm_msr_entry]) -> Result<(), AccelError> {
    let mut rest = all;
    while !rest.is_empty() {
        let msrs = Msrs::from_entries(rest).map_err(|_| out_of_memory())?;
        let done = fd.set_msrs(&msrs).map_err(host("KVM_SET_MSRS"))?;
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(())
}
