//! The form in which instructions are executed and cached: a handler and its operands, compact and flat.
//!
//! Made by `decode.rs` from iced-x86's decoding; read by the handlers under `exec/`. An `Op` holds absolute
//! addresses where the instruction is relative to RIP, so it is good for one linear address only.

use super::exceptions::{Flow, Stop};
use super::machine::Machine;
use super::state::seg::{FS, SS};
use super::threaded::Code;
use super::{Cpu, exceptions::Exception, exceptions::vector, exec, paging};

/// What executes an op.
pub type Handler<M> = fn(&mut Cpu, &mut M, &Op<M>) -> Flow;

/// One decoded instruction.
pub struct Op<M> {
    /// What runs it as part of a block: `f`, or something faster that does the same.
    pub code: Code<M>,
    /// What runs it by itself.
    pub f: Handler<M>,
    /// Immediate (sign-extended to 64 bits), or the target of a direct branch.
    pub imm: u64,
    /// Displacement, or the whole address of a RIP-relative or absolute operand.
    pub disp: u64,
    /// Registers in operand order, see [`reg_code`]; memory and immediate operands leave their place zero.
    pub r: [u8; 4],
    pub base: u8,
    /// All ones when there is a base register.
    pub base_mask: i8,
    pub index: u8,
    /// 1, 2, 4, 8, or 0 without an index register.
    pub scale: u8,
    /// Segment of the memory operand, number as in [`super::state::seg`].
    pub seg: u8,
    /// `mf::*`: what else the address of the memory operand needs; zero in the common case.
    pub mf: u8,
    /// Size of the memory operand in bytes, at most 255.
    pub msize: u8,
    /// Length of the instruction in bytes.
    pub len: u8,
    /// Distance from the start of the block.
    pub offset: u16,
    /// Meaning depends on the handler: table index, element sizes, prefixes.
    pub aux: u16,
}

impl<M: Machine> Op<M> {
    /// An op without operands, to be filled in.
    pub(super) fn with_code(code: Code<M>) -> Self {
        Op {
            code,
            f: exec::unsupported,
            imm: 0,
            disp: 0,
            r: [0; 4],
            base: 0,
            base_mask: 0,
            index: 0,
            scale: 0,
            seg: SS as u8,
            mf: 0,
            msize: 0,
            len: 0,
            offset: 0,
            aux: 0,
        }
    }
}

impl<M> Clone for Op<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Op<M> {}

impl<M> std::fmt::Debug for Op<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Op").field("r", &self.r).field("imm", &self.imm).field("len", &self.len).finish()
    }
}

/// What an address calculation needs beyond base + index * scale + displacement.
pub mod mf {
    /// Add the base of FS or GS (64-bit mode).
    pub const SEG_BASE: u8 = 1;
    /// 32-bit address size.
    pub const ADDR32: u8 = 2;
    /// 16-bit address size.
    pub const ADDR16: u8 = 4;
    /// Not 64-bit mode: segment base, limit and type.
    pub const LEGACY: u8 = 8;
}

/// An integer operand of 1, 2, 4 or 8 bytes.
pub trait Int: Copy + Eq + Ord + Send + Sync + std::fmt::Debug + 'static {
    const BITS: u32;
    const SIZE: u64;
    fn from64(v: u64) -> Self;
    fn to64(self) -> u64;
    /// Sign-extended to 64 bits.
    fn sext(self) -> u64;
    /// The top bit.
    #[inline(always)]
    fn sign(self) -> bool {
        (self.sext() as i64) < 0
    }
}

