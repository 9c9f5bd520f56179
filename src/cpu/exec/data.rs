//! Moves: MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, sign extension, XLAT, and the flag moves.

use iced_x86::{ConditionCode, Instruction, Mnemonic as N, Register};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::{gpr, rflags as rf};
use super::sized;

fn mov_rr<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let v = c.get::<T>(op.r[1]);
    c.set(op.r[0], v);
    Ok(())
}

fn mov_ri<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.set(op.r[0], T::from64(op.imm));
    Ok(())
}

fn mov_rm<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.load_op::<T, M>(m, op)?;
    c.set(op.r[0], v);
    Ok(())
}

fn mov_mr<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.get::<T>(op.r[1]);
    c.store_op(m, op, v)
}

fn mov_mi<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.store_op(m, op, T::from64(op.imm))
}

fn mov<M: Machine>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RR => sized!(s.size, mov_rr::<M>),
        form::RI => sized!(s.size, mov_ri::<M>),
        form::RM => sized!(s.size, mov_rm::<M>),
        form::MR => sized!(s.size, mov_mr::<M>),
        form::MI => sized!(s.size, mov_mi::<M>),
        _ => None,
    }
}

fn extend_r<M: Machine, T: Int, S: Int, const SIGNED: bool>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let v = c.get::<S>(op.r[1]);
    c.set(op.r[0], T::from64(if SIGNED { v.sext() } else { v.to64() }));
    Ok(())
}

fn extend_m<M: Machine, T: Int, S: Int, const SIGNED: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.load_op::<S, M>(m, op)?;
    c.set(op.r[0], T::from64(if SIGNED { v.sext() } else { v.to64() }));
    Ok(())
}

fn extend<M: Machine, const SIGNED: bool>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    if s.form == form::RR {
        return match i.op1_register().size() {
            1 => sized!(wide s.size, extend_r::<M, u8, SIGNED>),
            2 => sized!(wide s.size, extend_r::<M, u16, SIGNED>),
            _ => sized!(wide s.size, extend_r::<M, u32, SIGNED>),
        };
    }
    match i.memory_size().size() {
        1 => sized!(wide s.size, extend_m::<M, u8, SIGNED>),
        2 => sized!(wide s.size, extend_m::<M, u16, SIGNED>),
        _ => sized!(wide s.size, extend_m::<M, u32, SIGNED>),
    }
}

fn lea<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let a = c.offset(op);
    c.set(op.r[0], T::from64(a));
    Ok(())
}

fn xchg_rr<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let (a, b) = (c.get::<T>(op.r[0]), c.get::<T>(op.r[1]));
    c.set(op.r[0], b);
    c.set(op.r[1], a);
    Ok(())
}

/// XCHG with memory is locked with or without the prefix. The register is operand `REG`.
fn xchg_m<M: Machine, T: Int, const REG: usize>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let v = c.get::<T>(op.r[REG]);
    let old = c.modify::<T, M, true>(m, at, |_, _| v)?;
    c.set(op.r[REG], old);
    Ok(())
}

fn cmov_r<M: Machine, T: Int, const CC: u8>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    // A false condition still clears the upper half of a 32-bit destination.
    let v = c.get::<T>(if c.flags.condition::<CC>() { op.r[1] } else { op.r[0] });
    c.set(op.r[0], v);
    Ok(())
}

fn cmov_m<M: Machine, T: Int, const CC: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    // The load happens, and faults, whatever the condition.
    let v = c.load_op::<T, M>(m, op)?;
    let v = if c.flags.condition::<CC>() { v } else { c.get::<T>(op.r[0]) };
    c.set(op.r[0], v);
    Ok(())
}

fn set_r<M: Machine, const CC: u8>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let v = c.flags.condition::<CC>() as u8;
    c.set(op.r[0], v);
    Ok(())
}

fn set_m<M: Machine, const CC: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.flags.condition::<CC>() as u8;
    c.store_op(m, op, v)
}

/// Number of a condition as the encoding has it.
pub(super) fn condition_number(cc: ConditionCode) -> Option<u8> {
    use ConditionCode as C;
    Some(match cc {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
        C::None => return None,
    })
}

/// What an instruction does with the condition that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ConditionUse {
    Set,
    Move,
    /// Branches, and what is rarer.
    Other,
}

/// The condition of an instruction that has one, and what it is for.
pub(in super::super) fn condition_of(i: &Instruction) -> Option<(ConditionUse, u8)> {
    use N::*;
    let what = match i.mnemonic() {
        Seto | Setno | Setb | Setae | Sete | Setne | Setbe | Seta | Sets | Setns | Setp | Setnp | Setl
        | Setge | Setle | Setg => ConditionUse::Set,
        Cmovo | Cmovno | Cmovb | Cmovae | Cmove | Cmovne | Cmovbe | Cmova | Cmovs | Cmovns | Cmovp
        | Cmovnp | Cmovl | Cmovge | Cmovle | Cmovg => ConditionUse::Move,
        _ => ConditionUse::Other,
    };
    Some((what, condition_number(i.condition_code())?))
}

