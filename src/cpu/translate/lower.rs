//! A block's ops as host code: instruction by instruction, and how the block begins, ends and is left.
//!
//! Guest registers stay in [`Cpu`](crate::cpu::Cpu); host registers hold values only within an instruction, and from a
//! comparison to the conditional instruction right behind it (`places.rs` says which). Memory is reached through the TLB as
//! `tlb.rs` does it (`operands.rs`); what that does not know, and every instruction without a plan, is done by the
//! instruction's handler, called by [`Lower::call_handler`]. So no fault, device or page of decoded code is ever seen
//! here.

use super::BlockToBe;
use super::emit::*;
use super::links::{CODE, LINK_BITS, Links, STAMP, TABLE, TARGET};
use super::places::*;
use super::plan::{Plan, What};
use super::status::{Compared, visible};
use crate::cpu::decode::form;
use crate::cpu::op::Op;
use crate::cpu::state::gpr;

/// How a block ends.
#[derive(Clone, Copy)]
enum End {
    /// At its last instruction's end, or at a target that is known.
    To(u64),
    /// Where the host register [`TO`] says.
    Indirect,
    /// RIP is set; a handler has done the last instruction, and may have changed anything.
    Handled,
}

/// Where in code memory the code is that all blocks use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ways {
    /// Calls an op's handler; does not come back if that stops.
    pub handler: usize,
    /// Out, for a link that does not know its block.
    pub missed: usize,
    /// Out, to a link's target.
    pub out: usize,
    /// Out, to where [`TO`] says.
    pub out_to: usize,
}

/// Where a handler that took over goes on.
enum Resume {
    /// Behind the instruction.
    Behind(Label),
    /// At the conditional branch behind the instruction: its condition, where it leads, and what is behind it.
    Decide(u8, Label, Label),
    /// Nowhere: it was a branch, and has set RIP.
    Nowhere,
}

/// One block on its way to host code.
pub(super) struct Lower<'a, M> {
    pub(super) e: &'a mut Emitter,
    links: &'a mut Links,
    ways: Ways,
    /// Where the block's code begins in code memory.
    start: u32,
    /// Instructions in the block.
    count: i8,
    end: End,
    /// Where handlers take over, for which op, and where they go on.
    slow: Vec<(Label, &'a Op<M>, Resume)>,
    /// Branches taken: where, and the target.
    taken: Vec<(Label, u64)>,
    /// Where the handler of the instruction in work takes over.
    takes_over: Option<Label>,
    /// Behind the conditional branch that comes next.
    behind: Option<Label>,
}

/// Writes the code of a block, to be put `start` bytes from the start of code memory.
pub(super) fn block<M>(e: &mut Emitter, b: &BlockToBe<'_, M>, links: &mut Links, ways: Ways, start: u32) {
    let BlockToBe { ops, plans, .. } = *b;
    let mut l = Lower {
        e,
        links,
        ways,
        start,
        count: ops.len() as i8,
        end: End::To(b.end),
        slow: Vec::new(),
        taken: Vec::new(),
        takes_over: None,
        behind: None,
    };
    l.begin(b);
    let visible = visible(plans);
    let mut compared = Compared::Nothing;
    for (n, (op, plan)) in ops.iter().zip(plans).enumerate() {
        if plan.what == What::Handler && n + 1 == ops.len() {
            l.end = End::Handled;
        }
        let now = l.instruction(op, *plan, visible[n], compared);
        compared = now;
        let Some(slow) = l.takes_over.take() else { continue };
        // A handler leaves nothing in registers, so a branch on its comparison looks at the flags instead.
        let resume = match plans.get(n + 1).map(|next| next.what) {
            None if plan.is_branch() => Resume::Nowhere,
            Some(What::Jcc(cc)) if now != Compared::Nothing => {
                let (taken, behind) = (l.taken(ops[n + 1].imm), l.e.label());
                l.behind = Some(behind);
                Resume::Decide(cc, taken, behind)
            }
            _ => {
                compared = Compared::Nothing;
                let behind = l.e.label();
                l.e.bind(behind);
                Resume::Behind(behind)
            }
        };
        l.slow.push((slow, op, resume));
    }
    l.finish();
}

