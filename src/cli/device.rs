//! `-device`: the device models.
//!
//! Called by `options`. A model is a row of [`MODELS`]; QEMU's models that a user may try are rows of
//! [`ABSENT`]. Pure. References between devices and netdevs are resolved later, in `check`.

use super::config::{Device, IsaDebugExitOptions};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Pair, Schema};
use super::netdev::pairs;
use super::nic;
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

pub(super) static MODELS: &[Model] = &[
    Model {
        name: "e1000",
        aliases: &["e1000-82540em"],
        bus: "PCI",
        text: "Intel 82540EM gigabit Ethernet",
        schema: nic::schema("-device e1000", "-device e1000,help"),
        build: nic::i82540em,
    },
    Model {
        name: "e1000-82544gc",
        aliases: &[],
        bus: "PCI",
        text: "Intel 82544GC gigabit Ethernet",
        schema: nic::schema("-device e1000-82544gc", "-device e1000-82544gc,help"),
        build: nic::i82544gc,
    },
    Model {
        name: "e1000-82545em",
        aliases: &[],
        bus: "PCI",
        text: "Intel 82545EM gigabit Ethernet",
        schema: nic::schema("-device e1000-82545em", "-device e1000-82545em,help"),
        build: nic::i82545em,
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

pub(super) const ID: Key = Key { name: "id", kind: Kind::Str, default: "", text: "name of the device" };

const ISA_DEBUG_EXIT_KEYS: &[Key] = &[
    ID,
    Key { name: "iobase", kind: Kind::Uint32, default: "0x501", text: "first I/O port" },
    Key { name: "iosize", kind: Kind::Uint32, default: "2", text: "number of I/O ports: 1, 2 or 4" },
];

const NIC_IS_E1000: &str = "the NIC here is e1000";
/// QEMU's models that are not here.
const ABSENT: &[Absent] = &[
    Absent { name: "e1000e", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "igb", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "rtl8139", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "ne2k_pci", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "pcnet", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "vmxnet3", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "ne2k_isa", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "tulip", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "i82551", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "i82557b", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "i82559er", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "usb-net", accepts: None, instead: NIC_IS_E1000 },
    Absent { name: "virtio", accepts: None, instead: NIC_IS_E1000 },
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
