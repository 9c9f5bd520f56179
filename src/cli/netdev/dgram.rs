//! `-netdev dgram`.

use super::Backend;
use super::address::{self, absent_of_addresses, keys_with_addresses};
use crate::cli::config::NetdevKind;
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Absent, Fields, Key, Kind, Schema};
use crate::cli::socket_options::{DgramOptions, SocketAddress};

pub(super) static BACKEND: Backend = Backend {
    name: "dgram",
    text: "frames in UDP or Unix datagrams or to a multicast group, as QEMU's",
    schema: Schema { what: "-netdev dgram", keys: KEYS, absent: ABSENT, help: "-netdev dgram,help" },
    build,
};

const KEYS: &[Key] = keys_with_addresses!("local", "remote";);

const ABSENT: &[Absent] = absent_of_addresses!("local", "remote");

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let local = address::read(fields, "local", KEYS)?;
    let remote = address::read(fields, "remote", KEYS)?;
    let wrong = |problem: &str, advice: &str| Err(fields.error(Wrong::new(problem, advice)));
    let options = match (local, remote) {
        (local, Some(SocketAddress::Inet(remote))) if address::group(&remote).is_some() => {
            let interface = match local {
                None => None,
                Some(SocketAddress::Inet(local)) => match local.host.parse() {
                    Ok(address) => Some(address),
                    Err(_) => {
                        return wrong(
                            "local.host= with a multicast group names an interface",
                            "write the IPv4 address that the interface has",
                        );
                    }
                },
                Some(_) => return wrong("a multicast group's local address is inet", "use local.type=inet"),
            };
            // It parsed as a group a moment ago.
            let group = address::group(&remote).unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
            DgramOptions::Multicast { group, port: remote.port, interface }
        }
        (Some(SocketAddress::Fd(fd)), None) => DgramOptions::Fd(fd),
        (Some(SocketAddress::Fd(_)), Some(_)) => {
            return wrong("a descriptor knows its remote end", "leave remote.* out");
        }
        (Some(SocketAddress::Inet(local)), Some(SocketAddress::Inet(remote))) => {
            if remote.host.is_empty() || remote.port == 0 {
                return wrong("remote.host= and remote.port= say where frames go", "name both");
            }
            DgramOptions::Inet { local, remote }
        }
        (Some(SocketAddress::Unix(local)), Some(SocketAddress::Unix(remote))) => {
            DgramOptions::Unix { local, remote }
        }
        (None, _) => return wrong("the local address is missing", "add local.type= and what belongs to it"),
        (Some(_), None) => {
            return wrong("the remote address is missing", "add remote.type= and what belongs to it");
        }
        (Some(_), Some(_)) => {
            return wrong(
                "the two addresses are of different types",
                "make local.type= and remote.type= equal",
            );
        }
    };
    Ok(NetdevKind::Dgram(options))
}
