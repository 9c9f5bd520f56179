//! A random line that means something, and what it means.

use std::collections::BTreeSet;

use super::Rng;
use super::form::{Keys, Val, text};

/// A line being built, and what it is to mean.
pub(super) struct Line {
    pub(super) rng: Rng,
    pub(super) options: Vec<Vec<String>>,
    count: u32,
    /// Ids of netdevs that were named, and those of them that nothing uses yet.
    pub(super) named: Vec<String>,
    free: Vec<(String, Option<u32>)>,
    pub(super) used: Vec<String>,
    /// Hubs that are one network.
    groups: Vec<Vec<u32>>,
    learning: [Option<bool>; 4],
    /// With the hub's port that `-net` brings along.
    pub(super) netdevs: usize,
    /// Netdevs that a filter names, filters, and chardevs.
    pub(super) branches: Vec<String>,
    pub(super) filters: usize,
    pub(super) chardevs: usize,
    pub(super) nics: usize,
    pub(super) device_ids: Vec<String>,
    slots: BTreeSet<u8>,
    /// Device id and netdev id where both were given.
    pub(super) cables: Vec<(String, String)>,
    /// Nothing has been said about the network.
    silent: bool,
}

impl Line {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds are spread by one round each.
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        rng.next();
        let mut line = Line {
            rng,
            options: Vec::new(),
            count: 0,
            named: Vec::new(),
            free: Vec::new(),
            used: Vec::new(),
            groups: (0..4).map(|hub| vec![hub]).collect(),
            learning: [None; 4],
            netdevs: 0,
            branches: Vec::new(),
            filters: 0,
            chardevs: 0,
            nics: 0,
            device_ids: Vec::new(),
            slots: BTreeSet::new(),
            cables: Vec::new(),
            silent: true,
        };
        // Without any word about the network there is one NIC on a network of its own.
        line.silent = line.rng.one_in(2);
        if !line.silent {
            line.option("-nodefaults", None);
        }
        for _ in 0..line.rng.below(9) {
            match line.rng.below(9) {
                0..=2 => line.netdev(),
                3 | 4 => line.device(),
                5 => line.nic(),
                6 => line.net(),
                7 => line.filter(),
                _ => line.other(),
            }
        }
        if line.silent {
            (line.nics, line.netdevs) = (1, 1);
        }
        line
    }

    pub(super) fn number(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    pub(super) fn name(&mut self) -> String {
        let tail: String =
            (0..self.rng.below(9)).map(|_| self.rng.pick(&['a', 'Z', '0', '9', '-', '.', '_'])).collect();
        // The number ends where it ends: 1 and "0" are not 10.
        let gap = if tail.starts_with(|c: char| c.is_ascii_digit()) { "-" } else { "" };
        format!("{}{}{gap}{tail}", self.rng.pick(&["n", "Net", "x-"]), self.number())
    }

    pub(super) fn option(&mut self, name: &str, value: Option<String>) {
        self.silent &= !["-nodefaults", "-netdev", "-device", "-nic", "-net"].contains(&name);
        let dashes = if self.rng.one_in(4) { "-" } else { "" };
        self.options.push([Some(format!("{dashes}{name}")), value].into_iter().flatten().collect());
    }

    fn mac(&mut self) -> String {
        let n = self.number();
        let separator = self.rng.pick(&[":", "-"]);
        ["02", "0", "5e", "AA", &format!("{:x}", n >> 8), &format!("{:02X}", n & 0xff)].join(separator)
    }

    /// The type of a backend and its keys.
    pub(super) fn backend(&mut self) -> (&'static str, Keys) {
        let n = self.number();
        let mut keys: Keys = Vec::new();
        let port = 1024 + n;
        let kind = self
            .rng
            .pick(&["tap", "tap", "tap", "bridge", "user", "stream", "dgram", "socket", "l2tpv3", "passt"]);
        match kind {
            "tap" if self.rng.one_in(4) => keys.push(("fd".into(), Val::Num(u64::from(n) + 2))),
            "tap" => {
                let scripts = ["no", "/etc/up", "a b", "/x,y,,z", "=,=", "script"];
                for (key, value) in [
                    ("ifname", Val::Text(format!("tap{n}"))),
                    ("script", Val::Text(self.rng.pick(&scripts).into())),
                    ("downscript", Val::Text(self.rng.pick(&scripts).into())),
                    ("vnet_hdr", Val::Bool(self.rng.one_in(2))),
                    (
                        "address",
                        Val::Text(self.rng.pick(&[format!("10.{}.{}.1/24", n >> 8, n & 255), "none".into()])),
                    ),
                    ("vhost", Val::Bool(false)),
                    ("queues", Val::Num(1)),
                ] {
                    if self.rng.one_in(3) {
                        keys.push((key.into(), value));
                    }
                }
            }
            "user" => {
                let guest = self.rng.pick(&["", "10.0.2.15", "10.0.2.99"]);
                let protocol = self.rng.pick(&["tcp", "udp", ""]);
                for (key, value) in [
                    ("restrict", Val::Bool(self.rng.one_in(2))),
                    ("ipv6", Val::Bool(self.rng.one_in(2))),
                    ("host", Val::Text("10.0.2.200".into())),
                    ("hostname", Val::Text("guest,of,honour".into())),
                    ("hostfwd", Val::Text(format!("{protocol}:127.0.0.1:{port}-{guest}:22"))),
                    ("hostfwd", Val::Text(format!("tcp::{}-:80", port + 20_000))),
                    ("dnssearch", Val::Text("a.example".into())),
                    ("dnssearch", Val::Text("b.example".into())),
                ] {
                    if self.rng.one_in(3) {
                        keys.push((key.into(), value));
                    }
                }
            }
            "bridge" if self.rng.one_in(2) => keys.push(text("br", format!("br{n}"))),
            "stream" => {
                let server = self.rng.one_in(2);
                keys.push(("server".into(), Val::Bool(server)));
                if self.rng.one_in(2) {
                    keys.push(text("addr.type", "unix"));
                    keys.push(text("addr.path", format!("/tmp/s,{n}")));
                } else {
                    keys.push(text("addr.type", "inet"));
                    keys.push(text("addr.host", self.rng.pick(&["127.0.0.1", "::1", "localhost"])));
                    keys.push(text("addr.port", port.to_string()));
                }
                if !server && self.rng.one_in(3) {
                    keys.push(("reconnect-ms".into(), Val::Num(100)));
                }
            }
            "dgram" => {
                for (end, port) in [("local", port), ("remote", port + 10_000)] {
                    keys.push(text(&format!("{end}.type"), "inet"));
                    keys.push(text(&format!("{end}.host"), "127.0.0.1"));
                    keys.push(text(&format!("{end}.port"), port.to_string()));
                }
            }
            "socket" => match self.rng.below(4) {
                0 => keys.push(text("listen", format!(":{port}"))),
                1 => keys.push(text("connect", format!("127.0.0.1:{port}"))),
                2 => keys.push(text("mcast", format!("230.0.0.1:{port}"))),
                _ => keys.extend([
                    text("udp", format!("127.0.0.1:{port}")),
                    text("localaddr", format!("127.0.0.1:{}", port + 10_000)),
                ]),
            },
            "l2tpv3" => {
                keys.extend([text("src", "127.0.0.1"), text("dst", "127.0.0.2")]);
                keys.push(("txsession".into(), Val::Num(u64::from(n))));
            }
            _ => {}
        }
        (kind, keys)
    }

    fn netdev(&mut self) {
        let id = self.name();
        let (kind, mut keys, hub) = if self.rng.one_in(3) {
            let (keys, hub) = self.hub_port();
            ("hubport", keys, Some(hub))
        } else {
            let (kind, keys) = self.backend();
            (kind, keys, None)
        };
        let connects = keys.iter().any(|(key, _)| key == "netdev");
        keys.push(text("id", &*id));
        let value = self.write("type", kind, keys);
        self.option("-netdev", Some(value));
        self.netdevs += 1;
        self.named.push(id.clone());
        if !connects {
            self.free.push((id, hub));
        }
    }

    /// Keys of a hub's port; joined with a free backend, or with a port of a hub that is not yet reached.
    fn hub_port(&mut self) -> (Keys, u32) {
        let hub = self.rng.below(4) as u32;
        let mut keys = vec![("hubid".into(), Val::Num(u64::from(hub)))];
        if self.rng.one_in(4) {
            let on = self.rng.one_in(2);
            let is = *self.learning[hub as usize].get_or_insert(on);
            keys.push(("learning".into(), Val::Bool(is)));
        }
        if self.rng.one_in(2) {
            let mine = self.groups.iter().position(|group| group.contains(&hub)).unwrap();
            let group = self.groups[mine].clone();
            let fit =
                self.free.iter().position(|(_, other)| other.is_none_or(|other| !group.contains(&other)));
            if let Some(at) = fit {
                let (id, other) = self.free.remove(at);
                keys.push(text("netdev", &*id));
                self.used.push(id);
                if let Some(other) = other {
                    self.groups.remove(mine);
                    let theirs = self.groups.iter_mut().find(|group| group.contains(&other)).unwrap();
                    theirs.extend(group);
                }
            }
        }
        (keys, hub)
    }

    fn device(&mut self) {
        let mut keys: Keys = Vec::new();
        let mut id = None;
        if self.rng.one_in(2) {
            let name = self.name();
            keys.push(text("id", &*name));
            self.device_ids.push(name.clone());
            id = Some(name);
        }
        if !self.free.is_empty() && !self.rng.one_in(4) {
            let at = self.rng.below(self.free.len());
            let (netdev, _) = self.free.remove(at);
            keys.push(text("netdev", &*netdev));
            self.cables.extend(id.map(|id| (id, netdev.clone())));
            self.used.push(netdev);
        }
        if self.rng.one_in(3) {
            keys.push(text("mac", self.mac()));
        }
        if self.rng.one_in(3) {
            let slot = 1 + self.rng.below(30) as u8;
            if self.slots.insert(slot) {
                let form = self.rng.below(3);
                let addr =
                    [format!("{slot:x}"), format!("0x{slot:02X}"), format!("{slot:x}.0")][form].clone();
                keys.push(text("addr", addr));
            }
        }
        let model = self.rng.pick(&["e1000", "e1000-82540em"]);
        let value = self.write("driver", model, keys);
        self.option("-device", Some(value));
        self.nics += 1;
    }

    fn nic(&mut self) {
        if self.rng.one_in(5) {
            return self.option("-nic", Some("none".into()));
        }
        let (kind, mut keys) = self.backend();
        if self.rng.one_in(2) {
            let key = self.rng.pick(&["mac", "macaddr"]);
            keys.push(text(key, self.mac()));
        }
        if self.rng.one_in(2) {
            keys.push(text("model", "e1000"));
        }
        if self.rng.one_in(3) {
            let id = self.name();
            keys.push(text("id", &*id));
            self.named.push(id.clone());
            self.used.push(id);
        }
        let value = self.keyval("type", kind, keys);
        self.option("-nic", Some(value));
        self.netdevs += 1;
        self.nics += 1;
    }

    fn net(&mut self) {
        let mut keys: Keys = Vec::new();
        if self.rng.one_in(2) {
            keys.push(("vlan".into(), Val::Num(self.rng.below(4) as u64)));
        }
        let kind = match self.rng.below(7) {
            0 => return self.option("-net", Some("none".into())),
            1..=3 => {
                if self.rng.one_in(2) {
                    keys.push(text("macaddr", self.mac()));
                }
                if self.rng.one_in(2) {
                    let name = self.name();
                    keys.push(text("name", &*name));
                    self.device_ids.push(name);
                }
                self.nics += 1;
                self.netdevs += 1;
                "nic"
            }
            _ => {
                let (kind, more) = self.backend();
                keys.extend(more);
                if self.rng.one_in(2) {
                    let key = self.rng.pick(&["id", "name"]);
                    let id = self.name();
                    keys.push(text(key, &*id));
                    self.named.push(id.clone());
                    self.used.push(id);
                }
                self.netdevs += 2;
                kind
            }
        };
        let value = self.keyval("type", kind, keys);
        self.option("-net", Some(value));
    }

    fn other(&mut self) {
        let (name, value) = self.rng.pick(&[
            ("-m", Some("64")),
            ("-m", Some("1.5G")),
            ("-smp", Some("cpus=2")),
            ("-append", Some("console=ttyS0 -netdev tap")),
            ("-timeout", Some("1m30s")),
            ("-expect", Some("within=2s,a, b$")),
            ("-on-failure", Some("kept")),
            ("-nographic", None),
            ("-no-reboot", None),
        ]);
        self.option(name, value.map(str::to_owned));
    }
}
