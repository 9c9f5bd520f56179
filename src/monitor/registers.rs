//! The texts of `info registers` (a CPU's, laid out as QEMU's users know it) and `info e1000` (a NIC's).
//!
//! Called by `hmp.rs`. Pure.

use std::fmt::Write;

use crate::cpu::CpuState;
use crate::cpu::state::{Segment, TableRegister, gpr, rflags};

const GENERAL: [[(&str, usize); 4]; 4] = [
    [("RAX", gpr::RAX), ("RBX", gpr::RBX), ("RCX", gpr::RCX), ("RDX", gpr::RDX)],
    [("RSI", gpr::RSI), ("RDI", gpr::RDI), ("RBP", gpr::RBP), ("RSP", gpr::RSP)],
    [("R8 ", gpr::R8), ("R9 ", gpr::R9), ("R10", gpr::R10), ("R11", gpr::R11)],
    [("R12", gpr::R12), ("R13", gpr::R13), ("R14", gpr::R14), ("R15", gpr::R15)],
];
/// Letters for the flags that are set, highest first.
const FLAGS: [(u64, char); 7] = [
    (rflags::DF, 'D'),
    (rflags::OF, 'O'),
    (rflags::SF, 'S'),
    (rflags::ZF, 'Z'),
    (rflags::AF, 'A'),
    (rflags::PF, 'P'),
    (rflags::CF, 'C'),
];
const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// Lines that end in \n.
pub(super) fn text(s: &CpuState) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for row in GENERAL {
        let cells: Vec<_> = row.iter().map(|(name, n)| format!("{name}={:016x}", s.gpr[*n])).collect();
        let _ = writeln!(text, "{}", cells.join(" "));
    }
    let flags: String =
        FLAGS.iter().map(|&(bit, letter)| if s.rflags & bit != 0 { letter } else { '-' }).collect();
    let _ = writeln!(
        text,
        "RIP={:016x} RFL={:08x} [{flags}] CPL={} II={} HLT={}",
        s.rip,
        s.rflags,
        s.cpl(),
        u8::from(s.interrupt_shadow),
        u8::from(s.halted)
    );
    for (name, segment) in SEGMENTS.iter().zip(&s.segs) {
        let _ = writeln!(text, "{}", segment_line(name, segment));
    }
    let _ = writeln!(text, "{}\n{}", segment_line("LDT", &s.ldtr), segment_line("TR", &s.tr));
    for (name, TableRegister { base, limit }) in [("GDT", s.gdtr), ("IDT", s.idtr)] {
        let _ = writeln!(text, "{name}=     {base:016x} {limit:08x}");
    }
    let _ = writeln!(text, "CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x}", s.cr0, s.cr2, s.cr3, s.cr4);
    let _ = writeln!(
        text,
        "DR0={:016x} DR1={:016x} DR2={:016x} DR3={:016x}\nDR6={:016x} DR7={:016x}",
        s.dr[0], s.dr[1], s.dr[2], s.dr[3], s.dr[6], s.dr[7]
    );
    let _ = writeln!(text, "EFER={:016x} CR8={:x} K_GS_BASE={:016x}", s.efer, s.cr8, s.msrs.kernel_gs_base);
    let v = &s.vec;
    let _ = writeln!(text, "FCW={:04x} FSW={:04x} FTW={:02x} MXCSR={:08x}", v.fcw, v.fsw, v.ftw, v.mxcsr);
    for (n, pair) in v.zmm[..16].chunks_exact(2).enumerate() {
        let _ = writeln!(
            text,
            "XMM{:02}={:016x}{:016x} XMM{:02}={:016x}{:016x}",
            2 * n,
            pair[0][1],
            pair[0][0],
            2 * n + 1,
            pair[1][1],
            pair[1][0]
        );
    }
    text
}

fn segment_line(name: &str, s: &Segment) -> String {
    format!("{name:3}={:04x} {:016x} {:08x} {:04x}", s.selector, s.base, s.limit, s.attr)
}

/// A NIC's registers, one on a line; those of arrays that are zero are left out.
pub(super) fn nic_registers(values: &[(String, u32)]) -> String {
    let shown = values.iter().filter(|(name, value)| *value != 0 || !name.contains('['));
    shown.map(|(name, value)| format!("  {name:10} {value:08x}\n")).collect()
}

/// Where a NIC's rings are and how full, by its registers (T for transmit, R for receive in their names).
pub(super) fn nic_rings(values: &[(String, u32)]) -> String {
    const DESCRIPTOR: u32 = 16;
    let ring = |letter: char| {
        let value = |rest: &str| {
            let found = values.iter().find(|(name, _)| name.strip_prefix(letter) == Some(rest));
            found.map_or(0, |(_, value)| *value)
        };
        let (count, head, tail) = (value("DLEN") / DESCRIPTOR, value("DH"), value("DT"));
        let base = u64::from(value("DBAH")) << 32 | u64::from(value("DBAL"));
        let owned = if count == 0 { 0 } else { (tail + count - head % count) % count };
        format!(
            "  {letter}X: {count} descriptors at {base:#x}, head {head}, tail {tail}: {owned} are the NIC's\n"
        )
    };
    ring('T') + &ring('R')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_its_place() {
        let mut state = CpuState::default();
        state.gpr[gpr::R9] = 0x1234;
        state.rflags |= rflags::ZF;
        state.cr3 = 0xabc000;
        state.vec.zmm[15][1] = 7;
        let text = text(&state);
        for part in [
            "R9 =0000000000001234",
            "RIP=000000000000fff0 RFL=00000042 [---Z---] CPL=0 II=0 HLT=0",
            "CS =f000 00000000ffff0000 0000ffff 009b",
            "CR3=0000000000abc000",
            "XMM15=00000000000000070000000000000000",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn rings_are_what_the_registers_say() {
        let values =
            [("TDBAL", 0x319000), ("TDBAH", 1), ("TDLEN", 0x1000), ("TDH", 250), ("TDT", 5), ("RAL[1]", 0)];
        let values = values.map(|(name, value)| (name.to_owned(), value));
        let text = nic_rings(&values);
        assert!(
            text.starts_with("  TX: 256 descriptors at 0x100319000, head 250, tail 5: 11 are the NIC's\n"),
            "{text}"
        );
        assert!(text.ends_with("  RX: 0 descriptors at 0x0, head 0, tail 0: 0 are the NIC's\n"), "{text}");
        assert_eq!(nic_registers(&values).lines().count(), 5);
    }
}
