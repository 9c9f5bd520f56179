//! What the crate gdbstub asks of a target, in terms of [`Debuggee`].
//!
//! Owned by `session.rs`. CPUs are gdb's threads, number 1 being CPU 0. Registers are fetched once a stop and kept until
//! the machine goes on.

use std::num::NonZeroUsize;
use std::sync::Arc;

use gdbstub::arch::Registers;
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind as GdbWatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::registers::{GuestRegisters, Number, X86};
use super::{Debuggee, Point, Resume, target_xml};
use crate::accel::debug::{Watch, WatchKind};
use crate::cpu::CpuState;

/// gdb's EFAULT: no memory there.
const EFAULT: u8 = 14;

/// The machine, as gdbstub is to see it.
#[derive(Debug)]
pub(super) struct Guest {
    pub machine: Arc<dyn Debuggee>,
    /// Registers of each CPU, as far as they were asked for since the last stop.
    known: Vec<Option<Box<CpuState>>>,
    resume: Resume,
    /// Why the machine does not go on, though it was to.
    pub not_resumed: Option<String>,
    /// CPUs that gdb wants to run, whatever the others do.
    named: Vec<u32>,
    xml: String,
}

/// The thread that a CPU is for gdb.
pub(super) fn thread(cpu: u32) -> Tid {
    NonZeroUsize::MIN.saturating_add(cpu as usize)
}

fn cpu(tid: Tid) -> u32 {
    (tid.get() - 1) as u32
}

fn shown(kind: GdbWatchKind) -> WatchKind {
    match kind {
        GdbWatchKind::Write => WatchKind::Write,
        GdbWatchKind::Read => WatchKind::Read,
        GdbWatchKind::ReadWrite => WatchKind::Access,
    }
}

type Answer<T> = TargetResult<T, Guest>;

/// gdb shows no reason; the error is one that keeps the session.
fn refused(_: String) -> TargetError<String> {
    TargetError::NonFatal
}

impl Guest {
    pub fn new(machine: Arc<dyn Debuggee>) -> Self {
        Self {
            machine,
            known: Vec::new(),
            resume: Resume::default(),
            not_resumed: None,
            named: Vec::new(),
            xml: target_xml::document(),
        }
    }

    /// What was fetched no longer holds.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn state(&mut self, cpu: u32) -> Result<&CpuState, String> {
        if cpu >= self.machine.cpus() {
            return Err(format!("there is no CPU {cpu}"));
        }
        let at = cpu as usize;
        if self.known.len() <= at {
            self.known.resize(at + 1, None);
        }
        if self.known[at].is_none() {
            self.known[at] = Some(Box::new(self.machine.registers(cpu)?));
        }
        self.known[at].as_deref().ok_or_else(|| format!("there is no CPU {cpu}"))
    }

    fn change(&mut self, tid: Tid, f: impl FnOnce(&mut CpuState)) -> Answer<()> {
        let mut state = self.state(cpu(tid)).map_err(refused)?.clone();
        f(&mut state);
        // What the CPU made of it is asked for anew.
        self.known[cpu(tid) as usize] = None;
        self.machine.set_registers(cpu(tid), &state).map_err(refused)
    }

    /// Breakpoints are meant in the first CPU's memory: the protocol does not say whose.
    fn add(&mut self, point: Point) -> Answer<bool> {
        let machine = self.machine.clone();
        Ok(machine.add(point, self.state(0).map_err(refused)?))
    }

    fn watch(addr: u64, len: u64, kind: GdbWatchKind) -> Point {
        Point::Watch(Watch { addr, len: len.max(1), kind: shown(kind) })
    }
}

