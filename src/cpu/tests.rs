//! Behaviour of single instructions, family by family.

use iced_x86::code_asm::*;

use super::exceptions::{Exception, pf, vector};
use super::state::{cr4, gpr, rflags as rf};
use super::testing::*;
use super::xsave::{COMPACTED, Layout, VectorState, component};
use super::*;

#[test]
fn clac_and_stac_toggle_ac_at_cpl0_only() {
    let code = |a: &mut CodeAssembler| {
        a.stac().unwrap();
        a.clac().unwrap();
    };
    let mut b = Bench::new(long_mode(), code);
    b.steps(1);
    assert_ne!(b.c.state.rflags & rf::AC, 0);
    b.steps(1);
    assert_eq!(b.c.state.rflags & rf::AC, 0);
    let mut b = Bench::new(user_mode(), code);
    assert_eq!(b.step(), Outcome::Exception(Exception::plain(vector::UD)));
    assert_eq!(b.c.state.rip, CODE);
}

#[test]
fn popcnt_of_memory() {
    let mut b = Bench::new(long_mode(), |a| a.popcnt(rax, qword_ptr(rbx + 8)).unwrap());
    b.c.state.gpr[gpr::RBX] = DATA;
    b.m.poke64(DATA + 8, 0xff00_ff01);
    b.steps(1);
    assert_eq!(b.reg(gpr::RAX), 17);
    assert_eq!(b.c.state.rflags & rf::STATUS, 0);
}

#[test]
fn tzcnt_and_lzcnt_of_zero_give_the_width() {
    let mut b = Bench::new(long_mode(), |a| {
        a.tzcnt(eax, ebx).unwrap();
        a.lzcnt(rcx, rbx).unwrap();
        a.lzcnt(dx, bx).unwrap();
    });
    b.steps(3);
    assert_eq!([b.reg(gpr::RAX), b.reg(gpr::RCX), b.reg(gpr::RDX) & 0xffff], [32, 64, 16]);
    assert_ne!(b.c.state.rflags & rf::CF, 0);
}

#[test]
fn page_fault_reports_address_and_code_and_changes_nothing() {
    let mut b = Bench::new(user_mode(), |a| a.add(qword_ptr(rbx), rax).unwrap());
    b.c.state.gpr[gpr::RBX] = DATA + 0xffc;
    b.m.poke64(TestMachine::pte(DATA + 0x1000), (DATA + 0x1000) | 5);
    let before = b.c.state.clone();
    let want = Exception::page_fault(DATA + 0x1000, pf::PRESENT | pf::WRITE | pf::USER);
    assert_eq!(b.step(), Outcome::Exception(want));
    assert_eq!(b.c.state, before);
}

#[test]
fn smap_stops_supervisor_reads_of_user_pages_unless_ac() {
    let mut s = long_mode();
    s.cr4 |= cr4::SMAP;
    let mut b = Bench::new(s, |a| a.mov(rax, qword_ptr(rbx)).unwrap());
    b.c.state.gpr[gpr::RBX] = DATA;
    assert_eq!(b.step(), Outcome::Exception(Exception::page_fault(DATA, pf::PRESENT)));
    b.c.state.rflags |= rf::AC;
    assert_eq!(b.step(), Outcome::Retired);
}

#[test]
fn walks_set_accessed_and_dirty() {
    let mut b = Bench::new(long_mode(), |a| {
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(qword_ptr(rbx), rax).unwrap();
    });
    b.c.state.gpr[gpr::RBX] = DATA;
    b.steps(1);
    assert_eq!(b.m.peek64(TestMachine::pte(DATA)) & 0x60, 0x20);
    b.steps(1);
    assert_eq!(b.m.peek64(TestMachine::pte(DATA)) & 0x60, 0x60);
}

