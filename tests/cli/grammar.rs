//! A thousand random command lines against the parser.
//!
//! The generator knows by construction which lines mean something, and what: it was written from QEMU's
//! documentation and docs/netdev.md and shares no code and no table with the parser. Half of the lines get exactly
//! one mistake. `MINIVMM_LINES` sets how many lines are tried, `MINIVMM_SEED` the first one.

use std::collections::BTreeSet;

use minivmm::cli::{Command, Config, Device};
use serde_json::{Map, Value, json};

use crate::parse;

/// xorshift64*; the quality needed is "not the same line again".
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for n in (1..list.len()).rev() {
            list.swap(n, self.below(n + 1));
        }
    }
}

/// A key's value, before it is decided how it is written.
#[derive(Clone)]
enum Val {
    Text(String),
    Num(u64),
    Bool(bool),
}

type Keys = Vec<(String, Val)>;

fn text(key: &str, value: impl Into<String>) -> (String, Val) {
    (key.to_owned(), Val::Text(value.into()))
}

/// A line being built, and what it is to mean.
struct Line {
    rng: Rng,
    options: Vec<Vec<String>>,
    count: u32,
    /// Ids of netdevs that were named, and those of them that nothing uses yet.
    named: Vec<String>,
    free: Vec<(String, Option<u32>)>,
    used: Vec<String>,
    /// Hubs that are one network.
    groups: Vec<Vec<u32>>,
    learning: [Option<bool>; 4],
    /// With the hub's port that `-net` brings along.
    netdevs: usize,
    nics: usize,
    device_ids: Vec<String>,
    slots: BTreeSet<u8>,
    /// Device id and netdev id where both were given.
    cables: Vec<(String, String)>,
    /// Nothing has been said about the network.
    silent: bool,
}

