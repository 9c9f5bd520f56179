//! Kernels with random damage: refused in one line, or loaded inside RAM with nothing on top of anything else; never
//! a panic, and never more work than the file's size allows.

use minivmm::boot::{BootTarget, prepare_from_bytes};
use minivmm::cli::KernelUnpack;
use minivmm::machine::pc::ram_layout;
use minivmm::memory::GuestRam;
use proptest::prelude::*;

use super::builder::*;

const KERNELS: usize = 12;

fn kernels() -> [Vec<u8>; KERNELS] {
    const SIZE: u32 = include_bytes!("fixtures/inner.elf").len() as u32;
    [
        Elf::kernel().build(),
        Elf::pvh(LINKED_AT + 8).build(),
        Elf::pvh(LINKED_AT + 8).build32(),
        Elf::multiboot(3, [0; 5]).build32(),
        flat_multiboot(),
        gzip_bzimage(),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.bz2"), SIZE)),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.lzma"), SIZE)),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.xz"), SIZE)),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.lzo"), SIZE)),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.lz4"), SIZE)),
        bzimage(&with_size(include_bytes!("fixtures/inner.elf.zst"), SIZE)),
    ]
}

fn flat_multiboot() -> Vec<u8> {
    let mut file = vec![0x90; 600];
    let load = MIB as u32;
    poke(&mut file, 16, &multiboot_header(1 << 16, [load + 16, load, load + 500, load + 5000, load + 48]));
    file
}

/// What must hold for any file whatever.
fn check(kernel: Vec<u8>, initrd: Option<Vec<u8>>, target: &BootTarget) -> Result<(), TestCaseError> {
    let image = match prepare_from_bytes(kernel, initrd, target) {
        Ok(image) => image,
        Err(error) => {
            let line = error.to_string();
            prop_assert!(line.lines().count() == 1 && line.len() < 400, "{}", line);
            return Ok(());
        }
    };
    let ram = GuestRam::new(&ram_layout(target.ram_bytes)).unwrap();
    prop_assert!(image.load(&ram).is_ok(), "{:?}", image);
    let mut spans: Vec<(u64, u64)> =
        image.pieces().map(|(at, bytes)| (at, at + bytes.len() as u64)).collect();
    spans.sort_unstable();
    prop_assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "overlap: {:x?}", spans);
    Ok(())
}

fn targets() -> impl Strategy<Value = BootTarget> {
    let unpack = prop_oneof![Just(KernelUnpack::Host), Just(KernelUnpack::Guest)];
    (unpack, 16u64..80).prop_map(|(unpack, mib)| BootTarget { unpack, ram_bytes: mib * MIB, ..target() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits(
        which in 0usize..KERNELS,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
        initrd in prop::option::of(0usize..200_000),
        target in targets(),
    ) {
        let mut kernel = kernels()[which].clone();
        for (at, bit) in flips {
            let at = at.index(kernel.len());
            kernel[at] ^= 1 << bit;
        }
        check(kernel, initrd.map(|n| vec![1; n]), &target)?;
    }

    /// Most bytes of a file are payload; these hit the headers.
    #[test]
    fn changed_header_bytes(
        which in 0usize..KERNELS,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        target in targets(),
    ) {
        let mut kernel = kernels()[which].clone();
        let header = if which < 5 { 0..PHDRS + 3 * PHDR } else { 0x1f1..0x26c };
        for (at, value) in changes {
            kernel[header.start + at.index(header.len())] = value;
        }
        check(kernel, Some(vec![1; 5000]), &target)?;
    }

    #[test]
    fn cut_off(which in 0usize..KERNELS, at: prop::sample::Index, target in targets()) {
        let mut kernel = kernels()[which].clone();
        kernel.truncate(at.index(kernel.len()));
        check(kernel, None, &target)?;
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..2000), target in targets()) {
        check(bytes, None, &target)?;
    }
}
