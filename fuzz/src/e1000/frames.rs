//! Frames in, under every receive setting: what is in memory afterwards is the frame that was sent, padded, with its FCS
//! or without, its tag removed or not, cut or not; and the statistics agree.

use minivmm::netport::{Delivery, Frame, FramePort};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, rxd};
use minivmm::nic::e1000::testing::{MAC, TestNic};

use super::super::input::Input;
use super::{config, count_operation, meta, works_again};

const RING: u32 = 32;
const MOST: usize = 64;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bench = TestNic::new(config(input.u8()));
    let modes = input.u32();
    let allowed = rctl::SBP
        | rctl::UPE
        | rctl::MPE
        | rctl::LPE
        | rctl::BAM
        | rctl::VFE
        | rctl::CFIEN
        | rctl::CFI
        | rctl::DPF
        | rctl::PMCF
        | rctl::SECRC
        | 3 << rctl::MO_SHIFT;
    let control = modes & allowed;
    bench.start_rx(RING, control);
    let vme = if modes & 1 != 0 { ctrl::VME } else { 0 };
    bench.write(reg::CTRL, bench.read(reg::CTRL) | vme | ctrl::RFCE);
    bench.write(reg::RXCSUM, input.u16().into());
    bench.write(reg::FCT, 0x8808);
    for _ in 0..input.u8() % 8 {
        bench.write(reg::MTA + 4 * u32::from(input.u8() % 128), input.u32());
        bench.write(reg::VFTA + 4 * u32::from(input.u8() % 128), input.u32());
    }
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        count_operation();
        frame(&mut bench, &mut input, control & rctl::SECRC == 0);
    }
    works_again(&mut bench);
}

fn frame(bench: &mut TestNic, input: &mut Input<'_>, keep_fcs: bool) {
    let (kind, len, meta) = (input.u8(), input.u16() % 20_000, meta(input));
    let mut bytes = input.bytes(100).to_vec();
    bytes.resize(usize::from(len), 0x33);
    if kind & 1 != 0 && bytes.len() >= 6 {
        bytes[..6].copy_from_slice(&MAC);
    }
    let before = bench.read(reg::GPRC);
    assert_eq!(before, 0, "cleared by the last read");
    let delivery = bench.nic.deliver(&Frame { head: &bytes, body: &[], meta });
    let received: Vec<_> = std::iter::from_fn(|| bench.receive()).collect();
    bench.refill();
    let rest: Vec<_> = std::iter::from_fn(|| bench.receive()).collect();
    let good = bench.read(reg::GPRC) as usize;
    assert!(good <= received.len() + rest.len(), "good packets are in memory");
    if delivery != Delivery::Taken {
        assert!(
            received.is_empty() || delivery == Delivery::Full,
            "a frame that was refused is not in memory"
        );
    }
    // The frame that waited is offered no more; one that is being cut goes on at each refill.
    for _ in 0..80 {
        bench.refill();
        if bench.receive().is_none() {
            break;
        }
        while bench.receive().is_some() {}
    }
    bench.read(reg::GPRC);
    if delivery == Delivery::Taken && meta.gso.is_none() && meta.csum.is_none() {
        let [got] = received.as_slice() else { panic!("{} frames in memory instead of one", received.len()) };
        let mut wire = bytes.clone();
        wire.resize(wire.len().max(60), 0);
        let fcs = crc32fast::hash(&wire).to_le_bytes();
        if got.status & rxd::VP != 0 {
            assert_eq!(
                u16::from_be_bytes([wire[14], wire[15]]),
                got.special,
                "the tag's control information"
            );
            wire.drain(12..16);
        }
        if keep_fcs {
            wire.extend(fcs);
        }
        assert!(got.bytes == wire, "the frame in memory is the one that came");
    }
}
