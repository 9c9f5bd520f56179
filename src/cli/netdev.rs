//! `-netdev`: the backends.
//!
//! Called by `options`. A backend is a row of [`BACKENDS`]; QEMU's other backends are rows of [`ABSENT`]. Pure:
//! whether a tap can be had is the host's word, asked by `netdev/tap`.

use super::config::{AddressChoice, Netdev, ScriptChoice, TapOptions};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Pair, Schema};
use super::suggest::did_you_mean;
use super::values;

/// A backend that exists.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) schema: Schema,
    build: fn(&Fields<'_>) -> Result<Netdev, CliError>,
}

/// What `-netdev` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(Netdev),
    ListBackends,
    ListKeys(&'static Backend),
}

pub(super) static BACKENDS: &[Backend] = &[Backend {
    name: "tap",
    text: "a tap interface of the host, created or attached to",
    schema: Schema { what: "-netdev tap", keys: TAP_KEYS, absent: TAP_ABSENT, help: "-netdev tap,help" },
    build: tap,
}];

const TAP_KEYS: &[Key] = &[
    Key {
        name: "id",
        kind: Kind::Str,
        default: "",
        text: "name that -device refers to by netdev= (required)",
    },
    Key {
        name: "ifname",
        kind: Kind::Str,
        default: "the kernel picks one",
        text: "interface to create or to attach to, at most 15 characters",
    },
    Key { name: "fd", kind: Kind::Uint32, default: "", text: "number of an inherited, open tap" },
    Key { name: "script", kind: Kind::Str, default: "no", text: "program to run when the tap is up, or no" },
    Key {
        name: "downscript",
        kind: Kind::Str,
        default: "no",
        text: "program to run before the tap goes, or no",
    },
    Key {
        name: "vnet_hdr",
        kind: Kind::Bool,
        default: "on where the tap has it",
        text: "pass checksum and segmentation requests to the host",
    },
    Key {
        name: "address",
        kind: Kind::Str,
        default: "10.0.2.2/24 on a tap of our own",
        text: "IPv4 address of the host's side, or none",
    },
];

const NO_VHOST: &str = "leave it out (vhost serves virtio NICs only)";
const ONE_QUEUE: &str = "leave it out (an e1000 has one queue)";
const TAP_ABSENT: &[Absent] = &[
    Absent {
        name: "br",
        accepts: None,
        instead: "leave it out: address= makes the host reachable without a bridge",
    },
    Absent {
        name: "helper",
        accepts: None,
        instead: "make the tap beforehand and name it by ifname=, or hand it over by fd=",
    },
    Absent { name: "fds", accepts: None, instead: "hand over one tap by fd=" },
    Absent { name: "queues", accepts: Some("1"), instead: ONE_QUEUE },
    Absent { name: "sndbuf", accepts: Some("0"), instead: "leave it out" },
    Absent { name: "vhost", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "vhostfd", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostfds", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostforce", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "poll-us", accepts: None, instead: NO_VHOST },
];

const USE_TAP: &str = "use -netdev tap,id=ID";
/// QEMU's backends that are not here.
const ABSENT: &[Absent] = &[
    Absent { name: "user", accepts: None, instead: "use -netdev tap,id=ID: it brings the same 10.0.2.0/24" },
    Absent {
        name: "bridge",
        accepts: None,
        instead: "use -netdev tap,id=ID,ifname=TAP with a tap on that bridge",
    },
    Absent { name: "socket", accepts: None, instead: USE_TAP },
    Absent { name: "stream", accepts: None, instead: USE_TAP },
    Absent { name: "dgram", accepts: None, instead: USE_TAP },
    Absent { name: "hubport", accepts: None, instead: USE_TAP },
    Absent { name: "l2tpv3", accepts: None, instead: USE_TAP },
    Absent { name: "vde", accepts: None, instead: USE_TAP },
    Absent { name: "passt", accepts: None, instead: USE_TAP },
    Absent {
        name: "vhost-user",
        accepts: None,
        instead: "it serves virtio NICs only; use -netdev tap,id=ID",
    },
    Absent {
        name: "vhost-vdpa",
        accepts: None,
        instead: "it serves virtio NICs only; use -netdev tap,id=ID",
    },
    Absent { name: "af-xdp", accepts: None, instead: USE_TAP },
    Absent { name: "netmap", accepts: None, instead: USE_TAP },
    Absent { name: "vmnet-host", accepts: None, instead: "it is macOS's; use -netdev tap,id=ID" },
    Absent { name: "vmnet-shared", accepts: None, instead: "it is macOS's; use -netdev tap,id=ID" },
    Absent { name: "vmnet-bridged", accepts: None, instead: "it is macOS's; use -netdev tap,id=ID" },
];

