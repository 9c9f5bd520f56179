//! The six arithmetic flags, kept as the last result and worked out when somebody asks.
//!
//! `res` is the result, sign-extended to 64 bits: ZF, SF and PF follow from it. `aux` holds the carries: bit 63 is
//! the carry out of the top bit (CF), bit 62 the carry into it (CF xor bit 62 is OF), bit 3 AF. Flag values that no
//! result has (POPF, SAHF) are made by bit 0 of `aux`, which inverts SF, and bits 15:8, which are xor-ed into the
//! byte whose parity is PF.

use super::op::Int;
use super::state::rflags as rf;

#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    res: u64,
    aux: u64,
}

/// Where the two words are in [`Flags`], for host code.
pub(super) const RES_OFFSET: usize = std::mem::offset_of!(Flags, res);
pub(super) const AUX_OFFSET: usize = std::mem::offset_of!(Flags, aux);

const TOP: u64 = 3 << 62;

#[inline(always)]
fn aux<T: Int>(carries: u64) -> u64 {
    ((carries << (64 - T::BITS)) & TOP) | (carries & 8)
}

impl Flags {
    /// The flags as RFLAGS has them.
    pub fn bits(&self) -> u64 {
        let mut b = self.cf() as u64;
        b |= (self.pf() as u64) << 2;
        b |= (self.af() as u64) << 4;
        b |= (self.zf() as u64) << 6;
        b |= (self.sf() as u64) << 7;
        b | (self.of() as u64) << 11
    }

    /// Takes the flags from a value of RFLAGS.
    pub fn set_bits(&mut self, b: u64) {
        let (cf, of) = (b & 1, b >> 11 & 1);
        self.aux = cf << 63 | (cf ^ of) << 62 | (b & rf::AF) >> 1 | (b >> 7 & 1);
        if b & rf::ZF != 0 {
            self.res = 0;
        } else {
            self.res = 0x100;
        }
        // The low byte of `res` is zero either way, which has even parity.
        if b & rf::PF == 0 {
            self.aux |= 0x100;
        }
    }

    #[inline(always)]
    pub fn cf(&self) -> bool {
        (self.aux as i64) < 0
    }

    #[inline(always)]
    pub fn of(&self) -> bool {
        ((self.aux ^ (self.aux << 1)) as i64) < 0
    }

    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.res == 0
    }

    #[inline(always)]
    pub fn sf(&self) -> bool {
        (self.res >> 63 ^ self.aux) & 1 != 0
    }

    #[inline(always)]
    pub fn af(&self) -> bool {
        self.aux & 8 != 0
    }

    #[inline(always)]
    pub fn pf(&self) -> bool {
        let x = (self.res ^ self.aux >> 8) as u8;
        0x9669 >> ((x ^ x >> 4) & 15) & 1 != 0
    }

    /// Condition code 0 to 15 as in the low bits of Jcc, SETcc and CMOVcc (SDM vol. 1, appendix B).
    #[inline(always)]
    pub fn condition<const CC: u8>(&self) -> bool {
        let yes = match CC >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        yes != (CC & 1 != 0)
    }

    /// ADD and ADC: flags of `a + b + carry`, and the sum.
    #[inline(always)]
    pub fn add<T: Int>(&mut self, a: T, b: T, carry: bool) -> T {
        let (a, b) = (a.to64(), b.to64());
        let r = T::from64(a.wrapping_add(b).wrapping_add(carry as u64));
        let r64 = r.to64();
        self.res = r.sext();
        self.aux = aux::<T>((a & b) | ((a | b) & !r64));
        r
    }

    /// SUB, SBB and CMP: flags of `a - b - borrow`, and the difference.
    #[inline(always)]
    pub fn sub<T: Int>(&mut self, a: T, b: T, borrow: bool) -> T {
        let (a, b) = (a.to64(), b.to64());
        let r = T::from64(a.wrapping_sub(b).wrapping_sub(borrow as u64));
        let r64 = r.to64();
        self.res = r.sext();
        self.aux = aux::<T>((!a & b) | ((!a | b) & r64));
        r
    }

    /// INC and DEC keep CF: flags as of the last [`Self::add`] or [`Self::sub`], but with this carry.
    #[inline(always)]
    pub fn keep_cf(&mut self, cf: bool) {
        let of = self.of() as u64;
        let cf = cf as u64;
        self.aux = self.aux & !TOP | cf << 63 | (cf ^ of) << 62;
    }

    /// AND, OR, XOR, TEST: CF, OF and AF zero, the rest of `r`.
    #[inline(always)]
    pub fn logic<T: Int>(&mut self, r: T) {
        self.res = r.sext();
        self.aux = 0;
    }

    /// ZF, SF and PF of `r`, CF and OF as given, AF zero: shifts.
    #[inline(always)]
    pub fn result<T: Int>(&mut self, r: T, cf: bool, of: bool) {
        self.res = r.sext();
        self.aux = (cf as u64) << 63 | ((cf != of) as u64) << 62;
    }

    /// CF and OF alone: rotates, MUL.
    #[inline(always)]
    pub fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.aux = self.aux & !TOP | (cf as u64) << 63 | ((cf != of) as u64) << 62;
    }

    /// CF alone.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        let of = self.of();
        self.set_cf_of(cf, of);
    }

    /// OF alone.
    #[inline(always)]
    pub fn set_of(&mut self, of: bool) {
        let cf = self.cf();
        self.set_cf_of(cf, of);
    }

    /// Changes the flags in `mask` to those in `bits`, RFLAGS numbering; for instructions off the hot path.
    pub fn change(&mut self, mask: u64, bits: u64) {
        let all = self.bits() & !mask | bits & mask;
        self.set_bits(all);
    }
}
