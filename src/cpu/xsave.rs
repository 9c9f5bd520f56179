//! x87, SSE, AVX and AVX-512 registers, and their images in memory: the legacy FXSAVE area and the XSAVE area in
//! standard and compacted form (SDM vol. 1, chapters 10.5 and 13).
//!
//! The standard form maps one to one to what KVM_GET_XSAVE and KVM_SET_XSAVE carry. Used by the FXSAVE and XSAVE
//! instructions and by `accel/kvm`; it never touches guest memory.

use std::ops::Range;

/// State components, bits of XCR0 and XSTATE_BV (SDM vol. 1, 13.1).
pub mod component {
    pub const X87: u64 = 1 << 0;
    pub const SSE: u64 = 1 << 1;
    pub const AVX: u64 = 1 << 2;
    pub const OPMASK: u64 = 1 << 5;
    pub const ZMM_HI256: u64 = 1 << 6;
    pub const HI16_ZMM: u64 = 1 << 7;
    pub const PKRU: u64 = 1 << 9;
    /// Every component held in [`super::VectorState`].
    pub const ALL: u64 = X87 | SSE | AVX | OPMASK | ZMM_HI256 | HI16_ZMM | PKRU;
}

/// Where one extended component lies in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// One of [`component`].
    pub bit: u64,
    /// Offset in the standard form, in bytes.
    pub offset: usize,
    pub size: usize,
    /// Starts at a multiple of 64 in the compacted form.
    pub aligned: bool,
}

/// Where the extended components lie: a property of the processor, told by CPUID leaf 0Dh (SDM vol. 1, 13.2). AMD's
/// processors and Intel's differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout([Place; 5]);

/// Bit of XCOMP_BV: the image is in compacted form.
pub const COMPACTED: u64 = 1 << 63;
/// Legacy area and header; the extended components follow.
pub const EXTENDED_AREA: usize = 576;
/// The longest image that [`Layout`] describes: what KVM_GET_XSAVE carries.
pub const MAX_IMAGE: usize = 4096;

const fn component_place(bit: u64, offset: usize, size: usize) -> Place {
    Place { bit, offset, size, aligned: false }
}

impl Layout {
    /// As Intel's processors with AVX-512 have it, and the software CPU.
    pub const INTEL: Self = Self([
        component_place(component::AVX, 576, 256),
        component_place(component::OPMASK, 1088, 64),
        component_place(component::ZMM_HI256, 1152, 512),
        component_place(component::HI16_ZMM, 1664, 1024),
        component_place(component::PKRU, 2688, 8),
    ]);

    /// What `leaf`, given a sub-leaf of CPUID leaf 0Dh, tells in EAX (size), EBX (offset) and ECX (bit 1: aligned).
    /// Components that it does not tell, or that would not fit [`MAX_IMAGE`], stay as [`Self::INTEL`] has them.
    pub fn from_cpuid(leaf: impl Fn(u32) -> Option<[u32; 3]>) -> Self {
        let mut layout = Self::INTEL;
        for place in &mut layout.0 {
            let Some([size, offset, flags]) = leaf(place.bit.trailing_zeros()) else { continue };
            let offset = offset as usize;
            if size as usize == place.size && (EXTENDED_AREA..=MAX_IMAGE - place.size).contains(&offset) {
                *place = Place { offset, aligned: flags & 2 != 0, ..*place };
            }
        }
        layout
    }

    /// Each component and where it lies in an image with this XCOMP_BV: without [`COMPACTED`] the standard form.
    /// Components that a compacted image does not have get the place that they would have.
    pub fn ranges(&self, xcomp: u64) -> [(u64, Range<usize>); 5] {
        let mut end = EXTENDED_AREA;
        self.0.map(|place| {
            let next = if place.aligned { end.next_multiple_of(64) } else { end };
            let from = if xcomp & COMPACTED == 0 { place.offset } else { next };
            if xcomp & place.bit != 0 {
                end = next + place.size;
            }
            (place.bit, from..from + place.size)
        })
    }

