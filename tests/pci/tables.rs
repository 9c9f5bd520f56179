//! ACPI and MP tables, parsed back: they must say what is wired.

use std::collections::BTreeMap;
use std::process::Command;

use minivmm::boot::acpi::{self, IntxRoute, TableConfig};
use minivmm::boot::mptable;
use minivmm::machine::pc;
use minivmm::memory::GuestRam;
use minivmm::pci::PciMap;

const CPUS: u8 = 2;

fn config() -> TableConfig {
    let PciMap { io, mem, intx_gsi, .. } = pc::pci_map(256 << 20);
    let pins = (1..32).flat_map(|slot| (1..=4).map(move |pin| (slot, pin)));
    let routes = pins.map(|(slot, pin)| IntxRoute { slot, pin, gsi: intx_gsi(slot, pin) }).collect();
    TableConfig {
        cpus: CPUS,
        pci_io: io,
        pci_mem: mem,
        routes,
        serial: 2,
        i8042: true,
        fw_cfg: true,
        pvpanic: true,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

/// The tables as a kernel finds them in RAM: by the RSDP, the XSDT and the FADT.
fn found(config: &TableConfig) -> BTreeMap<String, Vec<u8>> {
    let ram = GuestRam::new(&[(0, 1 << 20)]).unwrap();
    let rsdp_addr = acpi::write(&ram, config).unwrap();
    assert!(
        rsdp_addr.is_multiple_of(16) && (0xe_0000..0x10_0000).contains(&rsdp_addr),
        "where kernels search"
    );
    let read = |addr: u64, len: usize| {
        let mut bytes = vec![0; len];
        ram.read(addr, &mut bytes).unwrap();
        bytes
    };
    let table = |addr: u64| read(addr, u32_at(&read(addr, 8), 4) as usize);
    let rsdp = read(rsdp_addr, 36);
    assert_eq!((&rsdp[..8], sum(&rsdp[..20]), sum(&rsdp)), (&b"RSD PTR "[..], 0, 0));
    let xsdt = table(u64_at(&rsdp, 24));
    let mut all: Vec<_> = xsdt[36..].chunks(8).map(|a| table(u64_at(a, 0))).collect();
    let fadt = all.iter().find(|t| t.starts_with(b"FACP")).unwrap().clone();
    all.extend([xsdt, table(u64_at(&fadt, 140)), table(u32_at(&fadt, 36).into())]);
    all.into_iter().map(|t| (String::from_utf8(t[..4].to_vec()).unwrap(), t)).collect()
}

/// One AML data object: an integer, a package, or something else.
#[derive(Debug, PartialEq, Eq)]
enum Object {
    Integer(u64),
    Package(Vec<Object>),
}

/// Parses an integer or a package (ACPI 6.5, section 20.2) and returns what follows.
fn object(aml: &[u8]) -> (Object, &[u8]) {
    let integer = |len: usize| {
        let value = aml[1..=len].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        (Object::Integer(value), &aml[len + 1..])
    };
    match aml[0] {
        0x00 => integer(0),
        0x01 => (Object::Integer(1), &aml[1..]),
        0x0a => integer(1),
        0x0b => integer(2),
        0x0c => integer(4),
        0x12 => {
            let extra = usize::from(aml[1] >> 6);
            let low = if extra == 0 { aml[1] & 0x3f } else { aml[1] & 0x0f };
            let high = aml[2..2 + extra].iter().rev().fold(0, |v, b| v << 8 | usize::from(*b));
            let (mut rest, after) = aml[1..].split_at(high << 4 | usize::from(low));
            let count = rest[1 + extra];
            rest = &rest[2 + extra..];
            let mut items = Vec::new();
            for _ in 0..count {
                let (item, next) = object(rest);
                items.push(item);
                rest = next;
            }
            assert!(rest.is_empty(), "package longer than its elements");
            (Object::Package(items), after)
        }
        other => panic!("AML opcode {other:#x} in a constant"),
    }
}

/// The constant object behind `Name (name, …)`.
fn constant(dsdt: &[u8], name: &[u8; 4]) -> Object {
    let at = dsdt.windows(5).position(|w| w[0] == 0x08 && w[1..] == name[..]).unwrap();
    object(&dsdt[at + 5..]).0
}

fn integers(package: &Object) -> Vec<u64> {
    let Object::Package(items) = package else { panic!("{package:?}") };
    let value = |o: &Object| if let Object::Integer(v) = o { *v } else { panic!("{o:?}") };
    items.iter().map(value).collect()
}

#[test]
fn every_table_is_found_and_sums_to_zero() {
    let tables = found(&config());
    let names: Vec<_> = tables.keys().map(String::as_str).collect();
    assert_eq!(names, ["APIC", "DSDT", "FACP", "FACS", "MCFG", "WAET", "XSDT"]);
    for (name, table) in tables.iter().filter(|(name, _)| *name != "FACS") {
        assert_eq!(sum(table), 0, "{name}");
    }
}

#[test]
fn tables_lie_apart_below_the_mp_table() {
    let mut places: Vec<_> = acpi::tables(&config()).iter().map(|(a, t)| (*a, *a + t.len() as u64)).collect();
    places.extend(mptable::tables(&config()).iter().map(|(a, t)| (*a, *a + t.len() as u64)));
    places.sort_unstable();
    assert!(places.windows(2).all(|w| w[0].1 <= w[1].0), "{places:x?}");
    assert!(places.iter().all(|p| p.1 <= pc::LOW_MIB_END));
}

#[test]
fn prt_routes_every_pin_of_every_slot_as_wired() {
    let Object::Package(entries) = constant(&found(&config())["DSDT"], b"_PRT") else { panic!() };
    let told: Vec<_> = entries.iter().map(integers).collect();
    let pins = (1..32_u8).flat_map(|slot| (1..=4_u8).map(move |pin| (slot, pin)));
    let wired: Vec<_> = pins
        .map(|(slot, pin)| {
            let gsi = pc::pci_map(0).intx_gsi;
            vec![u64::from(slot) << 16 | 0xffff, u64::from(pin) - 1, 0, u64::from(gsi(slot, pin))]
        })
        .collect();
    assert_eq!(told, wired);
}

#[test]
fn s5_is_the_sleep_type_that_powers_off() {
    let s5 = integers(&constant(&found(&config())["DSDT"], b"_S5_"));
    assert_eq!(s5[0], u64::from(minivmm::chipset::SLEEP_TYPE_S5));
}

/// Resource descriptors of every `_CRS` buffer: (tag, bytes behind tag and length).
fn resources(dsdt: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    for start in dsdt.windows(6).enumerate().filter(|(_, w)| w[..5] == *b"\x08_CRS" && w[5] == 0x11) {
        let mut at = start.0 + 6;
        at += 1 + usize::from(dsdt[at] >> 6);
        at += if dsdt[at] == 0x0a { 2 } else { 3 };
        while dsdt[at] != 0x79 {
            let large = dsdt[at] & 0x80 != 0;
            let len = if large { usize::from(u16_at(dsdt, at + 1)) } else { usize::from(dsdt[at] & 7) };
            let head = if large { 3 } else { 1 };
            out.push((dsdt[at], dsdt[at + head..at + head + len].to_vec()));
            at += head + len;
        }
    }
    out
}

#[test]
fn the_root_bridge_has_exactly_the_allocators_windows_and_ecam_is_reserved() {
    let resources = resources(&found(&config())["DSDT"]);
    let words: Vec<_> = resources.iter().filter(|r| r.0 == 0x88).map(|r| &r.1).collect();
    assert_eq!((words[0][0], u16_at(words[0], 5), u16_at(words[0], 7)), (2, 0, 0), "bus 0 only");
    let io = (u64::from(u16_at(words[1], 5)), u64::from(u16_at(words[1], 11)));
    assert_eq!((words[1][0], io), (1, (pc::PCI_IO_BASE, pc::PCI_IO_LEN)));
    let mem = &resources.iter().find(|r| r.0 == 0x87).unwrap().1;
    let mem_range = (u64::from(u32_at(mem, 7)), u64::from(u32_at(mem, 19)));
    assert_eq!((mem[0], mem_range), (0, (pc::PCI_MEM_BASE, pc::PCI_MEM_LEN)));
    let fixed = &resources.iter().find(|r| r.0 == 0x86).unwrap().1;
    let ecam = (u64::from(u32_at(fixed, 1)), u64::from(u32_at(fixed, 5)));
    assert_eq!(ecam, (pc::ECAM_BASE, pc::ECAM_LEN));
    let mcfg = &found(&config())["MCFG"];
    assert_eq!((u64_at(mcfg, 44), &mcfg[52..56]), (pc::ECAM_BASE, &[0, 0, 0, 0][..]));
}

#[test]
fn isa_devices_have_their_ports_and_interrupts() {
    let resources = resources(&found(&config())["DSDT"]);
    let ports: Vec<_> = resources.iter().filter(|r| r.0 == 0x47).map(|r| (u16_at(&r.1, 1), r.1[6])).collect();
    assert_eq!(ports, [(0x3f8, 8), (0x2f8, 8), (0x70, 2), (0x510, 2), (0x505, 1)]);
    let irqs: Vec<_> = resources.iter().filter(|r| r.0 == 0x89).map(|r| (r.1[0], u32_at(&r.1, 2))).collect();
    assert_eq!(irqs, [(3, 4), (3, 3), (3, 8)], "consumer, edge, active high");
}

#[test]
fn absent_devices_are_not_mentioned() {
    let bare = TableConfig { serial: 1, i8042: false, fw_cfg: false, pvpanic: false, ..config() };
    let tables = found(&bare);
    let ports = resources(&tables["DSDT"]).into_iter().filter(|r| r.0 == 0x47).count();
    assert_eq!((ports, u16_at(&tables["FACP"], 109)), (2, 0b101));
}

#[test]
fn fadt_tells_the_ports_of_the_pm_block() {
    let fadt = &found(&config())["FACP"];
    assert_eq!(u16_at(fadt, 46), pc::SCI_GSI as u16);
    let pm = pc::PM_BASE as u32;
    assert_eq!([u32_at(fadt, 56), u32_at(fadt, 64), u32_at(fadt, 76)], [pm, pm + 4, pm + 8]);
    assert_eq!(u32_at(fadt, 48), 0, "no SMI command port: always in ACPI mode");
    assert_eq!((fadt[108], u16_at(fadt, 109)), (0x32, 0b111));
    assert_eq!((u64_at(fadt, 120), fadt[128]), (pc::RESET_PORT, 6));
    let flags = u32_at(fadt, 112);
    assert_eq!((flags >> 20 & 1, flags >> 10 & 1, flags >> 8 & 1, flags >> 4 & 1), (0, 1, 1, 0));
}

#[test]
fn madt_lists_cpus_ioapic_and_the_sci_as_a_level() {
    let madt = &found(&config())["APIC"];
    assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (pc::LAPIC_BASE as u32, 1));
    let rest = &madt[44..];
    for id in 0..CPUS {
        assert_eq!(rest[8 * usize::from(id)..][..8], [0, 8, id, id, 1, 0, 0, 0]);
    }
    let rest = &rest[8 * usize::from(CPUS)..];
    assert_eq!(
        (rest[..4].to_vec(), u32_at(rest, 4), u32_at(rest, 8)),
        (vec![1, 12, CPUS, 0], pc::IOAPIC_BASE as u32, 0)
    );
    assert_eq!(rest[12..], [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
}

/// Entries of the MP table, found as Linux finds it: by 16-byte steps through the EBDA.
fn mp_entries() -> Vec<Vec<u8>> {
    let ram = GuestRam::new(&[(0, 1 << 20)]).unwrap();
    mptable::write(&ram, &config()).unwrap();
    let read = |addr: u64, len: usize| {
        let mut bytes = vec![0; len];
        ram.read(addr, &mut bytes).unwrap();
        bytes
    };
    let pointer =
        (pc::EBDA_BASE..0xa_0000).step_by(16).map(|a| read(a, 16)).find(|p| p.starts_with(b"_MP_")).unwrap();
    assert_eq!((sum(&pointer), pointer[9]), (0, 4));
    let base = u64::from(u32_at(&pointer, 4));
    let table = read(base, usize::from(u16_at(&read(base, 8), 4)));
    assert_eq!((&table[..4], sum(&table)), (&b"PCMP"[..], 0));
    let (mut rest, mut entries) = (&table[44..], Vec::new());
    while !rest.is_empty() {
        let (entry, next) = rest.split_at(if rest[0] == 0 { 20 } else { 8 });
        entries.push(entry.to_vec());
        rest = next;
    }
    assert_eq!(entries.len(), usize::from(u16_at(&table, 34)));
    assert!(entries.is_sorted_by_key(|e| e[0]), "by type");
    entries
}

#[test]
fn the_mp_table_routes_every_pin_as_wired() {
    let entries = mp_entries();
    let pci: BTreeMap<u8, u32> =
        entries.iter().filter(|e| e[0] == 3 && e[4] == 0).map(|e| (e[5], e[7].into())).collect();
    for slot in 1..32_u8 {
        for pin in 1..=4_u8 {
            assert_eq!(pci[&(slot << 2 | (pin - 1))], pc::intx_gsi(slot, pin), "slot {slot} pin {pin}");
        }
    }
    assert_eq!(pci.len(), 124);
}

#[test]
fn the_mp_table_lists_cpus_buses_and_isa_interrupts_that_pci_does_not_use() {
    let entries = mp_entries();
    let cpus: Vec<_> = entries.iter().filter(|e| e[0] == 0).map(|e| (e[1], e[3])).collect();
    assert_eq!(cpus, [(0, 3), (1, 1)]);
    let ioapic = entries.iter().find(|e| e[0] == 2).unwrap();
    assert_eq!((ioapic[1], u32_at(ioapic, 4)), (CPUS, pc::IOAPIC_BASE as u32));
    let isa: Vec<_> = entries.iter().filter(|e| e[0] == 3 && e[4] == 1).collect();
    assert!(isa.iter().all(|e| e[5] == e[7]), "IOAPIC input n is ISA interrupt n");
    let irqs: Vec<_> = isa.iter().map(|e| e[5]).collect();
    assert_eq!(irqs, [0, 1, 3, 4, 6, 7, 8, 9, 13, 14, 15]);
}

/// ACPICA's compiler reads the DSDT and finds nothing wrong in what it wrote out. Fails without iasl, unless
/// MINIVMM_ALLOW_SKIP contains `iasl`; the tests above need no tool.
#[test]
fn iasl_takes_the_dsdt_without_complaint() {
    if Command::new("iasl").arg("-v").output().is_err() {
        println!("SKIP iasl: not installed (package acpica-tools)");
        let allowed = std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default();
        assert!(allowed.split(',').any(|a| a == "iasl"), "iasl is missing: install acpica-tools");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dsdt = dir.path().join("dsdt.aml");
    std::fs::write(&dsdt, &found(&config())["DSDT"]).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new("iasl").args(args).current_dir(dir.path()).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    };
    run(&["-d", "dsdt.aml"]);
    let compiled = run(&["-we", "dsdt.dsl"]);
    assert!(compiled.contains("0 Errors, 0 Warnings"), "{compiled}");
}
