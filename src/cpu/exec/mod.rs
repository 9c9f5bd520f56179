//! Instruction handlers, one file per family, and the choice among them.
//!
//! A handler finishes its instruction or leaves everything but accessed and dirty bits as it was. RIP already points
//! past the instruction when it runs.

mod arith;
mod avx;
mod bits;
mod control;
mod data;
mod far;
pub(super) mod fast;
mod legacy;
mod logic;
mod mmx;
mod native;
mod shift;
mod sse;
mod stack;
mod string;
mod system;
mod text;
mod vmove;
mod x87;
mod xstate;

pub(super) use data::{ConditionUse, condition_of};
use iced_x86::Instruction;

use super::Cpu;
use super::decode::Shape;
use super::exceptions::{Flow, Stop};
use super::machine::Machine;
use super::op::{Handler, Op};

/// Chooses the instance of a handler for an operand of 1, 2, 4 or 8 bytes.
macro_rules! sized {
    ($size:expr, $f:ident :: <M $(, $g:tt)*>) => {
        match $size {
            1 => Some($f::<M, u8 $(, $g)*> as Handler<M>),
            _ => sized!(wide $size, $f::<M $(, $g)*>),
        }
    };
    (wide $size:expr, $f:ident :: <M $(, $g:tt)*>) => {
        match $size {
            2 => Some($f::<M, u16 $(, $g)*> as Handler<M>),
            4 => Some($f::<M, u32 $(, $g)*> as Handler<M>),
            8 => Some($f::<M, u64 $(, $g)*> as Handler<M>),
            _ => None,
        }
    };
    (big $size:expr, $f:ident :: <M $(, $g:tt)*>) => {
        match $size {
            4 => Some($f::<M, u32 $(, $g)*> as Handler<M>),
            8 => Some($f::<M, u64 $(, $g)*> as Handler<M>),
            _ => None,
        }
    };
}
use sized;

/// The handler of an instruction; fills in what else it needs in `op`.
pub(super) fn handler<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    data::lower(i, s, op)
        .or_else(|| arith::lower(i, s))
        .or_else(|| logic::lower(i, s))
        .or_else(|| control::lower(i, s, op))
        .or_else(|| stack::lower(i, s, op))
        .or_else(|| shift::lower(i, s))
        .or_else(|| bits::lower(i, s))
        .or_else(|| string::lower(i, op))
        .or_else(|| far::lower(i, s, op))
        .or_else(|| legacy::lower(i, s))
        .or_else(|| system::lower(i, s, op))
        .or_else(|| xstate::lower(i, s, op))
        .or_else(|| x87::lower(i, s, op))
        .or_else(|| mmx::lower(i, s, op))
        .or_else(|| text::lower(i, s, op))
        .or_else(|| vmove::lower(i, s, op))
        .or_else(|| avx::lower(i, s, op))
        .or_else(|| sse::lower(i, s, op))
}

/// For an op without a handler.
pub(super) fn unsupported<M>(_: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    Err(Stop::Unsupported)
}

/// An instruction pointer cut to the mode.
pub(super) fn wrap_ip(ip: u64, bits: u32) -> u64 {
    if bits == 64 { ip } else { ip & 0xffff_ffff }
}
