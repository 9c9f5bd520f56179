//! Defects of KVMs that have no hardware under them, each found by what it does, each with its reason.
//!
//! `caps.rs` calls [`Quirks::find`] only where the processor shows no virtualization, so none of this runs on a
//! host with VMX or SVM. `docs/kvm-hosts.md` tells users what to expect. Two more defects need nothing here: the
//! stale `interrupt_bitmap` (`registers.rs` clears it everywhere, which is always right), and instructions that
//! KVM's emulator lacks (`assist.rs`, by their exits).

use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, KVM_MSR_EXIT_REASON_FILTER,
    kvm_enable_cap, kvm_guest_debug, kvm_segment, kvm_sregs,
};
use kvm_ioctls::{Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuExit, VcpuFd, VmFd};

use super::assist::Around;
use super::boot_regs;
use super::host;
use super::kicker::KvmKicker;
use super::registers::{Registers, get_msr, set_msr};
use super::run_page::RunPage;
use super::vm::map_ram;
use crate::accel::{AccelError, EntryMode, EntryState, Kicker};
use crate::cpu::CpuState;
use crate::cpu::paging::{self, Access, Rights};
use crate::memory::GuestRam;

/// What this host's KVM does wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// VMCALL at CPL 0 is rewritten and executed again for ever, never returning -KVM_ENOSYS. Remedy: KVM's CPUID
    /// leaves are hidden, so that guests make no hypercall (Linux's ptp_kvm alone would hang the boot).
    pub vmcall_loops: bool,
    /// SYSCALL at CPL 3 loads RIP, RCX, R11 and RFLAGS but stays at CPL 3, so that the fetch of the kernel's entry
    /// raises #PF. Remedy: [`SyscallFix`].
    pub syscall_stays_at_cpl3: bool,
}

impl Quirks {
    /// Tries the defects out in a virtual machine of a few pages. Takes some milliseconds.
    ///
    /// # Errors
    /// [`AccelError`] when that machine cannot be made.
    pub fn find(kvm: &Kvm) -> Result<Self, AccelError> {
        Ok(Self { vmcall_loops: vmcall_loops(kvm)?, syscall_stays_at_cpl3: syscall_stays_at_cpl3(kvm)? })
    }
}

/// A machine of 4 MiB and one CPU: the first 2 MiB for user and kernel, the next for the kernel only.
struct MicroVm {
    cpu: VcpuFd,
    fd: VmFd,
    _ram: GuestRam,
}

const MICRO_RAM: u64 = 4 << 20;
const MICRO_CODE: u64 = 0x8000;
const MICRO_KERNEL: u64 = 0x20_0000;
const MICRO_PML4: u64 = 0x1000;
const HLT: u8 = 0xf4;

impl MicroVm {
    /// With `code` at [`MICRO_CODE`], about to run in long mode at CPL 0.
    fn new(kvm: &Kvm, code: &[u8]) -> Result<(Self, kvm_sregs), AccelError> {
        let ram = GuestRam::new(&[(0, MICRO_RAM)]).map_err(|e| AccelError::CannotRun(e.to_string()))?;
        let tables = [(MICRO_PML4, 0x2007), (0x2000, 0x3007), (0x3000, 0x87), (0x3008, MICRO_KERNEL | 0x83)];
        let stored =
            tables.iter().all(|(at, entry): &(u64, u64)| ram.write(*at, &entry.to_le_bytes()).is_ok())
                && ram.write(MICRO_CODE, code).is_ok()
                && ram.write(MICRO_KERNEL, &[HLT]).is_ok();
        debug_assert!(stored, "all of it lies inside the 4 MiB");
        let fd = kvm.create_vm().map_err(host("KVM_CREATE_VM"))?;
        map_ram(&fd, &ram)?;
        let cpu = fd.create_vcpu(0).map_err(host("KVM_CREATE_VCPU"))?;
        let entry = EntryState {
            mode: EntryMode::Long { cr3: MICRO_PML4 },
            rip: MICRO_CODE,
            rsp: 0x7000,
            rsi: 0,
            rbx: 0,
            rax: 0,
            gdt_base: 0,
            gdt_limit: 0,
        };
        let mut sregs = cpu.get_sregs().map_err(host("KVM_GET_SREGS"))?;
        boot_regs::apply(&entry, &mut sregs);
        cpu.set_sregs(&sregs).map_err(host("KVM_SET_SREGS"))?;
        cpu.set_regs(&boot_regs::regs(&entry)).map_err(host("KVM_SET_REGS"))?;
        Ok((Self { cpu, fd, _ram: ram }, sregs))
    }
}

