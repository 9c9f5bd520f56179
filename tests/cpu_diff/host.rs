//! One instruction on the host's processor, with every register given and taken.
//!
//! A few instructions of assembly load all registers and IRET to the instruction. The single-step trap, the breakpoint
//! behind it, or whatever the instruction raises, comes back as a signal whose frame holds all registers; the handler leaves that
//! frame where it is and goes back to who entered, without returning from the signal: one signal a case, no system
//! call.
#![expect(unsafe_code, reason = "signal handlers, fixed mappings and machine code")]

use std::arch::x86_64::__cpuid_count;
use std::sync::{Mutex, MutexGuard, Once};

use minivmm::cpu::state::{CpuState, rflags};
use minivmm::cpu::xsave::{Layout, MAX_IMAGE as IMAGE, MXCSR_MASK, VectorState, component};

use crate::generate::Case;
use crate::machine::{CODE, DATA, DATA_SIZE, INT3, PROGRAM, PROGRAM_SIZE, READ_ONLY};
use crate::programs::Program;
use crate::{RETIRED, Result};

/// Components that a case sets and compares: all but PKRU.
const COMPONENTS: u64 = component::ALL & !component::PKRU;

/// The code and data pages and the way back are the process's: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// What `cpu_diff_enter` loads, at the offsets that it uses.
#[repr(C, align(64))]
struct Frame {
    image: [u8; IMAGE],
    /// General registers in the encoding's order.
    gpr: [u64; 16],
    rip: u64,
    rflags: u64,
}

std::arch::global_asm!(
    ".pushsection .bss.cpu_diff,\"aw\",@nobits",
    ".balign 8",
    "cpu_diff_home: .skip 8",
    ".popsection",
    // extern "C" fn(&Frame) -> *const ucontext_t
    "cpu_diff_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + cpu_diff_home], rsp",
    "mov eax, {components}",
    "xor edx, edx",
    "xrstor64 [rdi]",
    "mov eax, ss",
    "push rax",
    "push [rdi + {gpr} + 8 * 4]",
    "push [rdi + {rflags}]",
    "mov eax, cs",
    "push rax",
    "push [rdi + {rip}]",
    "mov rax, [rdi + {gpr}]",
    "mov rcx, [rdi + {gpr} + 8 * 1]",
    "mov rdx, [rdi + {gpr} + 8 * 2]",
    "mov rbx, [rdi + {gpr} + 8 * 3]",
    "mov rbp, [rdi + {gpr} + 8 * 5]",
    "mov rsi, [rdi + {gpr} + 8 * 6]",
    "mov r8, [rdi + {gpr} + 8 * 8]",
    "mov r9, [rdi + {gpr} + 8 * 9]",
    "mov r10, [rdi + {gpr} + 8 * 10]",
    "mov r11, [rdi + {gpr} + 8 * 11]",
    "mov r12, [rdi + {gpr} + 8 * 12]",
    "mov r13, [rdi + {gpr} + 8 * 13]",
    "mov r14, [rdi + {gpr} + 8 * 14]",
    "mov r15, [rdi + {gpr} + 8 * 15]",
    "mov rdi, [rdi + {gpr} + 8 * 7]",
    "iretq",
    // The signal handler (signal, siginfo, ucontext): the kernel has given it fresh vector and x87 state, and flags
    // without TF and DF.
    "cpu_diff_leave:",
    "xor ecx, ecx",
    "xchg rcx, [rip + cpu_diff_home]",
    "test rcx, rcx",
    "jz {stray}",
    "mov rsp, rcx",
    "push 2",
    "popfq",
    "mov rax, rdx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    components = const COMPONENTS,
    gpr = const std::mem::offset_of!(Frame, gpr),
    rip = const std::mem::offset_of!(Frame, rip),
    rflags = const std::mem::offset_of!(Frame, rflags),
    stray = sym stray,
);

