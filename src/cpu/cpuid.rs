//! The CPUID model of `accel/soft`: what `cpu/` implements, and nothing else.
//!
//! A pure table, called by the machine's [`super::Machine::cpuid`]. What follows the processor's state (OSXSAVE, the
//! XSAVE sizes) is filled in by the CPUID instruction itself.

use iced_x86::{CpuidFeature, Instruction};

/// What the machine decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Initial (x2)APIC id of this processor.
    pub apic_id: u32,
    /// Number of processors, 1 to 255.
    pub cpus: u32,
    /// Frequency of the time-stamp counter in kHz.
    pub tsc_khz: u32,
    /// The local APIC has x2APIC mode.
    pub x2apic: bool,
    /// The local APIC has TSC-deadline mode.
    pub tsc_deadline: bool,
}

/// Physical address bits announced in leaf 80000008h; [`super::Cpu::phys_bits`] should be the same.
pub const PHYSICAL_BITS: u32 = 46;

const LINEAR_BITS: u32 = 48;
/// The frequency that leaf 15h multiplies, and the input clock of the local APIC's timer.
const CRYSTAL_HZ: u32 = 1_000_000_000;

/// Leaf 1 EDX: FPU to SSE2, without what has no meaning here (DS, ACPI, thermal).
const LEAF_1_EDX: u32 = 1        // FPU
    | 1 << 2                     // DE
    | 1 << 3                     // PSE
    | 1 << 4                     // TSC
    | 1 << 5                     // MSR
    | 1 << 6                     // PAE
    | 1 << 8                     // CX8
    | 1 << 9                     // APIC
    | 1 << 11                    // SEP
    | 1 << 12                    // MTRR
    | 1 << 13                    // PGE
    | 1 << 15                    // CMOV
    | 1 << 16                    // PAT
    | 1 << 17                    // PSE-36
    | 1 << 19                    // CLFSH
    | 1 << 23                    // MMX
    | 1 << 24                    // FXSR
    | 1 << 25                    // SSE
    | 1 << 26; // SSE2
const HTT: u32 = 1 << 28;

const LEAF_1_ECX: u32 = 1        // SSE3
    | 1 << 9                     // SSSE3
    | 1 << 13                    // CX16
    | 1 << 19                    // SSE4.1
    | 1 << 20                    // SSE4.2
    | 1 << 22                    // MOVBE
    | 1 << 23                    // POPCNT
    | 1 << 26                    // XSAVE
    | 1 << 30                    // RDRAND
    | 1 << 31; // hypervisor present
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;

const LEAF_7_EBX: u32 = 1        // FSGSBASE
    | 1 << 3                     // BMI1
    | 1 << 7                     // SMEP
    | 1 << 8                     // BMI2
    | 1 << 9                     // ERMS
    | 1 << 10                    // INVPCID
    | 1 << 18                    // RDSEED
    | 1 << 19                    // ADX
    | 1 << 20                    // SMAP
    | 1 << 23                    // CLFLUSHOPT
    | 1 << 24; // CLWB
const LEAF_7_ECX: u32 = 1 << 2   // UMIP
    | 1 << 22; // RDPID
const LEAF_7_EDX: u32 = 1 << 4   // FSRM
    | 1 << 14                    // SERIALIZE
    | 1 << 29; // ARCH_CAPABILITIES

/// IA32_ARCH_CAPABILITIES (MSR 10Ah): not subject to Meltdown, L1TF, MDS, TAA, MMIO stale data and what came after; an
/// interpreter does not speculate, so the guest need not spend time on it.
pub const ARCH_CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 17
    | 1 << 24
    | 1 << 26
    | 1 << 27;

const EXTENDED_1_ECX: u32 = 1    // LAHF in 64-bit mode
    | 1 << 5                     // LZCNT
    | 1 << 8; // PREFETCHW
const EXTENDED_1_EDX: u32 = 1 << 11 // SYSCALL
    | 1 << 20                    // NX
    | 1 << 26                    // 1 GiB pages
    | 1 << 27                    // RDTSCP
    | 1 << 29; // 64-bit mode

const BASIC_MAX: u32 = 0x16;
const EXTENDED_MAX: u32 = 0x8000_0008;

