//! What the LED pins show (LEDCTL; manual, sections 9.7 and 13.4.15).
//!
//! Derived from LEDCTL and the link whenever somebody asks; the part keeps no state for it.

use super::phy::Speed;
use super::regs::Regs;
use super::spec::{reg, status};

/// One LED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Led {
    /// Dark.
    Off,
    /// Lit.
    On,
    /// Lit and dark by turns.
    Blinking,
    /// Lit while frames pass.
    Activity,
}

/// LEDn_IVRT.
const INVERT: u32 = 1 << 6;
/// LEDn_BLINK.
const BLINK: u32 = 1 << 7;

impl Regs {
    pub(super) fn leds(&self) -> [Led; 4] {
        let (control, link, status) = (self.get(reg::LEDCTL), self.phy.link(), self.status());
        let up = status & status::LU != 0;
        let speed = link.filter(|_| up).map(|(speed, _)| speed);
        let full = up && status & status::FD != 0;
        let paused = status & status::TXOFF != 0;
        [0, 8, 16, 24].map(|shift| led(control >> shift & 0xff, speed, full, paused))
    }
}

fn led(control: u32, speed: Option<Speed>, full_duplex: bool, paused: bool) -> Led {
    let lit = |on| if on { Led::On } else { Led::Off };
    let any = |speeds: &[Speed]| lit(speed.is_some_and(|s| speeds.contains(&s)));
    let shown = match control & 0xf {
        0x0 => any(&[Speed::M10, Speed::M1000]),
        0x1 => any(&[Speed::M100, Speed::M1000]),
        0x2 => lit(speed.is_some()),
        0x3 | 0x4 if speed.is_some() => Led::Activity,
        0x5 => any(&[Speed::M10]),
        0x6 => any(&[Speed::M100]),
        0x7 => any(&[Speed::M1000]),
        0x9 => lit(full_duplex),
        0xd => lit(paused),
        0xe => Led::On,
        // No link, PCI-X (8), collision (A), bus of 66 MHz (B) or 64 bits (C): a conventional slot, full duplex.
        _ => Led::Off,
    };
    match (shown, control & INVERT != 0, control & BLINK != 0) {
        (Led::On, false, true) | (Led::Off, true, true) => Led::Blinking,
        (Led::On, true, _) => Led::Off,
        (Led::Off, true, false) => Led::On,
        (shown, ..) => shown,
    }
}
