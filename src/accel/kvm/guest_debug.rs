//! KVM_SET_GUEST_DEBUG: what of a vCPU's debug facilities is used by the debugger and what by `quirks.rs`.
//!
//! The only place that calls it (api.rst, section 4.87). The debugger's breakpoints and watchpoints get the four debug
//! registers from the last one down, `quirks.rs` what is left; while any is set, the guest's own are off. INT3 that the
//! debugger wrote comes as an exit too: from the processor's #BP, or where KVM has no hardware as an instruction that
//! its emulator does not know.

use kvm_bindings as kvm;
use kvm_bindings::{kvm_debug_exit_arch, kvm_guest_debug};
use kvm_ioctls::VcpuFd;

use super::caps::Host;
use super::host;
use crate::accel::AccelError;
use crate::accel::debug::{DebugMeans, DebugPlan, DebugStop, Watch, WatchKind};

const SLOTS: usize = 4;
const DB: u32 = 1;
/// DR6: a single step is done.
const DR6_BS: u64 = 1 << 14;

/// What a debugger can have on this host.
pub(super) fn means(host: &Host) -> DebugMeans {
    // One debug register stays with what makes system calls work.
    let slots = if host.quirks.syscall_stays_at_cpl3 { SLOTS - 1 } else { SLOTS };
    // Where kernel code is emulated, data breakpoints never trigger.
    DebugMeans { slots, watches: host.hardware, patches: true }
}

/// What a debug exit was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The debugger's.
    Debugger(DebugStop),
    /// An INT3, a single step or a breakpoint of the guest's own: it is to get the exception.
    Guest,
    /// A breakpoint of `quirks.rs`.
    Quirk,
}

/// The state of one vCPU's debug facilities.
#[derive(Debug, Default)]
pub(super) struct GuestDebug {
    /// Execution breakpoints of `quirks.rs` by slot, linear addresses; 0: none.
    quirks: [u64; SLOTS],
    plan: DebugPlan,
    block_irq: bool,
    changed: bool,
}

impl GuestDebug {
    /// `block_irq`: KVM can hold interrupts off during a step (KVM_CAP_SET_GUEST_DEBUG2).
    pub fn new(block_irq: bool) -> Self {
        Self { block_irq, ..Self::default() }
    }

    /// Sets a breakpoint of `quirks.rs`; 0 takes it away. Works where the debugger leaves the slot.
    pub fn set_quirk(&mut self, slot: usize, address: u64) {
        self.changed |= self.quirks[slot] != address;
        self.quirks[slot] = address;
    }

    /// The slot of the breakpoint of `quirks.rs` at `rip`.
    pub fn quirk_at(&self, rip: u64) -> Option<usize> {
        self.quirks.iter().position(|a| *a == rip && rip != 0)
    }

    /// No breakpoints of `quirks.rs` any more; the debugger's stay.
    pub fn clear_quirks(&mut self) {
        self.changed = true;
        self.quirks = [0; SLOTS];
    }

    /// Replaces the debugger's plan.
    pub fn set_plan(&mut self, plan: &DebugPlan) {
        self.changed |= self.plan != *plan;
        self.plan = plan.clone();
    }

    /// Whether the run is to end after one instruction.
    pub fn is_stepping(&self) -> bool {
        self.plan.step
    }

    /// The same. Takes it out of the plan.
    pub fn take_step(&mut self) -> bool {
        let step = std::mem::take(&mut self.plan.step);
        self.changed |= step;
        step
    }

    /// Whether the debugger wrote an INT3 at `address`.
    pub fn is_patched(&self, address: u64) -> bool {
        self.plan.patched.contains(&address)
    }

    /// What KVM_EXIT_DEBUG means. A step that is done is out of the plan.
    pub fn cause(&mut self, exit: &kvm_debug_exit_arch) -> Cause {
        let here = self.plan.breakpoints.contains(&exit.pc) || self.is_patched(exit.pc);
        let watches = self.plan.watches.iter().enumerate();
        let met =
            watches.clone().find(|(n, _)| exit.dr6 >> self.watch_slot(*n) & 1 != 0).map(|(_, watch)| *watch);
        let stepped = exit.dr6 & DR6_BS != 0;
        match (exit.exception, met) {
            (DB, Some(watch)) => Cause::Debugger(DebugStop::Watch(watch)),
            (DB, None) if stepped && self.take_step() => Cause::Debugger(DebugStop::Step),
            _ if here && !stepped => Cause::Debugger(DebugStop::Breakpoint),
            (DB, None) if self.quirks != [0; SLOTS] => Cause::Quirk,
            _ => Cause::Guest,
        }
    }

    /// Watchpoints come below breakpoints.
    fn watch_slot(&self, n: usize) -> usize {
        SLOTS.saturating_sub(1 + self.plan.breakpoints.len() + n)
    }

