//! Random user-mode instructions on the host's own processor and on `minivmm::cpu`, everything compared.
//!
//! `cargo test --test cpu_diff` runs 200,000 cases. `MINIVMM_DIFF_CASES=n` and `MINIVMM_DIFF_SEED=n` choose others;
//! the seed is printed. What is not compared is in `mask.rs`, with the section of the SDM that leaves it undefined.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod blocks;
mod generate;
mod host;
mod machine;
mod mask;
mod pieces;
#[path = "../common/processor.rs"]
mod processor;
mod programs;

use std::collections::BTreeMap;

use iced_x86::Code;
use minivmm::cpu::state::rflags;
use minivmm::cpu::{Cpu, CpuState, Outcome};

use generate::{Case, Rng};
use machine::{DATA, DATA_SIZE, GuestMachine, user_state};

/// How one execution ended, from either side.
#[derive(Clone, Debug, PartialEq)]
struct Result {
    state: CpuState,
    /// Vector, error code, and CR2 for page faults; or [`RETIRED`].
    trap: (u8, u32, u64),
}

/// The instruction is done; if RFLAGS.TF was set, the single-step trap has come.
const RETIRED: (u8, u32, u64) = (1, 0, 0);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn on_software(cpu: &mut Cpu, m: &mut GuestMachine, case: &Case) -> Option<Result> {
    m.load(case);
    cpu.state = case.state.clone();
    let trap = match cpu.run_one(m, None) {
        Outcome::Unsupported(_) => return None,
        Outcome::Retired => RETIRED,
        Outcome::Exception(e) | Outcome::Trap(e) => (e.vector, e.code.unwrap_or(0), e.cr2.unwrap_or(0)),
        Outcome::SoftwareInterrupt(v) => (v, 0, 0),
        other => panic!("{other:?} from {:02x?}", case.bytes),
    };
    Some(Result { state: cpu.state.clone(), trap: as_linux_tells(trap) })
}

/// Linux sets the "present" bit in what it tells user space about faults on its own half of the address space.
fn as_linux_tells((vector, code, cr2): (u8, u32, u64)) -> (u8, u32, u64) {
    let kernel = vector == 14 && cr2 >= 0x7fff_ffff_f000;
    (vector, if kernel { code | 1 } else { code }, cr2)
}

fn differences(case: &Case, soft: &Result, m: &GuestMachine, host: &Result, on_host: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let retired = host.trap == RETIRED;
    let page = |(v, code, cr2): (u8, u32, u64)| {
        (v, code, if mask::fault_address_is_open(case) { cr2 >> 12 } else { cr2 })
    };
    if page(soft.trap) != page(host.trap) {
        out.push(format!("trap: cpu {:x?}, host {:x?}", soft.trap, host.trap));
        return out;
    }
    let (a, b) = (&soft.state, &host.state);
    for n in 0..16 {
        if a.gpr[n] != b.gpr[n] {
            out.push(format!("gpr[{n}]: cpu {:#x}, host {:#x}", a.gpr[n], b.gpr[n]));
        }
    }
    if a.rip != b.rip {
        out.push(format!("rip: cpu {:#x}, host {:#x}", a.rip, b.rip));
    }
    let undefined = if retired { mask::undefined_flags(case) } else { 0 };
    // RF is the kernel's doing when a signal frame is made.
    let flags = !undefined & !rflags::RF;
    if (a.rflags ^ b.rflags) & flags != 0 {
        out.push(format!("rflags: cpu {:#x}, host {:#x}", a.rflags, b.rflags));
    }
    let (va, vb) = (&a.vec, &b.vec);
    for n in 0..32 {
        if va.zmm[n] != vb.zmm[n] {
            out.push(format!("zmm{n}: cpu {:x?}, host {:x?}", va.zmm[n], vb.zmm[n]));
        }
    }
    if va.mxcsr != vb.mxcsr {
        out.push(format!("mxcsr: cpu {:#x}, host {:#x}", va.mxcsr, vb.mxcsr));
    }
    if (va.fcw, va.ftw) != (vb.fcw, vb.ftw) || (va.fsw ^ vb.fsw) & !mask::undefined_fsw(case) != 0 {
        out.push(format!(
            "x87 control, status, tag: cpu {:04x} {:04x} {:02x}, host {:04x} {:04x} {:02x}",
            va.fcw, va.fsw, va.ftw, vb.fcw, vb.fsw, vb.ftw
        ));
    }
    for n in 0..8 {
        if va.fpr[n] != vb.fpr[n] {
            out.push(format!("fpr[{n}]: cpu {:02x?}, host {:02x?}", va.fpr[n], vb.fpr[n]));
        }
    }
    if va.opmask != vb.opmask {
        out.push("opmask".to_string());
    }
    out.extend(memory_difference(case, m, on_host));
    out
}

