//! What the guest sees where a PC has its firmware: the image below 4 GiB, and the 384 KiB from 640 KiB to 1 MiB, which
//! the host bridge switches piece by piece between the image's copy and the RAM behind it.
//!
//! Made by `machine` for `-bios`; the host bridge switches it ([`FirmwareArea::set_piece`]), accelerators map what
//! [`FirmwareArea::page`] and [`FirmwareArea::stretches`] say, and writes that they cannot make directly come to
//! [`FirmwareArea::write`]. Without `-bios` there is none, and all of it is RAM. Bus masters reach the RAM whatever the
//! host bridge says (`DmaHandle`), which only a device that is told to write over the firmware would show.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{GuestRam, MemoryError};

/// First address of the area: nothing answers from here to [`PIECES_BASE`], where a PC has its display.
pub const AREA_BASE: u64 = 0xa_0000;
/// One past the area.
pub const AREA_END: u64 = 0x10_0000;
/// The first of twelve pieces of 16 KiB, which the last, of 64 KiB, follows.
pub const PIECES_BASE: u64 = 0xc_0000;
/// How many pieces there are.
pub const PIECES: usize = 13;
/// Images are multiples of this, in bytes.
pub const IMAGE_UNIT: usize = 64 << 10;
/// The largest image: below it KVM has pages of its own.
pub const MAX_IMAGE: usize = 16 << 20;

const TOP: u64 = 1 << 32;
const LAST_PIECE: u64 = 0xf_0000;
const SMALL_PIECE: u64 = 16 << 10;
/// As much of the image as is seen below 1 MiB.
const LOW_COPY: usize = 128 << 10;
const READ: u32 = 0b01;
const WRITE: u32 = 0b10;

/// What stands behind a page of the area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Guest RAM.
    Ram {
        /// Whether writes reach it, too.
        writable: bool,
    },
    /// The image: the host address of this page's bytes. Writes may still reach the RAM: [`FirmwareArea::write`].
    Image(u64),
    /// Nothing: reads give ones. Writes as for the image.
    Nothing,
}

/// A stretch of guest addresses with one thing behind it, as an accelerator maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First guest physical address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
    /// For its first page; the following ones follow in the host's memory, too.
    pub behind: Behind,
}

/// The firmware's image and which part of the area shows it.
#[derive(Debug)]
pub struct FirmwareArea {
    /// The image, in host pages that an accelerator can lend; at its place below 4 GiB.
    image: GuestRam,
    image_base: u64,
    /// The RAM behind.
    ram: GuestRam,
    /// [`READ`] and [`WRITE`] of the RAM for each piece, two bits each.
    pieces: AtomicU32,
}

/// The first address and the length of piece `n`.
fn piece(n: usize) -> (u64, u64) {
    match n as u64 {
        n if n < PIECES as u64 - 1 => (PIECES_BASE + n * SMALL_PIECE, SMALL_PIECE),
        _ => (LAST_PIECE, AREA_END - LAST_PIECE),
    }
}

fn piece_at(addr: u64) -> Option<usize> {
    let offset = addr.checked_sub(PIECES_BASE).filter(|_| addr < AREA_END)?;
    Some(((offset / SMALL_PIECE) as usize).min(PIECES - 1))
}

impl FirmwareArea {
    /// An area that shows `image`, whose last byte lies below 4 GiB, over `ram`.
    ///
    /// # Errors
    /// [`MemoryError`] when the host has no room, or the image has not a length that [`IMAGE_UNIT`] and [`MAX_IMAGE`]
    /// allow.
    pub fn new(image: &[u8], ram: GuestRam) -> Result<Self, MemoryError> {
        let (len, image_base) = (image.len() as u64, TOP.saturating_sub(image.len() as u64));
        if image.is_empty() || image.len() > MAX_IMAGE || !image.len().is_multiple_of(IMAGE_UNIT) {
            return Err(MemoryError::NotRam { addr: image_base, len: image.len() });
        }
        let copy = GuestRam::new(&[(image_base, len)])?;
        copy.write(image_base, image)?;
        Ok(Self { image: copy, image_base, ram, pieces: AtomicU32::new(0) })
    }

