//! Blocks that run often, as host code: a template for each instruction, no optimisation across them but for flags.
//!
//! ```text
//! plan.rs     what is known of an instruction       lower.rs    a block's ops -> host code
//! operands.rs memory, through the TLB               status.rs   arithmetic, flags, conditions
//! emit.rs     host instructions as bytes            places.rs   host registers, fields of the processor
//! memory.rs   where code is put (unsafe)            links.rs    from one block's code to the next
//! ```
//!
//! Called by `blocks.rs`, which owns the ops and forgets host code together with them. A block as host code does what
//! its ops do, handlers included, so whatever holds for ops (when a block may run, what stops it, how a stop is told)
//! holds for it; `src/cpu/tests_fast.rs` compares the two. A host that does not let a process make code has none of
//! this, and is slower.
#![expect(unsafe_code, reason = "host code is called, and calls back, by address")]

mod emit;
mod links;
mod lower;
mod memory;
mod operands;
mod places;
mod plan;
mod status;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{offset_of, take};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;

use super::Cpu;
use super::exceptions::{Flow, Stop};
use super::machine::Machine;
use super::op::Op;
use super::tlb::layout::ENTRIES;
use emit::*;
use links::{Links, NUMBER, TARGET};
use lower::Ways;
use memory::CodeMemory;
use places::{ENTRIES as TLB, LINK, MISSED, RIP, TO};
pub(super) use plan::Plan;

/// Whatever stops a block, by the number that host code returns less one.
const STOPS: [Stop; 8] = [
    Stop::Fault,
    Stop::Trap,
    Stop::Interrupt,
    Stop::Halt,
    Stop::Pause,
    Stop::Again,
    Stop::Careful,
    Stop::Unsupported,
];

/// A block's host code, by its distance from the start of code memory; never zero, which is [`Translator::enter`].
pub(super) type NativeCode = u32;

/// What host code and whoever runs it tell each other.
#[derive(Debug)]
pub(super) struct Running {
    /// Instructions that may still be executed before host code comes back; below one it does so after a block.
    pub ticks: i64,
    /// The first op of the block that runs, as `blocks.rs` counts them.
    pub first: u32,
    /// The link that did not know its block; 0 for none.
    missed: u32,
    /// What a handler panicked with.
    panic: Option<Box<dyn Any + Send>>,
    /// See [`Machine::bell`].
    bell: *const AtomicBool,
    /// The count of changes to pages with decoded code.
    changes: *const u64,
}

// SAFETY: the pointers are set anew for each run, and used during it only.
unsafe impl Send for Running {}

impl Default for Running {
    fn default() -> Self {
        let (bell, changes) = (std::ptr::null(), std::ptr::null());
        Running { ticks: 0, first: 0, missed: 0, panic: None, bell, changes }
    }
}

/// Makes and runs host code.
pub(super) struct Translator<M> {
    memory: CodeMemory,
    links: Links,
    emitter: Emitter,
    /// Code that all blocks use.
    ways: Ways,
    /// There was no room for a block.
    full: bool,
    machine: PhantomData<fn(&mut M)>,
}

impl<M> fmt::Debug for Translator<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translator").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// Host code's way to an op's handler: zero, or one more than the number of what stopped it.
///
/// # Safety
/// The pointers are those that [`Translator::run`] was given, and an op of the block that runs.
unsafe extern "sysv64" fn run_handler<M: Machine>(c: *mut Cpu, m: *mut M, op: *const Op<M>) -> u32 {
    // SAFETY: host code passes on what `Translator::run` borrows, and uses none of it meanwhile.
    let (c, m, op) = unsafe { (&mut *c, &mut *m, &*op) };
    // A panic cannot pass host code, which has no tables to unwind it by.
    match catch_unwind(AssertUnwindSafe(|| (op.f)(c, m, op))) {
        Ok(Ok(())) => 0,
        Ok(Err(stop)) => {
            c.stopped = op.offset;
            1 + STOPS.iter().position(|&s| s == stop).unwrap_or(0) as u32
        }
        Err(panic) => {
            c.native.panic = Some(panic);
            1 + STOPS.len() as u32
        }
    }
}

/// A block that is to become host code.
pub(super) struct BlockToBe<'a, M> {
    pub ops: &'a [Op<M>],
    /// One for each op.
    pub plans: &'a [Plan],
    /// The number of the first op.
    pub first: u32,
    /// Where it begins, and what is behind it.
    pub rip: u64,
    pub end: u64,
}

