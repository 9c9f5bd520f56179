//! The reset control register at port 0xcf9 (Intel ICH9 datasheet, section 13.7.5), also ACPI's reset
//! register. Reached through [`crate::pci::ConfigPorts`], whose ports surround it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};

/// What to write for a full reset.
pub const RESET_VALUE: u8 = 0x06;

const RESET_CPU: u8 = 1 << 2;
const WRITABLE: u8 = 0x0e;

/// The register.
#[derive(Debug)]
pub struct ResetControl {
    power: Arc<dyn PowerSink>,
    value: AtomicU8,
}

impl ResetControl {
    /// A register that tells `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power, value: AtomicU8::new(0) }
    }

    /// The value after reset.
    pub fn reset(&self) {
        self.value.store(0, Ordering::Relaxed);
    }
}

impl BusDevice for ResetControl {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Ok(u64::from(self.value.load(Ordering::Relaxed)))
    }

    /// Bit 2 going from 0 to 1 resets.
    fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        let new = value as u8 & WRITABLE;
        let old = self.value.swap(new, Ordering::Relaxed);
        if new & !old & RESET_CPU != 0 {
            self.power.request(PowerEvent::Reset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::chipset::power::RecordedPower;

    #[test]
    fn bit_2_resets_when_it_rises() {
        let power = Arc::new(RecordedPower::default());
        let dev = ResetControl::new(power.clone());
        let write = |v| dev.write(0, v, &Access::plain(Width::Byte)).unwrap();
        write(0x02);
        assert_eq!(power.events(), []);
        write(0xf6);
        write(0x06);
        assert_eq!(power.events(), [PowerEvent::Reset]);
        assert_eq!(dev.read(0, &Access::plain(Width::Byte)), Ok(0x06));
        dev.reset();
        write(u64::from(RESET_VALUE));
        assert_eq!(power.events().len(), 2);
    }
}
