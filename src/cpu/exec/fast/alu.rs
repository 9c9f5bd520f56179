//! Arithmetic and logic: two operands, INC and DEC, shifts by a constant.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::super::Cpu;
use super::super::super::decode::{Shape, form};
use super::super::super::exceptions::Flow;
use super::super::super::machine::Machine;
use super::super::super::op::{Int, Op};
use super::super::super::threaded::{Code, Cursor, plain};
use super::super::arith::{Adc, Add, Binary, Cmp, Dec, Inc, Neg, Not, Sbb, Sub, Unary};
use super::super::logic::{And, Or, Test, Xor};
use super::super::shift::{SAR, SHL, SHR, shift};
use super::{Address, Based, Form, Indexed, Segmented, by_address, by_size};

fn rr<M: Machine, T: Int, O: Binary>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let (a, b) = (c.get::<T>(op.r[0]), c.get::<T>(op.r[1]));
    let r = O::run(&mut c.flags, a, b);
    if O::STORES {
        c.set(op.r[0], r);
    }
    at.done(c, m)
}

fn ri<M: Machine, T: Int, O: Binary>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let a = c.get::<T>(op.r[0]);
    let r = O::run(&mut c.flags, a, T::from64(op.imm));
    if O::STORES {
        c.set(op.r[0], r);
    }
    at.done(c, m)
}

fn rm<M: Machine, T: Int, O: Binary, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let Some(b) = c.try_load::<T>(A::of(c, op)) else { return plain(c, m, at) };
    let a = c.get::<T>(op.r[0]);
    let r = O::run(&mut c.flags, a, b);
    if O::STORES {
        c.set(op.r[0], r);
    }
    at.done(c, m)
}

/// With `b` as the second operand; false when that is for the handler to do.
#[inline(always)]
fn on_memory<M: Machine, T: Int, O: Binary, A: Address>(c: &mut Cpu, op: &Op<M>, b: T) -> bool {
    let address = A::of(c, op);
    if O::STORES {
        return c.try_modify::<T>(address, |f, a| O::run(f, a, b));
    }
    let Some(a) = c.try_load::<T>(address) else { return false };
    O::run(&mut c.flags, a, b);
    true
}

fn mr<M: Machine, T: Int, O: Binary, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let b = c.get::<T>(op.r[1]);
    if !on_memory::<M, T, O, A>(c, op, b) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn mi<M: Machine, T: Int, O: Binary, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    if !on_memory::<M, T, O, A>(c, op, T::from64(op.imm)) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn unary_r<M: Machine, T: Int, O: Unary>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let r = at.op().r[0];
    let a = c.get::<T>(r);
    let v = O::run(&mut c.flags, a);
    c.set(r, v);
    at.done(c, m)
}

fn unary_m<M: Machine, T: Int, O: Unary, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    if !c.try_modify::<T>(A::of(c, at.op()), O::run) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn shift_ri<M: Machine, T: Int, const KIND: u8>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    let a = c.get::<T>(op.r[0]);
    let r = shift::<T, KIND>(&mut c.flags, a, op.imm);
    c.set(op.r[0], r);
    at.done(c, m)
}

fn binary<M: Machine, O: Binary>(s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    match s.form {
        form::RR => by_size!(s.size, |T| rr::<M, T, O>),
        form::RI => by_size!(s.size, |T| ri::<M, T, O>),
        form::RM => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| rm::<M, T, O, A>)),
        form::MR => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| mr::<M, T, O, A>)),
        form::MI => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| mi::<M, T, O, A>)),
        _ => None,
    }
}

fn unary<M: Machine, O: Unary>(s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    match s.form {
        form::R => by_size!(s.size, |T| unary_r::<M, T, O>),
        form::M => by_address!(Form::of(op)?, |A| by_size!(s.size, |T| unary_m::<M, T, O, A>)),
        _ => None,
    }
}

pub(super) fn code<M: Machine>(i: &Instruction, s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    match i.mnemonic() {
        N::Add => binary::<M, Add>(s, op),
        N::Adc => binary::<M, Adc>(s, op),
        N::Sub => binary::<M, Sub>(s, op),
        N::Sbb => binary::<M, Sbb>(s, op),
        N::Cmp => binary::<M, Cmp>(s, op),
        N::And => binary::<M, And>(s, op),
        N::Or => binary::<M, Or>(s, op),
        N::Xor => binary::<M, Xor>(s, op),
        N::Test => binary::<M, Test>(s, op),
        N::Inc => unary::<M, Inc>(s, op),
        N::Dec => unary::<M, Dec>(s, op),
        N::Neg => unary::<M, Neg>(s, op),
        N::Not => unary::<M, Not>(s, op),
        N::Shl | N::Sal if s.form == form::RI => by_size!(s.size, |T| shift_ri::<M, T, SHL>),
        N::Shr if s.form == form::RI => by_size!(s.size, |T| shift_ri::<M, T, SHR>),
        N::Sar if s.form == form::RI => by_size!(s.size, |T| shift_ri::<M, T, SAR>),
        _ => None,
    }
}
