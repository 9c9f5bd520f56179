//! The cache of decoded blocks: straight runs of instructions, by linear address.
//!
//! A block is found by the link that the block before it keeps, else by RIP in a direct-mapped table. Either way it
//! is looked at before it is taken, so that a link can never lead astray. A block holds while its stamp does: the version of the TLB, the
//! changes to pages with decoded code, and the mode are those under which it was last looked at. When only those
//! moved on, its translation and its page's generation are looked at again and the decoded ops are kept
//! (`run.rs`). Called by `run.rs` only; knows nothing of how ops run.

#![expect(unsafe_code, reason = "a block's host code is run by its address")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU16, Ordering};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as N, OpKind};

use super::Cpu;
use super::cpuid;
use super::decode::lower_planned;
use super::exceptions::Flow;
use super::machine::Machine;
use super::op::Op;
use super::threaded::Arena;
use super::translate::{BlockToBe, NativeCode, Plan, Translator};

/// Instructions per block.
pub(super) const MAX_OPS: usize = 32;
/// Direct-mapped places for blocks.
const PLACES: usize = 1 << 15;
/// Ops kept before all are thrown away.
const ARENA: usize = 1 << 18;
/// How often a block runs before it becomes host code, on processors made from now on. A test changes it
/// ([`super::run::translate_from_first_run`]).
pub(super) static HOT: AtomicU16 = AtomicU16::new(256);

/// What running a block needs to know about it: less than a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block {
    pub rip: u64,
    /// What it depends on besides: see `run.rs`. No block has the stamp 0.
    pub stamp: u64,
    /// Code segment base; zero in 64-bit mode.
    pub base: u64,
    run: Run,
    /// The blocks that last came after it: right behind it, and elsewhere. Hints, to be looked at like a place.
    next: [BlockId; 2],
    /// Their first ops.
    next_ops: [u32; 2],
}

/// A block's instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// RIP behind them.
    pub end: u64,
    /// The number of the first op.
    pub first: u32,
    /// Instructions.
    pub count: u16,
    /// How often it has run, until it became host code.
    heat: u16,
    /// Its host code; zero for none.
    native: NativeCode,
}

/// Where a block was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub physical: u64,
    /// Generation of the page then.
    pub generation: u32,
    /// Code size and privilege, see `run.rs`.
    pub mode: u32,
}

/// A block's number; 0 is that of [`NO_BLOCK`].
pub(super) type BlockId = u32;

const NO_BLOCK: Block = Block { rip: 0, stamp: 0, base: 0, run: NO_RUN, next: [0; 2], next_ops: [0; 2] };
const NO_RUN: Run = Run { end: 0, first: 0, count: 0, heat: 0, native: 0 };
const NO_SOURCE: Source = Source { physical: 0, generation: 0, mode: 0 };

/// What tells two blocks apart: RIP, base, physical address, mode.
type Name = (u64, u64, u64, u32);

/// A hasher for four numbers, cheap and good enough: addresses are not chosen to hurt us alone, and a guest that makes
/// them collide slows down itself.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(b.into()));
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(23) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All decoded blocks.
#[derive(Debug)]
pub(super) struct Blocks<M> {
    /// In the order in which they were decoded, which is about that in which they run: neighbours share pages and
    /// cache lines.
    blocks: Vec<Block>,
    /// Where each came from.
    sources: Vec<Source>,
    /// Direct-mapped, by RIP.
    places: Box<[BlockId]>,
    /// For those that lost their place to another.
    known: HashMap<Name, BlockId, BuildHasherDefault<Mix>>,
    ops: Arena<M>,
    /// How each op is translated; those of [`Self::ops`] that end a run included.
    plans: Vec<Plan>,
    translator: Option<Translator<M>>,
    /// How often a block runs before it becomes host code.
    pub hot: u16,
    /// For decoding.
    run: Vec<Op<M>>,
    /// The block that ran last.
    last: BlockId,
    /// How often host code had to be told where it goes on.
    #[cfg(test)]
    pub looked_up: u64,
    /// How often everything was forgotten.
    #[cfg(test)]
    pub cleared: u64,
}

impl<M: Machine> Blocks<M> {
    pub fn new() -> Self {
        Blocks {
            blocks: vec![NO_BLOCK],
            sources: vec![NO_SOURCE],
            places: vec![0; PLACES].into(),
            known: HashMap::default(),
            ops: Arena::with_capacity(ARENA + MAX_OPS),
            plans: Vec::new(),
            translator: Translator::new(),
            hot: HOT.load(Ordering::Relaxed),
            run: Vec::with_capacity(MAX_OPS),
            last: 0,
            #[cfg(test)]
            looked_up: 0,
            #[cfg(test)]
            cleared: 0,
        }
    }

