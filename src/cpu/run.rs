//! Running a whole machine: decoded blocks, cached, one after the other.
//!
//! Called by `accel/soft`, one [`Interpreter`] per virtual processor. Gives the processor back when the budget is used
//! up, when the machine's bell rings, and when the guest waits; delivers the exceptions of its own instructions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::assist::{Outcome, Unsupported};
use super::blocks::{self, Block, Blocks, MAX_OPS};
use super::code_pages::CodePages;
use super::debug::{DebugStop, Stops};
use super::exceptions::{Exception, Stop, vector};
use super::exec::wrap_ip;
use super::interrupts::{Source, TripleFault};
use super::machine::Machine;
use super::op::Op;
use super::paging::Access;
use super::state::rflags as rf;
use super::{Cpu, CpuState};

/// Why [`Interpreter::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is used up.
    Budget,
    /// [`Machine::bell`] said so.
    Attention,
    /// [`Interpreter::want_window`] is set and an interrupt could be delivered now.
    Window,
    /// HLT: nothing to do until an interrupt. RIP is past it.
    Halt,
    /// PAUSE or MWAIT: the guest waits for another processor or for time to pass.
    Pause,
    /// The processor has shut down; only a reset helps.
    Shutdown,
    /// A debugger's breakpoint, watchpoint or step (`debug.rs`).
    Debug(DebugStop),
}

/// Has every processor that is made from now on make host code of a block at its first run. For tests with a whole
/// guest (`tests/guest/translate_at_once.rs`): a run of seconds then translates what else takes hours to become hot.
pub fn translate_from_first_run() {
    blocks::HOT.store(1, Ordering::Relaxed);
}

/// A processor with its cache of decoded code.
#[derive(Debug)]
pub struct Interpreter<M> {
    pub cpu: Cpu,
    /// Come back as soon as an interrupt can be delivered.
    pub want_window: bool,
    /// The last instruction that raised #UD because it is not implemented, for diagnosis.
    pub last_unsupported: Option<Unsupported>,
    /// Instructions executed so far (a repeated string instruction counts once per visit, one that could not be
    /// fetched counts, too).
    pub retired: u64,
    pub(super) blocks: Blocks<M>,
    pub(super) stops: Stops,
    marks: u64,
}

/// An interrupt shadow, single-stepping, or breakpoints.
#[inline(always)]
pub(super) fn is_special(s: &CpuState) -> bool {
    u64::from(s.interrupt_shadow) | s.rflags & rf::TF | s.dr[7] & 0xff != 0
}

impl<M: Machine> Interpreter<M> {
    /// A processor in the given state. `pages` is the machine's.
    pub fn new(state: CpuState, pages: Arc<CodePages>) -> Self {
        let mut cpu = Cpu::new(state);
        cpu.code = pages;
        cpu.announced_only = true;
        Interpreter {
            cpu,
            want_window: false,
            last_unsupported: None,
            retired: 0,
            blocks: Blocks::new(),
            stops: Stops::default(),
            marks: 0,
        }
    }

    /// How often a block runs as ops before it becomes host code. For tests: 1 is at once.
    pub fn translate_after(&mut self, runs: u16) {
        self.blocks.hot = runs;
    }

    /// The state was replaced from outside: nothing translated or decoded holds any more.
    pub fn reset(&mut self) {
        self.cpu.flush_tlb();
        self.blocks.clear();
    }

    /// Runs about `budget` instructions, fewer if something else comes up. Between calls `self.cpu.state` is complete.
    pub fn run(&mut self, m: &mut M, budget: u64) -> Exit {
        self.cpu.enter();
        if self.cpu.code.marks() != self.marks {
            self.marks = self.cpu.code.marks();
            self.cpu.flush_tlb();
        }
        self.cpu.careful = false;
        self.take_breakpoints();
        let exit = if self.stops.active { self.debugged(m, budget) } else { self.work(m, budget) };
        self.cpu.careful = true;
        self.cpu.leave();
        exit
    }

    fn work(&mut self, m: &mut M, budget: u64) -> Exit {
        let end = self.retired.wrapping_add(budget);
        loop {
            let done = if is_special(&self.cpu.state) { self.special(m, false) } else { self.block(m, end) };
            if let Err(exit) = done {
                return exit;
            }
            if let Some(exit) = self.interrupted(m, end) {
                return exit;
            }
        }
    }

