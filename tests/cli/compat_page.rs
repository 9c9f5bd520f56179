//! docs/qemu-compat.md says what the parser does.

use minivmm::cli::Command;
use minivmm::netdev::TapError;

use crate::{parse, refusal, run};

const PAGE: &str = include_str!("../../docs/qemu-compat.md");

/// The cells of the rows in the section with this title, without the head.
fn rows(title: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(title)).unwrap_or_default();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .skip(2)
        .collect();
    assert!(rows.len() > 1, "no table under {title}");
    rows
}

/// The texts between backquotes.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_option_does_what_its_row_says() {
    for row in rows("Options") {
        let [option, state, rest] = row[..] else { panic!("{row:?}") };
        let more = rest.split_once("also ").map_or("", |(_, more)| more);
        for option in code(option).chain(code(more)).filter(|option| option.starts_with('-')) {
            let words: Vec<&str> =
                ["-kernel", "k"].into_iter().chain(option.split(' ')).chain(["x"]).collect();
            let answer = parse(&words).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(!answer.contains("no such option"), "{answer}");
            let refused = answer.contains(" is not here");
            assert_eq!(refused, state == "not there", "{option} is {state}, but: {answer}");
        }
    }
}

#[test]
fn every_option_has_a_row() {
    let Ok(Command::Print(help)) = parse(&["-help"]) else { panic!("no help") };
    let listed: Vec<&str> = rows("Options").iter().flat_map(|row| code(row[0])).collect();
    let shown = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with('-'));
    let synopses = shown.flat_map(|line| line.split("  ").next());
    let names: Vec<&str> =
        synopses.flat_map(|synopsis| synopsis.split(", ")).flat_map(|name| name.split(' ').next()).collect();
    assert!(names.len() >= 19, "{names:?}");
    for name in names {
        assert!(listed.contains(&name), "{name} has no row");
    }
}

#[test]
fn messages_are_quoted_word_for_word() {
    let lines: &[(&str, &str)] = &[
        ("unknown device", "-device e1001"),
        ("unknown property", "-device e1000,foo=1"),
        ("bad MAC", "-device e1000,mac=zz"),
        ("multicast MAC", "-device e1000,mac=01:00:5e:00:00:01"),
        ("netdev missing", "-device e1000,netdev=nope"),
        ("netdev used twice", "-netdev tap,id=n0 -device e1000,netdev=n0 -device e1000,netdev=n0"),
        ("duplicate id", "-netdev tap,id=n0 -netdev tap,id=n0"),
        ("no id", "-netdev tap"),
        ("unknown backend", "-netdev foo,id=n0"),
        ("unknown key", "-netdev tap,id=n0,foo=1"),
        ("not on or off", "-netdev tap,id=n0,vnet_hdr=maybe"),
        ("no such slot", "-device e1000,addr=99"),
        ("slot taken", "-device e1000,addr=3 -device e1000,addr=3"),
        ("fd with other keys", "-netdev tap,id=n0,fd=4,ifname=tap0"),
        ("long ifname", "-netdev tap,id=n0,ifname=sixteen-letters-"),
        ("idle queues", "-netdev tap,id=n0,queues=4"),
        ("unknown model of `-net nic`", "-net nic,model=foo"),
        ("bad MAC of `-net nic`", "-net nic,macaddr=zz"),
        ("duplicate device id", "-device e1000,id=x -device e1000,id=x"),
        ("`-net dump`, gone since QEMU 3.0", "-net dump"),
        ("filter on a missing netdev", "-netdev tap,id=n0 -object filter-dump,id=f0,netdev=nope,file=f"),
        ("filter without a file", "-netdev tap,id=n0 -object filter-dump,id=f0,netdev=n0"),
        ("hostfwd syntax", "-netdev user,id=n0,hostfwd=foo"),
    ];
    let rows = rows("What a mistake looks like");
    // The row of /dev/kvm is held to the page by a test in src/accel/kvm/caps.rs.
    let told_elsewhere = remarks().len() + host_errors().len() + 1;
    assert_eq!(rows.len(), lines.len() + told_elsewhere, "a row that no test makes");
    for (mistake, line) in lines {
        let row =
            rows.iter().find(|row| row[0] == *mistake).unwrap_or_else(|| panic!("{mistake} has no row"));
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split(' ')).collect();
        let message = refusal(&words);
        // A bar in a cell is escaped.
        let said = code(row[2]).next().unwrap_or_default().replace("\\|", "|");
        assert!(message.ends_with(&format!(": {said}")), "{message}\nbut the page says {said}");
    }
}

