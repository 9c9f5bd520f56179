//! Firmware: the reset vector, and the host bridge's switching between image and RAM, done by the code that runs there.

use std::sync::Arc;

use iced_x86::code_asm::*;

use minivmm::memory::{FirmwareArea, IMAGE_UNIT};

use crate::bench::*;

on_each_accelerator! {
    the_cpu_starts_at_the_reset_vector_and_shadows_itself,
    changed_code_runs_as_it_is_where_reads_go,
    where_nothing_is_reads_give_ones_and_writes_are_lost,
}

/// The piece from 0xf0000 to 0xfffff.
const LAST: u32 = 12 << 8;
const IMAGE: u32 = 0;
const READ: u32 = 1;
const WRITE: u32 = 2;
/// Offset of data in the image, and its byte.
const DATA: usize = 0x8000;
const BYTE: u8 = 0x5a;
/// Offset of a function that gives 1 in AL.
const FUNCTION: usize = 0x9000;

/// Firmware of 64 KiB whose reset vector leads to `program`, at F000:0000 with DS and SS there and a stack at 9000:1000.
fn firmware(bench: &Bench, program: impl FnOnce(&mut CodeAssembler)) {
    let mut a = CodeAssembler::new(16).unwrap();
    a.mov(ax, 0x9000).unwrap();
    a.mov(ss, ax).unwrap();
    a.mov(esp, 0x1000).unwrap();
    a.mov(ax, 0xf000).unwrap();
    a.mov(ds, ax).unwrap();
    a.mov(es, ax).unwrap();
    program(&mut a);
    let code = a.assemble(0).unwrap();
    let mut image = vec![0; IMAGE_UNIT];
    image[..code.len()].copy_from_slice(&code);
    image[DATA] = BYTE;
    // mov al, 1; ret
    image[FUNCTION..FUNCTION + 3].copy_from_slice(&[0xb0, 1, 0xc3]);
    // jmp far F000:0000
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    let area = Arc::new(FirmwareArea::new(&image, bench.ram.clone()).unwrap());
    bench.vm.map_firmware(&area).unwrap();
    *bench.bus.firmware.lock().unwrap() = Some(area);
}

fn map(a: &mut CodeAssembler, bits: u32) {
    out_value(a, MAP, LAST | bits);
}

/// Reports the byte at DS:`at`.
fn report(a: &mut CodeAssembler, at: usize) {
    a.movzx(eax, byte_ptr(at as u32)).unwrap();
    out(a, REPORT);
}

fn the_cpu_starts_at_the_reset_vector_and_shadows_itself(machine: Open) {
    let Some(bench) = machine(1) else { return };
    firmware(&bench, |a| {
        a.mov(byte_ptr(DATA as u32), 0x11).unwrap();
        report(a, DATA);
        map(a, WRITE);
        a.mov(byte_ptr(DATA as u32), 0x22).unwrap();
        report(a, DATA);
        // All of the image into the RAM behind it.
        a.xor(si, si).unwrap();
        a.xor(di, di).unwrap();
        a.mov(cx, 0x8000).unwrap();
        a.rep().movsw().unwrap();
        map(a, READ | WRITE);
        report(a, DATA);
        a.mov(byte_ptr(DATA as u32), 0x33).unwrap();
        report(a, DATA);
        map(a, READ);
        a.mov(byte_ptr(DATA as u32), 0x44).unwrap();
        report(a, DATA);
        map(a, IMAGE);
        report(a, DATA);
        done(a);
    });
    let byte = u64::from(BYTE);
    assert_eq!(bench.run_program(&power_on()), [byte, byte, byte, 0x33, 0x33, byte]);
    let mut behind = [0];
    bench.ram.read(0xf_0000 + DATA as u64, &mut behind).unwrap();
    assert_eq!(behind, [0x33]);
}

fn changed_code_runs_as_it_is_where_reads_go(machine: Open) {
    let Some(bench) = machine(1) else { return };
    let call = |a: &mut CodeAssembler| {
        a.call(FUNCTION as u64).unwrap();
        a.movzx(eax, al).unwrap();
        out(a, REPORT);
    };
    firmware(&bench, |a| {
        map(a, WRITE);
        a.xor(si, si).unwrap();
        a.xor(di, di).unwrap();
        a.mov(cx, 0x8000).unwrap();
        a.rep().movsw().unwrap();
        call(a);
        map(a, READ | WRITE);
        call(a);
        a.mov(byte_ptr(FUNCTION as u32 + 1), 2).unwrap();
        call(a);
        map(a, IMAGE);
        call(a);
        map(a, READ);
        call(a);
        a.mov(byte_ptr(FUNCTION as u32 + 1), 3).unwrap();
        call(a);
        done(a);
    });
    assert_eq!(bench.run_program(&power_on()), [1, 1, 2, 1, 2, 2]);
}

fn where_nothing_is_reads_give_ones_and_writes_are_lost(machine: Open) {
    let Some(bench) = machine(1) else { return };
    firmware(&bench, |a| {
        for segment in [0xa000, 0xb800, 0xc000, 0xe000] {
            a.mov(ax, segment).unwrap();
            a.mov(ds, ax).unwrap();
            a.mov(byte_ptr(0x10), 7).unwrap();
            report(a, 0x10);
        }
        // The first 16 KiB of option ROMs' space becomes RAM, and only that.
        out_value(a, MAP, READ | WRITE);
        for segment in [0xc000, 0xc400] {
            a.mov(ax, segment).unwrap();
            a.mov(ds, ax).unwrap();
            a.mov(byte_ptr(0x10), 7).unwrap();
            report(a, 0x10);
        }
        done(a);
    });
    assert_eq!(bench.run_program(&power_on()), [0xff, 0xff, 0xff, 0xff, 7, 0xff]);
}
