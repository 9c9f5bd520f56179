//! Who is where while host code runs: host registers, and the fields of [`Cpu`] that it uses.

use std::mem::offset_of;

use super::emit::{Mem, R8, R9, R10, R12, RBX, RDX, Reg, at};
use crate::cpu::Cpu;
use crate::cpu::flags::{AUX_OFFSET, RES_OFFSET};
use crate::cpu::tlb::layout;

/// The [`Cpu`], and the entries of its TLB. RBP is the machine.
pub(super) const CPU: Reg = RBX;
pub(super) const ENTRIES: Reg = R12;
/// First operand, second operand, result.
pub(super) const A: Reg = R8;
pub(super) const B: Reg = R9;
pub(super) const R: Reg = R10;
/// Where the block leads, and by which link.
pub(super) const TO: Reg = B;
pub(super) const LINK: Reg = RDX;

pub(super) const GPR: usize = offset_of!(Cpu, state.gpr);
pub(super) const RIP: Mem = field(offset_of!(Cpu, state.rip));
pub(super) const SEGMENTS: usize = offset_of!(Cpu, state.segs);
pub(super) const RES: Mem = field(offset_of!(Cpu, flags) + RES_OFFSET);
pub(super) const AUX: Mem = field(offset_of!(Cpu, flags) + AUX_OFFSET);
pub(super) const TAG_EPOCH: Mem = field(offset_of!(Cpu, tlb) + layout::EPOCH);
pub(super) const QUICK: Mem = field(offset_of!(Cpu, tlb) + layout::QUICK);
pub(super) const VERSION: Mem = field(offset_of!(Cpu, tlb) + layout::VERSION);
pub(super) const CHANGES: Mem = field(offset_of!(Cpu, native.changes));
pub(super) const BELL: Mem = field(offset_of!(Cpu, native.bell));
pub(super) const TICKS: Mem = field(offset_of!(Cpu, native.ticks));
pub(super) const FIRST: Mem = field(offset_of!(Cpu, native.first));
pub(super) const MISSED: Mem = field(offset_of!(Cpu, native.missed));
pub(super) const MODE: Mem = field(offset_of!(Cpu, mode_key));
pub(super) const START: Mem = field(offset_of!(Cpu, start));

/// Host condition codes.
pub(super) const EQUAL: u8 = 4;
pub(super) const NOT_EQUAL: u8 = 5;
pub(super) const SIGN: u8 = 8;
pub(super) const LESS_OR_EQUAL: u8 = 14;
pub(super) const PARITY: u8 = 10;

pub(super) const fn field(offset: usize) -> Mem {
    at(CPU, offset as i32)
}

pub(super) fn guest(r: u8) -> Mem {
    field(GPR + 8 * usize::from(r & 15))
}
