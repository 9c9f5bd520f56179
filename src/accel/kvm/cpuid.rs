//! What CPUID tells the guest: KVM_GET_SUPPORTED_CPUID, with this machine's topology, timer and frequency.
//!
//! Pure: entries in, entries out. Called by `vcpu.rs`. Leaves as in the Intel SDM volume 2, CPUID, and the AMD APM
//! volume 3, appendix E; hypervisor leaves as in Documentation/virt/kvm/x86/cpuid.rst.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// What the table is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuidConfig {
    /// This CPU's APIC id.
    pub apic_id: u32,
    /// CPUs in the machine.
    pub cpus: u32,
    /// KVM_CAP_TSC_DEADLINE_TIMER.
    pub tsc_deadline: bool,
    /// The guest's time-stamp counter in kHz (KVM_GET_TSC_KHZ), if known.
    pub tsc_khz: Option<u32>,
    /// Leave KVM's own leaves (40000000h and up) in.
    pub kvm_leaves: bool,
}

/// KVM's local APIC timer counts nanoseconds (APIC_BUS_CYCLE_NS is 1 in arch/x86/kvm): a 1 GHz crystal.
const APIC_TIMER_HZ: u32 = 1_000_000_000;

/// The table for one CPU.
pub(super) fn table(supported: &[kvm_cpuid_entry2], config: &CpuidConfig) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> = supported.iter().copied().filter(|e| !replaced(e.function, config)).collect();
    for entry in &mut entries {
        adapt(entry, config);
    }
    entries.extend(topology(config));
    add_frequency(&mut entries, config);
    entries
}

/// Leaves that say something about the host's topology, and what is to be hidden. V2 topology (1Fh) is left out:
/// guests then use leaf Bh.
fn replaced(function: u32, config: &CpuidConfig) -> bool {
    matches!(function, 0xb | 0x1f) || (function >> 28 == 4 && !config.kvm_leaves)
}

