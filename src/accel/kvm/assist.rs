//! One instruction that KVM could not run, run by `cpu/`.
//!
//! Called by `vcpu.rs` when KVM reports an emulation failure: on every host for vector instructions on device
//! registers and the like, and all the time where KVM has no hardware under it. Fetches only the state that the
//! instruction touches, and leaves the delivery of exceptions to KVM.
#![expect(unsafe_code, reason = "lends pages of guest RAM to the CPU")]

use std::ptr::NonNull;

use kvm_bindings::{KVM_MP_STATE_HALTED, kvm_cpuid_entry2, kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;

use super::exits::Port;
use super::host;
use super::registers::{Extra, Registers, get_msr, set_msr};
use super::vm::VmShared;
use crate::accel::AccelError;
use crate::bus::Width;
use crate::cpu::decode::{self, Needs};
use crate::cpu::machine::MsrFault;
use crate::cpu::paging::{self, Access, Rights};
use crate::cpu::state::rflags;
use crate::cpu::xsave::Layout;
use crate::cpu::{Cpu, CpuState, Exception, HostPage, Machine, Outcome};
use crate::machine::pc;
use crate::memory::Behind;

const MSR_TSC: u32 = 0x10;
const PAGE: u64 = 4096;

/// The software CPU that helps one vCPU.
#[derive(Debug)]
pub(super) struct Assist {
    cpu: Box<Cpu>,
    /// Instructions run so far.
    count: u64,
    /// The last one left an event for KVM to deliver.
    raised: bool,
}

/// The machine around the instruction.
pub(super) struct Around<'a> {
    pub vm: &'a VmShared,
    pub fd: &'a VcpuFd,
    pub port: Port<'a>,
    pub cpuid: &'a [kvm_cpuid_entry2],
    pub cr8: u64,
    /// The instruction touched an interrupt controller, which is KVM's alone.
    pub refused: Option<u64>,
}

impl Assist {
    /// `cpuid` is what the vCPU tells its guest.
    pub fn new(cpuid: &[kvm_cpuid_entry2]) -> Self {
        let mut cpu = Box::new(Cpu::new(CpuState::default()));
        cpu.xsave_layout = Layout::from_cpuid(|subleaf| {
            let entry = cpuid.iter().find(|e| e.function == 0xd && e.index == subleaf)?;
            Some([entry.eax, entry.ebx, entry.ecx])
        });
        Self { cpu, count: 0, raised: false }
    }

    /// Where the vCPU's XSAVE image has what.
    pub fn layout(&self) -> &Layout {
        &self.cpu.xsave_layout
    }

    /// Runs the instruction at `before`'s RIP, whose first bytes are `bytes` (empty: unknown). Returns the new
    /// registers, for the caller to write back.
    ///
    /// # Errors
    /// [`AccelError::CannotRun`] when `cpu/` does not know it either.
    pub fn run(
        &mut self,
        before: &Registers,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) -> Result<Registers, AccelError> {
        self.count += 1;
        let state = &mut self.cpu.state;
        before.fill(state);
        let needs = if bytes.is_empty() { needs(&peek(around, state), state) } else { needs(bytes, state) };
        let extra = Extra::get(around.fd, &needs, &self.cpu.xsave_layout, state)?;
        let hint = (!bytes.is_empty()).then_some(bytes);
        let outcome = self.cpu.run_one(around, hint);
        if let Some(address) = around.refused {
            let why = format!("an instruction that KVM cannot emulate touches an APIC at {address:#x}");
            return Err(AccelError::CannotRun(why));
        }
        let mut after = *before;
        self.finish(outcome, around, extra, &mut after)?;
        Ok(after)
    }

    /// Runs the repeated string instruction at `before`'s RIP until it is past, or has done as much as would take
    /// long: then it is called again, after KVM had its turn.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_to_end(
        &mut self,
        before: &Registers,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) -> Result<Registers, AccelError> {
        // Each turn does at most a page.
        const TURNS: usize = 64;
        let mut now = *before;
        for _ in 0..TURNS {
            let after = self.run(&now, bytes, around)?;
            let (stays, moved) = (after.regs.rip == now.regs.rip, after.regs.rcx != now.regs.rcx);
            now = after;
            if self.raised || !(stays && moved) {
                break;
            }
        }
        Ok(now)
    }

    fn finish(
        &mut self,
        outcome: Outcome,
        around: &Around<'_>,
        extra: Extra,
        after: &mut Registers,
    ) -> Result<(), AccelError> {
        let fd = around.fd;
        let event = match outcome {
            Outcome::Retired => None,
            Outcome::Exception(e) => {
                self.cpu.state.cr2 = e.cr2.unwrap_or(self.cpu.state.cr2);
                self.cpu.state.rflags |= rflags::RF;
                Some(exception(e))
            }
            Outcome::Trap(e) => Some(exception(e)),
            Outcome::SoftwareInterrupt(vector) => Some(soft_interrupt(vector)),
            Outcome::Halt => {
                let halted = kvm_mp_state { mp_state: KVM_MP_STATE_HALTED };
                fd.set_mp_state(halted).map_err(host("KVM_SET_MP_STATE"))?;
                None
            }
            Outcome::Unsupported(what) => return Err(AccelError::CannotRun(what.to_string())),
        };
        extra.put(fd, &self.cpu.xsave_layout, &mut self.cpu.state)?;
        after.take(&self.cpu.state);
        self.raised = event.is_some();
        event.map_or(Ok(()), |set| inject(fd, set))
    }
}

