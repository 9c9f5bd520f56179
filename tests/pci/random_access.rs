//! Random configuration accesses from a hostile guest: nothing panics, nothing decodes where it must not.

use std::sync::Arc;

use minivmm::bus::{Access, Width};
use minivmm::machine::pc;
use minivmm::pci::{Bdf, CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ConfigPorts, Window};
use proptest::prelude::*;

use crate::probe::{Fixed, RAM, TestBus};

#[derive(Debug, Clone)]
enum Op {
    Config { slot: u8, offset: u16, width: Width, value: u64 },
    Port { port: u64, width: Width, value: u64 },
    Ecam { offset: u64, width: Width, value: u64 },
    Reset,
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword), Just(Width::Qword)]
}

/// Values that matter in configuration space, and any other.
fn value() -> impl Strategy<Value = u64> {
    let page = (0..0x1_0000_u64).prop_map(|p| p << 16);
    prop_oneof![
        any::<u64>(),
        page,
        Just(u64::MAX),
        Just(0),
        Just(7),
        Just(pc::ECAM_BASE),
        Just(pc::IOAPIC_BASE)
    ]
}

/// Registers that switch something are hit more often.
fn offset() -> impl Strategy<Value = u16> {
    prop_oneof![any::<u16>(), 0..0x40_u16, Just(4), (0..6_u16).prop_map(|n| 0x10 + 4 * n), 0xd8..0x104_u16]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (2..6_u8, offset(), width(), value())
            .prop_map(|(slot, offset, width, value)| Op::Config { slot, offset, width, value }),
        2 => (0xcf8..0xd00_u64, width(), value()).prop_map(|(port, width, value)| Op::Port { port, width, value }),
        2 => (0..pc::ECAM_LEN, width(), value())
            .prop_map(|(offset, width, value)| Op::Ecam { offset, width, value }),
        1 => Just(Op::Reset),
    ]
}

fn run(bus: &TestBus, op: &Op) {
    match *op {
        Op::Config { slot, offset, width, value } => {
            let bdf = Bdf::on_bus0(slot);
            bus.pci.config_write(bdf, offset, width, value);
            bus.pci.config_read(bdf, offset, width);
        }
        Op::Port { port, width, value } => {
            bus.pio.write(port, value, &Access::plain(width));
            bus.pio.read(port, &Access::plain(width));
        }
        Op::Ecam { offset, width, value } => {
            bus.mmio.write(pc::ECAM_BASE + offset, value, &Access::plain(width));
            bus.mmio.read(pc::ECAM_BASE + offset, &Access::plain(width));
        }
        Op::Reset => bus.pci.reset().unwrap(),
    }
}

/// Every address where a BAR must not answer.
fn forbidden() -> Vec<u64> {
    let ram = (0..RAM).step_by(0x1_0000);
    let ecam = (pc::ECAM_BASE..pc::ECAM_BASE + pc::ECAM_LEN).step_by(0x1_0000);
    let low = [0, RAM, pc::LOW_RAM_END - 4, pc::IOAPIC_BASE, pc::LAPIC_BASE, pc::KVM_TSS_BASE, 0xffff_fffc];
    ram.chain(ecam).chain(low).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bars_never_leave_their_apertures(ops in prop::collection::vec(op(), 1..60)) {
        let bus = TestBus::new();
        let devices = [bus.plug(3), bus.plug(4)];
        let ports = Arc::new(ConfigPorts::new(bus.pci.clone(), Arc::new(Fixed)));
        bus.pio.insert("config", CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ports).unwrap();
        bus.pci.program_bars().unwrap();
        let map = pc::pci_map(RAM);
        for op in &ops {
            run(&bus, op);
            let decoding: Vec<_> = bus.pci.claims().into_iter().filter(|c| c.decodes).collect();
            let ecam = Window { base: pc::ECAM_BASE, len: pc::ECAM_LEN };
            for claim in &decoding {
                prop_assert!(map.may_decode(claim.bar.kind, claim.base, claim.bar.size), "{claim:x?}");
                prop_assert!(!ecam.holds(claim.base, 1), "{claim:x?}");
            }
        }
        devices.iter().for_each(|d| drop(d.probe.take()));
        for addr in forbidden() {
            bus.mem(addr);
        }
        for port in 0..pc::PCI_IO_LEGACY_END {
            bus.port(port);
        }
        for dev in &devices {
            prop_assert_eq!(dev.probe.take(), vec![]);
        }
    }

    #[test]
    fn after_any_accesses_a_reset_machine_is_as_new(ops in prop::collection::vec(op(), 1..60)) {
        let (bus, dev) = TestBus::with_probe();
        let config = || (0..=255).map(|o| bus.read(dev.bdf, o, Width::Byte)).collect::<Vec<_>>();
        let fresh = (config(), bus.pci.claims());
        ops.iter().for_each(|op| run(&bus, op));
        bus.pci.reset().unwrap();
        prop_assert_eq!((config(), bus.pci.claims()), fresh);
    }
}