#[test]
fn cmpxchg16b_compares_swaps_and_needs_alignment() {
    let mut b = Bench::new(long_mode(), |a| {
        a.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap();
        a.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap();
    });
    b.c.state.gpr[gpr::RDI] = DATA;
    b.m.poke64(DATA, 1);
    b.m.poke64(DATA + 8, 2);
    (b.c.state.gpr[gpr::RAX], b.c.state.gpr[gpr::RDX]) = (1, 2);
    (b.c.state.gpr[gpr::RBX], b.c.state.gpr[gpr::RCX]) = (3, 4);
    b.steps(1);
    assert_eq!([b.m.peek64(DATA), b.m.peek64(DATA + 8)], [3, 4]);
    assert_ne!(b.c.state.rflags & rf::ZF, 0);
    b.steps(1);
    assert_eq!([b.reg(gpr::RAX), b.reg(gpr::RDX)], [3, 4]);
    assert_eq!(b.c.state.rflags & rf::ZF, 0);
    b.c.state.rip = CODE;
    b.c.state.gpr[gpr::RDI] += 8;
    assert_eq!(b.step(), Outcome::Exception(Exception::with_code(vector::GP, 0)));
}

#[test]
fn rep_movs_goes_on_where_a_call_left_off() {
    let mut b = Bench::new(long_mode(), |a| a.rep().movsb().unwrap());
    b.c.state.gpr[gpr::RSI] = DATA + 5;
    b.c.state.gpr[gpr::RDI] = DATA + 0x4003;
    b.c.state.gpr[gpr::RCX] = 10_000;
    for n in 0..10_000 {
        b.m.poke(DATA + 5 + n, &[n as u8 ^ (n >> 8) as u8]);
    }
    let mut calls = 0;
    while b.c.state.rip == CODE {
        assert_eq!(b.step(), Outcome::Retired);
        calls += 1;
    }
    assert!(calls < 20, "{calls} calls");
    assert_eq!(b.reg(gpr::RCX), 0);
    assert_eq!(b.reg(gpr::RDI), DATA + 0x4003 + 10_000);
    for n in 0..10_000 {
        assert_eq!(b.m.peek::<1>(DATA + 0x4003 + n)[0], n as u8 ^ (n >> 8) as u8);
    }
}

#[test]
fn xsave_and_xrstor_round_trip() {
    let mut b = Bench::new(long_mode(), |a| {
        a.xsavec64(ptr(rdi)).unwrap();
        a.xrstor64(ptr(rdi)).unwrap();
    });
    b.c.state.gpr[gpr::RDI] = DATA;
    (b.c.state.gpr[gpr::RAX], b.c.state.gpr[gpr::RDX]) = (0xffff_ffff, 0xffff_ffff);
    for (n, z) in b.c.state.vec.zmm.iter_mut().enumerate() {
        *z = std::array::from_fn(|k| (n * 8 + k) as u64 * 0x0101_0101_0101);
    }
    b.c.state.vec.opmask[3] = 77;
    b.c.state.vec.fpr[2] = [9; 10];
    b.c.state.vec.ftw = 4;
    let before = b.c.state.vec.clone();
    b.steps(1);
    assert_eq!(b.m.peek64(DATA + 512), 0xe7);
    assert_eq!(b.m.peek64(DATA + 520), 1 << 63 | 0xe7);
    b.c.state.vec = Default::default();
    b.steps(1);
    assert_eq!(b.c.state.vec, before);
}

#[test]
fn standard_image_round_trips() {
    let mut v = VectorState::default();
    for (n, z) in v.zmm.iter_mut().enumerate() {
        *z = std::array::from_fn(|k| (n * 8 + k) as u64 + 1);
    }
    v.fsw = 3 << 11;
    v.fpr[5] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    v.ftw = 0x20;
    // An AMD processor with AVX-512: no room for MPX.
    let amd = Layout::from_cpuid(|n| match n {
        2 => Some([256, 576, 0]),
        5 => Some([64, 832, 0]),
        6 => Some([512, 896, 0]),
        7 => Some([1024, 1408, 0]),
        9 => Some([8, 2432, 0]),
        _ => None,
    });
    for (layout, pkru) in [(Layout::INTEL, 2688), (amd, 2432)] {
        v.pkru = pkru as u32;
        let mut image = vec![0; 4096];
        v.to_standard(&layout, component::ALL, &mut image).unwrap();
        assert_eq!(image[pkru..pkru + 4], (pkru as u32).to_le_bytes());
        assert_eq!(VectorState::from_standard(&layout, &image).unwrap(), v);
        assert!(VectorState::from_standard(&layout, &image[..600]).is_err());
    }
}

