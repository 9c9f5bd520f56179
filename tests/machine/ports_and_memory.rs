//! Port and memory accesses: widths, order, odd lengths, string instructions.

use iced_x86::code_asm::*;

use minivmm::memory::DmaHandle;

use crate::bench::*;

on_each_accelerator! {
    ports_are_read_and_written_at_each_width,
    string_ports_make_one_access_for_each_element,
    memory_without_ram_is_the_bus_at_each_width,
    an_access_across_pages_arrives_in_pieces_that_add_up,
    an_access_knows_the_instruction_behind_it,
    code_written_by_a_device_is_what_runs_next,
}

fn ports_are_read_and_written_at_each_width(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(edx, 0x3f8).unwrap();
        a.in_(al, dx).unwrap();
        a.out(dx, al).unwrap();
        a.in_(ax, dx).unwrap();
        a.out(dx, ax).unwrap();
        a.in_(eax, dx).unwrap();
        a.out(dx, eax).unwrap();
        a.in_(al, 0x80).unwrap();
        a.out(0x81, al).unwrap();
        done(a);
    });
    bench.bus.answers.lock().unwrap().extend([0x11, 0x2222, 0x4444_4444, 0x55]);
    bench.run_program(&long());
    let expected = [
        Event::In(0x3f8, 1),
        Event::Out(0x3f8, 1, 0x11),
        Event::In(0x3f8, 2),
        Event::Out(0x3f8, 2, 0x2222),
        Event::In(0x3f8, 4),
        Event::Out(0x3f8, 4, 0x4444_4444),
        Event::In(0x80, 1),
        Event::Out(0x81, 1, 0x55),
    ];
    assert_eq!(bench.events(), expected);
}

fn string_ports_make_one_access_for_each_element(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.ram.write(0x5000, &[1, 0, 2, 0, 3, 0]).unwrap();
    bench.load(CODE, 64, |a| {
        a.mov(edx, 0x1f0).unwrap();
        a.mov(esi, 0x5000).unwrap();
        a.mov(ecx, 3).unwrap();
        a.rep().outsw().unwrap();
        a.mov(edi, 0x6000).unwrap();
        a.mov(ecx, 5).unwrap();
        a.rep().insb().unwrap();
        a.mov(eax, edi).unwrap();
        out(a, REPORT);
        done(a);
    });
    bench.bus.answers.lock().unwrap().extend([9, 8, 7, 6, 5]);
    assert_eq!(bench.run_program(&long()), [0x6005]);
    let expected: Vec<_> = (1..=3).map(|n| Event::Out(0x1f0, 2, n)).chain([Event::In(0x1f0, 1); 5]).collect();
    assert_eq!(bench.events(), expected);
    let mut read = [0; 5];
    bench.ram.read(0x6000, &mut read).unwrap();
    assert_eq!(read, [9, 8, 7, 6, 5]);
}

fn memory_without_ram_is_the_bus_at_each_width(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(rbx, HOLE).unwrap();
        a.mov(eax, 0x0403_0201).unwrap();
        a.mov(byte_ptr(rbx + 1), al).unwrap();
        a.mov(word_ptr(rbx + 2), ax).unwrap();
        a.mov(dword_ptr(rbx + 4), eax).unwrap();
        a.mov(qword_ptr(rbx + 8), rax).unwrap();
        a.mov(eax, dword_ptr(rbx + 0x10)).unwrap();
        out(a, REPORT);
        a.mov(rax, qword_ptr(rbx + 0x18)).unwrap();
        a.shr(rax, 32).unwrap();
        out(a, REPORT);
        done(a);
    });
    bench.bus.answers.lock().unwrap().extend([0xabcd_ef01, 0x1122_3344_5566_7788]);
    assert_eq!(bench.run_program(&long()), [0xabcd_ef01, 0x1122_3344]);
    let expected = [
        Event::Write(HOLE + 1, 1, 1),
        Event::Write(HOLE + 2, 2, 0x0201),
        Event::Write(HOLE + 4, 4, 0x0403_0201),
        Event::Write(HOLE + 8, 8, 0x0403_0201),
        Event::Read(HOLE + 0x10, 4),
        Event::Read(HOLE + 0x18, 8),
    ];
    assert_eq!(bench.events(), expected);
}

fn an_access_across_pages_arrives_in_pieces_that_add_up(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(rbx, HOLE + 0xffd).unwrap();
        a.mov(eax, 0x4433_2211).unwrap();
        a.mov(dword_ptr(rbx), eax).unwrap();
        done(a);
    });
    bench.run_program(&long());
    let mut bytes = std::collections::BTreeMap::new();
    for event in bench.events() {
        let Event::Write(at, width, value) = event else { panic!("{event:?}") };
        assert!(at % width == 0, "{event:x?}");
        bytes.extend((0..width).map(|i| (at + i, value >> (8 * i) & 0xff)));
    }
    let expected =
        [0x11, 0x22, 0x33, 0x44].into_iter().enumerate().map(|(i, b)| (HOLE + 0xffd + i as u64, b));
    assert!(bytes.into_iter().eq(expected));
}

fn an_access_knows_the_instruction_behind_it(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.nop().unwrap();
        a.in_(al, 0x60).unwrap();
        done(a);
    });
    bench.run_program(&long());
    assert_eq!(*bench.bus.rips.lock().unwrap(), [Some(CODE + 1)]);
}

fn code_written_by_a_device_is_what_runs_next(machine: Open) {
    let Some(bench) = machine(1) else { return };
    const ROUTINE: u64 = 0x3_0ffe;
    // Its last byte lies in the next page.
    let routine = |n: u8| vec![0xb0, n, 0xc3];
    bench.ram.write(ROUTINE, &routine(1)).unwrap();
    let device = DmaHandle::new(bench.ram.clone(), None);
    device.set_enabled(true);
    *bench.bus.dma.lock().unwrap() = Some((device, ROUTINE, routine(2)));
    bench.load(CODE, 64, |a| {
        for _ in 0..2 {
            a.mov(ecx, ROUTINE as u32).unwrap();
            a.call(rcx).unwrap();
            a.movzx(eax, al).unwrap();
            out(a, REPORT);
            a.call(rcx).unwrap();
            a.movzx(eax, al).unwrap();
            out(a, REPORT);
            out_value(a, DMA, 0);
        }
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [1, 1, 2, 2]);
}
