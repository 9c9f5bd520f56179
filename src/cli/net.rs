//! `-net` and `-nic`: the short forms, and the NIC that there is without any network option.
//!
//! Called by `options`, and by `check` when the command line is read to its end. `-net` puts a NIC or a backend on
//! a hub; `-nic` is a NIC and its backend in one. Both become what `-netdev` and `-device` would have made, so that
//! nothing behind the command line knows of them. Pure.

use super::config::{Device, HubPortOptions, Netdev, NetdevKind};
use super::device;
use super::draft::{Draft, Given};
use super::error::{CliError, Context, Wrong};
use super::keyval::{self, Absent, Fields, Key, Kind, Pair, Schema, Value};
use super::netdev::{self, Backend};
use super::nic::ADDR;
use super::values;

/// What one `-net` or `-nic` asks for.
#[derive(Debug)]
pub(super) enum Net {
    /// `-net nic`. Without a hub the device names its netdev itself.
    Nic { device: Device, hub: Option<u32> },
    /// `-net TYPE`.
    Backend { id: Option<String>, kind: NetdevKind, hub: u32 },
    /// `-nic TYPE`.
    Pair { id: Option<String>, kind: NetdevKind, device: Device },
}

/// What `-net` or `-nic` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(Box<Net>),
    /// `none`: there is no default NIC.
    Nothing,
    ListTypes,
    ListModels,
    ListKeys(&'static Backend, &'static [Key]),
    ListNicKeys,
}

/// Keys of `-net nic`.
pub(super) static NIC: Schema =
    Schema { what: "-net nic", keys: NIC_KEYS, absent: NIC_ABSENT, help: "-net nic,help" };

const NIC_KEYS: &[Key] = &[
    Key { name: "model", kind: Kind::Str, default: MODEL, text: "the device; model=help lists them" },
    Key {
        name: "macaddr",
        kind: Kind::Str,
        default: "52:54:00:12:34:56, counting up",
        text: "address in the EEPROM",
    },
    Key { name: "name", kind: Kind::Str, default: "", text: "name of the device" },
    ADDR,
    Key {
        name: "netdev",
        kind: Kind::Str,
        default: "",
        text: "id of the -netdev it is connected to, instead of a hub",
    },
    VLAN,
];

const NIC_ABSENT: &[Absent] =
    &[Absent { name: "vectors", accepts: None, instead: "leave it out (it is virtio's)" }];

const VLAN: Key = Key { name: "vlan", kind: Kind::Uint32, default: "0", text: "number of the hub" };

/// Keys that every backend has behind `-net`.
const ON_HUB: &[Key] = &[
    Key { name: "id", kind: Kind::Str, default: "", text: "name of the backend" },
    Key { name: "name", kind: Kind::Str, default: "", text: "the same as id" },
    VLAN,
];

/// Keys that every backend has behind `-nic`.
const WITH_NIC: &[Key] = &[
    Key { name: "id", kind: Kind::Str, default: "", text: "name of the backend" },
    Key { name: "model", kind: Kind::Str, default: MODEL, text: "the device; model=help lists them" },
    Key {
        name: "mac",
        kind: Kind::Str,
        default: "52:54:00:12:34:56, counting up",
        text: "address in the EEPROM",
    },
    Key { name: "macaddr", kind: Kind::Str, default: "", text: "the same as mac" },
];

/// The NIC unless `model=` says otherwise.
const MODEL: &str = "e1000";
/// The backend of `-nic` without a type, and of the default NIC.
const DEFAULT_BACKEND: &str = "user";

/// Reads the value of one `-net`.
pub(super) fn parse_net(context: &Context, text: &str) -> Result<Request, CliError> {
    let (name, pairs) = open(context, text)?;
    let name = name.ok_or_else(|| {
        context.error(Wrong::new("the type is missing", "write -net nic, -net tap or another backend"))
    })?;
    if name == "nic" {
        return net_nic(context, pairs);
    }
    let backend = match known(context, &name)? {
        Known::Backend(backend) => backend,
        Known::Answer(answer) => return Ok(answer),
    };
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(backend, ON_HUB));
    }
    let (fields, kind) = backend.read(context, pairs, ON_HUB)?;
    let id = either(&fields, "id", "name", values::identifier)?;
    let hub = fields.get("vlan", hub_number)?.unwrap_or_default();
    Ok(Request::Add(Box::new(Net::Backend { id, kind, hub })))
}

