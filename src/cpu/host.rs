//! Guest RAM by host pointer: single volatile and atomic accesses inside one page.
//!
//! The only place of `cpu/` that dereferences a pointer into guest memory. Called by the TLB's fast paths and by
//! page-table walks. Other vCPUs, devices and the guest itself may change the bytes at any time, so no reference
//! to them is ever made.
#![expect(unsafe_code, reason = "guest RAM is reached through host pointers")]

use std::ptr::NonNull;

/// Bytes in a page, and the mask of the offset in it.
pub const PAGE: u64 = 4096;
pub const OFFSET: u64 = PAGE - 1;

/// A 4 KiB page of guest RAM in host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage(NonNull<u8>);

// SAFETY: the page is shared memory by nature; all access is volatile or atomic, from any thread.
unsafe impl Send for HostPage {}
// SAFETY: as above.
unsafe impl Sync for HostPage {}

/// A value at any alignment.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T>(T);

impl HostPage {
    /// Lends a page.
    ///
    /// # Safety
    /// `page` points to 4096 bytes, aligned to 4096, that stay mapped readable and writable for as long as any
    /// copy of the result is used: until the `Cpu` it was given to is dropped or its TLB flushed.
    pub unsafe fn new(page: NonNull<u8>) -> HostPage {
        HostPage(page)
    }

    /// A page that must not be accessed; fills unused TLB entries.
    pub(super) const fn dangling() -> HostPage {
        HostPage(NonNull::dangling())
    }

    /// One load.
    ///
    /// # Safety
    /// `offset + size_of::<T>()` is at most 4096, and `self` is not [`Self::dangling`].
    #[inline(always)]
    pub(super) unsafe fn read<T: Copy>(self, offset: u64) -> T {
        // SAFETY: in the page by the caller's promise; any bit pattern is a valid integer.
        unsafe { self.0.as_ptr().add(offset as usize).cast::<Unaligned<T>>().read_volatile().0 }
    }

    /// One store.
    ///
    /// # Safety
    /// As [`Self::read`].
    #[inline(always)]
    pub(super) unsafe fn write<T: Copy>(self, offset: u64, value: T) {
        // SAFETY: in the page by the caller's promise.
        unsafe {
            self.0.as_ptr().add(offset as usize).cast::<Unaligned<T>>().write_volatile(Unaligned(value))
        }
    }

    /// Copies `data.len()` bytes out of the page.
    ///
    /// # Safety
    /// `offset + data.len()` is at most 4096, and `self` is not [`Self::dangling`].
    pub(super) unsafe fn read_bytes(self, offset: u64, data: &mut [u8]) {
        for (i, b) in data.iter_mut().enumerate() {
            // SAFETY: in the page by the caller's promise.
            *b = unsafe { self.read(offset + i as u64) };
        }
    }

    /// Copies bytes into the page.
    ///
    /// # Safety
    /// As [`Self::read_bytes`].
    pub(super) unsafe fn write_bytes(self, offset: u64, data: &[u8]) {
        for (i, b) in data.iter().enumerate() {
            // SAFETY: in the page by the caller's promise.
            unsafe { self.write(offset + i as u64, *b) };
        }
    }

    /// Locked compare-exchange of 1, 2, 4 or 8 bytes at any alignment; returns what was there.
    ///
    /// # Safety
    /// `offset + size` is at most 4096, and `self` is not [`Self::dangling`].
    #[inline(always)]
    pub(super) unsafe fn compare_exchange(self, offset: u64, size: u8, old: u64, new: u64) -> u64 {
        // SAFETY: in the page by the caller's promise.
        let at = unsafe { self.0.as_ptr().add(offset as usize) };
        let mut seen = old;
        // SAFETY: one locked instruction on memory inside the page; the processor allows any alignment.
        unsafe {
            match size {
                1 => {
                    std::arch::asm!("lock cmpxchg byte ptr [{p}], {n}", p = in(reg) at, n = in(reg_byte) new as u8,
                    inout("rax") seen, options(nostack))
                }
                2 => std::arch::asm!("lock cmpxchg word ptr [{p}], {n:x}", p = in(reg) at, n = in(reg) new,
                    inout("rax") seen, options(nostack)),
                4 => std::arch::asm!("lock cmpxchg dword ptr [{p}], {n:e}", p = in(reg) at, n = in(reg) new,
                    inout("rax") seen, options(nostack)),
                _ => std::arch::asm!("lock cmpxchg qword ptr [{p}], {n}", p = in(reg) at, n = in(reg) new,
                    inout("rax") seen, options(nostack)),
            }
        }
        seen
    }

    /// Locked compare-exchange of 16 bytes; returns what was there.
    ///
    /// # Safety
    /// `offset` is a multiple of 16 below 4096, `self` is not [`Self::dangling`], and the host has CMPXCHG16B.
    pub(super) unsafe fn compare_exchange_16(self, offset: u64, old: u128, new: u128) -> u128 {
        // SAFETY: in the page by the caller's promise.
        let at = unsafe { self.0.as_ptr().add(offset as usize) };
        let (mut low, mut high) = (old as u64, (old >> 64) as u64);
        // SAFETY: one locked instruction on aligned memory inside the page. RBX cannot be named as an operand, so it is
        // exchanged around the instruction; the others are named, since RBX is one of those that `reg` stands for.
        unsafe {
            std::arch::asm!("xchg rbx, rsi", "lock cmpxchg16b [rdi]", "mov rbx, rsi",
                inout("rsi") new as u64 => _, in("rdi") at, in("rcx") (new >> 64) as u64,
                inout("rax") low, inout("rdx") high, options(nostack));
        }
        u128::from(low) | u128::from(high) << 64
    }

