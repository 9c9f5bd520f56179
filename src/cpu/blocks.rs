//! The cache of decoded blocks: straight runs of instructions, by linear address.
//!
//! A block is found by RIP in a direct-mapped table. It holds while its stamp does: the version of the TLB, the
//! changes to pages with decoded code, and the mode are those under which it was last looked at. When only those
//! moved on, its translation and its page's generation are looked at again and the decoded ops are kept
//! (`run.rs`). Called by `run.rs` only; knows nothing of how ops run.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as N, OpKind};

use super::decode::lower;
use super::machine::Machine;
use super::op::Op;
use super::threaded::{Arena, Cursor};

/// Instructions per block.
pub(super) const MAX_OPS: usize = 32;
/// Direct-mapped places for blocks.
const PLACES: usize = 1 << 15;
/// Ops kept before all are thrown away.
const ARENA: usize = 1 << 18;

/// A block, as the cache finds it: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block {
    pub rip: u64,
    /// What it depends on besides: see `run.rs`. No block has the stamp 0.
    pub stamp: u64,
    /// Code segment base; zero in 64-bit mode.
    pub base: u64,
    /// RIP behind it.
    pub end: u64,
    /// Where it was decoded from, and the generation of that page then.
    pub physical: u64,
    pub generation: u32,
    /// Code size and privilege, see `run.rs`.
    pub mode: u32,
    first: u32,
    /// Instructions.
    pub count: u32,
}

const NO_BLOCK: Block =
    Block { rip: 0, stamp: 0, base: 0, end: 0, physical: 0, generation: 0, mode: 0, first: 0, count: 0 };

/// What tells two blocks apart.
type Name = (u64, u64, u64, u32);

impl Block {
    fn name(&self) -> Name {
        (self.rip, self.base, self.physical, self.mode)
    }
}

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
    places: Box<[Block]>,
    /// All blocks in `ops`, for those that lost their place to another.
    known: HashMap<Name, Block, BuildHasherDefault<Mix>>,
    ops: Arena<M>,
    /// For decoding.
    run: Vec<Op<M>>,
}

impl<M: Machine> Blocks<M> {
    pub fn new() -> Self {
        Blocks {
            places: vec![NO_BLOCK; PLACES].into(),
            known: HashMap::default(),
            ops: Arena::with_capacity(ARENA + MAX_OPS),
            run: Vec::with_capacity(MAX_OPS),
        }
    }

    /// Nothing decoded holds any more.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.places.fill(NO_BLOCK);
        self.known.clear();
    }

    /// What is at the place of `rip`; it may be another's.
    #[inline(always)]
    pub fn at(&self, rip: u64) -> &Block {
        &self.places[place(rip)]
    }

    /// The block in the place of `rip` holds under this stamp, too.
    pub fn renew(&mut self, rip: u64, stamp: u64) {
        self.places[place(rip)].stamp = stamp;
    }

    /// Gives a block that was decoded before its place back, with a new stamp. `wanted` says which.
    pub fn restore(&mut self, wanted: &Block, current: impl Fn(&Block) -> bool) -> bool {
        let Some(known) = self.known.get(&wanted.name()).filter(|b| current(b)) else { return false };
        self.places[place(wanted.rip)] = Block { stamp: wanted.stamp, ..*known };
        true
    }

    /// Decodes a block from `bytes` into its place; false when there is not one whole instruction that is known.
    /// `block` says everything but what decoding gives.
    pub fn decode(&mut self, block: Block, bytes: &[u8], bits: u32) -> bool {
        if self.ops.len() >= ARENA {
            self.clear();
        }
        let len = decode_run(&mut self.run, bytes, block.rip, bits);
        if self.run.is_empty() {
            return false;
        }
        let end = super::exec::wrap_ip(block.rip.wrapping_add(len), bits);
        let (first, count) = (self.ops.add(&self.run), self.run.len() as u32);
        let block = Block { end, first, count, ..block };
        self.places[place(block.rip)] = block;
        self.known.insert(block.name(), block);
        true
    }

    /// The ops of a block.
    #[inline(always)]
    pub fn ops(&self, first: u32) -> Cursor<'_, M> {
        self.ops.cursor(first)
    }

    /// The op of a block at a distance from its start, and how many come before it.
    pub fn op_at(&self, first: u32, offset: u16) -> (usize, Op<M>) {
        self.ops.find(first, offset)
    }
}

impl Block {
    /// A block that is not decoded yet.
    pub fn wanted(rip: u64, base: u64, stamp: u64, mode: u32, physical: u64) -> Self {
        Block { rip, base, stamp, mode, physical, ..NO_BLOCK }
    }

    /// The same from a page of this generation.
    pub fn of(self, generation: u32) -> Self {
        Block { generation, ..self }
    }

    /// The number of its first op.
    #[inline(always)]
    pub fn first(&self) -> u32 {
        self.first
    }
}

#[inline(always)]
fn place(rip: u64) -> usize {
    (rip ^ rip >> 15) as usize % PLACES
}

/// Decodes up to the first instruction that ends a block, or that reaches past the bytes; gives the length in bytes.
fn decode_run<M: Machine>(run: &mut Vec<Op<M>>, bytes: &[u8], rip: u64, bits: u32) -> u64 {
    run.clear();
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let mut at = 0;
    while run.len() < MAX_OPS && decoder.can_decode() {
        let i = decoder.decode();
        if i.is_invalid() {
            // At the page's end, or no instruction at all: to be looked at alone, when it is reached.
            break;
        }
        let Some(mut op) = lower::<M>(&i, &bytes[at..], bits) else { break };
        op.offset = at as u16;
        at += i.len();
        run.push(op);
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
