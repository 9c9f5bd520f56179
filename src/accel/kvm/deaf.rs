//! Whether halted CPUs can be woken. KVM keeps HLT to itself as long as it has the interrupt controllers (api.rst, section
//! 4.38, KVM_GET_MP_STATE), so somebody has to ask.
//!
//! Called by `vcpu.rs` and `vm.rs` while no CPU runs; changes nothing. RFLAGS.IF does not hold off NMI, SMI, INIT and
//! SIPI: of these, none may be on its way, and nothing but a CPU may be set up to send one. What remains is a bus master whose
//! first message of such a kind is still to come.
#![expect(unsafe_code, reason = "kvm_irqchip is a C union")]

use kvm_bindings as kvm;
use kvm_bindings::kvm_irqchip;
use kvm_ioctls::{VcpuFd, VmFd};

const RFLAGS_IF: u64 = 1 << 9;
/// Local vector table entries and redirection entries (SDM volume 3, 12.5.1; 82093AA, 3.2.4): the same bits.
const MASKED: u32 = 1 << 16;
/// Local vector table entry of LINT0, to which KVM's PIT sends NMIs.
const LVT_LINT0: usize = 0x350;

/// Whether an interrupt of this delivery mode (bits 10:8) can be held off by RFLAGS.IF: fixed, lowest priority, ExtINT.
pub(super) fn is_maskable(entry: u32) -> bool {
    matches!(entry >> 8 & 7, 0 | 1 | 7)
}

/// Whether this CPU can be woken by another one only. A host that does not answer leaves it open.
pub(super) fn is_deaf(fd: &VcpuFd) -> bool {
    asleep(fd).unwrap_or(false)
}

fn asleep(fd: &VcpuFd) -> Option<bool> {
    let halted = match fd.get_mp_state().ok()?.mp_state {
        kvm::KVM_MP_STATE_UNINITIALIZED => return Some(true),
        state => state == kvm::KVM_MP_STATE_HALTED,
    };
    let events = fd.get_vcpu_events().ok()?;
    let coming = [
        events.nmi.pending,
        events.nmi.injected,
        events.smi.pending,
        events.smi.latched_init,
        events.exception.injected,
        events.exception.pending,
        events.interrupt.injected,
    ];
    let lapic = fd.get_lapic().ok()?;
    let lint0: [u8; 4] = std::array::from_fn(|byte| lapic.regs[LVT_LINT0 + byte] as u8);
    let lint0 = u32::from_le_bytes(lint0);
    let deaf = fd.get_regs().ok()?.rflags & RFLAGS_IF == 0;
    Some(halted && deaf && coming == [0; 7] && (lint0 & MASKED != 0 || is_maskable(lint0)))
}

/// Whether the IOAPIC sends nothing that wakes a deaf CPU.
pub(super) fn is_silent(fd: &VmFd) -> bool {
    let mut chip = kvm_irqchip { chip_id: kvm::KVM_IRQCHIP_IOAPIC, ..Default::default() };
    if fd.get_irqchip(&mut chip).is_err() {
        return false;
    }
    // SAFETY: `chip_id` makes `ioapic` the union's member; its entries are plain bits.
    let entries = unsafe { chip.chip.ioapic.redirtbl.map(|entry| entry.bits as u32) };
    entries.into_iter().all(|entry| entry & MASKED != 0 || is_maskable(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_modes_are_the_manuals() {
        let woken: Vec<u32> = (0..8).filter(|mode| !is_maskable(mode << 8 | 0x30)).collect();
        assert_eq!(woken, [2, 3, 4, 5, 6], "SMI, NMI, INIT, and what is reserved");
    }
}
