//! The software TLB and every access of the CPU to memory by linear address.
//!
//! A hit costs one compare and one host load or store. Misses, page crossings, MMIO, ROM and pages that hold decoded
//! code take the slow way. Called by the instruction handlers; never decides what an instruction does.
#![expect(unsafe_code, reason = "guest RAM is reached through host pointers")]

use super::Cpu;
use super::exceptions::{Exception, Flow, Stop, vector};
use super::flags::Flags;
use super::host::{HostPage, OFFSET, PAGE};
use super::machine::Machine;
use super::op::Int;
use super::paging::{self, Access, Rights};
use super::state::{cr0, cr4, rflags};

/// Entries per set of rights; three sets: supervisor, supervisor with AC, user.
const WAYS: usize = 1024;
const ENTRIES: usize = 4 * WAYS;
/// Set in a tag: the page is not plain RAM for this access.
const SLOW: u64 = 1;
const EPOCH_STEP: u64 = 2;
const NO_TAG: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Page number, epoch and [`SLOW`], or [`NO_TAG`], for each kind of access.
    read: u64,
    write: u64,
    fetch: u64,
    /// Valid unless the tag is slow.
    page: HostPage,
    /// Physical page; bit 0: global.
    physical: u64,
}

/// Where things are, for host code (`translate/`).
pub(super) mod layout {
    use std::mem::{offset_of, size_of};

    use super::{Entry, Tlb};

    pub const WAYS: usize = super::WAYS;

    /// In [`Tlb`].
    pub const ENTRIES: usize = offset_of!(Tlb, entries);
    pub const EPOCH: usize = offset_of!(Tlb, epoch);
    pub const QUICK: usize = offset_of!(Tlb, quick);
    pub const VERSION: usize = offset_of!(Tlb, version);
    /// In an entry.
    pub const READ: usize = offset_of!(Entry, read);
    pub const WRITE: usize = offset_of!(Entry, write);
    pub const PAGE: usize = offset_of!(Entry, page);
    pub const ENTRY_SIZE: usize = size_of::<Entry>();
}

const EMPTY: Entry =
    Entry { read: NO_TAG, write: NO_TAG, fetch: NO_TAG, page: HostPage::dangling(), physical: 0 };

/// Translations of linear to physical and host pages.
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[Entry; ENTRIES]>,
    /// In bits 11:1 of every live tag.
    epoch: u64,
    /// First entry of the set for the current rights.
    set: usize,
    /// First entry of the set that the fast paths look at: `set`, or one that is always empty.
    quick: usize,
    /// Raised by every flush.
    version: u64,
    /// Which 2 MiB and 1 GiB regions have had entries from large pages since the last flush, by hash.
    large: [u64; LARGE_WORDS],
}

const LARGE_WORDS: usize = 16;

/// Word and bit for a region of `1 << bits` bytes.
fn large_bit(address: u64, bits: u32) -> (usize, u64) {
    let h = (address >> bits).wrapping_add(bits as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    (h as usize / 64 % LARGE_WORDS, 1 << (h % 64))
}

/// Sizes of large pages, as bits of offset; 4 MiB pages count as two of 2 MiB.
const LARGE: [u32; 2] = [21, 30];

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub physical: u64,
    /// The host page, when the access may use it.
    pub page: Option<HostPage>,
}

impl Default for Tlb {
    fn default() -> Self {
        Tlb {
            entries: Box::new([EMPTY; ENTRIES]),
            epoch: 0,
            set: 0,
            quick: 0,
            version: 1,
            large: [0; LARGE_WORDS],
        }
    }
}

impl Tlb {
    /// Forgets everything.
    pub(super) fn flush(&mut self) {
        self.version += 1;
        self.large = [0; LARGE_WORDS];
        self.epoch += EPOCH_STEP;
        if self.epoch > OFFSET {
            self.epoch = 0;
            self.entries.fill(EMPTY);
        }
    }

