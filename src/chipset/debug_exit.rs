//! isa-debug-exit: a write ends the emulator with status `(value << 1) | 1`, as QEMU's device of this name.

use std::sync::Arc;

use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};

/// The device. Its ports (`iobase`, `iosize`) are where `machine` registers it.
#[derive(Debug)]
pub struct DebugExit {
    power: Arc<dyn PowerSink>,
}

impl DebugExit {
    /// A device that tells `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power }
    }
}

impl BusDevice for DebugExit {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Ok(0)
    }

    fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        self.power.request(PowerEvent::DebugExit((value << 1) as u8 | 1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::chipset::power::RecordedPower;

    #[test]
    fn the_status_is_twice_the_value_plus_one() {
        let power = Arc::new(RecordedPower::default());
        let dev = DebugExit::new(power.clone());
        dev.write(0, 0, &Access::plain(Width::Byte)).unwrap();
        dev.write(0, 0x1_0010, &Access::plain(Width::Dword)).unwrap();
        assert_eq!(power.events(), [PowerEvent::DebugExit(1), PowerEvent::DebugExit(0x21)]);
        assert_eq!(dev.read(0, &Access::plain(Width::Dword)), Ok(0));
    }
}
