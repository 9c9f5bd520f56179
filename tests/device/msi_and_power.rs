//! MSI as an edge of the cause set, the capability list, D3hot and back.

use std::sync::{Arc, Mutex};

use minivmm::bus::{Access, Bus, Width};
use minivmm::fault::{CardFault, Schedule};
use minivmm::irq::{IrqLine, MsiSink};
use minivmm::memory::{DmaHandle, GuestRam};
use minivmm::nic::e1000::spec::{cause, reg};
use minivmm::nic::e1000::testing::{MAC, TestNic};
use minivmm::nic::e1000::{Config, E1000};
use minivmm::pci::{Bdf, Function, IntxLine, Msi, PciBus, PciMap, PowerState, Window, Wires};
use minivmm::time::ManualClock;

#[derive(Debug, Default)]
struct Sink(Mutex<Vec<(u64, u32)>>);

impl MsiSink for Sink {
    fn send(&self, addr: u64, data: u32) {
        self.0.lock().unwrap().push((addr, data));
    }
}

#[test]
fn the_capabilities_are_those_of_the_real_part() {
    let ram = GuestRam::new(&[(0, 0x1000)]).unwrap();
    let dma = DmaHandle::new(ram, None);
    let config = Config { msi: Some(Msi::new(dma.clone())), ..Config::new(MAC) };
    let line = IntxLine::new(IrqLine::detached());
    let nic = E1000::new(config, dma, line, Arc::new(ManualClock::default()));
    let list: Vec<_> = nic.capabilities().iter().map(|c| (c.id, c.offset)).collect();
    assert_eq!(list, [(0x01, 0xdc), (0x07, 0xe4), (0x05, 0xf0)]);
    assert_eq!(TestNic::default().nic.capabilities().len(), 2, "msi=off");
}

#[test]
fn leaving_d3hot_resets_the_device() {
    let bench = TestNic::default();
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::RDLEN, 0x1000);
    bench.nic.power_state_changed(PowerState::D3hot);
    bench.nic.power_state_changed(PowerState::D0);
    assert_eq!((bench.read(reg::IMS), bench.read(reg::RDLEN)), (0, 0));
}

/// Configuration space of the NIC behind a real header, because only the header switches MSI.
struct Slot {
    nic: Arc<E1000>,
    line: IntxLine,
    sink: Arc<Sink>,
    bus: PciBus,
}

const WHERE: Bdf = Bdf { bus: 0, slot: 3, function: 0 };

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

impl Slot {
    fn new() -> Self {
        Self::with(Config::new(MAC))
    }

    fn with(config: Config) -> Self {
        let sink = Arc::new(Sink::default());
        let dma = DmaHandle::new(GuestRam::new(&[(0, 0x1000)]).unwrap(), Some(sink.clone()));
        let line = IntxLine::new(IrqLine::detached());
        let msi = Msi::new(dma.clone());
        let config = Config { msi: Some(msi.clone()), ..config };
        let nic = E1000::new(config, dma.clone(), line.clone(), Arc::new(ManualClock::default()));
        let bus = PciBus::new(Bus::default(), Bus::default(), MAP);
        bus.add(3, nic.clone(), Wires { dma, intx: Some(line.clone()), msi: Some(msi) }).unwrap();
        bus.program_bars().unwrap();
        Self { nic, line, sink, bus }
    }

    fn config_write(&self, offset: u16, width: Width, value: u64) {
        self.bus.config_write(WHERE, offset, width, value);
    }

    fn config_read(&self, offset: u16, width: Width) -> u64 {
        self.bus.config_read(WHERE, offset, width)
    }

    fn write(&self, register: u32, value: u32) {
        self.nic.bar_write(0, register.into(), value.into(), &Access::plain(Width::Dword)).unwrap();
    }

    fn read(&self, register: u32) -> u32 {
        self.nic.bar_read(0, register.into(), &Access::plain(Width::Dword)).unwrap() as u32
    }

    fn messages(&self) -> usize {
        self.sink.0.lock().unwrap().len()
    }
}

/// A card that sends messages.
fn slot_with_msi() -> Slot {
    let slot = Slot::new();
    slot.config_write(0x04, Width::Word, 0x0006);
    slot.config_write(0xf4, Width::Dword, 0xfee0_1000);
    slot.config_write(0xfc, Width::Word, 0x4041);
    slot.config_write(0xf2, Width::Word, 1);
    slot
}

