//! Guest RAM as one or more regions of host memory.
//!
//! Called by everything that reads or writes guest memory. Wraps vm-memory in this one file so that its
//! generics do not spread; never panics on guest-controlled addresses.

use std::fmt;
use std::sync::{Arc, OnceLock};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice};

/// Why guest memory could not be created or touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Part of the range is not RAM: a hole, a BAR, or beyond the end.
    #[error("guest address {addr:#x} (+{len} bytes) is not RAM")]
    NotRam {
        /// First guest physical address of the access.
        addr: u64,
        /// Length of the access in bytes.
        len: usize,
    },
    /// The host refused the mapping.
    #[error("cannot map {0} MiB of guest RAM: the host refused (lower -m)")]
    CannotMap(u64),
}

/// One contiguous piece of RAM, as an accelerator maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRegion {
    /// Guest physical address of the first byte.
    pub guest_base: u64,
    /// Length in bytes.
    pub len: u64,
    /// Host virtual address of the first byte; valid as long as the [`GuestRam`] lives.
    pub host_base: u64,
}

/// A piece of guest RAM lent to whoever gathers or scatters a frame.
pub type GuestSlice<'a> = VolatileSlice<'a, ()>;

/// Told of everything that [`GuestRam::write`] writes: by devices, loaders, the debugger; not by the guest's processors.
pub trait WriteWatch: Send + Sync {
    /// `len` bytes at guest physical address `addr` have been written. On the writer's thread, so it must be quick.
    fn written(&self, addr: u64, len: usize);
}

/// The machine's RAM. Clones share it.
#[derive(Clone)]
pub struct GuestRam {
    mem: Arc<GuestMemoryMmap<()>>,
    watch: Arc<OnceLock<Arc<dyn WriteWatch>>>,
}

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam").field("regions", &self.regions()).finish()
    }
}

impl GuestRam {
    /// Maps zeroed RAM at each (guest base, length in bytes) of `layout`.
    ///
    /// # Errors
    /// [`MemoryError::CannotMap`] when the host has no room or the ranges overlap.
    pub fn new(layout: &[(u64, u64)]) -> Result<Self, MemoryError> {
        let total: u64 = layout.iter().map(|r| r.1).sum();
        let ranges: Vec<_> = layout.iter().map(|&(base, len)| (GuestAddress(base), len as usize)).collect();
        let mem = GuestMemoryMmap::from_ranges(&ranges).map_err(|_| MemoryError::CannotMap(total >> 20))?;
        let this = Self { mem: Arc::new(mem), watch: Arc::default() };
        this.regions().into_iter().for_each(ask_for_large_pages);
        Ok(this)
    }

    /// The regions, lowest guest address first.
    pub fn regions(&self) -> Vec<RamRegion> {
        self.mem
            .iter()
            .map(|r| RamRegion {
                guest_base: r.start_addr().0,
                len: r.len(),
                host_base: r.get_host_address(vm_memory::MemoryRegionAddress(0)).map_or(0, |p| p as u64),
            })
            .collect()
    }

    /// Copies `buf.len()` bytes at guest address `addr` into `buf`.
    ///
    /// # Errors
    /// [`MemoryError::NotRam`] when any byte lies outside RAM; `buf` is then unspecified.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.mem.read_slice(buf, GuestAddress(addr)).map_err(|_| MemoryError::NotRam { addr, len: buf.len() })
    }

    /// Copies `data` to guest address `addr`.
    ///
    /// # Errors
    /// [`MemoryError::NotRam`] when any byte lies outside RAM; nothing is written then.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<(), MemoryError> {
        if !self.contains(addr, data.len()) {
            return Err(MemoryError::NotRam { addr, len: data.len() });
        }
        self.mem
            .write_slice(data, GuestAddress(addr))
            .map_err(|_| MemoryError::NotRam { addr, len: data.len() })?;
        if let Some(watch) = self.watch.get() {
            watch.written(addr, data.len());
        }
        Ok(())
    }

    /// Tells `watch` of every write from now on. An accelerator that keeps decoded code calls it, once: false, without
    /// effect, if there is a watch already.
    #[must_use]
    pub fn watch_writes(&self, watch: Arc<dyn WriteWatch>) -> bool {
        self.watch.set(watch).is_ok()
    }

    /// Lends `len` bytes at `addr`, which must lie inside one region.
    ///
    /// # Errors
    /// [`MemoryError::NotRam`] when they do not.
    pub fn slice(&self, addr: u64, len: usize) -> Result<GuestSlice<'_>, MemoryError> {
        self.mem.get_slice(GuestAddress(addr), len).map_err(|_| MemoryError::NotRam { addr, len })
    }

    /// Whether the whole range is RAM.
    pub fn contains(&self, addr: u64, len: usize) -> bool {
        addr.checked_add(len as u64).is_some()
            && GuestMemoryBackend::check_range(&*self.mem, GuestAddress(addr), len)
    }

    /// One past the highest RAM address.
    pub fn end(&self) -> u64 {
        self.regions().last().map_or(0, |r| r.guest_base + r.len)
    }

    /// Makes the whole of RAM read as zero and gives its pages back to the host, as a power cycle does.
    /// Every CPU must stand still.
    pub fn clear(&self) {
        for region in self.regions() {
            give_back(region);
        }
    }
}

/// Large pages cost fewer faults while the guest starts, and fewer misses of the host's TLB afterwards, which are dear
/// where the host is a virtual machine itself. A host without them says no, and nothing is lost.
#[expect(unsafe_code, reason = "madvise on guest RAM")]
fn ask_for_large_pages(region: RamRegion) {
    // SAFETY: the region is a private anonymous mapping of ours; MADV_HUGEPAGE changes nothing that can be read in it.
    unsafe { libc::madvise(region.host_base as *mut _, region.len as usize, libc::MADV_HUGEPAGE) };
}

#[expect(unsafe_code, reason = "madvise on guest RAM")]
fn give_back(region: RamRegion) {
    // SAFETY: the region is a private anonymous mapping that GuestRam owns for as long as `self` of the caller
    // lives; MADV_DONTNEED leaves it mapped and zero-filled (madvise(2)), and all access to it is volatile.
    let rc = unsafe { libc::madvise(region.host_base as *mut _, region.len as usize, libc::MADV_DONTNEED) };
    debug_assert_eq!(rc, 0, "madvise on our own mapping cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_across_the_end_fails_whole() {
        let ram = GuestRam::new(&[(0, 0x2000), (0x1_0000_0000, 0x1000)]).unwrap();
        assert_eq!(ram.write(0x1ffe, &[1, 2, 3]), Err(MemoryError::NotRam { addr: 0x1ffe, len: 3 }));
        let mut tail = [9; 2];
        ram.read(0x1ffe, &mut tail).unwrap();
        assert_eq!(tail, [0, 0]);
        assert!(ram.read(u64::MAX, &mut tail).is_err());
        assert!(ram.slice(0x1_0000_0fff, 2).is_err());
        assert_eq!(ram.end(), 0x1_0000_1000);
    }

    #[test]
    fn clear_zeroes_every_region() {
        let ram = GuestRam::new(&[(0, 0x3000), (0x1_0000_0000, 0x1000)]).unwrap();
        ram.write(0x2fff, &[7]).unwrap();
        ram.write(0x1_0000_0000, &[8]).unwrap();
        ram.clear();
        let mut b = [1];
        ram.read(0x2fff, &mut b).unwrap();
        assert_eq!(b, [0]);
        ram.read(0x1_0000_0000, &mut b).unwrap();
        assert_eq!(b, [0]);
    }
}
