//! Writes x86-64 host instructions: the few forms that the translator needs.
//!
//! Pure: bytes into a vector, branches by labels. Called by `lower.rs`; knows nothing of guests. Its tests have
//! iced-x86 read back what was written.

/// A host register, by number. RSP and R12 as base cost a SIB byte, which is taken care of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reg(pub u8);

pub(super) const RAX: Reg = Reg(0);
pub(super) const RCX: Reg = Reg(1);
pub(super) const RDX: Reg = Reg(2);
pub(super) const RBX: Reg = Reg(3);
pub(super) const RSP: Reg = Reg(4);
pub(super) const RBP: Reg = Reg(5);
pub(super) const RSI: Reg = Reg(6);
pub(super) const RDI: Reg = Reg(7);
pub(super) const R8: Reg = Reg(8);
pub(super) const R9: Reg = Reg(9);
pub(super) const R10: Reg = Reg(10);
pub(super) const R12: Reg = Reg(12);

/// A host memory operand: base, index times scale (1, 2, 4, 8; 0 for none), displacement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mem {
    pub base: Reg,
    pub index: Reg,
    pub scale: u8,
    pub disp: i32,
}

/// `[base + disp]`.
pub(super) const fn at(base: Reg, disp: i32) -> Mem {
    Mem { base, index: RAX, scale: 0, disp }
}

/// `[base + index * scale + disp]`.
pub(super) const fn indexed(base: Reg, index: Reg, scale: u8, disp: i32) -> Mem {
    Mem { base, index, scale, disp }
}

/// Two-operand operations by their number in the opcode map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts by their number in group 2.
pub(super) const SHL: u8 = 4;
pub(super) const SHR: u8 = 5;
pub(super) const SAR: u8 = 7;

/// A place in the code, perhaps not reached yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// Code being written. Sizes are in bytes: 1, 2, 4 or 8; operations of 4 clear the upper half of their register.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    pub code: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// Where a distance of four bytes is still to be written, and to which label.
    jumps: Vec<(usize, usize)>,
}

