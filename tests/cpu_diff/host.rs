//! One instruction on the host's processor, with every register given and taken, by way of signal frames.
//!
//! SIGUSR1's handler puts the guest's registers into its own signal frame; returning from it therefore starts the
//! instruction with RFLAGS.TF set. The trap, or whatever the instruction raises, comes back as a signal whose frame
//! holds all registers; its handler saves them and puts the frame of the first signal back.
#![expect(unsafe_code, reason = "signal handlers, fixed mappings and machine code")]

use std::cell::UnsafeCell;
use std::sync::{Mutex, MutexGuard, OnceLock};

use minivmm::cpu::state::rflags;
use minivmm::cpu::xsave::{Layout, VectorState};

use crate::Result;
use crate::generate::Case;
use crate::machine::{CODE, DATA, DATA_SIZE, READ_ONLY};

const IMAGE: usize = 2696;

/// What the handlers and `run` share; only the one thread that holds [`ONE`] touches it.
struct Shared {
    to_run: Option<(libc::mcontext_t, [u8; IMAGE])>,
    home: Option<(libc::mcontext_t, [u8; IMAGE])>,
    result: Option<(libc::mcontext_t, [u8; IMAGE])>,
}

struct Slot(UnsafeCell<Shared>);
// SAFETY: guarded by ONE.
unsafe impl Sync for Slot {}

static SHARED: Slot = Slot(UnsafeCell::new(Shared { to_run: None, home: None, result: None }));
static ONE: Mutex<()> = Mutex::new(());

pub struct Host {
    _only: MutexGuard<'static, ()>,
    _stack: Vec<u8>,
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
        map(CODE, 4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
        map(DATA, DATA_SIZE, libc::PROT_READ | libc::PROT_WRITE);
        map(READ_ONLY, 4096, libc::PROT_READ);
        let mut stack = vec![0u8; 256 << 10];
        // SAFETY: the stack lives as long as `Host`; the handlers have the signature that SA_SIGINFO wants.
        unsafe {
            let s = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            assert_eq!(libc::sigaltstack(&s, std::ptr::null_mut()), 0);
            handle(libc::SIGUSR1, enter as *const () as usize);
            for signal in [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
                handle(signal, leave as *const () as usize);
            }
        }
        Host { _only: only, _stack: stack }
    }

    /// Runs the case's one instruction.
    pub fn run(&mut self, case: &Case) -> Result {
        // SAFETY: the mappings of `new`; the handlers run on this thread, between the two uses of SHARED.
        unsafe {
            let code = case.state.rip as *mut u8;
            std::ptr::write_bytes(CODE as *mut u8, 0, 4096);
            std::ptr::copy_nonoverlapping(case.bytes.as_ptr(), code, case.bytes.len());
            std::ptr::copy_nonoverlapping(case.memory.as_ptr(), DATA as *mut u8, DATA_SIZE);
            let shared = &mut *SHARED.0.get();
            shared.to_run = Some(frame_of(case));
            shared.result = None;
            assert_eq!(libc::raise(libc::SIGUSR1), 0);
            let (context, image) =
                (*SHARED.0.get()).result.take().expect("the instruction ended in a signal");
            let memory = std::slice::from_raw_parts(DATA as *const u8, DATA_SIZE).to_vec();
            result_of(case, &context, &image, memory)
        }
    }
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

/// How this processor lays out the image in a signal's frame.
fn host_layout() -> Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    *LAYOUT.get_or_init(|| {
        Layout::from_cpuid(|subleaf| {
            let r = std::arch::x86_64::__cpuid_count(0xd, subleaf);
            Some([r.eax, r.ebx, r.ecx])
        })
    })
}

fn frame_of(case: &Case) -> (libc::mcontext_t, [u8; IMAGE]) {
    // SAFETY: plain integers and a pointer that is not used.
    let mut c: libc::mcontext_t = unsafe { std::mem::zeroed() };
    for (n, r) in GREGS.into_iter().enumerate() {
        c.gregs[r as usize] = case.state.gpr[n] as i64;
    }
    c.gregs[libc::REG_RIP as usize] = case.state.rip as i64;
    c.gregs[libc::REG_EFL as usize] = (case.state.rflags | rflags::TF | rflags::IF) as i64;
    let mut image = [0; IMAGE];
    case.state.vec.to_standard(&host_layout(), 0xe7, &mut image).expect("the image is large enough");
    (c, image)
}