/// The first difference in the data pages, if any.
fn memory_difference(case: &Case, m: &GuestMachine, on_host: &[u8]) -> Option<String> {
    let pages = m.data();
    let same = pages.iter().zip(on_host.chunks(4096)).all(|(soft, host)| soft[..] == *host);
    if same {
        return None;
    }
    let operand = case.operand().wrapping_sub(DATA) as usize;
    let undefined = mask::undefined_memory(case);
    let soft = |at: usize| pages[at / 4096][at % 4096];
    let at = (0..DATA_SIZE).find(|&at| {
        soft(at) != on_host[at] && !undefined.iter().any(|r| r.contains(&at.wrapping_sub(operand)))
    })?;
    let end = (at + 16).min(DATA_SIZE);
    Some(format!(
        "memory at {:#x}: cpu {:02x?}, host {:02x?}",
        DATA + at as u64,
        (at..end).map(soft).collect::<Vec<_>>(),
        &on_host[at..end]
    ))
}

#[test]
fn instructions_do_what_the_host_does() {
    let cases = number("MINIVMM_DIFF_CASES", 200_000);
    let seed = number("MINIVMM_DIFF_SEED", 1);
    println!("seed {seed}, {cases} cases");
    let mut rng = Rng(seed);
    let mut host = host::Host::new();
    let mut m = GuestMachine::new();
    let mut cpu = Cpu::new(user_state());
    cpu.xsave_layout = host::layout();
    let mut failures: BTreeMap<Code, (u64, String)> = BTreeMap::new();
    let mut unsupported: BTreeMap<Code, u64> = BTreeMap::new();
    let mut open: BTreeMap<&str, (&mask::Row, u64)> = BTreeMap::new();
    let mut seen = vec![0u64; Code::values().len()];
    let mut done = 0;
    while done < cases {
        let case_seed = rng.0;
        let Some(case) = generate::case(&mut rng) else { continue };
        let code = case.instruction.code();
        let Some(soft) = on_software(&mut cpu, &mut m, &case) else {
            *unsupported.entry(code).or_default() += 1;
            continue;
        };
        let native = host.run(&case);
        let mut diff = differences(&case, &soft, &m, &native, host.memory());
        if !diff.is_empty()
            && let Some(row) = mask::open_row(&case, &soft, &native)
        {
            open.entry(row.what).or_insert((row, 0)).1 += 1;
            continue;
        }
        if !diff.is_empty() {
            // A case again by itself: asynchronous events on the host must not count.
            let again = host.run(&case);
            diff = differences(&case, &soft, &m, &again, host.memory());
        }
        done += 1;
        seen[code as usize] += 1;
        if !diff.is_empty() {
            let entry = failures.entry(code).or_default();
            entry.0 += 1;
            if entry.0 == 1 {
                entry.1 = format!(
                    "seed {case_seed}, {:02x?}, flags {:#x}, trap {:x?}: {}",
                    case.bytes,
                    case.state.rflags,
                    soft.trap,
                    diff.join("; ")
                );
                println!("{code:?}: {}", entry.1);
            }
        }
        if done % 1_000_000 == 0 {
            println!("{done} cases, {} encodings differ", failures.len());
        }
    }
    let encodings = seen.iter().filter(|&&n| n != 0).count();
    println!("{done} cases over {encodings} encodings");
    for (row, count) in open.values() {
        println!("differs, and may: {count} times {} ({})", row.what, row.source);
    }
    if std::env::var("MINIVMM_DIFF_LIST").is_ok() {
        println!("not supported: {unsupported:?}");
        for code in Code::values().filter(|&c| seen[c as usize] != 0) {
            println!("count {code:?} {}", seen[code as usize]);
        }
    }
    for (code, (count, first)) in &failures {
        println!("{code:?}: {count} of {}: {first}", seen[*code as usize]);
    }
    let wrong = failures.values().map(|(count, _)| count).sum();
    assert!(
        failures.is_empty() || processor::may_disagree(wrong, done),
        "{} encodings differ (seed {seed})",
        failures.len()
    );
    assert!(encodings > 500, "only {encodings} encodings were generated");
}
