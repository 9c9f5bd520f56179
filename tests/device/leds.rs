//! LEDCTL: what the four LEDs show.

use minivmm::nic::e1000::led::Led;
use minivmm::nic::e1000::spec::{ctrl, reg};
use minivmm::nic::e1000::testing::TestNic;

/// What LED0 shows with `control` at this speed (0, 1, 2) or without a link.
fn shows(control: u32, speed: Option<u32>) -> Led {
    let bench = TestNic::default();
    bench.write(reg::CTRL, ctrl::SLU);
    match speed {
        None => bench.nic.set_link(false),
        Some(0) => bench.phy_write(0, 0x0100),
        Some(1) => bench.phy_write(0, 0x2100),
        Some(_) => bench.phy_write(0, 0x0140),
    }
    bench.write(reg::LEDCTL, control);
    bench.nic.leds()[0]
}

#[test]
fn each_mode_shows_what_the_manual_says() {
    use Led::{Activity, Off, On};
    for (mode, shown) in [
        (0x0, [Off, On, Off, On]),
        (0x1, [Off, Off, On, On]),
        (0x2, [Off, On, On, On]),
        (0x3, [Off, Activity, Activity, Activity]),
        (0x4, [Off, Activity, Activity, Activity]),
        (0x5, [Off, On, Off, Off]),
        (0x6, [Off, Off, On, Off]),
        (0x7, [Off, Off, Off, On]),
        (0x8, [Off; 4]),
        (0x9, [Off, On, On, On]),
        (0xa, [Off; 4]),
        (0xb, [Off; 4]),
        (0xc, [Off; 4]),
        (0xd, [Off; 4]),
        (0xe, [On; 4]),
        (0xf, [Off; 4]),
    ] {
        let found = [None, Some(0), Some(1), Some(2)].map(|speed| shows(mode, speed));
        assert_eq!(found, shown, "mode {mode:#x}");
    }
}

#[test]
fn inversion_and_blinking_are_applied_to_what_is_shown() {
    assert_eq!(shows(0x4e, None), Led::Off);
    assert_eq!(shows(0x4f, None), Led::On);
    assert_eq!(shows(0x8e, None), Led::Blinking);
    assert_eq!(shows(0xcf, None), Led::Blinking);
    assert_eq!(shows(0x8f, None), Led::Off);
}

#[test]
fn the_defaults_come_from_the_eeprom_and_each_led_has_its_byte() {
    let bench = TestNic::default();
    assert_eq!(bench.read(reg::LEDCTL), 0x0706_8302);
    bench.write(reg::LEDCTL, 0x0e0f_8e0f);
    assert_eq!(bench.nic.leds(), [Led::Off, Led::Blinking, Led::Off, Led::On]);
}
