//! Memory for host code: written in pieces, one behind the other, and never writable and executable at once.
//!
//! Called by the translator only. A host that does not let this process make memory executable gives none, and the
//! blocks then run as ops.
#![expect(unsafe_code, reason = "memory that is executed is mapped and protected by hand")]

use std::ptr::NonNull;

/// Bytes reserved for a processor; the host hands memory out only as far as it is written.
const SIZE: usize = 16 << 20;
const PAGE: usize = 4096;

/// Executable memory, filled from the start.
#[derive(Debug)]
pub(super) struct CodeMemory {
    base: NonNull<u8>,
    used: usize,
    /// What was added may not be run any more.
    lost: bool,
    /// For tests: how often the host still makes memory executable.
    #[cfg(test)]
    pub permits: std::cell::Cell<u32>,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for CodeMemory {}

impl CodeMemory {
    /// `None` when the host does not allow it.
    pub fn new() -> Option<CodeMemory> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, libc::PROT_NONE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        let memory = CodeMemory {
            base: NonNull::new(at.cast())?,
            used: 0,
            lost: false,
            #[cfg(test)]
            permits: std::cell::Cell::new(u32::MAX),
        };
        // Asked for once, so that a refusal is known before anything relies on it.
        (memory.protect(0, PAGE, false) && memory.protect(0, PAGE, true)).then_some(memory)
    }

    /// Where the next piece will be: an address, and its distance from the start.
    pub fn next(&self) -> (u64, u32) {
        (self.address(self.used as u32) as u64, self.used as u32)
    }

    /// The address `offset` bytes from the start.
    pub fn address(&self, offset: u32) -> *const u8 {
        self.base.as_ptr().wrapping_add(offset as usize)
    }

    /// Adds code at [`Self::next`]; false when there is no room, or the host refuses.
    pub fn add(&mut self, code: &[u8]) -> bool {
        let end = self.used + code.len();
        if end > SIZE || !self.protect(self.used, end, false) {
            return false;
        }
        // SAFETY: inside the mapping, which is writable here now, and nobody refers to bytes behind `used`.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.base.as_ptr().add(self.used), code.len())
        };
        if !self.protect(self.used, end, true) {
            // The first of these pages holds the end of what was there before.
            self.lost = true;
            return false;
        }
        // Code begins at a cache line of its own.
        self.used = end.next_multiple_of(64).min(SIZE);
        true
    }

    /// Whether the host has refused to make pages executable again that hold code from before: none of it may run.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Forgets all code; nobody may run it any more.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Makes the pages of these bytes executable, or writable.
    fn protect(&self, from: usize, to: usize, executable: bool) -> bool {
        let (from, to) = (from / PAGE * PAGE, to.next_multiple_of(PAGE));
        #[cfg(test)]
        if executable {
            match self.permits.get() {
                0 => return false,
                n => self.permits.set(n - 1),
            }
        }
        let rights = libc::PROT_READ | if executable { libc::PROT_EXEC } else { libc::PROT_WRITE };
        // SAFETY: pages of our own mapping; code in them is not running, since its only caller is in this call.
        unsafe { libc::mprotect(self.base.as_ptr().add(from).cast(), to - from, rights) == 0 }
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_never_writable_and_executable_at_once() {
        let mut memory = CodeMemory::new().expect("this host lets its processes make code");
        assert!(memory.add(&[0xc3; 5000]));
        let (at, offset) = memory.next();
        assert_eq!(offset % 64, 0);
        assert!(memory.add(&[0xc3]) && !memory.add(&vec![0xc3; SIZE]));
        let start = at as usize - offset as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let rights: Vec<&str> = maps
            .lines()
            .filter_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let hex = |text| usize::from_str_radix(text, 16).ok();
                (hex(from)? < start + SIZE && hex(to)? > start).then_some(&rest[..4])
            })
            .collect();
        assert!(rights.contains(&"r-xp") && rights.iter().all(|r| !r.contains("wx")), "{rights:?}");
    }
}
