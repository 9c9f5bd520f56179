//! Running a whole machine: decoded blocks, cached, one after the other.
//!
//! Called by `accel/soft`, one [`Interpreter`] per virtual processor. Gives the processor back when the budget is used
//! up, when the machine wants attention, and when the guest waits; delivers the exceptions of its own instructions.

use std::collections::HashMap;
use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as N, OpKind};

use super::assist::{Outcome, Unsupported};
use super::code_pages::CodePages;
use super::decode::lower;
use super::exceptions::{Exception, Stop, vector};
use super::exec::wrap_ip;
use super::interrupts::{Source, TripleFault};
use super::machine::Machine;
use super::op::Op;
use super::paging::Access;
use super::state::{rflags as rf, seg};
use super::{Cpu, CpuState};

/// Why [`Interpreter::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is used up.
    Budget,
    /// [`Machine::attention`] said so.
    Attention,
    /// [`Interpreter::want_window`] is set and an interrupt could be delivered now.
    Window,
    /// HLT: nothing to do until an interrupt. RIP is past it.
    Halt,
    /// PAUSE or MWAIT: the guest waits for another processor or for time to pass.
    Pause,
    /// The processor has shut down; only a reset helps.
    Shutdown,
}

/// Instructions per block.
const MAX_OPS: usize = 32;
/// Direct-mapped places for blocks.
const PLACES: usize = 1 << 14;
/// Ops kept before all are thrown away.
const ARENA: usize = 1 << 18;

/// A block, as the cache finds it.
#[derive(Clone, Copy, Debug)]
struct Block {
    rip: u64,
    /// Code segment base (zero in 64-bit mode) and [`mode_key`].
    base: u64,
    key: u32,
    generation: u32,
    /// Version of the TLB in which `rip` was last seen to mean `physical`.
    version: u64,
    physical: u64,
    first: u32,
    count: u16,
    /// Bytes of code.
    len: u16,
}

const NO_BLOCK: Block = Block {
    rip: 0,
    base: 0,
    key: u32::MAX,
    generation: 0,
    version: 0,
    physical: 0,
    first: 0,
    count: 0,
    len: 0,
};

/// A processor with its cache of decoded code.
#[derive(Debug)]
pub struct Interpreter<M> {
    pub cpu: Cpu,
    /// Come back as soon as an interrupt can be delivered.
    pub want_window: bool,
    /// The last instruction that raised #UD because it is not implemented, for diagnosis.
    pub last_unsupported: Option<Unsupported>,
    /// Instructions executed so far (a repeated string instruction counts once per visit).
    pub retired: u64,
    places: Box<[Block]>,
    /// All blocks in `ops`, for those that lost their place to another, or their TLB version: by RIP, base, mode key
    /// and physical address.
    known: HashMap<(u64, u64, u32, u64), Block>,
    ops: Vec<Op<M>>,
    marks: u64,
}

/// What else a block depends on besides its address: code size and user rights.
fn mode_key(c: &Cpu) -> u32 {
    c.bits | ((c.cpl == 3) as u32) << 8
}

impl<M: Machine> Interpreter<M> {
    /// A processor in the given state. `pages` is the machine's.
    pub fn new(state: CpuState, pages: Arc<CodePages>) -> Self {
        let mut cpu = Cpu::new(state);
        cpu.code = pages;
        Interpreter {
            cpu,
            want_window: false,
            last_unsupported: None,
            retired: 0,
            places: vec![NO_BLOCK; PLACES].into(),
            known: HashMap::new(),
            ops: Vec::with_capacity(ARENA + MAX_OPS),
            marks: 0,
        }
    }

    /// The state was replaced from outside: nothing translated or decoded holds any more.
    pub fn reset(&mut self) {
        self.cpu.flush_tlb();
        self.ops.clear();
        self.places.fill(NO_BLOCK);
        self.known.clear();
    }

