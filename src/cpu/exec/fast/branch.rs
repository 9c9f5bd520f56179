//! Near JMP, Jcc, CALL and RET of 64-bit code.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::super::Cpu;
use super::super::super::decode::{Shape, form};
use super::super::super::exceptions::Flow;
use super::super::super::machine::Machine;
use super::super::super::op::Op;
use super::super::super::paging::surely_canonical;
use super::super::super::state::gpr;
use super::super::super::threaded::{Code, Cursor, plain};
use super::super::data::{by_condition, condition_number};
use super::{Address, Based, Form, Indexed, Segmented, by_address};

fn jcc<M: Machine, const CC: u8>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    if c.flags.condition::<CC>() {
        c.state.rip = at.op().imm;
    }
    at.done(c, m)
}

fn jmp<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    c.state.rip = at.op().imm;
    at.done(c, m)
}

/// Stores the return address and goes to a canonical target; false when that is for the handler to do.
#[inline(always)]
fn enter(c: &mut Cpu, target: u64) -> bool {
    let sp = c.state.gpr[gpr::RSP].wrapping_sub(8);
    if !c.try_store(sp, c.state.rip) {
        return false;
    }
    c.state.gpr[gpr::RSP] = sp;
    c.state.rip = target;
    true
}

fn call<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    if !enter(c, at.op().imm) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn call_r<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let target = c.get::<u64>(at.op().r[0]);
    if !surely_canonical(target) || !enter(c, target) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn call_m<M: Machine, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let Some(target) = c.try_load::<u64>(A::of(c, at.op())) else { return plain(c, m, at) };
    if !surely_canonical(target) || !enter(c, target) {
        return plain(c, m, at);
    }
    at.done(c, m)
}

fn jmp_r<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let target = c.get::<u64>(at.op().r[0]);
    if !surely_canonical(target) {
        return plain(c, m, at);
    }
    c.state.rip = target;
    at.done(c, m)
}

fn jmp_m<M: Machine, A: Address>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let Some(target) = c.try_load::<u64>(A::of(c, at.op())) else { return plain(c, m, at) };
    if !surely_canonical(target) {
        return plain(c, m, at);
    }
    c.state.rip = target;
    at.done(c, m)
}

fn ret<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let sp = c.state.gpr[gpr::RSP];
    let Some(target) = c.try_load::<u64>(sp) else { return plain(c, m, at) };
    if !surely_canonical(target) {
        return plain(c, m, at);
    }
    c.state.gpr[gpr::RSP] = sp.wrapping_add(8 + at.op().imm);
    c.state.rip = target;
    at.done(c, m)
}

pub(super) fn code<M: Machine>(i: &Instruction, s: &Shape, op: &Op<M>) -> Option<Code<M>> {
    let direct = s.form == form::I && surely_canonical(op.imm);
    match i.mnemonic() {
        N::Jmp if direct && i.is_jmp_short_or_near() => Some(jmp),
        N::Jmp if s.form == form::R && s.size == 8 => Some(jmp_r),
        N::Jmp if s.form == form::M && s.size == 8 && !i.is_jmp_far_indirect() => {
            by_address!(Form::of(op)?, |A| Some(jmp_m::<M, A> as Code<M>))
        }
        N::Call if direct && i.is_call_near() && s.operand_size == 8 => Some(call),
        N::Call if s.form == form::R && s.size == 8 => Some(call_r),
        N::Call if s.form == form::M && s.size == 8 && !i.is_call_far_indirect() => {
            by_address!(Form::of(op)?, |A| Some(call_m::<M, A> as Code<M>))
        }
        N::Ret if s.operand_size == 8 => Some(ret),
        _ if direct && i.is_jcc_short_or_near() => {
            let cc = condition_number(i.condition_code())?;
            by_condition!(cc, |CC| Some(jcc::<M, CC> as Code<M>))
        }
        _ => None,
    }
}
