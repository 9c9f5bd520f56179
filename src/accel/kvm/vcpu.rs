//! One vCPU: KVM_RUN in a loop, exits to GuestBus or to the caller.
//!
//! Created by `vm.rs` on the thread that runs it. Everything KVM emulates itself (HLT, local APIC, INIT and SIPI)
//! never gets here.
#![expect(unsafe_code, reason = "kvm_run is a C union")]

use std::sync::Arc;

use kvm_bindings as kvm;
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use kvm_ioctls::{SyncReg, VcpuFd};

use super::assist::{Around, Assist};
use super::cpuid::{self, CpuidConfig};
use super::deaf;
use super::exits::{IoExit, Port, VcpuOrigin};
use super::guest_debug::{Cause, GuestDebug};
use super::host;
use super::kicker::KvmKicker;
use super::pause::PausedVcpu;
use super::power_on::PowerOn;
use super::quirks::{Remedies, Step};
use super::registers::{Extra, Registers};
use super::run_page::RunPage;
use super::vm::VmShared;
use crate::accel::debug::{DebugPlan, DebugStop};
use crate::accel::{AccelError, Exit, GuestBus, Kicker, StartState, Vcpu};
use crate::cpu::CpuState;
use crate::cpu::decode::Needs;
use crate::cpu::exceptions::vector;
use crate::cpu::state::seg;

/// A virtual CPU.
#[derive(Debug)]
pub(super) struct KvmVcpu {
    id: u32,
    fd: VcpuFd,
    kicker: Arc<KvmKicker>,
    power_on: PowerOn,
    assist: Assist,
    remedies: Remedies,
    debug: GuestDebug,
    cpuid: Vec<kvm_cpuid_entry2>,
    paused: Option<PausedVcpu>,
    vm: Arc<VmShared>,
}

/// What KVM_RUN came back with.
enum Ran {
    /// A signal or `immediate_exit`; every access of the last exit is complete now.
    Interrupted,
    /// An exit; its reason.
    Exited(u32),
}