/// Reads the value of one `-netdev`.
pub(super) fn parse(context: &Context, text: &str) -> Result<Request, CliError> {
    let mut pairs = pairs(text, "type").map_err(|wrong| context.error(wrong))?;
    let name = keyval::take(&mut pairs, "type")
        .and_then(|name| {
            name.ok_or_else(|| Wrong::new("the type of the backend is missing", "write -netdev tap,id=ID"))
        })
        .map_err(|wrong| context.error(wrong))?;
    if keyval::is_help(&name) {
        return Ok(Request::ListBackends);
    }
    let backend = BACKENDS
        .iter()
        .find(|backend| backend.name == name)
        .ok_or_else(|| context.error(unknown_backend(&name)))?;
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(backend));
    }
    let fields = Fields::read(context, pairs, &backend.schema)?;
    (backend.build)(&fields).map(Request::Add)
}

/// The list in either of its forms: `key=value,...` or a JSON object.
pub(super) fn pairs(text: &str, implied: &str) -> Result<Vec<Pair>, Wrong> {
    if text.trim_start().starts_with('{') { keyval::json(text) } else { keyval::split(text, implied) }
}

fn unknown_backend(name: &str) -> Wrong {
    if let Some(absent) = ABSENT.iter().find(|absent| absent.name == name) {
        return Wrong::new(format!("QEMU's backend '{name}' is not here"), absent.instead);
    }
    let names = BACKENDS.iter().map(|backend| backend.name);
    Wrong::new(
        format!("{} is not a backend", quoted(name)),
        did_you_mean(name, names, "-netdev help lists what there is"),
    )
}

fn tap(fields: &Fields<'_>) -> Result<Netdev, CliError> {
    let id = fields.get("id", values::identifier)?.ok_or_else(|| {
        fields.error(Wrong::new("id= is missing", "add id=n0 here and netdev=n0 to the -device"))
    })?;
    let options = TapOptions {
        id,
        ifname: fields.get("ifname", values::interface_name)?,
        script: fields.get("script", script)?.unwrap_or_default(),
        downscript: fields.get("downscript", script)?.unwrap_or_default(),
        fd: fields.get("fd", inherited_fd)?,
        vnet_hdr: fields.get("vnet_hdr", values::on_off)?,
        address: fields.get("address", values::host_address)?.unwrap_or(AddressChoice::Default),
    };
    if options.fd.is_some() {
        let settled = fields.given(&["ifname", "script", "downscript", "vnet_hdr"]);
        if !settled.is_empty() {
            return Err(fields.error(Wrong::new(
                format!(
                    "fd= brings a tap that is already set up, so {}= cannot go with it",
                    settled.join("=, ")
                ),
                "leave out one or the other",
            )));
        }
    }
    Ok(Netdev::Tap(options))
}

fn script(text: &str) -> Result<ScriptChoice, Wrong> {
    match text {
        "no" => Ok(ScriptChoice::No),
        _ => values::path(text).map(ScriptChoice::Path),
    }
}

fn inherited_fd(text: &str) -> Result<i32, Wrong> {
    const FIRST: u64 = 3;
    let fd = values::number(text, 0, i32::MAX as u64)?;
    if fd < FIRST {
        return Err(Wrong::new(
            format!("{fd} is standard input, output or error"),
            "hand the tap over as 3 or more, as in: minivmm ... fd=3 3<>/dev/tapN",
        ));
    }
    Ok(fd as i32)
}