fn result_of(case: &Case, c: &libc::mcontext_t, image: &[u8; IMAGE], memory: Vec<u8>) -> Result {
    let mut state = case.state.clone();
    for (n, r) in GREGS.into_iter().enumerate() {
        state.gpr[n] = c.gregs[r as usize] as u64;
    }
    state.rip = c.gregs[libc::REG_RIP as usize] as u64;
    state.rflags = c.gregs[libc::REG_EFL as usize] as u64;
    state.vec = VectorState::from_standard(&host_layout(), image).expect("the kernel's image is good");
    let vector = c.gregs[libc::REG_TRAPNO as usize] as u8;
    let code = c.gregs[libc::REG_ERR as usize] as u32;
    let cr2 = if vector == 14 { c.gregs[libc::REG_CR2 as usize] as u64 } else { 0 };
    let code = if matches!(vector, 10..=14 | 17) { code } else { 0 };
    Result { state, trap: (vector, code, cr2), memory }
}

unsafe fn handle(signal: i32, handler: usize) {
    // SAFETY: a valid handler, on the alternative stack.
    unsafe {
        let mut a: libc::sigaction = std::mem::zeroed();
        a.sa_sigaction = handler;
        a.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(signal, &a, std::ptr::null_mut()), 0);
    }
}

/// Copies a frame's registers out.
unsafe fn take(u: *const libc::ucontext_t) -> (libc::mcontext_t, [u8; IMAGE]) {
    // SAFETY: the kernel's frame, whose vector image is at least IMAGE bytes (AVX-512 and what lies before it) or is
    // followed by more stack.
    unsafe {
        let c = (*u).uc_mcontext;
        let image = c.fpregs.cast::<[u8; IMAGE]>().read_unaligned();
        (c, image)
    }
}

/// Writes registers into a frame; segment registers, and what the kernel keeps in the image's reserved bytes, stay.
unsafe fn put(u: *mut libc::ucontext_t, c: &libc::mcontext_t, image: &[u8; IMAGE]) {
    // SAFETY: as in `take`.
    unsafe {
        let to = &mut (*u).uc_mcontext;
        for r in GREGS.into_iter().chain([libc::REG_RIP, libc::REG_EFL]) {
            to.gregs[r as usize] = c.gregs[r as usize];
        }
        let fp = to.fpregs.cast::<u8>();
        std::ptr::copy_nonoverlapping(image.as_ptr(), fp, 464);
        std::ptr::copy_nonoverlapping(image.as_ptr().add(512), fp.add(512), xstate_size(fp).min(IMAGE) - 512);
    }
}

/// Size of the image in a frame, from the words that the kernel leaves in its reserved bytes.
unsafe fn xstate_size(fp: *const u8) -> usize {
    // SAFETY: inside the legacy area.
    unsafe { fp.add(464 + 16).cast::<u32>().read_unaligned() as usize }
}

unsafe extern "C" fn enter(_: i32, _: *mut libc::siginfo_t, u: *mut libc::c_void) {
    // SAFETY: the thread that raised the signal holds ONE.
    unsafe {
        let shared = &mut *SHARED.0.get();
        shared.home = Some(take(u.cast()));
        if let Some((c, image)) = &shared.to_run {
            put(u.cast(), c, image);
        }
    }
}

unsafe extern "C" fn leave(signal: i32, _: *mut libc::siginfo_t, u: *mut libc::c_void) {
    // SAFETY: as in `enter`. Without a home the fault is the test's own: the default action tells.
    unsafe {
        let shared = &mut *SHARED.0.get();
        let Some((c, image)) = shared.home.take() else {
            libc::signal(signal, libc::SIG_DFL);
            return;
        };
        shared.result = Some(take(u.cast()));
        put(u.cast(), &c, &image);
    }
}
