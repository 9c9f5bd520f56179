//! One mistake in a line that was right.

use super::line::Line;

impl Line {
    /// Adds one mistake; returns what it is.
    pub(super) fn spoil(&mut self) -> &'static str {
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
        let (what, options) = match self.rng.below(32) {
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
            28 => {
                let (key, value) = self.rng.pick(&[
                    ("outdev", format!("none{n}")),
                    ("outdev", format!("bad{n}")),
                    ("outdev", String::new()),
                    ("indev", format!("none{n}")),
                ]);
                let mirror = format!("filter-mirror,id=f{n},netdev=bad{n},{key}={value}");
                (
                    "a mirror to nowhere",
                    vec![netdev(format!("tap,id=bad{n},ifname=t{n}")), vec!["-object".into(), mirror]],
                )
            }
            29 => {
                let keys =
                    self.rng.pick(&["", ",indev=c,outdev=c", ",indev=c", ",queue=c", ",vnet_hdr_support=on"]);
                let redirector = format!("filter-redirector,id=f{n},netdev=bad{n}{keys}");
                (
                    "a bad redirector",
                    vec![netdev(format!("tap,id=bad{n},ifname=t{n}")), vec!["-object".into(), redirector]],
                )
            }
            30 => {
                let keys = self.rng.pick(&[
                    "",
                    ",path=s,host=h,port=1",
                    ",host=h",
                    ",path=",
                    ",path=s,wait=on",
                    ",path=s,server=on,reconnect=1",
                    ",port=70000",
                    ",path=s,frob=1",
                    ",host=h,port=1,to=2",
                    ",path=s,telnet=on",
                ]);
                ("a bad chardev", vec![vec!["-chardev".into(), format!("socket,id=bad{n}{keys}")]])
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
}