/// What is taken with a warning.
fn remarks() -> Vec<(&'static str, &'static str)> {
    vec![
        ("netdev without device", "-netdev tap,id=n0"),
        ("device without netdev", "-device e1000"),
        ("only `-net nic`", "-net nic"),
        ("only `-net user` or `-net tap`", "-net tap"),
    ]
}

/// What only the host can refuse, as the parts that ask it say it.
fn host_errors() -> Vec<(&'static str, String)> {
    let helper =
        |why: &str| TapError::Helper { program: "/usr/lib/qemu/qemu-bridge-helper".into(), why: why.into() };
    vec![
        ("tap, no permission", TapError::NodeDenied { mode: " (mode 0600)".into() }.to_string()),
        ("tap, no right to make one", TapError::CreateDenied { name: "tap0".into() }.to_string()),
        ("tap, bad fd", TapError::BadFd { fd: 77, why: "is not open" }.to_string()),
        (
            "tap, script fails",
            TapError::Script { option: "script", path: "/etc/up".into(), why: "exit status: 1".into() }
                .to_string(),
        ),
        ("no bridge helper", TapError::NoHelper.to_string()),
        (
            "bridge helper refuses",
            helper(" failed (exit status: 1): failed to parse default acl file").to_string(),
        ),
    ]
}

#[test]
fn warnings_and_the_hosts_refusals_are_quoted_word_for_word() {
    let rows = rows("What a mistake looks like");
    let said = |mistake: &str| {
        let row = rows.iter().find(|row| row[0] == mistake).unwrap_or_else(|| panic!("{mistake} has no row"));
        code(row[2]).next().unwrap_or_default()
    };
    for (mistake, line) in remarks() {
        let warnings = run(line).warnings;
        let words = format!(": {}", said(mistake));
        assert!(
            warnings.iter().any(|warning| warning.ends_with(&words)),
            "{warnings:?}\nbut the page says {words}"
        );
    }
    for (mistake, text) in host_errors() {
        assert_eq!(said(mistake), text, "{mistake}");
    }
}

/// QEMU's backends (10.1).
const QEMU_BACKENDS: &[&str] = &[
    "tap",
    "user",
    "bridge",
    "hubport",
    "socket",
    "stream",
    "dgram",
    "l2tpv3",
    "vde",
    "vhost-user",
    "vhost-vdpa",
    "passt",
    "af-xdp",
    "netmap",
    "vmnet-host",
    "vmnet-shared",
    "vmnet-bridged",
];

/// QEMU's keys of the backends that are here.
const QEMU_KEYS: &[(&str, &[&str])] = &[
    (
        "tap",
        &[
            "ifname",
            "fd",
            "fds",
            "script",
            "downscript",
            "br",
            "helper",
            "sndbuf",
            "vnet_hdr",
            "vhost",
            "vhostfd",
            "vhostfds",
            "vhostforce",
            "queues",
            "poll-us",
        ],
    ),
    ("bridge", &["br", "helper"]),
    (
        "user",
        &[
            "hostname",
            "restrict",
            "ipv4",
            "ipv6",
            "net",
            "host",
            "tftp",
            "tftp-server-name",
            "bootfile",
            "dhcpstart",
            "dns",
            "dnssearch",
            "domainname",
            "ipv6-prefix",
            "ipv6-prefixlen",
            "ipv6-host",
            "ipv6-dns",
            "smb",
            "smbserver",
            "hostfwd",
            "guestfwd",
        ],
    ),
    ("hubport", &["hubid", "netdev"]),
    ("socket", &["fd", "listen", "connect", "mcast", "localaddr", "udp"]),
    ("stream", &["addr.type", "addr.host", "addr.port", "addr.path", "addr.str", "server", "reconnect-ms"]),
    (
        "dgram",
        &[
            "local.type",
            "local.host",
            "local.port",
            "local.path",
            "local.str",
            "remote.type",
            "remote.host",
            "remote.port",
            "remote.path",
            "remote.str",
        ],
    ),
    (
        "l2tpv3",
        &[
            "src",
            "dst",
            "txsession",
            "srcport",
            "dstport",
            "ipv6",
            "udp",
            "cookie64",
            "counter",
            "pincounter",
            "txcookie",
            "rxcookie",
            "rxsession",
            "offset",
        ],
    ),
    (
        "passt",
        &[
            "path",
            "quiet",
            "vhost-user",
            "mtu",
            "address",
            "netmask",
            "mac",
            "gateway",
            "interface",
            "outbound",
            "outbound-if4",
            "outbound-if6",
            "dns",
            "search",
            "fqdn",
            "dhcp-dns",
            "dhcp-search",
            "map-host-loopback",
            "map-guest-addr",
            "dns-forward",
            "dns-host",
            "tcp",
            "udp",
            "icmp",
            "dhcp",
            "ndp",
            "dhcpv6",
            "ra",
            "freebind",
            "ipv4",
            "ipv6",
            "tcp-ports",
            "udp-ports",
            "param",
        ],
    ),
];