/// VMCALL with an unknown number, then HLT. A working KVM halts at once; 20 ms of CPU is for ever.
fn vmcall_loops(kvm: &Kvm) -> Result<bool, AccelError> {
    const LONG: Duration = Duration::from_millis(20);
    let (mut micro, _) = MicroVm::new(kvm, &[0x0f, 0x01, 0xc1, HLT])?;
    let kicker = KvmKicker::new(RunPage::map(&micro.cpu, micro.fd.run_size())?);
    kicker.attach()?;
    let alarm = kicker.clone();
    let timer = std::thread::spawn(move || {
        std::thread::park_timeout(LONG);
        alarm.kick();
    });
    let start = Instant::now();
    let halted = loop {
        match micro.cpu.run() {
            Ok(exit) => break matches!(exit, VcpuExit::Hlt),
            Err(_) if kicker.take() || start.elapsed() > LONG => break false,
            Err(_) => {}
        }
    };
    kicker.detach();
    timer.thread().unpark();
    // The timer thread only sleeps and kicks; it cannot panic.
    let _ = timer.join();
    Ok(!halted)
}

/// SYSCALL from CPL 3 to a HLT in a page that only the kernel may fetch from.
fn syscall_stays_at_cpl3(kvm: &Kvm) -> Result<bool, AccelError> {
    const STAR_VALUE: u64 = 0x0023_0010 << 32;
    let (mut micro, mut sregs) = MicroVm::new(kvm, &[0x0f, 0x05, HLT])?;
    sregs.efer |= 1;
    (sregs.cs.selector, sregs.cs.dpl) = (0x33, 3);
    (sregs.ss.selector, sregs.ss.dpl) = (0x2b, 3);
    micro.cpu.set_sregs(&sregs).map_err(host("KVM_SET_SREGS"))?;
    let set = [(MSR_STAR, STAR_VALUE), (MSR_LSTAR, MICRO_KERNEL)];
    if !set.iter().all(|(msr, value)| set_msr(&micro.cpu, *msr, *value)) {
        return Ok(false);
    }
    Ok(!matches!(micro.cpu.run(), Ok(VcpuExit::Hlt)))
}

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
const PAGE_FAULT: u64 = 14;
/// Instruction fetch at CPL 3 from a present page: bits P, U and I/D of the error code (I/D only with NX or SMEP).
const USER_FETCH: [u64; 2] = [0x15, 0x5];
const RF: u64 = 1 << 16;

/// Undoes the page fault that SYSCALL ends in where it stays at CPL 3, and enters the kernel as SYSCALL should.
///
/// A hardware breakpoint on the guest's #PF entry (those work at CPL 0) stops the vCPU before the handler's first
/// instruction; a fault that is none of ours runs that instruction in `cpu/` and goes on. The guest's own memory is
/// not touched, and nothing depends on its kernel's code. The price: the guest's own breakpoints at CPL 0 are off.
#[derive(Debug, Default)]
pub(super) struct SyscallFix {
    lstar: u64,
    star: u64,
    sfmask: u64,
    idt_base: u64,
    /// Where the breakpoint is; 0: none.
    handler: u64,
}

/// Makes writes to the SYSCALL MSRs come to [`SyscallFix::wrote_msr`].
///
/// # Errors
/// [`AccelError::Host`].
pub(super) fn watch_syscall_msrs(vm: &VmFd) -> Result<(), AccelError> {
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    cap.args[0] = KVM_MSR_EXIT_REASON_FILTER.into();
    vm.enable_cap(&cap).map_err(host("KVM_ENABLE_CAP X86_USER_SPACE_MSR"))?;
    // Zero bits: the four writes are denied, that is, handed to us.
    let range =
        MsrFilterRange { flags: MsrFilterRangeFlags::WRITE, base: MSR_STAR, msr_count: 4, bitmap: &[0] };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range]).map_err(host("KVM_X86_SET_MSR_FILTER"))
}

