//! `-net`, `-nic` and hubs: what they stand for, and what is refused.

use minivmm::cli::{Command, Config, Device, E1000Options, HubPortOptions, NetdevKind};

use crate::{parse, refusal, run};

/// Netdevs as `id=kind`, hubs' ports as `id=hub:netdev`; then NICs as `id:netdev:last byte of the MAC`.
fn shape(config: &Config) -> String {
    let netdev = |kind: &NetdevKind| match kind {
        NetdevKind::HubPort(HubPortOptions { hubid, netdev, .. }) => {
            format!("{hubid}:{}", netdev.as_deref().unwrap_or("-"))
        }
        NetdevKind::Tap(tap) => format!("tap {}", tap.ifname.as_deref().unwrap_or("-")),
        #[allow(unreachable_patterns, reason = "other backends are other files' business")]
        other => format!("{other:?}"),
    };
    let netdevs = config.netdevs.iter().map(|n| format!("{}={}", n.id, netdev(&n.kind)));
    let nics = config.devices.iter().filter_map(|device| match device {
        Device::E1000(E1000Options { id, netdev, mac, .. }) => {
            let text = |option: &Option<String>| option.clone().unwrap_or_else(|| "-".into());
            Some(format!("{}:{}:{:02x}", text(id), text(netdev), mac[5]))
        }
        Device::IsaDebugExit(_) => None,
    });
    netdevs.chain(nics).collect::<Vec<_>>().join(" ")
}

const SHAPES: &[(&str, &str)] = &[
    ("-net none", ""),
    ("-nic none", ""),
    ("-nodefaults", ""),
    ("-device e1000", "-:-:56"),
    ("-net nic", "hub0port0=0:- -:hub0port0:56"),
    ("-net nic -net tap", "hub0port0=0:- #net0=tap - hub0port1=0:#net0 -:hub0port0:56"),
    (
        "-net tap,name=t,ifname=tap7 -net nic,name=a,addr=4",
        "t=tap tap7 hub0port0=0:t hub0port1=0:- a:hub0port1:56",
    ),
    ("-net tap,id=t,vlan=3 -net nic,vlan=3", "t=tap - hub3port0=3:t hub3port1=3:- -:hub3port1:56"),
    ("-netdev tap,id=n0 -net nic,netdev=n0,macaddr=2:0:0:0:0:9", "n0=tap - -:n0:09"),
    ("-nic tap", "#net0=tap - -:#net0:56"),
    ("-nic tap,id=t,mac=2:0:0:0:0:8,ifname=tap1", "t=tap tap1 -:t:08"),
    ("-nic tap,macaddr=2:0:0:0:0:8,model=e1000-82540em", "#net0=tap - -:#net0:08"),
    ("-nic hubport,hubid=5 -nic tap", "#net0=5:- #net1=tap - -:#net0:56 -:#net1:57"),
    // A hub's port on a hub joins the two.
    ("-net hubport,hubid=1 -net nic", "#net0=1:- hub0port0=0:#net0 hub0port1=0:- -:hub0port1:56"),
    // NICs of -net and -nic come before those of -device, as QEMU's on-board NICs do.
    (
        "-device e1000,id=late -nic tap -net nic",
        "#net0=tap - hub0port0=0:- -:#net0:56 -:hub0port0:57 late:-:58",
    ),
    // Names that the user has taken are left alone.
    ("-netdev hubport,id=hub0port0,hubid=0 -net nic", "hub0port0=0:- hub0port1=0:- -:hub0port1:56"),
    (
        "-net nic -net nic -net nic -net nic -net nic -net tap",
        "hub0port0=0:- hub0port1=0:- hub0port2=0:- hub0port3=0:- hub0port4=0:- #net0=tap - hub0port5=0:#net0 \
         -:hub0port0:56 -:hub0port1:57 -:hub0port2:58 -:hub0port3:59 -:hub0port4:5a",
    ),
];

#[test]
fn short_forms_stand_for_netdevs_and_devices() {
    for (line, expected) in SHAPES {
        assert_eq!(shape(&run(line)), *expected, "{line}");
        let two_dashes = line.replace(" -", " --").replacen('-', "--", 1);
        assert_eq!(shape(&run(&two_dashes)), *expected, "{two_dashes}");
    }
}

