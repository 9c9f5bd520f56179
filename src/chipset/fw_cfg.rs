//! fw_cfg: named files from the host to the guest through two ports (QEMU's interface of this name, without
//! DMA).
//!
//! A 16-bit write to the selector picks an item and rewinds it; each read of the data port gives its next
//! bytes, in any width, zeroes behind the end. Files are listed in item 0x19. One leaf lock.

use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{Access, AccessError, BusDevice, Width};

/// Ports that the device answers: selector, data, and room for wide reads of the data port.
pub const FW_CFG_LEN: u64 = 12;

const SIGNATURE: u16 = 0x0000;
const INTERFACE: u16 = 0x0001;
const DIRECTORY: u16 = 0x0019;
const FIRST_FILE: u16 = 0x0020;
/// Selectors above are architecture-local items, which have no files.
const MAX_FILES: usize = 0x1000;
const NAME_LEN: usize = 56;

const DATA_OFFSET: u64 = 1;

/// Why a file cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FwCfgError {
    /// Names have 1 to 55 bytes.
    #[error("fw_cfg name '{0}' must have 1 to 55 bytes")]
    BadName(String),
    /// Two files of one name.
    #[error("fw_cfg file '{0}' is given twice")]
    Twice(String),
    /// A file that the 32-bit directory cannot describe, or too many files.
    #[error("fw_cfg file '{0}' does not fit: at most 4096 files of less than 4 GiB")]
    TooMuch(String),
}

/// A file for the guest.
#[derive(Debug, Clone)]
pub struct FwCfgFile {
    /// Its name, e.g. `opt/minivmm/run`.
    pub name: String,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

/// An item that has a number and no name: what firmware asked for before there were files.
#[derive(Debug, Clone)]
pub struct FwCfgItem {
    /// Its selector.
    pub selector: u16,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    files: Vec<FwCfgFile>,
    directory: Vec<u8>,
    items: Vec<FwCfgItem>,
    position: Mutex<Position>,
}

#[derive(Debug, Default)]
struct Position {
    selector: u16,
    offset: usize,
}

impl FwCfg {
    /// A device that offers `files`, and `items` where no file or item of its own is.
    ///
    /// # Errors
    /// [`FwCfgError`] names the file.
    pub fn new(mut files: Vec<FwCfgFile>, items: Vec<FwCfgItem>) -> Result<Self, FwCfgError> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = files.windows(2).find(|w| w[0].name == w[1].name) {
            return Err(FwCfgError::Twice(pair[0].name.clone()));
        }
        let directory = directory(&files)?;
        Ok(Self { files, directory, items, position: Mutex::default() })
    }

    /// Item 0 at its start, as after power-on.
    pub fn reset(&self) {
        self.select(0);
    }

    fn select(&self, selector: u16) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Position { selector, offset: 0 };
    }

    fn item(&self, selector: u16) -> &[u8] {
        match selector {
            SIGNATURE => b"QEMU",
            INTERFACE => &[1, 0, 0, 0],
            DIRECTORY => &self.directory,
            _ => {
                let index = selector.checked_sub(FIRST_FILE).map(usize::from);
                let file = index.and_then(|i| self.files.get(i)).map(|file| &*file.content);
                let item = || self.items.iter().find(|i| i.selector == selector).map(|i| &*i.content);
                file.or_else(item).unwrap_or_default()
            }
        }
    }

    fn next(&self, width: Width) -> u64 {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = self.item(position.selector).get(position.offset..).unwrap_or(&[]);
        let count = rest.len().min(width.bytes() as usize);
        position.offset += count;
        rest[..count].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }
}

