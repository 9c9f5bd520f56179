//! Threaded code: how the ops of a block follow one another.
//!
//! Each op's [`Code`] does its work and then calls the code of the op behind it, as the last thing it does; in a
//! release build that is a jump, so that a block runs without coming back to a loop, and the host predicts each
//! op's successor by itself. The last op of every run of ops is [`end`]. Where a build makes a call of it, the depth
//! is bounded by the length of a block.
//!
//! Made by `decode.rs`, stored by `blocks.rs`, started by `run.rs`; the hot instructions bring code of their own
//! (`exec/fast`), all others run their [`super::op::Handler`] by [`plain`]. Never looks into an instruction.
#![expect(unsafe_code, reason = "an op's successor is found by its address")]

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::Cpu;
use super::exceptions::Flow;
use super::machine::Machine;
use super::op::Op;

/// Runs the op at the cursor and all behind it. On a stop `Cpu::stopped` says which op it was.
pub type Code<M> = for<'a> fn(&mut Cpu, &mut M, Cursor<'a, M>) -> Flow;

/// A place in a run of ops, which ends with [`end`].
pub struct Cursor<'a, M> {
    at: NonNull<Op<M>>,
    ops: PhantomData<&'a [Op<M>]>,
}

impl<M> Clone for Cursor<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Cursor<'_, M> {}

impl<'a, M: Machine> Cursor<'a, M> {
    /// The op here.
    #[inline(always)]
    pub fn op(self) -> &'a Op<M> {
        // SAFETY: a cursor points to an op of a slice that is borrowed for 'a.
        unsafe { self.at.as_ref() }
    }

    /// Runs the op here and what follows.
    #[inline(always)]
    pub fn run(self, c: &mut Cpu, m: &mut M) -> Flow {
        (self.op().code)(c, m, self)
    }

    /// The op here is complete: goes on with the next one.
    #[inline(always)]
    pub(super) fn done(self, c: &mut Cpu, m: &mut M) -> Flow {
        // SAFETY: every op but the last of a run has one behind it, and the last is `end`, whose code is private to
        // this module and does not call this.
        let next = Cursor { at: unsafe { self.at.add(1) }, ops: self.ops };
        next.run(c, m)
    }
}

/// The code of an op that has no faster one: calls its handler. Never inlined, so that faster code that falls back to it
/// has nothing to save.
#[inline(never)]
pub(super) fn plain<M: Machine>(c: &mut Cpu, m: &mut M, at: Cursor<'_, M>) -> Flow {
    let op = at.op();
    match (op.f)(c, m, op) {
        Ok(()) => at.done(c, m),
        Err(stop) => {
            c.stopped = op.offset;
            Err(stop)
        }
    }
}

/// The code of the op that ends a run.
fn end<M: Machine>(_: &mut Cpu, _: &mut M, _: Cursor<'_, M>) -> Flow {
    Ok(())
}

/// Runs of ops, one behind the other.
#[derive(Debug)]
pub(super) struct Arena<M> {
    /// Empty, or an op whose code is `end` is the last.
    ops: Vec<Op<M>>,
}

impl<M: Machine> Arena<M> {
    pub fn with_capacity(ops: usize) -> Self {
        Arena { ops: Vec::with_capacity(ops) }
    }

    /// Ops held, ends included.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn clear(&mut self) {
        self.ops.clear();
    }

    /// Adds a run; gives its first op's number.
    ///
    /// # Panics
    /// When there is no room: ops never move, since host code has their addresses.
    pub fn add(&mut self, run: &[Op<M>]) -> u32 {
        assert!(self.ops.capacity() - self.ops.len() > run.len(), "more ops than there is room for");
        let first = self.ops.len() as u32;
        self.ops.extend_from_slice(run);
        self.ops.push(Op::with_code(end));
        first
    }

    /// The run that begins with op number `first`, as [`Self::add`] gave it.
    #[inline(always)]
    pub fn cursor(&self, first: u32) -> Cursor<'_, M> {
        // From here to the end of all runs, so that the pointer may go from op to op.
        let ops = &self.ops[first as usize..];
        assert!(!ops.is_empty(), "no such run");
        Cursor { at: NonNull::from(ops).cast(), ops: PhantomData }
    }

    /// `count` ops of the run that begins with op number `first`.
    pub fn run(&self, first: u32, count: usize) -> &[Op<M>] {
        &self.ops[first as usize..][..count]
    }

    /// Says that the run that begins with op number `first` may be run soon; any number will do.
    #[inline(always)]
    pub fn prefetch(&self, first: u32) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = self.ops.as_ptr().wrapping_add(first as usize);
        // SAFETY: a hint: the processor ignores addresses that it cannot read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    /// The op at `offset` bytes of the run that begins with op number `first`, and its place in the run.
    pub fn find(&self, first: u32, offset: u16) -> (usize, Op<M>) {
        let run = self.ops[first as usize..].iter();
        // Ascending offsets, the first of them zero.
        let at = run.take_while(|op| op.offset < offset).count();
        (at, self.ops[first as usize + at])
    }
}
