//! Arithmetic, and its status flags: stored as `flags.rs` has them, but for those that nobody can see; and conditions.

use super::emit::*;
use super::lower::Lower;
use super::operands::Access;
use super::places::*;
use super::plan::{Plan, What};
use crate::cpu::decode::form;
use crate::cpu::op::Op;

/// What the host registers A, B and R still hold of the instruction before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Nothing,
    /// CMP and SUB of A and B.
    Difference(u8),
    /// R, without carries: AND, OR, XOR, TEST.
    Result(u8),
}

/// Which instructions' status flags somebody may see: another instruction, or whoever is called when one stops, or
/// what comes behind the block.
pub(super) fn visible(plans: &[Plan]) -> Vec<bool> {
    let mut seen = true;
    let mut all: Vec<bool> = plans
        .iter()
        .rev()
        .map(|plan| {
            let here = seen;
            if plan.may_stop() || plan.reads_flags() {
                seen = true;
            } else if plan.writes_flags() {
                seen = false;
            }
            here
        })
        .collect();
    all.reverse();
    all
}
impl<M> Lower<'_, M> {
    /// A two-operand operation; TEST when there is none.
    pub(super) fn binary(&mut self, op: &Op<M>, plan: Plan, alu: Option<Alu>, visible: bool) -> Compared {
        let size = plan.size;
        let stores = !matches!(alu, Some(Alu::Cmp) | None);
        let in_memory = matches!(plan.form, form::MR | form::MI);
        if in_memory {
            self.address(op, true);
            self.look_up(size, if stores { Access::Write } else { Access::Read });
            self.e.load(size, A, indexed(RDX, RAX, 1, 0));
        } else if plan.form == form::RM {
            self.load_operand(op, size, B);
        }
        match plan.form {
            form::RR | form::MR => self.e.load(size, B, guest(op.r[1])),
            form::RI | form::MI => self.immediate(op, size, B),
            _ => {}
        }
        if !in_memory {
            self.e.load(size, A, guest(op.r[0]));
        }
        let wide = size.max(4);
        self.e.mov(wide, R, A);
        match alu.unwrap_or(Alu::And) {
            Alu::Cmp => self.e.alu(wide, Alu::Sub, R, B),
            alu => self.e.alu(wide, alu, R, B),
        }
        if stores && in_memory {
            self.e.store(size, indexed(RDX, RAX, 1, 0), R);
        } else if stores {
            self.set(op.r[0], size, R);
        }
        let arithmetic = matches!(alu, Some(Alu::Add | Alu::Sub | Alu::Cmp));
        if visible {
            if arithmetic {
                self.carries(if alu == Some(Alu::Add) { Alu::Add } else { Alu::Sub });
                self.store_carries(size);
            } else {
                self.e.store_constant(8, AUX, 0);
            }
            self.store_result(size);
        }
        match alu {
            Some(Alu::Add) => Compared::Nothing,
            Some(Alu::Sub | Alu::Cmp) => Compared::Difference(size),
            _ => Compared::Result(size),
        }
    }

    /// The carries of `A alu B = R` out of each bit, in RAX (`Flags::add`, `Flags::sub`).
    pub(super) fn carries(&mut self, alu: Alu) {
        let e = &mut self.e;
        e.mov(8, RAX, A);
        if alu == Alu::Add {
            e.alu(8, Alu::Or, RAX, B);
            e.mov(8, RCX, R);
            e.not(RCX);
            e.alu(8, Alu::And, RAX, RCX);
            e.mov(8, RCX, A);
        } else {
            e.not(RAX);
            e.mov(8, RCX, RAX);
            e.alu(8, Alu::Or, RAX, B);
            e.alu(8, Alu::And, RAX, R);
        }
        e.alu(8, Alu::And, RCX, B);
        e.alu(8, Alu::Or, RAX, RCX);
    }

    /// Brings the top two carries of RAX to the top, AF to RCX; nothing else is left.
    pub(super) fn pick_carries(&mut self, size: u8) {
        let e = &mut self.e;
        e.mov(4, RCX, RAX);
        e.alu_constant(4, Alu::And, RCX, 8);
        if size != 8 {
            e.shift(8, SHL, RAX, 64 - 8 * size);
        }
        e.shift(8, SHR, RAX, 62);
        e.shift(8, SHL, RAX, 62);
    }

    pub(super) fn store_carries(&mut self, size: u8) {
        self.pick_carries(size);
        self.e.alu(8, Alu::Or, RAX, RCX);
        self.e.store(8, AUX, RAX);
    }

    /// Stores R, sign-extended.
    pub(super) fn store_result(&mut self, size: u8) {
        if size == 8 {
            self.e.store(8, RES, R);
        } else {
            self.e.extend(8, RCX, R, size, true);
            self.e.store(8, RES, RCX);
        }
    }

    /// INC and DEC, which keep CF.
    pub(super) fn step(&mut self, op: &Op<M>, plan: Plan, visible: bool) {
        let size = plan.size;
        let alu = if plan.what == What::Inc { Alu::Add } else { Alu::Sub };
        self.e.load(size, A, guest(op.r[0]));
        self.e.constant(B, 1);
        self.e.mov(size.max(4), R, A);
        self.e.alu(size.max(4), alu, R, B);
        self.set(op.r[0], size, R);
        if !visible {
            return;
        }
        self.carries(alu);
        self.pick_carries(size);
        let e = &mut self.e;
        // `Flags::keep_cf`: OF is bit 63 xor bit 62; bit 62 becomes the old CF xor OF.
        e.lea(RDX, indexed(RAX, RAX, 1, 0));
        e.alu(8, Alu::Xor, RDX, RAX);
        e.load(8, RAX, AUX);
        e.alu(8, Alu::Xor, RDX, RAX);
        e.shift(8, SHR, RAX, 63);
        e.shift(8, SHL, RAX, 63);
        e.shift(8, SHR, RDX, 63);
        e.shift(8, SHL, RDX, 62);
        e.alu(8, Alu::Or, RAX, RDX);
        e.alu(8, Alu::Or, RAX, RCX);
        e.store(8, AUX, RAX);
        self.store_result(size);
    }

    /// A shift by a constant (`shift::shift`).
    pub(super) fn shift(&mut self, op: &Op<M>, plan: Plan, kind: u8, visible: bool) {
        let size = plan.size;
        let count = op.imm as u8 & if size == 8 { 63 } else { 31 };
        self.e.load(size, A, guest(op.r[0]));
        if count == 0 {
            return self.set(op.r[0], size, A);
        }
        self.e.mov(size, R, A);
        self.e.shift(size, kind, R, count);
        self.set(op.r[0], size, R);
        if !visible {
            return;
        }
        self.store_result(size);
        let bits = 8 * size;
        // CF is the last bit shifted out: to bit 0 of RCX.
        let last = if kind == SHL { bits - count } else { count - 1 };
        let e = &mut self.e;
        e.mov(8, RCX, A);
        e.shift(8, SHL, RCX, 63 - last);
        e.shift(8, SHR, RCX, 63);
        // CF xor OF to bit 0 of RDX: the sign for SHL, CF for SAR, and for SHR OF is the old sign.
        match kind {
            SAR => e.mov(8, RDX, RCX),
            _ => {
                e.mov(8, RDX, if kind == SHL { R } else { A });
                e.shift(8, SHL, RDX, 64 - bits);
                e.shift(8, SHR, RDX, 63);
                if kind == SHR {
                    e.alu(8, Alu::Xor, RDX, RCX);
                }
            }
        }
        e.shift(8, SHL, RCX, 63);
        e.shift(8, SHL, RDX, 62);
        e.alu(8, Alu::Or, RCX, RDX);
        e.store(8, AUX, RCX);
    }

    /// Brings about the host's flags so that the host condition that is returned holds when guest condition `cc` does.
    /// Changes RAX, RCX, RDX.
    pub(super) fn condition(&mut self, cc: u8, compared: Compared) -> u8 {
        let e = &mut self.e;
        match compared {
            Compared::Difference(size) => {
                e.alu(size, Alu::Cmp, A, B);
                return cc;
            }
            Compared::Result(size) => {
                e.test(size, R, R);
                return cc;
            }
            Compared::Nothing => {}
        }
        let inverted = cc & 1;
        match cc >> 1 {
            // OF: bit 63 xor bit 62.
            0 => {
                e.load(8, RAX, AUX);
                e.lea(RCX, indexed(RAX, RAX, 1, 0));
                e.alu(8, Alu::Xor, RAX, RCX);
                SIGN | inverted
            }
            1 => {
                e.cmp_zero(AUX);
                SIGN | inverted
            }
            2 => {
                e.cmp_zero(RES);
                EQUAL | inverted
            }
            3 => {
                e.cmp_zero(AUX);
                e.set(SIGN, RAX);
                self.or_zero(inverted)
            }
            4 => {
                self.sign();
                NOT_EQUAL ^ inverted
            }
            5 => {
                e.load(8, RAX, AUX);
                e.shift(8, SHR, RAX, 8);
                e.load(8, RCX, RES);
                e.alu(8, Alu::Xor, RAX, RCX);
                e.test(1, RAX, RAX);
                PARITY | inverted
            }
            6 => {
                self.less();
                NOT_EQUAL ^ inverted
            }
            _ => {
                self.less();
                self.or_zero(inverted)
            }
        }
    }

    /// SF in RAX, and not zero in the host's flags.
    pub(super) fn sign(&mut self) {
        self.e.load(8, RAX, RES);
        self.e.shift(8, SHR, RAX, 63);
        self.e.alu_load(Alu::Xor, RAX, AUX);
        self.e.alu_constant(4, Alu::And, RAX, 1);
    }

    /// SF xor OF in RAX, and not zero in the host's flags.
    pub(super) fn less(&mut self) {
        self.sign();
        self.e.load(8, RCX, AUX);
        self.e.lea(RDX, indexed(RCX, RCX, 1, 0));
        self.e.alu(8, Alu::Xor, RCX, RDX);
        self.e.shift(8, SHR, RCX, 63);
        self.e.alu(4, Alu::Xor, RAX, RCX);
    }

    /// AL or ZF.
    pub(super) fn or_zero(&mut self, inverted: u8) -> u8 {
        self.e.cmp_zero(RES);
        self.e.set(EQUAL, RCX);
        self.e.alu(1, Alu::Or, RAX, RCX);
        NOT_EQUAL ^ inverted
    }
}