    /// Runs about `budget` instructions, fewer if something else comes up. Between calls `self.cpu.state` is complete.
    pub fn run(&mut self, m: &mut M, budget: u64) -> Exit {
        self.cpu.enter();
        if self.cpu.code.marks() != self.marks {
            self.marks = self.cpu.code.marks();
            self.cpu.flush_tlb();
        }
        self.cpu.careful = false;
        let exit = self.work(m, budget);
        self.cpu.careful = true;
        self.cpu.leave();
        exit
    }

    fn work(&mut self, m: &mut M, budget: u64) -> Exit {
        let end = self.retired.wrapping_add(budget);
        loop {
            let shadow = self.cpu.state.interrupt_shadow;
            let c = &self.cpu;
            let alone = c.state.rflags & rf::TF != 0 || c.state.dr[7] & 0xff != 0;
            let done = if alone { self.single(m) } else { self.block(m) };
            if shadow {
                self.cpu.state.interrupt_shadow = false;
            }
            if let Err(exit) = done {
                return exit;
            }
            if m.attention() {
                return Exit::Attention;
            }
            if self.want_window && self.cpu.interruptible() {
                return Exit::Window;
            }
            if self.retired.wrapping_sub(end) as i64 >= 0 {
                return Exit::Budget;
            }
        }
    }

    /// Runs one block.
    #[inline(always)]
    fn block(&mut self, m: &mut M) -> Result<(), Exit> {
        let rip = self.cpu.state.rip;
        let place = place(rip);
        let b = self.places[place];
        let base = if self.cpu.bits == 64 { 0 } else { self.cpu.state.segs[seg::CS].base };
        let hit = b.rip == rip
            && b.key == mode_key(&self.cpu)
            && b.base == base
            && b.version == self.cpu.tlb_version()
            && self.cpu.code.is_current(b.physical, b.generation);
        let b = if hit {
            b
        } else {
            match self.find(m, rip, base) {
                Ok(Some(b)) => b,
                Ok(None) => return self.single(m),
                Err(_) => {
                    let e = self.cpu.fault;
                    return self.deliver(m, e, Source::Fault);
                }
            }
        };
        let ops = &self.ops[b.first as usize..b.first as usize + b.count as usize];
        let c = &mut self.cpu;
        c.start = rip;
        c.state.rip = wrap_ip(rip.wrapping_add(b.len as u64), c.bits);
        for op in ops {
            if let Err(stop) = (op.f)(c, m, op) {
                let op = *op;
                self.retired += 1;
                return self.stopped(m, &op, rip, stop);
            }
        }
        self.retired += b.count as u64;
        Ok(())
    }

    /// A miss: checks whether the block is only behind a changed TLB, else decodes.
    #[inline(never)]
    fn find(&mut self, m: &mut M, rip: u64, base: u64) -> Result<Option<Block>, Stop> {
        let linear = self.cpu.code_address(rip)?;
        let place = self.cpu.locate(m, linear, Access::Fetch);
        let Ok(at) = place else {
            return Err(Stop::Fault);
        };
        let Some(page) = at.page else { return Ok(None) };
        let slot = self::place(rip);
        let name = (rip, base, mode_key(&self.cpu), at.physical);
        if let Some(known) =
            self.known.get(&name).filter(|b| self.cpu.code.is_current(b.physical, b.generation))
        {
            self.places[slot] = Block { version: self.cpu.tlb_version(), ..*known };
            return Ok(Some(self.places[slot]));
        }
        let Some((generation, fresh)) = self.cpu.mark_code(at.physical) else { return Ok(None) };
        // This processor has given up its write access already.
        self.marks += u64::from(fresh);
        let mut bytes = [0; MAX_OPS * 15];
        let n = bytes.len().min((4096 - (linear & 4095)) as usize);
        self.cpu.copy_code(page, at.physical, &mut bytes[..n]);
        let (first, count, len) = self.decode(&bytes[..n], rip);
        if count == 0 {
            return Ok(None);
        }
        let block = Block {
            rip,
            base,
            key: mode_key(&self.cpu),
            generation,
            version: self.cpu.tlb_version(),
            physical: at.physical,
            first,
            count,
            len,
        };
        self.places[slot] = block;
        self.known.insert(name, block);
        Ok(Some(block))
    }