fn adapt(entry: &mut kvm_cpuid_entry2, config: &CpuidConfig) {
    let (id, cpus) = (config.apic_id, config.cpus);
    match entry.function {
        1 => {
            entry.ebx = entry.ebx & 0xffff | cpus.min(255) << 16 | id << 24;
            entry.ecx |= 1 << 31;
            set_bit(&mut entry.ecx, 24, config.tsc_deadline);
            set_bit(&mut entry.edx, 28, cpus > 1);
        }
        4 => adapt_cache(entry, cpus),
        0x8000_0008 => {
            entry.ecx = entry.ecx & !0xf0ff | cpus.saturating_sub(1).min(255) | apic_id_bits(cpus) << 12
        }
        0x8000_001d => entry.eax = entry.eax & !(0xfff << 14) | sharing(entry.eax, cpus) << 14,
        0x8000_001e => {
            entry.eax = id;
            entry.ebx = id & 0xff;
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Deterministic cache parameters: cores in the package, and CPUs that share this cache.
fn adapt_cache(entry: &mut kvm_cpuid_entry2, cpus: u32) {
    if entry.eax & 0x1f == 0 {
        return;
    }
    let cores = (1 << apic_id_bits(cpus)) - 1;
    entry.eax = entry.eax & 0x3fff | sharing(entry.eax, cpus) << 14 | cores << 26;
}

/// Highest number of the CPUs that share a cache: all share the third level, none the others.
fn sharing(eax: u32, cpus: u32) -> u32 {
    if eax >> 5 & 7 >= 3 { (1 << apic_id_bits(cpus)) - 1 } else { 0 }
}

/// Bits of an APIC id that tell the CPUs of the one package apart.
fn apic_id_bits(cpus: u32) -> u32 {
    cpus.max(1).next_power_of_two().trailing_zeros()
}

fn set_bit(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !(1 << bit) | u32::from(on) << bit;
}

/// Leaf Bh: one thread in each core, all cores in one package.
fn topology(config: &CpuidConfig) -> [kvm_cpuid_entry2; 3] {
    let level = |index, eax, ebx, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | kind << 8,
        edx: config.apic_id,
        ..Default::default()
    };
    [level(0, 0, 1, 1), level(1, apic_id_bits(config.cpus), config.cpus, 2), level(2, 0, 0, 0)]
}

/// Leaf 15h: the TSC's and the local APIC timer's exact frequencies, so that an Intel guest need not calibrate.
fn add_frequency(entries: &mut Vec<kvm_cpuid_entry2>, config: &CpuidConfig) {
    let Some(khz) = config.tsc_khz else { return };
    let Some(first) = entries.iter_mut().find(|e| e.function == 0) else { return };
    if (first.ebx, first.edx, first.ecx) != vendor(*b"GenuineIntel") {
        return;
    }
    first.eax = first.eax.max(0x15);
    entries.retain(|e| e.function != 0x15);
    let (ebx, eax) = ratio(khz);
    entries.push(kvm_cpuid_entry2 { function: 0x15, eax, ebx, ecx: APIC_TIMER_HZ, ..Default::default() });
}

/// TSC over crystal as a fraction. Linux multiplies the crystal's kHz by the numerator in 32 bits, which bounds
/// it; the best fraction below is within one part in a million for most frequencies, within 30 for all.
fn ratio(khz: u32) -> (u32, u32) {
    const CRYSTAL_KHZ: u64 = APIC_TIMER_HZ as u64 / 1000;
    const LARGEST: u64 = u32::MAX as u64 / CRYSTAL_KHZ;
    let khz = u64::from(khz);
    let error = |&(n, d): &(u64, u64)| (n * CRYSTAL_KHZ).abs_diff(khz * d) * LARGEST / d;
    let best = (1..=LARGEST)
        .map(|d| ((khz * d + CRYSTAL_KHZ / 2) / CRYSTAL_KHZ, d))
        .filter(|(n, _)| (1..=LARGEST).contains(n))
        .min_by_key(error);
    best.map_or((khz.min(LARGEST * CRYSTAL_KHZ) as u32, CRYSTAL_KHZ as u32), |(n, d)| (n as u32, d as u32))
}

fn vendor(name: [u8; 12]) -> (u32, u32, u32) {
    let word = |at: usize| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    (word(0), word(4), word(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn supported() -> Vec<kvm_cpuid_entry2> {
        let (b, d, c) = vendor(*b"GenuineIntel");
        vec![
            entry(0, 0xd, b, c, d),
            entry(1, 0x806f8, 0x1208_0800, 0x20_0000, 0x1000_0000),
            entry(4, 0xfc00_4121, 0, 0, 0),
            entry(4, 0xfc1f_c163, 0, 0, 0),
            entry(0xb, 1, 2, 0x100, 0x12),
            entry(0x1f, 1, 2, 0x100, 0x12),
            entry(0x4000_0000, 0x4000_0001, 0, 0, 0),
        ]
    }

    fn config(cpus: u32, apic_id: u32) -> CpuidConfig {
        CpuidConfig { apic_id, cpus, tsc_deadline: true, tsc_khz: Some(2_596_152), kvm_leaves: true }
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, nth: usize) -> kvm_cpuid_entry2 {
        *entries.iter().filter(|e| e.function == function).nth(nth).unwrap()
    }

    #[test]
    fn leaf_1_has_this_cpus_id_and_the_hypervisor_bit() {
        let entries = table(&supported(), &config(2, 1));
        let one = find(&entries, 1, 0);
        assert_eq!(one.ebx, 0x0102_0800);
        assert_eq!(one.ecx, 0x8120_0000);
        assert_eq!(one.edx >> 28 & 1, 1);
        assert_eq!(find(&table(&supported(), &config(1, 0)), 1, 0).edx >> 28 & 1, 0);
    }

    #[test]
    fn topology_leaves_agree_with_each_other() {
        let entries = table(&supported(), &config(3, 2));
        assert_eq!(find(&entries, 0xb, 0).ebx, 1);
        let core = find(&entries, 0xb, 1);
        assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (2, 3, 0x201, 2));
        assert_eq!(find(&entries, 0xb, 2).ebx, 0);
        assert!(!entries.iter().any(|e| e.function == 0x1f));
        assert_eq!(find(&entries, 4, 0).eax >> 14, 3 << 12);
        assert_eq!(find(&entries, 4, 1).eax >> 14, 3 << 12 | 3);
    }

    #[test]
    fn leaf_15_gives_the_frequency_in_32_bit_arithmetic() {
        for khz in [2_596_152_u32, 1_996_249, 2_000_000, 3_699_999, 4_200_123, 800_000] {
            let config = CpuidConfig { tsc_khz: Some(khz), ..config(1, 0) };
            let entries = table(&supported(), &config);
            let f = find(&entries, 0x15, 0);
            let got = (f.ecx / 1000).checked_mul(f.ebx).unwrap() / f.eax;
            assert!(got.abs_diff(khz) <= 1 + khz / 33_000, "{khz}: {got}");
            assert_eq!(find(&entries, 0, 0).eax, 0x15);
        }
        let unknown = CpuidConfig { tsc_khz: None, ..config(1, 0) };
        assert!(!table(&supported(), &unknown).iter().any(|e| e.function == 0x15));
    }

    #[test]
    fn hypervisor_leaves_go_only_when_asked() {
        assert!(table(&supported(), &config(1, 0)).iter().any(|e| e.function == 0x4000_0000));
        let hidden = CpuidConfig { kvm_leaves: false, ..config(1, 0) };
        assert!(!table(&supported(), &hidden).iter().any(|e| e.function >> 28 == 4));
    }
}
