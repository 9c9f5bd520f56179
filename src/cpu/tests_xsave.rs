//! FXSAVE, the XSAVE family, and what 64-bit mode does not have, one instruction at a time. Sections are SDM vol. 1.

use super::exceptions::vector;
use super::state::{cr0, cr4, gpr, seg};
use super::testing::*;
use super::xsave::COMPACTED;
use super::*;

const XSAVE: &[u8] = &[0x0f, 0xae, 0x27];
const XSAVEOPT: &[u8] = &[0x0f, 0xae, 0x37];
const XSAVEC: &[u8] = &[0x0f, 0xc7, 0x27];
const XSAVES: &[u8] = &[0x0f, 0xc7, 0x2f];
const XRSTOR: &[u8] = &[0x0f, 0xae, 0x2f];
const XRSTORS: &[u8] = &[0x0f, 0xc7, 0x1f];
const FXSAVE: &[u8] = &[0x0f, 0xae, 0x07];
const FXRSTOR: &[u8] = &[0x0f, 0xae, 0x0f];

/// A CPU about to run `code` with its operand at [`DATA`] (by RDI) and RFBM = `asked`; the operand is full of AAh.
fn bench(code: &[u8], asked: u64) -> Bench {
    let mut b = Bench::with_bytes(long_mode(), code);
    b.c.state.gpr[gpr::RDI] = DATA;
    b.c.state.gpr[gpr::RAX] = asked;
    b.m.poke(DATA, &[0xaa; 4096]);
    b
}

/// A good header.
fn header(b: &mut Bench, present: u64, xcomp: u64) {
    b.m.poke(DATA + 512, &[0; 64]);
    b.m.poke64(DATA + 512, present);
    b.m.poke64(DATA + 520, xcomp);
    b.m.poke(DATA + 24, &0x1fa0_u32.to_le_bytes());
}

fn untouched(b: &mut Bench, from: u64, to: u64) -> bool {
    (from..to).step_by(8).all(|at| b.m.peek64(DATA + at) == 0xaaaa_aaaa_aaaa_aaaa)
}

#[test]
fn compacted_saves_write_two_words_of_the_header() {
    for code in [XSAVEC, XSAVES] {
        let mut b = bench(code, 7);
        b.c.state.vec.zmm[1][2] = 5;
        b.steps(1);
        // 13.10: AVX is in use, the others are not.
        assert_eq!(b.m.peek64(DATA + 512), 4);
        assert_eq!(b.m.peek64(DATA + 520), COMPACTED | 7);
        assert!(untouched(&mut b, 528, 576), "the rest of the header is not written");
        assert!(untouched(&mut b, 0, 464), "components in their initial state are not written");
        assert_eq!(b.m.peek64(DATA + 576 + 16), 5);
    }
}

#[test]
fn mxcsr_counts_as_sse_in_compacted_saves() {
    let mut b = bench(XSAVEC, 7);
    b.c.state.vec.mxcsr = 0x1f81;
    b.steps(1);
    assert_eq!(b.m.peek64(DATA + 512), 2);
    assert_eq!(b.m.peek64(DATA + 24) as u32, 0x1f81);
    assert_eq!(b.m.peek64(DATA + 160), 0);
}

#[test]
fn standard_saves_keep_what_was_not_asked_for() {
    for (code, xmm_written) in [(XSAVE, true), (XSAVEOPT, false)] {
        let mut b = bench(code, 2);
        header(&mut b, 5, 0);
        b.steps(1);
        // 13.7, 13.9: bits outside RFBM stay, MXCSR is written in any case.
        assert_eq!(b.m.peek64(DATA + 512), 5);
        assert_eq!(b.m.peek64(DATA + 24) as u32, 0x1f80);
        assert_eq!(untouched(&mut b, 160, 416), !xmm_written);
        assert!(untouched(&mut b, 0, 24) && untouched(&mut b, 576, 832));
    }
}

