//! What the CPU sees of the machine around it: memory, ports, MSRs, CPUID, time.
//!
//! Implemented by `accel/kvm` and `accel/soft`; called by everything under `cpu/`. Calls are made on the vCPU's
//! own thread, in the middle of an instruction, and must not block.

use std::sync::atomic::AtomicBool;

pub use super::host::HostPage;

/// The MSR does not exist or does not take the value: the instruction raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrFault;

/// The machine as one processor sees it.
///
/// Physical addresses are below 2^52; accesses never cross a 4 KiB page. Nothing here may panic, whatever the
/// guest passes.
pub trait Machine {
    /// The host memory behind the 4 KiB physical page at `page` (aligned), if that is plain RAM. A page is lent
    /// until [`super::Cpu::flush_tlb`] is next called; ask for a flush when RAM is remapped.
    fn ram(&mut self, page: u64) -> Option<HostPage>;

    /// Whether the lent page may be written by the CPU directly. Pages of ROM say no; writes then go to
    /// [`Self::write`].
    fn writable(&mut self, page: u64) -> bool {
        let _ = page;
        true
    }

    /// Reads `data.len()` bytes (1 to 64) of MMIO, ROM or nothing at all (ones).
    fn read(&mut self, address: u64, data: &mut [u8]);

    /// Writes MMIO, ROM or nothing at all.
    fn write(&mut self, address: u64, data: &[u8]);

    /// IN of `size` bytes (1, 2, 4).
    fn port_in(&mut self, port: u16, size: u8) -> u32;

    /// OUT of `size` bytes (1, 2, 4).
    fn port_out(&mut self, port: u16, size: u8, value: u32);

    /// RDMSR of a register that is not in [`super::state::CpuState`]: the APIC base, MTRRs, microcode, …
    ///
    /// # Errors
    /// [`MsrFault`] when there is no such register.
    fn rdmsr(&mut self, msr: u32) -> Result<u64, MsrFault>;

    /// WRMSR of a register that is not in [`super::state::CpuState`].
    ///
    /// # Errors
    /// [`MsrFault`] when there is no such register or it refuses the value.
    fn wrmsr(&mut self, msr: u32, value: u64) -> Result<(), MsrFault>;

    /// CPUID: EAX, EBX, ECX, EDX. What depends on the processor's own state (OSXSAVE, OSPKE, the XSAVE sizes) is
    /// filled in by the CPU afterwards.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4];

    /// The time-stamp counter, in ticks of the frequency that CPUID announces, without IA32_TSC_ADJUST.
    fn tsc(&mut self) -> u64;

    /// 64 random bits for RDRAND and RDSEED; `None` when there are none just now, which the guest is told.
    fn random(&mut self) -> Option<u64> {
        None
    }

    /// The interrupt controller's task priority, 0 to 15.
    fn cr8(&mut self) -> u64;

    /// What is true while the processor is wanted back: an interrupt is pending, a timer is due, somebody else wants to
    /// stop it. Polled after every block of instructions; stays where it is while the processor runs.
    fn bell(&self) -> &AtomicBool {
        static NEVER: AtomicBool = AtomicBool::new(false);
        &NEVER
    }

    /// The instruction at `rip` is about to call [`Self::read`], [`Self::write`], [`Self::port_in`] or
    /// [`Self::port_out`]: for machines that tell devices where an access came from.
    fn at(&mut self, rip: u64) {
        let _ = rip;
    }

    /// Sets the task priority, 0 to 15.
    fn set_cr8(&mut self, priority: u64);
}