/// Whether [`model`] announces what the instruction needs. The rest of what `cpu/` can do is for guests of `accel/kvm`,
/// which see the host's CPUID.
pub fn announces(i: &Instruction) -> bool {
    use CpuidFeature as F;
    !i.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            F::AES
                | F::MONITOR
                | F::PCLMULQDQ
                | F::SHA
                | F::XSAVES
                | F::AVX
                | F::AVX2
                | F::FMA
                | F::VAES
                | F::VPCLMULQDQ
                | F::AVX512F
                | F::AVX512BW
                | F::AVX512DQ
                | F::AVX512VL
        )
    })
}

/// EAX, EBX, ECX, EDX of a leaf. Leaves beyond the last basic one read as zero.
pub fn model(t: &Topology, leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf {
        0 => {
            let [b, d, c] = [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes);
            [BASIC_MAX, b, c, d]
        }
        1 => leaf_1(t),
        // No descriptors: look at leaf 4.
        2 => [0x00ff_ff01, 0, 0, 0],
        4 => cache(t, subleaf),
        // MONITOR is not announced in leaf 1; leaf 5 stays zero.
        6 => [1 << 2, 0, 0, 0],
        7 if subleaf == 0 => [0, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX],
        0xb => topology(t, subleaf),
        0xd => xsave(subleaf),
        // In MHz: Linux multiplies by the crystal's kHz in 32 bits.
        0x15 => [CRYSTAL_HZ / 1_000_000, t.tsc_khz / 1000, CRYSTAL_HZ, 0],
        0x16 => [t.tsc_khz / 1000, t.tsc_khz / 1000, 100, 0],
        0x8000_0000 => [EXTENDED_MAX, 0, 0, 0],
        0x8000_0001 => [0, 0, EXTENDED_1_ECX, EXTENDED_1_EDX],
        0x8000_0002..=0x8000_0004 => brand(leaf),
        0x8000_0006 => [0, 0, 0x0200_8040, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => [PHYSICAL_BITS | LINEAR_BITS << 8, 0, 0, 0],
        _ => [0; 4],
    }
}

fn leaf_1(t: &Topology) -> [u32; 4] {
    let mut ecx = LEAF_1_ECX;
    if t.x2apic {
        ecx |= X2APIC;
    }
    if t.tsc_deadline {
        ecx |= TSC_DEADLINE;
    }
    let edx = LEAF_1_EDX | if t.cpus > 1 { HTT } else { 0 };
    // Family 6; a model number that no errata list of Linux knows. CLFLUSH line of 64 bytes.
    [0x601, (t.apic_id & 0xff) << 24 | (t.cpus & 0xff) << 16 | 8 << 8, ecx, edx]
}

/// 32 KiB of L1 for data and code, 1 MiB of L2: of no consequence, but software divides by the line size.
fn cache(t: &Topology, subleaf: u32) -> [u32; 4] {
    let cores = (t.cpus.max(1).next_power_of_two() - 1) << 26;
    let line = 63;
    match subleaf {
        0 => [cores | 1 << 8 | 1 << 5 | 1, 7 << 22 | line, 63, 0],
        1 => [cores | 1 << 8 | 1 << 5 | 2, 7 << 22 | line, 63, 0],
        2 => [cores | 1 << 8 | 2 << 5 | 3, 15 << 22 | line, 1023, 0],
        _ => [0; 4],
    }
}

/// Every processor is a core of one package.
fn topology(t: &Topology, subleaf: u32) -> [u32; 4] {
    let shift = t.cpus.max(1).next_power_of_two().trailing_zeros();
    match subleaf {
        0 => [0, 1, 1 << 8, t.apic_id],
        1 => [shift, t.cpus, 2 << 8 | 1, t.apic_id],
        n => [0, 0, n & 0xff, t.apic_id],
    }
}

/// x87 and SSE state only; XSAVEOPT, XSAVEC, XGETBV with ECX 1.
fn xsave(subleaf: u32) -> [u32; 4] {
    match subleaf {
        0 => [3, 576, 576, 0],
        1 => [0b111, 576, 0, 0],
        _ => [0; 4],
    }
}

fn brand(leaf: u32) -> [u32; 4] {
    const NAME: &[u8; 48] = b"minivmm software CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let at = (leaf - 0x8000_0002) as usize * 16;
    std::array::from_fn(|n| u32::from_le_bytes(std::array::from_fn(|k| NAME[at + 4 * n + k])))
}
