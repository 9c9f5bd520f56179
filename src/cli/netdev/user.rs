//! `-netdev user`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Backend, key};
use crate::cli::config::NetdevKind;
use crate::cli::error::{CliError, Wrong, quoted};
use crate::cli::forward_rule;
use crate::cli::keyval::{Absent, Fields, Key, Kind, Schema};
use crate::cli::user_net::UserOptions;
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "user",
    text: "a network of its own in this process: no privilege, no interface of the host's",
    schema: Schema { what: "-netdev user", keys: KEYS, absent: ABSENT, help: "-netdev user,help" },
    build,
};

const KEYS: &[Key] = &[
    key("restrict", Kind::Bool, "off", "on: the guest reaches nothing but what is forwarded"),
    key("ipv4", Kind::Bool, "on", "whether there is IPv4"),
    key("ipv6", Kind::Bool, "on", "whether there is IPv6"),
    key("net", Kind::Str, "10.0.2.0/24", "the network's address and prefix length"),
    key("host", Kind::Str, "10.0.2.2", "the gateway, which stands for the host's loopback"),
    key("dns", Kind::Str, "10.0.2.3", "the name server as the guest sees it"),
    key("dns-host", Kind::Str, "from /etc/resolv.conf", "the resolver asked for names, ADDRESS[:PORT]"),
    key("dhcpstart", Kind::Str, "10.0.2.15", "the first of 16 addresses that DHCP gives away"),
    key("hostname", Kind::Str, "", "the guest's name, told by DHCP"),
    key("domainname", Kind::Str, "", "the guest's domain, told by DHCP"),
    key("dnssearch", Kind::List, "", "a domain to search, told by DHCP (repeatable)"),
    key("tftp", Kind::Str, "", "a directory that is served by TFTP, read only"),
    key("tftp-server-name", Kind::Str, "", "the name of a boot server, told by DHCP"),
    key("bootfile", Kind::Str, "", "the file to boot, told by DHCP"),
    key("hostfwd", Kind::List, "", "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport (repeatable)"),
    key(
        "guestfwd",
        Kind::List,
        "",
        "tcp:server:port-cmd:COMMAND, -tcp:ADDRESS:PORT or -unix:PATH (repeatable)",
    ),
    key("ipv6-prefix", Kind::Str, "fec0::", "the network's IPv6 prefix"),
    key("ipv6-prefixlen", Kind::Uint32, "64", "length of ipv6-prefix; guests make addresses from 64 only"),
    key("ipv6-host", Kind::Str, "fec0::2", "the gateway's IPv6 address"),
    key("ipv6-dns", Kind::Str, "fec0::3", "the name server's IPv6 address"),
];

const NO_SMB: &str = "leave it out: it needs a Samba server beside the program; serve files by tftp=";
const ABSENT: &[Absent] = &[
    Absent { name: "smb", accepts: None, instead: NO_SMB },
    Absent { name: "smbserver", accepts: None, instead: NO_SMB },
];

/// QEMU's offsets of its addresses within the network.
const HOST: u32 = 0x0202;
const DNS: u32 = 0x0203;
const DHCP: u32 = 0x020f;
/// The longest name in DNS.
const MAX_NAME: usize = 253;
/// The longest option of DHCP.
const MAX_TEXT: usize = 255;

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let plain = UserOptions::default();
    let net = fields.get("net", network)?.unwrap_or(plain.net);
    let host_bits = u32::MAX >> net.1;
    let inside = |offset: u32| Ipv4Addr::from_bits(net.0.to_bits() | offset & host_bits);
    let member = |key: &str, default: u32| -> Result<Ipv4Addr, CliError> {
        let given = fields.get(key, |text| host_in(text, net))?;
        Ok(given.unwrap_or_else(|| inside(default)))
    };
    let (host, dns) = (member("host", HOST)?, member("dns", DNS)?);
    // In a network of 8 or 16 addresses QEMU's offset falls on the broadcast address.
    let start = if inside(DHCP).to_bits() & host_bits == host_bits { 4 } else { DHCP };
    let dhcp_start = member("dhcpstart", start)?;
    let net6 = (
        fields.get("ipv6-prefix", prefix6)?.unwrap_or(plain.net6.0),
        fields.get("ipv6-prefixlen", |text| values::number(text, 8, 126))?.map_or(plain.net6.1, |n| n as u8),
    );
    let inside6 = |low: u16| Ipv6Addr::from_bits(net6.0.to_bits() | u128::from(low));
    let member6 = |key: &str, low: u16| -> Result<Ipv6Addr, CliError> {
        Ok(fields.get(key, |text| host_in6(text, net6))?.unwrap_or_else(|| inside6(low)))
    };
    let options = UserOptions {
        restrict: fields.get("restrict", values::on_off)?.unwrap_or(plain.restrict),
        ipv4: fields.get("ipv4", values::on_off)?.unwrap_or(plain.ipv4),
        ipv6: fields.get("ipv6", values::on_off)?.unwrap_or(plain.ipv6),
        net,
        host,
        dns,
        dhcp_start,
        net6,
        host6: member6("ipv6-host", 2)?,
        dns6: member6("ipv6-dns", 3)?,
        dns_host: fields.get("dns-host", resolver)?,
        hostname: fields.get("hostname", dhcp_text)?,
        domainname: fields.get("domainname", dhcp_text)?,
        dnssearch: fields.all("dnssearch", domain)?,
        tftp: fields.get("tftp", values::path)?,
        tftp_server_name: fields.get("tftp-server-name", dhcp_text)?,
        bootfile: fields.get("bootfile", dhcp_text)?,
        hostfwd: fields.all("hostfwd", |text| forward_rule::rule(text, dhcp_start))?,
        guestfwd: fields.all("guestfwd", forward_rule::guest_rule)?,
    };
    consistent(&options).map_err(|wrong| fields.error(wrong))?;
    Ok(NetdevKind::User(Box::new(options)))
}