    /// Bytes of an image with the components `which`, of the form that `form` ([`COMPACTED`] or 0) names.
    pub fn size(&self, which: u64, form: u64) -> usize {
        let present =
            self.ranges(which & component::ALL | form).into_iter().filter(|(bit, _)| which & bit != 0);
        present.map(|(_, range)| range.end).max().unwrap_or(EXTENDED_AREA)
    }
}

/// MXCSR bits that may be set; a one elsewhere is a general-protection fault.
pub const MXCSR_MASK: u32 = 0xffff;

/// MXCSR after reset: all exceptions masked, round to nearest.
pub const MXCSR_INIT: u32 = 0x1f80;

/// One x87 data register: the 80-bit value in the low ten bytes of its FXSAVE slot.
pub type St = [u8; 10];

/// x87, SSE, AVX, AVX-512 and PKRU registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorState {
    /// ZMM0 to ZMM31 in 64-bit pieces, lowest first; XMM and YMM are their low ends.
    pub zmm: [[u64; 8]; 32],
    pub mxcsr: u32,
    /// x87 data registers by physical number (not by distance from the top of the stack).
    pub fpr: [St; 8],
    pub fcw: u16,
    pub fsw: u16,
    /// Abridged tag word: bit n set when physical register n is not empty.
    pub ftw: u8,
    pub fop: u16,
    pub fip: u64,
    pub fdp: u64,
    pub opmask: [u64; 8],
    pub pkru: u32,
}

impl Default for VectorState {
    fn default() -> Self {
        VectorState {
            zmm: [[0; 8]; 32],
            mxcsr: MXCSR_INIT,
            fpr: [[0; 10]; 8],
            fcw: 0x37f,
            fsw: 0,
            ftw: 0,
            fop: 0,
            fip: 0,
            fdp: 0,
            opmask: [0; 8],
            pkru: 0,
        }
    }
}

/// What an image of the right size can still have wrong with it; a general-protection fault for XRSTOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("XSAVE image is shorter than its components need")]
    Short,
    #[error("XSTATE_BV names components that are not enabled")]
    Components,
    #[error("XCOMP_BV or a reserved byte of the XSAVE header is not as required")]
    Header,
    #[error("MXCSR in the image has reserved bits set")]
    Mxcsr,
}

impl VectorState {
    /// Top of the x87 stack: physical number of ST(0).
    pub fn top(&self) -> usize {
        (self.fsw >> 11 & 7) as usize
    }

    /// Sets or clears the exception summary and busy bits of FSW after the control word or the exception flags
    /// changed.
    pub fn update_summary(&mut self) {
        let unmasked = self.fsw & !self.fcw & 0x3f != 0;
        self.fsw = self.fsw & !0x8080 | if unmasked { 0x8080 } else { 0 };
    }

    /// Components that differ from their initial configuration (XINUSE).
    pub fn in_use(&self) -> u64 {
        let init_x87 = self.fcw == 0x37f
            && self.fsw == 0
            && self.ftw == 0
            && self.fop == 0
            && self.fip == 0
            && self.fdp == 0
            && self.fpr == [[0; 10]; 8];
        let any = |from: usize, to: usize, low: usize, high: usize| {
            self.zmm[low..high].iter().any(|z| z[from..to].iter().any(|&q| q != 0))
        };
        let mut bits = 0;
        let mut add = |on: bool, bit: u64| bits |= if on { bit } else { 0 };
        add(!init_x87, component::X87);
        add(any(0, 2, 0, 16), component::SSE);
        add(any(2, 4, 0, 16), component::AVX);
        add(self.opmask != [0; 8], component::OPMASK);
        add(any(4, 8, 0, 16), component::ZMM_HI256);
        add(any(0, 8, 16, 32), component::HI16_ZMM);
        add(self.pkru != 0, component::PKRU);
        bits
    }