/// QEMU's keys of `-chardev socket`.
const QEMU_CHARDEV_KEYS: &[&str] = &[
    "path",
    "host",
    "port",
    "fd",
    "to",
    "ipv4",
    "ipv6",
    "server",
    "wait",
    "delay",
    "nodelay",
    "reconnect",
    "telnet",
    "tn3270",
    "websocket",
    "mux",
    "tls-creds",
    "tls-authz",
    "abstract",
    "tight",
    "logfile",
    "logappend",
];

/// QEMU's filters, and its monitor's commands and events that are about networks.
const QEMU_FILTERS: &[&str] = &[
    "filter-dump",
    "filter-buffer",
    "filter-mirror",
    "filter-redirector",
    "filter-rewriter",
    "filter-replay",
    "colo-compare",
];
const QEMU_MONITOR: &[&str] = &[
    "info network",
    "info usernet",
    "set_link",
    "netdev_add",
    "netdev_del",
    "device_add",
    "device_del",
    "hostfwd_add",
    "hostfwd_remove",
    "announce_self",
    "query-rx-filter",
    "object_add",
    "object_del",
    "qom-set",
    "trace-event",
    "NETDEV_STREAM_CONNECTED",
    "NETDEV_STREAM_DISCONNECTED",
    "NETDEV_VHOST_USER_CONNECTED",
    "NETDEV_VHOST_USER_DISCONNECTED",
    "FAILOVER_NEGOTIATED",
    "NIC_RX_FILTER_CHANGED",
];

