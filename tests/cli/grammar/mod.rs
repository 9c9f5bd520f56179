//! A thousand random command lines against the parser.
//!
//! The generator (`line`, how it is written down: `form`) knows by construction which lines mean something, and what:
//! it was written from QEMU's documentation and docs/netdev.md and shares no code and no table with the parser. Half
//! of the lines get exactly one mistake (`mistakes`). `MINIVMM_LINES` sets how many lines are tried, `MINIVMM_SEED` the
//! first one.

mod filters;
mod form;
mod line;
mod mistakes;

use std::collections::BTreeSet;

use minivmm::cli::{Command, Config, Device};

use self::line::Line;
use crate::parse;

/// xorshift64*; the quality needed is "not the same line again".
struct Rng(u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for n in (1..list.len()).rev() {
            list.swap(n, self.below(n + 1));
        }
    }
}
impl Line {
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
        same("filters", config.filters.len(), self.filters)?;
        same("chardevs", config.chardevs.len(), self.chardevs)?;
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