    /// Forgets everything but global pages.
    pub(super) fn flush_local(&mut self) {
        self.version += 1;
        for e in self.entries.iter_mut().filter(|e| e.physical & 1 == 0) {
            *e = EMPTY;
        }
    }

    /// Notes that part of a large page is about to be entered in pieces of 4 KiB.
    fn note_large(&mut self, address: u64, page_bits: u32) {
        for bits in LARGE.into_iter().filter(|&b| b <= page_bits) {
            let (word, bit) = large_bit(address, if page_bits >= 30 { 30 } else { bits });
            self.large[word] |= bit;
        }
    }

    /// Forgets one linear page; everything, when the address may lie in a large page, whose pieces are all over.
    pub(super) fn flush_page(&mut self, address: u64) {
        let large = LARGE.into_iter().any(|bits| {
            let (word, bit) = large_bit(address, bits);
            self.large[word] & bit != 0
        });
        if large {
            return self.flush();
        }
        self.version += 1;
        let way = (address >> 12) as usize % WAYS;
        for set in 0..3 {
            self.entries[set * WAYS + way] = EMPTY;
        }
    }

    /// Forgets that a physical page may be written directly: it holds decoded code now.
    pub(super) fn protect(&mut self, physical: u64) {
        for e in self.entries.iter_mut().filter(|e| e.physical & !1 == physical & !OFFSET) {
            e.write = NO_TAG;
        }
    }

    #[inline(always)]
    fn tag(&self, address: u64) -> u64 {
        address & !OFFSET | self.epoch
    }

    #[inline(always)]
    fn entry(&self, set: usize, address: u64) -> &Entry {
        &self.entries[(set | ((address >> 12) as usize % WAYS)) % ENTRIES]
    }
}

fn set_of(rights: Rights) -> usize {
    match rights {
        Rights::Supervisor => 0,
        Rights::SupervisorAc => WAYS,
        Rights::User => 2 * WAYS,
    }
}

/// The set without entries: every access goes the slow way, where alignment is checked.
const NO_SET: usize = 3 * WAYS;

fn fits(address: u64, size: u64) -> bool {
    address & OFFSET <= PAGE - size
}

impl Cpu {
    /// Rights of ordinary data accesses and fetches right now.
    pub(super) fn rights(&self) -> Rights {
        if self.cpl == 3 {
            Rights::User
        } else if self.state.rflags & rflags::AC != 0 {
            Rights::SupervisorAc
        } else {
            Rights::Supervisor
        }
    }

    /// To be called whenever CPL or RFLAGS.AC may have changed.
    pub(super) fn rights_changed(&mut self) {
        self.tlb.set = set_of(self.rights());
        self.align_check =
            self.cpl == 3 && self.state.cr0 & cr0::AM != 0 && self.state.rflags & rflags::AC != 0;
        self.tlb.quick = if self.align_check { NO_SET } else { self.tlb.set };
    }

    /// Loads an integer if that takes no more than the TLB; has no effect otherwise.
    #[inline(always)]
    pub(super) fn try_load<T: Int>(&self, a: u64) -> Option<T> {
        let e = self.tlb.entry(self.tlb.quick, a);
        // By the last byte's page: an access that crosses into the next page finds that page's tag, which is never in
        // the entry of the first byte's.
        if e.read == self.tlb.tag(a.wrapping_add(T::SIZE - 1)) {
            // SAFETY: a live tag without SLOW means that the page is lent, and the access fits in it.
            return Some(unsafe { e.page.read(a & OFFSET) });
        }
        None
    }

    /// The page for a store of `T` at `a`, if that takes no more than the TLB.
    #[inline(always)]
    fn try_place<T: Int>(&self, a: u64) -> Option<HostPage> {
        let e = self.tlb.entry(self.tlb.quick, a);
        (e.write == self.tlb.tag(a.wrapping_add(T::SIZE - 1))).then_some(e.page)
    }