impl<'a, M> Lower<'a, M> {
    /// Writes one instruction; says what is left in registers.
    fn instruction(&mut self, op: &'a Op<M>, plan: Plan, visible: bool, compared: Compared) -> Compared {
        let size = plan.size;
        match plan.what {
            What::Handler => self.call_handler(op),
            What::Nop => {}
            What::Mov => self.mov(op, plan),
            What::Extend { from, signed } => {
                if plan.form == form::RR {
                    self.e.load(from, A, guest(op.r[1]));
                } else {
                    self.load_operand(op, from, A);
                }
                self.e.extend(size, A, A, from, signed);
                self.e.store(8, guest(op.r[0]), A);
            }
            What::Lea => {
                self.address(op, false);
                if size == 4 {
                    self.e.mov(4, RAX, RAX);
                }
                self.e.store(8, guest(op.r[0]), RAX);
            }
            What::Push => {
                self.e.load(8, A, guest(op.r[0]));
                self.push();
            }
            What::Pop => {
                self.top_of_stack();
                self.e.store(8, guest(gpr::RSP as u8), R);
                self.e.store(8, guest(op.r[0]), A);
            }
            What::Binary(alu) => return self.binary(op, plan, Some(alu), visible),
            What::Test => return self.binary(op, plan, None, visible),
            What::Inc | What::Dec => self.step(op, plan, visible),
            What::Neg => {
                self.e.load(size, B, guest(op.r[0]));
                self.e.constant(A, 0);
                self.e.mov(8, R, B);
                self.e.neg(size, R);
                self.set(op.r[0], size, R);
                if visible {
                    self.carries(Alu::Sub);
                    self.store_carries(size);
                    self.store_result(size);
                }
            }
            What::Not => {
                self.e.load(size, A, guest(op.r[0]));
                self.e.not(A);
                if size == 4 {
                    self.e.mov(4, A, A);
                }
                self.set(op.r[0], size, A);
            }
            What::Shift(kind) => self.shift(op, plan, kind, visible),
            What::Set(cc) => {
                let host = self.condition(cc, compared);
                self.e.set(host, RAX);
                self.e.store(1, guest(op.r[0]), RAX);
            }
            What::Cmov(cc) => {
                let host = self.condition(cc, compared);
                // Of these, MOV leaves the host's flags alone.
                self.e.load(size, RAX, guest(op.r[0]));
                let no = self.e.label();
                self.e.jump_if(host ^ 1, no);
                self.e.load(size, RAX, guest(op.r[1]));
                self.e.bind(no);
                self.e.store(8, guest(op.r[0]), RAX);
            }
            What::Jcc(cc) => {
                let host = self.condition(cc, compared);
                let taken = self.taken(op.imm);
                self.e.jump_if(host, taken);
                if let Some(behind) = self.behind.take() {
                    self.e.bind(behind);
                }
            }
            What::Jmp => self.end = End::To(op.imm),
            What::JmpTo => {
                self.target(op, plan);
                self.end = End::Indirect;
            }
            What::Call => {
                self.e.load(8, A, RIP);
                self.push();
                self.end = End::To(op.imm);
            }
            What::CallTo => {
                self.target(op, plan);
                self.e.load(8, A, RIP);
                self.push();
                self.end = End::Indirect;
            }
            What::Ret => {
                self.top_of_stack();
                self.e.mov(8, B, A);
                self.canonical();
                self.e.lea(R, at(R, op.imm as i32));
                self.e.store(8, guest(gpr::RSP as u8), R);
                self.end = End::Indirect;
            }
        }
        Compared::Nothing
    }

