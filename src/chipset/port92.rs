//! Port 92h, system control port A (Intel 82371SB datasheet, section 2.5.4.2): A20 and fast reset, as firmware and
//! boot loaders switch them without the keyboard controller.
//!
//! A20 is always on, as on every machine since the 80286's programs are gone; its bit only remembers what was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};

const FAST_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// The port.
#[derive(Debug)]
pub struct Port92 {
    power: Arc<dyn PowerSink>,
    value: AtomicU8,
}

impl Port92 {
    /// A port that tells `power` to reset.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power, value: AtomicU8::new(A20) }
    }

    /// The value after reset.
    pub fn reset(&self) {
        self.value.store(A20, Ordering::Relaxed);
    }
}

impl BusDevice for Port92 {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Ok(u64::from(self.value.load(Ordering::Relaxed)))
    }

    /// Bit 0 going from 0 to 1 resets.
    fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        let new = value as u8 & (FAST_RESET | A20);
        let old = self.value.swap(new, Ordering::Relaxed);
        if new & !old & FAST_RESET != 0 {
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
    fn a20_is_remembered_and_bit_0_resets_when_it_rises() {
        let power = Arc::new(RecordedPower::default());
        let dev = Port92::new(power.clone());
        let byte = Access::plain(Width::Byte);
        assert_eq!(dev.read(0, &byte), Ok(2));
        dev.write(0, 0xfc, &byte).unwrap();
        assert_eq!(dev.read(0, &byte), Ok(0));
        assert_eq!(power.events(), []);
        dev.write(0, 3, &byte).unwrap();
        dev.write(0, 3, &byte).unwrap();
        assert_eq!(power.events(), [PowerEvent::Reset]);
        dev.reset();
        assert_eq!(dev.read(0, &byte), Ok(2));
    }
}
