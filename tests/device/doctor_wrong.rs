//! Mistakes as drivers' authors make them, from one end to the other: the driver doctor names the cause, and no more.

use minivmm::netport::FramePort;
use minivmm::nic::e1000::doctor::Severity;
use minivmm::nic::e1000::spec::{cause, ctrl, rah, rctl, reg, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, RX_RING, TX_BUFFERS, TX_RING, TestNic, frame_to};

use super::doctor::{FRAME, bench, context, ids};
use super::doctor_sums::{Flow, seeded};

const SECOND: u64 = 1_000_000_000;

/// What is found, notes too.
fn found(mistake: impl Fn(&mut TestNic)) -> Vec<&'static str> {
    let (mut nic, doctor) = bench();
    mistake(&mut nic);
    ids(&doctor, Severity::Note)
}

#[test]
fn a_ring_length_in_descriptors_instead_of_bytes() {
    let tx = |descriptors: u32| {
        found(|nic| {
            nic.start_tx(descriptors);
            nic.write(reg::TCTL, 0);
            nic.write(reg::TDLEN, descriptors);
            nic.write(reg::TCTL, tctl::EN | tctl::PSP);
            (0..descriptors / 2).for_each(|_| {
                nic.send(&frame_to(OTHER, 60));
            });
        })
    };
    // 256 happens to be a multiple of 128: 16 descriptors.
    assert_eq!(tx(256), ["E1000-TX-003"]);
    assert_eq!(tx(64), ["E1000-TX-001", "E1000-TX-003"][..1]);
}

#[test]
fn virtual_addresses_instead_of_bus_addresses() {
    let ring = found(|nic| {
        nic.start_tx(16);
        nic.write(reg::TCTL, 0);
        nic.write(reg::TDBAH, 0xffff_8880);
        nic.write(reg::TCTL, tctl::EN | tctl::PSP);
        nic.send(&frame_to(OTHER, 60));
    });
    assert_eq!(ring, ["E1000-DMA-002"]);
    let buffer = found(|nic| {
        nic.start_tx(16);
        nic.queue_legacy(0xffff_8880_0010_0000, 60, FRAME);
        nic.ring_doorbell();
    });
    assert_eq!(buffer, ["E1000-DMA-004"]);
}

#[test]
fn a_tail_in_bytes() {
    let found = found(|nic| {
        nic.start_tx(16);
        nic.queue_legacy(TX_BUFFERS, 60, FRAME);
        nic.write(reg::TDT, 16);
    });
    assert_eq!(found, ["E1000-TX-003"]);
}

#[test]
fn a_ring_that_is_longer_than_the_driver_thinks() {
    let found = found(|nic| {
        nic.start_tx(16);
        nic.write(reg::TCTL, 0);
        nic.write(reg::TDLEN, 32 * 16);
        nic.write(reg::TCTL, tctl::EN | tctl::PSP);
        (0..17).for_each(|_| {
            nic.send(&frame_to(OTHER, 60));
        });
    });
    assert_eq!(found, ["E1000-TX-007"]);
}

#[test]
fn engines_that_were_never_switched_on() {
    let tx = found(|nic| {
        nic.start_tx(16);
        nic.write(reg::TCTL, tctl::PSP);
        (0..3).for_each(|_| {
            nic.send(&frame_to(OTHER, 60));
            nic.advance(SECOND);
        });
    });
    assert_eq!(tx, ["E1000-TX-025"]);
    let rx = found(|nic| {
        nic.write(reg::RDBAL, RX_RING as u32);
        nic.write(reg::RDLEN, 256);
        nic.write(reg::CTRL, ctrl::SLU);
        nic.write(reg::RDT, 15);
        nic.write(reg::RCTL, rctl::BAM);
        (0..3).for_each(|_| {
            nic.inject(&frame_to(MAC, 60));
            nic.advance(SECOND);
        });
    });
    assert_eq!(rx, ["E1000-RX-022"]);
}

#[test]
fn a_length_that_was_never_filled_in() {
    let found = found(|nic| {
        nic.start_tx(16);
        nic.queue_legacy(TX_BUFFERS, 0, FRAME);
        nic.ring_doorbell();
    });
    assert_eq!(found, ["E1000-TX-024"]);
}

#[test]
fn buffers_of_2_kib_that_the_device_takes_for_16() {
    let found = found(|nic| {
        nic.start_rx(16, rctl::BAM | rctl::LPE | rctl::BSEX | 1 << rctl::BSIZE_SHIFT);
        nic.inject(&frame_to(MAC, 60));
        nic.inject(&frame_to(MAC, 60));
    });
    assert_eq!(found, ["E1000-RX-011"]);
}

#[test]
fn a_station_address_in_the_wrong_byte_order() {
    let [a, b, c, d, e, f] = [0x52, 0x54, 0, 0x13, 0x34, 0x57];
    let (low, high) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
    let either =
        [[(reg::RAL, low), (reg::RAH, rah::AV | high)], [(reg::RAH, rah::AV | high), (reg::RAL, low)]];
    for order in either {
        let found = found(|nic| order.iter().for_each(|&(at, value)| nic.write(at, value)));
        assert_eq!(found, ["E1000-RX-016"]);
    }
}