impl BusDevice for FwCfg {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        match offset {
            DATA_OFFSET => Ok(self.next(access.width)),
            _ => Err(AccessError::NoRegister),
        }
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        match (offset, access.width) {
            (0, Width::Word) => self.select(value as u16),
            // Writing data was withdrawn from the interface; old guests may still try.
            (DATA_OFFSET, _) => {}
            (0, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }
}

/// The directory, big-endian: a count, then size, selector, reserved and name of each file.
fn directory(files: &[FwCfgFile]) -> Result<Vec<u8>, FwCfgError> {
    let mut out = u32::try_from(files.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for (file, selector) in files.iter().zip(FIRST_FILE..) {
        let name = file.name.as_bytes();
        if name.is_empty() || name.len() >= NAME_LEN || name.contains(&0) {
            return Err(FwCfgError::BadName(file.name.clone()));
        }
        let size = u32::try_from(file.content.len()).ok().filter(|_| files.len() <= MAX_FILES);
        let size = size.ok_or_else(|| FwCfgError::TooMuch(file.name.clone()))?;
        out.extend(size.to_be_bytes());
        out.extend(selector.to_be_bytes());
        out.extend([0, 0]);
        out.extend(name);
        out.resize(out.len() + NAME_LEN - name.len(), 0);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> FwCfgFile {
        FwCfgFile { name: name.into(), content: content.into() }
    }

    fn select(dev: &FwCfg, selector: u16) {
        dev.write(0, u64::from(selector), &Access::plain(Width::Word)).unwrap();
    }

    fn read(dev: &FwCfg, width: Width) -> u64 {
        dev.read(1, &Access::plain(width)).unwrap()
    }

    fn bytes(dev: &FwCfg, count: usize) -> Vec<u8> {
        (0..count).map(|_| read(dev, Width::Byte) as u8).collect()
    }

    #[test]
    fn signature_and_interface_say_fw_cfg_without_dma() {
        let dev = FwCfg::new(Vec::new(), Vec::new()).unwrap();
        select(&dev, SIGNATURE);
        assert_eq!(bytes(&dev, 6), b"QEMU\0\0");
        select(&dev, INTERFACE);
        assert_eq!(read(&dev, Width::Dword), 1);
    }

    #[test]
    fn a_file_is_found_through_the_directory_and_read_in_any_width() {
        let dev =
            FwCfg::new(vec![file("opt/b", b"second"), file("opt/a", b"0123456789")], Vec::new()).unwrap();
        select(&dev, DIRECTORY);
        assert_eq!(bytes(&dev, 4), [0, 0, 0, 2]);
        let entry = bytes(&dev, 64);
        assert_eq!(entry[..8], [0, 0, 0, 10, 0, 0x20, 0, 0]);
        assert_eq!(&entry[8..14], b"opt/a\0");
        select(&dev, 0x20);
        assert_eq!(read(&dev, Width::Byte), u64::from(b'0'));
        assert_eq!(read(&dev, Width::Word), 0x3231);
        assert_eq!(read(&dev, Width::Dword), 0x3635_3433);
        assert_eq!(read(&dev, Width::Qword), 0x39_3837);
        assert_eq!(read(&dev, Width::Byte), 0);
        select(&dev, 0x21);
        assert_eq!(bytes(&dev, 6), b"second");
        select(&dev, 0x20);
        assert_eq!(bytes(&dev, 1), b"0", "selecting rewinds");
    }

    #[test]
    fn unknown_items_and_ports_give_nothing() {
        let dev = FwCfg::new(vec![file("opt/a", b"x")], Vec::new()).unwrap();
        for selector in [0x21, 0x1f, 0x8000, 0xffff] {
            select(&dev, selector);
            assert_eq!(bytes(&dev, 2), [0, 0]);
        }
        assert_eq!(dev.read(0, &Access::plain(Width::Word)), Err(AccessError::NoRegister));
        assert_eq!(dev.write(0, 0, &Access::plain(Width::Byte)), Err(AccessError::Width));
    }

    #[test]
    fn numbered_items_do_not_hide_files_nor_the_signature() {
        let item = |selector, byte| FwCfgItem { selector, content: vec![byte] };
        let dev = FwCfg::new(vec![file("opt/a", b"x")], vec![item(0, 1), item(5, 2), item(0x20, 3)]).unwrap();
        for (selector, expected) in [(0, b'Q'), (5, 2), (0x20, b'x')] {
            select(&dev, selector);
            assert_eq!(bytes(&dev, 1), [expected]);
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let error = |files| FwCfg::new(files, Vec::new()).unwrap_err();
        let long = "x".repeat(56);
        assert_eq!(error(vec![file(&long, b"")]), FwCfgError::BadName(long));
        assert_eq!(error(vec![file("", b"")]), FwCfgError::BadName(String::new()));
        assert_eq!(error(vec![file("a", b""), file("a", b"")]), FwCfgError::Twice("a".into()));
    }
}
