//! Page-table walks: 4- and 5-level, PAE and 32-bit paging (SDM vol. 3, chapter 4).
//!
//! A walk checks permissions, sets accessed and dirty bits atomically, and gives the exact error code. Called by
//! the TLB on a miss. Reads and writes nothing but page tables.

use super::code_pages::CodePages;
use super::exceptions::{Exception, pf};
use super::machine::Machine;
use super::state::{CpuState, cr0, cr4, efer};

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Fetch,
}

/// With which rights an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// CPL 0 to 2, or an implicit access to a system structure: SMAP applies.
    Supervisor,
    /// CPL 0 to 2 with RFLAGS.AC: SMAP does not apply.
    SupervisorAc,
    User,
}

/// A successful walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the byte asked for.
    pub address: u64,
    /// Writes with the same rights would succeed too, and the page is already dirty.
    pub write_ready: bool,
    pub global: bool,
    /// Bits of offset in the page: 12, 21, 22 or 30.
    pub page_bits: u32,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const GLOBAL: u64 = 0x100;
const NX: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Whether bits 63:47 (63:56 with 5-level paging) are all equal.
#[inline(always)]
pub fn canonical(address: u64, cr4_value: u64) -> bool {
    let shift = if cr4_value & cr4::LA57 != 0 { 7 } else { 16 };
    ((address << shift) as i64 >> shift) as u64 == address
}

/// Whether an address is canonical with 4-level paging, and so with 5-level paging.
#[inline(always)]
pub(super) fn surely_canonical(a: u64) -> bool {
    canonical(a, 0)
}

/// One paging mode: how many levels, how wide the entries.
#[derive(Clone, Copy)]
struct Mode {
    levels: u32,
    /// Bits of address per level: 9, or 10 for 32-bit paging.
    bits: u32,
    entry: u64,
    /// Physical address of the top table.
    root: u64,
}

fn mode(s: &CpuState) -> Mode {
    if s.efer & efer::LMA != 0 {
        let levels = if s.cr4 & cr4::LA57 != 0 { 5 } else { 4 };
        Mode { levels, bits: 9, entry: 8, root: s.cr3 & FRAME }
    } else if s.cr4 & cr4::PAE != 0 {
        Mode { levels: 3, bits: 9, entry: 8, root: s.cr3 & 0xffff_ffe0 }
    } else {
        Mode { levels: 2, bits: 10, entry: 4, root: s.cr3 & 0xffff_f000 }
    }
}

/// Where page-table entries are.
trait Tables {
    /// Reads one.
    fn entry(&mut self, at: u64, size: u64) -> u64;
    /// Sets bits in one that still reads `old`; false when somebody changed it meanwhile.
    fn mark(&mut self, at: u64, size: u64, old: u64, bits: u64) -> bool;
}

/// A processor's, which it marks; decoded code may lie in the same pages.
struct Live<'a, M>(&'a mut M, &'a CodePages);

impl<M: Machine> Tables for Live<'_, M> {
    fn entry(&mut self, at: u64, size: u64) -> u64 {
        match self.0.ram(at & FRAME) {
            Some(page) => page.entry(at, size),
            None => {
                let mut b = [0; 8];
                self.0.read(at, &mut b[..size as usize]);
                u64::from_le_bytes(b)
            }
        }
    }

    fn mark(&mut self, at: u64, size: u64, old: u64, bits: u64) -> bool {
        if old & bits == bits {
            return true;
        }
        match self.0.ram(at & FRAME) {
            Some(page) if self.0.writable(at & FRAME) => {
                let done = page.entry_exchange(at, size, old, old | bits);
                self.1.written(at);
                done
            }
            _ => true,
        }
    }
}

/// Those that somebody only looks at; entries outside RAM are not present.
struct Looked<F>(F);

impl<F: FnMut(u64, &mut [u8]) -> bool> Tables for Looked<F> {
    fn entry(&mut self, at: u64, size: u64) -> u64 {
        let mut b = [0; 8];
        if (self.0)(at, &mut b[..size as usize]) { u64::from_le_bytes(b) } else { 0 }
    }