unsafe extern "C" {
    fn cpu_diff_enter(frame: *const Frame) -> *const libc::ucontext_t;
    fn cpu_diff_leave();
}

/// A fault that is the test's own: the default action tells.
extern "C" fn stray(signal: i32) {
    // SAFETY: the handler returns to the fault, which then ends the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// How this processor lays out its XSAVE images.
pub fn layout() -> Layout {
    Layout::from_cpuid(|n| {
        let r = __cpuid_count(0xd, n);
        (r.eax != 0).then_some([r.eax, r.ebx, r.ecx])
    })
}

pub struct Host {
    _only: MutexGuard<'static, ()>,
    _stack: Vec<u8>,
    frame: Box<Frame>,
    layout: Layout,
    /// Where the last case's code was.
    code: (usize, usize),
}

fn map(at: u64, size: usize, protection: i32) {
    // SAFETY: a fixed mapping at an address that a 64-bit test process does not use (the executable is position
    // independent and far above).
    let p = unsafe {
        libc::mmap(
            at as *mut _,
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE,
            -1,
            0,
        )
    };
    assert_eq!(p as u64, at, "cannot map {at:#x}");
}

impl Host {
    pub fn new() -> Self {
        let only = ONE.lock().unwrap_or_else(|e| e.into_inner());
        assert!(is_x86_feature_detected!("avx512f"), "this test needs a processor with AVX-512");
        static MAPPED: Once = Once::new();
        MAPPED.call_once(|| {
            map(CODE, 4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
            map(PROGRAM, PROGRAM_SIZE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
            map(DATA, DATA_SIZE, libc::PROT_READ | libc::PROT_WRITE);
            map(READ_ONLY, 4096, libc::PROT_READ);
        });
        let mut stack = vec![0u8; 256 << 10];
        // SAFETY: the stack lives as long as `Host`; the handler has the signature that SA_SIGINFO wants.
        unsafe {
            let s = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            assert_eq!(libc::sigaltstack(&s, std::ptr::null_mut()), 0);
            for signal in [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
                handle(signal, cpu_diff_leave as *const () as usize);
            }
        }
        let frame = Box::new(Frame { image: [0; IMAGE], gpr: [0; 16], rip: 0, rflags: 0 });
        Host { _only: only, _stack: stack, frame, layout: layout(), code: (0, 0) }
    }

    /// Runs the case's one instruction.
    pub fn run(&mut self, case: &Case) -> Result {
        self.fill_frame(&case.state);
        let at = (case.state.rip - CODE) as usize;
        // SAFETY: the mappings of `new`. The frame that comes back lies on the signal stack until the next signal.
        unsafe {
            std::ptr::write_bytes((CODE as *mut u8).add(self.code.0), 0, self.code.1);
            std::ptr::copy_nonoverlapping(case.bytes.as_ptr(), (CODE as *mut u8).add(at), case.bytes.len());
            std::ptr::copy_nonoverlapping(case.memory.as_ptr(), DATA as *mut u8, DATA_SIZE);
            self.code = (at, case.bytes.len());
            if let Some(behind) = case.breakpoint() {
                (behind as *mut u8).write(INT3);
                self.code.1 += 1;
            }
            let context = &(*cpu_diff_enter(&*self.frame)).uc_mcontext;
            // The kernel's image is followed by more stack, so that IMAGE bytes are there in any case.
            self.result_of(case, context, &*context.fpregs.cast::<[u8; IMAGE]>())
        }
    }

    /// Runs a program until something stops it; vector registers are not looked at.
    pub fn run_program(&mut self, p: &Program) -> Result {
        self.fill_frame(&p.state);
        let at = (p.state.rip - PROGRAM) as usize;
        assert!(at + p.code.len() <= PROGRAM_SIZE);
        // SAFETY: the mappings of `new`, and the code fits. As in `run`.
        let context = unsafe {
            std::ptr::write_bytes(CODE as *mut u8, 0, 4096);
            std::ptr::write_bytes(PROGRAM as *mut u8, INT3, PROGRAM_SIZE);
            std::ptr::copy_nonoverlapping(p.code.as_ptr(), (PROGRAM as *mut u8).add(at), p.code.len());
            std::ptr::copy_nonoverlapping(p.memory.as_ptr(), DATA as *mut u8, DATA_SIZE);
            &(*cpu_diff_enter(&*self.frame)).uc_mcontext
        };
        let mut state = p.state.clone();
        let trap = general(context, &mut state);
        Result { state, trap }
    }

    /// The program's pages as the last program left them.
    pub fn program(&self) -> &[u8] {
        // SAFETY: as in `memory`.
        unsafe { std::slice::from_raw_parts(PROGRAM as *const u8, PROGRAM_SIZE) }
    }

    /// The data pages as the last case left them.
    pub fn memory(&self) -> &[u8] {
        // SAFETY: mapped by `new`, written only by `run`, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(DATA as *const u8, DATA_SIZE) }
    }

    fn fill_frame(&mut self, state: &CpuState) {
        let f = &mut *self.frame;
        f.gpr = state.gpr;
        f.rip = state.rip;
        f.rflags = state.rflags;
        state
            .vec
            .to_standard(&self.layout, COMPONENTS, &mut f.image)
            .expect("the image has room for all components");
    }

    fn result_of(&self, case: &Case, c: &libc::mcontext_t, image: &[u8; IMAGE]) -> Result {
        let mut state = case.state.clone();
        let trap = general(c, &mut state);
        // AMD's MXCSR has one bit more than `cpu/` accepts.
        let mxcsr = u32::from_le_bytes(std::array::from_fn(|n| image[24 + n]));
        let mut image = *image;
        image[24..28].copy_from_slice(&(mxcsr & MXCSR_MASK).to_le_bytes());
        state.vec = VectorState::from_standard(&self.layout, &image).expect("the kernel's image is good");
        state.vec.mxcsr = mxcsr;
        let behind = case.state.rip + case.bytes.len() as u64;
        if case.state.rflags & rflags::TF == 0 {
            // The breakpoint behind the instruction, or the page behind it, which is not there.
            if trap.0 == 3 && state.rip == behind + 1 {
                state.rip = behind;
                return Result { state, trap: RETIRED };
            } else if behind == CODE + 4096 && state.rip == behind && trap == (14, 0x14, behind) {
                return Result { state, trap: RETIRED };
            }
        }
        Result { state, trap }
    }
}

/// General registers, RIP and RFLAGS out of a signal's frame; gives the trap that it came from.
fn general(c: &libc::mcontext_t, state: &mut CpuState) -> (u8, u32, u64) {
    for (n, r) in GREGS.into_iter().enumerate() {
        state.gpr[n] = c.gregs[r as usize] as u64;
    }
    state.rip = c.gregs[libc::REG_RIP as usize] as u64;
    state.rflags = c.gregs[libc::REG_EFL as usize] as u64;
    let vector = c.gregs[libc::REG_TRAPNO as usize] as u8;
    let code = c.gregs[libc::REG_ERR as usize] as u32;
    let cr2 = if vector == 14 { c.gregs[libc::REG_CR2 as usize] as u64 } else { 0 };
    (vector, if matches!(vector, 10..=14 | 17) { code } else { 0 }, cr2)
}

/// libc's numbers of the general registers in the encoding's order.
const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

unsafe fn handle(signal: i32, handler: usize) {
    // SAFETY: a valid handler, on the alternative stack. It does not return, so no signal may stay blocked.
    unsafe {
        let mut a: libc::sigaction = std::mem::zeroed();
        a.sa_sigaction = handler;
        a.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        assert_eq!(libc::sigaction(signal, &a, std::ptr::null_mut()), 0);
    }
}
