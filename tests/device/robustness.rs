//! A hostile guest: garbage in every register and ring, from several threads. Nothing panics, nothing hangs, and the
//! device works again after a reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minivmm::bus::{Access, Width};
use minivmm::netport::{CsumRequest, Delivery, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads};
use minivmm::nic::e1000::regs::table::TABLE;
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, RX_RING, TX_RING, TestNic, frame_to};
use minivmm::pci::{Function, PowerState};
use proptest::prelude::*;

/// Longer than any bounded work takes on the slowest host; endless work takes longer.
const HANG: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
enum Op {
    Access {
        bar: u8,
        offset: u64,
        width: Width,
        write: Option<u64>,
    },
    /// A register of the table, by number.
    Register {
        row: usize,
        element: u32,
        value: u32,
    },
    Doorbells {
        tdt: u16,
        rdt: u16,
    },
    Memory {
        at: u64,
        bytes: Vec<u8>,
    },
    Descriptor {
        ring: u64,
        index: u64,
        address: u64,
        rest: u64,
    },
    FrameIn {
        destination: u8,
        bytes: Vec<u8>,
        meta: FrameMeta,
    },
    Advance(u64),
    Room(usize),
    Link(bool),
    Master(bool),
    Accepts(bool),
    Power(bool),
    BusReset,
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword), Just(Width::Qword)]
}

fn meta() -> impl Strategy<Value = FrameMeta> {
    let csum = proptest::option::of((0u16..200, 0u16..40));
    let gso = proptest::option::of((any::<bool>(), any::<u16>(), any::<u16>()));
    (csum, gso, any::<bool>()).prop_map(|(csum, gso, csum_valid)| FrameMeta {
        csum: csum.map(|(start, offset)| CsumRequest { start, offset }),
        csum_valid,
        gso: gso.map(|(v6, mss, header_len)| Gso {
            kind: if v6 { GsoKind::Tcp6 } else { GsoKind::Tcp4 },
            mss,
            header_len,
        }),
    })
}

/// Addresses: inside memory, around its end, and anywhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0x10_0000u64..0x20_0000, 0x7f_ff00u64..0x80_0100, Just(0), any::<u64>()]
}

/// The rest of a descriptor: likely bits, or anything.
fn descriptor() -> impl Strategy<Value = u64> {
    let likely = (0u64..5000, 0u32..256, 0u32..3, any::<u32>())
        .prop_map(|(len, cmd, dtyp, upper)| len | u64::from(cmd << 24 | dtyp << 20) | u64::from(upper) << 32);
    prop_oneof![3 => likely, 1 => any::<u64>()]
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop_oneof![any::<u32>(), 0u32..0x2000, Just(0xffff_ffff), Just(2)];
    prop_oneof![
        2 => (0u8..4, 0u64..0x2_0010, width(), proptest::option::of(any::<u64>()))
            .prop_map(|(bar, offset, width, write)| Op::Access { bar, offset, width, write }),
        6 => (0..TABLE.len(), 0u32..128, value)
            .prop_map(|(row, element, value)| Op::Register { row, element, value }),
        6 => (0u16..70, 0u16..70).prop_map(|(tdt, rdt)| Op::Doorbells { tdt, rdt }),
        1 => (0u64..0x20_0000, proptest::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Op::Memory { at, bytes }),
        8 => (any::<bool>(), 0u64..64, address(), descriptor()).prop_map(|(tx, index, address, rest)| {
            Op::Descriptor { ring: if tx { TX_RING } else { RX_RING }, index, address, rest }
        }),
        4 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..3000), meta())
            .prop_map(|(destination, bytes, meta)| Op::FrameIn { destination, bytes, meta }),
        2 => (0u64..10_000_000).prop_map(Op::Advance),
        1 => (0usize..4).prop_map(Op::Room),
        1 => any::<bool>().prop_map(Op::Link),
        1 => any::<bool>().prop_map(Op::Master),
        1 => any::<bool>().prop_map(Op::Accepts),
        1 => any::<bool>().prop_map(Op::Power),
        1 => Just(Op::BusReset),
    ]
}

fn apply(bench: &TestNic, op: Op) {
    match op {
        Op::Access { bar, offset, width, write } => {
            let access = Access::plain(width);
            // Errors are the bus's business.
            match write {
                Some(value) => drop(bench.nic.bar_write(bar, offset, value, &access)),
                None => drop(bench.nic.bar_read(bar, offset, &access)),
            }
        }
        Op::Register { row, element, value } => {
            let row = &TABLE[row];
            let offset = row.offset + element % row.count * row.stride;
            // A reset every other time would leave nothing to find.
            let value = if row.offset == reg::CTRL { value & !ctrl::RST } else { value };
            bench.write(offset, value);
            bench.read(offset);
        }
        Op::Doorbells { tdt, rdt } => {
            bench.write(reg::RDT, rdt.into());
            bench.write(reg::TDT, tdt.into());
        }
        Op::Memory { at, bytes } => bench.poke(at, &bytes),
        Op::Descriptor { ring, index, address, rest } => {
            bench.poke(ring + 16 * index, &address.to_le_bytes());
            bench.poke(ring + 16 * index + 8, &rest.to_le_bytes());
        }
        Op::FrameIn { destination, mut bytes, meta } => {
            if destination < 200 && bytes.len() >= 6 {
                bytes[..6].copy_from_slice(&MAC);
            }
            bench.nic.deliver(&Frame { head: &bytes, body: &[], meta });
        }
        Op::Advance(ns) => bench.advance(ns),
        Op::Room(frames) => {
            bench.peer.set_room(frames);
            bench.nic.peer_ready();
        }
        Op::Link(up) => bench.nic.set_link(up),
        Op::Master(on) => {
            bench.dma.set_enabled(on);
            bench.nic.bus_master_changed(on);
        }
        Op::Accepts(all) => {
            bench.peer.set_accepts(Offloads { csum: all, tso4: all, tso6: all });
        }
        Op::Power(on) => {
            bench.nic.power_state_changed(if on { PowerState::D0 } else { PowerState::D3hot });
        }
        Op::BusReset => bench.nic.bus_reset(),
    }
}

