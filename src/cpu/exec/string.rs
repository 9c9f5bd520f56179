//! MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS, with REP in bulk where both sides are plain RAM.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::exceptions::{Flow, Stop};
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op, mf};
use super::super::state::{gpr, rflags as rf, seg};
use super::sized;

/// Repetitions per call; then the instruction starts again where it is, so that interrupts get in.
const BUDGET: u64 = 4096;

const REP: u16 = 1;
const REPNE: u16 = 2;

impl Cpu {
    pub(super) fn address_mask<M>(&self, op: &Op<M>) -> u64 {
        match op.mf & (mf::ADDR32 | mf::ADDR16) {
            mf::ADDR16 => 0xffff,
            mf::ADDR32 => 0xffff_ffff,
            _ => u64::MAX,
        }
    }

    /// Changes an index or count register at the address size.
    fn set_index(&mut self, r: usize, v: u64, mask: u64) {
        let q = &mut self.state.gpr[r];
        *q = match mask {
            0xffff => *q & !mask | v & mask,
            _ => v & mask,
        };
    }

    /// A repeated instruction with 32-bit addresses clears the upper halves of RCX and of `index` before anything
    /// else, a count of zero or a fault in the first repetition notwithstanding.
    fn clear_upper_halves<M>(&mut self, op: &Op<M>, index: &[usize]) {
        if op.aux != 0 && self.address_mask(op) == 0xffff_ffff {
            for &r in [gpr::RCX].iter().chain(index) {
                self.state.gpr[r] &= 0xffff_ffff;
            }
        }
    }

    fn string_at<M>(&mut self, op: &Op<M>, r: usize, size: u64) -> Result<u64, Stop> {
        let offset = self.state.gpr[r] & self.address_mask(op);
        let seg = if r == gpr::RDI { seg::ES as u8 } else { op.seg };
        self.linear(seg, offset, size)
    }

    fn advance<M>(&mut self, op: &Op<M>, r: usize, bytes: u64) {
        let down = self.state.rflags & rf::DF != 0;
        let step = if down { bytes.wrapping_neg() } else { bytes };
        let v = self.state.gpr[r].wrapping_add(step);
        self.set_index(r, v, self.address_mask(op));
    }
}

/// Runs `one` once, or as often as the REP prefix and the budget say. `one` gives whether to go on. Until the last
/// repetition the flags stay as they were, whether it is an exception that stops it or the budget.
#[inline(always)]
fn repeat<M: Machine>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
    one: impl Fn(&mut Cpu, &mut M, &Op<M>) -> Result<bool, Stop>,
) -> Flow {
    if op.aux == 0 {
        return one(c, m, op).map(|_| ());
    }
    let mask = c.address_mask(op);
    let flags = c.flags;
    // Single-stepping stops after every repetition, a data breakpoint after the one that meets it.
    let budget = if c.state.rflags & rf::TF != 0 { 1 } else { BUDGET };
    for _ in 0..budget {
        let left = c.state.gpr[gpr::RCX] & mask;
        if left == 0 {
            return Ok(());
        }
        let go_on = match one(c, m, op) {
            Ok(go_on) => go_on,
            Err(stop) => {
                c.flags = flags;
                return Err(stop);
            }
        };
        c.set_index(gpr::RCX, left - 1, mask);
        if !go_on {
            return Ok(());
        }
        if c.met_something() {
            break;
        }
    }
    if c.state.gpr[gpr::RCX] & mask == 0 {
        return Ok(());
    }
    c.flags = flags;
    Err(Stop::Again)
}

fn movs<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.clear_upper_halves(op, &[gpr::RSI, gpr::RDI]);
    if op.aux != 0
        && let Some(done) = movs_bulk::<M, T>(c, m, op)?
    {
        return done;
    }
    repeat(c, m, op, |c, m, op| {
        let from = c.string_at(op, gpr::RSI, T::SIZE)?;
        let v = c.load::<T, M>(m, from)?;
        let to = c.string_at(op, gpr::RDI, T::SIZE)?;
        c.store(m, to, v)?;
        c.advance(op, gpr::RSI, T::SIZE);
        c.advance(op, gpr::RDI, T::SIZE);
        Ok(true)
    })
}

fn stos<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.clear_upper_halves(op, &[gpr::RDI]);
    if op.aux != 0
        && let Some(done) = stos_bulk::<M, T>(c, m, op)?
    {
        return done;
    }
    repeat(c, m, op, |c, m, op| {
        let v = c.get::<T>(0);
        let to = c.string_at(op, gpr::RDI, T::SIZE)?;
        c.store(m, to, v)?;
        c.advance(op, gpr::RDI, T::SIZE);
        Ok(true)
    })
}

/// REP MOVS upwards between plain RAM: up to the nearer page end at once. `None` when it has to go step by step.
fn movs_bulk<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Result<Option<Flow>, Stop> {
    let left = c.state.gpr[gpr::RCX] & c.address_mask(op);
    if !c.may_go_in_bulk(op, left) {
        return Ok(None);
    }
    let (from, to) = (c.string_at(op, gpr::RSI, T::SIZE)?, c.string_at(op, gpr::RDI, T::SIZE)?);
    let bytes = c.move_in_pages(m, from, to, left.saturating_mul(T::SIZE), T::SIZE)?;
    Ok(c.account(op, bytes / T::SIZE, T::SIZE, left, true))
}

