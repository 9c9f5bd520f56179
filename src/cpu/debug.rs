//! Stopping for a debugger of the machine: breakpoints, watchpoints, one instruction at a time.
//!
//! Set by `accel/soft` between two runs. While something is set, [`Interpreter::run`] goes by the loop here; the ordinary
//! loop looks at none of it. Blocks end before a breakpoint, so that only their beginnings need a look. Pages with watched
//! bytes stay out of the TLB's fast ways (`tlb.rs`), and what touches them is run by itself and compared. The guest sees
//! nothing of this: no memory, no debug register and no flag changes.

use super::Cpu;
use super::machine::Machine;
use super::run::{Exit, Interpreter, is_special};

/// Which accesses a watchpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// Writes.
    Write,
    /// Reads.
    Read,
    /// Both.
    Access,
}

/// A range of linear addresses whose accesses stop the CPU, after the instruction that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// First byte.
    pub addr: u64,
    /// How many, at least one.
    pub len: u64,
    /// Which accesses.
    pub kind: WatchKind,
}

/// Why a CPU stopped for a debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugStop {
    /// One instruction is done, and what it raised is delivered.
    Step,
    /// RIP is at a breakpoint.
    Breakpoint,
    /// The instruction before RIP met this watchpoint.
    Watch(Watch),
}

const PAGE: u64 = 4096;

/// Whether two ranges of addresses, which may go round the end of the address space, have a byte in common.
pub(super) fn meet(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    b.wrapping_sub(a) < a_len || a.wrapping_sub(b) < b_len
}

/// The watchpoints of one CPU, and the first that was met.
#[derive(Debug, Default)]
pub(super) struct Watches {
    list: Vec<Watch>,
    met: Option<Watch>,
}

impl Watches {
    /// Whether some byte of the page at `address` is watched.
    pub fn cover_page(&self, address: u64) -> bool {
        self.list.iter().any(|w| meet(w.addr, w.len, address & !(PAGE - 1), PAGE))
    }

    /// The instruction accesses these bytes.
    pub fn note(&mut self, address: u64, len: u64, write: bool) {
        let wanted = |w: &&Watch| match w.kind {
            WatchKind::Write => write,
            WatchKind::Read => !write,
            WatchKind::Access => true,
        };
        if self.met.is_none() {
            self.met = self.list.iter().filter(wanted).find(|w| meet(w.addr, w.len, address, len)).copied();
        }
    }

    /// The instruction did not happen after all.
    pub fn forget(&mut self) {
        self.met = None;
    }
}

/// What else a debugger wants of one CPU.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// Linear addresses, ascending.
    breakpoints: Vec<u64>,
    /// Where blocks end for the guest's own breakpoints (`breakpoints.rs`), or did once; ascending.
    cuts: Vec<u64>,
    step: bool,
    /// Anything is set, watchpoints included.
    pub active: bool,
    /// Where the last breakpoint stopped us; it does not again before an instruction was executed.
    passed: Option<u64>,
}

impl Stops {
    /// How many of `len` bytes of code at `linear` may be decoded into one block.
    pub fn room(&self, linear: u64, len: usize) -> usize {
        [&self.breakpoints, &self.cuts].into_iter().fold(len, |len, list| {
            let next = list.partition_point(|&at| at <= linear);
            let distance = list.get(next).map_or(u64::MAX, |at| at - linear);
            len.min(usize::try_from(distance).unwrap_or(usize::MAX))
        })
    }

    /// From now on blocks end before these addresses, too; beyond `most` of them before no others. Gives whether those
    /// that are decoded already may not.
    pub fn cut_at(&mut self, places: &[u64], most: usize) -> bool {
        let new: Vec<u64> = places.iter().filter(|at| !self.cuts.contains(at)).copied().collect();
        if new.is_empty() {
            return false;
        }
        if self.cuts.len() + new.len() > most {
            self.cuts = places.to_vec();
        } else {
            self.cuts.extend(new);
        }
        self.cuts.sort_unstable();
        true
    }
}

impl<M: Machine> Interpreter<M> {
    /// Replaces what a debugger wants: stops before the instructions at `breakpoints`, after accesses that meet
    /// `watches`, and, if `step`, after one instruction, which is then taken back.
    pub fn set_debug(&mut self, breakpoints: &[u64], watches: &[Watch], step: bool) {
        let mut breakpoints = breakpoints.to_vec();
        breakpoints.sort_unstable();
        if breakpoints != self.stops.breakpoints {
            self.blocks.clear();
        }
        if watches != self.cpu.watches.list {
            self.cpu.flush_tlb();
        }
        let active = step || !breakpoints.is_empty() || !watches.is_empty();
        (self.stops.breakpoints, self.stops.step, self.stops.active) = (breakpoints, step, active);
        self.cpu.watches = Watches { list: watches.to_vec(), met: None };
    }

    /// Whether the next run is to be of one instruction.
    pub fn is_stepping(&self) -> bool {
        self.stops.step
    }

    /// The step is done.
    pub fn end_step(&mut self) {
        self.stops.step = false;
        self.stops.active = !self.stops.breakpoints.is_empty() || !self.cpu.watches.list.is_empty();
    }

    /// What [`Interpreter::run`] does while something is set.
    pub(super) fn debugged(&mut self, m: &mut M, budget: u64) -> Exit {
        let end = self.retired.wrapping_add(budget);
        loop {
            let here = self.cpu.linear_rip();
            if self.stops.passed.take() != Some(here) && self.stops.breakpoints.binary_search(&here).is_ok() {
                self.stops.passed = Some(here);
                return Exit::Debug(DebugStop::Breakpoint);
            }
            let stepping = self.stops.step;
            let special = stepping || is_special(&self.cpu.state);
            let done = if special { self.special(m, stepping) } else { self.block(m, self.retired) };
            let met = self.cpu.watches.met.take();
            if stepping {
                self.end_step();
                self.cpu.state.halted |= done == Err(Exit::Halt);
            }
            match (done, met) {
                (Err(Exit::Shutdown), _) => return Exit::Shutdown,
                (_, Some(watch)) => return Exit::Debug(DebugStop::Watch(watch)),
                _ if stepping => return Exit::Debug(DebugStop::Step),
                (Err(exit), None) => return exit,
                (Ok(()), None) => {}
            }
            if let Some(exit) = self.interrupted(m, end) {
                return exit;
            }
        }
    }
}

impl Cpu {
    /// The instruction accesses these bytes: for watchpoints and for the guest's own breakpoints.
    pub(super) fn note_access(&mut self, address: u64, len: u64, write: bool) {
        self.watches.note(address, len, write);
        self.own.note(address, len, write);
    }

    /// Whether some byte of the page at `address` is watched, by a debugger or by the guest itself.
    pub(super) fn is_watched(&self, address: u64) -> bool {
        self.watches.cover_page(address) || self.own.cover(address & !(PAGE - 1), PAGE)
    }

    /// Whether the instruction has met something of either.
    pub(super) fn met_something(&self) -> bool {
        self.watches.met.is_some() || self.own.is_met()
    }

    /// Where the next instruction is.
    pub(super) fn linear_rip(&self) -> u64 {
        if self.bits == 64 {
            return self.state.rip;
        }
        self.code_base.wrapping_add(self.state.rip) & 0xffff_ffff
    }
}