#[test]
fn restores_initialize_what_is_absent() {
    for (xcomp, mxcsr) in [(0, 0x1fa0), (COMPACTED | 7, 0x1f80)] {
        let mut b = bench(XRSTOR, 7);
        header(&mut b, 0, xcomp);
        b.c.state.vec.zmm[3] = [9; 8];
        b.c.state.vec.fcw = 0x27f;
        b.c.state.vec.mxcsr = 0x1f81;
        b.steps(1);
        // 13.8.1 and 13.8.2 differ in MXCSR only.
        assert_eq!(b.c.state.vec.zmm[3], [0, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!((b.c.state.vec.fcw, b.c.state.vec.mxcsr), (0x37f, mxcsr));
    }
}

#[test]
fn headers_that_are_not_good_fault() {
    let gp = |code: &[u8], change: &dyn Fn(&mut Bench)| {
        let mut b = bench(code, 7);
        header(&mut b, 3, if code == XRSTORS { COMPACTED | 7 } else { 0 });
        change(&mut b);
        let before = b.c.state.vec.clone();
        let outcome = b.step();
        assert!(outcome == Outcome::Retired || b.c.state.vec == before, "a fault changes nothing");
        outcome == Outcome::Exception(Exception::with_code(vector::GP, 0))
    };
    assert!(!gp(XRSTOR, &|_| {}));
    assert!(gp(XRSTOR, &|b| b.m.poke64(DATA + 512, 3 | 1 << 40)), "XSTATE_BV beyond XCR0");
    assert!(gp(XRSTOR, &|b| b.m.poke(DATA + 535, &[1])), "bytes 23:8");
    assert!(!gp(XRSTOR, &|b| b.m.poke(DATA + 536, &[1])), "bytes 63:24 of the standard form");
    assert!(gp(XRSTOR, &|b| b.m.poke(DATA + 26, &[1])), "MXCSR");
    let compact = |b: &mut Bench| b.m.poke64(DATA + 520, COMPACTED | 3);
    assert!(!gp(XRSTOR, &compact));
    let with = |change: fn(&mut Bench)| {
        move |b: &mut Bench| {
            compact(b);
            change(b);
        }
    };
    assert!(gp(XRSTOR, &with(|b| b.m.poke64(DATA + 512, 7))), "XSTATE_BV beyond XCOMP_BV");
    assert!(gp(XRSTOR, &with(|b| b.m.poke64(DATA + 512, COMPACTED | 3))), "XSTATE_BV bit 63");
    assert!(gp(XRSTOR, &with(|b| b.m.poke64(DATA + 520, COMPACTED | 1 << 40 | 3))), "XCOMP_BV beyond XCR0");
    assert!(gp(XRSTOR, &with(|b| b.m.poke(DATA + 575, &[1]))), "bytes 63:16 of the compacted form");
    assert!(!gp(XRSTORS, &|_| {}));
    assert!(gp(XRSTORS, &|b| b.m.poke64(DATA + 520, 0)), "XRSTORS has no standard form");
    assert!(gp(FXRSTOR, &|b| b.m.poke(DATA + 27, &[1])), "MXCSR of FXRSTOR");
}

#[test]
fn every_form_checks_mode_alignment_and_task_switch() {
    for code in [XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS, FXSAVE, FXRSTOR] {
        let fx = code == FXSAVE || code == FXRSTOR;
        let outcome = |change: &dyn Fn(&mut CpuState)| {
            let mut b = bench(code, 7);
            change(&mut b.c.state);
            b.step()
        };
        let exception = |v: u8| Outcome::Exception(Exception::plain(v));
        let gp = Outcome::Exception(Exception::with_code(vector::GP, 0));
        assert_eq!(outcome(&|s| s.gpr[gpr::RDI] += 8), gp, "{code:x?}");
        assert_eq!(outcome(&|s| s.cr0 |= cr0::TS), exception(vector::NM), "{code:x?}");
        if !fx {
            assert_eq!(outcome(&|s| s.gpr[gpr::RDI] += 32), gp, "{code:x?}");
            assert_eq!(outcome(&|s| s.cr4 &= !cr4::OSXSAVE), exception(vector::UD), "{code:x?}");
        }
        if code == XSAVES || code == XRSTORS {
            assert_eq!(outcome(&|s| s.segs = user_mode().segs), gp, "{code:x?}");
        }
    }
}

/// Runs `code` in compatibility mode with AX and flags; gives AX and flags.
fn legacy(code: &[u8], ax: u16, flags: u64) -> (u16, u64) {
    let mut b = Bench::with_bytes(long_mode(), code);
    b.c.state.segs[seg::CS].attr = 0xc09b;
    b.c.state.gpr[gpr::RAX] = ax as u64;
    b.c.state.gpr[gpr::RCX] = 3;
    b.c.state.rflags |= flags;
    b.steps(1);
    (b.reg(gpr::RAX) as u16, b.c.state.rflags & 0x51)
}

#[test]
fn decimal_adjustments_follow_the_manual() {
    const CF: u64 = 1;
    const AF: u64 = 0x10;
    const BOTH: u64 = CF | AF;
    let carries = |(ax, flags): (u16, u64)| (ax, flags & BOTH);
    // DAS, AAD and AAM are compared with a processor's in tests/machine.
    assert_eq!(carries(legacy(&[0x37], 0x0109, 0)), (0x0109, 0));
    assert_eq!(carries(legacy(&[0x37], 0x0109, AF)), (0x020f, BOTH));
    assert_eq!(carries(legacy(&[0x37], 0x020a, 0)), (0x0300, BOTH));
    assert_eq!(carries(legacy(&[0x3f], 0x0109, CF)), (0x0109, 0));
    assert_eq!(carries(legacy(&[0x3f], 0x020a, 0)), (0x0104, BOTH));
    assert_eq!(carries(legacy(&[0x3f], 0x0203, AF)), (0x000d, BOTH));
    assert_eq!(carries(legacy(&[0x27], 0x000a, 0)), (0x0010, AF));
    assert_eq!(carries(legacy(&[0x27], 0x009a, 0)), (0x0000, BOTH));
    assert_eq!(carries(legacy(&[0x27], 0x0003, CF)), (0x0063, CF));
    assert_eq!(carries(legacy(&[0x2f], 0x0003, AF)), (0x00fd, BOTH));
}

#[test]
fn arpl_raises_the_requested_level() {
    assert_eq!(legacy(&[0x63, 0xc8], 0x10, 0), (0x13, 0x40));
    assert_eq!(legacy(&[0x63, 0xc8], 0x13, 0x40), (0x13, 0));
}

/// One encoding for each feature bit of the CPUID model: (leaf, register, bit, bytes).
const SHOWN: &[(u32, usize, u32, &[u8])] = &[
    (1, 3, 0, &[0xd9, 0xe8]),                       // x87: FLD1
    (1, 3, 4, &[0x0f, 0x31]),                       // TSC
    (1, 3, 8, &[0x0f, 0xc7, 0x0f]),                 // CX8
    (1, 3, 15, &[0x0f, 0x44, 0xc1]),                // CMOV
    (1, 3, 19, &[0x0f, 0xae, 0x3f]),                // CLFLUSH
    (1, 3, 23, &[0x0f, 0xfc, 0xc1]),                // MMX: PADDB
    (1, 3, 24, FXSAVE),                             // FXSR
    (1, 3, 25, &[0x0f, 0x58, 0xc1]),                // SSE: ADDPS
    (1, 3, 26, &[0x66, 0x0f, 0x58, 0xc1]),          // SSE2: ADDPD
    (1, 2, 0, &[0xf2, 0x0f, 0x7c, 0xc1]),           // SSE3: HADDPS
    (1, 2, 9, &[0x66, 0x0f, 0x38, 0x00, 0xc1]),     // SSSE3: PSHUFB
    (1, 2, 13, &[0x48, 0x0f, 0xc7, 0x0f]),          // CX16
    (1, 2, 19, &[0x66, 0x0f, 0x38, 0x40, 0xc1]),    // SSE4.1: PMULLD
    (1, 2, 20, &[0x66, 0x0f, 0x38, 0x37, 0xc1]),    // SSE4.2: PCMPGTQ
    (1, 2, 22, &[0x0f, 0x38, 0xf0, 0x07]),          // MOVBE
    (1, 2, 23, &[0xf3, 0x0f, 0xb8, 0xc1]),          // POPCNT
    (1, 2, 26, XSAVE),                              // XSAVE
    (7, 1, 0, &[0xf3, 0x0f, 0xae, 0xc0]),           // FSGSBASE
    (7, 1, 3, &[0xc4, 0xe2, 0x70, 0xf2, 0xc1]),     // BMI1: ANDN
    (7, 1, 8, &[0xc4, 0xe2, 0x73, 0xf5, 0xc1]),     // BMI2: PDEP
    (7, 1, 19, &[0x66, 0x0f, 0x38, 0xf6, 0xc1]),    // ADX: ADCX
    (7, 1, 20, &[0x0f, 0x01, 0xcb]),                // SMAP: STAC
    (7, 1, 23, &[0x66, 0x0f, 0xae, 0x3f]),          // CLFLUSHOPT
    (7, 1, 24, &[0x66, 0x0f, 0xae, 0x37]),          // CLWB
    (7, 2, 22, &[0xf3, 0x0f, 0xc7, 0xf8]),          // RDPID
    (7, 3, 14, &[0x0f, 0x01, 0xe8]),                // SERIALIZE
    (0x8000_0001, 2, 0, &[0x9f]),                   // LAHF in 64-bit mode
    (0x8000_0001, 2, 5, &[0xf3, 0x0f, 0xbd, 0xc1]), // LZCNT
    (0x8000_0001, 2, 8, &[0x0f, 0x0d, 0x0f]),       // PREFETCHW
    (0x8000_0001, 3, 27, &[0x0f, 0x01, 0xf9]),      // RDTSCP
];

#[test]
fn what_cpuid_shows_is_there() {
    let t = cpuid::Topology { apic_id: 0, cpus: 1, tsc_khz: 1_000_000, x2apic: false, tsc_deadline: true };
    for &(leaf, register, bit, code) in SHOWN {
        let shown = cpuid::model(&t, leaf, 0)[register] >> bit & 1 == 1;
        assert!(shown, "leaf {leaf:x}, register {register}, bit {bit} is not shown");
        let mut b = bench(code, 3);
        b.c.state.gpr[gpr::RDI] = DATA;
        assert_eq!(b.step(), Outcome::Retired, "leaf {leaf:x}, register {register}, bit {bit}: {code:x?}");
    }
}
