//! Every compression of Linux: fixtures made by the real tools (fixtures/make), with the options that the kernel's
//! build uses, unpack to the same kernel; sizes that lie are refused.

use super::builder::*;

const INNER: &[u8] = include_bytes!("fixtures/inner.elf");
const STREAMS: [(&str, &[u8]); 7] = [
    ("gzip", include_bytes!("fixtures/inner.elf.gz")),
    ("bzip2", include_bytes!("fixtures/inner.elf.bz2")),
    ("LZMA", include_bytes!("fixtures/inner.elf.lzma")),
    ("XZ", include_bytes!("fixtures/inner.elf.xz")),
    ("LZO", include_bytes!("fixtures/inner.elf.lzo")),
    ("LZ4", include_bytes!("fixtures/inner.elf.lz4")),
    ("Zstandard", include_bytes!("fixtures/inner.elf.zst")),
];

fn payload(name: &str, stream: &[u8], size: u32) -> Vec<u8> {
    if name == "gzip" {
        let mut own = stream.to_vec();
        let at = own.len() - 4;
        poke(&mut own, at, &size.to_le_bytes());
        return own;
    }
    with_size(stream, size)
}

#[test]
fn the_fixture_is_what_the_builder_makes() {
    let built = Elf::kernel().build();
    if built != INNER {
        let at = concat!(env!("CARGO_TARGET_TMPDIR"), "/inner.elf");
        std::fs::write(at, built).unwrap();
        panic!("run fixtures/make {at}");
    }
}

#[test]
fn every_compression_gives_the_same_kernel() {
    for (name, stream) in STREAMS {
        let (image, ram, entry) = boot(bzimage(&payload(name, stream, INNER.len() as u32)), None, &target());
        assert!(image.summary().contains(&format!("{name} unpacked")), "{}", image.summary());
        assert_eq!(entry.rip, LINKED_AT + 0x40);
        for segment in Elf::kernel().segments {
            assert_eq!(bytes_at(&ram, segment.paddr, segment.bytes.len()), segment.bytes, "{name}");
        }
    }
}

#[test]
fn a_wrong_size_is_refused_in_every_compression() {
    let right = INNER.len() as u32;
    for (name, stream) in STREAMS {
        for wrong in [0, 1, right - 1, right + 1, 0x1000_0000, u32::MAX] {
            let line = refusal(bzimage(&payload(name, stream, wrong)), &target());
            assert!(line.contains(&format!("its {name} payload is damaged")), "{line}");
        }
    }
}

#[test]
fn a_truncated_stream_is_refused_in_every_compression() {
    for (name, stream) in STREAMS {
        for keep in (16..stream.len() - 8).step_by(stream.len() / 9) {
            let cut = with_size(&stream[..keep], INNER.len() as u32);
            let line = refusal(bzimage(&cut), &target());
            assert!(line.contains(&format!("its {name} payload is damaged")), "{keep}: {line}");
        }
    }
}

#[test]
fn streams_in_several_frames_are_joined() {
    // The second copy lies behind the ELF file, where a real kernel has its relocations.
    for (name, stream) in STREAMS.iter().filter(|(name, _)| ["XZ", "LZ4", "Zstandard"].contains(name)) {
        let two = with_size(&[*stream, stream].concat(), 2 * INNER.len() as u32);
        let (_, ram, _) = boot(bzimage(&two), None, &target());
        let code = &Elf::kernel().segments[0];
        assert_eq!(bytes_at(&ram, code.paddr, code.bytes.len()), code.bytes, "{name}");
    }
}

#[test]
fn lz4_blocks_of_8_mib_are_joined() {
    const BLOCK: usize = 8 << 20;
    let mut kernel = Elf::kernel();
    kernel.segments[1].bytes = (0..20 * MIB).map(|n| (n >> 12) as u8).collect();
    kernel.segments[1].mem_len = 20 * MIB;
    let file = kernel.build();
    let mut stream = vec![0x02, 0x21, 0x4c, 0x18];
    for block in file.chunks(BLOCK) {
        let packed = lz4_flex::block::compress(block);
        stream.extend((packed.len() as u32).to_le_bytes());
        stream.extend(packed);
    }
    let (_, ram, _) = boot(bzimage(&with_size(&stream, file.len() as u32)), None, &target());
    let data = &kernel.segments[1];
    assert!(bytes_at(&ram, data.paddr, data.bytes.len()) == data.bytes);
}

#[test]
fn a_bomb_is_stopped_at_its_declared_size() {
    // 64 MiB of zeroes that claim to be 1 MiB: the size bounds the memory, not the stream.
    let packed = lz4_flex::block::compress(&vec![0; 64 << 20]);
    let mut stream = vec![0x02, 0x21, 0x4c, 0x18];
    stream.extend((packed.len() as u32).to_le_bytes());
    stream.extend(packed);
    let line = refusal(bzimage(&with_size(&stream, 1 << 20)), &target());
    assert!(line.contains("its LZ4 payload is damaged"), "{line}");
}