impl Emitter {
    pub fn clear(&mut self) {
        self.code.clear();
        self.labels.clear();
        self.jumps.clear();
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Fills in all branches; every label has been bound.
    pub fn finish(&mut self) {
        for &(from, label) in &self.jumps {
            let to = self.labels[label].expect("a branch leads to a place");
            let distance = to as i64 - (from as i64 + 4);
            self.code[from..from + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
    }

    fn dword(&mut self, v: i32) {
        self.code.extend(v.to_le_bytes());
    }

    /// Prefixes. Operations on bytes always have a REX prefix, so that SIL and DIL are never DH and BH.
    fn prefix(&mut self, size: u8, reg: u8, index: u8, base: u8) {
        if size == 2 {
            self.code.push(0x66);
        }
        let rex = u8::from(size == 8) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0 || size == 1 {
            self.code.push(0x40 | rex);
        }
    }

    fn opcode(&mut self, opcode: u16) {
        if opcode > 0xff {
            self.code.push((opcode >> 8) as u8);
        }
        self.code.push(opcode as u8);
    }

    /// An opcode whose ModRM names two registers; for operations on bytes, `opcode` is theirs.
    fn rr(&mut self, size: u8, opcode: u16, reg: u8, rm: Reg) {
        self.prefix(size, reg, 0, rm.0);
        self.opcode(opcode);
        self.code.push(0xc0 | (reg & 7) << 3 | rm.0 & 7);
    }

    /// An opcode whose ModRM names a register and memory.
    fn rm(&mut self, size: u8, opcode: u16, reg: u8, m: Mem) {
        let indexed = m.scale != 0;
        self.prefix(size, reg, if indexed { m.index.0 } else { 0 }, m.base.0);
        self.opcode(opcode);
        let short = i8::try_from(m.disp).is_ok();
        let mode = if short { 0x40 } else { 0x80 };
        let reg = (reg & 7) << 3;
        if indexed {
            self.code.push(mode | reg | 4);
            self.code.push((m.scale.trailing_zeros() as u8) << 6 | (m.index.0 & 7) << 3 | m.base.0 & 7);
        } else {
            self.code.push(mode | reg | m.base.0 & 7);
            if m.base.0 & 7 == 4 {
                self.code.push(0x24);
            }
        }
        if short {
            self.code.push(m.disp as u8);
        } else {
            self.dword(m.disp);
        }
    }

    pub fn mov(&mut self, size: u8, to: Reg, from: Reg) {
        self.rr(size, if size == 1 { 0x88 } else { 0x89 }, from.0, to);
    }

    /// Loads; 1 and 2 bytes are zero-extended.
    pub fn load(&mut self, size: u8, to: Reg, from: Mem) {
        match size {
            1 => self.rm(4, 0x0fb6, to.0, from),
            2 => self.rm(4, 0x0fb7, to.0, from),
            _ => self.rm(size, 0x8b, to.0, from),
        }
    }

    pub fn store(&mut self, size: u8, to: Mem, from: Reg) {
        self.rm(size, if size == 1 { 0x88 } else { 0x89 }, from.0, to);
    }

    /// Stores a constant of 1, 4 or 8 bytes; 8 are those of `v`, sign-extended.
    pub fn store_constant(&mut self, size: u8, to: Mem, v: i32) {
        self.rm(size, if size == 1 { 0xc6 } else { 0xc7 }, 0, to);
        if size == 1 {
            self.code.push(v as u8);
        } else {
            self.dword(v);
        }
    }

    /// All 64 bits.
    pub fn constant(&mut self, to: Reg, v: u64) {
        if let Ok(short) = u32::try_from(v) {
            self.prefix(4, 0, 0, to.0);
            self.code.push(0xb8 | to.0 & 7);
            self.dword(short as i32);
        } else if let Ok(short) = i32::try_from(v as i64) {
            self.rr(8, 0xc7, 0, to);
            self.dword(short);
        } else {
            self.prefix(8, 0, 0, to.0);
            self.code.push(0xb8 | to.0 & 7);
            self.code.extend(v.to_le_bytes());
        }
    }

    /// Extends the low `from_size` bytes (1, 2, 4) of a register to `size` bytes (4, 8).
    pub fn extend(&mut self, size: u8, to: Reg, from: Reg, from_size: u8, signed: bool) {
        match (from_size, signed) {
            // A REX prefix for the byte's sake does no harm to the others.
            (1, _) => {
                let rex = u8::from(size == 8) << 3 | (to.0 >> 3) << 2 | from.0 >> 3;
                self.code.extend([0x40 | rex, 0x0f, if signed { 0xbe } else { 0xb6 }]);
                self.code.push(0xc0 | (to.0 & 7) << 3 | from.0 & 7);
            }
            (2, true) => self.rr(size, 0x0fbf, to.0, from),
            (2, false) => self.rr(4, 0x0fb7, to.0, from),
            (_, true) if size == 8 => self.rr(8, 0x63, to.0, from),
            _ => self.mov(4, to, from),
        }
    }

    pub fn lea(&mut self, to: Reg, m: Mem) {
        self.rm(8, 0x8d, to.0, m);
    }

    pub fn alu(&mut self, size: u8, op: Alu, to: Reg, from: Reg) {
        self.rr(size, (op as u16) << 3 | u16::from(size != 1), from.0, to);
    }

    pub fn alu_load(&mut self, op: Alu, to: Reg, from: Mem) {
        self.rm(8, (op as u16) << 3 | 3, to.0, from);
    }

    /// With a constant, sign-extended to 8 bytes; sizes 4 and 8.
    pub fn alu_constant(&mut self, size: u8, op: Alu, to: Reg, v: i32) {
        let short = i8::try_from(v).is_ok();
        self.rr(size, if short { 0x83 } else { 0x81 }, op as u8, to);
        if short {
            self.code.push(v as u8);
        } else {
            self.dword(v);
        }
    }

    /// Subtracts a constant from 8 bytes of memory.
    pub fn subtract_from(&mut self, m: Mem, v: i8) {
        self.rm(8, 0x83, Alu::Sub as u8, m);
        self.code.push(v as u8);
    }

    /// Compares a byte of memory with zero.
    pub fn cmp_zero_byte(&mut self, m: Mem) {
        self.rm(1, 0x80, Alu::Cmp as u8, m);
        self.code.push(0);
    }

    /// Compares 8 bytes of memory with zero.
    pub fn cmp_zero(&mut self, m: Mem) {
        self.rm(8, 0x83, Alu::Cmp as u8, m);
        self.code.push(0);
    }

    pub fn test(&mut self, size: u8, a: Reg, b: Reg) {
        self.rr(size, if size == 1 { 0x84 } else { 0x85 }, b.0, a);
    }

    pub fn not(&mut self, to: Reg) {
        self.rr(8, 0xf7, 2, to);
    }

    pub fn neg(&mut self, size: u8, to: Reg) {
        self.rr(size, if size == 1 { 0xf6 } else { 0xf7 }, 3, to);
    }

    /// A shift of 4 or 8 bytes by a constant.
    pub fn shift(&mut self, size: u8, kind: u8, to: Reg, by: u8) {
        self.rr(size, 0xc1, kind, to);
        self.code.push(by);
    }

    /// Sets a byte register to whether condition `cc` holds.
    pub fn set(&mut self, cc: u8, to: Reg) {
        self.rr(1, 0x0f90 | u16::from(cc), 0, to);
    }

    pub fn jump(&mut self, to: Label) {
        self.code.push(0xe9);
        self.distance(to);
    }

    pub fn jump_if(&mut self, cc: u8, to: Label) {
        self.code.extend([0x0f, 0x80 | cc]);
        self.distance(to);
    }

    /// Calls code elsewhere, `distance` bytes from the start of what is being written.
    pub fn call_far(&mut self, distance: i64) {
        self.code.push(0xe8);
        self.dword((distance - (self.code.len() as i64 + 4)) as i32);
    }

    pub fn jump_far_if(&mut self, cc: u8, distance: i64) {
        self.code.extend([0x0f, 0x80 | cc]);
        self.dword((distance - (self.code.len() as i64 + 4)) as i32);
    }

    pub fn jump_memory(&mut self, m: Mem) {
        self.rm(4, 0xff, 4, m);
    }

    pub fn call_register(&mut self, to: Reg) {
        self.rr(4, 0xff, 2, to);
    }

    pub fn push(&mut self, r: Reg) {
        self.prefix(4, 0, 0, r.0);
        self.code.push(0x50 | r.0 & 7);
    }

    pub fn pop(&mut self, r: Reg) {
        self.prefix(4, 0, 0, r.0);
        self.code.push(0x58 | r.0 & 7);
    }

    pub fn ret(&mut self) {
        self.code.push(0xc3);
    }

    fn distance(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to.0));
        self.dword(0);
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};

    use super::*;

    /// What iced-x86 reads in what was written: each instruction's name and operands.
    fn read(write: impl FnOnce(&mut Emitter)) -> Vec<String> {
        let mut e = Emitter::default();
        write(&mut e);
        e.finish();
        Decoder::with_ip(64, &e.code, 0, DecoderOptions::NONE).into_iter().map(|i| text(&i)).collect()
    }

    fn text(i: &Instruction) -> String {
        let operands: Vec<String> = (0..i.op_count()).map(|n| operand(i, n)).collect();
        format!("{:?} {}", i.mnemonic(), operands.join(", ")).trim_end().to_lowercase()
    }

    fn operand(i: &Instruction, n: u32) -> String {
        match i.op_kind(n) {
            OpKind::Register => format!("{:?}", i.op_register(n)),
            OpKind::Memory => {
                let index = match i.memory_index() {
                    Register::None => String::new(),
                    index => format!("+{index:?}*{}", i.memory_index_scale()),
                };
                let disp = i.memory_displacement64() as i64;
                format!("{:?} [{:?}{index}{disp:+}]", i.memory_size(), i.memory_base())
            }
            OpKind::NearBranch64 => format!("{:x}", i.near_branch64()),
            _ => format!("{:x}", i.immediate(n)),
        }
    }

    #[test]
    fn registers_and_memory_are_the_ones_that_were_meant() {
        let all = [RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8, R9, R10, R12];
        let names = ["rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r12"];
        for (r, name) in all.into_iter().zip(names) {
            assert_eq!(read(|e| e.load(8, R9, at(r, 8))), [format!("mov r9, uint64 [{name}+8]")]);
            assert_eq!(read(|e| e.load(8, r, at(RBX, 0x1234))), [format!("mov {name}, uint64 [rbx+4660]")]);
            assert_eq!(
                read(|e| e.lea(r, indexed(r, RCX, 4, -1))),
                [format!("lea {name}, unknown [{name}+rcx*4-1]")]
            );
            assert_eq!(read(|e| e.alu(8, Alu::Cmp, r, R9)), [format!("cmp {name}, r9")]);
            assert_eq!(
                read(|e| e.alu_load(Alu::Xor, r, at(R12, 0))),
                [format!("xor {name}, uint64 [r12+0]")]
            );
        }
        assert_eq!(read(|e| e.load(8, R8, indexed(R12, R10, 8, 0))), ["mov r8, uint64 [r12+r10*8+0]"]);
    }

    #[test]
    fn sizes_are_the_ones_that_were_meant() {
        assert_eq!(read(|e| e.store(1, at(RDX, 0), RSI)), ["mov uint8 [rdx+0], sil"]);
        assert_eq!(read(|e| e.store(4, at(RDX, 0), R8)), ["mov uint32 [rdx+0], r8d"]);
        assert_eq!(read(|e| e.load(1, R8, at(RDX, 0))), ["movzx r8d, uint8 [rdx+0]"]);
        assert_eq!(read(|e| e.load(2, R8, at(RDX, 0))), ["movzx r8d, uint16 [rdx+0]"]);
        assert_eq!(read(|e| e.alu(1, Alu::Or, RDI, R8)), ["or dil, r8l"]);
        assert_eq!(read(|e| e.test(1, R10, R10)), ["test r10l, r10l"]);
        assert_eq!(read(|e| e.set(4, RDI)), ["sete dil"]);
        assert_eq!(read(|e| e.neg(1, R10)), ["neg r10l"]);
        assert_eq!(read(|e| e.extend(8, R8, R9, 1, true)), ["movsx r8, r9l"]);
        assert_eq!(read(|e| e.extend(4, RAX, RSI, 1, false)), ["movzx eax, sil"]);
        assert_eq!(read(|e| e.extend(8, R8, R9, 2, true)), ["movsx r8, r9w"]);
        assert_eq!(read(|e| e.extend(8, R8, R9, 4, true)), ["movsxd r8, r9d"]);
        assert_eq!(read(|e| e.extend(8, R8, R9, 4, false)), ["mov r8d, r9d"]);
        assert_eq!(read(|e| e.shift(4, SAR, R10, 31)), ["sar r10d, 1f"]);
        assert_eq!(read(|e| e.subtract_from(at(RBX, 0x400), 32)), ["sub uint64 [rbx+1024], 20"]);
        assert_eq!(read(|e| e.cmp_zero_byte(at(RAX, 0))), ["cmp uint8 [rax+0], 0"]);
        assert_eq!(read(|e| e.jump_memory(at(RDX, 0))), ["jmp qwordoffset [rdx+0]"]);
    }

    #[test]
    fn constants_keep_their_value() {
        for (v, text) in [
            (0, "mov r9d, 0"),
            (0xffff_ffff, "mov r9d, ffffffff"),
            (u64::MAX, "mov r9, ffffffffffffffff"),
            (0xffff_ffff_8000_0000, "mov r9, ffffffff80000000"),
            (0x1_0000_0000, "mov r9, 100000000"),
        ] {
            assert_eq!(read(|e| e.constant(R9, v)), [text]);
        }
        assert_eq!(read(|e| e.alu_constant(8, Alu::And, RCX, -4096)), ["and rcx, fffffffffffff000"]);
    }

    #[test]
    fn branches_lead_to_their_labels() {
        let code = read(|e| {
            let (on, back) = (e.label(), e.label());
            e.bind(back);
            e.jump_if(5, on);
            e.jump(back);
            e.bind(on);
            e.ret();
        });
        assert_eq!(code, ["jne b", "jmp 0", "ret"]);
        assert_eq!(read(|e| e.call_far(-0x100)), ["call ffffffffffffff00"]);
    }
}
