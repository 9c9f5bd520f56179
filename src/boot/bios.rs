//! Starting with firmware: its image and the expansion ROMs read and checked, and what it asks fw_cfg for (QEMU's
//! docs/specs/fw_cfg.rst and SeaBIOS's documentation of its runtime configuration).
//!
//! Called by `machine` for `-bios` and `romfile=`. ACPI tables are written into a piece at the end of RAM that the memory
//! map keeps for them, so that nothing in them depends on where firmware puts it; the RSDP, which must lie below 1 MiB,
//! is a file that the loader commands of `etc/table-loader` place.

use std::path::Path;
use std::sync::Arc;

use super::MemoryKind;
use super::acpi::{self, TableConfig};
use super::files::{FileError, printable, read_bounded};
use crate::chipset::{FwCfgFile, FwCfgItem};
use crate::machine::pc;
use crate::memory::{IMAGE_UNIT, MAX_IMAGE};
use crate::pci::MAX_ROM;

/// Why a firmware's file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{option}{file}: {why}")]
pub struct RomError {
    /// The option that named it, up to the file's name.
    option: &'static str,
    /// The path as the user gave it, made printable.
    file: String,
    why: String,
}

/// What an image may be, for people.
const IMAGES: &str = "firmware has a multiple of 64 KiB, at most 16 MiB (SeaBIOS: bios-256k.bin)";

/// Reads `-bios`.
///
/// # Errors
/// [`RomError`].
pub fn read_image(path: &Path) -> Result<Vec<u8>, RomError> {
    let fail = |why| RomError { option: "-bios ", file: printable(path), why };
    let image = read_bounded(path, MAX_IMAGE as u64).map_err(|error| fail(told(error, IMAGES)))?;
    if image.is_empty() || !image.len().is_multiple_of(IMAGE_UNIT) {
        return Err(fail(format!("{} bytes is not the size of an image: {IMAGES}", image.len())));
    }
    Ok(image)
}

/// Reads `romfile=`.
///
/// # Errors
/// [`RomError`].
pub fn read_option_rom(path: &Path) -> Result<Arc<[u8]>, RomError> {
    let fail = |why| RomError { option: "romfile=", file: printable(path), why };
    let rom = read_bounded(path, MAX_ROM)
        .map_err(|error| fail(told(error, "an expansion ROM has at most 16 MiB")))?;
    // PCI Firmware 3.0, section 5.1: the signature of a ROM's header.
    if !rom.starts_with(&[0x55, 0xaa]) {
        return Err(fail(
            "this is not an expansion ROM, which begins with 55 aa (iPXE's: pxe-e1000.rom)".into(),
        ));
    }
    Ok(rom.into())
}

fn told(error: FileError, sizes: &str) -> String {
    match error {
        FileError::Io(error) => format!("cannot read it: {error}"),
        FileError::NotAFile(what) => format!("this is a {what}, not a file"),
        FileError::TooLarge(len) => format!("{len} bytes are too many: {sizes}"),
    }
}

/// Where the ACPI tables of a machine with `ram_bytes` of RAM lie that starts with firmware.
pub fn tables_base(ram_bytes: u64) -> u64 {
    ram_bytes.min(pc::LOW_RAM_END).saturating_sub(pc::FIRMWARE_TABLES_LEN)
}

/// Numbered items (QEMU's docs/specs/fw_cfg.rst).
const RAM_SIZE: u16 = 0x03;
const NO_DISPLAY: u16 = 0x04;
const CPUS: u16 = 0x05;
const BOOT_MENU: u16 = 0x0e;
const MAX_CPUS: u16 = 0x0f;

/// What firmware asks for by number. The boot menu, which would wait for a key, is off.
pub fn items(tables: &TableConfig, ram_bytes: u64) -> Vec<FwCfgItem> {
    let word = |selector, value: u16| FwCfgItem { selector, content: value.to_le_bytes().to_vec() };
    let ram = FwCfgItem { selector: RAM_SIZE, content: ram_bytes.to_le_bytes().to_vec() };
    let cpus = u16::from(tables.cpus);
    vec![ram, word(NO_DISPLAY, 1), word(CPUS, cpus), word(BOOT_MENU, 0), word(MAX_CPUS, cpus)]
}

