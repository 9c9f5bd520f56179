//! /dev/kvm: whether it is there, may be used, and can do what the machine needs.
//!
//! Every reason why not becomes one line that says what to do. Also answers whether there is hardware under it:
//! a KVM without (nested sandboxes) runs guest kernel code in an emulator, about two million instructions a
//! second.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_CAP_SET_GUEST_DEBUG2,
    KVM_GUESTDBG_BLOCKIRQ, KVM_MAX_CPUID_ENTRIES,
};
use kvm_ioctls::{Cap, Kvm};
use vmm_sys_util::errno;

use super::host;
use super::quirks::Quirks;
use super::vm::KvmVm;
use crate::accel::{Accel, AccelError, Vm};
use crate::memory::GuestRam;
use crate::time::MonotonicClock;

/// What the machine cannot do without, and its name in the KVM API documentation.
const NEEDED: [(Cap, &str); 14] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::PitState2, "KVM_CAP_PIT_STATE2"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::InternalErrorData, "KVM_CAP_INTERNAL_ERROR_DATA"),
];

/// What differs between hosts and matters later.
#[derive(Debug)]
pub(super) struct Host {
    pub kvm: Kvm,
    /// The processor's own virtualization (VMX or SVM) is under this KVM.
    pub hardware: bool,
    /// KVM_CAP_SYNC_REGS: registers travel in the shared page. Used where exits that need them are many; elsewhere
    /// copying them at each exit would only cost time.
    pub sync_regs: bool,
    /// What this KVM does wrong; never anything where there is hardware.
    pub quirks: Quirks,
    /// KVM_CAP_EXIT_ON_EMULATION_FAILURE: an instruction KVM cannot emulate comes to us with its bytes.
    pub emulation_exit: bool,
    /// KVM_CAP_SET_GUEST_DEBUG2 lists KVM_GUESTDBG_BLOCKIRQ: single steps are not interrupted.
    pub step_blocks_irq: bool,
    /// Size in bytes of the XSAVE image; 4096 unless KVM_CAP_XSAVE2 says more.
    pub xsave_size: usize,
    /// KVM_CAP_TSC_DEADLINE_TIMER, which KVM_GET_SUPPORTED_CPUID leaves out.
    pub tsc_deadline: bool,
    /// KVM_GET_SUPPORTED_CPUID.
    pub cpuid: CpuId,
}

/// An opened /dev/kvm.
#[derive(Debug)]
pub struct KvmAccel {
    host: Arc<Host>,
}

impl KvmAccel {
    /// Opens /dev/kvm and checks that it can do what the machine needs.
    ///
    /// # Errors
    /// [`AccelError::Unavailable`]: one line with the reason and the remedy.
    pub fn open() -> Result<Self, AccelError> {
        let kvm = Kvm::new().map_err(cannot_open)?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(unavailable(format!(
                "/dev/kvm speaks API version {version}, this needs {KVM_API_VERSION}"
            )));
        }
        if let Some((_, name)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(unavailable(format!("the host's KVM lacks {name}: a newer host kernel is needed")));
        }
        let cpuid =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(host("KVM_GET_SUPPORTED_CPUID"))?;
        let xsave_size = kvm.check_extension_int(Cap::Xsave2).max(4096) as usize;
        let hardware = hardware_below(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let synced = kvm.check_extension_int(Cap::SyncRegs) & 3 == 3;
        let debug_flags = kvm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG2.into());
        let host = Host {
            hardware,
            sync_regs: !hardware && synced,
            quirks: if hardware { Quirks::default() } else { Quirks::find(&kvm)? },
            emulation_exit: kvm.check_extension_raw(KVM_CAP_EXIT_ON_EMULATION_FAILURE.into()) > 0,
            tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer),
            step_blocks_irq: debug_flags > 0 && debug_flags as u32 & KVM_GUESTDBG_BLOCKIRQ != 0,
            xsave_size,
            cpuid,
            kvm,
        };
        Ok(Self { host: Arc::new(host) })
    }

    /// Whether the processor's own virtualization is under this KVM. Without it guest kernel code is emulated.
    pub fn hardware(&self) -> bool {
        self.host.hardware
    }
}

impl Accel for KvmAccel {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn create_vm(
        &self,
        ram: &GuestRam,
        vcpus: u32,
        _clock: &MonotonicClock,
    ) -> Result<Arc<dyn Vm>, AccelError> {
        let most = self.host.kvm.get_max_vcpus();
        if vcpus as usize > most {
            return Err(unavailable(format!("-smp {vcpus}: the host's KVM allows at most {most} CPUs")));
        }
        Ok(Arc::new(KvmVm::new(self.host.clone(), ram, vcpus)?))
    }
}

fn unavailable(why: String) -> AccelError {
    AccelError::Unavailable(why)
}

fn cannot_open(error: errno::Error) -> AccelError {
    unavailable(match error.errno() {
        libc::ENOENT => "/dev/kvm is not there: the processor's virtualization is off in the firmware, or the \
            module is not loaded (sudo modprobe kvm_intel, or kvm_amd); in a container, pass --device /dev/kvm"
            .to_owned(),
        libc::EACCES | libc::EPERM => "no permission for /dev/kvm: sudo usermod -aG kvm $USER and log in again, or \
            for this session: sudo setfacl -m u:$USER:rw /dev/kvm"
            .to_owned(),
        libc::ENXIO | libc::ENODEV => "/dev/kvm has no driver behind it: sudo modprobe kvm_intel (or kvm_amd)".to_owned(),
        _ => format!("cannot open /dev/kvm: {error}"),
    })
}

/// Linux shows `vmx` (Intel) or `svm` (AMD) among a processor's flags when KVM can use them. Where they are
/// missing and /dev/kvm exists nevertheless, something else runs the guest.
fn hardware_below(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags")?.split_once(':'))
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|f| f == "vmx" || f == "svm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_shows_in_the_processor_flags() {
        assert!(hardware_below("model\t: x\nflags\t\t: fpu vmx sse\n"));
        assert!(hardware_below("flags\t\t: fpu svm\n"));
        assert!(!hardware_below("flags\t\t: fpu hypervisor\nvmx flags\t: vnmi\n"));
        assert!(!hardware_below(""));
    }

    #[test]
    fn a_missing_permission_names_the_command() {
        let text = cannot_open(errno::Error::new(libc::EACCES)).to_string();
        assert!(text.contains("usermod -aG kvm") && !text.contains('\n'), "{text}");
        let page = include_str!("../../../docs/qemu-compat.md");
        assert!(page.contains(&format!("| `{text}` |")), "docs/qemu-compat.md does not quote: {text}");
        let text = cannot_open(errno::Error::new(libc::ENOENT)).to_string();
        assert!(text.contains("modprobe kvm_intel"), "{text}");
    }
}
