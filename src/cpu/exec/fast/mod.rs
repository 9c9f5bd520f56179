//! Code of its own for the instructions that make up most of what runs (docs/cpu.md).
//!
//! Each of these functions does what the instruction's handler does, for operands in registers and in pages that the
//! TLB knows, in the address forms of 64-bit code; it hands everything else to the handler, by [`threaded::plain`],
//! before it has changed anything. So a handler is the truth about its instruction, and code here is only quicker:
//! no result to look at, no fault, no call. `src/cpu/tests_fast.rs` compares the two.
//!
//! [`threaded::plain`]: super::super::threaded::plain

mod alu;
mod branch;
mod moves;

use iced_x86::{Instruction, OpKind};

use super::super::Cpu;
use super::super::decode::Shape;
use super::super::machine::Machine;
use super::super::op::{Op, mf};
use super::super::threaded::Code;

/// How an address is made.
pub(super) trait Address {
    fn of<M>(c: &Cpu, op: &Op<M>) -> u64;
}

/// A base register or none, and a displacement.
struct Based;
/// An index register as well.
struct Indexed;
/// And the base of FS or GS.
struct Segmented;

impl Address for Based {
    #[inline(always)]
    fn of<M>(c: &Cpu, op: &Op<M>) -> u64 {
        (c.state.gpr[(op.base & 15) as usize] & op.base_mask as i64 as u64).wrapping_add(op.disp)
    }
}

impl Address for Indexed {
    #[inline(always)]
    fn of<M>(c: &Cpu, op: &Op<M>) -> u64 {
        let index = c.state.gpr[(op.index & 15) as usize].wrapping_mul(op.scale as u64);
        Based::of(c, op).wrapping_add(index)
    }
}

impl Address for Segmented {
    #[inline(always)]
    fn of<M>(c: &Cpu, op: &Op<M>) -> u64 {
        Indexed::of(c, op).wrapping_add(c.state.segs[op.seg as usize % 6].base)
    }
}

/// Which [`Address`] an op's memory operand has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Based,
    Indexed,
    Segmented,
}

impl Form {
    /// `None` for addresses that need more: other sizes than 64 bits, segments with limits.
    fn of<M>(op: &Op<M>) -> Option<Form> {
        match op.mf {
            0 if op.scale == 0 => Some(Form::Based),
            0 => Some(Form::Indexed),
            mf::SEG_BASE => Some(Form::Segmented),
            _ => None,
        }
    }
}

/// Picks the instance of a function for an operand of 1, 4 or 8 bytes; 16-bit operands are rare.
macro_rules! by_size {
    ($size:expr, |$t:ident| $pick:expr) => {
        match $size {
            1 => {
                type $t = u8;
                Some($pick as Code<M>)
            }
            4 => {
                type $t = u32;
                Some($pick as Code<M>)
            }
            8 => {
                type $t = u64;
                Some($pick as Code<M>)
            }
            _ => None,
        }
    };
}
use by_size;

/// Picks the instance of a function for an address form.
macro_rules! by_address {
    ($form:expr, |$a:ident| $pick:expr) => {
        match $form {
            Form::Based => {
                type $a = Based;
                $pick
            }
            Form::Indexed => {
                type $a = Indexed;
                $pick
            }
            Form::Segmented => {
                type $a = Segmented;
                $pick
            }
        }
    };
}
use by_address;

/// The code of an instruction, if it has one here.
pub(in super::super) fn code<M: Machine>(
    i: &Instruction,
    s: &Shape,
    op: &Op<M>,
    bits: u32,
) -> Option<Code<M>> {
    if bits != 64 || s.lock {
        return None;
    }
    let vector = |n: u32| i.op_kind(n) == OpKind::Register && !i.op_register(n).is_gpr();
    if (0..i.op_count()).any(vector) {
        return None;
    }
    moves::code(i, s, op).or_else(|| alu::code(i, s, op)).or_else(|| branch::code(i, s, op))
}
