//! Which physical pages hold decoded code, so that writes to them can be seen.
//!
//! One per machine, shared by all its processors. What writes to RAM behind their back (DMA, the debugger) is reported by
//! `memory::GuestRam`, whose watch this is. A processor that decodes code from a page marks it and gives up direct
//! write access to it; a write then raises the page's generation, and every block decoded before is stale.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::memory::WriteWatch;

const CODE: u32 = 1 << 31;

/// Marks and generations, one word per 4 KiB page of RAM.
#[derive(Debug, Default)]
pub struct CodePages {
    pages: Box<[AtomicU32]>,
    /// How often a page was newly marked; tells other processors to drop their write access.
    marks: AtomicU64,
    /// How often something decoded became stale; while it stands, no generation has to be looked at.
    changes: AtomicU64,
}

/// What was decoded in this page is stale.
fn forget(page: &AtomicU32) {
    let next = |v: u32| Some(v.wrapping_add(1) & !CODE);
    // The closure never refuses.
    let _ = page.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
}

impl WriteWatch for CodePages {
    fn written(&self, addr: u64, len: usize) {
        // A processor marks the page, then reads the bytes; the writer has written the bytes, now reads the mark. With a
        // fence between, one of the two sees the other.
        fence(Ordering::SeqCst);
        let last = addr.saturating_add((len as u64).saturating_sub(1));
        for page in addr >> 12..=last >> 12 {
            CodePages::written(self, page << 12);
        }
    }
}

impl CodePages {
    /// For physical addresses below `end`. Code above is executed without being cached.
    pub fn new(end: u64) -> Self {
        CodePages {
            pages: (0..end.div_ceil(4096)).map(|_| AtomicU32::new(0)).collect(),
            marks: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    fn page(&self, address: u64) -> Option<&AtomicU32> {
        self.pages.get((address >> 12) as usize)
    }

    /// Whether the page holds decoded code.
    pub fn is_code(&self, address: u64) -> bool {
        self.page(address).is_some_and(|p| p.load(Ordering::Relaxed) & CODE != 0)
    }

    /// Everything decoded so far is stale: RAM was cleared or replaced.
    pub fn forget_all(&self) {
        self.pages.iter().for_each(forget);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The addresses from `start` to `end` lead elsewhere than before: what was decoded there is stale, and every
    /// processor drops its translations before it runs on, for which the caller brings them all back.
    pub fn remapped(&self, start: u64, end: u64) {
        (start >> 12..end.div_ceil(4096)).filter_map(|page| self.page(page << 12)).for_each(forget);
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.marks.fetch_add(1, Ordering::AcqRel);
    }

    /// To be called for every page that something other than the processors' own stores writes to, after the write.
    pub fn written(&self, address: u64) {
        if let Some(p) = self.page(address).filter(|p| p.load(Ordering::Relaxed) & CODE != 0) {
            forget(p);
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Marks a page; gives its generation and whether the mark is new. `None` for a page that cannot be watched.
    pub(super) fn mark(&self, address: u64) -> Option<(u32, bool)> {
        let old = self.page(address)?.fetch_or(CODE, Ordering::AcqRel);
        let fresh = old & CODE == 0;
        if fresh {
            self.marks.fetch_add(1, Ordering::AcqRel);
        }
        Some((old | CODE, fresh))
    }

    /// Whether what was decoded at this generation still holds.
    #[inline(always)]
    pub(super) fn is_current(&self, address: u64, generation: u32) -> bool {
        self.page(address).is_some_and(|p| p.load(Ordering::Relaxed) == generation)
    }

    /// Counts up whenever [`Self::is_current`] may have become false for something.
    #[inline(always)]
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Where that count is, for host code.
    pub(super) fn changes_at(&self) -> *const u64 {
        self.changes.as_ptr()
    }

    pub(super) fn marks(&self) -> u64 {
        self.marks.load(Ordering::Acquire)
    }
}