/// What firmware asks for by name. A machine without anything to boot waits instead of starting over and over.
pub fn files(tables: &TableConfig, ram_bytes: u64) -> Vec<FwCfgFile> {
    let file = |name: &str, content: Vec<u8>| FwCfgFile { name: name.into(), content: content.into() };
    let rsdp = acpi::tables_at(tables, tables_base(ram_bytes)).swap_remove(0).1;
    let mut files = vec![
        file("etc/e820", e820(ram_bytes)),
        file("etc/boot-fail-wait", u32::MAX.to_le_bytes().to_vec()),
        file(RSDP_FILE, rsdp),
        file("etc/table-loader", loader()),
    ];
    if tables.serial > 0 {
        files.push(file("etc/sercon-port", (pc::COM1.0 as u16).to_le_bytes().to_vec()));
    }
    files
}

/// Address, length, type of each range: RAM, less what is kept for the ACPI tables; firmware itself cuts out the legacy
/// area.
fn e820(ram_bytes: u64) -> Vec<u8> {
    let mut ranges = vec![
        (0, tables_base(ram_bytes), MemoryKind::Ram),
        (tables_base(ram_bytes), pc::FIRMWARE_TABLES_LEN, MemoryKind::Reserved),
        (pc::ECAM_BASE, pc::ECAM_LEN, MemoryKind::Reserved),
    ];
    ranges.extend(pc::ram_layout(ram_bytes)[1..].iter().map(|&(base, len)| (base, len, MemoryKind::Ram)));
    let entry = |(base, len, kind): (u64, u64, MemoryKind)| {
        [&base.to_le_bytes()[..], &len.to_le_bytes(), &(kind as u32).to_le_bytes()].concat()
    };
    ranges.into_iter().flat_map(entry).collect()
}

const RSDP_FILE: &str = "etc/acpi/rsdp";
/// A command of the loader: a number, a file's name, an alignment, a zone; 128 bytes in all.
const LOADER_COMMAND: usize = 128;
const LOADER_NAME: usize = 56;
const ALLOCATE: u32 = 1;
const ZONE_BELOW_1_MIB: u8 = 2;
/// RSDPs are searched for in these steps (ACPI 6.5, section 5.2.5.1).
const RSDP_STEP: u32 = 16;

/// One command: to put the RSDP below 1 MiB. All that it points at is in its place already.
fn loader() -> Vec<u8> {
    let mut command = ALLOCATE.to_le_bytes().to_vec();
    command.extend(RSDP_FILE.as_bytes());
    command.resize(4 + LOADER_NAME, 0);
    command.extend(RSDP_STEP.to_le_bytes());
    command.push(ZONE_BELOW_1_MIB);
    command.resize(LOADER_COMMAND, 0);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::Window;

    fn config() -> TableConfig {
        let window = Window { base: 0xc000, len: 0x1000 };
        let routes = (1..31).map(|slot| acpi::IntxRoute { slot, pin: 1, gsi: 16 }).collect();
        TableConfig {
            cpus: 32,
            pci_io: window,
            pci_mem: window,
            routes,
            serial: 2,
            i8042: true,
            fw_cfg: true,
            pvpanic: true,
        }
    }

    #[test]
    fn the_tables_of_the_fullest_machine_have_room() {
        let base = tables_base(256 << 20);
        assert_eq!(base + pc::FIRMWARE_TABLES_LEN, 256 << 20);
        let end = acpi::tables_at(&config(), base).iter().map(|(at, table)| at + table.len() as u64).max();
        assert!(end < Some(256 << 20), "{end:x?}");
    }

    #[test]
    fn the_rsdp_is_whole_and_points_at_the_tables() {
        let files = files(&config(), 5 << 30);
        let rsdp = files.iter().find(|file| file.name == RSDP_FILE).unwrap();
        assert!(rsdp.content.starts_with(b"RSD PTR "));
        assert_eq!(rsdp.content.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        let xsdt = u64::from_le_bytes(rsdp.content[24..32].try_into().unwrap());
        assert!((tables_base(5 << 30)..pc::LOW_RAM_END).contains(&xsdt));
        let loader = files.iter().find(|file| file.name == "etc/table-loader").unwrap();
        assert_eq!((loader.content.len(), &loader.content[4..17]), (128, RSDP_FILE.as_bytes()));
    }

    #[test]
    fn the_map_is_all_of_ram_less_the_tables() {
        let map = e820(5 << 30);
        let entries = map.chunks(20).map(|e| {
            let number = |at: usize| u64::from_le_bytes(e[at..at + 8].try_into().unwrap());
            (number(0), number(8), e[16])
        });
        let ram: u64 = entries.clone().filter(|e| e.2 == 1).map(|e| e.1).sum();
        assert_eq!(ram, (5 << 30) - pc::FIRMWARE_TABLES_LEN);
        assert!(entries.clone().any(|e| e == (4 << 30, 2 << 30, 1)));
    }
}
