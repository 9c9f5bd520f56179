//! The driver doctor: each kind of finding is provoked, and the correct sequence beside it gives none.

use std::sync::{Arc, Mutex};

use minivmm::bus::{Access, Origin, Width};
use minivmm::netport::Delivery;
use minivmm::nic::e1000::doctor::{Doctor, KINDS, Severity};
use minivmm::nic::e1000::spec::{cause, ctrl, eeprom, mdic, rah, rctl, reg, tctl, txd};
use minivmm::nic::e1000::testing::{
    MAC, OTHER, RAM_LEN, RX_BUFFERS, RX_RING, TX_BUFFERS, TX_RING, TestNic, frame_to,
};
use minivmm::nic::e1000::{BAR_MMIO, Config, Model};
use minivmm::pci::Function;

use super::doctor_sums::{Flow, seeded, send_seeded};
use super::register_docs::replace_block_of;

pub(super) const FRAME: u32 = txd::EOP | txd::IFCS | txd::RS;
const BROADCAST: [u8; 6] = [0xff; 6];
pub(super) const N: u32 = 16;

/// A bench whose device has a doctor.
pub(super) fn bench() -> (TestNic, Arc<Doctor>) {
    bench_of(Model::default())
}

fn bench_of(model: Model) -> (TestNic, Arc<Doctor>) {
    let doctor = Arc::new(Doctor::new(model, |_| ()));
    let observer = Some(doctor.clone() as _);
    (TestNic::new(Config { model, observer, strict: true, ..Config::new(MAC) }), doctor)
}

/// The part that a kind of finding is about.
fn model_of(id: &str) -> Model {
    if id == "E1000-DMA-006" { Model::I82545Em } else { Model::default() }
}

pub(super) fn ids(doctor: &Doctor, least: Severity) -> Vec<&'static str> {
    doctor.findings().iter().filter(|f| f.kind.severity >= least).map(|f| f.kind.id).collect()
}

/// Does the thing right, or (`wrong`) as the kind says.
type Sequence = fn(&mut TestNic, wrong: bool);

fn receive(bench: &mut TestNic, frames: usize) {
    for _ in 0..frames {
        bench.inject(&frame_to(MAC, 60));
        bench.receive();
    }
}

/// One frame by two extended descriptors with a context before them, if `context`.
fn send_by_context(bench: &mut TestNic, context: Option<[u64; 2]>, tse: bool, popts: u8, len: u32) {
    bench.poke(TX_BUFFERS, &frame_to(OTHER, len as usize));
    if let Some(context) = context {
        bench.queue_descriptor(context);
    }
    let tse = if tse { txd::TSE } else { 0 };
    bench.queue_data(TX_BUFFERS, len, FRAME | tse, popts, 0);
    bench.ring_doorbell();
}

/// A context: checksum from `css` to `cso`, HDRLEN, MSS, PAYLEN.
pub(super) fn context(css: u64, cso: u64, tse: bool, header: u64, mss: u64, payload: u64) -> [u64; 2] {
    let cmd = u64::from(txd::DEXT | txd::TUCMD_IP | txd::TUCMD_TCP | if tse { txd::TSE } else { 0 });
    [css << 32 | cso << 40 | 14 | 24 << 8 | 33 << 16, cmd | payload | header << 40 | mss << 48]
}

/// An instruction.
struct Somewhere;

impl Origin for Somewhere {
    fn rip(&self) -> Option<u64> {
        Some(0x1000)
    }
}

fn access(bench: &TestNic, offset: u64, width: Width) {
    let origin = &Somewhere;
    // Whether it is refused is another test's business.
    let _ = bench.nic.bar_write(BAR_MMIO, offset, 0, &Access { cpu: 0, width, origin });
}