/// What the keys mean to each other.
fn consistent(options: &UserOptions) -> Result<(), Wrong> {
    if !options.ipv4 && !options.ipv6 {
        return Err(Wrong::new("with ipv4=off and ipv6=off nothing is left", "leave one of them on"));
    }
    let UserOptions { host, dns, dhcp_start, .. } = options;
    if host == dns || host == dhcp_start || dns == dhcp_start {
        return Err(Wrong::new(
            format!("host={host}, dns={dns} and dhcpstart={dhcp_start} are not three addresses"),
            "give each its own",
        ));
    }
    if options.host6 == options.dns6 {
        return Err(Wrong::new(
            format!("ipv6-host and ipv6-dns are both {}", options.host6),
            "give each its own",
        ));
    }
    for rule in &options.guestfwd {
        let server = rule.server.ip();
        let ours = server == host || server == dns || server == dhcp_start;
        if ours || !is_host_in(*server, options.net) {
            return Err(Wrong::new(
                format!("guestfwd: {server} is no free address of the network"),
                "take one inside net= that nobody has, as in 10.0.2.100",
            ));
        }
    }
    for rule in &options.hostfwd {
        if !is_host_in(*rule.guest.ip(), options.net) {
            return Err(Wrong::new(
                format!("hostfwd: the guest cannot have {}", rule.guest.ip()),
                "take an address inside net=, or leave it out",
            ));
        }
    }
    for (n, rule) in options.hostfwd.iter().enumerate() {
        if options.hostfwd[..n].iter().any(|other| other.listen == rule.listen) {
            return Err(Wrong::new(
                format!("hostfwd: two rules listen at {}", rule.listen),
                "keep one, or choose another port",
            ));
        }
    }
    Ok(())
}

/// `ADDRESS/PREFIX`, or with a dotted mask.
fn network(text: &str) -> Result<(Ipv4Addr, u8), Wrong> {
    const HOW: &str = "write address and prefix length, as in 10.0.2.0/24";
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        return Err(Wrong::new(format!("{} is not an IPv4 network", quoted(text)), HOW));
    };
    if length.is_empty() {
        return Err(Wrong::new(
            format!("{} lacks the prefix length", quoted(text)),
            format!("did you mean {address}/24?"),
        ));
    }
    let mask = length.parse::<Ipv4Addr>().ok().map(Ipv4Addr::to_bits);
    let prefix = match mask {
        Some(mask) if mask.leading_ones() + mask.trailing_zeros() == 32 => u64::from(mask.leading_ones()),
        Some(_) => return Err(Wrong::new(format!("{} is not a mask", quoted(length)), HOW)),
        None => values::number(length, 0, 32)?,
    };
    if !(8..=29).contains(&prefix) {
        return Err(Wrong::new(
            format!("a prefix of {prefix} bits does not do"),
            "the network needs room for gateway, name server and guest: 8 to 29",
        ));
    }
    let net = Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> prefix));
    if net.is_loopback() || net.is_multicast() || net.octets()[0] == 0 || net.octets()[0] >= 240 {
        return Err(Wrong::new(format!("{} cannot be a network of hosts", quoted(text)), HOW));
    }
    Ok((net, prefix as u8))
}

fn is_host_in(address: Ipv4Addr, (net, prefix): (Ipv4Addr, u8)) -> bool {
    let host_bits = u32::MAX >> prefix;
    let host = address.to_bits() & host_bits;
    address.to_bits() & !host_bits == net.to_bits() && host != 0 && host != host_bits
}

fn host_in(text: &str, net: (Ipv4Addr, u8)) -> Result<Ipv4Addr, Wrong> {
    let address: Ipv4Addr =
        text.parse().map_err(|_| Wrong::from(format!("{} is not an IPv4 address", quoted(text))))?;
    is_host_in(address, net).then_some(address).ok_or_else(|| {
        Wrong::new(
            format!("{address} is not a host's address in {}/{}", net.0, net.1),
            "take one inside net=",
        )
    })
}