#[test]
fn a_segmentation_whose_pseudo_header_has_the_length() {
    for wrong in [false, true] {
        let found = found(|nic| {
            nic.start_tx(16);
            let (mut frame, start, at) = seeded(Flow { payload: 1000, ..Flow::default() }, 0);
            if !wrong {
                // Ones' complement: without the length of header and payload.
                let seed = u16::from_be_bytes([frame[at], frame[at + 1]]);
                let (rest, borrow) = seed.overflowing_sub(1020);
                frame[at..at + 2].copy_from_slice(&(rest - u16::from(borrow)).to_be_bytes());
            }
            nic.poke(TX_BUFFERS, &frame);
            nic.queue_descriptor(context(start as u64, at as u64, true, 54, 500, 1000));
            let popts = txd::POPTS_TXSM | txd::POPTS_IXSM;
            nic.queue_data(TX_BUFFERS, frame.len() as u32, FRAME | txd::TSE, popts, 0);
            nic.ring_doorbell();
            assert_eq!(nic.peer.take_all().len(), 2);
        });
        assert_eq!(found, if wrong { &["E1000-TX-023"][..] } else { &[] });
    }
}

#[test]
fn a_checksum_of_a_legacy_descriptor_behind_the_packet() {
    let found = found(|nic| {
        nic.start_tx(16);
        nic.poke(TX_BUFFERS, &frame_to(OTHER, 60));
        nic.queue_descriptor([TX_BUFFERS, (60 | 70 << 16) as u64 | u64::from(FRAME | txd::IC) | 14 << 40]);
        nic.ring_doorbell();
    });
    assert_eq!(found, ["E1000-TX-014"]);
}

#[test]
fn buffers_that_are_never_given_back() {
    let found = found(|nic| {
        nic.start_rx(16, rctl::BAM);
        (0..40).for_each(|_| {
            nic.inject(&frame_to(MAC, 60));
            nic.receive();
            nic.advance(SECOND / 10);
        });
    });
    assert_eq!(found, ["E1000-RX-019"]);
}

#[test]
fn a_queue_that_is_never_full() {
    let found = found(|nic| {
        nic.start_tx(16);
        nic.peer.set_room(4);
        (0..30).for_each(|_| {
            nic.send(&frame_to(OTHER, 60));
        });
        nic.peer.set_room(100);
        nic.nic.peer_ready();
    });
    assert_eq!(found, ["E1000-TX-004"]);
}

#[test]
fn a_reset_in_the_middle_of_traffic() {
    let found = found(|nic| {
        nic.start_rx(16, rctl::BAM);
        nic.start_tx(16);
        nic.send(&frame_to(OTHER, 60));
        nic.write(reg::CTRL, ctrl::RST);
        nic.write(reg::TDBAL, TX_RING as u32);
    });
    assert_eq!(found, ["E1000-REG-008", "E1000-REG-007"]);
}

#[test]
fn what_the_peer_does_has_no_instruction_of_ours() {
    // Two NICs on one cable: what one's driver sends comes to the other on the same thread.
    let (mut one, doctor) = bench();
    one.count_instructions();
    let (two, other) = bench();
    one.start_tx(16);
    two.write(reg::RDBAL, RX_RING as u32);
    two.write(reg::RDLEN, 256);
    two.write(reg::CTRL, ctrl::SLU);
    two.write(reg::RCTL, rctl::EN);
    let ports: [std::sync::Arc<dyn FramePort>; 2] = [one.nic.clone(), two.nic.clone()];
    ports.iter().for_each(minivmm::netport::part);
    minivmm::netport::join(&ports[0], &ports[1]);
    one.send(&frame_to([0xff; 6], 60));
    assert_eq!(ids(&doctor, Severity::Note), [""; 0]);
    let [finding] = &other.findings()[..] else { panic!("a broadcast that is filtered") };
    assert_eq!((finding.kind.id, finding.moment.origin), ("E1000-RX-014", None));
}

#[test]
fn a_handler_that_masks_what_it_knows_and_never_reads_icr() {
    let storm = |acknowledge: bool, ns: u64| {
        found(|nic| {
            nic.write(reg::IMS, cause::LSC);
            nic.write(reg::ICS, cause::LSC);
            assert!(nic.interrupted());
            for _ in 0..11_000 {
                nic.write(reg::IMC, cause::RXT0 | cause::TXDW);
                if acknowledge {
                    nic.read(reg::ICR);
                    nic.write(reg::ICS, cause::LSC);
                }
                nic.advance(ns);
            }
        })
    };
    assert_eq!(storm(false, 100_000), ["E1000-INT-002"]);
    assert_eq!(storm(true, 100_000), [""; 0]);
    // Many registers, but in no time.
    assert_eq!(storm(false, 1000), [""; 0]);
}

#[test]
fn a_receive_tail_that_is_one_too_far_or_two() {
    let tail = |tail: u32| {
        found(|nic| {
            nic.start_rx(16, rctl::BAM);
            (0..3).for_each(|_| {
                nic.inject(&frame_to(MAC, 60));
                nic.receive();
            });
            nic.write(reg::RDT, tail);
        })
    };
    assert_eq!((tail(2), tail(3), tail(4)), (vec![], vec!["E1000-RX-005"], vec!["E1000-RX-006"]));
}

#[test]
fn a_packet_that_never_ends_is_one_mistake() {
    let (mut nic, doctor) = bench();
    nic.start_tx(16);
    for _ in 0..60 {
        nic.queue_legacy(TX_BUFFERS, 60, txd::IFCS | txd::RS);
        nic.ring_doorbell();
    }
    nic.queue_legacy(TX_BUFFERS, 60, FRAME);
    nic.ring_doorbell();
    let [finding] = &doctor.findings()[..] else { panic!("{:#?}", doctor.findings()) };
    assert_eq!((finding.kind.id, finding.count), ("E1000-TX-009", 1));
}
