//! How long the e1000 takes for a frame, each way, without a guest, a tap or a thread around it.
//!
//! `cargo bench --bench nic_rings` prints nanoseconds for each frame (median of rounds). The peer discards; memory, clock
//! and interrupt line are the bench's. `cargo bench --bench nic_rings -- CASE ROUNDS` runs one case; `scripts/hook-cost`
//! counts its instructions.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use minivmm::irq::IrqLine;
use minivmm::memory::{DmaHandle, GuestRam};
use minivmm::netport::{
    CsumRequest, Delivery, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads, PeerSlot, join,
};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, rxcsum, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, frame_to};
use minivmm::nic::e1000::{BAR_MMIO, Config, E1000};
use minivmm::pci::{Function, IntxLine};
use minivmm::time::ManualClock;

const RING: u64 = 256;
/// Unless the command line has another number.
const ROUNDS: usize = 200;

#[derive(Debug, Default)]
struct Discard(Offloads, PeerSlot);

impl FramePort for Discard {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        black_box(frame.len());
        Delivery::Taken
    }
    fn accepts(&self) -> Offloads {
        self.0
    }
    fn peer_ready(&self) {}
    fn peer_link(&self, _up: bool) {}
    fn peer_slot(&self) -> &PeerSlot {
        &self.1
    }
}

struct Bench {
    nic: Arc<E1000>,
    ram: GuestRam,
}

impl Bench {
    fn new(accepts: Offloads) -> Self {
        let ram = GuestRam::new(&[(0, 64 << 20)]).expect("RAM");
        let dma = DmaHandle::new(ram.clone(), None);
        dma.set_enabled(true);
        let line = IntxLine::new(IrqLine::detached());
        let nic = E1000::new(Config::new(MAC), dma, line, Arc::new(ManualClock::default()));
        let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) =
            (nic.clone(), Arc::new(Discard(accepts, PeerSlot::default())));
        join(&a, &b);
        let bench = Self { nic, ram };
        bench.write(reg::CTRL, ctrl::SLU);
        bench
    }

    fn write(&self, register: u32, value: u32) {
        let dword = minivmm::bus::Access::plain(minivmm::bus::Width::Dword);
        self.nic.bar_write(BAR_MMIO, register.into(), value.into(), &dword).expect("register");
    }

    fn poke(&self, at: u64, bytes: &[u8]) {
        self.ram.write(at, bytes).expect("RAM");
    }

    fn start_tx(&self) {
        self.write(reg::TDBAL, 0x1000);
        self.write(reg::TDLEN, RING as u32 * 16);
        self.write(reg::TCTL, tctl::EN | tctl::PSP);
    }

    fn start_rx(&self) {
        for n in 0..RING {
            self.poke(0x1_0000 + 16 * n, &(0x200_0000 + n * 2048).to_le_bytes());
        }
        self.write(reg::RDBAL, 0x1_0000);
        self.write(reg::RDLEN, RING as u32 * 16);
        self.write(reg::RXCSUM, rxcsum::TUOFL);
        self.write(reg::RCTL, rctl::EN | rctl::BAM);
        self.write(reg::RDT, RING as u32 - 1);
    }
}

/// The case to run, if not all, and the rounds of each.
fn chosen() -> (Option<String>, usize) {
    // cargo passes options of its own.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    (words.next(), words.next().map_or(ROUNDS, |word| word.parse().expect("number of rounds")))
}