    /// Puts the components named in `which` into their initial configuration (MXCSR is not part of SSE here).
    pub fn init(&mut self, which: u64) {
        let fresh = VectorState::default();
        if which & component::X87 != 0 {
            self.fpr = fresh.fpr;
            (self.fcw, self.fsw, self.ftw) = (fresh.fcw, fresh.fsw, fresh.ftw);
            (self.fop, self.fip, self.fdp) = (0, 0, 0);
        }
        for (n, z) in self.zmm.iter_mut().enumerate() {
            if n < 16 {
                clear_if(&mut z[0..2], which & component::SSE);
                clear_if(&mut z[2..4], which & component::AVX);
                clear_if(&mut z[4..8], which & component::ZMM_HI256);
            } else {
                clear_if(z, which & component::HI16_ZMM);
            }
        }
        clear_if(&mut self.opmask, which & component::OPMASK);
        if which & component::PKRU != 0 {
            self.pkru = 0;
        }
    }

    /// Writes the x87 part of the legacy area: bytes 0 to 23 and 32 to 159. `wide` is the 64-bit pointer form
    /// (REX.W).
    pub fn put_x87(&self, area: &mut [u8; 512], wide: bool) {
        put(area, 0, &self.fcw.to_le_bytes());
        put(area, 2, &self.fsw.to_le_bytes());
        put(area, 4, &[self.ftw, 0]);
        put(area, 6, &self.fop.to_le_bytes());
        if wide {
            put(area, 8, &self.fip.to_le_bytes());
            put(area, 16, &self.fdp.to_le_bytes());
        } else {
            put(area, 8, &(self.fip & 0xffff_ffff).to_le_bytes());
            put(area, 16, &(self.fdp & 0xffff_ffff).to_le_bytes());
        }
        for i in 0..8 {
            let at = 32 + 16 * i;
            put(area, at, &self.fpr[(self.top() + i) & 7]);
            put(area, at + 10, &[0; 6]);
        }
    }

    /// Writes MXCSR and its mask: bytes 24 to 31.
    pub fn put_mxcsr(&self, area: &mut [u8; 512]) {
        put(area, 24, &self.mxcsr.to_le_bytes());
        put(area, 28, &MXCSR_MASK.to_le_bytes());
    }

    /// Writes XMM0 up to (not including) XMM`count`: from byte 160.
    pub fn put_xmm(&self, area: &mut [u8; 512], count: usize) {
        for (i, z) in self.zmm.iter().take(count.min(16)).enumerate() {
            put_words(area, 160 + 16 * i, &z[0..2]);
        }
    }

    /// Reads what [`Self::put_x87`] writes.
    pub fn take_x87(&mut self, area: &[u8; 512], wide: bool) {
        self.fcw = word(area, 0) & 0x1f7f | 0x40;
        self.fsw = word(area, 2);
        self.ftw = area[4];
        self.fop = word(area, 6) & 0x7ff;
        (self.fip, self.fdp) = (quad(area, 8), quad(area, 16));
        if !wide {
            self.fip &= 0xffff_ffff;
            self.fdp &= 0xffff_ffff;
        }
        for i in 0..8 {
            let at = 32 + 16 * i;
            let physical = (self.top() + i) & 7;
            self.fpr[physical].copy_from_slice(&area[at..at + 10]);
        }
        self.update_summary();
    }

    /// Reads XMM0 up to (not including) XMM`count`.
    pub fn take_xmm(&mut self, area: &[u8; 512], count: usize) {
        for (i, z) in self.zmm.iter_mut().take(count.min(16)).enumerate() {
            take_words(area, 160 + 16 * i, &mut z[0..2]);
        }
    }

    /// Writes one extended component (one of [`Layout`]'s) as it lies in memory; `bytes` has the component's size.
    pub fn put_component(&self, which: u64, bytes: &mut [u8]) {
        match which {
            component::AVX => self.put_zmm(bytes, 0..16, 2..4),
            component::OPMASK => put_words(bytes, 0, &self.opmask),
            component::ZMM_HI256 => self.put_zmm(bytes, 0..16, 4..8),
            component::HI16_ZMM => self.put_zmm(bytes, 16..32, 0..8),
            _ => put(bytes, 0, &u64::from(self.pkru).to_le_bytes()),
        }
    }

