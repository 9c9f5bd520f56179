//! Defects of KVMs that have no hardware under them, each found by what it does, each with its reason.
//!
//! `caps.rs` calls [`Quirks::find`] only where the processor shows no virtualization, so none of this runs on a
//! host with VMX or SVM. `docs/kvm-hosts.md` tells users what to expect. Two more defects need nothing here: the
//! stale `interrupt_bitmap` (`registers.rs` clears it everywhere, which is always right), and instructions that
//! KVM's emulator lacks (`assist.rs`, by their exits).

use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap, kvm_segment, kvm_sregs,
};
use kvm_ioctls::{Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuExit, VcpuFd, VmFd};

use super::assist::Around;
use super::boot_regs;
use super::guest_debug::GuestDebug;
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
    /// A repeated string instruction at CPL 0 takes about a microsecond for each element, byte-wise ones too, which
    /// a kernel prefers on a processor with fast strings: 4 ms for clearing a page. Remedy: [`HotStrings`].
    pub strings_are_slow: bool,
}

impl Quirks {
    /// Tries the defects out in a virtual machine of a few pages. Takes some milliseconds.
    ///
    /// # Errors
    /// [`AccelError`] when that machine cannot be made.
    pub fn find(kvm: &Kvm) -> Result<Self, AccelError> {
        Ok(Self {
            vmcall_loops: vmcall_loops(kvm)?,
            syscall_stays_at_cpl3: syscall_stays_at_cpl3(kvm)?,
            strings_are_slow: strings_are_slow(kvm)?,
        })
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

/// Clears 8 KiB byte by byte, twice. A processor needs a microsecond for it.
fn strings_are_slow(kvm: &Kvm) -> Result<bool, AccelError> {
    const CLEAR_AND_HALT: [u8; 13] = [0xbf, 0, 0, 0x10, 0, 0xb9, 0, 0x20, 0, 0, 0xf3, 0xaa, HLT];
    const LONG: Duration = Duration::from_millis(2);
    let mut fastest = Duration::MAX;
    for _ in 0..2 {
        let (mut micro, _) = MicroVm::new(kvm, &CLEAR_AND_HALT)?;
        let start = Instant::now();
        if !matches!(micro.cpu.run(), Ok(VcpuExit::Hlt)) {
            return Ok(false);
        }
        fastest = fastest.min(start.elapsed());
    }
    Ok(fastest > LONG)
}

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
const PAGE_FAULT: u64 = 14;
/// Instruction fetch at CPL 3 from a present page: bits P, U and I/D of the error code (I/D only with NX or SMEP).
const USER_FETCH: [u64; 2] = [0x15, 0x5];
const RF: u64 = 1 << 16;

/// What is done about the defects on one vCPU.
#[derive(Debug, Default)]
pub(super) struct Remedies {
    syscall: Option<SyscallFix>,
    strings: Option<HotStrings>,
}

/// What [`Remedies::at_exit`] leaves to do.
pub(super) enum Step {
    /// Nothing: these are the registers to go on with.
    Done(Box<Registers>),
    /// The instruction at RIP is to be run by `cpu/`.
    Run,
    /// The repeated string instruction at RIP, which these bytes begin with, is to be run by `cpu/` to its end.
    RunToEnd([u8; 3]),
}

impl Remedies {
    /// Those that `quirks` ask for.
    pub fn new(quirks: &Quirks) -> Self {
        Self {
            syscall: quirks.syscall_stays_at_cpl3.then(SyscallFix::default),
            strings: quirks.strings_are_slow.then(HotStrings::default),
        }
    }

    /// An emulation failure or a breakpoint of ours.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn at_exit(
        &mut self,
        now: &Registers,
        around: &mut Around<'_>,
        debug: &mut GuestDebug,
    ) -> Result<Step, AccelError> {
        let mut step = Step::Run;
        if let Some(fix) = &mut self.syscall {
            debug.set_quirk(SYSCALL_SLOT, fix.follow(now, around));
            if let Some(after) = fix.undo(now, around) {
                step = Step::Done(Box::new(after));
            }
        }
        if let Some(strings) = &mut self.strings {
            if debug.quirk_at(now.regs.rip) >= Some(FIRST_STRING_SLOT) {
                strings.used(now.regs.rip);
                // The guest may have put other code there meanwhile.
                let bytes = repeated_string(around, &now.state(), now.regs.rip);
                step = bytes.map_or(Step::Run, Step::RunToEnd);
            } else {
                strings.sample(now, around, debug);
            }
        }
        debug.apply(around.fd)?;
        Ok(step)
    }

    /// The guest wrote one of the MSRs of [`watch_syscall_msrs`]: performs it. `false`: the guest gets #GP.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn wrote_msr(
        &mut self,
        (index, value): (u32, u64),
        now: &Registers,
        around: &mut Around<'_>,
        debug: &mut GuestDebug,
    ) -> Result<bool, AccelError> {
        let done = set_msr(around.fd, index, value);
        if let Some(fix) = &mut self.syscall {
            fix.learn(around.fd);
            debug.set_quirk(SYSCALL_SLOT, fix.find_handler(now, around));
        }
        debug.apply(around.fd)?;
        Ok(done)
    }

    /// At vCPU reset.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn reset(&mut self, quirks: &Quirks, fd: &VcpuFd, debug: &mut GuestDebug) -> Result<(), AccelError> {
        *self = Self::new(quirks);
        debug.clear_quirks();
        debug.apply(fd)
    }
}

/// Which of the hardware breakpoints are for what.
const SYSCALL_SLOT: usize = 0;
const FIRST_STRING_SLOT: usize = 1;

