//! MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, PUSH and POP.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::super::Cpu;
use super::super::super::decode::{Shape, form};
use super::super::super::exceptions::Flow;
use super::super::super::machine::Machine;
use super::super::super::op::{Int, Op};
use super::super::super::state::gpr;
use super::super::super::threaded::{Code, Cursor, plain};
use super::super::data::{ConditionUse, by_condition, condition_of};
use super::{Address, Based, Form, Indexed, Segmented, by_address, by_size};

fn nop<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    at.done(c, m)
}

fn mov_rr<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let v = c.get::<T>(op.r[1]);
    c.set(op.r[0], v);
    at.done(c, m)
}

fn mov_ri<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    c.set(op.r[0], T::from64(op.imm));
    at.done(c, m)
}

fn mov_rm<M: Machine, T: Int, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let Some(v) = c.try_load::<T>(A::of(c, op)) else { return plain(c, m, at) };
    c.set(op.r[0], v);
    at.done(c, m)
}

fn mov_mr<M: Machine, T: Int, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let v = c.get::<T>(op.r[1]);
    if !c.try_store(A::of(c, op), v) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn mov_mi<M: Machine, T: Int, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    if !c.try_store(A::of(c, op), T::from64(op.imm)) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

#[inline(always)]
fn extend<T: Int, S: Int, const SIGNED: bool>(v: S) -> T {
    T::from64(if SIGNED { v.sext() } else { v.to64() })
}

fn extend_r<M: Machine, T: Int, S: Int, const SIGNED: bool>(
    c: &mut Cpu,
    m: &mut M,
    at: Cursor<'_, M>,
) -> Flow {
    let op = at.op();
    let v = c.get::<S>(op.r[1]);
    c.set(op.r[0], extend::<T, S, SIGNED>(v));
    at.done(c, m)
}

fn extend_m<M: Machine, T: Int, S: Int, const SIGNED: bool, A: Address>(
    c: &mut Cpu,
    m: &mut M,
    at: Cursor<'_, M>,
) -> Flow {
    let op = at.op();
    let Some(v) = c.try_load::<S>(A::of(c, op)) else { return plain(c, m, at) };
    c.set(op.r[0], extend::<T, S, SIGNED>(v));
    at.done(c, m)
}

fn lea<M: Machine, T: Int, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    c.set(op.r[0], T::from64(A::of(c, op)));
    at.done(c, m)
}

fn cmov_r<M: Machine, T: Int, const CC: u8>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let v = c.get::<T>(if c.flags.condition::<CC>() { op.r[1] } else { op.r[0] });
    c.set(op.r[0], v);
    at.done(c, m)
}

fn set_r<M: Machine, const CC: u8>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let v = c.flags.condition::<CC>() as u8;
    c.set(at.op().r[0], v);
    at.done(c, m)
}

fn push_r<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let v = c.get::<u64>(at.op().r[0]);
    let sp = c.state.gpr[gpr::RSP].wrapping_sub(8);
    if !c.try_store(sp, v) {
        return plain(c, m, at);
    }
    c.state.gpr[gpr::RSP] = sp;
    at.done(c, m)
}

fn pop_r<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let sp = c.state.gpr[gpr::RSP];
    let Some(v) = c.try_load::<u64>(sp) else { return plain(c, m, at) };
    c.state.gpr[gpr::RSP] = sp.wrapping_add(8);
    c.set(at.op().r[0], v);
    at.done(c, m)
}

fn mov<M: Machine>(s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    match s.form {
        form::RR => by_size!(s.size, |T| mov_rr::<M, T>),
        form::RI => by_size!(s.size, |T| mov_ri::<M, T>),
        form::RM => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| mov_rm::<M, T, A>)),
        form::MR => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| mov_mr::<M, T, A>)),
        form::MI => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| mov_mi::<M, T, A>)),
        _ => None,
    }
}

fn movx<M: Machine, const SIGNED: bool>(i: &Instruction, s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    macro_rules! extend_to {
        ($t:ty) => {
            match (s.form, if s.form == form::RR { i.op1_register().size() } else { op.msize as usize }) {
                (form::RR, 1) => Some(extend_r::<M, $t, u8, SIGNED> as Code<M>),
                (form::RR, 2) => Some(extend_r::<M, $t, u16, SIGNED> as Code<M>),
                (form::RR, 4) => Some(extend_r::<M, $t, u32, SIGNED> as Code<M>),
                (form::RM, 1) => {
                    by_address!(Form::of(op)?, |A| Some(extend_m::<M, $t, u8, SIGNED, A> as Code<M>))
                }
                (form::RM, 2) => {
                    by_address!(Form::of(op)?, |A| Some(extend_m::<M, $t, u16, SIGNED, A> as Code<M>))
                }
                (form::RM, 4) => {
                    by_address!(Form::of(op)?, |A| Some(extend_m::<M, $t, u32, SIGNED, A> as Code<M>))
                }
                _ => None,
            }
        };
    }
    match s.size {
        4 => extend_to!(u32),
        8 => extend_to!(u64),
        _ => None,
    }
}

fn conditional<M: Machine>(i: &Instruction, s: &Shape) -> Option<Code<M>> {
    match (condition_of(i)?, s.form) {
        ((ConditionUse::Set, cc), form::R) => by_condition!(cc, |CC| Some(set_r::<M, CC> as Code<M>)),
        ((ConditionUse::Move, cc), form::RR) => match s.size {
            4 => by_condition!(cc, |CC| Some(cmov_r::<M, u32, CC> as Code<M>)),
            8 => by_condition!(cc, |CC| Some(cmov_r::<M, u64, CC> as Code<M>)),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn code<M: Machine>(i: &Instruction, s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    match i.mnemonic() {
        N::Nop => Some(nop),
        N::Mov => mov(s, op),
        N::Movzx => movx::<M, false>(i, s, op),
        N::Movsx | N::Movsxd => movx::<M, true>(i, s, op),
        // Segments do not count here.
        N::Lea => match Form::of(op)? {
            Form::Based => by_size!(s.size, |T| lea::<M, T, Based>),
            _ => by_size!(s.size, |T| lea::<M, T, Indexed>),
        },
        N::Push if s.form == form::R && s.size == 8 => Some(push_r),
        N::Pop if s.form == form::R && s.size == 8 => Some(pop_r),
        _ => conditional(i, s),
    }
}