    /// As after power-on: the image everywhere, RAM nowhere.
    pub fn reset(&self) {
        self.pieces.store(0, Ordering::Release);
    }

    /// Says whether reads and writes of piece `n` go to RAM. True if that is a change; whoever maps it must be told then.
    pub fn set_piece(&self, n: usize, read: bool, write: bool) -> bool {
        if n >= PIECES {
            return false;
        }
        let bits = if read { READ } else { 0 } | if write { WRITE } else { 0 };
        let shift = 2 * n as u32;
        let set = |all: u32| Some(all & !(0b11 << shift) | bits << shift);
        // The closure never refuses.
        let old = self.pieces.fetch_update(Ordering::AcqRel, Ordering::Acquire, set).unwrap_or_default();
        old >> shift & 0b11 != bits
    }

    fn bits(&self, n: usize) -> u32 {
        self.pieces.load(Ordering::Acquire) >> (2 * n) & 0b11
    }

    /// Whether `addr` is in the area or in the image below 4 GiB. Elsewhere memory is what it always is.
    #[inline]
    pub fn covers(&self, addr: u64) -> bool {
        (AREA_BASE..AREA_END).contains(&addr) || (self.image_base..TOP).contains(&addr)
    }

    /// What stands behind the page at `addr`, for which [`Self::covers`] holds.
    pub fn page(&self, addr: u64) -> Behind {
        let page = addr & !0xfff;
        if page >= self.image_base {
            return self.image_page(page - self.image_base);
        }
        let Some(n) = piece_at(page) else { return Behind::Nothing };
        let bits = self.bits(n);
        if bits & READ != 0 {
            return Behind::Ram { writable: bits & WRITE != 0 };
        }
        let shown = (LOW_COPY as u64).min(TOP - self.image_base);
        match page.checked_sub(AREA_END - shown) {
            Some(offset) => self.image_page(TOP - self.image_base - shown + offset),
            None => Behind::Nothing,
        }
    }

    fn image_page(&self, offset: u64) -> Behind {
        let host = self.image.regions().first().map(|region| region.host_base + offset);
        host.map_or(Behind::Nothing, Behind::Image)
    }

    /// A write that did not go to memory by itself: to RAM where the host bridge says so, else nowhere.
    pub fn write(&self, addr: u64, data: &[u8]) {
        let last = addr.saturating_add((data.len() as u64).saturating_sub(1));
        let open = |addr| piece_at(addr).is_some_and(|n| self.bits(n) & WRITE != 0);
        if open(addr) && open(last) {
            // All of the area lies in RAM unless the machine has less than 1 MiB; the write is lost then.
            let _ = self.ram.write(addr, data);
        }
    }