impl Line {
    fn new(seed: u64) -> Self {
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
            match line.rng.below(8) {
                0..=2 => line.netdev(),
                3 | 4 => line.device(),
                5 => line.nic(),
                6 => line.net(),
                _ => line.other(),
            }
        }
        if line.silent {
            (line.nics, line.netdevs) = (1, 1);
        }
        line
    }

    fn number(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn name(&mut self) -> String {
        let tail: String =
            (0..self.rng.below(9)).map(|_| self.rng.pick(&['a', 'Z', '0', '9', '-', '.', '_'])).collect();
        format!("{}{}{tail}", self.rng.pick(&["n", "Net", "x-"]), self.number())
    }

    fn option(&mut self, name: &str, value: Option<String>) {
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
    fn backend(&mut self) -> (&'static str, Keys) {
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
            ("-nographic", None),
            ("-no-reboot", None),
        ]);
        self.option(name, value.map(str::to_owned));
    }

    /// The option's value in one of its two forms.
    fn write(&mut self, type_key: &str, kind: &str, keys: Keys) -> String {
        if self.rng.one_in(3) { self.json(type_key, kind, keys) } else { self.keyval(type_key, kind, keys) }
    }

    fn keyval(&mut self, type_key: &str, kind: &str, mut keys: Keys) -> String {
        self.rng.shuffle(&mut keys);
        let mut items: Vec<String> = Vec::new();
        for (key, value) in keys {
            items.push(match value {
                Val::Bool(true) if self.rng.one_in(3) && key == "vnet_hdr" => key,
                Val::Bool(false) if self.rng.one_in(3) && key == "vnet_hdr" => format!("no{key}"),
                Val::Bool(on) => format!("{key}={}", if on { "on" } else { "off" }),
                Val::Num(n) => format!("{key}={n}"),
                Val::Text(text) => format!("{key}={}", text.replace(',', ",,")),
            });
        }
        if self.rng.one_in(6) && items.iter().all(|item| item.contains('=')) {
            items.insert(self.rng.below(items.len() + 1), format!("{type_key}={kind}"));
        } else {
            items.insert(0, kind.to_owned());
        }
        items.join(",") + if self.rng.one_in(12) { "," } else { "" }
    }

    fn json(&mut self, type_key: &str, kind: &str, mut keys: Keys) -> String {
        keys.push(text(type_key, kind));
        self.rng.shuffle(&mut keys);
        let nested = self.rng.one_in(2);
        let mut object = Map::new();
        for (key, value) in keys {
            let value = match value {
                Val::Bool(on) => json!(on),
                Val::Num(n) => json!(n),
                Val::Text(text) => json!(text),
            };
            // Lists, in either form that QEMU takes.
            if ["hostfwd", "dnssearch"].contains(&key.as_str()) {
                let item = if nested { json!({ "str": value }) } else { value };
                let list = object.entry(key).or_insert_with(|| json!([]));
                list.as_array_mut().unwrap().push(item);
                continue;
            }
            match key.split_once('.') {
                Some((outer, inner)) if nested => {
                    let inside = object.entry(outer).or_insert_with(|| json!({}));
                    inside.as_object_mut().unwrap().insert(inner.to_owned(), value);
                }
                _ => {
                    object.insert(key, value);
                }
            }
        }
        Value::Object(object).to_string()
    }

    /// Adds one mistake; returns what it is.
    fn spoil(&mut self) -> &'static str {
        let n = self.number();
        let netdev = |value: String| vec!["-netdev".to_owned(), value];
        let device = |value: String| vec!["-device".to_owned(), value];
        let bad_id = self.rng.pick(&[
            "9x".to_owned(),
            "a b".into(),
            String::new(),
            "-a".into(),
            "x".repeat(65),
            "é".into(),
        ]);
        let bad_mac = self.rng.pick(&[
            "zz",
            "",
            "1:2:3:4:5",
            "1:2:3:4:5:6:7",
            "01:0:0:0:0:1",
            "0:0:0:0:0:0",
            "2:0:0:0:0:100",
        ]);
        let bad_slot = self.rng.pick(&["0", "1f", "20", "3.1", "zz", "", "-3", "3.", "ffffffffffffffffff"]);
        let bad_bool = self.rng.pick(&["true", "yes", "1", "", "ON"]);
        let bad_address =
            self.rng.pick(&["10.0.0.1", "10.0.0.0/24", "x", "10.0.0.1/33", "::1/64", "224.0.0.1/8", ""]);
        let bad_hub = self.rng.pick(&["", "-1", "x", "99999999999", "1.5", "0x"]);
        let (what, options) = match self.rng.below(29) {
            0 if !self.named.is_empty() => (
                "an id twice",
                vec![netdev(format!("tap,id={},ifname=t{n}", self.rng.pick(&self.named.clone())))],
            ),
            1 if !self.used.is_empty() => (
                "a netdev with two users",
                vec![device(format!("e1000,netdev={}", self.rng.pick(&self.used.clone())))],
            ),
            2 if !self.device_ids.is_empty() => (
                "a device id twice",
                vec![device(format!("e1000,id={}", self.rng.pick(&self.device_ids.clone())))],
            ),
            3 => ("an unknown key", vec![netdev(format!("tap,id=bad{n},frob=1"))]),
            4 => ("an unknown key", vec![device("e1000,frob=1".into())]),
            5 => ("an unknown backend", vec![netdev(format!("frob,id=bad{n}"))]),
            6 => ("no id", vec![netdev(format!("tap,ifname=t{n}"))]),
            7 => ("a bad id", vec![netdev(format!("tap,id={bad_id}"))]),
            8 => ("a bad MAC", vec![device(format!("e1000,mac={bad_mac}"))]),
            9 => ("a bad MAC", vec![vec!["-nic".into(), format!("tap,ifname=t{n},mac={bad_mac}")]]),
            10 => ("a bad slot", vec![device(format!("e1000,addr={bad_slot}"))]),
            11 => ("a bad switch", vec![netdev(format!("tap,id=bad{n},vnet_hdr={bad_bool}"))]),
            12 => ("a key twice", vec![netdev(format!("tap,id=bad{n},ifname=a,ifname=b"))]),
            13 => ("a long interface name", vec![netdev(format!("tap,id=bad{n},ifname=sixteen-letters-"))]),
            14 => ("fd with ifname", vec![netdev(format!("tap,id=bad{n},fd=9999,ifname=t{n}"))]),
            15 => ("a bad address", vec![netdev(format!("tap,id=bad{n},address={bad_address}"))]),
            16 => ("a netdev that is not there", vec![device(format!("e1000,netdev=none{n}"))]),
            17 => ("no number of the hub", vec![netdev(format!("hubport,id=bad{n}"))]),
            18 => ("a bad number of a hub", vec![netdev(format!("hubport,id=bad{n},hubid={bad_hub}"))]),
            19 => (
                "a hub joined with itself",
                vec![
                    netdev(format!("hubport,id=bad{n},hubid=77")),
                    netdev(format!("hubport,id=worse{n},hubid=77,netdev=bad{n}")),
                ],
            ),
            20 => (
                "two hubs joined twice",
                (0..2)
                    .flat_map(|k| {
                        [
                            netdev(format!("hubport,id=bad{n}.{k},hubid=77")),
                            netdev(format!("hubport,id=worse{n}.{k},hubid=78,netdev=bad{n}.{k}")),
                        ]
                    })
                    .collect(),
            ),
            21 => (
                "a hub that does and does not learn",
                vec![
                    netdev(format!("hubport,id=bad{n},hubid=77,learning=on")),
                    netdev(format!("hubport,id=worse{n},hubid=77,learning=off")),
                ],
            ),
            22 => ("JSON cut short", vec![netdev(format!(r#"{{"type":"tap","id":"bad{n}""#))]),
            23 => (
                "JSON of the wrong type",
                vec![netdev(format!(r#"{{"type":"tap","id":"bad{n}","vnet_hdr":"on"}}"#))],
            ),
            24 => ("netdev and vlan", vec![vec!["-net".into(), format!("nic,netdev=none{n},vlan=1")]]),
            26 => {
                let rule =
                    self.rng.pick(&["foo", "tcp:1-2", "tcp::-:22", "tcp::70000-:22", "sctp::1-:2", ""]);
                ("a bad forwarding", vec![netdev(format!("user,id=bad{n},hostfwd={rule}"))])
            }
            27 => {
                ("a gateway outside", vec![netdev(format!("user,id=bad{n},net=10.9.0.0/24,host=10.0.2.2"))])
            }
            25 => ("an unknown option", vec![vec![format!("-frob{n}")]]),
            _ => ("no type", vec![vec![self.rng.pick(&["-net", "-netdev"]).into(), format!("id=bad{n}")]]),
        };
        for option in options {
            let at = self.rng.below(self.options.len() + 1);
            self.options.insert(at, option);
        }
        what
    }

    fn words(&mut self) -> Vec<String> {
        self.rng.shuffle(&mut self.options);
        let kernel = self.rng.below(self.options.len() + 1);
        self.options.insert(kernel, vec!["-kernel".into(), "k".into()]);
        self.options.concat()
    }

    fn check(&self, config: &Config) -> Result<(), String> {
        let nics: Vec<_> = config
            .devices
            .iter()
            .filter_map(|device| match device {
                Device::E1000(nic) => Some(nic),
                _ => None,
            })
            .collect();
        let same = |what: &str, is: usize, expected: usize| {
            (is == expected).then_some(()).ok_or(format!("{is} {what} instead of {expected}"))
        };
        same("NICs", nics.len(), self.nics)?;
        same("netdevs", config.netdevs.len(), self.netdevs)?;
        let ids: BTreeSet<&str> = config.netdevs.iter().map(|netdev| netdev.id.as_str()).collect();
        same("different ids", ids.len(), config.netdevs.len())?;
        same("different MACs", nics.iter().map(|nic| nic.mac).collect::<BTreeSet<_>>().len(), nics.len())?;
        for name in &self.named {
            ids.contains(name.as_str()).then_some(()).ok_or(format!("no netdev {name}"))?;
        }
        for (id, netdev) in &self.cables {
            let nic =
                nics.iter().find(|nic| nic.id.as_deref() == Some(id)).ok_or(format!("no device {id}"))?;
            let is = nic.netdev.as_deref();
            (is == Some(netdev)).then_some(()).ok_or(format!("{id} is on {is:?} instead of {netdev}"))?;
        }
        Ok(())
    }
}

#[test]
fn a_thousand_random_lines() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (first, count) = (setting("MINIVMM_SEED", 1), setting("MINIVMM_LINES", 1000));
    let (mut good, mut bad) = (0, 0);
    for seed in first..first + count {
        let mut line = Line::new(seed);
        let spoilt = line.rng.one_in(2).then(|| line.spoil());
        let words = line.words();
        let refs: Vec<&str> = words.iter().map(String::as_str).collect();
        match (parse(&refs), spoilt) {
            (Ok(Command::Run(config)), None) => {
                line.check(&config)
                    .unwrap_or_else(|why| panic!("seed {seed}: {why}\n{}\n{config:?}", words.join(" ")));
                good += 1;
            }
            (Err(error), Some(_)) => {
                let text = error.to_string();
                let one_line = !text.is_empty() && text.len() < 1000 && !text.contains(char::is_control);
                assert!(one_line, "seed {seed}: {text:?}");
                bad += 1;
            }
            (Ok(_), Some(what)) => panic!("seed {seed}: {what} was taken\n{}", words.join(" ")),
            (other, None) => panic!("seed {seed}: {other:?}\n{}", words.join(" ")),
        }
    }
    assert!(good > count / 3 && bad > count / 3, "{good} good, {bad} bad");
}