#[test]
fn hub_ports() {
    let config = run("-netdev hubport,id=a,hubid=7,learning=on -netdev hubport,hubid=0x10,netdev=a,id=b");
    let port = |n: usize| match &config.netdevs[n].kind {
        NetdevKind::HubPort(port) => port.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(port(0), HubPortOptions { hubid: 7, netdev: None, learning: Some(true) });
    assert_eq!(port(1), HubPortOptions { hubid: 16, netdev: Some("a".into()), learning: None });
    let json = run(
        r#"-netdev {"type":"hubport","id":"a","hubid":7,"learning":true} -netdev hubport,hubid=16,netdev=a,id=b"#,
    );
    assert_eq!(json.netdevs, config.netdevs);
}

const REFUSED: &[(&str, &str)] = &[
    ("-net tap0", "'tap0' is not a backend; did you mean 'tap'?"),
    ("-net vlan=1", "the type is missing; write -net nic, -net tap or another backend"),
    ("-net nic,model=foo", "'foo' is not a device; -device help lists what there is"),
    ("-net nic,model=virtio", "QEMU's 'virtio' is not here; the NIC here is e1000"),
    ("-net nic,model=isa-debug-exit", "'isa-debug-exit' is no NIC; model=help lists the NICs"),
    ("-net nic,mac=2:0:0:0:0:1", "-net nic has no 'mac'; did you mean 'macaddr'?"),
    (
        "-net nic,macaddr=zz",
        "mac: 'zz' is not a MAC address; write six hexadecimal bytes, as in 52:54:00:12:34:56",
    ),
    ("-net nic,vectors=2", "-net nic has no 'vectors' here; leave it out (it is virtio's)"),
    (
        "-net nic,netdev=n0,vlan=1",
        "netdev= connects the NIC to a backend and vlan= to a hub; leave out one of them",
    ),
    ("-net nic,netdev=n0", "there is no netdev 'n0'; add -netdev tap,id=n0"),
    ("-net nic,vlan=x", "vlan: 'x' is not a number from 0 to 2147483647"),
    ("-net tap,id=a,name=b", "id= and name= mean the same; keep one of them"),
    ("-net tap,foo=1", "-netdev tap has no 'foo'; -netdev tap,help lists what it has"),
    ("-nic tap,mac=2:0:0:0:0:1,macaddr=2:0:0:0:0:1", "mac= and macaddr= mean the same; keep one of them"),
    ("-nic tap,netdev=x", "-netdev tap has no 'netdev'; -netdev tap,help lists what it has"),
    (
        "-netdev tap,id=n0 -nic tap,id=n0",
        "the netdev id 'n0' is taken by '-netdev tap,id=n0'; give each its own",
    ),
    ("-netdev hubport,id=a", "hubid= is missing; add hubid=0, or the number of another hub"),
    ("-netdev hubport,id=a,hubid=-1", "hubid: '-1' is not a number from 0 to 2147483647"),
    ("-netdev hubport,id=a,hubid=0,netdev=a", "the port would be connected to itself; name another netdev"),
    ("-netdev hubport,id=a,hubid=0,netdev=b", "there is no netdev 'b'; did you mean 'a'?"),
    (
        "-netdev hubport,id=a,hubid=0 -netdev hubport,id=b,hubid=0,netdev=a",
        "hub 0 would be joined with itself; frames would go round for ever; leave this join out",
    ),
    (
        "-netdev hubport,id=a,hubid=0 -netdev hubport,id=b,hubid=1,netdev=a \
         -netdev hubport,id=c,hubid=1 -netdev hubport,id=d,hubid=2,netdev=c \
         -netdev hubport,id=e,hubid=2 -netdev hubport,id=f,hubid=0,netdev=e",
        "hub 0 and hub 2 are joined already; frames would go round for ever; leave this join out",
    ),
    (
        "-netdev tap,id=n0 -netdev hubport,id=a,hubid=0,netdev=n0 -device e1000,netdev=a",
        "the port 'a' is connected by its own netdev= ('-netdev hubport,id=a,hubid=0,netdev=n0'); \
         add another port with the same hubid",
    ),
    (
        "-netdev tap,id=n0 -netdev hubport,id=a,hubid=0,netdev=n0 -device e1000,netdev=n0",
        "the netdev 'n0' is used by '-device e1000,netdev=n0'; \
         give each NIC a -netdev of its own, or join them by hubports",
    ),
    (
        "-netdev hubport,id=a,hubid=0,learning=on -netdev hubport,id=b,hubid=0,learning=off",
        "the hub's other port, '-netdev hubport,id=a,hubid=0,learning=on', says the opposite; \
         learning= holds for the whole hub; write it once",
    ),
];

#[test]
fn refused_with_a_way_out() {
    for (line, expected) in REFUSED {
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split_whitespace()).collect();
        let message = refusal(&words);
        assert!(message.ends_with(&format!(": {expected}")), "{line}:\n{message}\n{expected}");
    }
}

const OLD: &str =
    "-net is QEMU's old form, with a hub in between; -nic, or -netdev with -device, does without";

#[test]
fn remarks() {
    for (line, expected) in [
        ("-nic tap", vec![]),
        ("-net none", vec![]),
        ("-net nic -net tap -net nic", vec![format!("-net nic: {OLD}")]),
        (
            "-net nic",
            vec![
                format!("-net nic: {OLD}"),
                "-net nic: hub 0 has no way to the host; add -net tap or another backend".into(),
            ],
        ),
        ("-net tap", vec![format!("-net tap: {OLD}"), "-net tap: hub 0 has no NIC; add -net nic".into()]),
        (
            "-netdev hubport,id=a,hubid=0 -device e1000,netdev=a -netdev hubport,id=b,hubid=1 \
             -device e1000,netdev=b -netdev hubport,id=c,hubid=0 -netdev hubport,id=d,hubid=1,netdev=c",
            vec![],
        ),
        (
            "-netdev hubport,id=a,hubid=0",
            vec![
                "-netdev hubport,id=a,hubid=0: no device uses this netdev; add -device e1000,netdev=a".into(),
            ],
        ),
    ] {
        assert_eq!(run(line).warnings, expected, "{line}");
    }
}

#[test]
fn short_forms_list_what_they_take() {
    for (words, expected) in [
        (&["-net", "help"], "tap "),
        (&["-nic", "?"], "tap "),
        (&["-net", "nic,model=help"], "e1000 "),
        (&["-net", "nic,model=?"], "e1000 "),
        (&["-nic", "model=help"], "e1000 "),
        (&["-nic", "tap,model=help"], "e1000 "),
        (&["-net", "nic,help"], "macaddr="),
        (&["-net", "tap,help"], "vlan="),
        (&["-nic", "tap,help"], "model="),
    ] {
        let Ok(Command::Print(text)) = parse(words) else { panic!("{words:?}") };
        assert!(text.contains(&format!("\n  {expected}")), "{words:?} gave {text}");
    }
}