#[test]
fn image_sizes_follow_the_layout() {
    let plain = Layout::INTEL;
    assert_eq!(plain.size(0, 0), 576);
    assert_eq!(plain.size(component::X87 | component::SSE | component::AVX, 0), 832);
    assert_eq!(plain.size(component::ALL, 0), 2696);
    assert_eq!(plain.size(component::ALL, COMPACTED), 576 + 256 + 64 + 512 + 1024 + 8);
    assert_eq!(plain.size(component::PKRU, COMPACTED), 584);
    // Alignment counts in the compacted form only; a component of another size, or outside the image, is not believed.
    let odd = Layout::from_cpuid(|n| match n {
        6 => Some([512, 1152, 2]),
        7 => Some([1024, 1 << 20, 0]),
        9 => Some([4, 700, 0]),
        _ => None,
    });
    assert_eq!(odd.size(component::ALL, 0), 2696);
    let range =
        |which| odd.ranges(COMPACTED | which).into_iter().find(|(bit, _)| *bit == component::ZMM_HI256);
    assert_eq!(range(component::ZMM_HI256).unwrap().1, 576..1088);
    assert_eq!(range(component::AVX | component::ZMM_HI256).unwrap().1, 832..1344);
    assert_eq!(range(component::ALL).unwrap().1, 896..1408);
}

#[test]
fn int3_is_a_trap_past_the_instruction() {
    let mut b = Bench::new(long_mode(), |a| a.int3().unwrap());
    assert_eq!(b.step(), Outcome::Trap(Exception::plain(vector::BP)));
    assert_eq!(b.c.state.rip, CODE + 1);
}

#[test]
fn hint_bytes_are_used_instead_of_memory() {
    let mut b = Bench::with_bytes(long_mode(), &[0x0f, 0x0b]);
    let outcome = b.c.run_one(&mut b.m, Some(&[0x0f, 0x01, 0xcb, 0x90, 0x90]));
    assert_eq!(outcome, Outcome::Retired);
    assert_ne!(b.c.state.rflags & rf::AC, 0);
}

#[test]
fn flags_survive_any_value() {
    for n in 0..64u64 {
        let bits = (n & 1) | (n >> 1 & 1) << 2 | (n >> 2 & 1) << 4 | (n >> 3 & 3) << 6 | (n >> 5) << 11;
        let mut f = flags::Flags::default();
        f.set_bits(bits);
        assert_eq!(f.bits(), bits);
    }
}

#[test]
fn rdrand_and_rdseed_say_whether_they_had_a_number() {
    let mut b = Bench::new(long_mode(), |a| {
        a.rdrand(rax).unwrap();
        a.rdseed(ebx).unwrap();
        a.rdrand(cx).unwrap();
        a.rdseed(rdx).unwrap();
    });
    b.c.state.gpr = [u64::MAX; 16];
    b.c.state.rflags |= rf::STATUS & !rf::CF;
    b.m.random = Some(0x0123_4567_89ab_cdef);
    b.steps(3);
    assert_eq!(b.reg(gpr::RAX), 0x0123_4567_89ab_cdef);
    assert_eq!(b.reg(gpr::RBX), 0x89ab_cdef);
    assert_eq!(b.reg(gpr::RCX), 0xffff_ffff_ffff_cdef);
    assert_eq!(b.c.state.rflags & rf::STATUS, rf::CF);
    b.m.random = None;
    b.steps(1);
    assert_eq!((b.reg(gpr::RDX), b.c.state.rflags & rf::STATUS), (0, 0));
}

/// A unit that begins in the last canonical page and ends beyond it: #GP comes before the page fault, as without REP.
#[test]
fn repeated_strings_across_the_end_of_canonical_addresses_fault_as_one_does() {
    for (bytes, register) in [([0xf3, 0xa5], gpr::RSI), ([0xf3, 0xa5], gpr::RDI), ([0xf3, 0xab], gpr::RDI)] {
        let mut b = Bench::with_bytes(long_mode(), &bytes);
        (b.c.state.gpr[gpr::RSI], b.c.state.gpr[gpr::RDI]) = (DATA, DATA + 64);
        b.c.state.gpr[gpr::RCX] = 8;
        b.c.state.gpr[register] = 0x7fff_ffff_fffe;
        let Outcome::Exception(e) = b.step() else { panic!("no exception") };
        assert_eq!((e.vector, e.code), (vector::GP, Some(0)), "{bytes:x?} {register}");
    }
}