impl Target for Guest {
    type Arch = X86;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, X86, String> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, regs: &mut GuestRegisters, tid: Tid) -> Answer<()> {
        *regs = GuestRegisters::of(self.state(cpu(tid)).map_err(refused)?);
        Ok(())
    }

    fn write_registers(&mut self, regs: &GuestRegisters, tid: Tid) -> Answer<()> {
        self.change(tid, |state| regs.put(state))
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> Answer<usize> {
        let machine = self.machine.clone();
        match machine.read(self.state(cpu(tid)).map_err(refused)?, start, data) {
            0 if !data.is_empty() => Err(TargetError::Errno(EFAULT)),
            read => Ok(read),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> Answer<()> {
        let machine = self.machine.clone();
        let written = machine.write(self.state(cpu(tid)).map_err(refused)?, start, data);
        if written { Ok(()) } else { Err(TargetError::Errno(EFAULT)) }
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), String> {
        (0..self.machine.cpus()).map(thread).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Guest {
    fn read_register(&mut self, tid: Tid, number: Number, buf: &mut [u8]) -> Answer<usize> {
        let bytes = GuestRegisters::of(self.state(cpu(tid)).map_err(refused)?).bytes();
        let value = number.range().and_then(|range| bytes.get(range)).ok_or(TargetError::NonFatal)?;
        let n = value.len().min(buf.len());
        buf[..n].copy_from_slice(&value[..n]);
        Ok(n)
    }

    fn write_register(&mut self, tid: Tid, number: Number, value: &[u8]) -> Answer<()> {
        let mut registers = GuestRegisters::of(self.state(cpu(tid)).map_err(refused)?);
        let mut bytes = registers.bytes();
        let place = number.range().and_then(|range| bytes.get_mut(range)).ok_or(TargetError::NonFatal)?;
        if place.len() != value.len() {
            return Err(TargetError::NonFatal);
        }
        place.copy_from_slice(value);
        registers.gdb_deserialize(&bytes)?;
        self.change(tid, |state| registers.put(state))
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, String> {
        let known = self.known.get(cpu(tid) as usize).and_then(Option::as_deref);
        let does = if known.is_some_and(|state| state.halted) { " (halted)" } else { "" };
        let text = format!("CPU {}{does}", cpu(tid));
        let n = text.len().min(buf.len());
        buf[..n].copy_from_slice(&text.as_bytes()[..n]);
        Ok(n)
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<(), String> {
        let resume = std::mem::take(&mut self.resume);
        self.forget();
        // An error here would end the conversation; the session has a way to say it.
        self.not_resumed = self.machine.resume(&resume).err();
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), String> {
        self.resume = Resume::default();
        self.named.clear();
        Ok(())
    }

    /// The guest gets no signals.
    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), String> {
        self.named.push(cpu(tid));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), String> {
        self.named.push(cpu(tid));
        self.resume.steps.push(cpu(tid));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    /// Comes after the actions of single threads.
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), String> {
        self.resume.only = Some(self.named.clone());
        Ok(())
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> Answer<bool> {
        self.add(Point::Software(addr))
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> Answer<bool> {
        Ok(self.machine.remove(Point::Software(addr)))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> Answer<bool> {
        self.add(Point::Hardware(addr))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> Answer<bool> {
        Ok(self.machine.remove(Point::Hardware(addr)))
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: GdbWatchKind) -> Answer<bool> {
        self.add(Self::watch(addr, len, kind))
    }

    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: GdbWatchKind) -> Answer<bool> {
        Ok(self.machine.remove(Self::watch(addr, len, kind)))
    }
}

impl MonitorCmd for Guest {
    fn handle_monitor_cmd(&mut self, line: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), String> {
        let answer = self.machine.command(&String::from_utf8_lossy(line));
        out.write_raw(answer.as_bytes());
        // It may have been one that changes registers, such as system_reset.
        self.forget();
        Ok(())
    }
}

impl TargetDescriptionXmlOverride for Guest {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> Answer<usize> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let rest = usize::try_from(offset).ok().and_then(|offset| self.xml.as_bytes().get(offset..));
        let rest = rest.unwrap_or_default();
        let n = rest.len().min(length).min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