    /// Stores an integer if that takes no more than the TLB; says whether it did.
    #[inline(always)]
    pub(super) fn try_store<T: Int>(&mut self, a: u64, v: T) -> bool {
        let Some(page) = self.try_place::<T>(a) else { return false };
        // SAFETY: the page is lent for writing, and the access fits.
        unsafe { page.write(a & OFFSET, v) };
        true
    }

    /// Reads, changes and writes an integer if that takes no more than the TLB; says whether it did.
    #[inline(always)]
    pub(super) fn try_modify<T: Int>(&mut self, a: u64, f: impl Fn(&mut Flags, T) -> T) -> bool {
        let Some(page) = self.try_place::<T>(a) else { return false };
        // SAFETY: the page is lent for writing, and the access fits.
        let old: T = unsafe { page.read(a & OFFSET) };
        let new = f(&mut self.flags, old);
        // SAFETY: as above.
        unsafe { page.write(a & OFFSET, new) };
        true
    }

    /// Loads an integer.
    #[inline(always)]
    pub(super) fn load<T: Int, M: Machine>(&mut self, m: &mut M, a: u64) -> Result<T, Stop> {
        if let Some(v) = self.try_load(a) {
            return Ok(v);
        }
        let v = self.load_slow(m, a, T::SIZE)?;
        Ok(T::from64(v))
    }

    /// Stores an integer.
    #[inline(always)]
    pub(super) fn store<T: Int, M: Machine>(&mut self, m: &mut M, a: u64, v: T) -> Flow {
        if self.try_store(a, v) {
            return Ok(());
        }
        self.store_slow(m, a, T::SIZE, v.to64())
    }

    /// Reads, changes and writes one integer; `LOCK` makes it one atomic operation. Gives the old value. `f` may run
    /// several times and starts from the flags of the instruction's beginning each time.
    #[inline(always)]
    pub(super) fn modify<T: Int, M: Machine, const LOCK: bool>(
        &mut self,
        m: &mut M,
        a: u64,
        f: impl Fn(&mut Flags, T) -> T,
    ) -> Result<T, Stop> {
        if let Some(page) = self.try_place::<T>(a) {
            if !LOCK {
                // SAFETY: the page is lent for writing, and the access fits.
                let old: T = unsafe { page.read(a & OFFSET) };
                let new = f(&mut self.flags, old);
                // SAFETY: as above.
                unsafe { page.write(a & OFFSET, new) };
                return Ok(old);
            }
            return Ok(self.modify_locked(page, a & OFFSET, f));
        }
        self.modify_slow::<T, M, LOCK>(m, a, f)
    }

    fn modify_locked<T: Int>(&mut self, page: HostPage, offset: u64, f: impl Fn(&mut Flags, T) -> T) -> T {
        // SAFETY: callers pass a lent page and an offset at which the operand fits.
        let mut old: T = unsafe { page.read(offset) };
        loop {
            let mut flags = self.flags;
            let new = f(&mut flags, old);
            // SAFETY: as above.
            let seen = unsafe { page.compare_exchange(offset, T::SIZE as u8, old.to64(), new.to64()) };
            let seen = T::from64(seen);
            if seen == old {
                self.flags = flags;
                return old;
            }
            old = seen;
        }
    }

    #[cold]
    #[inline(never)]
    fn modify_slow<T: Int, M: Machine, const LOCK: bool>(
        &mut self,
        m: &mut M,
        a: u64,
        f: impl Fn(&mut Flags, T) -> T,
    ) -> Result<T, Stop> {
        self.check_alignment(a, T::SIZE)?;
        if fits(a, T::SIZE) {
            let place = self.locate_write(m, a)?;
            if let (Some(page), true) = (place.page, LOCK) {
                self.note_access(a, T::SIZE, false);
                self.note_access(a, T::SIZE, true);
                return Ok(self.modify_locked(page, a & OFFSET, f));
            }
        }
        self.note_access(a, T::SIZE, false);
        self.note_access(a, T::SIZE, true);
        // A locked access across two pages is not atomic here; no operating system relies on one.
        let mut b = [0; 8];
        let size = T::SIZE as usize;
        let parts = self.parts(m, a, size, Access::Write)?;
        self.read_parts(m, &parts, &mut b[..size]);
        let old = T::from64(u64::from_le_bytes(b));
        let new = f(&mut self.flags, old);
        self.write_parts(m, &parts, &new.to64().to_le_bytes()[..size]);
        Ok(old)
    }