    fn mark(&mut self, _: u64, _: u64, _: u64, _: u64) -> bool {
        true
    }
}

/// Where a linear address leads, for a debugger: whatever the rights, and without a trace in the tables. `read` reads RAM
/// and says whether there was any. `None` when nothing is mapped there.
pub fn look(s: &CpuState, address: u64, read: impl FnMut(u64, &mut [u8]) -> bool) -> Option<u64> {
    let address = if s.long_mode() { address } else { address & 0xffff_ffff };
    if s.cr0 & cr0::PG == 0 {
        return Some(address);
    }
    if s.long_mode() && !canonical(address, s.cr4) {
        return None;
    }
    let mut walk = Walk::new(s, 52, address, Access::Read, Rights::SupervisorAc);
    walk.attempt(&mut Looked(read)).ok().flatten().map(|found| found.address)
}

/// Translates a linear address. The address must be canonical in IA-32e mode and below 4 GiB otherwise.
///
/// # Errors
/// The page fault, with the error code the processor would give.
pub fn walk(
    s: &CpuState,
    m: &mut impl Machine,
    phys_bits: u32,
    address: u64,
    access: Access,
    rights: Rights,
) -> Result<Translation, Exception> {
    walk_by(s, m, &CodePages::default(), phys_bits, address, access, rights)
}

/// As [`walk`]; `code` is told of entries that are marked as accessed or dirty.
pub(super) fn walk_by(
    s: &CpuState,
    m: &mut impl Machine,
    code: &CodePages,
    phys_bits: u32,
    address: u64,
    access: Access,
    rights: Rights,
) -> Result<Translation, Exception> {
    if s.cr0 & cr0::PG == 0 {
        // Linear addresses have 32 bits then. A state that no processor reaches (IA-32e mode without paging) may ask
        // for more, and must not reach beyond either.
        let address = address & 0xffff_ffff;
        return Ok(Translation { address, write_ready: true, global: false, page_bits: 12 });
    }
    let mut w = Walk::new(s, phys_bits, address, access, rights);
    let m = &mut Live(m, code);
    // An entry that changes under the walk makes it start over; a guest that keeps changing it gets a fault-free
    // walk without marked bits after a while rather than an endless one.
    for _ in 0..16 {
        if let Some(t) = w.attempt(m)? {
            return Ok(t);
        }
    }
    w.mark = false;
    match w.attempt(m)? {
        Some(t) => Ok(t),
        None => Err(w.fault(0)),
    }
}

struct Walk<'a> {
    s: &'a CpuState,
    mode: Mode,
    address: u64,
    access: Access,
    rights: Rights,
    /// Address bits above what the machine has: reserved in entries.
    beyond: u64,
    mark: bool,
}

impl<'a> Walk<'a> {
    fn new(s: &'a CpuState, phys_bits: u32, address: u64, access: Access, rights: Rights) -> Self {
        let beyond = FRAME & !((1u64 << phys_bits.clamp(32, 52)) - 1);
        Walk { s, mode: mode(s), address, access, rights, beyond, mark: true }
    }

    fn attempt(&mut self, m: &mut impl Tables) -> Result<Option<Translation>, Exception> {
        let Mode { levels, bits, entry, root } = self.mode;
        let mut path = [(0u64, 0u64); 5];
        let mut table = root;
        let (mut allow, mut nx) = (WRITABLE | USER, 0);
        for depth in 0..levels {
            let level = levels - depth;
            let shift = 12 + bits * (level - 1);
            let at = table + ((self.address >> shift) & ((1 << bits) - 1)) * entry;
            let e = m.entry(at, entry);
            if e & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let leaf = level == 1 || (e & LARGE != 0 && self.may_be_large(level));
            if e & self.reserved(level, leaf) != 0 {
                return Err(self.fault(pf::PRESENT | pf::RESERVED));
            }
            path[depth as usize] = (at, e);
            if !self.is_pdpte(level) {
                allow &= e;
                nx |= e & NX;
            }
            if leaf {
                self.permit(allow, nx)?;
                return Ok(self.finish(m, &path[..=depth as usize], shift, allow));
            }
            table = e & if entry == 4 { 0xffff_f000 } else { FRAME };
        }
        Err(self.fault(0))
    }

