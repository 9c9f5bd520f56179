//! `-chardev socket`: connections for the filters that name one by `indev=` or `outdev=`.
//!
//! Called by `options`. QEMU's other character devices have no option of their own here: serial ports and monitors
//! take their place in their own options (`chardev`). Pure: opens nothing.

use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Schema};
use super::netdev::{address, key, pairs, stream};
use super::socket_options::{InetAddress, SocketAddress, SocketChardev, UnixAddress};
use super::values;

/// What `-chardev` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(SocketChardev),
    ListTypes,
    ListKeys,
}

pub(super) static SCHEMA: Schema =
    Schema { what: "-chardev socket", keys: KEYS, absent: ABSENT, help: "-chardev socket,help" };

const KEYS: &[Key] = &[
    key("id", Kind::Str, "", "name that a filter refers to by indev= or outdev= (required)"),
    key("path", Kind::Str, "", "path of a Unix socket"),
    key("abstract", Kind::Bool, "off", "path= is a name outside the file system"),
    key("host", Kind::Str, "", "TCP: host name or address"),
    key("port", Kind::Uint32, "", "TCP: port number"),
    key("ipv4", Kind::Bool, "", "TCP: use IPv4 addresses"),
    key("ipv6", Kind::Bool, "", "TCP: use IPv6 addresses"),
    key("fd", Kind::Str, "", "number of an inherited socket, instead of an address"),
    key("server", Kind::Bool, "off", "listen at the address; off: connect to it"),
    key("wait", Kind::Bool, "on", "a server waits for its first client before the machine starts"),
    key("reconnect", Kind::Uint32, "never", "seconds after which a client tries again"),
    key("reconnect-ms", Kind::Uint32, "never", "the same in milliseconds"),
];

const NOT_A_TERMINAL: &str = "leave it out: frames pass as they are";
const ABSENT: &[Absent] = &[
    Absent { name: "nodelay", accepts: Some("on"), instead: "leave it out: nothing is delayed" },
    Absent { name: "delay", accepts: Some("off"), instead: "leave it out: nothing is delayed" },
    Absent { name: "to", accepts: None, instead: "choose one port" },
    Absent { name: "tight", accepts: Some("on"), instead: "leave it out" },
    Absent { name: "telnet", accepts: Some("off"), instead: NOT_A_TERMINAL },
    Absent { name: "tn3270", accepts: Some("off"), instead: NOT_A_TERMINAL },
    Absent { name: "websocket", accepts: Some("off"), instead: NOT_A_TERMINAL },
    Absent { name: "mux", accepts: Some("off"), instead: "give each filter a chardev of its own" },
    Absent { name: "tls-creds", accepts: None, instead: "tunnel the connection by ssh or stunnel" },
    Absent { name: "tls-authz", accepts: None, instead: "tunnel the connection by ssh or stunnel" },
    Absent { name: "logfile", accepts: None, instead: "use -object filter-dump" },
    Absent { name: "logappend", accepts: Some("off"), instead: "use -object filter-dump" },
];

/// QEMU's other types.
const TYPES: &[&str] = &[
    "null",
    "udp",
    "msmouse",
    "hub",
    "vc",
    "ringbuf",
    "file",
    "pipe",
    "pty",
    "stdio",
    "braille",
    "serial",
    "tty",
    "parallel",
    "parport",
    "spicevmc",
    "spiceport",
    "qemu-vdagent",
    "dbus",
];

/// Reads the value of one `-chardev`.
pub(super) fn parse(context: &Context, text: &str) -> Result<Request, CliError> {
    let mut pairs = pairs(text, "backend").map_err(|wrong| context.error(wrong))?;
    let how = "write -chardev socket,id=ID,path=PATH,server=on,wait=off";
    let name = keyval::take(&mut pairs, "backend")
        .and_then(|name| name.ok_or_else(|| Wrong::new("the type is missing", how)))
        .map_err(|wrong| context.error(wrong))?;
    match name.as_str() {
        "socket" => {}
        help if keyval::is_help(help) => return Ok(Request::ListTypes),
        other if TYPES.contains(&other) => {
            return Err(context.error(Wrong::new(
                format!("QEMU's {} is not here", quoted(other)),
                "write the place into -serial, -monitor or -qmp",
            )));
        }
        other => return Err(context.error(Wrong::new(format!("{} is not a chardev", quoted(other)), how))),
    }
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys);
    }
    let fields = Fields::read(context, pairs, &SCHEMA)?;
    let id = fields.get("id", values::identifier)?;
    let id = id.ok_or_else(|| fields.error(Wrong::new("id= is missing", "add id=c0")))?;
    let stream = stream::options(&fields, addressed(&fields)?)?;
    let wait = fields.get("wait", values::on_off)?;
    if wait == Some(true) && !stream.server {
        return Err(fields.error(Wrong::new("only a server can wait for a client", "add server=on")));
    }
    let wait = wait.unwrap_or(stream.server);
    Ok(Request::Add(SocketChardev { id, stream, wait }))
}

/// `path=`, `host=` and `port=`, or `fd=`: one of them.
fn addressed(fields: &Fields<'_>) -> Result<SocketAddress, CliError> {
    let kinds: &[&[&str]] = &[&["path", "abstract"], &["host", "port", "ipv4", "ipv6"], &["fd"]];
    let mut given = kinds.iter().map(|kind| fields.given(kind)).filter(|given| !given.is_empty());
    let (first, second) = (given.next(), given.next());
    if let (Some(first), Some(second)) = (&first, &second) {
        let problem = format!("{}= and {}= name two places", first[0], second[0]);
        return Err(fields.error(Wrong::new(problem, "keep path=, or host= and port=, or fd=")));
    }
    let missing = |what: &str| {
        fields.error(Wrong::new(format!("{what} is missing"), "add path=PATH, or host=HOST,port=PORT"))
    };
    if let Some(fd) = fields.get("fd", address::inherited_fd)? {
        return Ok(SocketAddress::Fd(fd));
    }
    if first.is_some_and(|first| first.iter().any(|name| ["path", "abstract"].contains(name))) {
        let path = fields.get("path", address::unix_name)?.ok_or_else(|| missing("path="))?;
        let hidden = fields.get("abstract", values::on_off)?.unwrap_or(false);
        return Ok(SocketAddress::Unix(match hidden {
            true => UnixAddress::Abstract(path),
            false => UnixAddress::Path(path.into()),
        }));
    }
    let port = fields.get("port", address::port)?.ok_or_else(|| missing("the address"))?;
    Ok(SocketAddress::Inet(InetAddress {
        host: fields.get("host", address::host)?.unwrap_or_default(),
        port,
        ipv4: fields.get("ipv4", values::on_off)?,
        ipv6: fields.get("ipv6", values::on_off)?,
        keep_alive: false,
    }))
}