fn prefix6(text: &str) -> Result<Ipv6Addr, Wrong> {
    let address: Ipv6Addr =
        text.parse().map_err(|_| Wrong::from(format!("{} is not an IPv6 prefix", quoted(text))))?;
    let of_hosts = !(address.is_multicast() || address.is_loopback() || address.is_unspecified());
    of_hosts.then_some(address).ok_or_else(|| {
        Wrong::new(format!("{} cannot be a network of hosts", quoted(text)), "write one like fec0::")
    })
}

fn host_in6(text: &str, (net, prefix): (Ipv6Addr, u8)) -> Result<Ipv6Addr, Wrong> {
    let address: Ipv6Addr =
        text.parse().map_err(|_| Wrong::from(format!("{} is not an IPv6 address", quoted(text))))?;
    let mask = !(u128::MAX >> prefix);
    let inside = address.to_bits() & mask == net.to_bits() & mask && address != net;
    inside.then_some(address).ok_or_else(|| {
        Wrong::new(
            format!("{address} is not a host's address in {net}/{prefix}"),
            "take one inside ipv6-prefix=",
        )
    })
}

/// `ADDRESS` or `ADDRESS:PORT`, an IPv6 address with a port in brackets.
fn resolver(text: &str) -> Result<SocketAddr, Wrong> {
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))).ok_or_else(|| {
        Wrong::new(
            format!("{} is not the address of a resolver", quoted(text)),
            "write 192.0.2.53, 127.0.0.1:5353 or [::1]:5353",
        )
    })
}

/// Text that one DHCP option carries.
fn dhcp_text(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > MAX_TEXT || text.contains('\0') {
        let problem = format!("{} is not 1 to {MAX_TEXT} bytes of text", quoted(text));
        return Err(Wrong::new(problem, "shorten it, or leave it out"));
    }
    Ok(text.to_owned())
}

fn domain(text: &str) -> Result<String, Wrong> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic());
    if name.len() > MAX_NAME || !name.split('.').all(label) {
        return Err(Wrong::new(
            format!("{} is not a domain name", quoted(text)),
            "write one like example.org",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::Context;
    use crate::cli::keyval;

    fn read(text: &str) -> Result<UserOptions, String> {
        let context = Context::new(text);
        let pairs = keyval::split(text, "type").map_err(|wrong| wrong.to_string())?;
        let fields = Fields::read(&context, pairs, &BACKEND.schema).map_err(|error| error.to_string())?;
        match build(&fields).map_err(|error| error.to_string())? {
            NetdevKind::User(options) => Ok(*options),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn addresses_follow_the_network_as_in_qemu() {
        assert_eq!(read("restrict=off"), Ok(UserOptions::default()));
        for (net, host, dns, dhcp) in [
            ("192.168.5.0/24", "192.168.5.2", "192.168.5.3", "192.168.5.15"),
            ("172.16.0.0/12", "172.16.2.2", "172.16.2.3", "172.16.2.15"),
            ("10.0.0.0/255.0.0.0", "10.0.2.2", "10.0.2.3", "10.0.2.15"),
            ("10.9.8.7/28", "10.9.8.2", "10.9.8.3", "10.9.8.4"),
        ] {
            let options = read(&format!("net={net}")).unwrap();
            let found = [options.host, options.dns, options.dhcp_start].map(|a| a.to_string());
            assert_eq!(found, [host, dns, dhcp], "{net}");
        }
    }

    #[test]
    fn lists_add_up() {
        let options = read("hostfwd=tcp::1-:1,dnssearch=a.b,hostfwd=udp::1-:2,dnssearch=c.").unwrap();
        assert_eq!((options.hostfwd.len(), options.dnssearch), (2, vec!["a.b".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, problem) in [
            ("net=10.0.2.0", "did you mean 10.0.2.0/24?"),
            ("net=10.0.2.0/30", "a prefix of 30 bits does not do"),
            ("net=127.0.0.0/8", "cannot be a network of hosts"),
            ("net=10.0.2.0/255.0.255.0", "is not a mask"),
            ("host=10.0.3.2", "host: 10.0.3.2 is not a host's address in 10.0.2.0/24"),
            ("dns=10.0.2.2", "are not three addresses"),
            ("dhcpstart=10.0.2.255", "is not a host's address"),
            ("ipv4=off,ipv6=off", "nothing is left"),
            ("hostfwd=foo", "has no '-'"),
            ("hostfwd=tcp::1-10.0.3.1:1", "the guest cannot have 10.0.3.1"),
            ("hostfwd=tcp::1-:1,hostfwd=::1-:2", "two rules listen at tcp:0.0.0.0:1"),
            ("guestfwd=tcp:10.0.2.2:1-cmd:x", "10.0.2.2 is no free address"),
            ("dnssearch=a..b", "'a..b' is not a domain name"),
            ("dns-host=one.one.one.one", "is not the address of a resolver"),
            ("smb=/srv", "serve files by tftp="),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
