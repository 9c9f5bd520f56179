//! `-netdev`: the backends.
//!
//! Called by `options`, and by `net` for `-net` and `-nic`. A backend is a file here and a row of [`BACKENDS`]; QEMU's other backends are rows of
//! `absent`. Pure: whether a tap can be had is the host's word, asked by `netdev/tap`.

mod absent;
pub(super) mod address;
mod bridge;
mod dgram;
mod hubport;
mod l2tpv3;
mod passt;
mod socket;
pub(super) mod stream;
mod tap;
mod user;

use super::config::{Netdev, NetdevKind, ScriptChoice};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Fields, Key, Kind, Pair, Schema};
use super::suggest::did_you_mean;
use super::values;

/// A backend that exists.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Its own keys; those that all backends have are [`COMMON`].
    pub(super) schema: Schema,
    build: fn(&Fields<'_>) -> Result<NetdevKind, CliError>,
}

/// What `-netdev` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(Netdev),
    ListBackends,
    ListKeys(&'static Backend),
}

pub(super) static BACKENDS: &[&Backend] = &[
    &tap::BACKEND,
    &user::BACKEND,
    &bridge::BACKEND,
    &stream::BACKEND,
    &dgram::BACKEND,
    &socket::BACKEND,
    &l2tpv3::BACKEND,
    &passt::BACKEND,
    &hubport::BACKEND,
];

/// A row of a backend's keys.
pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, text: &'static str) -> Key {
    Key { name, kind, default, text }
}

/// Keys of every `-netdev`.
pub(super) const COMMON: &[Key] = &[Key {
    name: "id",
    kind: Kind::Str,
    default: "",
    text: "name that -device refers to by netdev= (required)",
}];

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
    let backend = find(&name).map_err(|wrong| context.error(wrong))?;
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(backend));
    }
    let (fields, kind) = backend.read(context, pairs, COMMON)?;
    let id = fields.get("id", values::identifier)?.ok_or_else(|| {
        fields.error(Wrong::new("id= is missing", "add id=n0 here and netdev=n0 to the -device"))
    })?;
    Ok(Request::Add(Netdev { id, kind }))
}

impl Backend {
    /// Reads its keys, and those in `common` that the option has for all backends.
    pub(super) fn read<'a>(
        &self,
        context: &'a Context,
        pairs: Vec<Pair>,
        common: &'static [Key],
    ) -> Result<(Fields<'a>, NetdevKind), CliError> {
        let fields = Fields::read_with(context, pairs, &self.schema, common)?;
        // A key of both (the NIC's mac= and passt's) is the option's.
        let kind = (self.build)(&fields.without(common))?;
        Ok((fields, kind))
    }
}

/// The list in either of its forms: `key=value,...` or a JSON object.
pub(super) fn pairs(text: &str, implied: &str) -> Result<Vec<Pair>, Wrong> {
    if text.trim_start().starts_with('{') { keyval::json(text) } else { keyval::split(text, implied) }
}

/// The backend of this name.
pub(super) fn find(name: &str) -> Result<&'static Backend, Wrong> {
    if let Some(backend) = BACKENDS.iter().find(|backend| backend.name == name) {
        return Ok(backend);
    }
    if let Some(absent) = absent::ABSENT.iter().find(|absent| absent.name == name) {
        return Err(Wrong::new(format!("QEMU's backend '{name}' is not here"), absent.instead));
    }
    let names = BACKENDS.iter().map(|backend| backend.name);
    Err(Wrong::new(
        format!("{} is not a backend", quoted(name)),
        did_you_mean(name, names, "-netdev help lists what there is"),
    ))
}

/// A program to run, or `no`.
fn path_or_no(text: &str) -> Result<ScriptChoice, Wrong> {
    match text {
        "no" => Ok(ScriptChoice::No),
        _ => values::path(text).map(ScriptChoice::Path),
    }
}
