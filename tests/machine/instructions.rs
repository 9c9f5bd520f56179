//! Instructions that a KVM without hardware under it cannot run at CPL 0 and hands to `cpu/`.

use iced_x86::code_asm::*;

use crate::bench::*;

on_each_accelerator! {
    an_iret_in_protected_mode_goes_to_segments_with_a_base,
    bit_and_checksum_instructions_give_their_results,
    a_16_byte_exchange_is_done_once_and_reported,
    vector_registers_keep_their_values_between_instructions,
    a_fault_in_such_an_instruction_reaches_the_guest_whole,
    a_breakpoint_instruction_is_a_trap,
    a_vector_instruction_may_touch_a_device,
}

const HANDLER: u64 = 0x1_8000;
/// Not mapped: beyond the 4 GiB of the tables.
const UNMAPPED: u64 = 5 << 30;

fn bit_and_checksum_instructions_give_their_results(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.ram.write(0x5000, &0x00ff_00ff_u64.to_le_bytes()).unwrap();
    bench.load(CODE, 64, |a| {
        a.mov(ebx, 0x5000).unwrap();
        a.popcnt(eax, dword_ptr(rbx)).unwrap();
        out(a, REPORT);
        a.mov(ecx, 0x0f0f_0f0f).unwrap();
        a.andn(eax, ecx, dword_ptr(rbx)).unwrap();
        out(a, REPORT);
        a.xor(eax, eax).unwrap();
        a.crc32(eax, byte_ptr(rbx)).unwrap();
        out(a, REPORT);
        done(a);
    });
    // CRC32C of 0xff with a zero seed, without the usual inversions.
    assert_eq!(bench.run_program(&long()), [16, 0x00f0_00f0, 0xad7d_5351]);
}

fn a_16_byte_exchange_is_done_once_and_reported(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.ram.write(0x5000, &[1; 16]).unwrap();
    bench.load(CODE, 64, |a| {
        a.mov(edi, 0x5000).unwrap();
        a.mov(rax, 0x0101_0101_0101_0101_u64).unwrap();
        a.mov(rdx, rax).unwrap();
        a.mov(ebx, 0x1111).unwrap();
        a.mov(ecx, 0x2222).unwrap();
        a.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap();
        a.setz(al).unwrap();
        a.movzx(eax, al).unwrap();
        out(a, REPORT);
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [1]);
    let mut now = [0; 16];
    bench.ram.read(0x5000, &mut now).unwrap();
    assert_eq!(u128::from_le_bytes(now), 0x2222 << 64 | 0x1111);
}

fn vector_registers_keep_their_values_between_instructions(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.ram.write(0x5000, &[7, 1, 0, 0, 9, 2, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    bench.load(CODE, 64, |a| {
        a.mov(rax, cr4).unwrap();
        a.or(eax, 0x600).unwrap();
        a.mov(cr4, rax).unwrap();
        a.mov(ebx, 0x5000).unwrap();
        a.movdqu(xmm3, xmmword_ptr(rbx)).unwrap();
        a.paddd(xmm3, xmm3).unwrap();
        a.movd(eax, xmm3).unwrap();
        out(a, REPORT);
        a.movdqu(xmmword_ptr(rbx + 16), xmm3).unwrap();
        a.mov(eax, dword_ptr(rbx + 20)).unwrap();
        out(a, REPORT);
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [0x20e, 0x412]);
}

/// Reports the vector, the error code, CR2's upper half and RIP's distance from [`CODE`], then ends.
fn fault_handler(a: &mut CodeAssembler, vector: u32, has_code: bool) {
    out_value(a, REPORT, vector);
    if has_code {
        a.pop(rax).unwrap();
        out(a, REPORT);
    }
    a.mov(rax, cr2).unwrap();
    a.shr(rax, 32).unwrap();
    out(a, REPORT);
    a.pop(rax).unwrap();
    a.sub(eax, CODE as u32).unwrap();
    out(a, REPORT);
    done(a);
}

fn a_fault_in_such_an_instruction_reaches_the_guest_whole(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.gate(14, HANDLER);
    bench.load(HANDLER, 64, |a| fault_handler(a, 14, true));
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        a.mov(rbx, UNMAPPED).unwrap();
        a.popcnt(rax, qword_ptr(rbx)).unwrap();
        done(a);
    });
    // LIDT takes 8 bytes and MOV 10; not present, read, supervisor: error code 0.
    assert_eq!(bench.run_program(&long()), [14, 0, UNMAPPED >> 32, 18]);
}

fn a_breakpoint_instruction_is_a_trap(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.gate(3, HANDLER);
    bench.load(HANDLER, 64, |a| fault_handler(a, 3, false));
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        a.int3().unwrap();
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [3, 0, 9]);
}

fn a_vector_instruction_may_touch_a_device(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(rbx, HOLE).unwrap();
        a.popcnt(eax, dword_ptr(rbx)).unwrap();
        out(a, REPORT);
        done(a);
    });
    bench.bus.answers.lock().unwrap().push_back(0xf000_000f);
    assert_eq!(bench.run_program(&long()), [8]);
    assert_eq!(bench.events(), [Event::Read(HOLE, 4)]);
}

/// As in iPXE, which KVM's emulator does not know outside real mode.
fn an_iret_in_protected_mode_goes_to_segments_with_a_base(machine: Open) {
    const TABLES: u64 = 0x6000;
    const BEHIND: u64 = 0x400;
    let Some(bench) = machine(1) else { return };
    // Selectors 8 and 10h: code and data at CODE.
    let based = |descriptor: u64| descriptor | (CODE >> 16) << 32 | (CODE & 0xffff) << 16;
    let gdt = [0, based(0x00cf_9b00_0000_ffff), based(0x00cf_9300_0000_ffff)];
    bench.ram.write(TABLES, &gdt.map(u64::to_le_bytes).concat()).unwrap();
    let pointer = [&[0x17, 0][..], &(TABLES as u32).to_le_bytes()].concat();
    bench.ram.write(TABLES + 0x80, &pointer).unwrap();
    bench.load(CODE, 32, |a| {
        a.lgdt(ptr(TABLES as u32 + 0x80)).unwrap();
        a.mov(eax, 0x10).unwrap();
        a.mov(ss, eax).unwrap();
        a.mov(ds, eax).unwrap();
        a.mov(esp, 0x4000).unwrap();
        a.push(2).unwrap();
        a.push(8).unwrap();
        a.push(BEHIND as i32).unwrap();
        a.iretd().unwrap();
    });
    bench.load(CODE + BEHIND, 32, |a| {
        a.mov(eax, esp).unwrap();
        out(a, REPORT);
        a.mov(eax, cs).unwrap();
        out(a, REPORT);
        done(a);
    });
    assert_eq!(bench.run_program(&protected()), [0x4000, 8]);
}
