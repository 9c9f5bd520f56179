//! Model-specific registers that belong to the machine rather than to the processor core.
//!
//! Called by `machine.rs`. Pure. Numbers and layouts: Intel SDM volume 4. What is not here does not exist, and
//! RDMSR and WRMSR raise #GP.

use crate::cpu::cpuid;
use crate::cpu::machine::MsrFault;
use crate::machine::pc;

pub(super) const APIC_BASE: u32 = 0x1b;
pub(super) const TSC_DEADLINE: u32 = 0x6e0;

const PLATFORM_ID: u32 = 0x17;
const FEATURE_CONTROL: u32 = 0x3a;
const MICROCODE_REVISION: u32 = 0x8b;
const PLATFORM_INFO: u32 = 0xce;
const MTRR_CAP: u32 = 0xfe;
const ARCH_CAPABILITIES: u32 = 0x10a;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MTRR_DEF_TYPE: u32 = 0x2ff;

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP_VALUE: u64 = 0x508;
const VARIABLE_MTRRS: usize = 16;
/// 250h, 258h, 259h, 268h to 26Fh.
const FIXED_MTRRS: usize = 11;

const APIC_BOOT_CPU: u64 = 1 << 8;
const APIC_ENABLE: u64 = 1 << 11;

/// One CPU's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MachineMsrs {
    apic_base: u64,
    mtrr_def_type: u64,
    mtrr_variable: [u64; VARIABLE_MTRRS],
    mtrr_fixed: [u64; FIXED_MTRRS],
    mcg_status: u64,
}

impl MachineMsrs {
    /// As after power-on.
    pub fn new(boot_cpu: bool) -> Self {
        let boot = if boot_cpu { APIC_BOOT_CPU } else { 0 };
        Self {
            apic_base: pc::LAPIC_BASE | APIC_ENABLE | boot,
            mtrr_def_type: 0,
            mtrr_variable: [0; VARIABLE_MTRRS],
            mtrr_fixed: [0; FIXED_MTRRS],
            mcg_status: 0,
        }
    }

    /// Whether the local APIC answers at its page.
    pub fn apic_enabled(&self) -> bool {
        self.apic_base & APIC_ENABLE != 0
    }

    /// # Errors
    /// [`MsrFault`] for a register that does not exist.
    pub fn read(&self, msr: u32) -> Result<u64, MsrFault> {
        Ok(match msr {
            APIC_BASE => self.apic_base,
            // Locked with everything off.
            FEATURE_CONTROL => 1,
            MICROCODE_REVISION => 1 << 32,
            PLATFORM_ID | PLATFORM_INFO | MCG_CAP => 0,
            MCG_STATUS => self.mcg_status,
            MTRR_CAP => MTRR_CAP_VALUE,
            ARCH_CAPABILITIES => cpuid::ARCH_CAPABILITIES,
            MTRR_DEF_TYPE => self.mtrr_def_type,
            0x200..=0x20f => self.mtrr_variable[(msr - 0x200) as usize],
            _ => self.mtrr_fixed[fixed_mtrr(msr).ok_or(MsrFault)?],
        })
    }

    /// # Errors
    /// [`MsrFault`] for a register that does not exist or does not take the value.
    pub fn write(&mut self, msr: u32, value: u64) -> Result<(), MsrFault> {
        match msr {
            APIC_BASE => return self.write_apic_base(value),
            // Writing zero asks for the revision to be loaded by CPUID; it is always there.
            MICROCODE_REVISION => {}
            MCG_STATUS => self.mcg_status = value & 7,
            MTRR_DEF_TYPE => self.mtrr_def_type = value & 0xcff,
            0x200..=0x20f => self.mtrr_variable[(msr - 0x200) as usize] = value,
            _ => self.mtrr_fixed[fixed_mtrr(msr).ok_or(MsrFault)?] = value,
        }
        Ok(())
    }

    /// The APIC cannot be moved and has no x2APIC mode.
    fn write_apic_base(&mut self, value: u64) -> Result<(), MsrFault> {
        if (value ^ self.apic_base) & !APIC_ENABLE != 0 {
            return Err(MsrFault);
        }
        self.apic_base = value;
        Ok(())
    }
}

fn fixed_mtrr(msr: u32) -> Option<usize> {
    Some(match msr {
        0x250 => 0,
        0x258 | 0x259 => (msr - 0x258) as usize + 1,
        0x268..=0x26f => (msr - 0x268) as usize + 3,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apic_base_says_who_boots_and_cannot_move() {
        let mut msrs = MachineMsrs::new(true);
        assert_eq!(msrs.read(APIC_BASE), Ok(0xfee0_0900));
        assert_eq!(MachineMsrs::new(false).read(APIC_BASE), Ok(0xfee0_0800));
        assert_eq!(msrs.write(APIC_BASE, 0xfed0_0900), Err(MsrFault));
        assert_eq!(msrs.write(APIC_BASE, 0xfee0_0d00), Err(MsrFault), "x2APIC");
        assert_eq!(msrs.write(APIC_BASE, 0xfee0_0100), Ok(()));
        assert!(!msrs.apic_enabled());
    }

    #[test]
    fn memory_type_ranges_keep_what_is_written() {
        let mut msrs = MachineMsrs::new(true);
        for msr in [0x200, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x26f] {
            assert_eq!(msrs.write(msr, u64::from(msr)), Ok(()));
        }
        for msr in [0x200, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x26f] {
            assert_eq!(msrs.read(msr), Ok(u64::from(msr)));
        }
        assert_eq!(msrs.read(0x210), Err(MsrFault));
        assert_eq!(msrs.write(MTRR_CAP, 0), Err(MsrFault));
    }
}
