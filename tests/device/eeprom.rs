//! The EEPROM: Microwire reads and writes, EERD, checksum.

use minivmm::nic::e1000::spec::{eeprom, reg};
use minivmm::nic::e1000::testing::{MAC, TestNic};

#[test]
fn the_words_sum_to_baba_and_hold_the_station_address() {
    let bench = TestNic::default();
    let words: Vec<u16> = (0..64).map(|n| bench.eeprom_read(n)).collect();
    assert_eq!(words.iter().fold(0u16, |sum, w| sum.wrapping_add(*w)), 0xbaba);
    assert_eq!(words[0].to_le_bytes(), [MAC[0], MAC[1]]);
    assert_eq!(words[2].to_le_bytes(), [MAC[4], MAC[5]]);
}

#[test]
fn more_clocks_go_on_with_the_next_word() {
    let bench = TestNic::default();
    bench.eeprom_acquire();
    bench.eeprom_send(0b110, 3);
    bench.eeprom_send(1, 6);
    let two = bench.eeprom_receive(32);
    assert_eq!(two, u32::from(bench.nic.eeprom_words()[1]) << 16 | u32::from(bench.nic.eeprom_words()[2]));
    bench.eeprom_release();
}

#[test]
fn eerd_completes_at_once_in_the_layout_of_the_82540() {
    let bench = TestNic::default();
    bench.write(reg::EERD, 1 << 8 | 1);
    let answer = bench.read(reg::EERD);
    assert_eq!(answer & 0x12, 0x10, "DONE is bit 4, and bit 1 stays clear");
    assert_eq!((answer >> 16) as u16, bench.nic.eeprom_words()[1]);
}

fn write_word(bench: &TestNic, address: u32, value: u16) {
    bench.eeprom_acquire();
    bench.eeprom_send(0b101, 3);
    bench.eeprom_send(address, 6);
    bench.eeprom_send(value.into(), 16);
    bench.eeprom_standby();
    assert_ne!(bench.read(reg::EECD) & eeprom::DO, 0, "ready");
    bench.eeprom_release();
}

fn command(bench: &TestNic, bits: u32) {
    bench.eeprom_acquire();
    bench.eeprom_send(bits, 5);
    bench.eeprom_send(0, 4);
    bench.eeprom_release();
}

#[test]
fn words_are_written_only_after_ewen_and_until_ewds() {
    let bench = TestNic::default();
    write_word(&bench, 0x30, 0x1234);
    assert_eq!(bench.eeprom_read(0x30), 0xffff, "power-up: writing disabled");
    command(&bench, 0b10011);
    write_word(&bench, 0x30, 0x1234);
    assert_eq!(bench.eeprom_read(0x30), 0x1234);
    command(&bench, 0b10000);
    write_word(&bench, 0x30, 0x5678);
    assert_eq!(bench.eeprom_read(0x30), 0x1234);
}

#[test]
fn the_pins_act_only_while_the_eeprom_is_granted() {
    let bench = TestNic::default();
    bench.write(reg::EECD, eeprom::CS);
    assert_eq!(bench.read(reg::EECD) & (eeprom::CS | eeprom::GNT), 0);
    assert_ne!(bench.read(reg::EECD) & eeprom::PRES, 0);
}
