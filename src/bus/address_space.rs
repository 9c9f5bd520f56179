//! One address space: non-overlapping ranges, each with a device.
//!
//! Look-up is a binary search under a read lock that is dropped before the device is called, so a device may
//! move ranges (a BAR write) from inside its own handler. Lock order: none is held across a call.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Access, AccessError};

/// Marks the port I/O space (16-bit addresses).
#[derive(Debug)]
pub enum Pio {}
/// Marks the physical memory space.
#[derive(Debug)]
pub enum Mmio {}

/// What sits behind a range. Offsets count from the range's base; values are little-endian in the low bytes.
pub trait BusDevice: Debug + Send + Sync {
    /// Reads `access.width` bytes at `offset`.
    ///
    /// # Errors
    /// [`AccessError`]; the guest then reads all-ones.
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError>;

    /// Writes the low `access.width` bytes of `value` at `offset`.
    ///
    /// # Errors
    /// [`AccessError`]; the write is then lost.
    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError>;
}

/// Why a range could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Another range is in the way.
    #[error("{name} at {base:#x} (+{len:#x}) overlaps {other}")]
    Overlap {
        /// The new range's name.
        name: String,
        /// Its base.
        base: u64,
        /// Its length.
        len: u64,
        /// The range that is there.
        other: String,
    },
    /// Zero length, or beyond the end of the space.
    #[error("{name} at {base:#x} (+{len:#x}) does not fit the address space")]
    BadRange {
        /// The new range's name.
        name: String,
        /// Its base.
        base: u64,
        /// Its length.
        len: u64,
    },
}

/// Names a registered range, for removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeId(u64);

#[derive(Debug, Clone)]
struct Range {
    id: RangeId,
    base: u64,
    len: u64,
    name: Arc<str>,
    device: Arc<dyn BusDevice>,
}

/// An address space. Clones share it.
#[derive(Debug)]
pub struct Bus<S> {
    ranges: Arc<RwLock<Vec<Range>>>,
    next: Arc<AtomicU64>,
    unclaimed: Arc<AtomicU64>,
    space: PhantomData<S>,
}

impl<S> Clone for Bus<S> {
    fn clone(&self) -> Self {
        Self {
            ranges: self.ranges.clone(),
            next: self.next.clone(),
            unclaimed: self.unclaimed.clone(),
            space: PhantomData,
        }
    }
}

impl<S> Default for Bus<S> {
    fn default() -> Self {
        Self { ranges: Arc::default(), next: Arc::default(), unclaimed: Arc::default(), space: PhantomData }
    }
}

impl<S> Bus<S> {
    /// Registers `device` for `len` bytes at `base`.
    ///
    /// # Errors
    /// [`BusError`] when the range is empty, wraps, or overlaps another.
    pub fn insert(
        &self,
        name: &str,
        base: u64,
        len: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<RangeId, BusError> {
        if len == 0 || base.checked_add(len - 1).is_none() {
            return Err(BusError::BadRange { name: name.into(), base, len });
        }
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let at = ranges.partition_point(|r| r.base < base);
        let before = at.checked_sub(1).map(|i| &ranges[i]).filter(|r| base - r.base < r.len);
        let after = ranges.get(at).filter(|r| r.base - base < len);
        if let Some(other) = before.or(after) {
            return Err(BusError::Overlap { name: name.into(), base, len, other: other.name.to_string() });
        }
        let id = RangeId(self.next.fetch_add(1, Ordering::Relaxed));
        ranges.insert(at, Range { id, base, len, name: name.into(), device });
        Ok(id)
    }

    /// Removes a range; unknown ids are ignored.
    pub fn remove(&self, id: RangeId) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).retain(|r| r.id != id);
    }

    /// Removes every range: the end of the machine. Devices that move ranges hold the bus, and the bus holds
    /// them; this lets both go.
    pub fn clear(&self) {
        let ranges = std::mem::take(&mut *self.ranges.write().unwrap_or_else(PoisonError::into_inner));
        drop(ranges);
    }

    /// Reads at `addr`; all-ones where nothing answers.
    pub fn read(&self, addr: u64, access: &Access<'_>) -> u64 {
        let answer = self.find(addr, access).and_then(|(dev, offset)| dev.read(offset, access).ok());
        answer.unwrap_or_else(|| self.nobody(access))
    }

    /// Writes at `addr`; lost where nothing answers.
    pub fn write(&self, addr: u64, value: u64, access: &Access<'_>) {
        let done = self.find(addr, access).and_then(|(dev, offset)| dev.write(offset, value, access).ok());
        if done.is_none() {
            self.nobody(access);
        }
    }

    /// Accesses that no device answered so far.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }

    fn nobody(&self, access: &Access<'_>) -> u64 {
        self.unclaimed.fetch_add(1, Ordering::Relaxed);
        access.width.all_ones()
    }

    /// The device whose range holds the whole access.
    fn find(&self, addr: u64, access: &Access<'_>) -> Option<(Arc<dyn BusDevice>, u64)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let range = &ranges[ranges.partition_point(|r| r.base <= addr).checked_sub(1)?];
        let offset = addr - range.base;
        let fits = offset < range.len && access.width.bytes() <= range.len - offset;
        fits.then(|| (range.device.clone(), offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Cell(Mutex<u64>);

    impl BusDevice for Cell {
        fn read(&self, offset: u64, _: &Access<'_>) -> Result<u64, AccessError> {
            if offset == 0 { Ok(*self.0.lock().unwrap()) } else { Err(AccessError::NoRegister) }
        }
        fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
            *self.0.lock().unwrap() = value;
            Ok(())
        }
    }

    fn bus() -> Bus<Pio> {
        let bus = Bus::default();
        bus.insert("a", 0x10, 8, Arc::new(Cell::default())).unwrap();
        bus
    }

    #[test]
    fn reads_and_writes_reach_the_device_that_holds_the_range() {
        let bus = bus();
        let dword = Access::plain(Width::Dword);
        bus.write(0x10, 7, &dword);
        assert_eq!(bus.read(0x10, &dword), 7);
    }

    #[test]
    fn what_nobody_answers_reads_all_ones_of_its_width() {
        let bus = bus();
        assert_eq!(bus.read(0x0f, &Access::plain(Width::Byte)), 0xff);
        assert_eq!(bus.read(0x11, &Access::plain(Width::Word)), 0xffff);
        assert_eq!(bus.read(0x14, &Access::plain(Width::Qword)), u64::MAX);
        assert_eq!(bus.read(0x18, &Access::plain(Width::Dword)), 0xffff_ffff);
        assert_eq!(bus.unclaimed(), 4);
    }

    #[test]
    fn overlaps_and_bad_ranges_are_refused() {
        let bus = bus();
        let dev = || Arc::new(Cell::default());
        assert!(matches!(bus.insert("b", 0x17, 1, dev()), Err(BusError::Overlap { .. })));
        assert!(matches!(bus.insert("b", 0x0c, 5, dev()), Err(BusError::Overlap { .. })));
        assert!(matches!(bus.insert("b", 0x20, 0, dev()), Err(BusError::BadRange { .. })));
        assert!(matches!(bus.insert("b", u64::MAX, 2, dev()), Err(BusError::BadRange { .. })));
        let id = bus.insert("b", 0x18, 4, dev()).unwrap();
        bus.remove(id);
        bus.insert("c", 0x18, 4, dev()).unwrap();
    }
}