impl<M: Machine> Translator<M> {
    /// `None` on hosts that do not let this process make code.
    pub fn new() -> Option<Self> {
        let mut translator = Translator {
            memory: CodeMemory::new()?,
            links: Links::new(),
            emitter: Emitter::default(),
            ways: Ways::default(),
            full: false,
            machine: PhantomData,
        };
        translator.prepare().then_some(translator)
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.links.clear();
        // What there was room for once there is room for again, unless the host refuses.
        self.full = !self.prepare();
    }

    /// Whether all blocks should be forgotten, to make room.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether no host code may run any more, that of other blocks included: the host has taken a right back.
    pub fn is_lost(&self) -> bool {
        self.memory.is_lost()
    }

    /// For tests: from now on the host refuses to make memory executable.
    #[cfg(test)]
    pub fn refuse(&mut self) {
        self.memory.permits.set(0);
    }

    /// Writes what all blocks use: the way in, at the start, the way to handlers, the ways out.
    fn prepare(&mut self) -> bool {
        let e = &mut self.emitter;
        e.clear();
        // Called as a function of (cpu, machine, code). Blocks find RSP at a multiple of 16.
        for r in [RBX, RBP, R12, R12] {
            e.push(r);
        }
        e.mov(8, RBX, RDI);
        e.mov(8, RBP, RSI);
        e.load(8, TLB, at(RBX, (offset_of!(Cpu, tlb) + ENTRIES) as i32));
        e.call_register(RDX);
        for r in [R12, R12, RBP, RBX] {
            e.pop(r);
        }
        e.ret();
        let handler = e.code.len();
        let stop = e.label();
        e.mov(8, RDI, RBX);
        e.mov(8, RSI, RBP);
        e.alu_constant(8, Alu::Sub, RSP, 8);
        e.constant(RAX, run_handler::<M> as *const () as u64);
        e.call_register(RAX);
        e.alu_constant(8, Alu::Add, RSP, 8);
        e.test(4, RAX, RAX);
        e.jump_if(5, stop);
        e.ret();
        // Not to the block but to whoever ran it.
        e.bind(stop);
        e.alu_constant(8, Alu::Add, RSP, 8);
        e.ret();
        let missed = e.code.len();
        e.load(4, RAX, at(LINK, NUMBER));
        e.store(4, MISSED, RAX);
        let out = e.code.len();
        e.load(8, TO, at(LINK, TARGET));
        let out_to = e.code.len();
        e.store(8, RIP, TO);
        e.alu(4, Alu::Xor, RAX, RAX);
        e.ret();
        e.finish();
        self.ways = Ways { handler, missed, out, out_to };
        self.memory.next().1 == 0 && self.memory.add(&e.code)
    }

    /// Makes host code of a block. `None` when there is no room.
    ///
    /// The ops stay where they are, unchanged, until [`Self::clear`]: host code has their addresses.
    pub fn translate(&mut self, block: &BlockToBe<'_, M>) -> Option<NativeCode> {
        self.full |= !self.links.has_room(2 * block.ops.len());
        if self.full {
            return None;
        }
        let start = self.memory.next().1;
        self.emitter.clear();
        lower::block(&mut self.emitter, block, &mut self.links, self.ways, start);
        self.full = !self.memory.add(&self.emitter.code);
        (!self.full).then_some(start)
    }

    /// The block at `rip` is right under `stamp`: host code that comes that way need not ask again.
    #[inline(always)]
    pub fn found(&mut self, c: &mut Cpu, rip: u64, stamp: u64, code: NativeCode) {
        self.links.found(take(&mut c.native.missed), rip, stamp, self.memory.address(code) as u64);
    }

    /// Runs a block's host code, and that of the blocks behind it as long as `ticks`, the bell and the stamps allow.
    ///
    /// # Safety
    /// `code` was made by [`Self::translate`] since the last [`Self::clear`], and all ops since are where they were.
    #[inline(always)]
    pub unsafe fn run(&self, code: NativeCode, c: &mut Cpu, m: &mut M, ticks: i64) -> Flow {
        c.native.ticks = ticks;
        c.native.bell = m.bell();
        c.native.changes = c.code.changes_at();
        type Enter<M> = unsafe extern "sysv64" fn(*mut Cpu, *mut M, *const u8) -> u32;
        // SAFETY: `prepare` has put a function of this type there.
        let enter: Enter<M> = unsafe { std::mem::transmute(self.memory.address(0)) };
        // SAFETY: the caller vouches for the code; it reaches guest memory through live TLB entries only, as the TLB's
        // own fast paths do, and everything else through `c` and `m`, which are borrowed for the call.
        match unsafe { enter(c, m, self.memory.address(code)) } {
            0 => Ok(()),
            n => match c.native.panic.take() {
                Some(panic) => resume_unwind(panic),
                None => Err(STOPS[(n as usize - 1) % STOPS.len()]),
            },
        }
    }
}