    /// Whether the run is to end between two blocks: somebody wants the processor, or the budget up to `end` is used up.
    #[inline(always)]
    pub(super) fn interrupted(&mut self, m: &mut M, end: u64) -> Option<Exit> {
        let over = self.retired.wrapping_sub(end) as i64 >= 0;
        // One branch for all three, since mostly there is nothing.
        let wanted = m.bell().load(Ordering::Relaxed);
        if wanted | self.want_window | over {
            if wanted {
                return Some(Exit::Attention);
            }
            if self.want_window && self.cpu.interruptible() {
                return Some(Exit::Window);
            }
            if over {
                return Some(Exit::Budget);
            }
        }
        None
    }

    /// Runs what an interrupt shadow covers, or a block or an instruction for a debugger in the guest; one instruction if
    /// `alone`.
    #[cold]
    pub(super) fn special(&mut self, m: &mut M, alone: bool) -> Result<(), Exit> {
        let held = std::mem::take(&mut self.cpu.stack_switch);
        let own = self.cpu.has_breakpoints();
        if own {
            self.take_breakpoints();
            if !held && let Some(raised) = self.debug_exception_before(m) {
                return raised;
            }
        }
        let s = &self.cpu.state;
        let shadow = s.interrupt_shadow;
        // The shadow covers one instruction, and the window behind it may be short: `sti; nop; nop; cli`. A block is as good
        // while nothing waits.
        let alone =
            alone || s.rflags & rf::TF != 0 || self.want_window || own && (held || s.rflags & rf::RF != 0);
        let done = if alone { self.single(m) } else { self.block(m, self.retired) };
        if shadow {
            self.cpu.state.interrupt_shadow = false;
        }
        match done {
            Ok(()) if own => self.debug_trap(m).unwrap_or(Ok(())),
            _ => done,
        }
    }

    /// What every block depends on, beside its own page: translations, changes to decoded code, mode. Both counts only
    /// ever go up, so that their sum stands for both.
    #[inline(always)]
    fn stamp(&self) -> u64 {
        let versions = self.cpu.tlb_version().wrapping_add(self.cpu.code.changes());
        versions << 4 | u64::from(self.cpu.mode_key)
    }

    /// Runs one block; as host code also those behind it, until `end` instructions have been executed or somebody wants
    /// the processor.
    #[inline(always)]
    pub(super) fn block(&mut self, m: &mut M, end: u64) -> Result<(), Exit> {
        let rip = self.cpu.state.rip;
        let base = self.cpu.code_base;
        let stamp = self.stamp();
        let fits = |b: &Block| b.rip == rip && b.stamp == stamp && b.base == base;
        let found = match self.blocks.follow(rip, fits) {
            Some(run) => Some(run),
            None => match self.find(m, rip, base) {
                Ok(found) => found,
                Err(_) => {
                    let e = self.cpu.fault;
                    // Handlers that cannot be fetched either would make a call of `run` endless.
                    self.retired += 1;
                    return self.deliver(m, e, Source::Fault, rip);
                }
            },
        };
        let Some(code) = found else { return self.single(m) };
        let native = self.blocks.native(code, rip);
        if native != 0 {
            let ticks = if self.want_window { 0 } else { end.wrapping_sub(self.retired) as i64 };
            let done = self.blocks.run_native(native, (rip, stamp), &mut self.cpu, m, ticks);
            self.retired += ticks.wrapping_sub(self.cpu.native.ticks) as u64;
            let start = self.cpu.start;
            return done.or_else(|stop| self.stopped_in(m, self.cpu.native.first, start, stop));
        }
        let c = &mut self.cpu;
        c.start = rip;
        c.state.rip = code.end;
        match self.blocks.run(code, c, m) {
            Ok(()) => {
                self.retired += u64::from(code.count);
                Ok(())
            }
            Err(stop) => self.stopped_in(m, code.first, rip, stop),
        }
    }

    /// A miss: puts the block into its place. Looks whether it is only behind the times, else decodes. `None` when there
    /// is none.
    #[inline(never)]
    fn find(&mut self, m: &mut M, rip: u64, base: u64) -> Result<Option<blocks::Run>, Stop> {
        let linear = self.cpu.code_address(rip)?;
        let place = self.cpu.locate(m, linear, Access::Fetch)?;
        let Some(page) = place.page else { return Ok(None) };
        // The walk may have set an accessed bit in a page with decoded code.
        let stamp = self.stamp();
        let wanted = Block::wanted(rip, base, stamp);
        let from = blocks::Source { physical: place.physical, generation: 0, mode: self.cpu.mode_key };
        let current = |s: &blocks::Source| self.cpu.code.is_current(s.physical, s.generation);
        if !self.blocks.renew(&wanted, from, current) {
            let Some((generation, fresh)) = self.cpu.mark_code(place.physical) else { return Ok(None) };
            // This processor has given up its write access already.
            self.marks += u64::from(fresh);
            let mut bytes = [0; MAX_OPS * 15];
            let n = bytes.len().min((4096 - (linear & 4095)) as usize);
            let n = self.stops.room(linear, n);
            self.cpu.copy_code(page, place.physical, &mut bytes[..n]);
            let from = blocks::Source { generation, ..from };
            if !self.blocks.decode(wanted, from, &bytes[..n], self.cpu.bits) {
                return Ok(None);
            }
        }
        Ok(self.blocks.follow(rip, |b| b.rip == rip && b.stamp == stamp && b.base == base))
    }

