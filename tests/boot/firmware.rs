//! `firmware/bios_stub.s`, assembled by rustc's own assembler, is what `src/boot/firmware.rs` holds.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "assembles firmware source and reads the result")
)]

use minivmm::boot::{acpi, mptable};
use minivmm::machine::pc::{self, BIOS_STUB_BASE as ROM};

use super::builder::*;

#[cfg(target_arch = "x86_64")]
mod assembled {
    std::arch::global_asm!(
        ".pushsection .rodata.minivmm_bios_stub, \"a\"",
        ".globl minivmm_bios_stub",
        "minivmm_bios_stub:",
        include_str!("../../firmware/bios_stub.s"),
        ".code64",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "minivmm_bios_stub"]
        static BIOS_STUB: [u8; 256];
    }

    pub(super) fn bytes() -> [u8; 256] {
        // SAFETY: the section above defines 256 bytes under this name; nothing ever writes them.
        unsafe { BIOS_STUB }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_rom_is_its_source_assembled() {
    let (_, ram, _) = boot(gzip_bzimage(), None, &target());
    assert_eq!(bytes_at(&ram, ROM, 256), assembled::bytes());
}

#[test]
fn every_interrupt_vector_points_at_the_rom() {
    let (_, ram, _) = boot(gzip_bzimage(), None, &target());
    for vector in 0..256 {
        let (offset, segment) = (u16_at(&ram, vector * 4), u16_at(&ram, vector * 4 + 2));
        assert_eq!((u64::from(segment) << 4) + u64::from(offset), ROM);
    }
}

#[test]
fn the_reset_vector_holds_code() {
    let (_, ram, _) = boot(gzip_bzimage(), None, &target());
    assert_eq!(bytes_at(&ram, 0xf_fff0, 1), [0xfa], "cli");
}

#[test]
fn tables_and_kernel_do_not_share_an_address() {
    let (image, ..) = boot(gzip_bzimage(), Some(vec![1; 100]), &target());
    let routes = (0..32).flat_map(|slot| (1..=4).map(move |pin| (slot, pin)));
    let config = acpi::TableConfig {
        cpus: 254,
        pci_io: pc::pci_map(RAM).io,
        pci_mem: pc::pci_map(RAM).mem,
        routes: routes
            .map(|(slot, pin)| acpi::IntxRoute { slot, pin, gsi: pc::intx_gsi(slot, pin) })
            .collect(),
        serial: 4,
        i8042: true,
        fw_cfg: true,
        pvpanic: true,
    };
    let mut spans: Vec<(u64, u64)> = image.pieces().map(|(at, bytes)| (at, bytes.len() as u64)).collect();
    let tables = [acpi::tables(&config), mptable::tables(&config)].concat();
    spans.extend(tables.iter().map(|(at, bytes)| (*at, bytes.len() as u64)));
    spans.sort_unstable();
    assert!(spans.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{spans:x?}");
}