/// The bytes at RIP as far as their page goes, to see what the instruction touches. Checks no rights: whether the
/// fetch is allowed is decided when it is run.
fn peek(around: &mut Around<'_>, state: &CpuState) -> Vec<u8> {
    let mut bytes = Vec::new();
    if state.code_bits() == 64
        && let Ok(at) = paging::walk(state, around, 52, state.rip, Access::Read, Rights::SupervisorAc)
    {
        bytes.resize((PAGE - (at.address & (PAGE - 1))).min(15) as usize, 0);
        if around.vm.ram.read(at.address, &mut bytes).is_err() {
            bytes.clear();
        }
    }
    bytes
}

/// What the instruction touches; everything, when its bytes are not at hand.
fn needs(bytes: &[u8], state: &CpuState) -> Needs {
    decode::decode(bytes, state.code_bits(), state.rip).map_or(Needs::ALL, |i| decode::needs(&i))
}

type SetEvent = Box<dyn FnOnce(&mut kvm_vcpu_events)>;

fn exception(e: Exception) -> SetEvent {
    Box::new(move |events| {
        events.exception.injected = 1;
        events.exception.nr = e.vector;
        events.exception.has_error_code = e.code.is_some().into();
        events.exception.error_code = e.code.unwrap_or(0);
    })
}

fn soft_interrupt(vector: u8) -> SetEvent {
    Box::new(move |events| {
        events.interrupt.injected = 1;
        events.interrupt.nr = vector;
        events.interrupt.soft = 1;
    })
}

/// Leaves the delivery to KVM at the next KVM_RUN.
fn inject(fd: &VcpuFd, set: SetEvent) -> Result<(), AccelError> {
    let mut events = fd.get_vcpu_events().map_err(host("KVM_GET_VCPU_EVENTS"))?;
    events.flags = 0;
    set(&mut events);
    fd.set_vcpu_events(&events).map_err(host("KVM_SET_VCPU_EVENTS"))
}

/// The interrupt controllers are in the kernel and cannot be reached from here.
fn is_apic(address: u64) -> bool {
    [pc::IOAPIC_BASE, pc::LAPIC_BASE].contains(&(address & !(PAGE - 1)))
}

impl Machine for Around<'_> {
    fn ram(&mut self, page: u64) -> Option<HostPage> {
        let address = match self.vm.firmware(page) {
            Some(Behind::Image(host)) => host,
            Some(Behind::Nothing) => return None,
            Some(Behind::Ram { .. }) | None => {
                let region = self.vm.regions.iter().find(|r| page.wrapping_sub(r.guest_base) < r.len)?;
                region.host_base + (page - region.guest_base)
            }
        };
        let at = NonNull::new(address as *mut u8)?;
        // SAFETY: inside a region of the RAM, or of the firmware's image, that `vm` keeps mapped for longer than the CPU
        // lives; both start and end at page boundaries.
        Some(unsafe { HostPage::new(at) })
    }

    fn writable(&mut self, page: u64) -> bool {
        matches!(self.vm.firmware(page), None | Some(Behind::Ram { writable: true }))
    }

    fn read(&mut self, address: u64, data: &mut [u8]) {
        if is_apic(address) {
            self.refused = Some(address);
        } else {
            self.port.mmio_read(address, data);
        }
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        if is_apic(address) {
            self.refused = Some(address);
        } else {
            self.port.mmio_write(address, data);
        }
    }

    fn port_in(&mut self, port: u16, size: u8) -> u32 {
        Width::from_len(size.into()).map_or(0, |width| self.port.pio_read(port, width)) as u32
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        if let Some(width) = Width::from_len(size.into()) {
            self.port.pio_write(port, value.into(), width);
        }
    }

    fn rdmsr(&mut self, msr: u32) -> Result<u64, MsrFault> {
        get_msr(self.fd, msr).ok_or(MsrFault)
    }

    fn wrmsr(&mut self, msr: u32, value: u64) -> Result<(), MsrFault> {
        if set_msr(self.fd, msr, value) { Ok(()) } else { Err(MsrFault) }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let indexed = kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        self.cpuid
            .iter()
            .find(|e| e.function == leaf && (e.flags & indexed == 0 || e.index == subleaf))
            .map_or([0; 4], |e| [e.eax, e.ebx, e.ecx, e.edx])
    }

    fn tsc(&mut self) -> u64 {
        const TSC_ADJUST: u32 = 0x3b;
        let adjust = get_msr(self.fd, TSC_ADJUST).unwrap_or(0);
        get_msr(self.fd, MSR_TSC).unwrap_or(0).wrapping_sub(adjust)
    }

    fn cr8(&mut self) -> u64 {
        self.cr8
    }

    fn set_cr8(&mut self, priority: u64) {
        self.cr8 = priority;
    }
}