impl SyscallFix {
    /// The guest wrote one of the watched MSRs: performs it. `false`: the guest gets #GP.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn wrote_msr(
        &mut self,
        (index, value): (u32, u64),
        now: &Registers,
        around: &mut Around<'_>,
    ) -> Result<bool, AccelError> {
        let done = set_msr(around.fd, index, value);
        let read = |msr| get_msr(around.fd, msr).unwrap_or(0);
        (self.star, self.lstar, self.sfmask) = (read(MSR_STAR), read(MSR_LSTAR), read(MSR_SFMASK));
        self.arm(now, around)?;
        Ok(done)
    }

    /// At any exit: the guest may have moved its IDT.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn follow(&mut self, now: &Registers, around: &mut Around<'_>) -> Result<(), AccelError> {
        if self.lstar == 0 || now.sregs.idt.base == self.idt_base {
            return Ok(());
        }
        self.arm(now, around)
    }

    /// Puts the breakpoint onto the present #PF entry.
    fn arm(&mut self, now: &Registers, around: &mut Around<'_>) -> Result<(), AccelError> {
        self.idt_base = now.sregs.idt.base;
        let handler = gate(around, &now.state(), PAGE_FAULT).unwrap_or(0);
        if self.lstar == 0 || handler == self.handler {
            return Ok(());
        }
        self.handler = handler;
        breakpoint(around.fd, handler)
    }

    /// If the vCPU is at the start of the #PF that SYSCALL should not have raised: the registers as SYSCALL should
    /// have left them.
    pub fn undo(&self, now: &Registers, around: &mut Around<'_>) -> Option<Registers> {
        if self.lstar == 0 || now.sregs.cr2 != self.lstar || now.sregs.cs.selector & 3 != 0 {
            return None;
        }
        let (state, mut frame) = (now.state(), [0; 6]);
        for (i, word) in frame.iter_mut().enumerate() {
            *word = read_linear(around, &state, now.regs.rsp.wrapping_add(8 * i as u64))?;
        }
        let [code, rip, cs, flags, rsp, _] = frame;
        // A jump of the user's to that address looks the same but for the flags that SYSCALL clears (IF among them).
        let by_syscall =
            USER_FETCH.contains(&code) && rip == self.lstar && cs & 3 == 3 && flags & self.sfmask == 0;
        if !by_syscall {
            return None;
        }
        let mut after = *now;
        (after.regs.rip, after.regs.rsp, after.regs.rflags) = (self.lstar, rsp, flags & !RF);
        let selector = (self.star >> 32) as u16 & 0xfffc;
        let flat = kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() };
        after.sregs.cs = kvm_segment { selector, type_: 11, l: 1, ..flat };
        after.sregs.ss = kvm_segment { selector: selector.wrapping_add(8), type_: 3, db: 1, ..flat };
        Some(after)
    }

    /// At vCPU reset.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn reset(&mut self, fd: &VcpuFd) -> Result<(), AccelError> {
        let armed = self.handler != 0;
        *self = Self::default();
        if armed { breakpoint(fd, 0) } else { Ok(()) }
    }
}

/// Sets the one execution breakpoint; 0 takes it away.
fn breakpoint(fd: &VcpuFd, address: u64) -> Result<(), AccelError> {
    let mut debug = kvm_guest_debug::default();
    if address != 0 {
        debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        debug.arch.debugreg[0] = address;
        // DR7: breakpoint 0 global, execution, plus the bit that always reads as one.
        debug.arch.debugreg[7] = 0x402;
    }
    fd.set_guest_debug(&debug).map_err(host("KVM_SET_GUEST_DEBUG"))
}

/// The handler in a 64-bit gate of the IDT.
fn gate(around: &mut Around<'_>, state: &CpuState, vector: u64) -> Option<u64> {
    if vector * 16 + 15 > state.idtr.limit.into() {
        return None;
    }
    let at = state.idtr.base.wrapping_add(vector * 16);
    let low = read_linear(around, state, at)?;
    let high = read_linear(around, state, at.wrapping_add(8))?;
    let present = low >> 47 & 1 == 1;
    present.then_some(low & 0xffff | low >> 32 & 0xffff_0000 | high << 32)
}

/// Eight bytes, aligned, at a supervisor address. `None` when any part of the way is not RAM.
fn read_linear(around: &mut Around<'_>, state: &CpuState, linear: u64) -> Option<u64> {
    let at = paging::walk(state, around, 52, linear & !7, Access::Read, Rights::SupervisorAc).ok()?.address;
    let mut bytes = [0; 8];
    around.vm.ram.read(at, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}