    /// Nothing decoded holds any more.
    pub fn clear(&mut self) {
        self.blocks.truncate(1);
        self.sources.truncate(1);
        self.places.fill(0);
        self.known.clear();
        self.ops.clear();
        self.plans.clear();
        if let Some(translator) = &mut self.translator {
            translator.clear();
        }
        // The host refuses: ops will do.
        self.translator.take_if(|translator| translator.is_full());
        self.last = 0;
        #[cfg(test)]
        {
            self.cleared += 1;
        }
    }

    /// The block at `rip` that `fits`, by the block that ran last or by its place, and makes it the one that ran last.
    #[inline(always)]
    pub fn follow(&mut self, rip: u64, fits: impl Fn(&Block) -> bool) -> Option<Run> {
        let last = &self.blocks[self.last as usize];
        let id = last.next[usize::from(rip != last.run.end)];
        if fits(&self.blocks[id as usize]) {
            self.last = id;
        } else {
            let id = self.places[place(rip)];
            if !fits(&self.blocks[id as usize]) {
                return None;
            }
            self.link(rip, id);
        }
        let block = &self.blocks[self.last as usize];
        if block.run.native == 0 {
            for first in block.next_ops {
                self.ops.prefetch(first);
            }
        }
        Some(block.run)
    }

    /// The block that ran last is followed by `id`, which runs now.
    fn link(&mut self, rip: u64, id: BlockId) {
        let first = self.blocks[id as usize].run.first;
        let last = &mut self.blocks[self.last as usize];
        let way = usize::from(rip != last.run.end);
        // Nothing follows the block that is none: it stays as it is.
        if self.last != 0 {
            (last.next[way], last.next_ops[way]) = (id, first);
        }
        self.last = id;
    }

    /// Puts a block that was decoded already into its place, with a new stamp, if it is `current`.
    pub fn renew(&mut self, b: &Block, from: Source, current: impl Fn(&Source) -> bool) -> bool {
        let same = |id: BlockId| {
            let (have, source) = (&self.blocks[id as usize], &self.sources[id as usize]);
            let at = (have.rip, have.base, source.physical, source.mode);
            id != 0 && at == (b.rip, b.base, from.physical, from.mode) && current(source)
        };
        let here = self.places[place(b.rip)];
        let name = (b.rip, b.base, from.physical, from.mode);
        let known = || self.known.get(&name).copied().filter(|&id| same(id));
        let Some(id) = Some(here).filter(|&id| same(id)).or_else(known) else { return false };
        self.blocks[id as usize].stamp = b.stamp;
        self.places[place(b.rip)] = id;
        true
    }

    /// Decodes a block from `bytes` into its place; false when there is not one whole instruction that is known.
    pub fn decode(&mut self, b: Block, from: Source, bytes: &[u8], bits: u32) -> bool {
        if self.ops.len() >= ARENA || self.translator.as_ref().is_some_and(Translator::is_full) {
            self.clear();
        }
        let len = decode_run(&mut self.run, &mut self.plans, bytes, b.rip, bits);
        if self.run.is_empty() {
            return false;
        }
        let end = super::exec::wrap_ip(b.rip.wrapping_add(len), bits);
        let (first, count) = (self.ops.add(&self.run), self.run.len() as u16);
        self.plans.push(Plan::HANDLER);
        let id = self.blocks.len() as BlockId;
        self.blocks.push(Block { run: Run { end, first, count, ..NO_RUN }, ..b });
        self.sources.push(from);
        self.places[place(b.rip)] = id;
        self.known.insert((b.rip, b.base, from.physical, from.mode), id);
        true
    }

    /// Runs the block that [`Self::follow`] gave last.
    #[inline(always)]
    pub fn run(&mut self, run: Run, c: &mut Cpu, m: &mut M) -> Flow {
        self.ops.cursor(run.first).run(c, m)
    }

    /// Runs host code from the block at `rip` on, which is right under `stamp`.
    #[inline(always)]
    pub fn run_native(
        &mut self,
        code: NativeCode,
        (rip, stamp): (u64, u64),
        c: &mut Cpu,
        m: &mut M,
        ticks: i64,
    ) -> Flow {
        #[cfg(test)]
        {
            self.looked_up += 1;
        }
        // What comes next follows another block.
        self.last = 0;
        let Some(translator) = &mut self.translator else { unreachable!("it made the code") };
        translator.found(c, rip, stamp, code);
        // SAFETY: host code and ops are forgotten together, and the ops never move.
        unsafe { translator.run(code, c, m, ticks) }
    }