#[test]
fn faults_send_one_message_more_or_none() {
    let slot = slot_with_msi();
    slot.write(reg::IMS, cause::RXT0);
    assert!(slot.nic.add_fault(
        "more",
        CardFault::InterruptSpurious,
        0,
        Schedule { count: 1, ..Schedule::default() }
    ));
    slot.write(reg::ICS, cause::RXT0);
    assert_eq!(slot.messages(), 1);
    slot.write(reg::ICR, 0xffff_ffff);
    assert_eq!(slot.messages(), 2, "one without a cause, when that of the first is gone");
    slot.read(reg::ICR);
    assert!(slot.nic.add_fault(
        "none",
        CardFault::InterruptLost,
        0,
        Schedule { count: 1, ..Schedule::default() }
    ));
    slot.write(reg::ICS, cause::RXT0);
    assert_eq!(slot.messages(), 2, "lost");
    slot.write(reg::ICS, cause::TXDW);
    assert_eq!(slot.messages(), 3, "the next cause tries again");
}

#[test]
fn msi_is_sent_once_for_each_rise_of_the_enabled_causes() {
    let slot = slot_with_msi();
    slot.write(reg::ICS, cause::RXT0);
    assert_eq!(slot.messages(), 0, "masked");
    slot.write(reg::IMS, cause::RXT0 | cause::TXDW);
    assert_eq!(*slot.sink.0.lock().unwrap(), [(0xfee0_1000, 0x4041)]);
    slot.write(reg::ICS, cause::TXDW);
    assert_eq!(slot.messages(), 1, "no more while a cause stays set");
    slot.write(reg::ICR, 0xffff_ffff);
    slot.write(reg::ICS, cause::TXDW);
    assert_eq!(slot.messages(), 2);
    assert!(!slot.line.level(), "INTA# is silent");
    slot.write(reg::ICR, 0xffff_ffff);
    slot.config_write(0x04, Width::Word, 0x0002);
    slot.write(reg::ICS, cause::TXDW);
    assert_eq!(slot.messages(), 2, "no bus master, no message");
    slot.write(reg::ICR, 0xffff_ffff);
    slot.config_write(0xf2, Width::Word, 0);
    slot.write(reg::ICS, cause::TXDW);
    assert!(slot.line.level(), "INTA# again");
}

#[test]
fn intx_disable_gates_the_line_and_a_strict_board_has_no_such_bit() {
    let slot = Slot::new();
    slot.write(reg::IMS, cause::RXT0);
    slot.write(reg::ICS, cause::RXT0);
    slot.config_write(0x04, Width::Word, 0x0406);
    assert_eq!(slot.config_read(0x04, Width::Word), 0x0406);
    assert!(!slot.line.level());
    assert_eq!(slot.config_read(0x06, Width::Word) & 8, 8, "Status shows the cause");

    let slot = Slot::with(Config { strict: true, ..Config::new(MAC) });
    slot.write(reg::IMS, cause::RXT0);
    slot.write(reg::ICS, cause::RXT0);
    slot.config_write(0x04, Width::Word, 0x0406);
    assert_eq!(slot.config_read(0x04, Width::Word), 0x0006);
    assert!(slot.line.level());
    assert_eq!(slot.config_read(0x06, Width::Word) & 8, 0);
}

#[test]
fn pmcsr_and_wuc_show_the_same_pme_bits() {
    use minivmm::nic::e1000::spec::wake;
    const PMCSR: u16 = 0xe0;
    let slot = Slot::new();
    let wuc = || slot.nic.bar_read(0, reg::WUC.into(), &Access::plain(Width::Dword)).unwrap() as u32;
    slot.config_write(PMCSR, Width::Word, 1 << 8);
    assert_eq!(wuc(), wake::PME_EN);
    slot.write(reg::WUC, 0);
    assert_eq!(slot.config_read(PMCSR, Width::Word), 0);
    slot.nic.pme().unwrap().set_status();
    assert_eq!(slot.config_read(PMCSR, Width::Dword), 1 << 15);
    assert_eq!(wuc(), wake::PME_STATUS);
    slot.config_write(PMCSR, Width::Byte, 0);
    assert_eq!(wuc(), wake::PME_STATUS, "a write of the other byte");
    slot.config_write(PMCSR + 1, Width::Byte, 0x80);
    assert_eq!(wuc(), 0);
}

#[test]
fn intx_takes_over_when_msi_is_switched_off_under_a_pending_cause() {
    let slot = Slot::new();
    slot.config_write(0x04, Width::Word, 0x0006);
    slot.config_write(0xf2, Width::Word, 1);
    slot.write(reg::IMS, cause::RXT0);
    slot.write(reg::ICS, cause::RXT0);
    assert!(!slot.line.level());
    slot.config_write(0xf2, Width::Word, 0);
    assert!(slot.line.level());
}
