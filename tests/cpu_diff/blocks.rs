//! Random programs on the host's processor and on the interpreter, which runs them as host code of its translator, and
//! disturbed in every way that a program must not see.
//!
//! `MINIVMM_DIFF_PROGRAMS=n` and `MINIVMM_DIFF_SEED=n` choose which; the seed is printed. One program is run in all ways:
//! with the seed that a difference is told with, that program again.

use std::collections::BTreeMap;
use std::sync::Arc;

use minivmm::cpu::debug::{Watch, WatchKind};
use minivmm::cpu::state::rflags as rf;
use minivmm::cpu::{CodePages, CpuState, Exit, Interpreter};

use crate::generate::{Rng, operand_address};
use crate::machine::{GuestMachine, PROGRAM, PROGRAM_PAGES, RAM_END, RETURNS, with_system};
use crate::programs::{Program, program};
use crate::{Result, as_linux_tells, host, number, processor};

/// What happens to a program on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Nothing: blocks are host code from their first run on.
    HostCode,
    /// Again, with the code and the links of the run before.
    Again,
    /// Blocks stay ops.
    Ops,
    /// Ops first, host code after some rounds.
    Late,
    /// The budget ends everywhere.
    Budgets,
    /// Interrupts, whose handler returns.
    Interrupts,
    /// Its pages are written from outside, with what they hold.
    Written,
    /// Translations and decoded code are forgotten.
    Forgotten,
    /// RFLAGS.TF.
    SingleStep,
    /// DR0 to DR3: code and data.
    Breakpoints,
    /// A debugger's breakpoints, watchpoints, steps.
    Debugger,
}

const WAYS: [Way; 9] = [
    Way::Ops,
    Way::Late,
    Way::Budgets,
    Way::Interrupts,
    Way::Written,
    Way::Forgotten,
    Way::SingleStep,
    Way::Breakpoints,
    Way::Debugger,
];

/// The interpreter and its machine.
struct Soft {
    m: GuestMachine,
    i: Interpreter<GuestMachine>,
    pages: Arc<CodePages>,
}

impl Soft {
    fn new() -> Self {
        let pages = Arc::new(CodePages::new(RAM_END));
        let i = Interpreter::new(CpuState::default(), pages.clone());
        Soft { m: GuestMachine::new(), i, pages }
    }

    fn run(&mut self, p: &Program, way: Way, rng: &mut Rng) -> Result {
        if self.m.load_program(p) || way != Way::Again {
            PROGRAM_PAGES.into_iter().for_each(|page| self.pages.written(page));
        }
        self.i.cpu.state = with_system(&p.state);
        self.i.translate_after(match way {
            Way::Ops => u16::MAX,
            Way::Late => 2,
            _ => 1,
        });
        let s = &mut self.i.cpu.state;
        match way {
            Way::SingleStep => s.rflags |= rf::TF,
            Way::Breakpoints => {
                for n in 0..4 {
                    (s.dr[n], s.dr[7]) = breakpoint(p, rng, n, s.dr[7]);
                }
            }
            Way::Debugger => self.debug(p, rng),
            _ => {}
        }
        self.go(way, rng);
        self.i.set_debug(&[], &[], false);
        let (vector, code, mut state) = self.m.stopped(&self.i.cpu.state);
        state.rflags &= !rf::TF | p.state.rflags;
        let cr2 = if vector == 14 { self.i.cpu.state.cr2 } else { 0 };
        Result { state, trap: as_linux_tells((vector, code, cr2)) }
    }

    fn go(&mut self, way: Way, rng: &mut Rng) {
        let disturbed = matches!(way, Way::Budgets | Way::Interrupts | Way::Written | Way::Forgotten);
        for _ in 0..20_000 {
            let budget = if disturbed { 1 + rng.below(6) } else { 1000 };
            match self.i.run(&mut self.m, budget) {
                Exit::Halt => return,
                Exit::Budget => {}
                // A step of HLT.
                Exit::Debug(_) if self.i.cpu.state.halted => return,
                Exit::Debug(_) => {}
                other => panic!("{other:?}"),
            }
            match way {
                Way::Interrupts if self.i.cpu.interruptible() => {
                    self.i.cpu.interrupt(&mut self.m, RETURNS).expect("the handler is there");
                }
                Way::Written => self.pages.written(PROGRAM_PAGES[rng.below(2) as usize]),
                Way::Forgotten if rng.below(4) == 0 => self.i.reset(),
                Way::Forgotten => self.i.cpu.flush_tlb(),
                Way::Debugger if rng.below(8) == 0 => self.i.set_debug(&[], &[], true),
                _ => {}
            }
        }
        panic!("it does not end");
    }

    fn debug(&mut self, p: &Program, rng: &mut Rng) {
        let breakpoints: Vec<u64> = (0..rng.below(4)).map(|_| somewhere(p, rng)).collect();
        let kinds = [WatchKind::Write, WatchKind::Read, WatchKind::Access];
        let watches: Vec<Watch> = (0..rng.below(3))
            .map(|_| Watch {
                addr: operand_address(rng),
                len: 1 + rng.below(16),
                kind: kinds[rng.below(3) as usize],
            })
            .collect();
        self.i.set_debug(&breakpoints, &watches, rng.below(4) == 0);
    }
}

