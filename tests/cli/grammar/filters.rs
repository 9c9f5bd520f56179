//! Filters on the netdevs of a line, and the connections that some of them name.

use super::form::{Keys, Val, text};
use super::line::Line;

impl Line {
    /// A filter on some netdev, if there is one.
    pub(super) fn filter(&mut self) {
        // A mirror or a redirector may not sit on what another one names.
        let places: Vec<String> =
            self.named.iter().filter(|name| !self.branches.contains(name)).cloned().collect();
        if places.is_empty() {
            return;
        }
        let n = self.number();
        let mut keys: Keys = vec![text("id", format!("f{n}")), text("netdev", self.rng.pick(&places))];
        for (key, values) in
            [("queue", &["all", "rx", "tx"][..]), ("status", &["on", "off"]), ("position", &["head", "tail"])]
        {
            if self.rng.one_in(3) {
                keys.push(text(key, self.rng.pick(values)));
            }
        }
        let kind = self.rng.pick(&[
            "filter-dump",
            "filter-buffer",
            "filter-replay",
            "filter-mirror",
            "filter-mirror",
            "filter-redirector",
            "filter-redirector",
        ]);
        match kind {
            "filter-buffer" => keys.push(("interval".into(), Val::Num(1 + u64::from(n)))),
            "filter-mirror" => keys.push(text("outdev", self.branch())),
            "filter-redirector" => {
                let which = self.rng.below(3);
                for (at, key) in ["indev", "outdev"].into_iter().enumerate() {
                    if which == at || which == 2 {
                        keys.push(text(key, self.branch()));
                    }
                }
            }
            _ => keys.push(text("file", format!("/tmp/f,{n}"))),
        }
        let value = self.write("qom-type", kind, keys);
        self.option("-object", Some(value));
        self.filters += 1;
    }

    /// The id of a new chardev or a new netdev, for one filter.
    fn branch(&mut self) -> String {
        let id = self.name();
        if self.rng.one_in(3) {
            let (kind, mut keys) = self.backend();
            keys.push(text("id", &*id));
            let value = self.write("type", kind, keys);
            self.option("-netdev", Some(value));
            self.netdevs += 1;
            self.named.push(id.clone());
            self.branches.push(id.clone());
            self.used.push(id.clone());
            return id;
        }
        let n = self.number();
        let mut keys = match self.rng.below(3) {
            0 => vec![text("path", format!("/tmp/c{n}"))],
            1 => vec![text("host", "127.0.0.1"), text("port", (1024 + n).to_string())],
            _ => vec![text("path", format!("c{n}")), ("abstract".into(), Val::Bool(true))],
        };
        match self.rng.below(4) {
            0 => keys.push(("server".into(), Val::Bool(true))),
            1 => keys.extend([("server".into(), Val::Bool(true)), ("wait".into(), Val::Bool(false))]),
            2 => keys.push(("reconnect".into(), Val::Num(1))),
            _ => {}
        }
        keys.push(text("id", &*id));
        let value = self.keyval("backend", "socket", keys);
        self.option("-chardev", Some(value));
        self.chardevs += 1;
        id
    }
}
