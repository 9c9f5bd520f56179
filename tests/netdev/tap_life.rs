//! How a tap comes, is set up, and goes.

use std::time::Duration;

use minivmm::cli::{AddressChoice, ScriptChoice, TapOptions};
use minivmm::netdev::Backend;
use minivmm::netport::{Delivery, DropReason, Offloads};

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("a_tap_of_ours_is_up_with_the_default_address", a_tap_of_ours_is_up_with_the_default_address),
    ("a_taken_subnet_is_told_and_left_alone", a_taken_subnet_is_told_and_left_alone),
    ("address_choices", address_choices),
    ("a_tap_of_ours_goes_when_dropped", a_tap_of_ours_goes_when_dropped),
    ("a_tap_of_ours_goes_with_a_killed_process", a_tap_of_ours_goes_with_a_killed_process),
    ("persistent_taps_are_attached_and_left_as_found", persistent_taps_are_attached_and_left_as_found),
    ("scripts_run_with_the_name", scripts_run_with_the_name),
    ("an_inherited_tap_is_used", an_inherited_tap_is_used),
    ("a_deleted_tap_cuts_the_cable_once", a_deleted_tap_cuts_the_cable_once),
    ("a_link_that_is_down_drops_and_comes_back", a_link_that_is_down_drops_and_comes_back),
];

/// Helper processes.
pub fn role(name: &str) {
    match name {
        "hold-a-tap" => {
            let host = Host::new();
            let tap = host.open(&options());
            println!("{}", tap.ifname());
            std::thread::sleep(Duration::from_secs(60));
        }
        "inherited" => {
            let fd = std::env::var("TAP_FD").expect("TAP_FD").parse().expect("a number");
            let host = Host::new();
            let tap = host.open(&TapOptions { fd: Some(fd), ..options() });
            println!("{} {}", tap.ifname(), tap.describe());
        }
        "line-error" => {
            let line = std::env::var("NETDEV_LINE").expect("NETDEV_LINE");
            println!("{}", Cable::try_new(&line, 1).map_or_else(|error| error, |_| "opened".into()));
        }
        "open-error" => {
            let ifname = std::env::var("TAP_NAME").ok();
            let error = Host::new().try_open(&TapOptions { ifname, ..options() });
            println!("{}", error.map_or_else(|error| error.to_string(), |_| "opened".into()));
        }
        other => crate::tap_traffic::role(other),
    }
}

fn exists(ifname: &str) -> bool {
    !sh(&format!("ip -o link show | grep ' {ifname}: ' || true")).is_empty()
}

fn addresses(ifname: &str) -> String {
    sh(&format!("ip -o -4 addr show dev {ifname}"))
}

fn a_tap_of_ours_is_up_with_the_default_address() {
    let host = Host::new();
    let tap = host.open(&options());
    assert_eq!(tap.ifname(), "tap0");
    assert!(addresses("tap0").contains("inet 10.0.2.2/24 brd 10.0.2.255 "), "{}", addresses("tap0"));
    let link = sh("ip -o link show tap0");
    assert!(link.contains(",UP") || link.contains("<UP"), "{link}");
    assert_eq!(tap.describe(), "tap tap0, vnet_hdr");
    assert!(host.said().is_empty());
}

fn a_taken_subnet_is_told_and_left_alone() {
    let host = Host::new();
    let _first = host.open(&options());
    let second = host.open(&options());
    assert_eq!(addresses(second.ifname()), "");
    let expected = "netdev n0: tap0 has 10.0.2.2/24 already, so tap1 gets no address: choose one with \
                    address=ADDRESS/PREFIX";
    assert_eq!(host.said(), [expected]);
}

fn address_choices() {
    let host = Host::new();
    let none = host.open(&TapOptions { address: AddressChoice::None, ..options() });
    assert_eq!(addresses(none.ifname()), "");
    let own = host.open(&named("mine"));
    assert_eq!(addresses(own.ifname()), "", "with ifname= the user sees to the address");
    let chosen = AddressChoice::Ip4 { addr: [192, 0, 2, 9].into(), prefix: 30 };
    let tap = host.open(&TapOptions { address: chosen, vnet_hdr: Some(false), ..options() });
    assert!(addresses(tap.ifname()).contains("inet 192.0.2.9/30 brd 192.0.2.11 "));
    assert_eq!(tap.describe(), format!("tap {}, plain", tap.ifname()));
    assert!(host.said().is_empty());
}

fn a_tap_of_ours_goes_when_dropped() {
    let host = Host::new();
    let tap = host.open(&options());
    assert!(exists("tap0"));
    drop(tap);
    eventually("the interface is gone", || !exists("tap0"));
}

fn a_tap_of_ours_goes_with_a_killed_process() {
    let (mut child, ifname) = spawn_role("hold-a-tap", &[]);
    assert!(exists(&ifname));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the interface is gone", || !exists(&ifname));
}

/// What the interface leaves to us: (checksums, segmentation), by the ioctls that ethtool uses.
fn offload_of(ifname: &str) -> String {
    let program = r#"
import array, fcntl, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for command in (0x16, 0x1e):
    value = array.array('I', [command, 0])
    fcntl.ioctl(s, 0x8946, struct.pack('16sP', sys.argv[1].encode(), value.buffer_info()[0]) + bytes(16))
    print(value[1])
"#;
    sh(&format!("python3 -c \"{}\" {ifname}", program.replace('"', "\\\"")))
}