/// The address of one of the program's instructions.
fn somewhere(p: &Program, rng: &mut Rng) -> u64 {
    p.steps[rng.below(p.steps.len() as u64) as usize].0
}

/// Debug register `n`, and DR7 with it.
fn breakpoint(p: &Program, rng: &mut Rng, n: usize, dr7: u64) -> (u64, u64) {
    let kind = [0, 1, 3][rng.below(3) as usize];
    let len = if kind == 0 { 0 } else { rng.below(4) };
    let address = if kind == 0 { somewhere(p, rng) } else { operand_address(rng) };
    let enabled = u64::from(rng.below(3) != 0);
    (address, dr7 | enabled << (2 * n) | (kind | len << 2) << (16 + 4 * n))
}

fn differences(p: &Program, soft: &Soft, got: &Result, on_host: &Result, host: &host::Host) -> Vec<String> {
    let mut out = Vec::new();
    if got.trap != on_host.trap {
        out.push(format!("trap: cpu {:x?}, host {:x?}", got.trap, on_host.trap));
    }
    let (a, b) = (&got.state, &on_host.state);
    if a.rip != b.rip {
        out.push(format!("rip: cpu {:#x}, host {:#x}", a.rip, b.rip));
        return out;
    }
    for n in 0..16 {
        if a.gpr[n] != b.gpr[n] {
            out.push(format!("gpr[{n}]: cpu {:#x}, host {:#x}", a.gpr[n], b.gpr[n]));
        }
    }
    // RF is the exception's doing, and the kernel's.
    let flags = !p.open_flags(b.rip) & !rf::RF;
    if (a.rflags ^ b.rflags) & flags != 0 {
        out.push(format!("rflags: cpu {:#x}, host {:#x}", a.rflags, b.rflags));
    }
    let same = |pages: [&[u8; 4096]; 2], bytes: &[u8]| {
        pages.iter().zip(bytes.chunks(4096)).all(|(soft, host)| soft[..] == *host)
    };
    if !same(soft.m.data(), host.memory()) {
        out.push("data".to_string());
    }
    if !same(soft.m.program(), host.program()) {
        out.push("code".to_string());
    }
    out
}

#[test]
fn programs_do_what_the_host_does() {
    let (programs, seed) = (number("MINIVMM_DIFF_PROGRAMS", 20_000), number("MINIVMM_DIFF_SEED", 1));
    println!("seed {seed}, {programs} programs");
    let mut rng = Rng(seed);
    let (mut host, mut soft) = (host::Host::new(), Soft::new());
    let (mut wrong, mut finished, mut changed, mut open) = (0u64, 0u64, 0u64, 0u64);
    let mut ways: BTreeMap<Way, u64> = BTreeMap::new();
    for n in 0..programs {
        let case_seed = rng.0;
        let p = program(&mut rng);
        let mut native = host.run_program(&p);
        if p.changes_a_repetition(host.program()) {
            open += 1;
            continue;
        }
        finished += u64::from(native.trap.0 == 3);
        changed += u64::from(p.changes_itself);
        let others = if programs == 1 { &WAYS[..] } else { &WAYS[n as usize % WAYS.len()..][..1] };
        for &way in [Way::HostCode, Way::Again].iter().chain(others) {
            if way == Way::SingleStep && p.shows_flags {
                continue;
            }
            *ways.entry(way).or_default() += 1;
            let got = soft.run(&p, way, &mut rng);
            let mut diff = differences(&p, &soft, &got, &native, &host);
            if !diff.is_empty() {
                // The host once more: asynchronous events on it must not count.
                native = host.run_program(&p);
                diff = differences(&p, &soft, &got, &native, &host);
            }
            if !diff.is_empty() {
                wrong += 1;
                if wrong < 10 {
                    let at = p.state.rip - PROGRAM;
                    println!(
                        "{way:?}, seed {case_seed}, at {at:#x}: {:02x?}, flags {:#x}, gpr {:x?}, trap {:x?} at {:#x}: {}",
                        p.code,
                        p.state.rflags,
                        p.state.gpr,
                        native.trap,
                        native.state.rip,
                        diff.join("; ")
                    );
                }
            }
        }
        if (n + 1) % 1_000_000 == 0 {
            println!("{} programs, {wrong} runs differ", n + 1);
        }
    }
    let runs: u64 = ways.values().sum();
    println!(
        "{programs} programs, {finished} to their end, {changed} change themselves, {open} write over a repetition; \
         runs {ways:?}"
    );
    assert!(wrong == 0 || processor::may_disagree(wrong, runs), "{wrong} runs differ (seed {seed})");
    assert!(finished * 5 > programs, "only {finished} of {programs} programs came to their end");
}
