//! The ISA bridge of a machine that starts with firmware: Intel 82371SB (8086:7000), of which this has the PCI interrupt
//! routing (Intel 82371SB datasheet, section 2.2.7).
//!
//! Its other functions (IDE, USB, power management) are not here, so it says that it has only one.

use std::fmt;

use super::{ConfigRegister, Function, Identity};
use crate::bus::Width;

/// PIRQRC[A:D]: bits 3:0 an ISA interrupt, bit 7 none.
const ROUTES: u8 = 0x60;
const ROUTE_COUNT: usize = 4;
const ROUTE_RESET: u8 = 0x80;
const ROUTE_WRITABLE: u8 = 0x8f;

/// Carries a new route of a PIRQ out.
type Route = Box<dyn Fn(usize, u8) + Send + Sync>;

/// The ISA bridge.
pub struct Piix3 {
    route: Route,
}

impl fmt::Debug for Piix3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piix3").finish_non_exhaustive()
    }
}

impl Piix3 {
    /// A bridge that tells `route` of each write to a PIRQ's register.
    pub fn new(route: impl Fn(usize, u8) + Send + Sync + 'static) -> Self {
        Self { route: Box::new(route) }
    }
}

impl Function for Piix3 {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x7000,
            revision: 0,
            class: 0x06_01_00,
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: 0,
            min_gnt: 0,
            max_lat: 0,
        }
    }

    fn bus_reset(&self) {
        (0..ROUTE_COUNT).for_each(|n| (self.route)(n, ROUTE_RESET));
    }

    fn config_registers(&self) -> Vec<ConfigRegister> {
        let (reset, writable) = (vec![ROUTE_RESET; ROUTE_COUNT], vec![ROUTE_WRITABLE; ROUTE_COUNT]);
        vec![ConfigRegister { offset: ROUTES, reset, writable }]
    }

    fn config_written(&self, offset: u16, width: Width, value: u64) {
        for (at, byte) in (u32::from(offset)..).zip(value.to_le_bytes()).take(width.bytes() as usize) {
            if let Some(n) = at.checked_sub(ROUTES.into()).filter(|n| (*n as usize) < ROUTE_COUNT) {
                (self.route)(n as usize, byte & ROUTE_WRITABLE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn each_byte_of_a_write_is_one_route() {
        let seen: Arc<Mutex<Vec<(usize, u8)>>> = Arc::default();
        let log = seen.clone();
        let bridge = Piix3::new(move |n, route| log.lock().unwrap().push((n, route)));
        bridge.config_written(0x60, Width::Dword, 0xfb0b_0a8a);
        bridge.config_written(0x63, Width::Word, 0x0105);
        bridge.config_written(u16::MAX, Width::Qword, u64::MAX);
        let expected = [(0, 0x8a), (1, 0x0a), (2, 0x0b), (3, 0x8b), (3, 0x05)];
        assert_eq!(*seen.lock().unwrap(), expected);
        bridge.bus_reset();
        assert_eq!(seen.lock().unwrap()[5..], [0, 1, 2, 3].map(|n| (n, 0x80)));
    }
}
