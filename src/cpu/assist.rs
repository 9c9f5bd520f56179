//! Exactly one instruction: what `accel/kvm` asks for when KVM's emulator gave up.
//!
//! Fetches, decodes, executes, and says how it went. Never delivers an exception itself: under KVM that is the
//! kernel's part.

use iced_x86::Mnemonic;

use super::decode::{decode, lower};
use super::exceptions::{Exception, Stop, vector};
use super::machine::Machine;
use super::state::{rflags, seg};
use super::{Cpu, cpuid, exec};

/// How one instruction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; RIP points past it. Also a string instruction that did part of its work: RIP then points at it still.
    Retired,
    /// It raised an exception: nothing has changed, RIP points at it. CR2 is for the caller to set.
    Exception(Exception),
    /// Complete, RIP past it, and an exception is to be delivered now: INT3, INTO, or #DB by RFLAGS.TF.
    Trap(Exception),
    /// INT n: RIP past it, deliver this vector as a software interrupt.
    SoftwareInterrupt(u8),
    /// HLT, complete.
    Halt,
    /// Not implemented here; nothing has changed.
    Unsupported(Unsupported),
}

/// An instruction that `cpu/` does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {mnemonic:?} ({}) at {rip:#x} is not supported", hex(&self.bytes[..self.len as usize]))]
pub struct Unsupported {
    pub bytes: [u8; 15],
    /// How many of `bytes` belong to the instruction.
    pub len: u8,
    pub rip: u64,
    pub mnemonic: Mnemonic,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

impl Cpu {
    /// Executes the instruction at CS:RIP. `hint` holds its bytes, if the caller has them already (at least the whole
    /// instruction; more does no harm); otherwise they are read through the page tables.
    ///
    /// Drops the TLB first, since the caller has had the state in other hands. Bounded: a REP instruction does at most
    /// a page's worth of work per call and is then [`Outcome::Retired`] with RIP unmoved.
    pub fn run_one<M: Machine>(&mut self, m: &mut M, hint: Option<&[u8]>) -> Outcome {
        self.flush_tlb();
        self.enter();
        self.careful = true;
        let outcome = self.step(m, hint);
        self.leave();
        outcome
    }

    pub(super) fn step<M: Machine>(&mut self, m: &mut M, hint: Option<&[u8]>) -> Outcome {
        let start = self.state.rip;
        let trap_flag = self.state.rflags & rflags::TF != 0;
        let (i, bytes) = match self.fetch_one(m, hint) {
            Ok(found) => found,
            Err(_) => return Outcome::Exception(self.fault),
        };
        if i.is_invalid() || self.announced_only && !cpuid::announces(&i) {
            return Outcome::Exception(Exception::plain(vector::UD));
        }
        let Some(op) = lower::<M>(&i, &bytes, self.bits) else {
            let (len, mnemonic) = (i.len() as u8, i.mnemonic());
            return Outcome::Unsupported(Unsupported { bytes, len, rip: start, mnemonic });
        };
        self.start = start;
        self.stack_switch = false;
        self.state.rip = exec::wrap_ip(start.wrapping_add(op.len as u64), self.bits);
        let done = (op.f)(self, m, &op);
        if matches!(done, Err(Stop::Fault | Stop::Again | Stop::Unsupported | Stop::Careful)) {
            self.state.rip = start;
        }
        match done {
            Ok(()) | Err(Stop::Pause | Stop::Trap | Stop::Interrupt | Stop::Halt) => {
                self.state.rflags &= !rflags::RF;
            }
            Err(Stop::Again) => self.goes_on_after_breakpoint(),
            Err(Stop::Fault | Stop::Careful | Stop::Unsupported) => {}
        }
        match done {
            Ok(()) | Err(Stop::Pause | Stop::Again) => match self.traps(trap_flag) {
                0 => Outcome::Retired,
                why => Outcome::Trap(self.debug_exception(why)),
            },
            Err(Stop::Careful) => Outcome::Retired,
            Err(Stop::Fault) => Outcome::Exception(self.memory_fault(&op)),
            Err(Stop::Trap) => Outcome::Trap(self.fault),
            Err(Stop::Interrupt) => Outcome::SoftwareInterrupt(self.fault.vector),
            Err(Stop::Halt) => Outcome::Halt,
            Err(Stop::Unsupported) => {
                let (len, mnemonic) = (i.len() as u8, i.mnemonic());
                Outcome::Unsupported(Unsupported { bytes, len, rip: start, mnemonic })
            }
        }
    }

    /// The bytes at CS:RIP, decoded.
    fn fetch_one<M: Machine>(
        &mut self,
        m: &mut M,
        hint: Option<&[u8]>,
    ) -> Result<(iced_x86::Instruction, [u8; 15]), Stop> {
        let mut bytes = [0; 15];
        let ip = self.state.rip;
        if let Some(hint) = hint {
            let n = hint.len().min(15);
            bytes[..n].copy_from_slice(&hint[..n]);
            if let Some(i) = decode(&bytes[..n], self.bits, ip) {
                return Ok((i, bytes));
            }
        }
        let mut have = 0;
        while have < 15 {
            let at = self.code_address(ip.wrapping_add(have as u64))?;
            have += self.fetch(m, at, &mut bytes[have..])?;
            if let Some(i) = decode(&bytes[..have], self.bits, ip) {
                return Ok((i, bytes));
            }
        }
        // Longer than 15 bytes.
        self.gp0()
    }

    /// Linear address of an offset in the code segment.
    pub(super) fn code_address(&mut self, ip: u64) -> Result<u64, super::exceptions::Stop> {
        if self.bits == 64 {
            return Ok(ip);
        }
        self.linear(seg::CS as u8, ip & 0xffff_ffff, 1)
    }
}