    /// Compare-exchange of 16 bytes at an address that is a multiple of 16; gives what was there.
    pub(super) fn exchange_16<M: Machine>(
        &mut self,
        m: &mut M,
        a: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop> {
        let place = self.locate_write(m, a)?;
        self.note_access(a, 16, false);
        self.note_access(a, 16, true);
        if let Some(page) = place.page {
            // SAFETY: the page is lent, the offset is a multiple of 16; every x86-64 host since 2006 that runs
            // this has CMPXCHG16B (the program's start-up checks it).
            return Ok(unsafe { page.compare_exchange_16(a & OFFSET, old, new) });
        }
        let mut b = [0; 16];
        m.at(self.start);
        m.read(place.physical, &mut b);
        let seen = u128::from_le_bytes(b);
        let next = if seen == old { new } else { seen };
        m.write(place.physical, &next.to_le_bytes());
        Ok(seen)
    }

    #[cold]
    #[inline(never)]
    fn load_slow<M: Machine>(&mut self, m: &mut M, a: u64, size: u64) -> Result<u64, Stop> {
        self.check_alignment(a, size)?;
        let mut b = [0; 8];
        self.load_bytes(m, a, &mut b[..size as usize])?;
        Ok(u64::from_le_bytes(b))
    }

    #[cold]
    #[inline(never)]
    fn store_slow<M: Machine>(&mut self, m: &mut M, a: u64, size: u64, v: u64) -> Flow {
        self.check_alignment(a, size)?;
        self.store_bytes(m, a, &v.to_le_bytes()[..size as usize])
    }

    /// #AC for an unaligned access at CPL 3 with CR0.AM and RFLAGS.AC.
    fn check_alignment(&mut self, a: u64, size: u64) -> Flow {
        if self.align_check && a & (size - 1) != 0 {
            return self.raise(Exception::with_code(vector::AC, 0));
        }
        Ok(())
    }

    /// Loads 1 to 64 bytes with the current rights.
    pub(super) fn load_bytes<M: Machine>(&mut self, m: &mut M, a: u64, data: &mut [u8]) -> Flow {
        let parts = self.parts(m, a, data.len(), Access::Read)?;
        self.note_access(a, data.len() as u64, false);
        self.read_parts(m, &parts, data);
        Ok(())
    }

    /// Stores 1 to 64 bytes with the current rights; on a fault nothing is written.
    pub(super) fn store_bytes<M: Machine>(&mut self, m: &mut M, a: u64, data: &[u8]) -> Flow {
        let parts = self.parts(m, a, data.len(), Access::Write)?;
        self.note_access(a, data.len() as u64, true);
        self.write_parts(m, &parts, data);
        Ok(())
    }

    /// Checks that a range of 1 to 4096 bytes can be written, without writing.
    pub(super) fn probe_write<M: Machine>(&mut self, m: &mut M, a: u64, size: usize) -> Flow {
        self.parts(m, a, size, Access::Write).map(|_| ())
    }

    /// Loads 1, 2, 4 or 8 bytes of a system structure: supervisor rights whatever the CPL.
    pub(super) fn load_system<T: Int, M: Machine>(&mut self, m: &mut M, a: u64) -> Result<T, Stop> {
        let set = std::mem::replace(&mut self.tlb.set, set_of(Rights::Supervisor));
        let mut b = [0; 8];
        let r = self.load_bytes(m, self.wrap(a), &mut b[..T::SIZE as usize]);
        self.tlb.set = set;
        r.map(|()| T::from64(u64::from_le_bytes(b)))
    }

    /// Stores to a system structure: supervisor rights whatever the CPL.
    pub(super) fn store_system<T: Int, M: Machine>(&mut self, m: &mut M, a: u64, v: T) -> Flow {
        let set = std::mem::replace(&mut self.tlb.set, set_of(Rights::Supervisor));
        let r = self.store_bytes(m, self.wrap(a), &v.to64().to_le_bytes()[..T::SIZE as usize]);
        self.tlb.set = set;
        r
    }

    /// Linear addresses outside IA-32e mode have 32 bits.
    fn wrap(&self, a: u64) -> u64 {
        if self.state.long_mode() { a } else { a & 0xffff_ffff }
    }

    /// The one or two places of a range of at most a page.
    fn parts<M: Machine>(
        &mut self,
        m: &mut M,
        a: u64,
        size: usize,
        access: Access,
    ) -> Result<[(Place, usize); 2], Stop> {
        let first = size.min((PAGE - (a & OFFSET)) as usize);
        if first != size && self.canonical(a) && !self.canonical(a.wrapping_add(size as u64 - 1)) {
            // Not canonical anywhere comes before any page fault.
            return self.not_canonical(a);
        }
        let one = self.locate(m, a, access)?;
        if first == size {
            return Ok([(one, size), (one, 0)]);
        }
        let next = self.wrap(a.wrapping_add(first as u64));
        let two = self.locate(m, next, access)?;
        Ok([(one, first), (two, size - first)])
    }

    /// #GP(0) or #SS(0): the address marks it as a matter of the operand's segment, see `memory_fault`.
    #[cold]
    fn not_canonical<T>(&mut self, a: u64) -> Result<T, Stop> {
        let e = Exception::with_code(vector::GP, 0);
        self.raise(Exception { cr2: Some(a), ..e })
    }

    /// For operands that are accessed in pieces: an address that is not canonical comes before any page fault.
    pub(super) fn both_ends_canonical(&mut self, a: u64, size: usize) -> Flow {
        let end = a.wrapping_add(size as u64 - 1);
        if self.canonical(a) && self.canonical(end) { Ok(()) } else { self.not_canonical(a) }
    }

    fn read_parts<M: Machine>(&mut self, m: &mut M, parts: &[(Place, usize); 2], data: &mut [u8]) {
        let (low, high) = data.split_at_mut(parts[0].1);
        for ((place, _), part) in parts.iter().zip([low, high]) {
            match place.page {
                _ if part.is_empty() => {}
                // SAFETY: `parts` cut the range at the page's end, and the page is lent.
                Some(page) => unsafe { page.read_part(place.physical & OFFSET, part) },
                None => {
                    m.at(self.start);
                    m.read(place.physical, part);
                }
            }
        }
    }

    fn write_parts<M: Machine>(&mut self, m: &mut M, parts: &[(Place, usize); 2], data: &[u8]) {
        let (low, high) = data.split_at(parts[0].1);
        for ((place, _), part) in parts.iter().zip([low, high]) {
            match place.page {
                _ if part.is_empty() => {}
                // SAFETY: `parts` cut the range at the page's end, and the page is lent for writing.
                Some(page) => unsafe { page.write_part(place.physical & OFFSET, part) },
                None => {
                    m.at(self.start);
                    m.write(place.physical, part);
                }
            }
        }
    }

    fn locate_write<M: Machine>(&mut self, m: &mut M, a: u64) -> Result<Place, Stop> {
        self.locate(m, a, Access::Write)
    }

    /// Finds where one byte lies. What is not RAM is reached by instructions run by themselves only, so that
    /// devices can be told which.
    pub(super) fn locate<M: Machine>(&mut self, m: &mut M, a: u64, access: Access) -> Result<Place, Stop> {
        let place = self.look_up(m, a, access)?;
        if place.page.is_none() && !self.careful && access != Access::Fetch {
            return Err(Stop::Careful);
        }
        Ok(place)
    }

    /// Finds where one byte lies, by the TLB or a walk.
    #[inline(always)]
    fn look_up<M: Machine>(&mut self, m: &mut M, a: u64, access: Access) -> Result<Place, Stop> {
        let tag = self.tlb.tag(a);
        let e = *self.tlb.entry(self.tlb.set, a);
        let have = match access {
            Access::Read => e.read,
            Access::Write => e.write,
            Access::Fetch => e.fetch,
        };
        // Slow writes are looked at anew each time: the page may have held code, and not any more.
        if have & !SLOW != tag || have == NO_TAG || (access == Access::Write && have & SLOW != 0) {
            return self.fill(m, a, access);
        }
        let physical = e.physical & !OFFSET | a & OFFSET;
        Ok(Place { physical, page: (have & SLOW == 0).then_some(e.page) })
    }

    /// A miss: walks the page tables and fills the entry.
    fn fill<M: Machine>(&mut self, m: &mut M, a: u64, access: Access) -> Result<Place, Stop> {
        if !self.canonical(a) {
            return self.not_canonical(a);
        }
        let rights = match self.tlb.set / WAYS {
            0 => Rights::Supervisor,
            1 => Rights::SupervisorAc,
            _ => Rights::User,
        };
        let found = paging::walk_by(&self.state, m, &self.code, self.phys_bits, a, access, rights);
        let t = match found {
            Ok(t) => t,
            Err(e) => return self.raise(e),
        };
        // Watched pages are looked up anew each time, by instructions run by themselves: see `debug.rs`.
        let watched = access != Access::Fetch && self.is_watched(a);
        if watched && !self.careful {
            return Err(Stop::Careful);
        }
        if t.page_bits > 12 {
            // Both halves of a 4 MiB page.
            self.tlb.note_large(a, t.page_bits);
            self.tlb.note_large(a ^ 1 << 21, t.page_bits);
        }
        let frame = t.address & !OFFSET;
        let page = m.ram(frame);
        let tag = self.tlb.tag(a);
        let direct = tag | if page.is_some() { 0 } else { SLOW };
        let index = (self.tlb.set | ((a >> 12) as usize % WAYS)) % ENTRIES;
        let e = &mut self.tlb.entries[index];
        let host = page.unwrap_or(HostPage::dangling());
        // All tags of an entry speak of the same host page, also while one that was remapped is still lent.
        let same = [e.read, e.write, e.fetch].iter().any(|&t| t != NO_TAG && t & !SLOW == tag)
            && e.physical & !OFFSET == frame
            && e.page == host;
        if !same {
            *e = EMPTY;
        }
        e.page = host;
        e.physical = frame | t.global as u64;
        match access {
            Access::Fetch => e.fetch = direct,
            Access::Read if !watched => e.read = direct,
            Access::Read | Access::Write => {}
        }
        let mut plain = page.is_some() && m.writable(frame);
        if plain && self.code.is_code(frame) {
            if access == Access::Write {
                if !self.careful {
                    return Err(Stop::Careful);
                }
                self.code.written(frame);
            } else {
                plain = false;
            }
        }
        let e = &mut self.tlb.entries[index];
        let mut place = Place { physical: t.address, page };
        if !watched && (access == Access::Write || t.write_ready && access == Access::Read) {
            e.write = tag | if plain { 0 } else { SLOW };
        }
        if access == Access::Write && !plain {
            place.page = None;
        }
        Ok(place)
    }

    /// Copies instruction bytes from `a` on, at most to the end of the page; gives how many.
    pub(super) fn fetch<M: Machine>(&mut self, m: &mut M, a: u64, bytes: &mut [u8]) -> Result<usize, Stop> {
        let place = self.locate(m, a, Access::Fetch)?;
        let n = bytes.len().min((PAGE - (a & OFFSET)) as usize);
        match place.page {
            // SAFETY: cut at the page's end, and the page is lent.
            Some(page) => unsafe { page.read_bytes(place.physical & OFFSET, &mut bytes[..n]) },
            None => m.read(place.physical, &mut bytes[..n]),
        }
        Ok(n)
    }

    /// Drops all translations: after CR0, CR3, CR4 or EFER were changed from outside, or RAM was remapped.
    pub fn flush_tlb(&mut self) {
        self.tlb.flush();
    }

    /// Changes with every flush: what was translated at the same version still holds.
    #[inline(always)]
    pub(super) fn tlb_version(&self) -> u64 {
        self.tlb.version
    }

    /// Marks a page as holding decoded code; gives its generation and whether it is new.
    pub(super) fn mark_code(&mut self, physical: u64) -> Option<(u32, bool)> {
        let (generation, fresh) = self.code.mark(physical)?;
        if fresh {
            self.tlb.protect(physical);
        }
        Some((generation, fresh))
    }

    /// Copies code bytes out of a page, not past its end.
    pub(super) fn copy_code(&self, page: HostPage, physical: u64, bytes: &mut [u8]) {
        let n = bytes.len().min((PAGE - (physical & OFFSET)) as usize);
        // SAFETY: cut at the page's end; callers pass a page that `locate` has just given.
        unsafe { page.read_bytes(physical & OFFSET, &mut bytes[..n]) }
    }

    /// Drops the translations of one linear page: INVLPG.
    pub(super) fn flush_page(&mut self, address: u64) {
        self.tlb.flush_page(address);
    }

    /// Drops the translations that are not global: MOV to CR3.
    pub(super) fn flush_tlb_local(&mut self) {
        self.tlb.flush_local();
    }

    /// Whether a global flush is due when CR4 or CR0 go from `old` to `new`.
    pub(super) fn cr4_needs_flush(old: u64, new: u64) -> bool {
        let watched =
            cr4::PGE | cr4::PAE | cr4::PSE | cr4::SMEP | cr4::SMAP | cr4::LA57 | cr4::PCIDE | cr4::PKE;
        (old ^ new) & watched != 0
    }
}

impl Cpu {
    /// Copies up to `bytes` upwards, as far as both pages reach, in multiples of `unit`; gives how many. Zero when
    /// either side is not plain RAM or a unit crosses a page.
    pub(super) fn move_in_pages<M: Machine>(
        &mut self,
        m: &mut M,
        from: u64,
        to: u64,
        bytes: u64,
        unit: u64,
    ) -> Result<u64, Stop> {
        let room = (PAGE - (from & OFFSET)).min(PAGE - (to & OFFSET)).min(bytes);
        let n = room & !(unit - 1);
        if n == 0 {
            // Whether the next page matters comes before any fault of this one.
            return Ok(0);
        }
        let source = self.locate(m, from, Access::Read)?;
        let target = self.locate(m, to, Access::Write)?;
        let (Some(a), Some(b)) = (source.page, target.page) else { return Ok(0) };
        if self.is_watched(from) || self.is_watched(to) {
            return Ok(0);
        }
        // SAFETY: both pages are lent and `n` reaches neither end.
        unsafe { HostPage::copy_up(a, from & OFFSET, b, to & OFFSET, n, unit) };
        Ok(n)
    }

    /// Fills up to `bytes` upwards with a repeated value of `unit` bytes, as far as the page reaches; gives how many.
    pub(super) fn fill_page<M: Machine>(
        &mut self,
        m: &mut M,
        to: u64,
        value: u64,
        bytes: u64,
        unit: u64,
    ) -> Result<u64, Stop> {
        let n = (PAGE - (to & OFFSET)).min(bytes) & !(unit - 1);
        if n == 0 {
            return Ok(0);
        }
        let target = self.locate(m, to, Access::Write)?;
        let Some(page) = target.page.filter(|_| !self.is_watched(to)) else { return Ok(0) };
        // SAFETY: the page is lent and `n` does not reach past its end.
        unsafe { page.fill(to & OFFSET, value, n, unit) };
        Ok(n)
    }
}
