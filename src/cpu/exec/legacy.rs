//! What 64-bit mode does not have: decimal arithmetic and ARPL (SDM vol. 2).

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::{Exception, Flow, vector};
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::rflags as rf;
use super::arith::operand;

const AX: u8 = 0;

/// Sets CF and AF, and SF, ZF and PF by AL.
fn adjusted(c: &mut Cpu, al: u8, carry: bool, auxiliary: bool) {
    c.flags.result(al, carry, false);
    c.flags.change(rf::AF, if auxiliary { rf::AF } else { 0 });
}

/// AAA, or AAS when `SUB`.
fn ascii_adjust<M: Machine, const SUB: bool>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let mut ax = c.get::<u16>(AX);
    let adjust = ax & 15 > 9 || c.flags.af();
    if adjust {
        // AAS takes the borrow out of AL into AH, too.
        ax = if SUB { ax.wrapping_sub(0x106) } else { ax.wrapping_add(0x106) };
    }
    c.set(AX, ax & 0xff0f);
    adjusted(c, ax as u8 & 15, adjust, adjust);
    Ok(())
}

/// DAA, or DAS when `SUB`.
fn decimal_adjust<M: Machine, const SUB: bool>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let old = c.get::<u8>(AX);
    let low = old & 15 > 9 || c.flags.af();
    let high = old > 0x99 || c.flags.cf();
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let al = if SUB { old.wrapping_sub(by) } else { old.wrapping_add(by) };
    // Only DAS keeps the borrow of its first step when there is no second.
    let carry = high || SUB && low && old < 6;
    c.set(AX, al);
    adjusted(c, al, carry, low);
    Ok(())
}

fn aam<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let (al, base) = (c.get::<u8>(AX), op.imm as u8);
    if base == 0 {
        return c.raise(Exception::plain(vector::DE));
    }
    c.set(AX, u16::from(al / base) << 8 | u16::from(al % base));
    adjusted(c, al % base, false, false);
    Ok(())
}

fn aad<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let [al, ah] = c.get::<u16>(AX).to_le_bytes();
    let al = al.wrapping_add(ah.wrapping_mul(op.imm as u8));
    c.set(AX, u16::from(al));
    adjusted(c, al, false, false);
    Ok(())
}

fn arpl<M: Machine, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    if !c.protected() {
        return c.ud();
    }
    let old = operand::<M, u16, MEM>(c, m, op, op.r[0])?;
    let wanted = c.get::<u16>(op.r[1]) & 3;
    let raise = old & 3 < wanted;
    if raise {
        let new = old & !3 | wanted;
        if MEM {
            c.store_op(m, op, new)?;
        } else {
            c.set(op.r[0], new);
        }
    }
    c.flags.change(rf::ZF, if raise { rf::ZF } else { 0 });
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Aaa => Some(ascii_adjust::<M, false>),
        N::Aas => Some(ascii_adjust::<M, true>),
        N::Daa => Some(decimal_adjust::<M, false>),
        N::Das => Some(decimal_adjust::<M, true>),
        N::Aam => Some(aam),
        N::Aad => Some(aad),
        N::Arpl if s.form == form::MR => Some(arpl::<M, true>),
        N::Arpl => Some(arpl::<M, false>),
        _ => None,
    }
}
