//! Random programs of a few instructions: branches, calls, a loop, code that changes itself. All end by themselves.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic as N, OpAccess,
    Register,
};

use minivmm::cpu::CpuState;
use minivmm::cpu::state::{gpr, rflags as rf};

use crate::generate::{Rng, excluded, memory, operand_address};
use crate::machine::{INT3, PROGRAM, PROGRAM_SIZE, user_state};
use crate::mask::to_rflags;
use crate::pieces::{Count, count, encoding, is_wanted, number, open_behind};

/// What the program starts from, and what is known of it.
pub struct Program {
    pub code: Vec<u8>,
    pub state: CpuState,
    pub memory: Vec<u8>,
    /// Where instructions begin, and which status flags the SDM leaves open there, whatever way led there.
    pub steps: Vec<(u64, u64)>,
    /// It changes its own code.
    pub changes_itself: bool,
    /// It pushes RFLAGS.
    pub shows_flags: bool,
    /// Where repeated string instructions are, in `code`.
    repeated: Vec<std::ops::Range<usize>>,
}

impl Program {
    /// Whether a repeated string instruction was written over, perhaps by itself: how many repetitions the processor does
    /// before it reads the instruction again is its own affair. `pages` are those of the program, afterwards.
    pub fn changes_a_repetition(&self, pages: &[u8]) -> bool {
        let start = (self.state.rip - PROGRAM) as usize;
        self.repeated.iter().any(|r| pages[start + r.start..start + r.end] != self.code[r.clone()])
    }

    /// Which status flags the SDM leaves open when the program stops at `rip`.
    pub fn open_flags(&self, rip: u64) -> u64 {
        self.steps.iter().find(|(at, _)| *at == rip).map_or(rf::STATUS, |(_, open)| *open)
    }
}

/// Registers that hold addresses from the start to the end, and the small index.
const ADDRESSES: [usize; 5] = [gpr::RBX, gpr::RBP, 12, 13, 14];
const INDEX: usize = 15;

/// A branch, or an address, that is not known yet.
struct Pending {
    /// Where its distance is, and how many bytes that has.
    at: usize,
    size: usize,
    /// The slot that it leads to.
    slot: usize,
    open: u64,
}

struct Builder<'a> {
    rng: &'a mut Rng,
    info: InstructionInfoFactory,
    start: u64,
    code: Vec<u8>,
    /// Status flags that the SDM leaves open here.
    open: u64,
    steps: Vec<(u64, u64)>,
    pending: Vec<Pending>,
    /// Immediates that may be changed: where, how many bytes.
    immediates: Vec<(usize, usize)>,
    /// Stores to code: where the distance is, how many bytes lie behind it, how many are stored.
    changes: Vec<(usize, usize, usize)>,
    /// Slots of the loop's body.
    body: std::ops::Range<usize>,
    slots: usize,
    slot: usize,
    shows_flags: bool,
    repeated: Vec<std::ops::Range<usize>>,
}

/// One random program.
pub fn program(rng: &mut Rng) -> Program {
    let slots = 2 + rng.below(10) as usize;
    let first = rng.below(slots as u64) as usize;
    let body = if rng.below(3) == 0 {
        first..(first + 1 + rng.below(4) as usize).min(slots)
    } else {
        slots + 1..slots + 1
    };
    let offset = match rng.below(4) {
        0 => 4096 - rng.below(40),
        1 => rng.below(64),
        _ => rng.below(4096),
    };
    let mut b = Builder {
        info: InstructionInfoFactory::new(),
        start: PROGRAM + offset,
        code: Vec::new(),
        open: 0,
        steps: Vec::new(),
        pending: Vec::new(),
        immediates: Vec::new(),
        changes: Vec::new(),
        body,
        slots,
        slot: 0,
        shows_flags: false,
        repeated: Vec::new(),
        rng,
    };
    b.all();
    let Builder { code, steps, changes, shows_flags, repeated, rng, start, .. } = b;
    let mut state = state(rng);
    state.rip = start;
    let target = operand_address(rng);
    let memory = memory(rng, target);
    Program { code, state, memory, steps, changes_itself: !changes.is_empty(), shows_flags, repeated }
}

fn state(rng: &mut Rng) -> CpuState {
    let mut s = user_state();
    for r in &mut s.gpr {
        *r = rng.value();
    }
    for n in ADDRESSES.into_iter().chain([gpr::RSI, gpr::RDI, 8]) {
        s.gpr[n] = operand_address(rng);
    }
    s.gpr[INDEX] = rng.below(64).wrapping_sub(8);
    s.gpr[gpr::RSP] =
        if rng.below(12) == 0 { operand_address(rng) } else { operand_address(rng) & !7 | 0x100 };
    s.rflags = rf::FIXED | rf::IF | rng.next() & rf::STATUS;
    if rng.below(8) == 0 {
        s.rflags |= rf::DF;
    }
    s
}