fn stos_bulk<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Result<Option<Flow>, Stop> {
    let left = c.state.gpr[gpr::RCX] & c.address_mask(op);
    if !c.may_go_in_bulk(op, left) {
        return Ok(None);
    }
    let to = c.string_at(op, gpr::RDI, T::SIZE)?;
    let v = c.get::<T>(0).to64();
    let bytes = c.fill_page(m, to, v, left.saturating_mul(T::SIZE), T::SIZE)?;
    Ok(c.account(op, bytes / T::SIZE, T::SIZE, left, false))
}

impl Cpu {
    /// Bulk work is for 64-bit mode, upwards, and worth it from a few repetitions on.
    fn may_go_in_bulk<M>(&self, op: &Op<M>, left: u64) -> bool {
        self.bits == 64
            && left >= 4
            && self.state.rflags & rf::TF == 0
            && op.mf & (mf::ADDR16 | mf::ADDR32) == 0
            && self.state.rflags & rf::DF == 0
            && !self.align_check
    }

    /// Moves the registers past `done` repetitions. `None` when there were none.
    fn account<M>(&mut self, op: &Op<M>, done: u64, size: u64, left: u64, source: bool) -> Option<Flow> {
        if done == 0 {
            return None;
        }
        if source {
            self.advance(op, gpr::RSI, done * size);
        }
        self.advance(op, gpr::RDI, done * size);
        self.state.gpr[gpr::RCX] = left - done;
        Some(if left == done { Ok(()) } else { Err(Stop::Again) })
    }
}

fn lods<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.clear_upper_halves(op, &[]);
    repeat(c, m, op, |c, m, op| {
        let from = c.string_at(op, gpr::RSI, T::SIZE)?;
        let v = c.load::<T, M>(m, from)?;
        c.set(0, v);
        c.advance(op, gpr::RSI, T::SIZE);
        Ok(true)
    })
}

/// Whether REPE or REPNE goes on after a comparison.
fn compare_again<M>(c: &Cpu, op: &Op<M>) -> bool {
    c.flags.zf() == (op.aux == REP)
}

fn scas<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.clear_upper_halves(op, &[]);
    repeat(c, m, op, |c, m, op| {
        let at = c.string_at(op, gpr::RDI, T::SIZE)?;
        let v = c.load::<T, M>(m, at)?;
        let a = c.get::<T>(0);
        c.flags.sub(a, v, false);
        c.advance(op, gpr::RDI, T::SIZE);
        Ok(compare_again(c, op))
    })
}

fn cmps<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.clear_upper_halves(op, &[]);
    repeat(c, m, op, |c, m, op| {
        let at = c.string_at(op, gpr::RDI, T::SIZE)?;
        let b = c.load::<T, M>(m, at)?;
        let from = c.string_at(op, gpr::RSI, T::SIZE)?;
        let a = c.load::<T, M>(m, from)?;
        c.flags.sub(a, b, false);
        c.advance(op, gpr::RSI, T::SIZE);
        c.advance(op, gpr::RDI, T::SIZE);
        Ok(compare_again(c, op))
    })
}

fn ins<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let port = c.get::<u16>(gpr::RDX as u8);
    c.check_port(m, port, T::SIZE as u8)?;
    m.at(c.here(op));
    repeat(c, m, op, |c, m, op| {
        let to = c.string_at(op, gpr::RDI, T::SIZE)?;
        // The port is read only once the store is known to succeed: reading it may have side effects.
        c.probe_write(m, to, T::SIZE as usize)?;
        c.own.note_port(port, T::SIZE as u8);
        let v = m.port_in(port, T::SIZE as u8);
        c.store(m, to, T::from64(v as u64))?;
        c.advance(op, gpr::RDI, T::SIZE);
        Ok(true)
    })
}

fn outs<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let port = c.get::<u16>(gpr::RDX as u8);
    c.check_port(m, port, T::SIZE as u8)?;
    m.at(c.here(op));
    repeat(c, m, op, |c, m, op| {
        let from = c.string_at(op, gpr::RSI, T::SIZE)?;
        let v = c.load::<T, M>(m, from)?;
        c.own.note_port(port, T::SIZE as u8);
        m.port_out(port, T::SIZE as u8, v.to64() as u32);
        c.advance(op, gpr::RSI, T::SIZE);
        Ok(true)
    })
}

pub(super) fn lower<M: Machine>(i: &Instruction, op: &mut Op<M>) -> Option<Handler<M>> {
    if !i.is_string_instruction() {
        return None;
    }
    op.aux = match (i.has_rep_prefix(), i.has_repne_prefix()) {
        (true, _) => REP,
        (_, true) => REPNE,
        _ => 0,
    };
    let size = i.memory_size().size();
    match i.mnemonic() {
        N::Movsb | N::Movsw | N::Movsd | N::Movsq => sized!(size, movs::<M>),
        N::Stosb | N::Stosw | N::Stosd | N::Stosq => sized!(size, stos::<M>),
        N::Lodsb | N::Lodsw | N::Lodsd | N::Lodsq => sized!(size, lods::<M>),
        N::Scasb | N::Scasw | N::Scasd | N::Scasq => sized!(size, scas::<M>),
        N::Cmpsb | N::Cmpsw | N::Cmpsd | N::Cmpsq => sized!(size, cmps::<M>),
        N::Insb | N::Insw | N::Insd => sized!(size, ins::<M>),
        N::Outsb | N::Outsw | N::Outsd => sized!(size, outs::<M>),
        _ => None,
    }
}