/// Runs the guest kernel's busiest repeated string instructions in `cpu/`, at the speed of memory.
///
/// Which they are shows in passing: an interrupt handler's first CLAC comes to us, and when it interrupted a
/// repeated string instruction, RIP in its frame points at that. Up to three get a breakpoint.
#[derive(Debug, Default)]
struct HotStrings {
    /// Uses of each of our slots since the last change.
    uses: [(u64, u32); 3],
    samples: u32,
}

impl HotStrings {
    fn used(&mut self, rip: u64) {
        if let Some((_, count)) = self.uses.iter_mut().find(|(address, _)| *address == rip) {
            *count = count.saturating_add(1);
        }
    }

    /// Looks at what was interrupted, if an interrupt handler starts here.
    fn sample(&mut self, now: &Registers, around: &mut Around<'_>, debug: &mut GuestDebug) {
        let state = now.state();
        if state.cpl() != 0 || state.code_bits() != 64 {
            return;
        }
        let rsp = now.regs.rsp;
        let frame = [0, 8, 16].map(|at| read_linear(around, &state, rsp.wrapping_add(at)));
        let [Some(rip), Some(cs), Some(flags)] = frame else { return };
        if cs != u64::from(now.sregs.cs.selector) || flags & 2 == 0 || debug.quirk_at(rip).is_some() {
            return;
        }
        if repeated_string(around, &state, rip).is_some() {
            self.add(rip, debug);
        }
    }

    /// Gives the least used slot to `rip`; one in use keeps it for some samples.
    fn add(&mut self, rip: u64, debug: &mut GuestDebug) {
        const PATIENCE: u32 = 16;
        self.samples += 1;
        let Some((slot, (_, count))) = self.uses.iter().copied().enumerate().min_by_key(|(_, u)| u.1) else {
            return;
        };
        if count > 0 && self.samples < PATIENCE {
            return;
        }
        self.samples = 0;
        self.uses.iter_mut().for_each(|u| u.1 /= 2);
        self.uses[slot] = (rip, 0);
        debug.set_quirk(FIRST_STRING_SLOT + slot, rip);
    }
}

/// The bytes at `rip`, if they are REP, an optional REX, and MOVS or STOS.
fn repeated_string(around: &mut Around<'_>, state: &CpuState, rip: u64) -> Option<[u8; 3]> {
    let mut bytes = [0; 3];
    for (i, byte) in bytes.iter_mut().enumerate() {
        let at = rip.wrapping_add(i as u64);
        *byte = (read_linear(around, state, at)? >> (8 * (at & 7))) as u8;
    }
    let opcode = if bytes[1] & 0xf0 == 0x40 { bytes[2] } else { bytes[1] };
    (bytes[0] == 0xf3 && matches!(opcode, 0xa4 | 0xa5 | 0xaa | 0xab)).then_some(bytes)
}

/// Undoes the page fault that SYSCALL ends in where it stays at CPL 3, and enters the kernel as SYSCALL should.
///
/// A hardware breakpoint on the guest's #PF entry (those work at CPL 0) stops the vCPU before the handler's first
/// instruction; a fault that is none of ours runs that instruction in `cpu/` and goes on. The guest's own memory is
/// not touched, and nothing depends on its kernel's code.
#[derive(Debug, Default)]
struct SyscallFix {
    lstar: u64,
    star: u64,
    sfmask: u64,
    idt_base: u64,
    /// Where the breakpoint is; 0: none.
    handler: u64,
}

/// Makes writes to the SYSCALL MSRs come to [`Remedies::wrote_msr`].
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
    fn learn(&mut self, fd: &VcpuFd) {
        let read = |msr| get_msr(fd, msr).unwrap_or(0);
        (self.star, self.lstar, self.sfmask) = (read(MSR_STAR), read(MSR_LSTAR), read(MSR_SFMASK));
    }

    /// Where the breakpoint belongs; the guest may have moved its IDT.
    fn follow(&mut self, now: &Registers, around: &mut Around<'_>) -> u64 {
        let moved = now.sregs.idt.base != self.idt_base;
        let suspect = now.sregs.cr2 == self.lstar && now.regs.rip != self.handler;
        if self.lstar != 0 && (moved || suspect) { self.find_handler(now, around) } else { self.handler }
    }

    /// Reads the present #PF entry from the guest's IDT.
    fn find_handler(&mut self, now: &Registers, around: &mut Around<'_>) -> u64 {
        self.idt_base = now.sregs.idt.base;
        self.handler = if self.lstar == 0 { 0 } else { gate(around, &now.state(), PAGE_FAULT).unwrap_or(0) };
        self.handler
    }

    /// If the vCPU is at the start of the #PF that SYSCALL should not have raised: the registers as SYSCALL should
    /// have left them.
    fn undo(&self, now: &Registers, around: &mut Around<'_>) -> Option<Registers> {
        let at_entry = now.regs.rip == self.handler && now.sregs.cs.selector & 3 == 0;
        if self.lstar == 0 || !at_entry || now.sregs.cr2 != self.lstar {
            return None;
        }
        let (state, mut frame) = (now.state(), [0; 6]);
        for (i, word) in frame.iter_mut().enumerate() {
            *word = read_linear(around, &state, now.regs.rsp.wrapping_add(8 * i as u64))?;
        }
        let [code, rip, cs, flags, rsp, _] = frame;
        // A jump of the user's to that address looks the same but for the flags that SYSCALL clears (IF among them);
        // RF is set by the fault.
        let cleared = flags & !RF & self.sfmask == 0;
        if !(USER_FETCH.contains(&code) && rip == self.lstar && cs & 3 == 3 && cleared) {
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