/// Picks the instance of a handler for a condition code.
macro_rules! by_condition {
    ($cc:expr, |$n:ident| $pick:expr) => {
        match $cc {
            0 => {
                const $n: u8 = 0;
                $pick
            }
            1 => {
                const $n: u8 = 1;
                $pick
            }
            2 => {
                const $n: u8 = 2;
                $pick
            }
            3 => {
                const $n: u8 = 3;
                $pick
            }
            4 => {
                const $n: u8 = 4;
                $pick
            }
            5 => {
                const $n: u8 = 5;
                $pick
            }
            6 => {
                const $n: u8 = 6;
                $pick
            }
            7 => {
                const $n: u8 = 7;
                $pick
            }
            8 => {
                const $n: u8 = 8;
                $pick
            }
            9 => {
                const $n: u8 = 9;
                $pick
            }
            10 => {
                const $n: u8 = 10;
                $pick
            }
            11 => {
                const $n: u8 = 11;
                $pick
            }
            12 => {
                const $n: u8 = 12;
                $pick
            }
            13 => {
                const $n: u8 = 13;
                $pick
            }
            14 => {
                const $n: u8 = 14;
                $pick
            }
            _ => {
                const $n: u8 = 15;
                $pick
            }
        }
    };
}
pub(super) use by_condition;

fn cmov<M: Machine>(s: &Shape, cc: u8) -> Option<Handler<M>> {
    if s.form == form::RR {
        return by_condition!(cc, |CC| sized!(wide s.size, cmov_r::<M, CC>));
    }
    by_condition!(cc, |CC| sized!(wide s.size, cmov_m::<M, CC>))
}

fn setcc<M: Machine>(s: &Shape, cc: u8) -> Option<Handler<M>> {
    if s.form == form::R {
        return by_condition!(cc, |CC| Some(set_r::<M, CC> as Handler<M>));
    }
    by_condition!(cc, |CC| Some(set_m::<M, CC> as Handler<M>))
}

/// CBW, CWDE, CDQE: `S` to `T` in the accumulator.
fn widen<M: Machine, T: Int, S: Int>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let v = c.get::<S>(0);
    c.set(0, T::from64(v.sext()));
    Ok(())
}

/// CWD, CDQ, CQO.
fn spread<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let v = c.get::<T>(0);
    c.set(gpr::RDX as u8, T::from64(if v.sign() { u64::MAX } else { 0 }));
    Ok(())
}

/// XLAT: the address is base plus AL, which no other address form has.
fn xlat<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let al = c.get::<u8>(0) as u64;
    let at = (c.state.gpr[gpr::RBX].wrapping_add(al)) & op.imm;
    let at = c.linear(op.seg, at, 1)?;
    let v = c.load::<u8, M>(m, at)?;
    c.set(0, v);
    Ok(())
}

fn lahf<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let v = c.flags.bits() as u8 | 2;
    c.set(super::super::op::HIGH_BYTE, v);
    Ok(())
}

fn sahf<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let v = c.get::<u8>(super::super::op::HIGH_BYTE) as u64;
    c.flags.change(rf::STATUS & !rf::OF, v);
    Ok(())
}

/// CLC, STC (`op.imm` is the new carry) and CMC (2).
fn carry<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let cf = if op.imm == 2 { !c.flags.cf() } else { op.imm == 1 };
    c.flags.set_cf(cf);
    Ok(())
}

fn direction<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.state.rflags = c.state.rflags & !rf::DF | op.imm;
    Ok(())
}

/// NOP, the prefetches, and whatever else is defined to do nothing here.
pub(super) fn nop<M: Machine>(_: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let with = |op: &mut Op<M>, imm: u64, f: Handler<M>| {
        op.imm = imm;
        Some(f)
    };
    match i.mnemonic() {
        N::Mov => general_mov(i, s),
        N::Movzx => extend::<M, false>(i, s),
        N::Movsx | N::Movsxd => extend::<M, true>(i, s),
        N::Lea => sized!(wide s.size, lea::<M>),
        N::Xchg if s.form == form::RR => sized!(s.size, xchg_rr::<M>),
        N::Xchg if s.form == form::MR => sized!(s.size, xchg_m::<M, 1>),
        N::Xchg => sized!(s.size, xchg_m::<M, 0>),
        N::Cbw => Some(widen::<M, u16, u8>),
        N::Cwde => Some(widen::<M, u32, u16>),
        N::Cdqe => Some(widen::<M, u64, u32>),
        N::Cwd => Some(spread::<M, u16>),
        N::Cdq => Some(spread::<M, u32>),
        N::Cqo => Some(spread::<M, u64>),
        N::Xlatb => with(op, address_mask(i), xlat),
        N::Lahf => Some(lahf),
        N::Sahf => Some(sahf),
        N::Clc => with(op, 0, carry),
        N::Stc => with(op, 1, carry),
        N::Cmc => with(op, 2, carry),
        N::Cld => with(op, 0, direction),
        N::Std => with(op, rf::DF, direction),
        N::Movnti => mov(s),
        _ => conditional(i, s),
    }
}

fn conditional<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match condition_of(i)? {
        (ConditionUse::Set, cc) => setcc(s, cc),
        (ConditionUse::Move, cc) => cmov(s, cc),
        (ConditionUse::Other, _) => None,
    }
}

/// MOV of general registers; segment, control and debug registers are `system`'s.
fn general_mov<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    let special = |r: Register| r.is_segment_register() || r.is_cr() || r.is_dr() || r.is_tr();
    if special(i.op0_register()) || special(i.op1_register()) {
        return None;
    }
    mov(s)
}

fn address_mask(i: &Instruction) -> u64 {
    match i.memory_base().size() {
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}
