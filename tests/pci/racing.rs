//! Several vCPUs at one function's configuration space: whatever the order, what decodes and who masters the
//! bus in the end is what the registers say.

use std::thread;

use minivmm::bus::Width;

use crate::probe::{MEM32, MSI, TestBus};

const ROUNDS: u64 = 2_000;

#[test]
fn registers_and_effects_agree_after_racing_writers() {
    let (bus, dev) = TestBus::with_probe();
    thread::scope(|scope| {
        for cpu in 0..3_u64 {
            let (bus, bdf) = (&bus, dev.bdf);
            scope.spawn(move || {
                for n in 0..ROUNDS {
                    let place = 0xc000_0000 + (((n * 7 + cpu * 3) % 64) << 20);
                    match (n + cpu) % 4 {
                        0 => bus.set_command(bdf, ((n >> 2) % 8) as u16),
                        1 => bus.write(bdf, 0x10, Width::Dword, place),
                        2 => bus.write(bdf, MSI + 2, Width::Word, n >> 2 & 1),
                        _ => drop((bus.mem(place), bus.status(bdf))),
                    }
                }
            });
        }
    });
    let command = bus.command(dev.bdf);
    assert_eq!(dev.dma.enabled(), command & 4 != 0);
    assert_eq!(u64::from(dev.msi.enabled()), bus.read(dev.bdf, MSI + 2, Width::Word) & 1);
    let claims = bus.pci.claims();
    let memory: Vec<_> = claims.iter().filter(|c| c.bar == MEM32).map(|c| (c.base, c.decodes)).collect();
    let expected = if command & 2 != 0 { vec![(bus.bar(dev.bdf, MEM32), true)] } else { Vec::new() };
    assert_eq!(memory, expected);
    dev.probe.take();
    let answering =
        (0..64_u64).filter(|mib| bus.mem(0xc000_0000 + (mib << 20)) != crate::probe::NOBODY).count();
    assert_eq!(answering, memory.len(), "no stale range is left");
}