    /// Ends the block's code, and writes what is off its way.
    fn finish(&mut self) {
        self.leave(self.end);
        for (label, op, resume) in std::mem::take(&mut self.slow) {
            self.e.bind(label);
            self.call_handler(op);
            match resume {
                Resume::Behind(behind) => self.e.jump(behind),
                Resume::Nowhere => self.leave(End::Handled),
                Resume::Decide(cc, taken, behind) => {
                    let host = self.condition(cc, Compared::Nothing);
                    self.e.jump_if(host, taken);
                    self.e.jump(behind);
                }
            }
        }
        for (label, target) in std::mem::take(&mut self.taken) {
            self.e.bind(label);
            self.leave(End::To(target));
        }
        self.e.finish();
    }

    /// Says which block runs.
    fn begin(&mut self, b: &BlockToBe<'_, M>) {
        self.set_field(START, b.rip);
        self.set_field(RIP, b.end);
        self.e.store_constant(4, FIRST, b.first as i32);
    }

    fn set_field(&mut self, field: Mem, v: u64) {
        match i32::try_from(v as i64) {
            Ok(short) => self.e.store_constant(8, field, short),
            Err(_) => {
                self.e.constant(RAX, v);
                self.e.store(8, field, RAX);
            }
        }
    }

    /// The block is over: goes on with the next one, or returns to whoever ran the block.
    fn leave(&mut self, end: End) {
        let (missed, out, link) = match end {
            End::To(target) => {
                let link = self.links.add(target);
                self.e.constant(LINK, link);
                (self.ways.missed, self.ways.out, true)
            }
            End::Indirect => (self.ways.out_to, self.ways.out_to, true),
            End::Handled => (0, 0, false),
        };
        self.e.subtract_from(TICKS, self.count);
        if !link {
            self.e.alu(4, Alu::Xor, RAX, RAX);
            return self.e.ret();
        }
        let (missed, out) = (missed as i64 - i64::from(self.start), out as i64 - i64::from(self.start));
        let e = &mut self.e;
        e.jump_far_if(LESS_OR_EQUAL, out);
        e.load(8, RAX, BELL);
        e.cmp_zero_byte(at(RAX, 0));
        e.jump_far_if(NOT_EQUAL, out);
        // The stamp, as `Interpreter::stamp` makes it.
        e.load(8, RAX, CHANGES);
        e.load(8, RAX, at(RAX, 0));
        e.alu_load(Alu::Add, RAX, VERSION);
        e.shift(8, SHL, RAX, 4);
        e.load(4, RCX, MODE);
        e.alu(8, Alu::Or, RAX, RCX);
        if matches!(end, End::Indirect) {
            e.mov(4, LINK, TO);
            e.alu_constant(4, Alu::And, LINK, TABLE as i32 - 1);
            e.shift(4, SHL, LINK, LINK_BITS);
            e.constant(RCX, self.links.table());
            e.alu(8, Alu::Add, LINK, RCX);
            e.alu_load(Alu::Cmp, TO, at(LINK, TARGET));
            e.jump_far_if(NOT_EQUAL, missed);
        }
        e.alu_load(Alu::Cmp, RAX, at(LINK, STAMP));
        e.jump_far_if(NOT_EQUAL, missed);
        e.jump_memory(at(LINK, CODE));
    }

    fn taken(&mut self, target: u64) -> Label {
        let label = self.e.label();
        self.taken.push((label, target));
        label
    }

    /// Has the op's handler do it; comes back only if that succeeds.
    fn call_handler(&mut self, op: &Op<M>) {
        self.e.constant(RDX, std::ptr::from_ref(op) as u64);
        self.e.call_far(self.ways.handler as i64 - i64::from(self.start));
    }

    /// Where the handler of the instruction in work takes over.
    pub(super) fn slow(&mut self) -> Label {
        let e = &mut self.e;
        *self.takes_over.get_or_insert_with(|| e.label())
    }
}
