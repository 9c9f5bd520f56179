//! The command line: words, lists of `key=value`, JSON.
//!
//! The input: one word a line, behind `-kernel k`. A refusal is one printable line. What is taken must hang
//! together: ids and slots are there once, every cable has two ends and no end two cables, no hub leads back to
//! itself; and the same words mean the same again. The input as a value must come through a list unchanged.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use minivmm::cli::{self, Command, Config, Device, Netdev, NetdevKind, ScriptChoice};

/// Longer words only take longer.
const LONGEST: usize = 4096;

pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let typed = data.split(|&byte| byte == b'\n').map(OsStr::from_bytes);
    let words: Vec<OsString> =
        ["-kernel", "k"].map(OsStr::new).into_iter().chain(typed).map(OsStr::to_owned).collect();
    let meaning = cli::parse(words.iter().cloned());
    match &meaning {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
            assert!(line.len() < 4000, "{} bytes", line.len());
        }
        Ok(Command::Run(config)) => hangs_together(config),
        Ok(Command::Print(text)) => assert!(text.ends_with('\n')),
        Ok(_) => {}
    }
    assert_eq!(meaning, cli::parse(words.into_iter()), "the same words mean the same again");
    comes_through(data);
}

fn hangs_together(config: &Config) {
    let ids: BTreeSet<&str> = config.netdevs.iter().map(|netdev| netdev.id.as_str()).collect();
    assert_eq!(ids.len(), config.netdevs.len(), "an id twice");
    let (mut ends, mut slots, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut cable = |from: Option<&str>, to: &str| {
        assert!(ids.contains(to), "a cable to '{to}', which is not there");
        assert!(ends.insert(to.to_owned()), "'{to}' has two cables");
        assert!(from.is_none_or(|from| ends.insert(from.to_owned())), "{from:?} has two cables");
    };
    for device in &config.devices {
        assert!(device.id().is_none_or(|id| names.insert(id)), "a device id twice");
        if let Device::E1000(nic) = device {
            nic.netdev.iter().for_each(|netdev| cable(None, netdev));
            assert!(nic.addr.is_none_or(|addr| slots.insert(addr)), "a slot twice");
            assert!(nic.mac[0] & 1 == 0 && nic.mac != [0; 6], "{:x?}", nic.mac);
        }
    }
    let mut chardevs = BTreeSet::new();
    for filter in &config.filters {
        assert!(ids.contains(filter.netdev.as_str()), "a filter on '{}', which is not there", filter.netdev);
        for (_, dev) in filter.kind.devs() {
            match config.chardevs.iter().any(|chardev| chardev.id == dev) {
                true => assert!(chardevs.insert(dev), "the chardev '{dev}' has two filters"),
                false => cable(None, dev),
            }
        }
    }
    let ports = || config.netdevs.iter().filter_map(|netdev| Some((netdev, hub_of(netdev)?)));
    for (port, (_, used)) in ports() {
        used.iter().for_each(|used| cable(Some(&port.id), used));
    }
    // Hubs are painted with the number of the hub that they are joined with.
    let mut colours: Vec<(u32, u32)> = ports().map(|(_, (hub, _))| (hub, hub)).collect();
    for (_, (hub, used)) in ports() {
        let Some((_, (other, _))) = ports().find(|(port, _)| Some(&port.id) == used.as_ref()) else {
            continue;
        };
        let colour = |hub| colours.iter().find(|(of, _)| *of == hub).map(|(_, colour)| *colour);
        let (a, b) = (colour(hub), colour(other));
        assert_ne!(a, b, "a ring of hubs");
        colours
            .iter_mut()
            .filter(|(_, colour)| Some(*colour) == b)
            .for_each(|(_, colour)| *colour = a.unwrap_or(0));
    }
}

fn hub_of(netdev: &Netdev) -> Option<(u32, Option<String>)> {
    match &netdev.kind {
        NetdevKind::HubPort(port) => Some((port.hubid, port.netdev.clone())),
        _ => None,
    }
}

/// A value with its commas doubled is the value.
fn comes_through(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    let list = format!("tap,script={},id=n0", value.replace(',', ",,"));
    let words = ["-kernel", "k", "-netdev", &list].map(OsString::from);
    let Ok(Command::Run(config)) = cli::parse(words.into_iter()) else {
        assert!(value.is_empty() || value.contains('\0'), "{value:?} was refused");
        return;
    };
    let [Netdev { kind: NetdevKind::Tap(tap), .. }] = config.netdevs.as_slice() else { panic!("{config:?}") };
    let expected = if value == "no" { ScriptChoice::No } else { ScriptChoice::Path(Path::new(value).into()) };
    assert_eq!(tap.script, expected);
}