impl KvmVcpu {
    /// Creates vCPU `id` and gives it its CPUID.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn new(vm: Arc<VmShared>, id: u32) -> Result<Self, AccelError> {
        let mut fd = vm.fd.create_vcpu(id.into()).map_err(host("KVM_CREATE_VCPU"))?;
        let config = CpuidConfig {
            apic_id: id,
            cpus: vm.vcpus,
            tsc_deadline: vm.host.tsc_deadline,
            tsc_khz: fd.get_tsc_khz().ok(),
            kvm_leaves: !vm.host.quirks.vmcall_loops,
        };
        let cpuid = cpuid::table(vm.host.cpuid.as_slice(), &config);
        let table = CpuId::from_entries(&cpuid)
            .map_err(|_| AccelError::CannotRun("the host's CPUID has too many leaves".to_owned()))?;
        fd.set_cpuid2(&table).map_err(host("KVM_SET_CPUID2"))?;
        if vm.host.sync_regs {
            fd.set_sync_valid_reg(SyncReg::Register);
            fd.set_sync_valid_reg(SyncReg::SystemRegister);
        }
        let page = RunPage::map(&fd, vm.fd.run_size())?;
        let power_on = PowerOn::take(&vm.host, &fd)?;
        let remedies = Remedies::new(&vm.host.quirks);
        let debug = GuestDebug::new(vm.host.step_blocks_irq);
        let (kicker, assist) = (KvmKicker::new(page), Assist::new(&cpuid));
        Ok(Self { id, fd, kicker, power_on, assist, remedies, debug, cpuid, paused: None, vm })
    }

    fn enter(&mut self) -> Result<Ran, AccelError> {
        match self.fd.run() {
            Ok(_) => Ok(Ran::Exited(self.fd.get_kvm_run().exit_reason)),
            // EAGAIN: a CPU that waits for SIPI was woken; KVM wants to be called again.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(Ran::Interrupted),
            Err(error) => Err(host("KVM_RUN")(error)),
        }
    }

    /// Deals with one exit. Returns what the caller must decide.
    fn exit(&mut self, reason: u32, bus: &dyn GuestBus) -> Result<Option<Exit>, AccelError> {
        match reason {
            kvm::KVM_EXIT_IO => self.io(bus),
            kvm::KVM_EXIT_MMIO => self.mmio(bus),
            kvm::KVM_EXIT_INTR | kvm::KVM_EXIT_IRQ_WINDOW_OPEN => {}
            kvm::KVM_EXIT_HLT => return Ok(Some(Exit::Halted)),
            // On x86 a system event is a crash or reset that the guest asked its hypervisor for: it is over.
            kvm::KVM_EXIT_SHUTDOWN | kvm::KVM_EXIT_SYSTEM_EVENT => return Ok(Some(Exit::Shutdown)),
            kvm::KVM_EXIT_INTERNAL_ERROR => return self.internal_error(bus),
            kvm::KVM_EXIT_DEBUG => return self.debug_exit(bus),
            kvm::KVM_EXIT_X86_WRMSR => self.wrmsr(bus)?,
            kvm::KVM_EXIT_FAIL_ENTRY => return Err(self.fail_entry()),
            _ => return Err(self.cannot_run(format!("KVM exit reason {reason}"))),
        }
        Ok(None)
    }

    fn io(&mut self, bus: &dyn GuestBus) {
        // SAFETY: KVM_EXIT_IO makes `io` the union's member.
        let io = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.io };
        let io = IoExit {
            write: u32::from(io.direction) == kvm::KVM_EXIT_IO_OUT,
            size: io.size,
            port: io.port,
            count: io.count,
            data_offset: io.data_offset,
        };
        let port = Port { bus, cpu: self.id, origin: &VcpuOrigin(&self.fd) };
        port.io(&io, self.kicker.page());
    }

    fn mmio(&mut self, bus: &dyn GuestBus) {
        // SAFETY: KVM_EXIT_MMIO makes `mmio` the union's member.
        let mmio = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.mmio };
        let mut data = mmio.data;
        let len = (mmio.len as usize).min(data.len());
        let port = Port { bus, cpu: self.id, origin: &VcpuOrigin(&self.fd) };
        if mmio.is_write != 0 {
            port.mmio_write(mmio.phys_addr, &data[..len]);
            return;
        }
        port.mmio_read(mmio.phys_addr, &mut data[..len]);
        // Plain data of the same union member; the kernel takes it at the next KVM_RUN.
        self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = data;
    }

    fn internal_error(&mut self, bus: &dyn GuestBus) -> Result<Option<Exit>, AccelError> {
        // SAFETY: KVM_EXIT_INTERNAL_ERROR makes `internal` the union's member.
        let internal = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        if internal.suberror == kvm::KVM_INTERNAL_ERROR_EMULATION {
            const INT3: u8 = 0xcc;
            let (bytes, len) = self.emulation_failure();
            let rip = self.linear_rip()?;
            if bytes[..len].first() == Some(&INT3) && self.debug.is_patched(rip) {
                return Ok(Some(Exit::Debug(DebugStop::Breakpoint)));
            }
            return self.assist(&bytes[..len], bus);
        }
        let what = match internal.suberror {
            kvm::KVM_INTERNAL_ERROR_SIMUL_EX => "two exceptions at once",
            kvm::KVM_INTERNAL_ERROR_DELIVERY_EV => "an exit while delivering an event",
            _ => "an unexpected exit of the processor",
        };
        let count = (internal.ndata as usize).min(internal.data.len());
        let data = &internal.data[..count];
        Err(self.cannot_run(format!("KVM met {what} (suberror {}, data {data:x?})", internal.suberror)))
    }

    /// The instruction's bytes, as many as KVM fetched.
    fn emulation_failure(&mut self) -> ([u8; 15], usize) {
        // SAFETY: an emulation failure makes `emulation_failure` the union's member; `ndata` and `flags` say
        // whether the bytes are there.
        let (failure, insn) = unsafe {
            let failure = self.fd.get_kvm_run().__bindgen_anon_1.emulation_failure;
            (failure, failure.__bindgen_anon_1.__bindgen_anon_1)
        };
        let flag = u64::from(kvm::KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
        let there = failure.ndata > 0 && failure.flags & flag != 0;
        (insn.insn_bytes, if there { usize::from(insn.insn_size).min(15) } else { 0 })
    }

    /// A breakpoint, a watchpoint or a step: the debugger's, one of `quirks.rs`, or the guest's own INT3.
    fn debug_exit(&mut self, bus: &dyn GuestBus) -> Result<Option<Exit>, AccelError> {
        // SAFETY: KVM_EXIT_DEBUG makes `debug` the union's member.
        let exit = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.debug.arch };
        match self.debug.cause(&exit) {
            Cause::Debugger(stop) => Ok(Some(Exit::Debug(stop))),
            Cause::Quirk => self.assist(&[], bus),
            Cause::Guest => {
                self.give_back(&exit)?;
                Ok(None)
            }
        }
    }

    /// Raises a debug exception in the guest that KVM gave to us.
    fn give_back(&mut self, exit: &kvm::kvm_debug_exit_arch) -> Result<(), AccelError> {
        // RIP is where the processor left it; KVM steps over an INT3 when it delivers the exception.
        let nr = exit.exception as u8;
        if nr == vector::DB {
            let mut registers = self.fd.get_debug_regs().map_err(host("KVM_GET_DEBUGREGS"))?;
            registers.dr6 |= exit.dr6;
            self.fd.set_debug_regs(&registers).map_err(host("KVM_SET_DEBUGREGS"))?;
        }
        let mut events = self.fd.get_vcpu_events().map_err(host("KVM_GET_VCPU_EVENTS"))?;
        events.flags = 0;
        (events.exception.injected, events.exception.nr, events.exception.has_error_code) = (1, nr, 0);
        self.fd.set_vcpu_events(&events).map_err(host("KVM_SET_VCPU_EVENTS"))
    }

    fn linear_rip(&self) -> Result<u64, AccelError> {
        let state = Registers::get(&self.fd, self.vm.host.sync_regs)?.state();
        let base = if state.code_bits() == 64 { 0 } else { state.segs[seg::CS].base };
        Ok(base.wrapping_add(state.rip))
    }

    /// Runs the instruction at RIP in `cpu/`, or does what `quirks.rs` says. That may be all that the debugger wanted.
    fn assist(&mut self, bytes: &[u8], bus: &dyn GuestBus) -> Result<Option<Exit>, AccelError> {
        let synced = self.vm.host.sync_regs;
        let before = Registers::get(&self.fd, synced)?;
        let after = {
            let mut around = around(&self.vm, &self.fd, self.id, bus, &self.cpuid, &before);
            match self.remedies.at_exit(&before, &mut around, &mut self.debug)? {
                Step::Done(after) => Ok(*after),
                Step::Run => self.assist.run(&before, bytes, &mut around),
                Step::RunToEnd(bytes) => self.assist.run_to_end(&before, &bytes, &mut around),
            }
        };
        let after = after.map_err(|error| self.cannot_run(error.to_string()))?;
        after.put(&before, &mut self.fd, synced)?;
        Ok(self.debug.take_step().then_some(Exit::Debug(DebugStop::Step)))
    }

    /// A write to an MSR that `quirks.rs` watches.
    fn wrmsr(&mut self, bus: &dyn GuestBus) -> Result<(), AccelError> {
        // SAFETY: KVM_EXIT_X86_WRMSR makes `msr` the union's member.
        let mut msr = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.msr };
        let now = Registers::get(&self.fd, self.vm.host.sync_regs)?;
        let mut around = around(&self.vm, &self.fd, self.id, bus, &self.cpuid, &now);
        let done = self.remedies.wrote_msr((msr.index, msr.data), &now, &mut around, &mut self.debug)?;
        // Plain data of the same union member; the kernel looks at it at the next KVM_RUN.
        msr.error = u8::from(!done);
        self.fd.get_kvm_run().__bindgen_anon_1.msr = msr;
        Ok(())
    }

    fn fail_entry(&mut self) -> AccelError {
        // SAFETY: KVM_EXIT_FAIL_ENTRY makes `fail_entry` the union's member.
        let why = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.fail_entry }.hardware_entry_failure_reason;
        self.cannot_run(format!(
            "the processor refused to enter the guest (hardware reason {why:#x}); the host's log may say more"
        ))
    }

    /// Adds where it happened.
    fn cannot_run(&self, what: String) -> AccelError {
        let at = match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(r), Ok(s)) => {
                format!("RIP {:#x}, CS {:#x}, CR0 {:#x}, CR3 {:#x}", r.rip, s.cs.selector, s.cr0, s.cr3)
            }
            _ => "registers unknown".to_owned(),
        };
        AccelError::CannotRun(format!("{what} at {at}"))
    }

    /// Ends a step whose instruction has left KVM for an access. Its end is no debug exit on every host.
    fn finish_step(&mut self, bus: &dyn GuestBus) -> Result<Exit, AccelError> {
        loop {
            self.kicker.page().set_immediate_exit(true);
            let ran = self.enter();
            self.kicker.rearm();
            match ran? {
                Ran::Interrupted => {
                    self.debug.take_step();
                    return Ok(Exit::Debug(DebugStop::Step));
                }
                // The next part of a wide access, or the step's own exit.
                Ran::Exited(reason) => {
                    if let Some(exit) = self.exit(reason, bus)? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    /// Lets KVM finish the access of the last exit, so that registers written next are not overwritten by it.
    fn finish_access(&mut self) -> Result<(), AccelError> {
        self.kicker.page().set_immediate_exit(true);
        let ran = self.enter();
        self.kicker.rearm();
        ran.map(|_| ())
    }
}

fn around<'a>(
    vm: &'a VmShared,
    fd: &'a VcpuFd,
    cpu: u32,
    bus: &'a dyn GuestBus,
    cpuid: &'a [kvm_cpuid_entry2],
    now: &'a Registers,
) -> Around<'a> {
    let port = Port { bus, cpu, origin: now };
    Around { vm, fd, port, cpuid, cr8: now.sregs.cr8, refused: None }
}

impl Vcpu for KvmVcpu {
    fn reset(&mut self, start: &StartState) -> Result<(), AccelError> {
        self.finish_access()?;
        self.remedies.reset(&self.vm.host.quirks, &self.fd, &mut self.debug)?;
        self.power_on.restore(&self.fd, start)?;
        if self.vm.host.sync_regs {
            // The shared page still has what was before; nobody is to take that for the registers.
            let now = Registers::get(&self.fd, false)?;
            let shared = self.fd.sync_regs_mut();
            (shared.regs, shared.sregs) = (now.regs, now.sregs);
        }
        Ok(())
    }

    fn run(&mut self, bus: &Arc<dyn GuestBus>) -> Result<Exit, AccelError> {
        let bus = &**bus;
        loop {
            self.debug.apply(&self.fd)?;
            match self.enter()? {
                Ran::Interrupted if self.kicker.take() => return Ok(Exit::Kicked),
                Ran::Interrupted => {}
                Ran::Exited(reason) => {
                    if let Some(exit) = self.exit(reason, bus)? {
                        return Ok(exit);
                    }
                    let unfinished =
                        matches!(reason, kvm::KVM_EXIT_IO | kvm::KVM_EXIT_MMIO | kvm::KVM_EXIT_X86_WRMSR);
                    if unfinished && self.debug.is_stepping() {
                        return self.finish_step(bus);
                    }
                }
            }
        }
    }

    fn pause(&mut self) -> Result<(), AccelError> {
        self.paused = Some(PausedVcpu::save(&self.fd));
        Ok(())
    }

    fn resume(&mut self) -> Result<(), AccelError> {
        if let Some(paused) = self.paused.take() {
            paused.restore(&self.fd);
        }
        Ok(())
    }

    fn is_deaf(&mut self) -> bool {
        deaf::is_deaf(&self.fd)
    }

    fn registers(&mut self) -> Result<CpuState, AccelError> {
        let mut state = Registers::get(&self.fd, self.vm.host.sync_regs)?.state();
        Extra::get(&self.fd, &Needs::ALL, self.assist.layout(), &mut state)?;
        state.halted = self.fd.get_mp_state().is_ok_and(|at| at.mp_state == kvm::KVM_MP_STATE_HALTED);
        Ok(state)
    }

    fn set_registers(&mut self, state: &CpuState) -> Result<(), AccelError> {
        let synced = self.vm.host.sync_regs;
        let before = Registers::get(&self.fd, synced)?;
        let mut after = before;
        after.take(state);
        after.put(&before, &mut self.fd, synced)?;
        let extra = Extra::get(&self.fd, &Needs::ALL, self.assist.layout(), &mut before.state())?;
        extra.put(&self.fd, self.assist.layout(), &mut state.clone())
    }

    fn set_debug(&mut self, plan: &DebugPlan) -> Result<(), AccelError> {
        self.debug.set_plan(plan);
        self.debug.apply(&self.fd)
    }

    fn kicker(&mut self) -> Result<Arc<dyn Kicker>, AccelError> {
        self.kicker.attach()?;
        Ok(self.kicker.clone())
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.kicker.detach();
    }
}
