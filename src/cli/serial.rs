//! `-serial`: where the serial ports lead.
//!
//! Called by `options`. The kinds are rows of [`KINDS`], from which the help is made too. Pure.

use super::config::Serial;
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Fields, Key, Kind, Schema};
use super::suggest::did_you_mean;
use super::values;

/// Longest path of a Unix socket: sun_path less the terminating zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A kind that exists, as it is written, with what it does.
pub(super) static KINDS: &[(&str, &str)] = &[
    ("stdio", "standard input and output; Ctrl-A x quits, Ctrl-A h helps"),
    ("null", "a port that swallows everything"),
    ("none", "no port"),
    ("file:PATH", "output into a file, from its start"),
    (
        "unix:PATH[,server=on|off][,wait=on|off]",
        "a Unix socket; server=on listens, wait=on waits for a client",
    ),
];

const SOCKET: Schema = Schema {
    what: "-serial unix",
    keys: &[
        Key { name: "path", kind: Kind::Str, default: "", text: "the socket" },
        Key { name: "server", kind: Kind::Bool, default: "off", text: "listen" },
        Key { name: "wait", kind: Kind::Bool, default: "on", text: "wait for a client" },
    ],
    absent: &[],
    help: "-serial help",
};

/// Reads the value of one `-serial`. None: help was asked for.
pub(super) fn parse(context: &Context, text: &str) -> Result<Option<Serial>, CliError> {
    if keyval::is_help(text) {
        return Ok(None);
    }
    let serial = match text.split_once(':') {
        _ if text == "stdio" => Serial::Stdio,
        _ if text == "null" => Serial::Null,
        _ if text == "none" => Serial::None,
        Some(("file", path)) => {
            Serial::File(values::path(path).map_err(|wrong| context.error(wrong.at("file")))?)
        }
        Some(("unix", list)) => unix(context, list)?,
        _ => return Err(context.error(unknown(text))),
    };
    Ok(Some(serial))
}

fn unix(context: &Context, list: &str) -> Result<Serial, CliError> {
    let pairs = keyval::split(list, "path").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &SOCKET)?;
    let path = fields
        .get("path", values::path)?
        .ok_or_else(|| fields.error(Wrong::new("the path of the socket is missing", "write unix:PATH")))?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(fields.error(Wrong::new(
            format!("the path is {length} bytes long and a socket's may have {MAX_SOCKET_PATH}"),
            "use a shorter one, for instance under /tmp",
        )));
    }
    let server = fields.get("server", values::on_off)?.unwrap_or(false);
    let wait = fields.get("wait", values::on_off)?;
    if wait == Some(true) && !server {
        return Err(fields.error(Wrong::new("only a server can wait for a client", "add server=on")));
    }
    Ok(Serial::Unix { path, server, wait: wait.unwrap_or(server) })
}

fn unknown(text: &str) -> Wrong {
    let kind = text.split(':').next().unwrap_or_default();
    let absent = |instead: &str| Wrong::new(format!("QEMU's {} is not here", quoted(kind)), instead);
    match kind {
        "mon" => Wrong::new("there is no monitor to share the port with", "use -serial stdio"),
        "file" | "unix" => Wrong::new("the path is missing", format!("write {kind}:PATH")),
        "tcp" | "telnet" | "websocket" | "udp" => absent("use -serial unix:PATH,server=on and socat"),
        "pty" | "vc" | "con" => absent("use -serial stdio"),
        "pipe" | "chardev" | "fdset" => absent("use -serial unix:PATH or -serial file:PATH"),
        "msmouse" | "braille" | "wctablet" => absent("leave it out"),
        _ if text.starts_with('/') => {
            Wrong::new("host devices are not here", "use -serial stdio or file:PATH")
        }
        _ => {
            let names = KINDS.iter().filter_map(|(form, _)| form.split(':').next());
            Wrong::new(
                format!("{} is not a place for a serial port", quoted(text)),
                did_you_mean(kind, names, "-serial help lists what there is"),
            )
        }
    }
}
