//! What runs first: a kernel, which finds everything done that firmware does, or firmware, which does it.
//!
//! Read by the assembly before anything is created; loaded at each start and reset.

use std::sync::Arc;

use super::error::SetupError;
use super::exits::Buses;
use super::firmware::Firmware;
use super::lifecycle::Lifecycle;
use super::pc;
use crate::accel::{EntryState, Vm};
use crate::boot::acpi::{self, TableConfig};
use crate::boot::{self, BootConfig, BootImage, BootTarget, bios, mptable};
use crate::chipset::{FwCfgFile, FwCfgItem};
use crate::cli::Config;
use crate::memory::GuestRam;

/// What runs first.
#[derive(Debug)]
pub enum First {
    /// `-kernel`.
    Kernel(BootImage),
    /// `-bios`.
    Firmware {
        /// Its image.
        image: Vec<u8>,
        /// `-m`, in bytes.
        ram_bytes: u64,
    },
}

impl First {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn read(config: &Config) -> Result<Self, SetupError> {
        match &config.bios {
            Some(path) => Ok(Self::Firmware { image: bios::read_image(path)?, ram_bytes: config.memory }),
            None => Ok(Self::Kernel(boot::prepare(&boot_config(config))?)),
        }
    }

    /// Firmware gets its place in the address space.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn place(
        &self,
        ram: &GuestRam,
        vm: &Arc<dyn Vm>,
        buses: &Buses,
        life: &Lifecycle,
    ) -> Result<Option<Firmware>, SetupError> {
        match self {
            Self::Kernel(_) => Ok(None),
            Self::Firmware { image, .. } => Firmware::new(image, ram, vm, buses, life).map(Some),
        }
    }

    /// What firmware reads from fw_cfg by name.
    pub fn fw_cfg_files(&self, tables: &TableConfig) -> Vec<FwCfgFile> {
        match self {
            Self::Kernel(_) => Vec::new(),
            Self::Firmware { ram_bytes, .. } => bios::files(tables, *ram_bytes),
        }
    }

    /// And by number.
    pub fn fw_cfg_items(&self, tables: &TableConfig) -> Vec<FwCfgItem> {
        match self {
            Self::Kernel(_) => Vec::new(),
            Self::Firmware { ram_bytes, .. } => bios::items(tables, *ram_bytes),
        }
    }

    /// Fills RAM, which is all zero, and says how the boot CPU starts.
    ///
    /// # Errors
    /// [`SetupError`] when there is too little of it.
    pub fn load(&self, ram: &GuestRam, tables: &TableConfig) -> Result<EntryState, SetupError> {
        match self {
            Self::Kernel(image) => {
                acpi::write(ram, tables)?;
                mptable::write(ram, tables)?;
                Ok(image.load(ram)?)
            }
            Self::Firmware { ram_bytes, .. } => {
                acpi::write_at(ram, tables, bios::tables_base(*ram_bytes))?;
                Ok(EntryState::POWER_ON)
            }
        }
    }
}

fn boot_config(config: &Config) -> BootConfig {
    BootConfig {
        kernel: config.kernel.clone().unwrap_or_default(),
        initrd: config.initrd.clone(),
        target: BootTarget {
            cmdline: config.append.clone(),
            unpack: config.machine.kernel_unpack,
            ram_bytes: config.memory,
            rsdp: pc::ACPI_BASE,
        },
    }
}
