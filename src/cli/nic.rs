//! `-device e1000` and its relatives: their keys and values.
//!
//! Called by `device`, whose rows refer to it. Pure: `eeprom=` is a path here, and `machine` opens it.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{Device, E1000Options, NicModel, NicOverflow};
use super::device::ID;
use super::error::{CliError, Wrong, quoted};
use super::keyval::{Absent, Fields, Key, Kind, Schema};
use super::values;

/// Stands in [`E1000Options::mac`] until `check` has given the NIC its address; no NIC can ask for it.
pub(super) const UNASSIGNED_MAC: [u8; 6] = [0; 6];

/// The keys of a model, `what` being its name behind `-device` and `help` what lists them.
pub(super) const fn schema(what: &'static str, help: &'static str) -> Schema {
    Schema { what, keys: KEYS, absent: ABSENT, help }
}

/// `addr=`, which `-net nic` has, too.
pub(super) const ADDR: Key = Key {
    name: "addr",
    kind: Kind::Str,
    default: "the first free slot",
    text: "PCI slot, hexadecimal, 1 to 1e",
};

const KEYS: &[Key] = &[
    ADDR,
    Key {
        name: "coverage",
        kind: Kind::Str,
        default: "",
        text: "file for what the driver has used of the device, as JSON; FILE.txt: the same as a table",
    },
    Key {
        name: "eeprom",
        kind: Kind::Str,
        default: "",
        text: "file that keeps the EEPROM, 128 or 512 bytes; made if there is none",
    },
    ID,
    Key {
        name: "link-delay",
        kind: Kind::Str,
        default: "0",
        text: "time from autonegotiation to link up, in ms (real parts: about 2000)",
    },
    Key {
        name: "mac",
        kind: Kind::Str,
        default: "52:54:00:12:34:56, counting up",
        text: "address in the EEPROM",
    },
    Key { name: "msi", kind: Kind::Bool, default: "on", text: "MSI capability" },
    Key { name: "netdev", kind: Kind::Str, default: "", text: "id of the -netdev it is connected to" },
    Key {
        name: "overflow",
        kind: Kind::Str,
        default: "wait",
        text: "no receive descriptors: senders wait, or (drop) frames are lost",
    },
    Key {
        name: "romfile",
        kind: Kind::Str,
        default: "",
        text: "image of the expansion ROM, for -bios: iPXE's pxe-e1000.rom; \"\": none",
    },
    Key {
        name: "strict",
        kind: Kind::Bool,
        default: "off",
        text: "no allowances for drivers that only work on emulators",
    },
];

const ROM_BAR: &str = "leave it out (there is an expansion ROM with romfile=FILE, and none without)";
const ALWAYS_ON: &str = "leave it out (it is always on)";
const ABSENT: &[Absent] = &[
    Absent { name: "autonegotiation", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "mitigation", accepts: Some("on"), instead: "leave it out (the guest's ITR decides)" },
    Absent { name: "extra_mac_registers", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "init-vet", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "migrate_tso_props", accepts: Some("on"), instead: "leave it out" },
    Absent {
        name: "x-pcie-lnksta-dllla",
        accepts: Some("on"),
        instead: "leave it out (this is no PCIe part)",
    },
    Absent {
        name: "x-pcie-extcap-init",
        accepts: Some("on"),
        instead: "leave it out (this is no PCIe part)",
    },
    Absent { name: "bootindex", accepts: None, instead: "leave it out (the firmware's own order holds)" },
    Absent { name: "rombar", accepts: Some("0"), instead: ROM_BAR },
    Absent { name: "romsize", accepts: None, instead: ROM_BAR },
    Absent { name: "bus", accepts: Some("pci.0"), instead: "leave it out (there is one PCI bus)" },
    Absent {
        name: "multifunction",
        accepts: Some("off"),
        instead: "leave it out (every device has one function)",
    },
    Absent { name: "acpi-index", accepts: Some("0"), instead: "leave it out" },
    Absent { name: "failover_pair_id", accepts: None, instead: "leave it out" },
    Absent { name: "vlan", accepts: None, instead: "connect it by netdev=ID" },
    Absent { name: "macaddr", accepts: None, instead: "write mac=" },
];

/// `-device e1000`.
pub(super) fn i82540em(fields: &Fields<'_>) -> Result<Device, CliError> {
    build(NicModel::I82540Em, fields)
}

/// `-device e1000-82545em`.
pub(super) fn i82545em(fields: &Fields<'_>) -> Result<Device, CliError> {
    build(NicModel::I82545Em, fields)
}

/// `-device e1000-82544gc`.
pub(super) fn i82544gc(fields: &Fields<'_>) -> Result<Device, CliError> {
    build(NicModel::I82544Gc, fields)
}

fn build(model: NicModel, fields: &Fields<'_>) -> Result<Device, CliError> {
    let mac = fields.get("mac", values::mac)?;
    Ok(Device::E1000(E1000Options {
        model,
        id: fields.get("id", values::identifier)?,
        netdev: fields.get("netdev", values::identifier)?,
        mac: mac.unwrap_or(UNASSIGNED_MAC),
        mac_given: mac.is_some(),
        addr: fields.get("addr", values::pci_address)?,
        link_delay: fields.get("link-delay", link_delay)?.unwrap_or_default(),
        msi: fields.get("msi", values::on_off)?.unwrap_or(true),
        strict: fields.get("strict", values::on_off)?.unwrap_or(false),
        overflow: fields.get("overflow", overflow)?.unwrap_or_default(),
        eeprom: fields.get("eeprom", values::path)?,
        romfile: fields.get("romfile", romfile)?.flatten(),
        coverage: fields.get("coverage", values::path)?,
    }))
}

/// The empty value is QEMU's way to say that there is none.
fn romfile(text: &str) -> Result<Option<PathBuf>, Wrong> {
    if text.is_empty() { Ok(None) } else { values::path(text).map(Some) }
}

fn overflow(text: &str) -> Result<NicOverflow, Wrong> {
    values::one_of(text, &[("wait", NicOverflow::Wait), ("drop", NicOverflow::Drop)])
}

fn link_delay(text: &str) -> Result<Duration, Wrong> {
    const MOST: Duration = Duration::from_secs(60);
    let delay = values::duration(text, Duration::from_millis(1))?;
    if delay > MOST {
        return Err(Wrong::new(
            format!("{} is longer than any link takes", quoted(text)),
            "a number counts milliseconds, at most 60000",
        ));
    }
    Ok(delay)
}
