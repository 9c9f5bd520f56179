//! The host bridge of a machine that starts with firmware: Intel 82441FX (8086:1237), of which this has the Programmable
//! Attribute Map, by which firmware moves itself into RAM (Intel 440FX datasheet, section 3.2.14).
//!
//! The subsystem is 1af4:1100, by which SeaBIOS knows that it has fw_cfg instead of a real chipset's memory controller.

use std::fmt;
use std::sync::Mutex;

use super::{ConfigRegister, Function, Identity};
use crate::bus::Width;

/// PAM0: the last piece in its upper half; PAM1 to PAM6: two pieces each, the lower one in the lower half.
const PAM0: u8 = 0x59;
const PAM_REGISTERS: usize = 7;
const READ: u8 = 1 << 0;
const WRITE: u8 = 1 << 1;

/// A piece of the area from 0xc0000 to 1 MiB, and where accesses to it go: to RAM, or to the firmware's ROM and what else
/// is on PCI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PamPiece {
    /// 0 to 11 count 16 KiB each from 0xc0000; 12 is 0xf0000 to 0xfffff.
    pub number: usize,
    /// Reads go to RAM.
    pub read: bool,
    /// Writes go to RAM.
    pub write: bool,
}

/// Carries a new map out.
type Remap = Box<dyn Fn(&[PamPiece]) + Send + Sync>;

/// The host bridge.
pub struct I440Fx {
    remap: Remap,
    /// The PAM registers; the lock is held while their map is carried out, so that the last one stands.
    pam: Mutex<[u8; PAM_REGISTERS]>,
}

impl fmt::Debug for I440Fx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I440Fx").field("pam", &self.pam).finish_non_exhaustive()
    }
}

impl I440Fx {
    /// A bridge that tells `remap` of all pieces whenever one of them may have changed; never from two threads at once.
    pub fn new(remap: impl Fn(&[PamPiece]) + Send + Sync + 'static) -> Self {
        Self { remap: Box::new(remap), pam: Mutex::default() }
    }

    fn change(&self, f: impl FnOnce(&mut [u8; PAM_REGISTERS])) {
        let mut pam = self.pam.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = *pam;
        f(&mut pam);
        if *pam != before {
            (self.remap)(&pieces(&pam));
        }
    }
}

fn pieces(pam: &[u8; PAM_REGISTERS]) -> Vec<PamPiece> {
    let piece = |number, bits: u8| PamPiece { number, read: bits & READ != 0, write: bits & WRITE != 0 };
    let pair = |(n, register): (usize, &u8)| [piece(2 * n, *register), piece(2 * n + 1, register >> 4)];
    let last = piece(2 * (PAM_REGISTERS - 1), pam[0] >> 4);
    pam[1..].iter().enumerate().flat_map(pair).chain([last]).collect()
}

impl Function for I440Fx {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x1237,
            revision: 2,
            class: 0x06_00_00,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            interrupt_pin: 0,
            min_gnt: 0,
            max_lat: 0,
        }
    }

    fn bus_reset(&self) {
        self.change(|pam| *pam = [0; PAM_REGISTERS]);
    }

    fn config_registers(&self) -> Vec<ConfigRegister> {
        let mut writable = vec![0x33; PAM_REGISTERS];
        writable[0] = 0x30;
        vec![ConfigRegister { offset: PAM0, reset: vec![0; PAM_REGISTERS], writable }]
    }

    fn config_written(&self, offset: u16, width: Width, value: u64) {
        self.change(|pam| {
            for (at, byte) in (u32::from(offset)..).zip(value.to_le_bytes()).take(width.bytes() as usize) {
                let register = at.checked_sub(PAM0.into()).and_then(|n| pam.get_mut(n as usize));
                if let Some(register) = register {
                    *register = byte;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn pam_switches_its_pieces_at_any_width_and_power_on_closes_them() {
        let seen: Arc<Mutex<Vec<Vec<PamPiece>>>> = Arc::default();
        let log = seen.clone();
        let bridge = I440Fx::new(move |pieces| log.lock().unwrap().push(pieces.to_vec()));
        let open = || {
            let last = seen.lock().unwrap().last().cloned().unwrap_or_default();
            let bits = |p: &PamPiece| (p.read || p.write).then_some((p.number, p.read, p.write));
            last.iter().filter_map(bits).collect::<Vec<_>>()
        };
        bridge.config_written(0x58, Width::Dword, 0x0210_30ff);
        assert_eq!(open(), [(1, true, false), (2, false, true), (12, true, true)]);
        assert_eq!(seen.lock().unwrap()[0].len(), 13);
        bridge.config_written(0x5f, Width::Byte, 0x21);
        assert_eq!(open()[2..], [(10, true, false), (11, false, true), (12, true, true)]);
        let calls = seen.lock().unwrap().len();
        bridge.config_written(0x60, Width::Qword, u64::MAX);
        bridge.config_written(u16::MAX, Width::Qword, u64::MAX);
        bridge.config_written(0x55, Width::Dword, u64::MAX);
        assert_eq!(seen.lock().unwrap().len(), calls, "other registers do not concern it");
        bridge.bus_reset();
        assert_eq!(open(), []);
    }
}