    /// Copies `count` bytes upwards between two pages or within one, in units of `unit` bytes (1, 2, 4, 8). When the
    /// ranges overlap, each unit is written before the next is read, as REP MOVS does.
    ///
    /// # Safety
    /// Both ranges lie in their pages, neither page is [`Self::dangling`], `count` is a multiple of `unit`.
    pub(super) unsafe fn copy_up(
        from: HostPage,
        from_offset: u64,
        to: HostPage,
        to_offset: u64,
        count: u64,
        unit: u64,
    ) {
        // SAFETY: both ranges lie in their pages by the caller's promise; the processor's own string instruction gives
        // the order that the guest asked for.
        unsafe {
            let s = from.0.as_ptr().add(from_offset as usize);
            let d = to.0.as_ptr().add(to_offset as usize);
            let n = count / unit;
            match unit {
                1 => {
                    std::arch::asm!("rep movsb", inout("rsi") s => _, inout("rdi") d => _, inout("rcx") n => _,
                    options(nostack, preserves_flags))
                }
                2 => {
                    std::arch::asm!("rep movsw", inout("rsi") s => _, inout("rdi") d => _, inout("rcx") n => _,
                    options(nostack, preserves_flags))
                }
                4 => {
                    std::arch::asm!("rep movsd", inout("rsi") s => _, inout("rdi") d => _, inout("rcx") n => _,
                    options(nostack, preserves_flags))
                }
                _ => {
                    std::arch::asm!("rep movsq", inout("rsi") s => _, inout("rdi") d => _, inout("rcx") n => _,
                    options(nostack, preserves_flags))
                }
            }
        }
    }

    /// Fills `count` bytes with a repeated value of `unit` bytes (1, 2, 4, 8).
    ///
    /// # Safety
    /// `offset + count` is at most 4096, `count` a multiple of `unit`, and `self` is not [`Self::dangling`].
    pub(super) unsafe fn fill(self, offset: u64, value: u64, count: u64, unit: u64) {
        // SAFETY: in the page by the caller's promise.
        unsafe {
            let d = self.0.as_ptr().add(offset as usize);
            let n = count / unit;
            match unit {
                1 => std::arch::asm!("rep stosb", inout("rdi") d => _, inout("rcx") n => _, in("rax") value,
                    options(nostack, preserves_flags)),
                2 => std::arch::asm!("rep stosw", inout("rdi") d => _, inout("rcx") n => _, in("rax") value,
                    options(nostack, preserves_flags)),
                4 => std::arch::asm!("rep stosd", inout("rdi") d => _, inout("rcx") n => _, in("rax") value,
                    options(nostack, preserves_flags)),
                _ => std::arch::asm!("rep stosq", inout("rdi") d => _, inout("rcx") n => _, in("rax") value,
                    options(nostack, preserves_flags)),
            }
        }
    }
}

impl HostPage {
    /// Reads the page-table entry of 4 or 8 bytes at physical address `at`.
    pub(super) fn entry(self, at: u64, size: u64) -> u64 {
        let offset = at & OFFSET & !(size - 1);
        // SAFETY: aligned by the mask, so inside the page; callers pass pages lent by the machine.
        unsafe { if size == 4 { self.read::<u32>(offset) as u64 } else { self.read::<u64>(offset) } }
    }

    /// Replaces the page-table entry at `at` if it still reads `old`; says whether it did.
    pub(super) fn entry_exchange(self, at: u64, size: u64, old: u64, new: u64) -> bool {
        let offset = at & OFFSET & !(size - 1);
        // SAFETY: aligned by the mask, so inside the page; callers pass pages lent by the machine.
        let seen = unsafe { self.compare_exchange(offset, size as u8, old, new) };
        seen == old
    }
}

impl HostPage {
    /// Copies bytes out of the page, in one load when their number is that of an integer.
    ///
    /// # Safety
    /// As [`Self::read_bytes`].
    pub(super) unsafe fn read_part(self, offset: u64, data: &mut [u8]) {
        // SAFETY: in the page by the caller's promise.
        unsafe {
            match data.len() {
                2 => data.copy_from_slice(&self.read::<u16>(offset).to_le_bytes()),
                4 => data.copy_from_slice(&self.read::<u32>(offset).to_le_bytes()),
                8 => data.copy_from_slice(&self.read::<u64>(offset).to_le_bytes()),
                n if n % 8 == 0 => {
                    for (i, q) in data.chunks_exact_mut(8).enumerate() {
                        q.copy_from_slice(&self.read::<u64>(offset + 8 * i as u64).to_le_bytes());
                    }
                }
                _ => self.read_bytes(offset, data),
            }
        }
    }

    /// Copies bytes into the page, in one store when their number is that of an integer.
    ///
    /// # Safety
    /// As [`Self::read_bytes`].
    pub(super) unsafe fn write_part(self, offset: u64, data: &[u8]) {
        // SAFETY: in the page by the caller's promise.
        unsafe {
            match *data {
                [a, b] => self.write(offset, u16::from_le_bytes([a, b])),
                [a, b, c, d] => self.write(offset, u32::from_le_bytes([a, b, c, d])),
                _ if data.len().is_multiple_of(8) => {
                    for (i, q) in data.chunks_exact(8).enumerate() {
                        let mut w = [0; 8];
                        w.copy_from_slice(q);
                        self.write(offset + 8 * i as u64, u64::from_le_bytes(w));
                    }
                }
                _ => self.write_bytes(offset, data),
            }
        }
    }
}