/// The verdict of the row that names `what` in its first cell.
fn state(rows: &[Vec<&'static str>], what: &str) -> &'static str {
    let row = rows.iter().find(|row| code(row[0]).any(|name| name == what));
    let state = row.unwrap_or_else(|| panic!("{what} has no row"))[1];
    assert!(["same", "better", "ours", "not there"].contains(&state), "{what} is {state:?}");
    state
}

#[test]
fn every_backend_of_qemus_has_a_row_that_is_true() {
    let rows = rows("Backends");
    for name in QEMU_BACKENDS {
        let line = format!("{name},help");
        let is_there = matches!(parse(&["-netdev", &line]), Ok(Command::Print(_)));
        assert_eq!(is_there, state(&rows, name) != "not there", "-netdev {name}");
        if !is_there {
            assert!(refusal(&["-netdev", &line]).contains("QEMU's backend"), "{name}");
        }
    }
}

#[test]
fn every_key_of_qemus_has_a_row_that_is_true() {
    for (backend, keys) in QEMU_KEYS {
        let rows = rows(&format!("`-netdev {backend}`"));
        for key in *keys {
            let name = format!("{key}=");
            let there = state(&rows, &name) != "not there";
            let row = rows.iter().find(|row| code(row[0]).any(|listed| listed == name)).unwrap();
            // What is not there complains about the key, whatever its value. Of some keys only the one value is
            // there that the row quotes.
            let knows = |value: &str| {
                let line = format!("{backend},id=n0,{key}={value}");
                let message = parse(&["-kernel", "k", "-netdev", &line])
                    .map_or_else(|e| e.to_string(), |_| String::new());
                !message.contains(&format!("has no '{key}'"))
            };
            let is_there = knows("x") || there && (code(row[2]).any(knows) || knows("1"));
            assert_eq!(is_there, there, "-netdev {backend},{key}=");
        }
    }
}

#[test]
fn every_filter_and_monitor_command_of_qemus_has_a_row() {
    let filters = rows("Filters");
    for name in QEMU_FILTERS {
        let is_there = matches!(parse(&["-object", &format!("{name},help")]), Ok(Command::Print(_)));
        assert_eq!(is_there, state(&filters, name) != "not there", "-object {name}");
    }
    let monitor = rows("Monitor");
    assert!(QEMU_MONITOR.iter().all(|name| !state(&monitor, name).is_empty()));
}

#[test]
fn every_key_of_a_chardev_has_a_row_that_is_true() {
    let rows = rows("`-chardev socket`");
    for key in QEMU_CHARDEV_KEYS {
        let line = format!("socket,id=c,{key}=x");
        let message =
            parse(&["-kernel", "k", "-chardev", &line]).map_or_else(|e| e.to_string(), |_| String::new());
        let there = !message.contains(&format!("has no '{key}'"));
        assert_eq!(there, state(&rows, &format!("{key}=")) != "not there", "{key}: {message}");
    }
}

#[test]
fn every_key_of_a_backend_has_a_row() {
    for backend in ["tap", "bridge", "hubport", "stream", "dgram", "socket", "l2tpv3", "passt", "user"] {
        let Ok(Command::Print(help)) = parse(&["-netdev", &format!("{backend},help")]) else {
            panic!("no help")
        };
        let keys: Vec<&str> = help
            .lines()
            .skip(1)
            .filter_map(|line| line.trim().split_once("=<"))
            .map(|(key, _)| key)
            .collect();
        assert!(keys.len() > 1, "{help}");
        let rows = rows(&format!("`-netdev {backend}`"));
        let listed: Vec<&str> = rows.iter().flat_map(|row| code(row[0])).collect();
        for key in keys.into_iter().filter(|key| *key != "id") {
            assert!(listed.contains(&format!("{key}=").as_str()), "-netdev {backend} has no row for {key}=");
        }
    }
}

/// The words that `line` lists behind its title, or before `=<` where it lists keys.
fn listed(line: &str, keys: bool) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let Ok(Command::Print(text) | Command::TraceHelp(text)) = parse(&words) else { panic!("{line}") };
    let rows = text.lines().filter_map(|row| row.strip_prefix("  "));
    let names = rows.filter_map(|row| match keys {
        true => row.split_once("=<").map(|(key, _)| key),
        false => row.split(' ').next(),
    });
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(!names.is_empty(), "{line} lists nothing");
    names
}

#[test]
fn every_key_that_a_help_lists_is_on_its_page() {
    const FAULTS: &str = include_str!("../../docs/faults.md");
    const NETDEV: &str = include_str!("../../docs/netdev.md");
    let each = |option: &str, page: &'static str| -> Vec<(String, &'static str)> {
        let kinds = listed(&format!("{option} help"), false);
        kinds.into_iter().map(|kind| (format!("{option} {kind},help"), page)).collect()
    };
    let models = ["e1000", "e1000-82544gc", "e1000-82545em", "isa-debug-exit"];
    let fixed = [
        ("-machine help", PAGE),
        ("-net nic,help", PAGE),
        ("-chardev socket,help", PAGE),
        ("-trace help", include_str!("../../docs/trace.md")),
        ("-d help", include_str!("../../docs/driver-doctor.md")),
    ];
    let helps = (each("-fault", FAULTS).into_iter())
        .chain(each("-object", NETDEV))
        .chain(models.map(|model| (format!("-device {model},help"), PAGE)))
        .chain(fixed.map(|(line, page)| (line.to_owned(), page)));
    for (line, page) in helps {
        for key in listed(&line, true) {
            let stands = page.match_indices(&format!("{key}=")).any(|(at, _)| {
                // Not as the end of another key.
                !page[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "-_.".contains(c))
            });
            assert!(stands, "{line}: {key}= is not documented");
        }
    }
}
