//! pvpanic: the guest's kernel says that it panicked (QEMU's interface of this name).
//!
//! Reading tells which events are understood; writing reports one.

use std::sync::Arc;

use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};

/// Event bit 0: the kernel panicked.
const PANICKED: u64 = 1;

/// The device.
#[derive(Debug)]
pub struct Pvpanic {
    power: Arc<dyn PowerSink>,
}

impl Pvpanic {
    /// A device that tells `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power }
    }
}

impl BusDevice for Pvpanic {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Ok(PANICKED)
    }

    fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        if value & PANICKED != 0 {
            self.power.request(PowerEvent::Panicked);
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
    fn only_the_panic_event_is_reported() {
        let power = Arc::new(RecordedPower::default());
        let dev = Pvpanic::new(power.clone());
        let byte = Access::plain(Width::Byte);
        assert_eq!(dev.read(0, &byte), Ok(1));
        dev.write(0, 2, &byte).unwrap();
        assert_eq!(power.events(), []);
        dev.write(0, 1, &byte).unwrap();
        assert_eq!(power.events(), [PowerEvent::Panicked]);
    }
}