fn net_nic(context: &Context, pairs: Vec<Pair>) -> Result<Request, CliError> {
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListNicKeys);
    }
    let fields = Fields::read(context, pairs, &NIC)?;
    let text = |key| fields.get(key, |text| Ok(text.to_owned()));
    if text("model")?.is_some_and(|model| keyval::is_help(&model)) {
        return Ok(Request::ListModels);
    }
    let netdev = fields.get("netdev", values::identifier)?;
    let vlan = fields.get("vlan", hub_number)?;
    if netdev.is_some() && vlan.is_some() {
        return Err(fields.error(Wrong::new(
            "netdev= connects the NIC to a backend and vlan= to a hub",
            "leave out one of them",
        )));
    }
    let hub = if netdev.is_some() { None } else { Some(vlan.unwrap_or_default()) };
    let keys =
        [("mac", text("macaddr")?), ("id", text("name")?), ("addr", text("addr")?), ("netdev", netdev)];
    let device = nic(context, text("model")?, keys)?;
    Ok(Request::Add(Box::new(Net::Nic { device, hub })))
}

/// Reads the value of one `-nic`.
pub(super) fn parse_nic(context: &Context, text: &str) -> Result<Request, CliError> {
    let (name, pairs) = open(context, text)?;
    let name = name.unwrap_or_else(|| DEFAULT_BACKEND.to_owned());
    let asks_for_models = pairs.iter().any(|pair| {
        pair.key == "model" && matches!(&pair.value, Value::Text(model) if keyval::is_help(model))
    });
    if asks_for_models {
        return Ok(Request::ListModels);
    }
    let backend = match known(context, &name)? {
        Known::Backend(backend) => backend,
        Known::Answer(answer) => return Ok(answer),
    };
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(backend, WITH_NIC));
    }
    let (fields, kind) = backend.read(context, pairs, WITH_NIC)?;
    let text = |text: &str| Ok(text.to_owned());
    let mac = either(&fields, "mac", "macaddr", text)?;
    let device = nic(context, fields.get("model", text)?, [("mac", mac)])?;
    let id = fields.get("id", values::identifier)?;
    Ok(Request::Add(Box::new(Net::Pair { id, kind, device })))
}