    /// Decodes up to the first instruction that ends a block, or that reaches past the page.
    fn decode(&mut self, bytes: &[u8], rip: u64) -> (u32, u16, u16) {
        if self.ops.len() >= ARENA {
            self.ops.clear();
            self.places.fill(NO_BLOCK);
            self.known.clear();
        }
        let first = self.ops.len();
        let bits = self.cpu.bits;
        let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
        let mut at = 0;
        while self.ops.len() - first < MAX_OPS && decoder.can_decode() {
            let i = decoder.decode();
            if i.is_invalid() {
                // At the page's end, or no instruction at all: to be looked at alone, when it is reached.
                break;
            }
            let Some(mut op) = lower::<M>(&i, &bytes[at..], bits) else { break };
            op.offset = at as u16;
            at += i.len();
            self.ops.push(op);
            if ends_block(&i) {
                break;
            }
        }
        (first as u32, (self.ops.len() - first) as u16, at as u16)
    }

    /// Runs one instruction without the cache: single-stepping, code across pages or outside RAM, #UD.
    #[inline(never)]
    fn single(&mut self, m: &mut M) -> Result<(), Exit> {
        let careful = std::mem::replace(&mut self.cpu.careful, true);
        let outcome = self.cpu.step(m, None);
        self.cpu.careful = careful;
        self.retired += 1;
        match outcome {
            Outcome::Retired => Ok(()),
            Outcome::Exception(e) => self.deliver(m, e, Source::Fault),
            Outcome::Trap(e) if e.vector == vector::DB => self.deliver(m, e, Source::Event),
            Outcome::Trap(e) => self.deliver(m, e, Source::Software),
            Outcome::SoftwareInterrupt(v) => self.deliver(m, Exception::plain(v), Source::Software),
            Outcome::Halt => Err(Exit::Halt),
            Outcome::Unsupported(u) => {
                self.last_unsupported = Some(u);
                self.deliver(m, Exception::plain(vector::UD), Source::Fault)
            }
        }
    }

    /// An op did not simply finish.
    #[cold]
    #[inline(never)]
    fn stopped(&mut self, m: &mut M, op: &Op<M>, start: u64, stop: Stop) -> Result<(), Exit> {
        let here = wrap_ip(start.wrapping_add(op.offset as u64), self.cpu.bits);
        match stop {
            Stop::Fault => {
                self.cpu.state.rip = here;
                let e = self.cpu.memory_fault(op);
                self.deliver(m, e, Source::Fault)
            }
            Stop::Trap | Stop::Interrupt => {
                let source =
                    if self.cpu.fault.vector == vector::DB { Source::Event } else { Source::Software };
                let e = self.cpu.fault;
                self.deliver(m, e, source)
            }
            Stop::Halt => Err(Exit::Halt),
            Stop::Pause => Err(Exit::Pause),
            Stop::Again => {
                self.cpu.state.rip = here;
                Ok(())
            }
            Stop::Careful => self.carefully(m, op, here),
            Stop::Unsupported => {
                self.cpu.state.rip = here;
                self.deliver(m, Exception::plain(vector::UD), Source::Fault)
            }
        }
    }

    /// Runs the op at `here` again by itself, devices and pages with decoded code allowed.
    fn carefully(&mut self, m: &mut M, op: &Op<M>, here: u64) -> Result<(), Exit> {
        let op = Op { offset: 0, ..*op };
        let c = &mut self.cpu;
        c.start = here;
        c.state.rip = wrap_ip(here.wrapping_add(op.len as u64), c.bits);
        c.careful = true;
        let done = (op.f)(c, m, &op);
        c.careful = false;
        match done {
            Ok(()) => Ok(()),
            // Not `Careful` a second time.
            Err(stop) => self.stopped(m, &op, here, stop),
        }
    }

    #[inline(never)]
    fn deliver(&mut self, m: &mut M, e: Exception, source: Source) -> Result<(), Exit> {
        let done = self.cpu.deliver_all(m, e, source);
        done.map_err(|TripleFault| Exit::Shutdown)
    }
}

fn place(rip: u64) -> usize {
    (rip ^ rip >> 14) as usize % PLACES
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
