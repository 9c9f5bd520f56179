//! The e1000 from all its sides: registers, configuration space, rings, frames, time.
//!
//! Three targets share the bench: a stream of operations of every kind ([`ops`]), descriptor rings with an eye on what must
//! stay untouched ([`rings`]), and frames in with an eye on what arrives ([`frames`]). Whatever happened, the device works
//! again after a reset.

pub mod frames;
pub mod ops;
pub mod rings;

use std::sync::atomic::{AtomicU64, Ordering};

use minivmm::netport::{CsumRequest, Delivery, FrameMeta, FramePort, Gso, GsoKind};
use minivmm::nic::e1000::eeprom::Image;
use minivmm::nic::e1000::spec::{rctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TestNic, frame_to};
use minivmm::nic::e1000::{Config, Model, Overflow};
use minivmm::pci::Function;

use super::input::Input;

/// Operations that all runs of this process have done.
pub static OPERATIONS: AtomicU64 = AtomicU64::new(0);

fn count_operation() {
    let done = OPERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    if done.is_multiple_of(10_000_000) {
        eprintln!("{} million operations", done / 1_000_000);
    }
}

/// A board as the first byte says.
fn config(choice: u8) -> Config {
    let model = Model::ALL[usize::from(choice & 3) % 3];
    let overflow = if choice & 4 != 0 { Overflow::Drop } else { Overflow::Wait };
    let eeprom = (choice & 8 != 0).then(|| {
        let mut bytes = Image::fresh(model, MAC).to_bytes();
        bytes.resize(512, 0x5a);
        Image::from_bytes(&bytes).expect("256 words")
    });
    let link_delay_ns = if choice & 16 != 0 { 2_000_000 } else { 0 };
    Config { model, overflow, eeprom, link_delay_ns, strict: choice & 32 != 0, ..Config::new(MAC) }
}

/// Metadata, sensible or not.
fn meta(input: &mut Input<'_>) -> FrameMeta {
    let kind = input.u8();
    let csum = (kind & 1 != 0).then(|| CsumRequest { start: input.u8().into(), offset: input.u8().into() });
    let gso = (kind & 2 != 0).then(|| Gso {
        kind: if kind & 4 != 0 { GsoKind::Tcp6 } else { GsoKind::Tcp4 },
        mss: input.u16(),
        header_len: input.u8().into(),
    });
    FrameMeta { csum, gso, csum_valid: kind & 8 != 0 }
}

/// After anything: reset, set up, and a frame each way.
fn works_again(bench: &mut TestNic) {
    bench.dma.set_enabled(true);
    bench.peer.set_room(usize::MAX);
    bench.peer.set_accepts(Default::default());
    bench.nic.set_link(true);
    bench.nic.bus_reset();
    bench.advance(10_000_000);
    bench.peer.take_all();
    bench.start_tx(16);
    bench.start_rx(16, rctl::BAM);
    let frame = frame_to(OTHER, 100);
    let n = bench.send(&frame);
    assert_eq!(bench.peer.take_all(), [frame], "a frame leaves");
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD, "its descriptor is done");
    // The EEPROM may have been written: then the station address is another.
    let station = bench.nic.eeprom().mac();
    if bench.nic.eeprom().is_signed() {
        assert_eq!(bench.inject(&frame_to(station, 100)), Delivery::Taken, "a frame arrives");
        assert!(bench.receive().is_some(), "and is in memory");
    }
    bench.nic.peer_ready();
}