impl Builder<'_> {
    fn all(&mut self) {
        let mut head = 0;
        for slot in 0..self.slots {
            self.slot = slot;
            self.bind();
            if slot == self.body.start {
                // mov ecx, n
                self.step();
                self.code.push(0xb9);
                let rounds = 1 + self.rng.below(5) as u32;
                self.code.extend(rounds.to_le_bytes());
                head = self.code.len();
                // Whatever comes round.
                self.open = rf::STATUS;
            }
            match self.rng.below(12) {
                0..=2 => self.branch(),
                3 if self.rng.below(3) == 0 => self.change(),
                4 if self.rng.below(3) == 0 && !self.body.contains(&slot) => self.repeated(),
                _ => self.instruction(),
            }
            if slot + 1 == self.body.end {
                // dec ecx; jnz head
                self.step();
                self.code.extend([0xff, 0xc9]);
                self.open &= rf::CF;
                self.step();
                self.code.extend([0x0f, 0x85]);
                let distance = head as i32 - (self.code.len() as i32 + 4);
                self.code.extend(distance.to_le_bytes());
            }
        }
        self.slot = self.slots;
        self.bind();
        self.step();
        self.code.push(INT3);
        let behind = self.start + self.code.len() as u64;
        self.steps.push((behind, self.open));
        for (at, behind, size) in std::mem::take(&mut self.changes) {
            let fitting: Vec<usize> = self.immediates.iter().filter(|i| i.1 >= size).map(|i| i.0).collect();
            // Else the breakpoint at the end, by itself.
            let target = match fitting.len() {
                0 => self.code.len() - 1,
                n => fitting[self.rng.below(n as u64) as usize],
            };
            if fitting.is_empty() {
                self.code[at + 4..at + 4 + size].fill(INT3);
            }
            let distance = target as i32 - (at + 4 + behind) as i32;
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            self.changes.push((at, behind, size));
        }
        assert!(self.code.len() + 4096 <= PROGRAM_SIZE);
    }

    /// An instruction begins here.
    fn step(&mut self) {
        self.steps.push((self.start + self.code.len() as u64, self.open));
    }

    /// Branches to this slot lead here.
    fn bind(&mut self) {
        let here = self.code.len();
        for p in &self.pending {
            if p.slot == self.slot {
                let distance = (here - (p.at + p.size)) as i32;
                assert!(p.size == 4 || distance < 128);
                self.code[p.at..p.at + p.size].copy_from_slice(&distance.to_le_bytes()[..p.size]);
                self.open |= p.open;
            }
        }
        self.pending.retain(|p| p.slot != self.slot);
    }

    /// Four bytes, or one, that lead to a later slot: never into the loop past its beginning.
    fn distance(&mut self, size: usize) {
        let reach = if size == 1 { 1 } else { (self.slots - self.slot) as u64 };
        let mut slot = self.slot + 1 + self.rng.below(reach) as usize;
        if self.slot < self.body.start && slot > self.body.start && slot < self.body.end {
            slot = self.body.start;
        }
        self.pending.push(Pending { at: self.code.len(), size, slot, open: self.open });
        self.code.extend(&[0; 4][..size]);
    }

    fn branch(&mut self) {
        let cc = self.rng.below(16) as u8;
        match self.rng.below(12) {
            0..=5 if self.is_known(0x70 | cc) => {
                self.step();
                if self.rng.below(3) == 0 {
                    self.code.push(0x70 | cc);
                    self.distance(1);
                } else {
                    self.code.extend([0x0f, 0x80 | cc]);
                    self.distance(4);
                }
            }
            0..=5 => self.instruction(),
            6 => {
                self.step();
                self.code.push([0xe9, 0xe8][self.rng.below(2) as usize]);
                self.distance(4);
            }
            7 => {
                self.step();
                self.code.push([0xeb, 0xe3][self.rng.below(2) as usize]);
                self.distance(1);
            }
            // lea rax, [rip + there], and by it.
            way => {
                self.step();
                self.code.extend([0x48, 0x8d, 0x05]);
                self.distance(4);
                let parts: &[&[u8]] = match way {
                    8 => &[&[0xff, 0xe0]],
                    9 => &[&[0xff, 0xd0]],
                    10 => &[&[0x50], &[0xc2, 8, 0]],
                    // mov [rbx + 8], rax; jmp [rbx + 8]
                    _ => &[&[0x48, 0x89, 0x43, 8], &[0xff, 0x63, 8]],
                };
                for part in parts {
                    self.step();
                    self.code.extend(*part);
                }
            }
        }
    }

    /// Whether the flags that a conditional branch looks at are known here.
    fn is_known(&self, opcode: u8) -> bool {
        let i = Decoder::new(64, &[opcode, 0], DecoderOptions::NONE).decode();
        to_rflags(i.rflags_read()) & self.open == 0
    }

    /// A store to the immediate of some instruction.
    fn change(&mut self) {
        self.step();
        let size = [1, 4][self.rng.below(2) as usize];
        self.code.extend([if size == 1 { 0xc6 } else { 0xc7 }, 5]);
        self.changes.push((self.code.len(), size, size));
        let value = self.rng.value();
        self.code.extend([0; 4]);
        self.code.extend(&value.to_le_bytes()[..size]);
    }

    /// A repeated string instruction, with a count. Not CMPS: which of two faults comes first is the processor's affair.
    fn repeated(&mut self) {
        self.step();
        self.code.push(0xb9);
        let count = self.rng.below(24) as u32;
        self.code.extend(count.to_le_bytes());
        let compares = self.rng.below(3) == 0;
        let begin = self.code.len();
        // A fault half-way leaves the flags as they were (SDM vol. 2, SCAS); AMD's processors have changed them.
        let known = self.open;
        self.open = if compares { rf::STATUS } else { known };
        self.step();
        self.open = known;
        self.code.push([0xf3, 0xf2][if compares { self.rng.below(2) as usize } else { 0 }]);
        if self.rng.below(2) == 0 {
            self.code.push(0x48);
        }
        let opcodes = if compares { [0xae, 0xaf, 0xae, 0xaf] } else { [0xa4, 0xa5, 0xaa, 0xab] };
        self.code.push(opcodes[self.rng.below(4) as usize]);
        self.repeated.push(begin..self.code.len());
    }

    /// One instruction that is no branch, and whose every effect is defined.
    fn instruction(&mut self) {
        loop {
            let mut bytes = encoding(self.rng);
            let at = self.start + self.code.len() as u64;
            let mut decoder = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE);
            let i = decoder.decode();
            if i.is_invalid() || !self.accepts(&i) {
                continue;
            }
            let offsets = decoder.get_constant_offsets(&i);
            if offsets.has_displacement() && offsets.displacement_size() >= 4 {
                let target = operand_address(self.rng);
                let d = match i.memory_base() {
                    Register::None => target,
                    Register::RIP | Register::EIP => target.wrapping_sub(at + i.len() as u64),
                    _ => self.rng.below(256).wrapping_sub(128),
                };
                let (from, size) = (offsets.displacement_offset(), offsets.displacement_size());
                bytes[from..from + size].copy_from_slice(&d.to_le_bytes()[..size]);
            }
            let shift = matches!(count(&i), Count::None);
            if offsets.has_immediate() && !offsets.has_immediate2() && shift && i.mnemonic() != N::Push {
                let from = self.code.len() + offsets.immediate_offset();
                self.immediates.push((from, offsets.immediate_size()));
            }
            self.step();
            self.shows_flags |= matches!(i.mnemonic(), N::Pushfq | N::Pushf);
            self.code.extend(&bytes[..i.len()]);
            self.open = open_behind(&i, self.open);
            return;
        }
    }

    fn accepts(&mut self, i: &Instruction) -> bool {
        if i.flow_control() != FlowControl::Next || excluded(i) || !is_wanted(i) {
            return false;
        }
        if to_rflags(i.rflags_read()) & self.open != 0 {
            return false;
        }
        let (base, index) = (i.memory_base(), i.memory_index());
        let reaches = base == Register::None
            || base.is_ip()
            || ADDRESSES.contains(&number(base))
            || matches!(number(base), gpr::RSP | gpr::RSI | gpr::RDI);
        let near = index == Register::None || number(index) == INDEX;
        if i.mnemonic() != N::Lea && !(reaches && near) && self.rng.below(16) != 0 {
            return false;
        }
        let wild = self.rng.below(40) == 0;
        let counter = self.body.contains(&self.slot);
        self.info.info(i).used_registers().iter().all(|used| {
            let writes =
                !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            if !writes || !used.register().is_gpr() {
                return true;
            }
            match number(used.register()) {
                gpr::RCX => !counter,
                gpr::RSP => {
                    let popped = i.mnemonic() == N::Pop && number(i.op0_register()) == gpr::RSP;
                    wild || i.is_stack_instruction() && !popped
                }
                n => wild || !(ADDRESSES.contains(&n) || n == INDEX),
            }
        })
    }
}
