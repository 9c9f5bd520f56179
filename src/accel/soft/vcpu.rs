//! The run loop of one CPU: events, execution, sleep, and the turn.
//!
//! Created by `vm.rs`, driven by `machine/vcpu_thread.rs`. Between two stretches of execution it lets timers
//! fire, takes the next event from the interrupt controllers and delivers it.

use std::sync::Arc;
use std::time::Duration;

use super::chips::Event;
use super::doorbell::Doorbell;
use super::machine::SoftMachine;
use super::start;
use super::vm::Shared;
use crate::accel::debug::{DebugPlan, DebugStop};
use crate::accel::{AccelError, Exit, GuestBus, Kicker, StartState, Vcpu};
use crate::cpu::interrupts::TripleFault;
use crate::cpu::{CpuState, Interpreter, run};

/// Instructions between two looks at the timers, and at the event loop if that is ours: about 100 microseconds.
const BUDGET: u64 = 20_000;
/// How long a CPU keeps the turn while others wait for it, in nanoseconds.
const SLICE: u64 = 500_000;
const NMI: u8 = 2;

/// A virtual CPU.
#[derive(Debug)]
pub(super) struct SoftVcpu {
    id: usize,
    shared: Arc<Shared>,
    bell: Arc<Doorbell>,
    cpu: Interpreter<SoftMachine>,
    machine: SoftMachine,
    /// After INIT, before SIPI.
    waits_for_sipi: bool,
    /// When this CPU got the turn.
    turn_began: u64,
    /// Instructions executed when the event loop last ran on this thread.
    served: u64,
}

/// While it lives, the CPU's thread runs the event loop.
struct TakenOver(Arc<Doorbell>);

impl TakenOver {
    fn new(bell: &Arc<Doorbell>) -> Self {
        if let Some(executor) = bell.executor() {
            executor.take_over();
        }
        Self(bell.clone())
    }
}

impl Drop for TakenOver {
    fn drop(&mut self) {
        if let Some(executor) = self.0.executor() {
            executor.give_back();
        }
    }
}

/// While it lives, the CPU may hold the turn; afterwards, also after a panic, it does not: the others, and who waits for
/// them, would wait for ever.
struct Turn {
    shared: Arc<Shared>,
    cpu: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.turns.let_go(self.cpu);
    }
}