    /// Tells KVM, if anything changed.
    ///
    /// # Errors
    /// [`AccelError::Host`], and [`AccelError::CannotRun`] when the plan does not fit.
    pub fn apply(&mut self, fd: &VcpuFd) -> Result<(), AccelError> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let debug = self.request()?;
        fd.set_guest_debug(&debug).map_err(host("KVM_SET_GUEST_DEBUG"))
    }

    fn request(&self) -> Result<kvm_guest_debug, AccelError> {
        let DebugPlan { breakpoints, patched, watches, step } = &self.plan;
        let taken = breakpoints.len() + watches.len();
        if taken > SLOTS {
            return Err(AccelError::CannotRun(format!("{taken} breakpoints for {SLOTS} debug registers")));
        }
        let mut debug = kvm_guest_debug::default();
        // DR7: the bit that always reads as one; then G, and type and length, of each breakpoint in use.
        debug.arch.debugreg[7] = 0x400;
        let mut set = |slot: usize, address: u64, kind: u64| {
            debug.arch.debugreg[slot] = address;
            debug.arch.debugreg[7] |= 2 << (2 * slot) | kind << (16 + 4 * slot);
        };
        let quirks = self.quirks.iter().enumerate().take(SLOTS - taken).filter(|(_, a)| **a != 0);
        quirks.for_each(|(slot, address)| set(slot, *address, 0));
        for (n, address) in breakpoints.iter().enumerate() {
            set(SLOTS - 1 - n, *address, 0);
        }
        for (n, watch) in watches.iter().enumerate() {
            set(self.watch_slot(n), watch.addr, data_breakpoint(watch)?);
        }
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let used = debug.arch.debugreg[7] != 0x400;
        debug.control = flag(used, kvm::KVM_GUESTDBG_USE_HW_BP)
            | flag(!patched.is_empty(), kvm::KVM_GUESTDBG_USE_SW_BP)
            | flag(*step, kvm::KVM_GUESTDBG_SINGLESTEP)
            | flag(*step && self.block_irq, kvm::KVM_GUESTDBG_BLOCKIRQ);
        debug.control |= flag(debug.control != 0, kvm::KVM_GUESTDBG_ENABLE);
        Ok(debug)
    }
}

/// Type and length of a data breakpoint as DR7 has them. The processor has none for reads alone.
fn data_breakpoint(watch: &Watch) -> Result<u64, AccelError> {
    let length = match watch.len {
        1 => 0,
        2 => 1,
        4 => 3,
        8 => 2,
        _ => {
            let why = format!("a watchpoint of {} bytes: the processor has 1, 2, 4 and 8", watch.len);
            return Err(AccelError::CannotRun(why));
        }
    };
    let kind = if watch.kind == WatchKind::Write { 1 } else { 3 };
    Ok(length << 2 | kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BP: u32 = 3;
    const WATCH: Watch = Watch { addr: 0x2000, len: 8, kind: WatchKind::Write };

    fn set(plan: DebugPlan) -> GuestDebug {
        let mut debug = GuestDebug::new(true);
        debug.set_quirk(0, 0xaaa);
        debug.set_quirk(3, 0xbbb);
        debug.set_plan(&plan);
        debug
    }

    #[test]
    fn the_debugger_gets_registers_from_above_and_quirks_keep_the_rest() {
        let breakpoints = vec![0x1000];
        let request =
            set(DebugPlan { breakpoints, watches: vec![WATCH], ..DebugPlan::default() }).request().unwrap();
        let dr = request.arch.debugreg;
        assert_eq!((dr[0], dr[1], dr[2], dr[3]), (0xaaa, 0, 0x2000, 0x1000));
        // G3, G2 and G0; slot 2 writes 8 bytes (type 1, length 2).
        assert_eq!(dr[7], 0x400 | 0x80 | 0x20 | 2 | (2 << 2 | 1) << 24);
        assert_eq!(request.control, kvm::KVM_GUESTDBG_ENABLE | kvm::KVM_GUESTDBG_USE_HW_BP);
        let plan = DebugPlan { step: true, patched: vec![5], ..DebugPlan::default() };
        let mut debug = set(plan);
        debug.clear_quirks();
        let all = kvm::KVM_GUESTDBG_ENABLE
            | kvm::KVM_GUESTDBG_USE_SW_BP
            | kvm::KVM_GUESTDBG_SINGLESTEP
            | kvm::KVM_GUESTDBG_BLOCKIRQ;
        assert_eq!(debug.request().unwrap().control, all);
        assert_eq!(GuestDebug::new(true).request().unwrap().control, 0);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let breakpoints = vec![1, 2, 3, 4];
        let plan = DebugPlan { breakpoints, watches: vec![WATCH], ..DebugPlan::default() };
        assert!(set(plan).request().is_err());
        let watches = vec![Watch { len: 3, ..WATCH }];
        assert!(set(DebugPlan { watches, ..DebugPlan::default() }).request().is_err());
    }

    #[test]
    fn exits_are_told_apart() {
        let plan =
            DebugPlan { breakpoints: vec![0x1000], patched: vec![0x3000], watches: vec![WATCH], step: true };
        let mut debug = set(plan);
        let exit = |exception, pc, dr6| kvm_debug_exit_arch { exception, pad: 0, pc, dr6, dr7: 0 };
        let stop = |stop| Cause::Debugger(stop);
        assert_eq!(debug.cause(&exit(DB, 0x1000, 8)), stop(DebugStop::Breakpoint));
        assert_eq!(debug.cause(&exit(BP, 0x3000, 0)), stop(DebugStop::Breakpoint));
        assert_eq!(debug.cause(&exit(BP, 0x3001, 0)), Cause::Guest);
        assert_eq!(debug.cause(&exit(DB, 0x1234, 4)), stop(DebugStop::Watch(WATCH)));
        assert_eq!(debug.cause(&exit(DB, 0xaaa, 1)), Cause::Quirk);
        assert_eq!(debug.cause(&exit(DB, 0x1001, DR6_BS)), stop(DebugStop::Step));
        assert!(!debug.take_step(), "once");
        assert_eq!(GuestDebug::new(true).cause(&exit(DB, 0x1001, DR6_BS)), Cause::Guest);
    }
}