    /// Reads one extended component.
    pub fn take_component(&mut self, which: u64, bytes: &[u8]) {
        match which {
            component::AVX => self.take_zmm(bytes, 0..16, 2..4),
            component::OPMASK => take_words(bytes, 0, &mut self.opmask),
            component::ZMM_HI256 => self.take_zmm(bytes, 0..16, 4..8),
            component::HI16_ZMM => self.take_zmm(bytes, 16..32, 0..8),
            _ => self.pkru = quad(bytes, 0) as u32,
        }
    }

    fn put_zmm(&self, bytes: &mut [u8], regs: Range<usize>, part: Range<usize>) {
        let step = part.len() * 8;
        for (i, z) in self.zmm[regs].iter().enumerate() {
            put_words(bytes, i * step, &z[part.clone()]);
        }
    }

    fn take_zmm(&mut self, bytes: &[u8], regs: Range<usize>, part: Range<usize>) {
        let step = part.len() * 8;
        for (i, z) in self.zmm[regs].iter_mut().enumerate() {
            take_words(bytes, i * step, &mut z[part.clone()]);
        }
    }

    /// A whole image in standard form, every component of `xcr0` marked present, as KVM_SET_XSAVE takes it.
    /// `image` may be longer than needed; the rest is left alone.
    ///
    /// # Errors
    /// [`ImageError::Short`] when a component of `xcr0` does not fit.
    pub fn to_standard(&self, layout: &Layout, xcr0: u64, image: &mut [u8]) -> Result<(), ImageError> {
        let legacy: &mut [u8; 512] = image.first_chunk_mut().ok_or(ImageError::Short)?;
        self.put_x87(legacy, true);
        self.put_mxcsr(legacy);
        self.put_xmm(legacy, 16);
        let present = xcr0 & component::ALL | component::X87 | component::SSE;
        let header = image.get_mut(512..576).ok_or(ImageError::Short)?;
        header.fill(0);
        put(header, 0, &present.to_le_bytes());
        for (bit, range) in layout.ranges(0) {
            if present & bit != 0 {
                self.put_component(bit, image.get_mut(range).ok_or(ImageError::Short)?);
            }
        }
        Ok(())
    }

    /// Reads a whole image in standard form; components absent from its XSTATE_BV become initial.
    ///
    /// # Errors
    /// When the image is too short, compacted, or MXCSR has reserved bits.
    pub fn from_standard(layout: &Layout, image: &[u8]) -> Result<VectorState, ImageError> {
        let legacy: &[u8; 512] = image.first_chunk().ok_or(ImageError::Short)?;
        let header = image.get(512..576).ok_or(ImageError::Short)?;
        let present = quad(header, 0);
        if quad(header, 8) != 0 {
            return Err(ImageError::Header);
        }
        let mut v = VectorState { mxcsr: dword(legacy, 24), ..VectorState::default() };
        if v.mxcsr & !MXCSR_MASK != 0 {
            return Err(ImageError::Mxcsr);
        }
        if present & component::X87 != 0 {
            v.take_x87(legacy, true);
        }
        if present & component::SSE != 0 {
            v.take_xmm(legacy, 16);
        }
        for (bit, range) in layout.ranges(0) {
            if present & bit != 0 {
                v.take_component(bit, image.get(range).ok_or(ImageError::Short)?);
            }
        }
        Ok(v)
    }
}

fn clear_if(words: &mut [u64], on: u64) {
    if on != 0 {
        words.fill(0);
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_words(to: &mut [u8], at: usize, words: &[u64]) {
    for (i, w) in words.iter().enumerate() {
        put(to, at + 8 * i, &w.to_le_bytes());
    }
}

fn take_words(from: &[u8], at: usize, words: &mut [u64]) {
    for (i, w) in words.iter_mut().enumerate() {
        *w = quad(from, at + 8 * i);
    }
}

fn word(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([from[at], from[at + 1]])
}

fn dword(from: &[u8], at: usize) -> u32 {
    u32::from(word(from, at)) | u32::from(word(from, at + 2)) << 16
}

fn quad(from: &[u8], at: usize) -> u64 {
    u64::from(dword(from, at)) | u64::from(dword(from, at + 4)) << 32
}
