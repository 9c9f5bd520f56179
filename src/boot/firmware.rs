//! The bytes of `firmware/bios_stub.s`: what stands where a PC has its BIOS.
//!
//! Used by `low_memory`. The source is assembled by rustc's own assembler in `tests/boot/firmware.rs`, which
//! compares; keeping the result here lets hosts of any architecture build without a cross assembler.

use crate::machine::pc::BIOS_STUB_BASE;

/// Real-mode segment in which [`ROM`] is reached.
const ROM_SEGMENT: u16 = 0xf000;

/// `firmware/bios_stub.s`, assembled.
pub const ROM: &[u8; 256] = &assembled();

/// Offset of the reset vector in [`ROM`].
const RESET_VECTOR: usize = 0xf0;

/// `push bp; mov bp, sp; or word ptr [bp + 6], 1; pop bp; iret`
const INTERRUPT_STUB: [u8; 9] = [0x55, 0x89, 0xe5, 0x83, 0x4e, 0x06, 0x01, 0x5d, 0xcf];
/// `cli; mov dx, 0xcf9; mov al, 6; out dx, al; hlt; jmp` (to the hlt)
const RESET_STUB: [u8; 10] = [0xfa, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd];

const fn assembled() -> [u8; 256] {
    let mut rom = [0; 256];
    let mut i = 0;
    while i < INTERRUPT_STUB.len() {
        rom[i] = INTERRUPT_STUB[i];
        i += 1;
    }
    i = 0;
    while i < RESET_STUB.len() {
        rom[RESET_VECTOR + i] = RESET_STUB[i];
        i += 1;
    }
    rom
}

/// The 256 real-mode interrupt vectors, all pointing at the stub that says "not supported" (carry flag set).
pub(super) fn interrupt_vectors() -> Vec<u8> {
    let offset = (BIOS_STUB_BASE - (u64::from(ROM_SEGMENT) << 4)) as u16;
    let [o, p] = offset.to_le_bytes();
    let [s, t] = ROM_SEGMENT.to_le_bytes();
    [o, p, s, t].repeat(256)
}
