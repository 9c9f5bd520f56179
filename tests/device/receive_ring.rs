//! The receive ring's edges: wrapping, all buffers given, stale descriptors, thresholds, memory that is not there; and
//! every way to loop frames back.

use minivmm::netport::{Delivery, DropReason};
use minivmm::nic::e1000::spec::{cause, rctl, reg, rxd};
use minivmm::nic::e1000::testing::{MAC, OTHER, RAM_LEN, RX_BUFFERS, RX_RING, TestNic, frame_to};

const FILTERED: Delivery = Delivery::Dropped(DropReason::Filtered);

#[test]
fn the_ring_wraps_and_rdh_never_leaves_it() {
    let mut bench = TestNic::default();
    bench.start_rx(8, 0);
    for n in 0..30 {
        assert_eq!(bench.inject(&frame_to(MAC, 60 + n)), Delivery::Taken);
        assert_eq!(bench.receive().unwrap().bytes.len(), 64 + n);
        bench.refill();
    }
    assert_eq!(bench.read(reg::RDH), 30 % 8);
}

#[test]
fn rdt_equal_to_the_ring_length_gives_all_descriptors_for_ever() {
    let mut bench = TestNic::default();
    bench.start_rx(8, 0);
    bench.write(reg::RDT, 8);
    for n in 0..20 {
        assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken, "RDH wraps before it meets RDT");
        assert_eq!(bench.read(reg::RDH), (n + 1) % 8);
    }
    bench.write(reg::RDT, 9);
    assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Full, "beyond the ring there is nothing");
}

#[test]
fn rdh_equal_to_rdt_is_an_empty_ring() {
    let mut bench = TestNic::default();
    bench.start_rx(8, 0);
    for index in 0..8 {
        bench.write(reg::RDH, index);
        bench.write(reg::RDT, index);
        assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Full);
        assert_eq!(bench.read(reg::RDH), index);
    }
}

#[test]
fn the_receiver_may_be_on_before_the_indices_are_written() {
    let mut bench = TestNic::default();
    bench.start_rx(8, 0);
    bench.write(reg::RCTL, rctl::EN);
    bench.write(reg::RDH, 0);
    bench.write(reg::RDT, 7);
    assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken);
    assert!(bench.receive().is_some());
}

#[test]
fn what_stood_in_a_descriptor_before_is_gone() {
    let mut bench = TestNic::default();
    bench.start_rx(16, 0);
    for n in 0..16 {
        bench.poke(RX_RING + 16 * n + 8, &[0xff; 8]);
    }
    bench.inject(&frame_to(MAC, 60));
    let descriptor = bench.peek(RX_RING + 8, 8);
    assert_eq!(descriptor[..2], [64, 0], "length");
    assert_eq!(descriptor[4], rxd::DD | rxd::EOP | rxd::IXSM);
    assert_eq!(descriptor[5..], [0, 0, 0], "errors, special");
    assert_eq!(bench.peek(RX_RING + 16 + 8, 8), [0xff; 8], "the next one is untouched");
}

#[test]
fn descriptors_that_are_not_last_carry_dd_and_a_full_buffer() {
    let bench = {
        let mut bench = TestNic::default();
        bench.start_rx(16, rctl::LPE | 3 << rctl::BSIZE_SHIFT);
        bench
    };
    bench.inject(&frame_to(MAC, 700));
    for (n, len, status) in
        [(0, 256u16, rxd::DD), (1, 256, rxd::DD), (2, 192, rxd::DD | rxd::EOP | rxd::IXSM)]
    {
        let descriptor = bench.peek(RX_RING + 16 * n + 8, 8);
        assert_eq!((u16::from_le_bytes([descriptor[0], descriptor[1]]), descriptor[4]), (len, status), "{n}");
    }
}

#[test]
fn each_threshold_of_rdmts_raises_rxdmt0_once() {
    for (rdmts, free_left) in [(0, 16), (1, 8), (2, 4)] {
        let mut bench = TestNic::default();
        bench.start_rx(32, rdmts << rctl::RDMTS_SHIFT);
        let raised: Vec<u32> = (1..=30)
            .filter(|_| {
                bench.inject(&frame_to(MAC, 60));
                bench.read(reg::ICR) & cause::RXDMT0 != 0
            })
            .collect();
        assert_eq!(raised, [31 - free_left]);
    }
}

