//! A stream of operations: BAR accesses of every width, configuration space, descriptors, frames, time, the peer, the
//! cable. No panic, bounded work, and the device works again after a reset.

use minivmm::bus::{Access, Bus, Width};
use minivmm::netport::{Frame, FramePort, Offloads};
use minivmm::nic::e1000::regs::table::TABLE;
use minivmm::nic::e1000::spec::{ctrl, rctl, reg};
use minivmm::nic::e1000::testing::{MAC, RX_RING, TX_RING, TestNic};
use minivmm::nic::e1000::{BAR_MMIO, Config};
use minivmm::pci::{Bdf, Function, Msi, PciBus, PciMap, Window, Wires};

use super::super::input::Input;
use super::{config, count_operation, meta, works_again};

const SLOT: Bdf = Bdf { bus: 0, slot: 3, function: 0 };
const MEM: Window = Window { base: 0xc000_0000, len: 0x1000_0000 };
const IO: Window = Window { base: 0xc000, len: 0x4000 };
const MAP: PciMap = PciMap {
    io: IO,
    mem: MEM,
    io_decode: IO,
    mem_decode: MEM,
    mem64_decode: Window { base: 1 << 32, len: 1 << 32 },
    intx_gsi: |_, _| 10,
};
/// Operations of one run, at most.
const MOST: usize = 2000;

/// The device in its slot.
struct Slot {
    bench: TestNic,
    bus: PciBus,
}

impl Slot {
    fn new(choice: u8) -> Self {
        let mut msi = None;
        let bench = TestNic::with(|dma| {
            msi = (choice & 64 != 0).then(|| Msi::new(dma.clone()));
            Config { msi: msi.clone(), ..config(choice) }
        });
        let bus = PciBus::new(Bus::default(), Bus::default(), MAP);
        let wires = Wires { dma: bench.dma.clone(), intx: Some(bench.line.clone()), msi };
        bus.add(SLOT.slot, bench.nic.clone(), wires).expect("an empty slot");
        bus.program_bars().expect("room for the BARs");
        bus.config_write(SLOT, 0x04, Width::Word, 0x0007);
        Self { bench, bus }
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let mut slot = Slot::new(choice);
    if choice & 128 != 0 {
        slot.bench.start_tx(64);
        slot.bench.start_rx(64, rctl::BAM | rctl::LPE);
    }
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        count_operation();
        slot.operation(&mut input);
        // What left is of no interest, and must not fill the host's memory.
        slot.bench.peer.take_all();
    }
    slot.bus.config_write(SLOT, 0xe0, Width::Word, 0);
    slot.bus.config_write(SLOT, 0x04, Width::Word, 0x0007);
    slot.bus.config_write(SLOT, 0xf2, Width::Word, 0);
    works_again(&mut slot.bench);
}

fn width(choice: u8) -> Width {
    [Width::Byte, Width::Word, Width::Dword, Width::Qword][usize::from(choice & 3)]
}

/// Addresses: inside memory, around its end, anywhere.
fn address(input: &mut Input<'_>) -> u64 {
    match input.u8() % 8 {
        0 => 0x7f_ff00 + u64::from(input.u16() % 0x200),
        1 => input.u64(),
        2 => MEM.base + u64::from(input.u32() % 0x4_0000),
        _ => 0x10_0000 + u64::from(input.u16()) * 8,
    }
}

impl Slot {
    fn operation(&mut self, input: &mut Input<'_>) {
        let bench = &self.bench;
        match input.u8() % 32 {
            0..=8 => self.register(input),
            9..=12 => {
                bench.write(reg::TDT, (input.u8() % 80).into());
            }
            13..=14 => {
                bench.write(reg::RDT, (input.u8() % 80).into());
            }
            15..=19 => {
                let choice = input.u8();
                let ring = if choice & 0x40 == 0 { TX_RING } else { RX_RING };
                let at = ring + 16 * u64::from(choice & 0x3f);
                bench.poke(at, &address(input).to_le_bytes());
                // Likely bits: a length, a command, a kind; or anything.
                let (len, cmd, upper) = (input.u16() % 5000, input.u8(), input.u32());
                let kind = u64::from(choice >> 7) << 20;
                let rest = u64::from(len) | kind | u64::from(cmd) << 24 | u64::from(upper) << 32;
                bench.poke(at + 8, &rest.to_le_bytes());
            }
            20..=22 => {
                let (destination, len, meta) = (input.u8(), input.u16() % 3000, meta(input));
                let mut bytes = input.bytes(64).to_vec();
                bytes.resize(usize::from(len), 0x5a);
                if destination < 200 && bytes.len() >= 6 {
                    bytes[..6].copy_from_slice(&MAC);
                }
                bench.nic.deliver(&Frame { head: &bytes, body: &[], meta });
            }
            23 => bench.advance(u64::from(input.u32()) % 10_000_000),
            24 => {
                bench.peer.set_room(usize::from(input.u8() % 8));
                bench.nic.peer_ready();
            }
            25 => bench.nic.set_link(input.u8() & 1 != 0),
            26 => {
                let all = input.u8() & 1 != 0;
                bench.peer.set_accepts(Offloads { csum: all, tso4: all, tso6: all });
            }
            27 | 28 => {
                let (offset, value) = (input.u8(), input.u32());
                self.bus.config_write(SLOT, offset.into(), width(offset >> 6), value.into());
                self.bus.config_read(SLOT, offset.into(), width(offset >> 4));
            }
            29 => {
                let at = u64::from(input.u16()) * 64;
                bench.poke(at, input.bytes(32));
            }
            30 => {
                let (kind, offset) = (input.u8(), u64::from(input.u32()) % 0x2_0010);
                let bar = if kind & 16 != 0 { bench.nic.io_bar() } else { BAR_MMIO };
                let access = Access::plain(width(kind));
                // Refusals are the bus's business.
                if kind & 32 != 0 {
                    let _ = bench.nic.bar_write(bar, offset, input.u64(), &access);
                } else {
                    let _ = bench.nic.bar_read(bar, offset, &access);
                }
            }
            _ => bench.nic.bus_reset(),
        }
    }

    /// A register of the table, by number.
    fn register(&self, input: &mut Input<'_>) {
        let row = &TABLE[usize::from(input.u8()) % TABLE.len()];
        let offset = row.offset + u32::from(input.u8()) % row.count * row.stride;
        let value = match input.u8() % 4 {
            0 => input.u8().into(),
            1 => u32::MAX,
            _ => input.u32(),
        };
        // Rings of 64 Ki descriptors, all of them zero, take their time: seldom. A reset every other time would leave
        // nothing to find.
        let ring = row.offset == reg::TDLEN || row.offset == reg::RDLEN;
        let value = if ring && value & 0xff != 0xff { value & 0x7ff } else { value };
        let value = if row.offset == reg::CTRL && value & 7 != 7 { value & !ctrl::RST } else { value };
        self.bench.write(offset, value);
        self.bench.read(offset);
    }
}
