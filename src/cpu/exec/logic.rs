//! AND, OR, XOR, NOT, TEST, ANDN.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::Flow;
use super::super::flags::Flags;
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::arith::{Binary, Not, binary, operand, unary};
use super::sized;

pub(super) struct And;
pub(super) struct Or;
pub(super) struct Xor;
pub(super) struct Test;

impl Binary for And {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        let r = T::from64(a.to64() & b.to64());
        f.logic(r);
        r
    }
}
impl Binary for Or {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        let r = T::from64(a.to64() | b.to64());
        f.logic(r);
        r
    }
}
impl Binary for Xor {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        let r = T::from64(a.to64() ^ b.to64());
        f.logic(r);
        r
    }
}
impl Binary for Test {
    const STORES: bool = false;
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        And::run(f, a, b)
    }
}

fn andn<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[2])?.to64();
    let r = T::from64(!c.get::<T>(op.r[1]).to64() & b);
    c.flags.logic(r);
    c.set(op.r[0], r);
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::And => binary::<M, And>(s),
        N::Or => binary::<M, Or>(s),
        N::Xor => binary::<M, Xor>(s),
        N::Test => binary::<M, Test>(s),
        N::Not => unary::<M, Not>(s),
        N::Andn if s.form == form::RRR => sized!(big s.size, andn::<M, false>),
        N::Andn => sized!(big s.size, andn::<M, true>),
        _ => None,
    }
}
