# What stands where a PC has its BIOS: 256 bytes of ROM space at 0xfff00, reached as F000:FF00.
# Assembled by rustc (Intel syntax) in tests/boot/firmware.rs, which compares with src/boot/firmware.rs.

    .code16

# Every real-mode interrupt vector points here. There are no BIOS services: "not supported" is the carry flag, set in
# the caller's FLAGS on the stack.
unsupported_interrupt:
    push bp
    mov bp, sp
    or word ptr [bp + 6], 1
    pop bp
    iret

# F000:FFF0, where Linux jumps for reboot=bios: resets the machine through the reset control register
# (machine::pc::RESET_PORT, bit 2 with bit 1).
    .org 0xf0
reset_vector:
    cli
    mov dx, 0xcf9
    mov al, 6
    out dx, al
1:  hlt
    jmp 1b

    .org 0x100
