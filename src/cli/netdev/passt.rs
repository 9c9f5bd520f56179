//! `-netdev passt`.
//!
//! Each of QEMU's keys is an option of the program; [`WORDS`] says which.

use super::{Backend, key};
use crate::cli::config::NetdevKind;
use crate::cli::error::CliError;
use crate::cli::keyval::{Absent, Fields, Key, Kind, Schema};
use crate::cli::socket_options::PasstOptions;
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "passt",
    text: "user networking without rights by the program passt",
    schema: Schema { what: "-netdev passt", keys: KEYS, absent: ABSENT, help: "-netdev passt,help" },
    build,
};

const KEYS: &[Key] = &[
    key("path", Kind::Str, "passt in PATH", "the program, or the socket of one that runs"),
    key("quiet", Kind::Bool, "off", "log errors only"),
    key("mtu", Kind::Uint32, "", "MTU to advertise"),
    key("address", Kind::Str, "", "the guest's IPv4 or IPv6 address"),
    key("netmask", Kind::Str, "", "netmask of address="),
    key("mac", Kind::Str, "", "MAC address of the gateway as the guest sees it"),
    key("gateway", Kind::Str, "", "the gateway's address"),
    key("interface", Kind::Str, "", "host interface to take addresses and routes from"),
    key("outbound", Kind::Str, "", "address to send from"),
    key("outbound-if4", Kind::Str, "", "interface to send IPv4 from"),
    key("outbound-if6", Kind::Str, "", "interface to send IPv6 from"),
    key("dns", Kind::Str, "", "name server to advertise"),
    key("search", Kind::List, "", "domain to search; more than once"),
    key("fqdn", Kind::Str, "", "the guest's name"),
    key("dhcp-dns", Kind::Bool, "on", "name servers by DHCP"),
    key("dhcp-search", Kind::Bool, "on", "search domains by DHCP"),
    key("map-host-loopback", Kind::Str, "", "address that is the host's loopback"),
    key("map-guest-addr", Kind::Str, "", "address that is the guest's on the host"),
    key("dns-forward", Kind::Str, "", "address whose DNS is forwarded"),
    key("dns-host", Kind::Str, "", "name server to forward to"),
    key("tcp", Kind::Bool, "on", "pass TCP"),
    key("udp", Kind::Bool, "on", "pass UDP"),
    key("icmp", Kind::Bool, "on", "pass echo requests"),
    key("dhcp", Kind::Bool, "on", "answer DHCP"),
    key("ndp", Kind::Bool, "on", "answer neighbour discovery"),
    key("dhcpv6", Kind::Bool, "on", "answer DHCPv6"),
    key("ra", Kind::Bool, "on", "send router advertisements"),
    key("freebind", Kind::Bool, "off", "bind addresses that the host does not have"),
    key("ipv4", Kind::Bool, "on", "IPv4"),
    key("ipv6", Kind::Bool, "on", "IPv6"),
    key("tcp-ports", Kind::List, "", "TCP ports to forward to the guest; more than once"),
    key("udp-ports", Kind::List, "", "UDP ports to forward to the guest; more than once"),
    key("param", Kind::List, "", "one more word for the program; more than once"),
];

const ABSENT: &[Absent] = &[Absent {
    name: "vhost-user",
    accepts: Some("off"),
    instead: "leave it out (it serves virtio NICs only)",
}];

/// How a key's value becomes words.
enum Word {
    /// `--OPTION VALUE`.
    Value(&'static str),
    /// This word if the switch is on.
    IfOn(&'static str),
    /// This word if it is off.
    IfOff(&'static str),
}

const WORDS: &[(&str, Word)] = &[
    ("quiet", Word::IfOn("--quiet")),
    ("mtu", Word::Value("--mtu")),
    ("address", Word::Value("--address")),
    ("netmask", Word::Value("--netmask")),
    ("mac", Word::Value("--mac-addr")),
    ("gateway", Word::Value("--gateway")),
    ("interface", Word::Value("--interface")),
    ("outbound", Word::Value("--outbound")),
    ("outbound-if4", Word::Value("--outbound-if4")),
    ("outbound-if6", Word::Value("--outbound-if6")),
    ("dns", Word::Value("--dns")),
    ("search", Word::Value("--search")),
    ("fqdn", Word::Value("--fqdn")),
    ("dhcp-dns", Word::IfOff("--no-dhcp-dns")),
    ("dhcp-search", Word::IfOff("--no-dhcp-search")),
    ("map-host-loopback", Word::Value("--map-host-loopback")),
    ("map-guest-addr", Word::Value("--map-guest-addr")),
    ("dns-forward", Word::Value("--dns-forward")),
    ("dns-host", Word::Value("--dns-host")),
    ("tcp", Word::IfOff("--no-tcp")),
    ("udp", Word::IfOff("--no-udp")),
    ("icmp", Word::IfOff("--no-icmp")),
    ("dhcp", Word::IfOff("--no-dhcp")),
    ("ndp", Word::IfOff("--no-ndp")),
    ("dhcpv6", Word::IfOff("--no-dhcpv6")),
    ("ra", Word::IfOff("--no-ra")),
    ("freebind", Word::IfOn("--freebind")),
    ("ipv4", Word::IfOff("--ipv6-only")),
    ("ipv6", Word::IfOff("--ipv4-only")),
    ("tcp-ports", Word::Value("--tcp-ports")),
    ("udp-ports", Word::Value("--udp-ports")),
];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let mut arguments = Vec::new();
    for (name, word) in WORDS {
        match word {
            Word::Value(option) => {
                for value in fields.all(name, |text| Ok(text.to_owned()))? {
                    arguments.extend([(*option).to_owned(), value]);
                }
            }
            Word::IfOn(word) if fields.get(name, values::on_off)? == Some(true) => {
                arguments.push((*word).into())
            }
            Word::IfOff(word) if fields.get(name, values::on_off)? == Some(false) => {
                arguments.push((*word).into());
            }
            Word::IfOn(_) | Word::IfOff(_) => {}
        }
    }
    arguments.extend(fields.all("param", |text| Ok(text.to_owned()))?);
    Ok(NetdevKind::Passt(PasstOptions { path: fields.get("path", values::path)?, arguments }))
}
