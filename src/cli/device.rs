//! `-device`: the device models.
//!
//! Called by `options`. A model is a row of [`MODELS`]; QEMU's models that a user may try are rows of
//! [`ABSENT`]. Pure. References between devices and netdevs are resolved later, in `check`.

use std::time::Duration;

use super::config::{Device, E1000Options, IsaDebugExitOptions};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Pair, Schema};
use super::netdev::pairs;
use super::suggest::did_you_mean;
use super::values;

/// A model that exists.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) bus: &'static str,
    pub(super) text: &'static str,
    pub(super) schema: Schema,
    build: fn(&Fields<'_>) -> Result<Device, CliError>,
}

/// What `-device` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(Device),
    ListModels,
    ListKeys(&'static Model),
}

/// Stands in [`E1000Options::mac`] until `check` has given the NIC its address; no NIC can ask for it.
pub(super) const UNASSIGNED_MAC: [u8; 6] = [0; 6];

pub(super) static MODELS: &[Model] = &[
    Model {
        name: "e1000",
        aliases: &["e1000-82540em"],
        bus: "PCI",
        text: "Intel 82540EM gigabit Ethernet",
        schema: Schema {
            what: "-device e1000",
            keys: E1000_KEYS,
            absent: E1000_ABSENT,
            help: "-device e1000,help",
        },
        build: e1000,
    },
    Model {
        name: "isa-debug-exit",
        aliases: &[],
        bus: "ISA",
        text: "the guest ends the run: writing n gives exit status 2n+1",
        schema: Schema {
            what: "-device isa-debug-exit",
            keys: ISA_DEBUG_EXIT_KEYS,
            absent: &[],
            help: "-device isa-debug-exit,help",
        },
        build: isa_debug_exit,
    },
];

const ID: Key = Key { name: "id", kind: Kind::Str, default: "", text: "name of the device" };

const E1000_KEYS: &[Key] = &[
    Key {
        name: "addr",
        kind: Kind::Str,
        default: "the first free slot",
        text: "PCI slot, hexadecimal, 1 to 1e",
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
    Key { name: "netdev", kind: Kind::Str, default: "", text: "id of the -netdev it is connected to" },
];

const NO_ROM: &str = "leave it out (there is no firmware that would run an option ROM)";
const ALWAYS_ON: &str = "leave it out (it is always on)";
const E1000_ABSENT: &[Absent] = &[
    Absent { name: "autonegotiation", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "mitigation", accepts: Some("on"), instead: "leave it out (the guest's ITR decides)" },
    Absent { name: "extra_mac_registers", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "init-vet", accepts: Some("on"), instead: ALWAYS_ON },
    Absent { name: "migrate_tso_props", accepts: Some("on"), instead: "leave it out" },
    Absent { name: "bootindex", accepts: None, instead: "leave it out (the kernel comes by -kernel)" },
    Absent { name: "romfile", accepts: Some(""), instead: NO_ROM },
    Absent { name: "rombar", accepts: Some("0"), instead: NO_ROM },
    Absent { name: "romsize", accepts: None, instead: NO_ROM },
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

const ISA_DEBUG_EXIT_KEYS: &[Key] = &[
    ID,
    Key { name: "iobase", kind: Kind::Uint32, default: "0x501", text: "first I/O port" },
    Key { name: "iosize", kind: Kind::Uint32, default: "2", text: "number of I/O ports: 1, 2 or 4" },
];

const NIC_IS_E1000: &str = "the NIC here is e1000";
/// QEMU's models that are not here.
const ABSENT: &[Absent] = &[
    Absent { name: "e1000e", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "e1000-82544gc", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "e1000-82545em", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "igb", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "rtl8139", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "ne2k_pci", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "pcnet", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "vmxnet3", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "virtio-net", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "virtio-net-pci", accepts: None, instead: NIC_IS_E1000 },
    Absent {
        name: "virtio-blk-pci",
        accepts: None,
        instead: "there are no disks; files come by -initrd or -fw_cfg",
    },
    Absent { name: "virtio-rng-pci", accepts: None, instead: "leave it out" },
    Absent { name: "isa-serial", accepts: None, instead: "use -serial" },
    Absent { name: "pvpanic", accepts: None, instead: "leave it out" },
    Absent { name: "VGA", accepts: None, instead: "leave it out: there is no display, only serial ports" },
];

/// Reads the value of one `-device`.
pub(super) fn parse(context: &Context, text: &str) -> Result<Request, CliError> {
    let mut pairs = pairs(text, "driver").map_err(|wrong| context.error(wrong))?;
    let name = keyval::take(&mut pairs, "driver")
        .and_then(|name| {
            name.ok_or_else(|| Wrong::new("the model is missing", "write -device e1000,netdev=ID"))
        })
        .map_err(|wrong| context.error(wrong))?;
    if keyval::is_help(&name) {
        return Ok(Request::ListModels);
    }
    let model = find(context, &name)?;
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(model));
    }
    model.read(context, pairs).map(Request::Add)
}

/// The device of the model called `name`, for options that bring one along.
pub(super) fn build(context: &Context, name: &str, pairs: Vec<Pair>) -> Result<Device, CliError> {
    find(context, name)?.read(context, pairs)
}

fn find(context: &Context, name: &str) -> Result<&'static Model, CliError> {
    let found = MODELS.iter().find(|model| model.name == name || model.aliases.contains(&name));
    found.ok_or_else(|| context.error(unknown_model(name)))
}

impl Model {
    fn read(&self, context: &Context, pairs: Vec<Pair>) -> Result<Device, CliError> {
        (self.build)(&Fields::read(context, pairs, &self.schema)?)
    }
}

fn unknown_model(name: &str) -> Wrong {
    if let Some(absent) = ABSENT.iter().find(|absent| absent.name == name) {
        return Wrong::new(format!("QEMU's '{name}' is not here"), absent.instead);
    }
    let names = MODELS.iter().map(|model| model.name);
    Wrong::new(
        format!("{} is not a device", quoted(name)),
        did_you_mean(name, names, "-device help lists what there is"),
    )
}

fn e1000(fields: &Fields<'_>) -> Result<Device, CliError> {
    Ok(Device::E1000(E1000Options {
        id: fields.get("id", values::identifier)?,
        netdev: fields.get("netdev", values::identifier)?,
        mac: fields.get("mac", values::mac)?.unwrap_or(UNASSIGNED_MAC),
        addr: fields.get("addr", values::pci_address)?,
        link_delay: fields.get("link-delay", link_delay)?.unwrap_or_default(),
    }))
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

fn isa_debug_exit(fields: &Fields<'_>) -> Result<Device, CliError> {
    let iosize = fields.get("iosize", port_count)?.unwrap_or(2);
    let last = 0x1_0000 - u64::from(iosize);
    let iobase = fields.get("iobase", |text| values::number(text, 0, last))?.unwrap_or(0x501);
    Ok(Device::IsaDebugExit(IsaDebugExitOptions {
        id: fields.get("id", values::identifier)?,
        iobase: iobase as u16,
        iosize,
    }))
}

fn port_count(text: &str) -> Result<u16, Wrong> {
    match values::number(text, 1, 4)? {
        3 => Err(Wrong::from("3 is not the width of an access; write 1, 2 or 4".to_owned())),
        width => Ok(width as u16),
    }
}