enum Known {
    Backend(&'static Backend),
    Answer(Request),
}

fn known(context: &Context, name: &str) -> Result<Known, CliError> {
    match name {
        "none" => Ok(Known::Answer(Request::Nothing)),
        _ if keyval::is_help(name) => Ok(Known::Answer(Request::ListTypes)),
        _ => netdev::find(name).map(Known::Backend).map_err(|wrong| context.error(wrong)),
    }
}

/// The list without its type.
fn open(context: &Context, text: &str) -> Result<(Option<String>, Vec<Pair>), CliError> {
    let taken = || -> Result<_, Wrong> {
        let mut pairs = netdev::pairs(text, "type")?;
        Ok((keyval::take(&mut pairs, "type")?, pairs))
    };
    taken().map_err(|wrong| context.error(wrong))
}

/// The value of a key that has two names.
fn either<T>(
    fields: &Fields<'_>,
    key: &str,
    other: &str,
    parser: impl Fn(&str) -> Result<T, Wrong> + Copy,
) -> Result<Option<T>, CliError> {
    match (fields.get(key, parser)?, fields.get(other, parser)?) {
        (Some(_), Some(_)) => {
            Err(fields.error(Wrong::new(format!("{key}= and {other}= mean the same"), "keep one of them")))
        }
        (one, two) => Ok(one.or(two)),
    }
}

fn hub_number(text: &str) -> Result<u32, Wrong> {
    values::number(text, 0, i32::MAX as u64).map(|n| n as u32)
}

/// The device, read as `-device MODEL,KEY=VALUE` would be.
fn nic<const N: usize>(
    context: &Context,
    model: Option<String>,
    keys: [(&str, Option<String>); N],
) -> Result<Device, CliError> {
    let model = model.unwrap_or_else(|| MODEL.to_owned());
    let pair = |(key, value): (&str, Option<String>)| {
        value.map(|value| Pair { key: key.to_owned(), value: Value::Text(value) })
    };
    let device = device::build(context, &model, keys.into_iter().filter_map(pair).collect())?;
    match device {
        Device::E1000(_) => Ok(device),
        Device::IsaDebugExit(_) => {
            Err(context.error(Wrong::new(format!("'{model}' is no NIC"), "model=help lists the NICs")))
        }
    }
}

/// Without any word about a network: a NIC with user networking, where that is built in.
pub(super) fn add_default(draft: &mut Draft) -> Result<(), CliError> {
    if draft.says_network {
        return Ok(());
    }
    let Ok(backend) = netdev::find(DEFAULT_BACKEND) else { return Ok(()) };
    let context = Context::new("the default NIC");
    let (_, kind) = backend.read(&context, Vec::new(), WITH_NIC)?;
    let device = nic(&context, None, [])?;
    draft.nets.push(Given::new(&context, Net::Pair { id: None, kind, device }));
    Ok(())
}

/// Said once, however many `-net` there are.
pub(super) fn legacy_remark(draft: &Draft) -> Option<String> {
    let echo = draft.legacy.as_ref()?;
    Some(format!(
        "{echo}: -net is QEMU's old form, with a hub in between; -nic, or -netdev with -device, does without"
    ))
}

/// Turns every [`Net`] into netdevs and devices, the NICs before those of `-device`, and adds the default NIC.
pub(super) fn expand(draft: &mut Draft) {
    let mut onboard = Vec::new();
    for Given { echo, value } in std::mem::take(&mut draft.nets) {
        let mut plug_in = |mut device: Device, netdev: String| {
            if let Device::E1000(nic) = &mut device {
                nic.netdev = Some(netdev);
            }
            onboard.push(Given { echo: echo.clone(), value: device });
        };
        match value {
            Net::Nic { device, hub: None } => onboard.push(Given { echo, value: device }),
            Net::Nic { device, hub: Some(hub) } => {
                let port = add_port(draft, &echo, hub, None);
                plug_in(device, port);
            }
            Net::Backend { id, kind, hub } => {
                let id = add_netdev(draft, &echo, id, kind);
                add_port(draft, &echo, hub, Some(id));
            }
            Net::Pair { id, kind, device } => {
                let id = add_netdev(draft, &echo, id, kind);
                plug_in(device, id);
            }
        }
    }
    draft.devices.splice(0..0, onboard);
}

fn add_netdev(draft: &mut Draft, echo: &str, id: Option<String>, kind: NetdevKind) -> String {
    let id = id.unwrap_or_else(|| free_id(draft, |n| format!("#net{n}")));
    draft.netdevs.push(Given { echo: echo.to_owned(), value: Netdev { id: id.clone(), kind } });
    id
}

fn add_port(draft: &mut Draft, echo: &str, hubid: u32, netdev: Option<String>) -> String {
    let id = free_id(draft, |n| format!("hub{hubid}port{n}"));
    let kind = NetdevKind::HubPort(HubPortOptions { hubid, netdev, learning: None });
    add_netdev(draft, echo, Some(id), kind)
}

/// The first of the ids that `make` gives that no netdev has.
fn free_id(draft: &Draft, make: impl Fn(usize) -> String) -> String {
    let taken = |id: &String| draft.netdevs.iter().any(|netdev| netdev.value.id == *id);
    let free = (0..=draft.netdevs.len()).map(make).find(|id| !taken(id));
    // One more candidate than there are netdevs: one of them is free.
    free.unwrap_or_default()
}