const CASES: &[(&str, Sequence)] = &[
    ("E1000-DMA-001", |b, wrong| {
        b.dma.set_enabled(!wrong);
        b.start_tx(N);
        b.send(&frame_to(OTHER, 60));
    }),
    ("E1000-DMA-002", |b, wrong| {
        b.start_tx(N);
        if wrong {
            b.write(reg::TCTL, 0);
            b.write(reg::TDBAL, RAM_LEN as u32);
            b.write(reg::TCTL, tctl::EN | tctl::PSP);
        }
        b.send(&frame_to(OTHER, 60));
    }),
    ("E1000-DMA-003", |b, wrong| {
        b.write(reg::RDBAL, if wrong { RAM_LEN as u32 } else { RX_RING as u32 });
        b.post_rx_descriptor(0, RX_BUFFERS);
        b.write(reg::RDLEN, N * 16);
        b.write(reg::CTRL, ctrl::SLU);
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
        b.write(reg::RDT, 1);
        b.inject(&frame_to(MAC, 60));
    }),
    ("E1000-DMA-004", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(if wrong { RAM_LEN } else { TX_BUFFERS }, 60, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-DMA-005", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if wrong {
            b.post_rx_descriptor(0, RAM_LEN);
        }
        b.inject(&frame_to(MAC, 60));
    }),
    ("E1000-DMA-006", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::RCTL, 0);
        // 256 bytes, up to a multiple of 64 KiB or across it.
        b.write(reg::RDBAL, if wrong { 0x2_ff80 } else { 0x2_ff00 });
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
    }),
    ("E1000-EEP-001", |b, wrong| {
        b.write(reg::EECD, eeprom::CS | if wrong { 0 } else { eeprom::REQ });
        b.write(reg::EECD, 0);
    }),
    ("E1000-EEP-002", |b, wrong| {
        b.eeprom_read(0);
        if wrong {
            b.write(reg::EECD, eeprom::REQ);
        }
        b.start_rx(N, rctl::BAM);
    }),
    ("E1000-EEP-003", |b, wrong| {
        b.write(reg::EECD, eeprom::REQ);
        b.write(reg::EECD, eeprom::REQ | eeprom::CS);
        b.write(reg::EECD, if wrong { eeprom::CS } else { eeprom::REQ });
        b.write(reg::EECD, 0);
        b.start_rx(N, rctl::BAM);
    }),
    ("E1000-INT-001", |b, wrong| {
        if wrong {
            b.write(reg::IMS, cause::RXT0 | cause::TXDW);
        }
        b.start_rx(N, rctl::BAM);
        b.start_tx(N);
        b.write(reg::IMS, cause::RXT0 | cause::TXDW);
    }),
    ("E1000-INT-002", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::IMS, cause::RXT0 | cause::LSC);
        for _ in 0..20 {
            receive(b, 1);
            if !wrong {
                b.read(reg::ICR);
            }
            b.write(reg::IMC, !0);
            b.write(reg::RDT, (b.read(reg::RDT) + 1) % N);
            b.write(reg::IMS, cause::RXT0 | cause::LSC);
        }
    }),
    ("E1000-INT-003", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::IMS, cause::RXT0 | cause::LSC);
        for n in 0..N - 1 {
            receive(b, 1);
            b.read(reg::ICR);
            b.read(reg::ICR);
            if !wrong {
                b.write(reg::RDT, n);
            }
        }
    }),
    ("E1000-INT-004", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        (0..if wrong { 1000 } else { 10 }).for_each(|_| {
            b.read(reg::ICR);
        });
    }),
    ("E1000-INT-005", |b, wrong| {
        b.write(reg::IMS, cause::LSC);
        if !wrong {
            b.write(reg::IMC, !0);
        }
        b.write(reg::CTRL, ctrl::RST);
    }),
    ("E1000-LNK-001", |b, wrong| {
        b.start_tx(N);
        if wrong {
            b.write(reg::CTRL, b.read(reg::CTRL) & !ctrl::SLU);
        }
        b.send(&frame_to(OTHER, 60));
    }),
    ("E1000-LNK-002", |b, wrong| {
        b.write(reg::CTRL, ctrl::SLU | ctrl::PHY_RST);
        if !wrong {
            b.write(reg::CTRL, ctrl::SLU);
        }
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
    }),
    ("E1000-PHY-001", |b, wrong| {
        let address = if wrong { 0 } else { mdic::PHY_ADDRESS };
        b.write(reg::MDIC, address << 21 | mdic::OP_WRITE << 26 | 0x1140);
        b.read(reg::MDIC);
    }),
    ("E1000-PHY-002", |b, wrong| {
        for _ in 0..2 {
            b.write(reg::MDIC, mdic::PHY_ADDRESS << 21 | mdic::OP_READ << 26 | 1 << 16);
            if !wrong {
                b.read(reg::MDIC);
            }
        }
    }),
    ("E1000-REG-001", |b, wrong| {
        access(b, reg::FCT.into(), if wrong { Width::Word } else { Width::Dword });
    }),
    ("E1000-REG-002", |b, wrong| {
        // What ethtool -t writes to STATUS is meant.
        let status = b.read(reg::STATUS);
        b.write(reg::STATUS, 0xffff_f833);
        b.write(reg::STATUS, status);
        if wrong {
            b.write(reg::GPRC, 0);
        }
    }),
    ("E1000-REG-003", |b, wrong| {
        b.read(if wrong { reg::IMC } else { reg::IMS });
    }),
    ("E1000-REG-004", |b, wrong| {
        b.read(if wrong { 0x3c } else { reg::VET });
    }),
    ("E1000-REG-005", |b, wrong| {
        let halves = if wrong { [reg::GORCL + 4, reg::GORCL] } else { [reg::GORCL, reg::GORCL + 4] };
        halves.into_iter().for_each(|half| {
            b.read(half);
        });
    }),
    ("E1000-REG-006", |b, wrong| {
        b.write(reg::RCTL, rctl::BAM | if wrong { 1 << 14 } else { 0 });
        b.write(reg::TCTL, tctl::PSP | if wrong { 1 } else { 0 });
    }),
    ("E1000-REG-007", |b, wrong| {
        b.write(reg::CTRL, ctrl::RST);
        b.read(reg::CTRL);
        b.advance(if wrong { 100_000 } else { 5_000_000 });
        b.write(reg::RAL, 0x1234_5602);
    }),
    ("E1000-REG-008", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if !wrong {
            b.write(reg::RCTL, 0);
        }
        b.write(reg::CTRL, ctrl::RST);
    }),
    ("E1000-REG-009", |b, wrong| {
        b.write(reg::PBA, if wrong { 60 } else { 40 });
    }),
    ("E1000-REG-010", |b, wrong| {
        b.write(reg::PBA, 40);
        if !wrong {
            b.write(reg::CTRL, ctrl::RST);
            b.advance(5_000_000);
        }
        b.start_rx(N, rctl::BAM);
    }),
    ("E1000-RX-001", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::RCTL, 0);
        b.write(reg::RDLEN, if wrong { 250 * 16 } else { 256 * 16 });
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
    }),
    ("E1000-RX-002", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::RCTL, 0);
        b.write(reg::RDBAL, RX_RING as u32 + if wrong { 8 } else { 0 });
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
    }),
    ("E1000-RX-003", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::RDT, if wrong { N + 1 } else { N - 1 });
    }),
    ("E1000-RX-004", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        b.write(reg::RDT, if wrong { N } else { N - 1 });
    }),
    ("E1000-RX-005", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        receive(b, 3);
        b.write(reg::RDT, if wrong { 3 } else { 2 });
    }),
    ("E1000-RX-006", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        receive(b, 3);
        b.write(reg::RDT, if wrong { 7 } else { 2 });
    }),
    ("E1000-RX-007", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        for n in 0..N + 4 {
            b.inject(&frame_to(MAC, 60));
            if !wrong {
                b.poke(RX_RING + u64::from(n % N) * 16 + 12, &[0]);
            }
            b.write(reg::RDT, n % N);
        }
        if wrong {
            // The frames of the last lap, taken for new.
            b.write(reg::RDT, 12);
        }
    }),
    ("E1000-RX-008", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if !wrong {
            b.write(reg::RCTL, 0);
        }
        b.write(reg::RDH, 4);
    }),
    ("E1000-RX-009", |b, wrong| {
        b.start_rx(N, 0);
        b.write(reg::RCTL, 0);
        if wrong {
            b.write(reg::RDT, 0);
        }
        b.write(reg::RCTL, rctl::EN | rctl::BAM);
        b.inject(&frame_to(MAC, 60));
        b.advance(2_000_000_000);
        b.read(reg::STATUS);
    }),
    ("E1000-RX-010", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if wrong {
            b.post_rx_descriptor(0, 0);
        }
        receive(b, 1);
    }),
    ("E1000-RX-011", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if wrong {
            b.post_rx_descriptor(1, RX_BUFFERS + 1024);
        }
        receive(b, 2);
    }),
    ("E1000-RX-012", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        if wrong {
            b.post_rx_descriptor(2, RX_BUFFERS);
        }
        receive(b, 3);
    }),
    ("E1000-RX-013", |b, wrong| {
        if !wrong {
            b.write(reg::VFTA, 1 << 5);
        }
        b.start_rx(N, rctl::BAM | rctl::VFE);
        let mut frame = frame_to(MAC, 64);
        frame[12..16].copy_from_slice(&[0x81, 0, 0, 5]);
        b.inject(&frame);
    }),
    ("E1000-RX-014", |b, wrong| {
        b.start_rx(N, if wrong { 0 } else { rctl::BAM });
        b.inject(&frame_to(BROADCAST, 60));
        b.inject(&frame_to(OTHER, 60));
    }),
    ("E1000-RX-015", |b, wrong| {
        b.start_rx(N, rctl::BAM | if wrong { 0 } else { rctl::LPE });
        b.inject(&frame_to(MAC, 1600));
    }),
    ("E1000-RX-016", |b, wrong| {
        b.write(reg::RAL, if wrong { 0x0100_5e01 } else { 0x0100_5e02 });
        b.write(reg::RAH, rah::AV | 0x100);
    }),
    ("E1000-RX-017", |b, wrong| {
        b.write(reg::RCTL, rctl::BSEX | if wrong { 0 } else { 3 << rctl::BSIZE_SHIFT });
    }),
    ("E1000-RX-018", |b, wrong| {
        b.write(reg::RDTR, if wrong { 8 } else { 0 });
        b.start_rx(N, rctl::BAM);
    }),
    ("E1000-RX-019", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        for _ in 0..N + 2 {
            b.inject(&frame_to(MAC, 60));
        }
        if !wrong {
            b.write(reg::RDT, 4);
        }
        b.advance(2_000_000_000);
        b.read(reg::STATUS);
    }),
    ("E1000-RX-020", |b, wrong| {
        b.start_rx(N, rctl::BAM);
        // The first one waits for three others, meanwhile the driver takes its buffer away.
        b.write(reg::RXDCTL, 1 << 24 | 4 << 16);
        b.write(reg::RDTR, 1000);
        b.inject(&frame_to(MAC, 100));
        if wrong {
            b.post_rx_descriptor(0, RX_BUFFERS + 0x10_0000);
        }
        (0..3).for_each(|_| assert_eq!(b.inject(&frame_to(MAC, 100)), Delivery::Taken));
    }),
    ("E1000-RX-021", |b, wrong| {
        b.write(reg::ITR, 200);
        b.write(reg::RADV, if wrong { 49 } else { 50 });
        b.start_rx(N, rctl::BAM);
    }),
    ("E1000-RX-022", |b, wrong| {
        b.write(reg::RDLEN, N * 16);
        b.write(reg::RDBAL, RX_RING as u32);
        b.write(reg::CTRL, ctrl::SLU);
        b.write(reg::RDT, N - 1);
        b.inject(&frame_to(MAC, 60));
        if !wrong {
            b.write(reg::RCTL, rctl::EN | rctl::BAM);
            b.write(reg::RCTL, 0);
        }
        b.advance(2_000_000_000);
        b.inject(&frame_to(MAC, 60));
    }),
    ("E1000-TX-001", |b, wrong| {
        b.start_tx(N);
        b.write(reg::TCTL, 0);
        b.write(reg::TDLEN, if wrong { 100 * 16 } else { 104 * 16 });
        b.write(reg::TCTL, tctl::EN | tctl::PSP);
        b.send(&frame_to(OTHER, 60));
    }),
    ("E1000-TX-002", |b, wrong| {
        b.start_tx(N);
        b.write(reg::TCTL, 0);
        b.write(reg::TDBAL, TX_RING as u32 + if wrong { 4 } else { 0 });
        b.write(reg::TCTL, tctl::EN | tctl::PSP);
        b.send(&frame_to(OTHER, 60));
    }),
    ("E1000-TX-003", |b, wrong| {
        b.start_tx(N);
        b.send(&frame_to(OTHER, 60));
        b.write(reg::TDT, if wrong { N } else { 1 });
    }),
    ("E1000-TX-004", |b, wrong| {
        b.start_tx(N);
        b.peer.set_room(0);
        (0..if wrong { N } else { N - 1 }).for_each(|_| {
            b.send(&frame_to(OTHER, 60));
        });
    }),
    ("E1000-TX-005", |b, wrong| {
        b.start_tx(N);
        if !wrong {
            b.write(reg::TCTL, tctl::PSP);
        }
        b.write(reg::TDH, 0);
    }),
    ("E1000-TX-006", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(if wrong { 0 } else { TX_BUFFERS }, 60, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-007", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(TX_BUFFERS, 60, FRAME);
        if wrong {
            b.queue_descriptor([0, 0]);
        }
        b.queue_legacy(TX_BUFFERS, 60, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-008", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(TX_BUFFERS, 60, txd::IFCS | txd::RS);
        b.queue_legacy(TX_BUFFERS, if wrong { 0 } else { 20 }, txd::IFCS | txd::RS);
        b.queue_legacy(TX_BUFFERS, 60, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-009", |b, wrong| {
        b.start_tx(N);
        for _ in 0..N - 1 {
            b.queue_legacy(TX_BUFFERS, 60, if wrong { txd::IFCS | txd::RS } else { FRAME });
            b.ring_doorbell();
        }
    }),
    ("E1000-TX-010", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(TX_BUFFERS, if wrong { 16289 } else { 16288 }, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-011", |b, wrong| {
        b.start_tx(N);
        b.write(reg::TCTL, tctl::EN);
        b.queue_legacy(TX_BUFFERS, if wrong { 50 } else { 60 }, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-012", |b, wrong| {
        b.start_tx(N);
        b.poke(TX_BUFFERS, &frame_to(OTHER, 60));
        b.queue_legacy(TX_BUFFERS, 60, if wrong { txd::EOP | txd::RS } else { FRAME });
        b.ring_doorbell();
    }),
    ("E1000-TX-013", |b, wrong| {
        b.start_tx(N);
        let loaded = (!wrong).then(|| context(34, 50, false, 0, 0, 0));
        send_by_context(b, loaded, false, txd::POPTS_TXSM, 100);
    }),
    ("E1000-TX-014", |b, wrong| {
        b.start_tx(N);
        let cso = if wrong { 120 } else { 50 };
        send_by_context(b, Some(context(34, cso, false, 0, 0, 0)), false, txd::POPTS_TXSM, 100);
    }),
    ("E1000-TX-015", |b, wrong| {
        b.start_tx(N);
        let mss = if wrong { 0 } else { 20 };
        send_by_context(b, Some(context(34, 50, true, 54, mss, 46)), true, txd::POPTS_TXSM, 100);
    }),
    ("E1000-TX-016", |b, wrong| {
        b.start_tx(N);
        let payload = if wrong { 100 } else { 46 };
        send_by_context(b, Some(context(34, 50, true, 54, 20, payload)), true, txd::POPTS_TXSM, 100);
    }),
    ("E1000-TX-017", |b, wrong| {
        b.start_tx(N);
        let loaded = context(34, 50, !wrong, 54, 20, 46);
        send_by_context(b, Some(loaded), true, txd::POPTS_TXSM, 100);
    }),
    ("E1000-TX-018", |b, wrong| {
        b.start_tx(N);
        b.queue_descriptor(context(34, 50, true, 54, 20, 46));
        b.poke(TX_BUFFERS, &frame_to(OTHER, 100));
        let first = txd::IFCS | txd::RS | txd::TSE;
        b.queue_data(TX_BUFFERS, 54, first, txd::POPTS_TXSM, 0);
        b.queue_data(TX_BUFFERS + 54, 46, FRAME | if wrong { 0 } else { txd::TSE }, txd::POPTS_TXSM, 0);
        b.ring_doorbell();
    }),
    ("E1000-TX-019", |b, wrong| {
        b.start_tx(N);
        b.write(reg::CTRL, ctrl::SLU | if wrong { 0 } else { ctrl::VME });
        b.queue_legacy(TX_BUFFERS, 60, FRAME | txd::VLE);
        b.ring_doorbell();
    }),
    ("E1000-TX-020", |b, wrong| {
        b.start_tx(N);
        for n in 0..N {
            let report = if wrong || n != 8 { 0 } else { txd::RS };
            b.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | report);
            b.ring_doorbell();
        }
    }),
    ("E1000-TX-021", |b, wrong| {
        b.start_tx(N);
        for _ in 0..20 {
            b.send(&frame_to(OTHER, 60));
            if wrong {
                b.read(reg::TDH);
            }
        }
        // A register dump.
        b.read(reg::TDH);
    }),
    ("E1000-TX-022", |b, wrong| {
        b.start_tx(N);
        b.peer.set_room(0);
        let index = b.send(&frame_to(OTHER, 60));
        if wrong {
            b.poke(TX_RING + u64::from(index) * 16, &[1]);
        }
        b.peer.set_room(1);
        minivmm::netport::FramePort::peer_ready(&*b.nic);
    }),
    ("E1000-TX-023", |b, wrong| {
        b.start_tx(N);
        let (frame, start, at) = seeded(Flow::default(), if wrong { 1 } else { 0 });
        send_seeded(b, &frame, start, at);
    }),
    ("E1000-TX-024", |b, wrong| {
        b.start_tx(N);
        b.queue_legacy(TX_BUFFERS, if wrong { 0 } else { 60 }, FRAME);
        b.ring_doorbell();
    }),
    ("E1000-TX-025", |b, wrong| {
        b.start_tx(N);
        b.write(reg::TCTL, 0);
        b.send(&frame_to(OTHER, 60));
        b.advance(2_000_000_000);
        if !wrong {
            b.write(reg::TCTL, tctl::EN | tctl::PSP);
        }
        b.send(&frame_to(OTHER, 60));
    }),
];

/// What the wire or the time shows, not an access.
const WITHOUT_INSTRUCTION: &[&str] = &[
    "E1000-DMA-003",
    "E1000-DMA-005",
    "E1000-RX-009",
    "E1000-RX-010",
    "E1000-RX-011",
    "E1000-RX-012",
    "E1000-RX-013",
    "E1000-RX-014",
    "E1000-RX-015",
    "E1000-RX-019",
    "E1000-RX-020",
    "E1000-RX-022",
    "E1000-TX-022",
];

#[test]
fn what_an_access_shows_has_its_instruction() {
    let without: Vec<&str> = CASES
        .iter()
        .filter(|(id, sequence)| {
            let (mut nic, doctor) = bench_of(model_of(id));
            nic.count_instructions();
            sequence(&mut nic, true);
            let findings = doctor.findings();
            let found = findings.iter().find(|finding| finding.kind.id == *id).expect("found");
            found.moment.origin.and_then(|origin| origin.rip).is_none()
        })
        .map(|case| case.0)
        .collect();
    assert_eq!(without, WITHOUT_INSTRUCTION);
}

#[test]
fn each_kind_is_found_and_the_correct_sequence_gives_none() {
    for (id, sequence) in CASES {
        let (mut nic, doctor) = bench_of(model_of(id));
        sequence(&mut nic, true);
        let found = ids(&doctor, Severity::Note);
        assert!(found.contains(id), "{id} was not found, but {found:?}");
        let (mut nic, doctor) = bench_of(model_of(id));
        sequence(&mut nic, false);
        let found = doctor.findings();
        let bad = found.iter().find(|f| f.kind.id == *id || f.kind.severity > Severity::Note);
        assert!(bad.is_none(), "{id}, done right: {bad:?}");
    }
}

#[test]
fn only_an_82545_minds_64_kib() {
    for model in Model::ALL {
        let (mut nic, doctor) = bench_of(model);
        nic.start_rx(N, rctl::BAM);
        // 1522 bytes may come: one buffer ends at the border, the other behind it.
        nic.post_rx_descriptor(0, 0x50_0000 - 1522);
        nic.post_rx_descriptor(1, 0x51_0000 - 1521);
        receive(&mut nic, 1);
        assert!(ids(&doctor, Severity::Note).is_empty(), "{model:?}");
        receive(&mut nic, 1);
        let found = ids(&doctor, Severity::Note);
        assert_eq!(found == ["E1000-DMA-006"], model == Model::I82545Em, "{model:?}: {found:?}");
    }
    let (mut nic, doctor) = bench_of(Model::I82545Em);
    nic.start_tx(N);
    nic.write(reg::TCTL, 0);
    nic.write(reg::TDBAL, 0x1_fff0);
    nic.write(reg::TCTL, tctl::EN | tctl::PSP);
    nic.send(&frame_to(OTHER, 60));
    assert!(ids(&doctor, Severity::Note).contains(&"E1000-DMA-006"));
}

#[test]
fn an_eeprom_left_selected_is_found_when_the_receiver_goes_on() {
    let (mut nic, doctor) = bench_of(Model::I82544Gc);
    nic.write(reg::EECD, eeprom::CS);
    nic.start_rx(N, rctl::BAM);
    assert_eq!(ids(&doctor, Severity::Note), ["E1000-EEP-003"]);
}

#[test]
fn the_longest_frame_is_what_pba_leaves_of_the_fifo() {
    let finds = |rxa: u32, len: u32| {
        let (mut nic, doctor) = bench();
        nic.write(reg::PBA, rxa);
        nic.write(reg::CTRL, ctrl::RST);
        nic.advance(5_000_000);
        nic.start_tx(N);
        nic.queue_legacy(TX_BUFFERS, len, FRAME);
        nic.ring_doorbell();
        ids(&doctor, Severity::Note).contains(&"E1000-TX-010")
    };
    assert!(!finds(56, 8 * 1024 - 80) && finds(56, 8 * 1024 - 79));
    assert!(!finds(40, 16288));
}

#[test]
fn a_driver_that_polls_icr_may_read_it_as_often_as_it_likes() {
    let (mut nic, doctor) = bench();
    nic.start_rx(N, rctl::BAM);
    for n in 1..=20 {
        receive(&mut nic, 1);
        assert_ne!(nic.read(reg::ICR), 0);
        assert_eq!(nic.read(reg::ICR), 0);
        nic.write(reg::RDT, (N - 1 + n) % N);
    }
    assert_eq!(ids(&doctor, Severity::Note), [""; 0]);
}

#[test]
fn every_kind_has_its_case() {
    let known: Vec<&str> = KINDS.iter().map(|kind| kind.id).collect();
    let tested: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    assert_eq!(known, tested);
    assert!(known.windows(2).all(|pair| pair[0] < pair[1]), "ids are sorted and unique");
}

#[test]
fn the_listener_hears_of_each_kind_once_and_the_rest_is_counted() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let doctor = Arc::new(Doctor::new(Model::default(), move |finding| {
        ears.lock().unwrap().push((finding.kind.id, finding.subject.clone()));
    }));
    let nic = TestNic::new(Config { observer: Some(doctor.clone()), ..Config::new(MAC) });
    nic.advance(1000);
    (0..5).for_each(|_| {
        nic.read(reg::IMC);
    });
    assert_eq!(*heard.lock().unwrap(), [("E1000-REG-003", "IMC".to_owned())]);
    let [finding] = &doctor.findings()[..] else { panic!("one kind") };
    assert_eq!((finding.count, finding.moment.now_ns), (5, 1000));
    assert_eq!(finding.moment.origin.map(|origin| origin.cpu), Some(0));
}

#[test]
fn another_driver_is_told_again_and_the_counts_go_on() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let doctor = Arc::new(Doctor::new(Model::default(), {
        let told = told.clone();
        move |finding| told.lock().unwrap().push((finding.kind.id, finding.moment.now_ns))
    }));
    let nic = TestNic::new(Config { observer: Some(doctor.clone()), ..Config::new(MAC) });
    for _ in 0..2 {
        nic.advance(1000);
        (0..3).for_each(|_| {
            nic.read(reg::IMC);
        });
        doctor.tell_again();
    }
    assert_eq!(*told.lock().unwrap(), [("E1000-REG-003", 1000), ("E1000-REG-003", 2000)]);
    let [finding] = &doctor.findings()[..] else { panic!("one kind") };
    assert_eq!((finding.count, finding.moment.now_ns), (6, 1000), "since the first of all");
}

#[test]
fn the_documented_kinds_are_those_in_the_code() {
    let mut text = String::from(
        "\n| id | severity | what the driver did | what the real part does | manual |\n|---|---|---|---|---|\n",
    );
    for kind in KINDS {
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            kind.id, kind.severity, kind.what, kind.hardware, kind.section
        );
    }
    replace_block_of("driver-doctor.md", "kinds", &text);
}