    /// The op of a block at `Cpu::stopped` did not simply finish.
    #[cold]
    #[inline(never)]
    fn stopped_in(&mut self, m: &mut M, first: u32, start: u64, stop: Stop) -> Result<(), Exit> {
        let (before, op) = self.blocks.op_at(first, self.cpu.stopped);
        self.retired += before as u64 + 1;
        self.stopped(m, &op, start, stop)
    }

    /// Runs one instruction without the cache: single-stepping, code across pages or outside RAM, #UD.
    #[inline(never)]
    pub(super) fn single(&mut self, m: &mut M) -> Result<(), Exit> {
        let careful = std::mem::replace(&mut self.cpu.careful, true);
        let start = self.cpu.state.rip;
        let outcome = self.cpu.step(m, None);
        self.cpu.careful = careful;
        self.retired += 1;
        match outcome {
            Outcome::Retired => Ok(()),
            Outcome::Exception(e) => self.deliver(m, e, Source::Fault, start),
            Outcome::Trap(e) if e.vector == vector::DB => self.deliver(m, e, Source::Event, start),
            Outcome::Trap(e) => self.deliver(m, e, Source::Software, start),
            Outcome::SoftwareInterrupt(v) => self.deliver(m, Exception::plain(v), Source::Software, start),
            Outcome::Halt => Err(Exit::Halt),
            Outcome::Unsupported(u) => {
                self.last_unsupported = Some(u);
                self.deliver(m, Exception::plain(vector::UD), Source::Fault, start)
            }
        }
    }

    /// An op did not simply finish.
    fn stopped(&mut self, m: &mut M, op: &Op<M>, start: u64, stop: Stop) -> Result<(), Exit> {
        let here = wrap_ip(start.wrapping_add(op.offset as u64), self.cpu.bits);
        match stop {
            Stop::Fault => {
                self.cpu.state.rip = here;
                let e = self.cpu.memory_fault(op);
                self.deliver(m, e, Source::Fault, here)
            }
            Stop::Trap | Stop::Interrupt => {
                let source =
                    if self.cpu.fault.vector == vector::DB { Source::Event } else { Source::Software };
                let e = self.cpu.fault;
                self.deliver(m, e, source, here)
            }
            Stop::Halt => Err(Exit::Halt),
            Stop::Pause => Err(Exit::Pause),
            Stop::Again => {
                self.cpu.state.rip = here;
                self.cpu.goes_on_after_breakpoint();
                Ok(())
            }
            Stop::Careful => self.carefully(m, op, here),
            Stop::Unsupported => {
                self.cpu.state.rip = here;
                self.deliver(m, Exception::plain(vector::UD), Source::Fault, here)
            }
        }
    }

    /// Runs the op at `here` again by itself, devices and pages with decoded code allowed.
    fn carefully(&mut self, m: &mut M, op: &Op<M>, here: u64) -> Result<(), Exit> {
        let op = Op { offset: 0, ..*op };
        let c = &mut self.cpu;
        c.start = here;
        c.state.rip = wrap_ip(here.wrapping_add(op.len as u64), c.bits);
        c.careful = true;
        let done = (op.f)(c, m, &op);
        c.careful = false;
        match done {
            Ok(()) => Ok(()),
            // Not `Careful` a second time.
            Err(stop) => self.stopped(m, &op, here, stop),
        }
    }

    #[inline(never)]
    pub(super) fn deliver(
        &mut self,
        m: &mut M,
        e: Exception,
        source: Source,
        restart: u64,
    ) -> Result<(), Exit> {
        if source == Source::Fault {
            self.cpu.watches.forget();
            self.cpu.own.forget();
        }
        let done = self.cpu.deliver_all(m, e, source, restart);
        done.map_err(|TripleFault| Exit::Shutdown)
    }
}
