//! Wake-up: in D3hot frames and the link set WUS, PME_Status and WUPM, as WUFC and WUC ask for.

use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::spec::{rctl, reg, wake};
use minivmm::nic::e1000::testing::{MAC, OTHER, TestNic, frame_to};
use minivmm::pci::{Function, PowerState};

const BROADCAST: [u8; 6] = [0xff; 6];

/// Asleep, with these reasons enabled; the receiver was left on, as drivers do.
fn asleep(wufc: u32) -> TestNic {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::BAM);
    bench.write(reg::WUFC, wufc);
    bench.write(reg::WUC, wake::PME_EN);
    bench.write(reg::IPAV, 0x0001_0002);
    bench.write(reg::IP4AT + 8, u32::from_le_bytes([10, 0, 2, 15]));
    for n in 0..4 {
        bench.write(reg::IP6AT + 4 * n, 0x0101_0101 * (n + 1));
    }
    bench.nic.power_state_changed(PowerState::D3hot);
    bench
}

fn magic(destination: [u8; 6]) -> Vec<u8> {
    let mut frame = frame_to(destination, 20);
    frame.extend([0xff; 6]);
    (0..16).for_each(|_| frame.extend(MAC));
    frame
}

fn with_bytes(destination: [u8; 6], ethertype: u16, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame_to(destination, 100);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn ipv6() -> Vec<u8> {
    let address: Vec<u8> = (1..=4).flat_map(|n| [n; 4]).collect();
    with_bytes(MAC, 0x86dd, 38, &address)
}

fn arp() -> Vec<u8> {
    let mut frame = with_bytes(BROADCAST, 0x0806, 38, &[10, 0, 2, 15]);
    frame[20..22].copy_from_slice(&[0, 1]);
    frame
}

#[test]
fn each_reason_wakes_by_its_frame_only_if_it_is_enabled() {
    let multicast = {
        let mut frame = frame_to([0x01, 0, 0x5e, 0, 0, 1], 60);
        frame[13] = 0;
        frame
    };
    for (reason, frame) in [
        (wake::MAG, magic(MAC)),
        (wake::MAG, magic(BROADCAST)),
        (wake::EX, frame_to(MAC, 60)),
        (wake::BC, frame_to(BROADCAST, 60)),
        (wake::MC, multicast),
        (wake::ARP, arp()),
        (wake::IPV4, with_bytes(MAC, 0x0800, 30, &[10, 0, 2, 15])),
        (wake::IPV6, ipv6()),
    ] {
        let bench = asleep(reason);
        bench.write(reg::RCTL, bench.read(reg::RCTL) | rctl::MPE);
        bench.inject(&frame);
        assert_eq!(bench.read(reg::WUS), reason);
        assert_eq!(bench.read(reg::WUC) & wake::PME_STATUS, wake::PME_STATUS);
        assert!(bench.nic.pme().unwrap().status());
        let bench = asleep(0x000f_80ff & !reason & !wake::EX & !wake::BC & !wake::MC);
        bench.inject(&frame);
        assert_eq!(bench.read(reg::WUS) & reason, 0, "{reason:#x} is not enabled");
    }
}

#[test]
fn frames_for_others_and_other_addresses_do_not_wake() {
    for frame in [
        frame_to(OTHER, 60),
        magic(OTHER),
        with_bytes(MAC, 0x0800, 30, &[10, 0, 2, 16]),
        with_bytes(BROADCAST, 0x0806, 38, &[10, 0, 2, 16]),
        with_bytes(MAC, 0x86dd, 38, &[9; 16]),
    ] {
        let bench = asleep(wake::MAG | wake::ARP | wake::IPV4 | wake::IPV6);
        bench.inject(&frame);
        assert_eq!((bench.read(reg::WUS), bench.read(reg::WUC) & wake::PME_STATUS), (0, 0));
    }
}

#[test]
fn awake_nothing_of_it_happens() {
    let bench = asleep(wake::EX | wake::LNKC);
    bench.nic.power_state_changed(PowerState::D0);
    bench.write(reg::WUFC, wake::EX | wake::LNKC);
    bench.inject(&frame_to(MAC, 60));
    bench.nic.set_link(false);
    assert_eq!(bench.read(reg::WUS), 0);
}

#[test]
fn asleep_no_frame_reaches_memory() {
    let mut bench = asleep(0);
    bench.inject(&frame_to(MAC, 60));
    assert!(bench.receive().is_none());
    assert_eq!(bench.read(reg::RDH), 0);
}

#[test]
fn the_link_wakes() {
    let bench = asleep(wake::LNKC);
    bench.nic.set_link(false);
    assert_eq!(bench.read(reg::WUS), wake::LNKC);
}

#[test]
fn the_first_frame_that_wakes_is_kept_through_the_reset_that_follows() {
    let bench = asleep(wake::EX);
    let first: Vec<u8> = frame_to(MAC, 200);
    bench.inject(&first);
    bench.inject(&frame_to(MAC, 60));
    bench.nic.power_state_changed(PowerState::D0);
    assert_eq!(bench.read(reg::WUPL), 200);
    let kept: Vec<u8> = (0..32).flat_map(|n| bench.read(reg::WUPM + 4 * n).to_le_bytes()).collect();
    assert_eq!(kept, first[..128]);
    assert_eq!(bench.read(reg::WUS), wake::EX);
    bench.write(reg::WUS, 0xffff_ffff);
    assert_eq!(bench.read(reg::WUS), 0);
    bench.write(reg::WUC, wake::PME_STATUS);
    assert_eq!(bench.read(reg::WUC), 0, "PME_En went with the same write");
}

#[test]
fn flexible_filters_compare_what_their_masks_select() {
    let frame = frame_to(MAC, 100);
    let bench = asleep(wake::FLX0 << 2);
    bench.write(reg::FFLT + 16, 64);
    for at in [0u32, 5, 60] {
        bench.write(reg::FFMT + 8 * at, 1 << 2);
        bench.write(reg::FFVT + 8 * at, u32::from(frame[at as usize]) << 16);
    }
    let mut other = frame.clone();
    other[60] ^= 1;
    bench.inject(&other);
    bench.inject(&frame[..63]);
    assert_eq!(bench.read(reg::WUS), 0);
    bench.inject(&frame);
    assert_eq!(bench.read(reg::WUS), wake::FLX0 << 2);
}

#[test]
fn the_eeprom_can_leave_magic_packets_to_the_board() {
    let mut bytes = TestNic::default().nic.eeprom().to_bytes();
    bytes[2 * 0x24 + 1] = 0x04;
    let image = minivmm::nic::e1000::eeprom::Image::from_bytes(&bytes).unwrap();
    let mut bench = TestNic::new(Config { eeprom: Some(image), ..Config::new(MAC) });
    assert_eq!(bench.read(reg::WUC), wake::APME);
    bench.start_rx(16, rctl::BAM);
    bench.nic.power_state_changed(PowerState::D3hot);
    bench.inject(&magic(MAC));
    assert_eq!(bench.read(reg::WUS), wake::MAG);
    assert_eq!(bench.read(reg::WUC) & wake::PME_STATUS, 0, "APMPME is clear");
}
