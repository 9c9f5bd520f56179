//! Where firmware puts BARs.

use minivmm::bus::Width;
use minivmm::machine::pc;
use minivmm::pci::{BarKind, Window};

use crate::probe::TestBus;

#[test]
fn thirty_devices_fit_aligned_inside_the_windows_and_apart() {
    let bus = TestBus::new();
    let devices: Vec<_> = (1..31).map(|slot| bus.plug(slot)).collect();
    bus.pci.program_bars().unwrap();
    let mut placed = bus.pci.allocations();
    assert_eq!(placed.len(), 3 * devices.len());
    assert!(bus.pci.claims().iter().all(|c| c.decodes));
    for p in &placed {
        let (base, len) = match p.bar.kind {
            BarKind::Io => (pc::PCI_IO_BASE, pc::PCI_IO_LEN),
            _ => (pc::PCI_MEM_BASE, pc::PCI_MEM_LEN),
        };
        assert!(Window { base, len }.holds(p.base, p.bar.size) && p.base.is_multiple_of(p.bar.size), "{p:?}");
    }
    placed.sort_by_key(|p| p.base);
    assert!(placed.windows(2).all(|w| w[0].base + w[0].bar.size <= w[1].base));
}

#[test]
fn the_interrupt_line_is_what_the_tables_say() {
    let bus = TestBus::new();
    for dev in (1..31).map(|slot| bus.plug(slot)).collect::<Vec<_>>() {
        bus.pci.program_bars().unwrap();
        let line = bus.read(dev.bdf, 0x3c, Width::Byte);
        assert_eq!(line, u64::from(pc::intx_gsi(dev.bdf.slot, 1)), "{}", dev.bdf);
    }
    let expected: Vec<_> = (1..31).map(|slot| (slot, 1, pc::intx_gsi(slot, 1))).collect();
    assert_eq!(bus.pci.interrupt_pins(), expected);
}
