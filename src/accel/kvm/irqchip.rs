//! PIC, IOAPIC and PIT, which the kernel emulates: creation and return to the power-on state.
//!
//! Used by `vm.rs`. GSI routing is KVM's default: GSI 0 to 15 reach PIC input n and IOAPIC pin n, 16 to 23 the
//! IOAPIC only; the PIT drives GSI 0. So IRQ 0 is IOAPIC pin 0 here, not 2: MADT has no source override for it.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY, kvm_irqchip,
    kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;

use super::host;
use crate::accel::AccelError;
use crate::machine::pc;

/// Power-on state of the chips.
#[derive(Debug)]
pub(super) struct IrqChips {
    chips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
}

impl IrqChips {
    /// Creates the chips and remembers how they are at power-on.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn create(fd: &VmFd) -> Result<Self, AccelError> {
        fd.create_irq_chip().map_err(host("KVM_CREATE_IRQCHIP"))?;
        let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(config).map_err(host("KVM_CREATE_PIT2"))?;
        let mut chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC]
            .map(|chip_id| kvm_irqchip { chip_id, ..Default::default() });
        for chip in &mut chips {
            fd.get_irqchip(chip).map_err(host("KVM_GET_IRQCHIP"))?;
        }
        for gsi in pc::PIRQ_GSI.into_iter().chain([pc::SCI_GSI]) {
            make_level_triggered(&mut chips, gsi);
        }
        let pit = fd.get_pit2().map_err(host("KVM_GET_PIT2"))?;
        let created = Self { chips, pit };
        created.reset(fd)?;
        Ok(created)
    }

    /// Puts the chips back to power-on. Lines that devices still hold high stay high.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn reset(&self, fd: &VmFd) -> Result<(), AccelError> {
        for chip in &self.chips {
            fd.set_irqchip(chip).map_err(host("KVM_SET_IRQCHIP"))?;
        }
        fd.set_pit2(&self.pit).map_err(host("KVM_SET_PIT2"))
    }
}

/// Sets the bit of `gsi` in the edge/level control registers, which a PC's firmware does for the PCI interrupts
/// (ports 4D0h and 4D1h of the ISA bridge). Kernels that use the PIC rely on it.
#[expect(unsafe_code, reason = "kvm_irqchip is a C union")]
fn make_level_triggered(chips: &mut [kvm_irqchip; 3], gsi: u32) {
    let (chip, bit) = if gsi < 8 { (0, gsi) } else { (1, gsi - 8) };
    // SAFETY: chips 0 and 1 are the PICs, for which `pic` is the union's member.
    let pic = unsafe { &mut chips[chip].chip.pic };
    pic.elcr |= 1 << bit;
}