#[test]
fn a_buffer_that_is_not_memory_loses_its_bytes_and_nothing_else() {
    // A hole, the device's own BAR, beyond 4 GiB, and the last bytes of memory.
    for address in [RAM_LEN + 0x1000, 0xfebc_0000, 0x1_0000_0000, RAM_LEN - 10, u64::MAX - 3] {
        let mut bench = TestNic::default();
        bench.start_rx(16, 0);
        bench.post_rx_descriptor(0, address);
        assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken);
        assert!(bench.dma.aborts() > 0);
        assert_eq!(bench.peek(RX_RING + 12, 1)[0] & rxd::DD, rxd::DD);
        assert_eq!(bench.inject(&frame_to(MAC, 61)), Delivery::Taken);
        let second = bench.peek(RX_BUFFERS + 0x800, 61);
        assert_eq!(second, frame_to(MAC, 61), "the ring goes on");
    }
}

#[test]
fn a_ring_that_is_not_memory_receives_nothing() {
    for base in [RAM_LEN as u32, 0xfebc_0000] {
        let mut bench = TestNic::default();
        bench.start_rx(16, 0);
        bench.write(reg::RDBAL, base);
        assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Full);
        assert_eq!(bench.read(reg::RDH), 0);
    }
}

#[test]
fn a_hash_bit_lets_unicast_and_broadcast_through_too() {
    for address in [OTHER, [0xff; 6]] {
        let mut bench = TestNic::default();
        bench.start_rx(16, 0);
        assert_eq!(bench.inject(&frame_to(address, 60)), FILTERED);
        let hash = u32::from(u16::from_le_bytes([address[4], address[5]])) >> 4 & 0xfff;
        bench.write(reg::MTA + 4 * (hash >> 5), 1 << (hash & 31));
        assert_eq!(bench.inject(&frame_to(address, 60)), Delivery::Taken);
        assert_eq!(bench.receive().unwrap().status & rxd::PIF, rxd::PIF);
    }
}

#[test]
fn the_vlan_filter_holds_for_a_promiscuous_receiver_too() {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::UPE | rctl::MPE | rctl::VFE);
    let mut frame = frame_to(OTHER, 100);
    frame[12..16].copy_from_slice(&[0x81, 0, 0, 5]);
    assert_eq!(bench.inject(&frame), FILTERED);
    bench.write(reg::VFTA, 1 << 5);
    assert_eq!(bench.inject(&frame), Delivery::Taken);
    bench.write(reg::VET, 0x9100);
    frame[15] = 6;
    assert_eq!(bench.inject(&frame), Delivery::Taken, "no tag of the kind that VET names");
}

#[test]
fn address_entries_of_the_source_kind_or_invalid_ones_do_not_match() {
    let mut bench = TestNic::default();
    bench.start_rx(16, 0);
    bench.write(reg::RAL + 8, u32::from_le_bytes([OTHER[0], OTHER[1], OTHER[2], OTHER[3]]));
    let high = u32::from(u16::from_le_bytes([OTHER[4], OTHER[5]]));
    for (bits, wanted) in [(0, false), (1 << 31 | 1 << 16, false), (1 << 31, true)] {
        bench.write(reg::RAH + 8, high | bits);
        assert_eq!(bench.inject(&frame_to(OTHER, 60)) == Delivery::Taken, wanted, "{bits:#x}");
    }
}

#[test]
fn every_loopback_mode_returns_frames_and_keeps_them_from_the_wire() {
    for (lbm, bmcr) in [(rctl::LBM_MAC, None), (rctl::LBM_PHY, None), (0, Some(0x4140))] {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.start_rx(16, rctl::BAM | lbm);
        if let Some(bmcr) = bmcr {
            bench.phy_write(0, bmcr);
        }
        bench.nic.set_link(false);
        bench.send(&frame_to([0xff; 6], 100));
        assert_eq!(bench.receive().unwrap().bytes[..100], frame_to([0xff; 6], 100));
        bench.send(&frame_to(OTHER, 100));
        assert!(bench.receive().is_none(), "the filters hold");
        assert!(bench.peer.take().is_none());
        assert_ne!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken, "and nothing comes in");
    }
}

#[test]
fn looped_back_frames_without_descriptors_are_lost_and_counted() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(8, rctl::BAM | rctl::LBM_MAC);
    for _ in 0..9 {
        bench.send(&frame_to(MAC, 100));
    }
    assert_eq!((bench.read(reg::MPC), bench.read(reg::GPRC)), (2, 7));
    assert_eq!(bench.read(reg::ICR) & cause::RXO, cause::RXO);
}
