//! Descriptor rings as a driver could write them, with their buffers in one part of memory: the device touches the rings'
//! status, the receive buffers, and nothing else; indices stay inside the rings; a frame that waits has taken nothing.

use minivmm::netport::{Delivery, Offloads};
use minivmm::nic::e1000::spec::{DESC_LEN, ctrl, rctl, reg, rxcsum, txd};
use minivmm::nic::e1000::testing::{MAC, RX_RING, TX_RING, TestNic, frame_to};

use super::super::input::Input;
use super::{config, count_operation, works_again};

/// Transmit buffers begin here; the device only reads them.
const TX_AREA: u64 = 0x10_0000;
/// Receive buffers begin here, one for each descriptor.
const RX_AREA: u64 = 0x40_0000;
/// Distance of receive buffers: the largest buffer, and room for an offset.
const STEP: u64 = 0x5000;
/// Nobody ever named this memory to the device.
const FORBIDDEN: std::ops::Range<u64> = 0x70_0000..0x72_0000;
const CANARY: u8 = 0xc5;
const MOST: usize = 600;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bench = TestNic::new(config(input.u8()));
    bench.poke(FORBIDDEN.start, &vec![CANARY; (FORBIDDEN.end - FORBIDDEN.start) as usize]);
    bench.poke(TX_AREA, &[CANARY; 0x4000]);
    set_up(&mut bench, &mut input);
    let (tx_len, rx_len) = (ring_len(&bench, reg::TDLEN), ring_len(&bench, reg::RDLEN));
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        count_operation();
        operation(&mut bench, &mut input, tx_len, rx_len);
        bench.peer.take_all();
        assert!(bench.read(reg::TDH) < tx_len, "TDH stays in the ring");
        assert!(bench.read(reg::RDH) < rx_len, "RDH stays in the ring");
    }
    let forbidden = bench.peek(FORBIDDEN.start, (FORBIDDEN.end - FORBIDDEN.start) as usize);
    assert!(forbidden.iter().all(|&b| b == CANARY), "memory that was never named");
    assert!(bench.peek(TX_AREA, 0x4000).iter().all(|&b| b == CANARY), "transmit buffers are only read");
    works_again(&mut bench);
}

fn ring_len(bench: &TestNic, register: u32) -> u32 {
    bench.read(register) / DESC_LEN as u32
}

fn set_up(bench: &mut TestNic, input: &mut Input<'_>) {
    let modes = input.u16();
    let len = |choice: u16| 8 << (choice & 3);
    bench.start_tx(len(modes));
    bench.start_rx(len(modes >> 2), 0);
    let allowed = rctl::SBP
        | rctl::UPE
        | rctl::MPE
        | rctl::LPE
        | rctl::BAM
        | rctl::BSEX
        | rctl::SECRC
        | 3 << rctl::BSIZE_SHIFT;
    let lbm = if modes & 16 != 0 { rctl::LBM_MAC } else { 0 };
    let rctl_bits = (input.u32() & allowed) | rctl::EN | lbm;
    bench.write(reg::RDT, 0);
    bench.write(reg::RDH, 0);
    bench.write(reg::RCTL, rctl_bits);
    bench.write(reg::RXCSUM, input.u16().into());
    let vme = if modes & 32 != 0 { ctrl::VME } else { 0 };
    bench.write(reg::CTRL, bench.read(reg::CTRL) | vme);
    bench.write(reg::RXCSUM, u32::from(modes) & (rxcsum::IPOFL | rxcsum::TUOFL | rxcsum::PCSS_MASK));
    for n in 0..64 {
        bench.post_rx_descriptor(n, RX_AREA + u64::from(n) * STEP + u64::from(modes >> 8));
    }
}

fn operation(bench: &mut TestNic, input: &mut Input<'_>, tx_len: u32, rx_len: u32) {
    match input.u8() % 16 {
        0..=6 => descriptor(bench, input, tx_len),
        7..=9 => bench.write(reg::TDT, u32::from(input.u8()) % tx_len),
        10 => bench.write(reg::RDT, u32::from(input.u8()) % rx_len),
        11 | 12 => {
            let len = usize::from(input.u16() % 17_000);
            let destination = if input.u8() & 1 != 0 { MAC } else { [0xff; 6] };
            let before = bench.read(reg::RDH);
            let delivery = bench.inject(&frame_to(destination, len.max(14)));
            if delivery == Delivery::Full {
                assert_eq!(bench.read(reg::RDH), before, "a frame that waits has taken no descriptor");
            }
        }
        13 => {
            bench.peer.set_room(usize::from(input.u8() % 16));
            minivmm::netport::FramePort::peer_ready(&*bench.nic);
        }
        14 => {
            let all = input.u8() & 1 != 0;
            bench.peer.set_accepts(Offloads { csum: all, tso4: all, tso6: all });
        }
        _ => bench.advance(u64::from(input.u16())),
    }
}

/// A transmit descriptor whose buffer lies among the transmit buffers; contexts as they come.
fn descriptor(bench: &TestNic, input: &mut Input<'_>, tx_len: u32) {
    let at = TX_RING + DESC_LEN * u64::from(u32::from(input.u8()) % tx_len);
    let (kind, len, cmd, upper) = (input.u8() % 4, input.u16() % 0x3000, input.u8(), input.u32());
    let lower = match kind {
        0 => u32::from(len) | u32::from(cmd) << 24 & !txd::DEXT,
        1 => u32::from(len) | u32::from(cmd) << 24 | txd::DEXT,
        _ => u32::from(len) | u32::from(cmd) << 24 | txd::DEXT | txd::DTYP_DATA << txd::DTYP_SHIFT,
    };
    let address = if kind == 1 { input.u64() } else { TX_AREA + u64::from(input.u8()) };
    bench.poke(at, &address.to_le_bytes());
    bench.poke(
        at + 8,
        &(u64::from(upper & !0xff | u32::from(upper as u8 & 0xfe)) << 32 | u64::from(lower)).to_le_bytes(),
    );
    debug_assert!(at < RX_RING);
}
