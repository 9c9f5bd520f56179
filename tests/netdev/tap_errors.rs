//! What the user is told when a tap cannot be had.

use std::os::unix::process::CommandExt;
use std::process::Command;

use minivmm::cli::TapOptions;

use crate::harness::*;

pub const TESTS: &[Test] =
    &[("missing_node_and_driver", missing_node), ("permissions", permissions), ("names", names)];

fn error_of(options: &TapOptions) -> String {
    Host::new().try_open(options).unwrap_err().to_string()
}

fn missing_node() {
    sh("mount -t tmpfs none /dev/net");
    let expected = "-netdev tap,id=n0: /dev/net/tun does not exist: run 'sudo modprobe tun' (in a container: \
                    give it --device /dev/net/tun)";
    assert_eq!(error_of(&options()), expected);
}

/// The error that a process of uid 65534 gets.
fn as_nobody(dir: &std::path::Path, ifname: Option<&str>) -> String {
    let copy = dir.join("netdev-test");
    if !copy.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    }
    let mut command = Command::new(&copy);
    command.uid(65534).gid(65534).env("MINIVMM_NETDEV_ROLE", "open-error");
    if let Some(ifname) = ifname {
        command.env("TAP_NAME", ifname);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn permissions() {
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if ids.split_whitespace().nth(2).is_some_and(|count| count.parse().unwrap_or(0u64) < 65535) {
        // Only the real root can become another user; without it the messages are checked by CI alone.
        println!("SKIP root: no second user in this namespace");
        let allowed = std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default();
        assert!(allowed.split(',').any(|a| a == "root"), "skip not allowed");
        return;
    }
    let dir = public_dir();
    let node = dir.path().join("tun");
    sh(&format!("mknod {0} c 10 200; chmod 600 {0}; mount --bind {0} /dev/net/tun", node.display()));
    assert_eq!(
        as_nobody(dir.path(), None),
        "-netdev tap,id=n0: no permission to open /dev/net/tun (mode 0600): run 'sudo chmod 0666 /dev/net/tun' \
         (safe: making an interface still needs rights)\n"
    );
    sh("chmod 666 /dev/net/tun");
    let create = |name: &str| {
        format!(
            "-netdev tap,id=n0: not allowed to make the tap {name}: run 'sudo ip tuntap add dev {name} mode tap \
             user $USER && sudo ip link set {name} up' and use ifname={name}, or start minivmm inside \
             'unshare -rn'\n"
        )
    };
    assert_eq!(as_nobody(dir.path(), None), create("tap0"));
    assert_eq!(as_nobody(dir.path(), Some("mine")), create("mine"));
    sh("ip tuntap add dev rooted mode tap user 0; ip tuntap add dev owned mode tap user 65534");
    assert!(
        as_nobody(dir.path(), Some("rooted")).contains("not allowed to use the tap rooted, which belongs to")
    );
    assert_eq!(as_nobody(dir.path(), Some("owned")), "opened\n");
}

fn names() {
    let error = error_of(&named("a-name-of-17-byte"));
    assert!(error.contains("'a-name-of-17-byte' is no interface name: 1 to 15 bytes"), "{error}");
    assert_eq!(
        error_of(&named("lo")),
        "-netdev tap,id=n0: lo exists but is not a tap interface: choose another ifname"
    );
    sh("ip tuntap add dev layer3 mode tun");
    assert!(error_of(&named("layer3")).contains("layer3 exists but is not a tap interface"));
    let host = Host::new();
    let _held = host.open(&named("held"));
    assert_eq!(
        error_of(&named("held")),
        "-netdev tap,id=n0: the tap held is in use by another process: end that process or choose another ifname"
    );
}
