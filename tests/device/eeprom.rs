//! The EEPROM: Microwire reads and writes, EERD, checksum.

use std::sync::{Arc, Mutex};

use minivmm::nic::e1000::eeprom::{Image, Store};
use minivmm::nic::e1000::spec::{ctrl_ext, eeprom, reg};
use minivmm::nic::e1000::testing::{MAC, TestNic};
use minivmm::nic::e1000::{Config, Model};
use minivmm::pci::Function;

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
    assert_eq!(
        two,
        u32::from(bench.nic.eeprom().words()[1]) << 16 | u32::from(bench.nic.eeprom().words()[2])
    );
    bench.eeprom_release();
}

#[test]
fn eerd_completes_at_once_in_the_layout_of_the_82540() {
    let bench = TestNic::default();
    bench.write(reg::EERD, 1 << 8 | 1);
    let answer = bench.read(reg::EERD);
    assert_eq!(answer & 0x12, 0x10, "DONE is bit 4, and bit 1 stays clear");
    assert_eq!((answer >> 16) as u16, bench.nic.eeprom().words()[1]);
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

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Image>>);

impl Store for Kept {
    fn programmed(&self, image: &Image) {
        self.0.lock().unwrap().push(image.clone());
    }
}

#[test]
fn the_store_is_told_of_every_change_and_of_nothing_else() {
    let kept = Arc::new(Kept::default());
    let bench = TestNic::new(Config { eeprom_store: Some(kept.clone()), ..Config::new(MAC) });
    write_word(&bench, 0x30, 0x1234);
    assert_eq!(kept.0.lock().unwrap().len(), 0, "writing is disabled");
    command(&bench, 0b10011);
    write_word(&bench, 0x30, 0x1234);
    write_word(&bench, 0x30, 0x1234);
    let images = kept.0.lock().unwrap().clone();
    assert_eq!(images.len(), 1, "the second write changed nothing");
    assert_eq!(images[0].words()[0x30], 0x1234);
    assert_eq!(images[0], bench.nic.eeprom());
}

#[test]
fn erase_and_the_two_instructions_for_all_words() {
    let bench = TestNic::default();
    command(&bench, 0b10011);
    bench.eeprom_acquire();
    bench.eeprom_send(0b111, 3);
    bench.eeprom_send(0x0b, 6);
    bench.eeprom_release();
    assert_eq!(bench.eeprom_read(0x0b), 0xffff, "ERASE");
    bench.eeprom_acquire();
    bench.eeprom_send(0b1_0001, 5);
    bench.eeprom_send(0, 4);
    bench.eeprom_send(0xa55a, 16);
    bench.eeprom_release();
    assert_eq!(bench.nic.eeprom().words(), [0xa55a; 64], "WRAL");
    command(&bench, 0b1_0010);
    assert_eq!(bench.nic.eeprom().words(), [0xffff; 64], "ERAL");
}

#[test]
fn a_93c66_has_eight_address_bits_and_says_so() {
    let mut bytes = TestNic::default().nic.eeprom().to_bytes();
    bytes.resize(512, 0);
    bytes[2 * 0xf0..2 * 0xf0 + 2].copy_from_slice(&0xbeefu16.to_le_bytes());
    let image = Image::from_bytes(&bytes).unwrap();
    let bench = TestNic::new(Config { eeprom: Some(image), ..Config::new(MAC) });
    assert_ne!(bench.read(reg::EECD) & eeprom::SIZE, 0);
    assert_eq!(TestNic::default().read(reg::EECD) & eeprom::SIZE, 0);
    bench.eeprom_acquire();
    bench.eeprom_send(0b110, 3);
    bench.eeprom_send(0xf0, 8);
    assert_eq!(bench.eeprom_receive(16), 0xbeef);
    bench.eeprom_release();
    bench.write(reg::EERD, 0xf0 << 8 | 1);
    assert_eq!(bench.read(reg::EERD) >> 16, 0xbeef);
}

/// The bits that a driver sets and looks at again (U-Boot does, on every part).
#[test]
fn the_semaphores_of_later_parts_can_be_taken_and_given_back() {
    const SWSM: u32 = 0x5b50;
    const SW_FW_SYNC: u32 = 0x5b5c;
    for model in Model::ALL {
        let bench = TestNic::new(Config { model, ..Config::new(MAC) });
        for (register, bit) in [(SWSM, 2), (SW_FW_SYNC, 1)] {
            assert_eq!(bench.read(register), 0);
            bench.write(register, bit);
            assert_eq!(bench.read(register), bit);
            bench.write(register, 0);
            assert_eq!(bench.read(register), 0);
        }
    }
}

#[test]
fn the_82544_needs_no_request() {
    let bench = TestNic::new(Config { model: Model::I82544Gc, ..Config::new(MAC) });
    assert_eq!(bench.read(reg::EECD) & (eeprom::REQ | eeprom::GNT), 0);
    bench.eeprom_standby();
    bench.eeprom_send(0b110, 3);
    bench.eeprom_send(0, 6);
    assert_eq!(bench.eeprom_receive(16), u32::from(bench.nic.eeprom().words()[0]));
}

#[test]
fn an_unsigned_image_is_not_loaded() {
    let mut bytes = TestNic::default().nic.eeprom().to_bytes();
    bytes[2 * 0x0a + 1] = 0xff;
    let image = Image::from_bytes(&bytes).unwrap();
    let bench = TestNic::new(Config { eeprom: Some(image), ..Config::new(MAC) });
    assert_eq!((bench.read(reg::RAL), bench.read(reg::RAH)), (0, 0), "no station address");
    let identity = bench.nic.identity();
    assert_eq!((identity.subsystem_vendor, identity.subsystem), (0x8086, 0x1008));
    let fresh = TestNic::default().nic.identity();
    assert_eq!((fresh.subsystem_vendor, fresh.subsystem), (0x8086, 0x001e));
}

#[test]
fn ee_rst_loads_the_station_address_again() {
    let bench = TestNic::default();
    let before = bench.read(reg::RAL);
    bench.write(reg::RAL, 0x1234_5678);
    bench.write(reg::CTRL_EXT, ctrl_ext::EE_RST);
    assert_eq!(bench.read(reg::RAL), before);
    assert_eq!(bench.read(reg::CTRL_EXT) & ctrl_ext::EE_RST, 0, "clears itself");
}