fn persistent_taps_are_attached_and_left_as_found() {
    sh("ip tuntap add dev plain mode tap; ip tuntap add dev vnet mode tap vnet_hdr");
    sh("ip tuntap add dev many mode tap multi_queue");
    for (i, name) in ["plain", "vnet", "many"].iter().enumerate() {
        sh(&format!("ip addr add 192.0.{i}.1/24 dev {name}"));
    }
    let everything = Offloads { csum: true, tso4: true, tso6: true };
    for (i, name) in ["plain", "vnet", "many"].into_iter().enumerate() {
        for vnet_hdr in [None, Some(true), Some(false)] {
            let before = (addresses(name), offload_of(name));
            let host = Host::new();
            let tap = host.open(&TapOptions { vnet_hdr, ..named(name) });
            let nic = Nic::new(usize::MAX, everything);
            nic.plug(&tap);
            let expected = if vnet_hdr == Some(false) { "0\n0\n" } else { "1\n1\n" };
            sh(&format!("ip neigh replace 192.0.{i}.2 lladdr 52:54:00:12:34:56 dev {name}"));
            std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", format!("192.0.{i}.2:9")).unwrap();
            eventually("the datagram came", || nic.udp_payloads(9) == [b"x"]);
            eventually("the offload follows the NIC", || offload_of(name) == expected);
            minivmm::netport::part(&(nic.clone() as std::sync::Arc<dyn minivmm::netport::FramePort>));
            drop(tap);
            host.event_loop.join();
            assert_eq!((addresses(name), offload_of(name)), before, "{name} {vnet_hdr:?}");
            assert!(exists(name));
        }
    }
}

fn scripts_run_with_the_name() {
    let dir = public_dir();
    let log = dir.path().join("log");
    let up = script(dir.path(), "up", &format!("echo up $1 $# >> {}", log.display()));
    let down = script(dir.path(), "down", &format!("echo down $1 $# >> {}", log.display()));
    let host = Host::new();
    let tap = host.open(&TapOptions {
        script: ScriptChoice::Path(up),
        downscript: ScriptChoice::Path(down),
        ..options()
    });
    assert_eq!(addresses("tap0"), "", "a script sees to the address");
    drop(tap);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "up tap0 1\ndown tap0 1\n");

    let bad = script(dir.path(), "bad", "exit 3");
    let error =
        host.try_open(&TapOptions { script: ScriptChoice::Path(bad.clone()), ..options() }).unwrap_err();
    let expected = format!("-netdev tap,id=n0: script={}: exit status: 3", bad.display());
    assert_eq!(error.to_string(), expected);
    eventually("nothing is left", || !exists("tap0"));
}

/// Has Python open a tap and hand it to us, as a supervisor would.
fn inherited(flags: u32) -> String {
    let exe = std::env::current_exe().unwrap();
    sh(&format!(
        "MINIVMM_NETDEV_ROLE=inherited python3 -c '
import fcntl, os, struct
fd = os.open(\"/dev/net/tun\", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack(\"16sH22x\", b\"given\", {flags}))
os.set_inheritable(fd, True)
os.environ[\"TAP_FD\"] = str(fd)
os.execv(\"{exe}\", [\"x\"])' 2>&1 || true",
        exe = exe.display()
    ))
}

fn an_inherited_tap_is_used() {
    assert_eq!(inherited(0x5002), "given tap given, vnet_hdr\n");
    assert_eq!(inherited(0x1002), "given tap given, plain\n");
    let answer = inherited(0x1001);
    assert!(answer.contains("is not a tap (it is a tun)"), "{answer}");
    let error = Host::new().try_open(&TapOptions { fd: Some(77), ..options() }).unwrap_err();
    assert!(error.to_string().starts_with("-netdev tap,id=n0: fd=77 is not open: "), "{error}");
    let error = Host::new().try_open(&TapOptions { fd: Some(0), ..options() }).unwrap_err();
    assert!(error.to_string().starts_with("-netdev tap,id=n0: fd=0 is not a tap: "), "{error}");
}

fn a_deleted_tap_cuts_the_cable_once() {
    let host = Host::new();
    let tap = host.open(&options());
    let nic = Nic::plugged(&tap);
    sh("ip link del tap0");
    eventually("the NIC's link goes down", || nic.link_changes() == [false]);
    for _ in 0..3 {
        assert_eq!(nic.send(&[0; 60]), Delivery::Dropped(DropReason::LinkDown));
    }
    assert_eq!(host.said().len(), 1, "{:?}", host.said());
    assert!(host.said()[0].starts_with("netdev n0: tap0 is gone ("), "{:?}", host.said());
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(200));
    assert!(cpu_time() - before < Duration::from_millis(50), "the event loop spins");
}

fn a_link_that_is_down_drops_and_comes_back() {
    let host = Host::new();
    let tap = host.open(&options());
    let nic = Nic::plugged(&tap);
    assert_eq!(nic.send(&[0; 60]), Delivery::Taken);
    for _ in 0..2 {
        sh("ip link set tap0 down");
        assert_eq!(nic.send(&[0; 60]), Delivery::Dropped(DropReason::LinkDown));
        assert_eq!(nic.send(&[0; 60]), Delivery::Dropped(DropReason::LinkDown));
        sh("ip link set tap0 up");
        assert_eq!(nic.send(&[0; 60]), Delivery::Taken);
    }
    assert_eq!(host.said(), ["netdev n0: tap0 is down; frames are dropped"; 2]);
    let stats = tap.counters().read().from_peer;
    assert_eq!((stats.frames, stats.dropped), (3, vec![("link-down", 4)]));
}
