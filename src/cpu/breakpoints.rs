//! The guest's own breakpoints: DR0 to DR3 as DR7 enables them, for code, data and ports (SDM vol. 3, 18.2 and 18.3).
//!
//! The interpreter takes the registers over when they have changed and while DR7 enables one goes by `Interpreter::special`;
//! else nothing looks at any of this. Blocks end before a code breakpoint, so that only their beginnings need a look. Pages with
//! watched bytes stay out of the TLB's fast ways, as a debugger's do (`debug.rs`). Never used for `accel/kvm`, where
//! breakpoints are the kernel's.

use super::Cpu;
use super::debug::{Watch, WatchKind, meet};
use super::exceptions::{Exception, vector};
use super::interrupts::Source;
use super::machine::Machine;
use super::run::{Exit, Interpreter};
use super::state::{cr4, rflags as rf};

/// DR7: local and global enable bits of all four.
const ENABLES: u64 = 0xff;
/// DR7: the next access to a debug register is trapped.
pub(super) const DR7_GD: u64 = 1 << 13;
/// DR6: why; the others are those of the four breakpoints.
pub(super) const DR6_BD: u64 = 1 << 13;
pub(super) const DR6_BS: u64 = 1 << 14;
const DR6_HITS: u64 = 0xf;
/// Addresses at which blocks are cut before those that are not breakpoints any more are let go.
const MAX_CUTS: usize = 64;

/// What DR0 to DR3, DR7 and CR4.DE say. Bits are those of DR6.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The registers that the rest was made of.
    registers: [u64; 6],
    code: Vec<(u64, u64)>,
    data: Vec<(Watch, u64)>,
    /// First port, how many, bit.
    ports: Vec<(u64, u64, u64)>,
    /// What was met and not yet raised.
    met: u64,
}

impl Own {
    fn of(registers: [u64; 6]) -> Self {
        let mut own = Own { registers, ..Own::default() };
        let [_, _, _, _, dr7, de] = registers;
        for (n, &address) in registers[..4].iter().enumerate() {
            if dr7 >> (2 * n) & 3 == 0 {
                continue;
            }
            let (kind, bit) = (dr7 >> (16 + 4 * n) & 3, 1 << n);
            let len = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
            // Low address bits do not count.
            let first = address & !(len - 1);
            let watch = |kind| (Watch { addr: first, len, kind }, bit);
            match kind {
                // Other lengths are undefined for code, as ports are without CR4.DE: they never hit.
                0 if len == 1 => own.code.push((address, bit)),
                1 => own.data.push(watch(WatchKind::Write)),
                2 if de != 0 => own.ports.push((first, len, bit)),
                3 => own.data.push(watch(WatchKind::Access)),
                _ => {}
            }
        }
        own
    }

    /// Whether some byte of a page is watched.
    pub fn cover(&self, page: u64, size: u64) -> bool {
        self.data.iter().any(|(w, _)| meet(w.addr, w.len, page, size))
    }

    /// The instruction accesses these bytes.
    pub fn note(&mut self, address: u64, len: u64, write: bool) {
        for (watch, bit) in &self.data {
            if (write || watch.kind == WatchKind::Access) && meet(watch.addr, watch.len, address, len) {
                self.met |= bit;
            }
        }
    }

    /// The instruction accesses these ports.
    pub fn note_port(&mut self, port: u16, size: u8) {
        for &(first, len, bit) in &self.ports {
            if meet(first, len, port.into(), size.into()) {
                self.met |= bit;
            }
        }
    }

    /// Whether a breakpoint for data or ports was met.
    pub fn is_met(&self) -> bool {
        self.met != 0
    }

    /// The instruction did not happen after all.
    pub fn forget(&mut self) {
        self.met = 0;
    }

    /// Whether a breakpoint of any kind is enabled.
    pub fn is_set(&self) -> bool {
        self.registers[4] & ENABLES != 0
    }

    fn code_at(&self, linear: u64) -> u64 {
        self.code.iter().filter(|(at, _)| *at == linear).fold(0, |bits, (_, bit)| bits | bit)
    }
}

impl Cpu {
    /// Whether DR7 enables a breakpoint.
    #[inline(always)]
    pub(super) fn has_breakpoints(&self) -> bool {
        self.state.dr[7] & ENABLES != 0
    }

    /// #DB for these reasons, bits of DR6. The bits of the four breakpoints are those of the newest; the others stay
    /// until the guest clears them.
    pub(super) fn debug_exception(&mut self, why: u64) -> Exception {
        self.state.dr[6] = self.state.dr[6] & !DR6_HITS | why;
        self.state.dr[7] &= !DR7_GD;
        Exception::plain(vector::DB)
    }

    /// A string instruction that is not done yet begins anew: a breakpoint at it does not count again.
    pub(super) fn goes_on_after_breakpoint(&mut self) {
        if self.own.is_set() {
            self.state.rflags |= rf::RF;
        }
    }

    /// Why #DB is due behind the instruction that has just been completed: bits of DR6. `stepped`: RFLAGS.TF was set
    /// before it. Behind one that loads SS nothing is, until the next is complete, too.
    pub(super) fn traps(&mut self, stepped: bool) -> u64 {
        if self.stack_switch {
            return 0;
        }
        std::mem::take(&mut self.own.met) | if stepped { DR6_BS } else { 0 }
    }
}

impl<M: Machine> Interpreter<M> {
    /// Takes over what the debug registers say, if that has changed.
    pub(super) fn take_breakpoints(&mut self) {
        let s = &self.cpu.state;
        let now = [s.dr[0], s.dr[1], s.dr[2], s.dr[3], s.dr[7], s.cr4 & cr4::DE];
        if now == self.cpu.own.registers {
            return;
        }
        let own = Own::of(now);
        let places: Vec<u64> = own.code.iter().map(|(at, _)| *at).collect();
        if self.stops.cut_at(&places, MAX_CUTS) {
            self.blocks.clear();
        }
        if own.data != self.cpu.own.data {
            self.cpu.flush_tlb();
        }
        self.cpu.own = own;
    }

    /// The #DB that comes before the instruction at RIP: of what was met before, or of a code breakpoint. `None`: it is
    /// to be executed.
    pub(super) fn debug_exception_before(&mut self, m: &mut M) -> Option<Result<(), Exit>> {
        if let Some(done) = self.debug_trap(m) {
            return Some(done);
        }
        let resumed = self.cpu.state.rflags & rf::RF != 0;
        let hits = if resumed { 0 } else { self.cpu.own.code_at(self.cpu.linear_rip()) };
        (hits != 0).then(|| self.raise_debug(m, hits))
    }

    /// The #DB of accesses that were met.
    pub(super) fn debug_trap(&mut self, m: &mut M) -> Option<Result<(), Exit>> {
        let hits = self.cpu.traps(false);
        (hits != 0).then(|| self.raise_debug(m, hits))
    }

    /// A code breakpoint is a fault, but as RFLAGS.RF goes it is delivered like a trap: with the flag as it is.
    fn raise_debug(&mut self, m: &mut M, hits: u64) -> Result<(), Exit> {
        let e = self.cpu.debug_exception(hits);
        // Counted, so that a handler that begins at a breakpoint uses the budget up.
        self.retired += 1;
        self.deliver(m, e, Source::Event, self.cpu.state.rip)
    }
}
