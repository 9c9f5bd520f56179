//! Operands in memory, on the stack, and where branches lead; MOV.

use std::mem::{offset_of, size_of};

use super::emit::*;
use super::lower::Lower;
use super::places::*;
use super::plan::Plan;
use crate::cpu::decode::form;
use crate::cpu::op::{Op, mf};
use crate::cpu::state::{Segment, gpr};
use crate::cpu::tlb::layout::{ENTRY_SIZE, PAGE, READ, WAYS, WRITE};

/// An access by the TLB.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}
impl<M> Lower<'_, M> {
    /// The linear address of the memory operand, in RAX.
    pub(super) fn address(&mut self, op: &Op<M>, segment: bool) {
        let short = i32::try_from(op.disp as i64);
        let disp = short.unwrap_or(0);
        let based = op.base_mask != 0;
        if based {
            self.e.load(8, RAX, guest(op.base));
        }
        if op.scale != 0 {
            self.e.load(8, RCX, guest(op.index));
            if !based {
                self.e.constant(RAX, 0);
            }
            self.e.lea(RAX, indexed(RAX, RCX, op.scale, disp));
        } else if based {
            if disp != 0 {
                self.e.lea(RAX, at(RAX, disp));
            }
        } else {
            self.e.constant(RAX, op.disp);
        }
        if short.is_err() && (based || op.scale != 0) {
            self.e.constant(RCX, op.disp);
            self.e.alu(8, Alu::Add, RAX, RCX);
        }
        if segment && op.mf & mf::SEG_BASE != 0 {
            let base = SEGMENTS + usize::from(op.seg % 6) * size_of::<Segment>() + offset_of!(Segment, base);
            self.e.alu_load(Alu::Add, RAX, field(base));
        }
    }

    /// Finds the page of `size` bytes at the linear address in RAX: RDX is the page, RAX the offset in it. The handler
    /// takes over when the TLB does not know it.
    pub(super) fn look_up(&mut self, size: u8, access: Access) {
        let slow = self.slow();
        let e = &mut self.e;
        // By the last byte's page, as in `Cpu::try_load`.
        e.lea(RCX, at(RAX, i32::from(size) - 1));
        e.alu_constant(8, Alu::And, RCX, -4096);
        e.alu_load(Alu::Or, RCX, TAG_EPOCH);
        e.mov(4, RDX, RAX);
        e.shift(4, SHR, RDX, 12);
        e.alu_constant(4, Alu::And, RDX, WAYS as i32 - 1);
        e.alu_load(Alu::Or, RDX, QUICK);
        const { assert!(ENTRY_SIZE == 40) };
        e.lea(RDX, indexed(RDX, RDX, 4, 0));
        e.lea(RDX, indexed(ENTRIES, RDX, 8, 0));
        let tag = if access == Access::Read { READ } else { WRITE };
        e.alu_load(Alu::Cmp, RCX, at(RDX, tag as i32));
        e.jump_if(NOT_EQUAL, slow);
        e.load(8, RDX, at(RDX, PAGE as i32));
        e.alu_constant(4, Alu::And, RAX, 4095);
    }

    pub(super) fn load_operand(&mut self, op: &Op<M>, size: u8, to: Reg) {
        self.address(op, true);
        self.look_up(size, Access::Read);
        self.e.load(size, to, indexed(RDX, RAX, 1, 0));
    }

    /// Stores a whole register, or its low 1 or 2 bytes.
    pub(super) fn set(&mut self, r: u8, size: u8, from: Reg) {
        // An operation on 4 bytes has cleared the upper half.
        self.e.store(if size < 4 { size } else { 8 }, guest(r), from);
    }

    pub(super) fn immediate(&mut self, op: &Op<M>, size: u8, to: Reg) {
        self.e.constant(to, if size == 8 { op.imm } else { op.imm & ((1 << (8 * size)) - 1) });
    }

    pub(super) fn mov(&mut self, op: &Op<M>, plan: Plan) {
        let size = plan.size;
        match plan.form {
            form::RR => self.e.load(size, A, guest(op.r[1])),
            form::RM => self.load_operand(op, size, A),
            form::MR => self.e.load(size, A, guest(op.r[1])),
            _ => self.immediate(op, size, A),
        }
        if matches!(plan.form, form::MR | form::MI) {
            self.address(op, true);
            self.look_up(size, Access::Write);
            self.e.store(size, indexed(RDX, RAX, 1, 0), A);
        } else {
            self.set(op.r[0], size, A);
        }
    }

    /// Pushes A.
    pub(super) fn push(&mut self) {
        self.e.load(8, RAX, guest(gpr::RSP as u8));
        self.e.lea(RAX, at(RAX, -8));
        self.e.mov(8, R, RAX);
        self.look_up(8, Access::Write);
        self.e.store(8, indexed(RDX, RAX, 1, 0), A);
        self.e.store(8, guest(gpr::RSP as u8), R);
    }

    /// Loads A from the top of the stack; R is the stack pointer without it.
    pub(super) fn top_of_stack(&mut self) {
        self.e.load(8, RAX, guest(gpr::RSP as u8));
        self.e.lea(R, at(RAX, 8));
        self.look_up(8, Access::Read);
        self.e.load(8, A, indexed(RDX, RAX, 1, 0));
    }

    /// Loads the target of an indirect branch into B.
    pub(super) fn target(&mut self, op: &Op<M>, plan: Plan) {
        if plan.form == form::R {
            self.e.load(8, B, guest(op.r[0]));
        } else {
            self.load_operand(op, 8, B);
        }
        self.canonical();
    }

    /// The handler takes over unless B is surely canonical.
    pub(super) fn canonical(&mut self) {
        let slow = self.slow();
        self.e.mov(8, RCX, B);
        self.e.shift(8, SHL, RCX, 16);
        self.e.shift(8, SAR, RCX, 16);
        self.e.alu(8, Alu::Cmp, RCX, B);
        self.e.jump_if(NOT_EQUAL, slow);
    }
}