impl SoftVcpu {
    pub fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self {
            id: id as usize,
            bell: shared.bell(id as usize).clone(),
            cpu: Interpreter::new(CpuState::default(), shared.code.clone()),
            machine: SoftMachine::new(shared.clone(), id),
            waits_for_sipi: true,
            turn_began: 0,
            served: 0,
            shared,
        }
    }

    fn is_halted(&self) -> bool {
        self.cpu.cpu.state.halted
    }

    /// Lets due timers fire and takes the next event. Asks for an interrupt window if more is waiting.
    fn next_event(&mut self) -> Option<Event> {
        let now = self.shared.now();
        let cpu = &self.cpu.cpu;
        let mut chips = self.shared.chips();
        let wake = chips.run_timers(now);
        let nmi_open = !cpu.state.nmi_blocked && !self.waits_for_sipi;
        let event = chips.take_event(self.id, cpu.interruptible(), nmi_open);
        self.cpu.want_window = chips.has_interrupt(self.id);
        drop(chips);
        self.shared.ring(super::chips::Wake(wake.0 & !(1 << self.id)));
        event
    }

    fn deliver(&mut self, event: Event) -> Result<(), TripleFault> {
        self.shared.set_quiet(self.id, false);
        match event {
            Event::Init => {
                self.init();
                Ok(())
            }
            Event::Startup(page) => {
                if std::mem::take(&mut self.waits_for_sipi) {
                    start::sipi(&mut self.cpu.cpu.state, page);
                    self.cpu.reset();
                }
                Ok(())
            }
            Event::Nmi => self.cpu.cpu.interrupt(&mut self.machine, NMI),
            Event::Interrupt(vector) => self.cpu.cpu.interrupt(&mut self.machine, vector),
        }
    }

    /// INIT: the registers of power-on, except for the vector registers and the machine's MSRs (SDM volume 3,
    /// table 9-1). The boot CPU goes on at the reset vector, the others wait for SIPI.
    fn init(&mut self) {
        let old = std::mem::take(&mut self.cpu.cpu.state);
        self.cpu.cpu.state.vec = old.vec;
        self.cpu.cpu.state.xcr0 = old.xcr0;
        self.cpu.reset();
        self.waits_for_sipi = self.id != 0;
    }

    /// Halted or waiting: sleeps until something comes. `Break` when nothing ever will.
    fn sleep(&mut self) -> Option<Exit> {
        let deaf = self.waits_for_sipi || !self.cpu.cpu.interruptible();
        if deaf && self.shared.set_quiet(self.id, true) {
            return Some(Exit::Halted);
        }
        let due = self.shared.chips().next_timer(self.id);
        let limit =
            due.filter(|_| !deaf).map(|due| Duration::from_nanos(due.saturating_sub(self.shared.now())));
        self.shared.turns.release();
        self.bell.sleep(limit);
        self.take_turn();
        None
    }

    fn take_turn(&mut self) {
        self.shared.turns.take(self.id);
        self.turn_began = self.shared.now();
    }

    /// Lets others run if one waits and `now`, or when the slice is over.
    fn share(&mut self, at_once: bool) {
        if !self.shared.turns.wanted() {
            return;
        }
        if at_once || self.shared.now().saturating_sub(self.turn_began) >= SLICE {
            self.shared.turns.give_way(self.id);
            self.turn_began = self.shared.now();
        }
    }

    /// Lets the event loop's handlers run, if this thread runs the loop and it is time.
    fn serve(&mut self) {
        if self.cpu.retired.wrapping_sub(self.served) < BUDGET {
            return;
        }
        self.served = self.cpu.retired;
        if let Some(executor) = self.bell.executor() {
            executor.work(Some(Duration::ZERO));
        }
    }

    /// With the turn: runs until an exit.
    fn turn(&mut self) -> Exit {
        loop {
            self.serve();
            self.bell.answer();
            if self.bell.take_kick() {
                return Exit::Kicked;
            }
            let waits = self.waits_for_sipi || self.is_halted();
            let stepping = self.cpu.is_stepping();
            // Nothing comes between a debugger and its next instruction, unless that is not to be had otherwise.
            if (waits || !stepping)
                && let Some(event) = self.next_event()
            {
                if self.deliver(event).is_err() {
                    return Exit::Shutdown;
                }
                if stepping {
                    self.cpu.end_step();
                    return Exit::Debug(DebugStop::Step);
                }
                // Another may wait, and nobody will ring again for it.
                continue;
            }
            if self.waits_for_sipi || self.is_halted() {
                if let Some(exit) = self.sleep() {
                    return exit;
                }
                continue;
            }
            match self.cpu.run(&mut self.machine, BUDGET) {
                run::Exit::Budget | run::Exit::Attention | run::Exit::Window => self.share(false),
                run::Exit::Pause => self.share(true),
                run::Exit::Halt => self.cpu.cpu.state.halted = true,
                run::Exit::Shutdown => return Exit::Shutdown,
                run::Exit::Debug(stop) => return Exit::Debug(stop),
            }
        }
    }
}

impl Vcpu for SoftVcpu {
    fn reset(&mut self, start: &StartState) -> Result<(), AccelError> {
        self.waits_for_sipi = *start == StartState::WaitForSipi;
        self.cpu.cpu.state = match start {
            StartState::Run(entry) => start::entry_state(entry),
            StartState::WaitForSipi => CpuState::default(),
        };
        self.cpu.reset();
        self.machine.reset();
        self.shared.chips().reset_lapic(self.id, !self.waits_for_sipi);
        self.shared.set_quiet(self.id, false);
        Ok(())
    }

    fn run(&mut self, bus: &Arc<dyn GuestBus>) -> Result<Exit, AccelError> {
        self.machine.set_bus(bus);
        let _taken_over = TakenOver::new(&self.bell);
        let _turn = Turn { shared: self.shared.clone(), cpu: self.id };
        self.take_turn();
        Ok(self.turn())
    }

    fn registers(&mut self) -> Result<CpuState, AccelError> {
        let mut state = self.cpu.cpu.state.clone();
        state.cr8 = self.shared.chips().cr8(self.id).into();
        Ok(state)
    }

    fn set_registers(&mut self, state: &CpuState) -> Result<(), AccelError> {
        let now = &mut self.cpu.cpu.state;
        // Whoever sends a CPU elsewhere wants it to go there.
        let halted = state.halted && state.rip == now.rip;
        *now = CpuState { halted, ..state.clone() };
        self.shared.chips().set_cr8(self.id, state.cr8 as u8);
        self.cpu.reset();
        Ok(())
    }

    fn set_debug(&mut self, plan: &DebugPlan) -> Result<(), AccelError> {
        self.cpu.set_debug(&plan.breakpoints, &plan.watches, plan.step);
        Ok(())
    }

    fn kicker(&mut self) -> Result<Arc<dyn Kicker>, AccelError> {
        Ok(self.bell.clone())
    }
}
