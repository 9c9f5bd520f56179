//! Guest memory: the RAM itself, and the revocable handle through which bus-mastering devices reach it.
//!
//! `machine` creates it, `boot` fills it, `accel` maps it into the guest, devices touch it only through
//! [`DmaHandle`]. Nothing here knows a device or an accelerator. All access is volatile (vm-memory), because
//! the guest's other vCPUs may write at any moment: read once, then work on the copy.

mod dma;
mod firmware_area;
mod guest_ram;

pub use dma::{DmaError, DmaHandle};
pub use firmware_area::{AREA_BASE, AREA_END, Behind, FirmwareArea, IMAGE_UNIT, MAX_IMAGE, PIECES, Stretch};
pub use guest_ram::{GuestRam, GuestSlice, MemoryError, RamRegion, WriteWatch};