    /// The host code of the block that [`Self::follow`] gave last; zero while it has none.
    #[inline(always)]
    pub fn native(&mut self, run: Run, rip: u64) -> NativeCode {
        if run.native != 0 { run.native } else { self.warm(run, rip) }
    }

    /// Counts a run of the block that ran last, and makes host code of it when it has become hot.
    #[inline(always)]
    fn warm(&mut self, run: Run, rip: u64) -> NativeCode {
        let heat = &mut self.blocks[self.last as usize].run.heat;
        *heat = heat.saturating_add(1);
        if *heat == self.hot { self.translate(run, rip) } else { 0 }
    }

    #[cold]
    #[inline(never)]
    fn translate(&mut self, run: Run, rip: u64) -> NativeCode {
        let Some(translator) = &mut self.translator else { return 0 };
        if self.plans[run.first as usize..][..usize::from(run.count)].iter().all(|p| *p == Plan::HANDLER) {
            return 0;
        }
        let (first, count) = (run.first as usize, usize::from(run.count));
        let native = translator.translate(&BlockToBe {
            ops: self.ops.run(run.first, count),
            plans: &self.plans[first..first + count],
            first: run.first,
            rip,
            end: run.end,
        });
        if translator.is_lost() {
            self.translator = None;
            self.blocks.iter_mut().for_each(|block| block.run.native = 0);
            return 0;
        }
        self.blocks[self.last as usize].run.native = native.unwrap_or(0);
        native.unwrap_or(0)
    }

    /// For tests: from now on the host refuses to make memory executable.
    #[cfg(test)]
    pub fn refuse(&mut self) {
        self.translator.as_mut().expect("this host lets its processes make code").refuse();
    }

    /// For tests: whether any block is host code.
    #[cfg(test)]
    pub fn has_host_code(&self) -> bool {
        self.blocks.iter().any(|block| block.run.native != 0)
    }

    /// The op of a block at a distance from its start, and how many come before it.
    pub fn op_at(&self, first: u32, offset: u16) -> (usize, Op<M>) {
        self.ops.find(first, offset)
    }
}

impl Block {
    /// A block that is not decoded yet.
    pub fn wanted(rip: u64, base: u64, stamp: u64) -> Self {
        Block { rip, base, stamp, ..NO_BLOCK }
    }
}

#[inline(always)]
fn place(rip: u64) -> usize {
    (rip ^ rip >> 15) as usize % PLACES
}

/// Decodes up to the first instruction that ends a block, or that reaches past the bytes; gives the length in bytes.
fn decode_run<M: Machine>(
    run: &mut Vec<Op<M>>,
    plans: &mut Vec<Plan>,
    bytes: &[u8],
    rip: u64,
    bits: u32,
) -> u64 {
    run.clear();
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let mut at = 0;
    while run.len() < MAX_OPS && decoder.can_decode() {
        let i = decoder.decode();
        if i.is_invalid() || !cpuid::announces(&i) {
            // At the page's end, or no instruction at all: to be looked at alone, when it is reached.
            break;
        }
        let Some((mut op, plan)) = lower_planned::<M>(&i, &bytes[at..], bits) else { break };
        op.offset = at as u16;
        at += i.len();
        run.push(op);
        plans.push(plan);
        if ends_block(&i) {
            break;
        }
    }
    at as u64
}

/// Whether the next instruction has to be looked up anew: control goes elsewhere, or the mode, the translations or the
/// interrupt flag may have changed, or a device may have to be heard.
fn ends_block(i: &Instruction) -> bool {
    let special = |n: u32| {
        i.op_kind(n) == OpKind::Register && {
            let r = i.op_register(n);
            r.is_segment_register() || r.is_cr() || r.is_dr()
        }
    };
    i.flow_control() != FlowControl::Next
        || (i.op_count() > 0 && special(0))
        || matches!(
            i.mnemonic(),
            N::Sti
                | N::Popf
                | N::Popfd
                | N::Popfq
                | N::Wrmsr
                | N::Lmsw
                | N::Xsetbv
                | N::Invlpg
                | N::Invpcid
                | N::Hlt
                | N::Pause
                | N::Mwait
                | N::Lss
                | N::In
                | N::Out
                | N::Insb
                | N::Insw
                | N::Insd
                | N::Outsb
                | N::Outsw
                | N::Outsd
        )
}
