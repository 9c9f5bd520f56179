//! Where serial ports and monitors lead: the value of `-serial`, `-monitor` and `-qmp`.
//!
//! Called by `options`. The kinds are rows of [`KINDS`], from which the help is made too. Pure.

use super::config::Chardev;
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Schema};
use super::suggest::did_you_mean;
use super::values;

/// Longest path of a Unix socket: sun_path less the terminating zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A kind that exists, as it is written, with what it does.
pub(super) static KINDS: &[(&str, &str)] = &[
    ("stdio", "standard input and output; Ctrl-A h lists its keys; mon:stdio is the same"),
    ("null", "a port that swallows everything"),
    ("none", "no port"),
    ("file:PATH", "output into a file, from its start"),
    (
        "unix:PATH[,server=on|off][,wait=on|off]",
        "a Unix socket; server=on listens, wait=on waits for a client",
    ),
    (
        "tcp:[HOST]:PORT[,server=on|off][,wait=on|off]",
        "a TCP port, likewise; for -monitor and -qmp name a HOST",
    ),
];

const SERVER: Key = Key { name: "server", kind: Kind::Bool, default: "off", text: "listen" };
const WAIT: Key = Key { name: "wait", kind: Kind::Bool, default: "on", text: "wait for a client" };

const UNIX: Schema = Schema {
    what: "unix",
    keys: &[Key { name: "path", kind: Kind::Str, default: "", text: "the socket" }, SERVER, WAIT],
    absent: &[],
    help: "-serial help",
};

const TCP: Schema = Schema {
    what: "tcp",
    keys: &[Key { name: "address", kind: Kind::Str, default: "", text: "host and port" }, SERVER, WAIT],
    absent: &[
        Absent { name: "nodelay", accepts: Some("on"), instead: "leave it out: nothing is delayed" },
        Absent { name: "ipv4", accepts: None, instead: "name the address" },
        Absent { name: "ipv6", accepts: None, instead: "name the address" },
        Absent { name: "to", accepts: None, instead: "name one port" },
    ],
    help: "-serial help",
};

/// Reads the value. None: help was asked for.
pub(super) fn parse(context: &Context, text: &str) -> Result<Option<Chardev>, CliError> {
    if keyval::is_help(text) {
        return Ok(None);
    }
    let serial = match text.split_once(':') {
        _ if text == "stdio" || text == "mon:stdio" => Chardev::Stdio,
        _ if text == "null" => Chardev::Null,
        _ if text == "none" => Chardev::None,
        Some(("file", path)) => {
            Chardev::File(values::path(path).map_err(|wrong| context.error(wrong.at("file")))?)
        }
        Some(("unix", list)) => unix(context, list)?,
        Some(("tcp", list)) => tcp(context, list)?,
        _ => return Err(context.error(unknown(text))),
    };
    Ok(Some(serial))
}

/// Whom nobody else on the host's network reaches.
const THIS_HOST: &str = "127.0.0.1";
/// QEMU's port for gdb.
const GDB_PORT: u16 = 1234;

/// What `-s` stands for.
pub(super) fn default_gdb() -> Chardev {
    Chardev::Tcp { host: THIS_HOST.to_owned(), port: GDB_PORT, server: true, wait: false }
}

/// Reads the value of `-gdb`: a server's place, whatever it says of that. None: no debugger.
pub(super) fn gdb(context: &Context, text: &str) -> Result<Option<Chardev>, CliError> {
    let wrong = || Wrong::new("gdb cannot connect to that", "write tcp::1234 or unix:PATH");
    let (server, wait) = (true, false);
    let port = text.strip_prefix("tcp:").unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        let advice = format!("did you mean tcp::{port}?");
        return Err(context.error(Wrong::new("a port stands behind two colons", advice)));
    }
    if !["none", "tcp", "unix"].contains(&text.split(':').next().unwrap_or_default()) {
        return Err(context.error(wrong()));
    }
    Ok(Some(match parse(context, text)? {
        Some(Chardev::None) => return Ok(None),
        Some(Chardev::Unix { path, .. }) => Chardev::Unix { path, server, wait },
        Some(Chardev::Tcp { host, port, .. }) => {
            // Whoever debugs a guest owns it: other hosts are asked in by name only.
            let host = if host.is_empty() { THIS_HOST.to_owned() } else { host };
            Chardev::Tcp { host, port, server, wait }
        }
        _ => return Err(context.error(wrong())),
    }))
}

fn unix(context: &Context, list: &str) -> Result<Chardev, CliError> {
    let pairs = keyval::split(list, "path").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &UNIX)?;
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
    let (server, wait) = server(&fields)?;
    Ok(Chardev::Unix { path, server, wait })
}

/// `server=` and `wait=`.
fn server(fields: &Fields<'_>) -> Result<(bool, bool), CliError> {
    let server = fields.get("server", values::on_off)?.unwrap_or(false);
    let wait = fields.get("wait", values::on_off)?;
    if wait == Some(true) && !server {
        return Err(fields.error(Wrong::new("only a server can wait for a client", "add server=on")));
    }
    Ok((server, wait.unwrap_or(server)))
}

fn tcp(context: &Context, list: &str) -> Result<Chardev, CliError> {
    let pairs = keyval::split(list, "address").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &TCP)?;
    let (host, port) = fields
        .get("address", host_and_port)?
        .ok_or_else(|| fields.error(Wrong::new("host and port are missing", "write tcp:127.0.0.1:4444")))?;
    let (server, wait) = server(&fields)?;
    Ok(Chardev::Tcp { host, port, server, wait })
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), Wrong> {
    let how = "write HOST:PORT, as in 127.0.0.1:4444 or [::1]:4444";
    let (host, port) = text.rsplit_once(':').ok_or_else(|| Wrong::new("there is no port", how))?;
    let port = port.parse().ok().filter(|&port| port > 0);
    let port = port.ok_or_else(|| Wrong::new("the port is not a number from 1 to 65535", how))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), port))
}

fn unknown(text: &str) -> Wrong {
    let kind = text.split(':').next().unwrap_or_default();
    let absent = |instead: &str| Wrong::new(format!("QEMU's {} is not here", quoted(kind)), instead);
    match kind {
        "mon" => Wrong::new("only stdio is shared with the monitor", "write mon:stdio or stdio"),
        "file" | "unix" => Wrong::new("the path is missing", format!("write {kind}:PATH")),
        "tcp" => Wrong::new("the port is missing", "write tcp:HOST:PORT"),
        "telnet" | "websocket" | "udp" => absent("use tcp:HOST:PORT or unix:PATH"),
        "pty" | "vc" | "con" => absent("use -serial stdio"),
        "pipe" | "chardev" | "fdset" => absent("use -serial unix:PATH or -serial file:PATH"),
        "msmouse" | "braille" | "wctablet" => absent("leave it out"),
        _ if text.starts_with('/') => {
            Wrong::new("host devices are not here", "use -serial stdio or file:PATH")
        }
        _ => {
            let names = KINDS.iter().filter_map(|(form, _)| form.split(':').next());
            Wrong::new(
                format!("{} is not a place for a serial port or a monitor", quoted(text)),
                did_you_mean(kind, names, "-serial help lists what there is"),
            )
        }
    }
}
