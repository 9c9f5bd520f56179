//! Capabilities: the linked list behind the header (PCI Local Bus 3.0, section 6.7).
//!
//! A function lists what it has; the header places and chains it in that order.

use super::spec;

/// One capability as registers: bytes after reset and write rules. `id` and the pointer to the next
/// capability come before `body` and are the header's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Capability id.
    pub id: u8,
    /// Where it lies: a multiple of 4, from 0x40 on.
    pub offset: u8,
    /// Registers after reset, from the third byte of the capability on.
    pub body: Vec<u8>,
    /// Bits of `body` that software may write.
    pub writable: Vec<u8>,
    /// Bits of `body` that a written one clears.
    pub clear: Vec<u8>,
}

impl Capability {
    /// MSI with one vector and a 64-bit address (section 6.8.1).
    pub fn msi(offset: u8) -> Self {
        let control = [spec::MSI_64.to_le_bytes(), (spec::MSI_ENABLE | spec::MSI_MULTIPLE).to_le_bytes()];
        let mut body = control[0].to_vec();
        body.resize(12, 0);
        let mut writable = control[1].to_vec();
        writable.extend([0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        Self { id: spec::CAP_MSI, offset, body, writable, clear: Vec::new() }
    }

    /// Power management with D0 and D3hot; `pmc` is the Power Management Capabilities register as it reads
    /// (PCI Power Management 1.2, section 3.2.3).
    pub fn power_management(offset: u8, pmc: u16) -> Self {
        let mut body = pmc.to_le_bytes().to_vec();
        body.resize(6, 0);
        let csr = (spec::PMCSR_STATE | spec::PMCSR_PME_ENABLE).to_le_bytes();
        let status = spec::PMCSR_PME_STATUS.to_le_bytes();
        let writable = vec![0, 0, csr[0], csr[1]];
        Self {
            id: spec::CAP_POWER_MANAGEMENT,
            offset,
            body,
            writable,
            clear: vec![0, 0, status[0], status[1]],
        }
    }

    /// Bytes that it takes in configuration space.
    pub fn len(&self) -> usize {
        2 + self.body.len()
    }

    /// Whether there is nothing behind id and pointer.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}
