//! Branches: Jcc, JMP, CALL, RET, LOOP, JRCXZ, and the software interrupts.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::{Exception, Flow, Stop, vector};
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::gpr;
use super::arith::operand;
use super::data::{by_condition, condition_number};
use super::sized;

impl Cpu {
    /// Sets RIP to a computed target; one that is not canonical (or outside CS) is a fault of the branch itself.
    #[inline(always)]
    fn jump_to(&mut self, target: u64) -> Flow {
        if self.bits == 64 {
            if !self.canonical(target) {
                return self.gp0();
            }
        } else if target > self.state.segs[super::super::state::seg::CS].limit as u64 {
            return self.gp0();
        }
        self.state.rip = target;
        Ok(())
    }
}

fn jcc<M: Machine, const CC: u8>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if c.flags.condition::<CC>() { c.jump_to(op.imm) } else { Ok(()) }
}

fn jmp<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.jump_to(op.imm)
}

fn jmp_to<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let target = operand::<M, T, MEM>(c, m, op, op.r[0])?;
    c.jump_to(target.to64())
}

fn call_with<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, target: u64) -> Flow {
    let back = c.state.rip;
    let sp = c.state.gpr[gpr::RSP];
    // In this order on Intel processors: a target that is no good faults with the return address already stored.
    c.push(m, T::from64(back))?;
    let done = c.jump_to(target);
    if done.is_err() {
        c.state.gpr[gpr::RSP] = sp;
    }
    done
}

fn call<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    call_with::<M, T>(c, m, op.imm)
}

fn call_to<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let target = operand::<M, T, MEM>(c, m, op, op.r[0])?;
    call_with::<M, T>(c, m, target.to64())
}

fn ret<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let target = c.peek::<T, M>(m, 0)?;
    c.jump_to(target.to64())?;
    c.add_sp(T::SIZE.wrapping_add(op.imm));
    Ok(())
}

/// LOOP, LOOPE, LOOPNE: counts in a register of the address size (`op.aux` bytes).
fn loop_while<M: Machine, const KIND: u8>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let n = counter(c, op).wrapping_sub(1);
    let left = match op.aux {
        2 => n as u16 as u64,
        4 => n as u32 as u64,
        _ => n,
    };
    let again = left != 0
        && match KIND {
            0 => true,
            1 => c.flags.zf(),
            _ => !c.flags.zf(),
        };
    if again {
        c.jump_to(op.imm)?;
    }
    match op.aux {
        2 => c.set(gpr::RCX as u8, n as u16),
        4 => c.set(gpr::RCX as u8, n as u32),
        _ => c.set(gpr::RCX as u8, n),
    }
    Ok(())
}

fn counter<M>(c: &Cpu, op: &Op<M>) -> u64 {
    let n = c.state.gpr[gpr::RCX];
    match op.aux {
        2 => n as u16 as u64,
        4 => n as u32 as u64,
        _ => n,
    }
}

fn jrcxz<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if counter(c, op) == 0 { c.jump_to(op.imm) } else { Ok(()) }
}

fn int3<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.fault = Exception::plain(vector::BP);
    Err(Stop::Trap)
}

fn int1<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.fault = Exception::plain(vector::DB);
    Err(Stop::Trap)
}

fn int_n<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.fault = Exception::plain(op.imm as u8);
    Err(Stop::Interrupt)
}

fn into<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if !c.flags.of() {
        return Ok(());
    }
    c.fault = Exception::plain(vector::OF);
    Err(Stop::Trap)
}

fn ud<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.ud()
}

/// BOUND.
fn bound<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let low = c.load::<T, M>(m, at)?.sext() as i64;
    let high = c.load::<T, M>(m, at.wrapping_add(T::SIZE))?.sext() as i64;
    let v = c.get::<T>(op.r[0]).sext() as i64;
    if v < low || v > high { c.raise(Exception::plain(vector::BR)) } else { Ok(()) }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    use iced_x86::FlowControl as F;
    if i.flow_control() == F::ConditionalBranch {
        return conditional(i, op);
    }
    match i.mnemonic() {
        N::Jmp => match s.form {
            form::I if i.is_jmp_short_or_near() => Some(jmp),
            form::R => sized!(wide s.size, jmp_to::<M, false>),
            form::M if !i.is_jmp_far_indirect() => sized!(wide s.size, jmp_to::<M, true>),
            _ => None,
        },
        N::Call => match s.form {
            form::I if i.is_call_near() => sized!(wide s.operand_size, call::<M>),
            form::R => sized!(wide s.size, call_to::<M, false>),
            form::M if !i.is_call_far_indirect() => sized!(wide s.size, call_to::<M, true>),
            _ => None,
        },
        N::Ret => sized!(wide s.operand_size, ret::<M>),
        N::Int3 => Some(int3),
        N::Int1 => Some(int1),
        N::Int => Some(int_n),
        N::Into => Some(into),
        N::Bound => match i.memory_size().size() {
            4 => Some(bound::<M, u16>),
            _ => Some(bound::<M, u32>),
        },
        N::Ud0 | N::Ud1 | N::Ud2 => Some(ud),
        _ => None,
    }
}

fn conditional<M: Machine>(i: &Instruction, op: &mut Op<M>) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Loop | N::Loope | N::Loopne => {
            op.aux = counter_size(i.code());
            Some(match i.mnemonic() {
                N::Loop => loop_while::<M, 0>,
                N::Loope => loop_while::<M, 1>,
                _ => loop_while::<M, 2>,
            })
        }
        N::Jcxz | N::Jecxz | N::Jrcxz => {
            op.aux = match i.mnemonic() {
                N::Jcxz => 2,
                N::Jecxz => 4,
                _ => 8,
            };
            Some(jrcxz)
        }
        _ => {
            let cc = condition_number(i.condition_code())?;
            Some(by_condition!(cc, |CC| jcc::<M, CC>))
        }
    }
}

/// Size in bytes of the register that LOOP counts in.
fn counter_size(code: iced_x86::Code) -> u16 {
    use iced_x86::Code as C;
    match code {
        C::Loop_rel8_16_CX
        | C::Loop_rel8_32_CX
        | C::Loope_rel8_16_CX
        | C::Loope_rel8_32_CX
        | C::Loopne_rel8_16_CX
        | C::Loopne_rel8_32_CX => 2,
        C::Loop_rel8_16_RCX
        | C::Loop_rel8_64_RCX
        | C::Loope_rel8_16_RCX
        | C::Loope_rel8_64_RCX
        | C::Loopne_rel8_16_RCX
        | C::Loopne_rel8_64_RCX => 8,
        _ => 4,
    }
}