/// After anything: reset, set up, and a frame each way.
fn works_again(bench: &mut TestNic) {
    bench.dma.set_enabled(true);
    bench.peer.set_room(usize::MAX);
    bench.nic.set_link(true);
    bench.nic.bus_reset();
    bench.advance(1_000_000);
    bench.peer.take_all();
    bench.start_tx(16);
    bench.start_rx(16, rctl::BAM);
    let frame = frame_to(OTHER, 100);
    let n = bench.send(&frame);
    assert_eq!(bench.peer.take_all(), [frame]);
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
    assert_eq!(bench.inject(&frame_to(MAC, 100)), Delivery::Taken);
    assert!(bench.receive().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_stream_of_operations_is_survived(ops in proptest::collection::vec(op(), 1..150), started: bool) {
        let mut bench = TestNic::default();
        if started {
            bench.start_tx(64);
            bench.start_rx(64, rctl::BAM | rctl::LPE);
        }
        let begin = Instant::now();
        for op in ops {
            apply(&bench, op);
        }
        prop_assert!(begin.elapsed() < HANG, "bounded work");
        works_again(&mut bench);
    }
}

#[test]
fn a_ring_of_the_greatest_length_is_worked_off_in_bounded_time() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::TDLEN, 0x000f_ff80);
    let begin = Instant::now();
    for _ in 0..50 {
        // Garbage beyond the ring's memory, and whatever lies there, is read as descriptors.
        bench.write(reg::TDT, 0xfff7);
        bench.write(reg::TDH, 0);
    }
    assert!(begin.elapsed() < HANG);
    works_again(&mut bench);
}

#[test]
fn doorbells_and_registers_from_several_threads() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.start_rx(64, rctl::BAM);
    for n in 0..64 {
        bench.poke(TX_RING + 16 * n, &0x10_0000u64.to_le_bytes());
        bench.poke(TX_RING + 16 * n + 8, &u64::from(60 | txd::EOP | txd::IFCS | txd::RS).to_le_bytes());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let shared = &bench;
    std::thread::scope(|scope| {
        let until_stopped = |mut work: Box<dyn FnMut(u32) + Send>| {
            let stop = stop.clone();
            scope.spawn(move || {
                let mut n = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    work(n);
                    n = n.wrapping_add(1);
                }
            });
        };
        until_stopped(Box::new(|n| shared.write(reg::TDT, n % 64)));
        until_stopped(Box::new(|n| {
            shared.write(reg::RDT, n % 64);
            match n % 97 {
                0 => shared.write(reg::CTRL, ctrl::RST),
                1 => shared.write(reg::TDLEN, 1024),
                2 => shared.write(reg::RDLEN, 1024),
                3 => shared.write(reg::TCTL, 0xa),
                4 => shared.write(reg::RCTL, rctl::EN | rctl::BAM),
                5 => shared.write(reg::TDH, n % 64),
                6 => shared.write(reg::RCTL, rctl::EN | rctl::LBM_MAC),
                7 => shared.write(reg::MDIC, 0x1340 | 1 << 21 | 1 << 26),
                _ => drop(shared.read(reg::ICR)),
            }
        }));
        until_stopped(Box::new(|n| {
            shared.inject(&frame_to(MAC, 60 + n as usize % 1400));
            if n % 50 == 0 {
                shared.nic.time_passed();
                shared.peer.take_all();
            }
        }));
        std::thread::sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Relaxed);
    });
    works_again(&mut bench);
}

#[test]
fn no_frame_is_lost_between_two_threads_and_a_full_peer() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_room(0);
    for n in 0..64u64 {
        bench.poke(TX_RING + 16 * n, &0x10_0000u64.to_le_bytes());
        bench.poke(TX_RING + 16 * n + 8, &u64::from(60 | txd::EOP | txd::IFCS | txd::RS).to_le_bytes());
    }
    let shared = &bench;
    let laps = 4;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 1..=laps * 64u32 {
                shared.write(reg::TDT, n % 64);
                while (shared.read(reg::TDH) + 64 - n % 64) % 64 != 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut got = 0;
        while got < laps * 64 {
            shared.peer.set_room(1);
            shared.nic.peer_ready();
            got += shared.peer.take_all().len() as u32;
        }
    });
    assert_eq!(bench.nic.stats_snapshot().tx_frames, u64::from(laps) * 64);
}