    /// The top level of PAE paging holds neither permissions nor an accessed bit.
    fn is_pdpte(&self, level: u32) -> bool {
        level == 3 && self.mode.levels == 3
    }

    fn may_be_large(&self, level: u32) -> bool {
        match self.mode.levels {
            2 => level == 2 && self.s.cr4 & cr4::PSE != 0,
            3 => level == 2,
            _ => level <= 3,
        }
    }

    fn reserved(&self, level: u32, leaf: bool) -> u64 {
        if self.mode.entry == 4 {
            // PSE-36: bits 20:13 of a 4 MiB entry are address bits 39:32, bit 21 is reserved.
            return if leaf && level == 2 { 1 << 21 } else { 0 };
        }
        let mut r = self.beyond;
        if self.s.efer & efer::NXE == 0 {
            r |= NX;
        }
        if self.mode.levels == 3 {
            // Bits 62:52 are ignored only in IA-32e mode.
            r |= 0x7ff0_0000_0000_0000;
        }
        if self.is_pdpte(level) {
            return r | NX | 0x1e6;
        }
        if leaf && level > 1 {
            r |= (1 << (12 + 9 * (level - 1))) - (1 << 13);
        } else if level > 3 {
            r |= LARGE;
        }
        r
    }

    fn permit(&self, allow: u64, nx: u64) -> Result<(), Exception> {
        let user_page = allow & USER != 0;
        let supervisor = self.rights != Rights::User;
        let denied = match self.access {
            Access::Fetch => {
                nx != 0
                    || (!supervisor && !user_page)
                    || (supervisor && user_page && self.s.cr4 & cr4::SMEP != 0)
            }
            Access::Read | Access::Write => {
                let smap = user_page && self.rights == Rights::Supervisor && self.s.cr4 & cr4::SMAP != 0;
                let write = self.access == Access::Write && !self.may_write(allow);
                (!supervisor && !user_page) || smap || write
            }
        };
        if denied { Err(self.fault(pf::PRESENT)) } else { Ok(()) }
    }

    fn may_write(&self, allow: u64) -> bool {
        allow & WRITABLE != 0 || (self.rights != Rights::User && self.s.cr0 & cr0::WP == 0)
    }

    /// Marks the entries of the path and makes the result; `None` when one of them has changed.
    fn finish(
        &self,
        m: &mut impl Tables,
        path: &[(u64, u64)],
        shift: u32,
        allow: u64,
    ) -> Option<Translation> {
        let (_, leaf) = *path.last()?;
        let dirty = if self.access == Access::Write { DIRTY } else { 0 };
        for (depth, &(at, e)) in path.iter().enumerate() {
            let level = self.mode.levels - depth as u32;
            let bits = if depth + 1 == path.len() { ACCESSED | dirty } else { ACCESSED };
            if self.mark && !self.is_pdpte(level) && !m.mark(at, self.mode.entry, e, bits) {
                return None;
            }
        }
        let below = (1u64 << shift) - 1;
        let mut frame = if self.mode.entry == 4 { leaf & 0xffff_f000 } else { leaf & FRAME };
        if self.mode.entry == 4 && shift == 22 {
            frame |= (leaf >> 13 & 0xff) << 32;
            frame &= !below;
        }
        Some(Translation {
            address: frame & !below | self.address & below,
            write_ready: self.may_write(allow) && (leaf | dirty) & DIRTY != 0,
            global: leaf & GLOBAL != 0 && self.s.cr4 & cr4::PGE != 0,
            page_bits: shift,
        })
    }

    fn fault(&self, code: u32) -> Exception {
        let mut code = code;
        if self.access == Access::Write {
            code |= pf::WRITE;
        }
        if self.rights == Rights::User {
            code |= pf::USER;
        }
        let nx_on = self.s.efer & efer::NXE != 0 && self.mode.entry == 8;
        if self.access == Access::Fetch && (nx_on || self.s.cr4 & cr4::SMEP != 0) {
            code |= pf::FETCH;
        }
        Exception::page_fault(self.address, code)
    }
}