    /// All of it in order: the display's place, the pieces, the image.
    pub fn stretches(&self) -> Vec<Stretch> {
        let stretch = |(base, len)| Stretch { base, len, behind: self.page(base) };
        let image = (self.image_base, TOP - self.image_base);
        [(AREA_BASE, PIECES_BASE - AREA_BASE)]
            .into_iter()
            .chain((0..PIECES).map(piece))
            .chain([image])
            .map(stretch)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(units: usize) -> (FirmwareArea, GuestRam) {
        let ram = GuestRam::new(&[(0, 2 << 20)]).unwrap();
        let image: Vec<u8> = (0..units * IMAGE_UNIT).map(|i| (i / 4096) as u8 + 1).collect();
        (FirmwareArea::new(&image, ram.clone()).unwrap(), ram)
    }

    /// The byte that a page of the image begins with.
    fn shown(area: &FirmwareArea, addr: u64) -> Option<u8> {
        let Behind::Image(host) = area.page(addr) else { return None };
        let region = area.image.regions()[0];
        let mut byte = [0];
        area.image.read(region.guest_base + host - region.host_base, &mut byte).unwrap();
        Some(byte[0])
    }

    #[test]
    fn the_last_128_kib_of_the_image_are_seen_below_1_mib() {
        let (area, _) = area(4);
        assert_eq!(shown(&area, 0xffff_f000), Some(64));
        assert_eq!(shown(&area, 0xfffc_0000), Some(1));
        assert_eq!(shown(&area, 0xf_f000), Some(64));
        assert_eq!(shown(&area, 0xe_0000), Some(33));
        assert_eq!(area.page(0xd_f000), Behind::Nothing);
        assert_eq!(area.page(0xa_0000), Behind::Nothing);
        assert!(!area.covers(0x9_f000) && !area.covers(0x10_0000) && !area.covers(0xfffb_f000));
    }

    #[test]
    fn a_small_image_leaves_the_rest_empty() {
        let (area, _) = area(1);
        assert_eq!(shown(&area, 0xf_0000), Some(1));
        assert_eq!(area.page(0xe_c000), Behind::Nothing);
    }

    #[test]
    fn the_four_settings_of_a_piece() {
        let (area, ram) = area(2);
        let byte = |addr| {
            let mut b = [0];
            ram.read(addr, &mut b).unwrap();
            b[0]
        };
        area.write(0xf_0000, &[9]);
        assert_eq!(byte(0xf_0000), 0, "no RAM after power-on");
        assert!(area.set_piece(12, false, true));
        area.write(0xf_0000, &[9]);
        assert_eq!((byte(0xf_0000), shown(&area, 0xf_0000)), (9, Some(17)), "image read, RAM written");
        assert!(area.set_piece(12, true, false));
        assert_eq!(area.page(0xf_5000), Behind::Ram { writable: false });
        area.write(0xf_0000, &[8]);
        assert_eq!(byte(0xf_0000), 9, "write-protected");
        assert!(area.set_piece(12, true, true));
        assert!(!area.set_piece(12, true, true), "no change");
        assert_eq!(area.page(0xf_5000), Behind::Ram { writable: true });
        area.reset();
        assert_eq!(shown(&area, 0xf_0000), Some(17));
    }

    #[test]
    fn what_crosses_into_a_closed_piece_or_lies_elsewhere_is_lost() {
        let (area, ram) = area(2);
        area.set_piece(0, true, true);
        assert!(!area.set_piece(PIECES, true, true));
        area.write(0xc_3ffe, &[1, 2, 3, 4]);
        area.write(0xa_0000, &[1]);
        area.write(0xffff_fff0, &[1]);
        area.write(u64::MAX, &[1, 2]);
        let mut all = vec![0; (AREA_END - AREA_BASE) as usize];
        ram.read(AREA_BASE, &mut all).unwrap();
        assert!(all.iter().all(|&b| b == 0));
        area.write(0xc_3fff, &[7]);
        ram.read(AREA_BASE, &mut all).unwrap();
        assert_eq!(all[0x2_3fff], 7);
    }

    #[test]
    fn stretches_are_apart_and_whole() {
        let (area, _) = area(4);
        let all = area.stretches();
        assert_eq!(all.len(), PIECES + 2);
        let low: u64 = all[..PIECES + 1].iter().map(|s| s.len).sum();
        assert_eq!(low, AREA_END - AREA_BASE);
        assert!(all.windows(2).all(|w| w[0].base + w[0].len <= w[1].base));
    }

    #[test]
    fn images_of_odd_lengths_are_refused() {
        let ram = GuestRam::new(&[(0, 2 << 20)]).unwrap();
        for len in [0, 1, IMAGE_UNIT - 1, MAX_IMAGE + IMAGE_UNIT] {
            assert!(FirmwareArea::new(&vec![0; len], ram.clone()).is_err());
        }
    }
}