macro_rules! int {
    ($t:ty, $s:ty) => {
        impl Int for $t {
            const BITS: u32 = <$t>::BITS;
            const SIZE: u64 = (<$t>::BITS / 8) as u64;
            #[inline(always)]
            fn from64(v: u64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn to64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn sext(self) -> u64 {
                self as $s as i64 as u64
            }
        }
    };
}
int!(u8, i8);
int!(u16, i16);
int!(u32, i32);
int!(u64, i64);

/// Set in a register code: the second byte of the register (AH, CH, DH, BH).
pub const HIGH_BYTE: u8 = 0x80;

impl Cpu {
    /// Reads a general register at the width of `T`.
    #[inline(always)]
    pub(super) fn get<T: Int>(&self, r: u8) -> T {
        let q = self.state.gpr[(r & 15) as usize];
        if T::BITS == 8 { T::from64(q >> (r >> 4 & 8)) } else { T::from64(q) }
    }

    /// Writes a general register at the width of `T`: 32-bit writes clear the upper half, narrower ones keep the
    /// rest.
    #[inline(always)]
    pub(super) fn set<T: Int>(&mut self, r: u8, v: T) {
        let q = &mut self.state.gpr[(r & 15) as usize];
        match T::BITS {
            8 => {
                let shift = r >> 4 & 8;
                *q = *q & !(0xff << shift) | v.to64() << shift;
            }
            16 => *q = *q & !0xffff | v.to64(),
            _ => *q = v.to64(),
        }
    }

    /// Base + index * scale + displacement, at the address size, without the segment.
    #[inline(always)]
    pub(super) fn offset<M>(&self, op: &Op<M>) -> u64 {
        let a = self.raw_offset(op);
        match op.mf & (mf::ADDR32 | mf::ADDR16) {
            0 => a,
            mf::ADDR32 => a & 0xffff_ffff,
            _ => a & 0xffff,
        }
    }

    #[inline(always)]
    fn raw_offset<M>(&self, op: &Op<M>) -> u64 {
        let base = self.state.gpr[(op.base & 15) as usize] & op.base_mask as i64 as u64;
        let index = self.state.gpr[(op.index & 15) as usize].wrapping_mul(op.scale as u64);
        base.wrapping_add(index).wrapping_add(op.disp)
    }

    /// Linear address of the memory operand.
    #[inline(always)]
    pub(super) fn ea<M>(&mut self, op: &Op<M>) -> Result<u64, Stop> {
        if op.mf == 0 {
            return Ok(self.raw_offset(op));
        }
        self.ea_special(op, 0)
    }

    /// Linear address of the memory operand moved by `delta` bytes: the bit-string instructions.
    #[inline(always)]
    pub(super) fn ea_plus<M>(&mut self, op: &Op<M>, delta: u64) -> Result<u64, Stop> {
        if op.mf == 0 {
            return Ok(self.raw_offset(op).wrapping_add(delta));
        }
        self.ea_special(op, delta)
    }

    #[inline(never)]
    fn ea_special<M>(&mut self, op: &Op<M>, delta: u64) -> Result<u64, Stop> {
        let a = self.raw_offset(op).wrapping_add(delta);
        let a = match op.mf & (mf::ADDR32 | mf::ADDR16) {
            0 => a,
            mf::ADDR32 => a & 0xffff_ffff,
            _ => a & 0xffff,
        };
        self.linear(op.seg, a, op.msize as u64)
    }

    /// Applies a segment to an offset: base in 64-bit mode; base, limit and usability otherwise.
    pub(super) fn linear(&mut self, seg: u8, offset: u64, size: u64) -> Result<u64, Stop> {
        let n = seg as usize % 6;
        if self.bits == 64 {
            return Ok(if n >= FS { offset.wrapping_add(self.state.segs[n].base) } else { offset });
        }
        let g = self.state.segs[n];
        let last = offset.wrapping_add(size.max(1) - 1);
        let expand_down = !g.is_code() && g.kind() & 4 != 0;
        let outside = if expand_down {
            let top = if g.big() { 0xffff_ffff } else { 0xffff };
            offset <= g.limit as u64 || last > top
        } else {
            last > g.limit as u64
        };
        if outside || (!g.present() && self.protected()) {
            let vector = if n == SS { vector::SS } else { vector::GP };
            return self.raise(Exception::with_code(vector, 0));
        }
        Ok(offset.wrapping_add(g.base) & 0xffff_ffff)
    }

    /// Loads the memory operand.
    #[inline(always)]
    pub(super) fn load_op<T: Int, M: Machine>(&mut self, m: &mut M, op: &Op<M>) -> Result<T, Stop> {
        let a = self.ea(op)?;
        self.load(m, a)
    }

    /// Stores to the memory operand.
    #[inline(always)]
    pub(super) fn store_op<T: Int, M: Machine>(&mut self, m: &mut M, op: &Op<M>, v: T) -> Flow {
        let a = self.ea(op)?;
        self.store(m, a, v)
    }

    /// Records an exception and says so.
    #[cold]
    pub(super) fn raise<T>(&mut self, e: Exception) -> Result<T, Stop> {
        self.fault = e;
        Err(Stop::Fault)
    }

    /// The exception of a failed op: #SS instead of #GP when a stack operand was not canonical.
    pub(super) fn memory_fault<M>(&mut self, op: &Op<M>) -> Exception {
        let e = self.fault;
        if e.vector == vector::GP && e.cr2.is_some() {
            let stack = op.seg == SS as u8;
            self.fault = Exception::with_code(if stack { vector::SS } else { vector::GP }, 0);
        }
        self.fault
    }

    /// #GP(0).
    #[cold]
    pub(super) fn gp0<T>(&mut self) -> Result<T, Stop> {
        self.raise(Exception::with_code(vector::GP, 0))
    }

    /// #UD.
    #[cold]
    pub(super) fn ud<T>(&mut self) -> Result<T, Stop> {
        self.raise(Exception::plain(vector::UD))
    }

    /// #GP(0) unless at CPL 0.
    pub(super) fn need_cpl0(&mut self) -> Flow {
        if self.cpl != 0 { self.gp0() } else { Ok(()) }
    }

    /// Whether an address is canonical for the paging mode.
    #[inline(always)]
    pub(super) fn canonical(&self, a: u64) -> bool {
        paging::canonical(a, self.state.cr4)
    }
}