/// Runs `round`, which handles `frames`, and prints the median time of one frame.
fn measure(name: &str, frames: usize, mut round: impl FnMut(usize)) {
    let (case, rounds) = chosen();
    if case.is_some_and(|case| case != name) {
        return;
    }
    let mut times: Vec<u128> = (0..rounds)
        .map(|n| {
            let begin = Instant::now();
            round(n);
            begin.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    println!("{name}: {} ns/frame", times[rounds / 2] / frames as u128);
}

fn tx_plain(name: &str, len: usize) {
    let bench = Bench::new(Offloads::default());
    bench.start_tx();
    bench.poke(0x10_0000, &frame_to(OTHER, len));
    let lower = len as u64 | u64::from(txd::EOP | txd::IFCS | txd::RS);
    for n in 0..RING {
        bench.poke(0x1000 + 16 * n, &0x10_0000u64.to_le_bytes());
    }
    measure(name, 64, |round| {
        for n in 0..64 {
            let at = (round as u64 * 64 + n) % RING;
            bench.poke(0x1000 + 16 * at + 8, &lower.to_le_bytes());
        }
        bench.write(reg::TDT, (round as u32 + 1) * 64 % RING as u32);
    });
}

fn tx_tso(name: &str, accepts: Offloads) {
    let bench = Bench::new(accepts);
    bench.start_tx();
    let (frame, _) = tcp_frame(60_000);
    bench.poke(0x10_0000, &frame);
    let context = [
        14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40,
        u64::from(txd::DEXT | txd::TSE | txd::TUCMD_IP | txd::TUCMD_TCP) | 54 << 40 | 1448 << 48,
    ];
    let chunk = 4096u64;
    measure(name, 1, |round| {
        let mut descriptors = vec![context];
        let mut at = 0;
        while at < frame.len() as u64 {
            let len = chunk.min(frame.len() as u64 - at);
            let last = at + len == frame.len() as u64;
            let cmd = txd::DEXT | txd::TSE | txd::IFCS | if last { txd::EOP | txd::RS } else { 0 };
            descriptors.push([0x10_0000 + at, len | 1 << 20 | u64::from(cmd) | 3 << 40]);
            at += len;
        }
        let first = round * descriptors.len();
        for (n, d) in descriptors.iter().enumerate() {
            let slot = 0x1000 + 16 * ((first + n) as u64 % RING);
            bench.poke(slot, &d[0].to_le_bytes());
            bench.poke(slot + 8, &d[1].to_le_bytes());
        }
        bench.write(reg::TDT, ((first + descriptors.len()) as u64 % RING) as u32);
    });
}

fn tcp_frame(payload: usize) -> (Vec<u8>, FrameMeta) {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(OTHER, MAC)
        .ipv4([10, 0, 2, 15], [10, 0, 2, 2], 64)
        .tcp(80, 1234, 1, 512)
        .write(&mut frame, &vec![9; payload])
        .expect("frame");
    let mut seed = minivmm::netport::checksum::Sum::new(6);
    seed.add(&frame[26..34]);
    frame[50..52].copy_from_slice(&seed.folded().to_be_bytes());
    frame[16..18].fill(0);
    frame[24..26].fill(0);
    let meta = FrameMeta {
        csum: Some(CsumRequest { start: 34, offset: 16 }),
        csum_valid: false,
        gso: Some(Gso { kind: GsoKind::Tcp4, mss: 1448, header_len: 54 }),
    };
    (frame, meta)
}

fn rx(name: &str, frame: &[u8], meta: FrameMeta, descriptors: u32) {
    let bench = Bench::new(Offloads::default());
    bench.start_rx();
    let mut tail = RING as u32 - 1;
    measure(name, 4, |_| {
        for _ in 0..4 {
            assert_eq!(bench.nic.deliver(&Frame { head: frame, body: &[], meta }), Delivery::Taken);
            tail = (tail + descriptors) % RING as u32;
            bench.write(reg::RDT, tail);
        }
    });
}

fn main() {
    let all = Offloads { csum: true, tso4: true, tso6: true };
    tx_plain("tx 60", 60);
    tx_plain("tx 1514", 1514);
    tx_tso("tx TSO 60000, passed on", all);
    tx_tso("tx TSO 60000, cut here", Offloads::default());
    rx("rx 60", &frame_to(MAC, 60), FrameMeta::default(), 1);
    rx("rx 1514", &frame_to(MAC, 1514), FrameMeta::default(), 1);
    let (big, meta) = tcp_frame(60_000);
    let mut big = big;
    big[..6].copy_from_slice(&MAC);
    rx("rx GSO 60000, cut here", &big, meta, 60_000_u32.div_ceil(1448));
}
