//! What the translator knows how to do with an instruction.
//!
//! Chosen once for each op, when it is decoded (`decode.rs`); read when its block is translated. Everything that is
//! [`What::Handler`] is left to the instruction's handler.

use iced_x86::{Instruction, Mnemonic as N, OpKind};

use super::emit::{Alu, SAR, SHL, SHR};
use crate::cpu::decode::{Shape, form};
use crate::cpu::exec::{ConditionUse, condition_of};
use crate::cpu::op::{HIGH_BYTE, Op, mf};
use crate::cpu::paging::surely_canonical;

/// An instruction, as the translator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Plan {
    pub(super) what: What,
    /// Operand size in bytes: 1, 2, 4 or 8.
    pub(super) size: u8,
    /// Operand kinds, one of [`form`].
    pub(super) form: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The handler does it.
    Handler,
    Nop,
    Mov,
    /// MOVZX, MOVSX, MOVSXD, from so many bytes.
    Extend {
        from: u8,
        signed: bool,
    },
    Lea,
    Push,
    Pop,
    Binary(Alu),
    Test,
    Inc,
    Dec,
    Neg,
    Not,
    /// By a constant.
    Shift(u8),
    Set(u8),
    Cmov(u8),
    Jcc(u8),
    Jmp,
    JmpTo,
    Call,
    CallTo,
    Ret,
}

impl Plan {
    /// For an op that only its handler knows.
    pub const HANDLER: Plan = Plan { what: What::Handler, size: 8, form: 0 };

    /// The plan for an instruction that was lowered to `op`.
    pub fn of<M>(i: &Instruction, s: &Shape, op: &Op<M>, bits: u32) -> Plan {
        // Without operands there is no size.
        match i.mnemonic() {
            N::Nop if bits == 64 => return Plan { what: What::Nop, ..Plan::HANDLER },
            N::Ret if bits == 64 && s.operand_size == 8 => return Plan { what: What::Ret, ..Plan::HANDLER },
            _ => {}
        }
        let general = |n: u32| i.op_kind(n) != OpKind::Register || i.op_register(n).is_gpr();
        // Segments are left out of 64-bit addresses, all but FS and GS.
        let simple = bits == 64 && !s.lock && op.mf & !mf::SEG_BASE == 0;
        let high_byte = op.r.iter().any(|r| r & HIGH_BYTE != 0);
        if !simple || high_byte || !(0..i.op_count()).all(general) || !matches!(s.size, 1 | 2 | 4 | 8) {
            return Plan::HANDLER;
        }
        let what = what(i, s, op).unwrap_or(What::Handler);
        Plan { what, size: s.size, form: s.form }
    }

    /// Whether it sends control elsewhere, always.
    pub(super) fn is_branch(self) -> bool {
        matches!(self.what, What::Jmp | What::JmpTo | What::Call | What::CallTo | What::Ret)
    }

    /// Whether it writes all status flags.
    pub(super) fn writes_flags(self) -> bool {
        use What::*;
        matches!(self.what, Binary(_) | Test | Inc | Dec | Neg | Shift(_))
    }

    /// Whether the flags before it show in what it does, or in those behind it.
    pub(super) fn reads_flags(self) -> bool {
        use What::*;
        // A shift by zero leaves them alone.
        matches!(self.what, Inc | Dec | Set(_) | Cmov(_) | Jcc(_) | Shift(_))
    }

    /// Whether it may stop, so that the flags before it may be seen.
    pub(super) fn may_stop(self) -> bool {
        use What::*;
        match self.what {
            Handler | Push | Pop | Jcc(_) | Jmp | JmpTo | Call | CallTo | Ret => true,
            Nop | Lea => false,
            _ => !matches!(self.form, form::R | form::RR | form::RI),
        }
    }
}

fn what<M>(i: &Instruction, s: &Shape, op: &Op<M>) -> Option<What> {
    let two = matches!(s.form, form::RR | form::RI | form::RM | form::MR | form::MI);
    let direct = s.form == form::I && surely_canonical(op.imm);
    let to = matches!(s.form, form::R | form::M) && s.size == 8;
    Some(match i.mnemonic() {
        N::Mov if two => What::Mov,
        N::Movzx | N::Movsx | N::Movsxd if s.size >= 4 && matches!(s.form, form::RR | form::RM) => {
            let from = if s.form == form::RR { i.op1_register().size() as u8 } else { op.msize };
            if !matches!(from, 1 | 2 | 4) {
                return None;
            }
            What::Extend { from, signed: i.mnemonic() != N::Movzx }
        }
        N::Lea if s.size >= 4 => What::Lea,
        N::Push if s.form == form::R && s.size == 8 => What::Push,
        N::Pop if s.form == form::R && s.size == 8 => What::Pop,
        N::Add if two => What::Binary(Alu::Add),
        N::Or if two => What::Binary(Alu::Or),
        N::And if two => What::Binary(Alu::And),
        N::Sub if two => What::Binary(Alu::Sub),
        N::Xor if two => What::Binary(Alu::Xor),
        N::Cmp if two => What::Binary(Alu::Cmp),
        N::Test if two => What::Test,
        N::Inc if s.form == form::R => What::Inc,
        N::Dec if s.form == form::R => What::Dec,
        N::Neg if s.form == form::R => What::Neg,
        N::Not if s.form == form::R => What::Not,
        N::Shl | N::Sal if s.form == form::RI && s.size >= 4 => What::Shift(SHL),
        N::Shr if s.form == form::RI && s.size >= 4 => What::Shift(SHR),
        N::Sar if s.form == form::RI && s.size >= 4 => What::Shift(SAR),
        N::Jmp if direct && i.is_jmp_short_or_near() => What::Jmp,
        N::Jmp if to && !i.is_jmp_far_indirect() => What::JmpTo,
        N::Call if direct && i.is_call_near() && s.operand_size == 8 => What::Call,
        N::Call if to && !i.is_call_far_indirect() => What::CallTo,
        _ => return conditional(i, s, direct),
    })
}

fn conditional(i: &Instruction, s: &Shape, direct: bool) -> Option<What> {
    match (condition_of(i)?, s.form) {
        ((ConditionUse::Set, cc), form::R) => Some(What::Set(cc)),
        ((ConditionUse::Move, cc), form::RR) if s.size >= 4 => Some(What::Cmov(cc)),
        ((ConditionUse::Other, cc), _) if direct && i.is_jcc_short_or_near() => Some(What::Jcc(cc)),
        _ => None,
    }
}
