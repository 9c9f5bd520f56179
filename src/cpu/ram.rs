//! Guest RAM as the CPU's host pages.
//!
//! Used by accelerators to answer [`super::Machine::ram`]. Holds the RAM, so that it stays mapped.
#![expect(unsafe_code, reason = "lends pages of guest RAM to the CPU")]

use std::ptr::NonNull;

use super::host::{HostPage, PAGE};
use crate::memory::{Behind, FirmwareArea, GuestRam, RamRegion};

/// The RAM of a machine, page by page. Must live as long as the `Cpu` whose machine uses it.
#[derive(Debug, Clone)]
pub struct RamPages {
    regions: Vec<RamRegion>,
    /// Keeps the regions mapped.
    _ram: GuestRam,
}

impl RamPages {
    /// All of `ram`, regions cut to whole pages.
    pub fn new(ram: GuestRam) -> Self {
        let whole = |r: RamRegion| RamRegion { len: r.len & !(PAGE - 1), ..r };
        let fits = |r: &RamRegion| (r.guest_base | r.host_base).is_multiple_of(PAGE);
        let regions = ram.regions().into_iter().filter(fits).map(whole).collect();
        Self { regions, _ram: ram }
    }

    /// The host page behind the guest physical page at `page`.
    #[inline]
    pub fn page(&self, page: u64) -> Option<HostPage> {
        let region = self.regions.iter().find(|r| page.wrapping_sub(r.guest_base) < r.len)?;
        let offset = page.wrapping_sub(region.guest_base) & !(PAGE - 1);
        let at = NonNull::new((region.host_base + offset) as *mut u8)?;
        // SAFETY: a whole page inside a region that `_ram` keeps mapped readable and writable, as long as its owner
        // keeps this value as long as the CPU.
        Some(unsafe { HostPage::new(at) })
    }

    /// The same for a page of `area`, which lies over this RAM. Its owner keeps `area` as long as the CPU.
    pub fn page_of(&self, area: &FirmwareArea, page: u64) -> Option<HostPage> {
        match area.page(page) {
            Behind::Ram { .. } => self.page(page),
            Behind::Nothing => None,
            // SAFETY: `area` names the whole pages of its image, which it keeps mapped readable and writable.
            Behind::Image(host) => NonNull::new(host as *mut u8).map(|at| unsafe { HostPage::new(at) }),
        }
    }
}
