//! Programs that make or are the other side: the bridge helper and passt, by stand-ins; and a macvtap.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use minivmm::netport::Delivery;

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("a_bridge_helper_hands_over_a_tap", a_bridge_helper_hands_over_a_tap),
    ("a_bridge_helper_that_fails_is_quoted", a_bridge_helper_that_fails_is_quoted),
    ("passt_is_started_and_ends_with_us", passt_is_started_and_ends_with_us),
    ("passt_that_is_not_there_or_fails_is_told", passt_that_is_not_there_or_fails_is_told),
    ("a_macvtap_is_used_by_its_descriptor", a_macvtap_is_used_by_its_descriptor),
];

/// What QEMU's helper does, but for the bridge: makes the tap `helped`, hands it over, writes down how it was called.
fn helper(dir: &Path) -> String {
    let body = r#"exec python3 - "$@" <<'END'
import array, fcntl, os, socket, struct, sys
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
tap = os.open("/dev/net/tun", os.O_RDWR)
flags = 0x1002 | (0x4000 if "use-vnet" in words else 0)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"helped", flags))
with socket.socket(fileno=int(words["fd"])) as s:
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tap]))])
open("LOG", "a").write(words["br"] + "\n")
END"#;
    let log = dir.join("log").display().to_string();
    script(dir, "helper", &body.replace("LOG", &log)).display().to_string()
}

fn a_bridge_helper_hands_over_a_tap() {
    let dir = public_dir();
    let program = helper(dir.path());
    for (line, what) in [
        (format!("bridge,id=n0,helper={program}"), "bridge helped, vnet_hdr"),
        (format!("tap,id=n0,br=br7,helper={program},sndbuf=100k"), "tap helped, vnet_hdr"),
        (format!("tap,id=n0,vnet_hdr=off,helper={program}"), "tap helped, plain"),
        // With blanks it is a shell's command, and a bridge in it is the one.
        (format!("tap,id=n0,helper={program} --br=mine"), "tap helped, vnet_hdr"),
    ] {
        let cable = Cable::new(&line);
        assert_eq!(cable.backend.describe(), what);
        sh("ip link set helped up");
        assert_eq!(cable.nic.send(&[0xff; 60]), Delivery::Taken);
        assert!(cable.host.said().is_empty(), "{:?}", cable.host.said());
        drop(cable);
        eventually("the tap is gone", || !sh("ip -o link").contains("helped"));
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "br0\nbr7\nbr0\nmine\n");
}

fn a_bridge_helper_that_fails_is_quoted() {
    let dir = public_dir();
    let error = |program: &Path| {
        let line = format!("bridge,id=n0,br=br0,helper={}", program.display());
        Cable::try_new(&line, 1).err().expect("an error")
    };
    let refuses = script(dir.path(), "refuses", "echo 'access denied by acl file' >&2; exit 1");
    assert_eq!(
        error(&refuses),
        format!(
            "-netdev bridge,id=n0: the bridge helper {} failed (exit status: 1): access denied by acl file",
            refuses.display()
        )
    );
    let idle = script(dir.path(), "idle", "exit 0");
    assert!(error(&idle).ends_with("/idle sent no tap"), "{}", error(&idle));
    let missing = error(Path::new("/no/such/helper"));
    assert!(missing.ends_with("/no/such/helper: No such file or directory (os error 2)"), "{missing}");
    sh("test ! -d /usr/lib/qemu || mount -t tmpfs none /usr/lib/qemu");
    let nowhere = Cable::try_new("bridge,id=n0", 1).err().expect("an error");
    assert!(nowhere.contains("there is no qemu-bridge-helper: install it (Debian package"), "{nowhere}");
}

/// Goes to the background when it is ready, sends each frame back, and ends with the connection, as passt does.
fn stand_in(dir: &Path) -> String {
    let body = r#"exec python3 - "$@" <<'END'
import os, sys
fd = int(sys.argv[sys.argv.index("--fd") + 1])
log = open(os.path.join(os.path.dirname(os.environ["PASST_LOG"]), "log"), "a")
print(*sys.argv[3:], file=log, flush=True)
if os.fork():
    os._exit(0)
os.setsid()
for n in range(3):
    os.dup2(os.open("/dev/null", os.O_RDWR), n)
while data := os.read(fd, 65536):
    os.write(fd, data)
print("ended", file=log, flush=True)
END"#;
    script(dir, "passt", body).display().to_string()
}

fn passt_is_started_and_ends_with_us() {
    let dir = public_dir();
    let program = stand_in(dir.path());
    let log = dir.path().join("log");
    // The stand-in finds its log by its own place.
    let wrapper =
        script(dir.path(), "wrapper", &format!("PASST_LOG={} exec {program} \"$@\"", log.display()));
    let cable =
        Cable::new(&format!("passt,id=n0,path={},mtu=1400,udp=off,param=--one-off", wrapper.display()));
    assert_eq!(cable.nic.link_changes(), [true]);
    assert_eq!(cable.backend.kind(), "passt");
    cable.send_patiently(&[7; 60]);
    eventually("the frame comes back", || cable.nic.frames().len() == 1);
    drop(cable);
    let text = || std::fs::read_to_string(&log).unwrap();
    eventually("it ends", || text() == "--mtu 1400 --no-udp --one-off\nended\n");

    // One that runs already.
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let cable = Cable::new(&format!("passt,id=n0,path={}", path.display()));
    let (mut passt, _) = listener.accept().unwrap();
    passt.write_all(&[&[0, 0, 0, 60][..], &[9; 60]].concat()).unwrap();
    eventually("the frame comes", || cable.nic.frames().len() == 1);
    cable.send_patiently(&[7; 60]);
    passt.read_exact(&mut [0; 64]).unwrap();
    drop(passt);
    eventually("its end is a link that is down", || cable.nic.link_changes() == [true, false]);
}

fn passt_that_is_not_there_or_fails_is_told() {
    let error = |path: &str| Cable::try_new(&format!("passt,id=n0,path={path}"), 1).err().expect("an error");
    assert_eq!(
        error("/no/such/passt"),
        "-netdev passt,id=n0: cannot run /no/such/passt: No such file or directory (os error 2); install it (Debian \
         package passt) or give its place by path="
    );
    let dir = public_dir();
    let body =
        "echo 'Failed to send 5 bytes to syslog' >&2; echo 'External interface not usable' >&2; exit 1";
    let fails = script(dir.path(), "fails", body).display().to_string();
    assert_eq!(
        error(&fails),
        format!("-netdev passt,id=n0: {fails} ended (exit status: 1): External interface not usable")
    );
}

fn a_macvtap_is_used_by_its_descriptor() {
    sh("mount -t sysfs none /sys");
    let made =
        sh("ip link add v0 type veth peer name v1 && ip link add link v0 name mv0 type macvtap mode bridge \
                   && ip link set v0 up && ip link set v1 up && ip link set mv0 up && echo made || true");
    if made.is_empty() {
        println!("SKIP macvtap: this kernel has none");
        let allowed = std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default();
        assert!(allowed.split(',').any(|a| a == "macvtap"), "skip not allowed");
        return;
    }
    let dir = public_dir();
    let node = dir.path().join("tap");
    let number = sh("cat /sys/class/net/mv0/macvtap/tap*/dev");
    sh(&format!("mknod {} c {}", node.display(), number.trim().replace(':', " ")));
    let open = |line: &str| {
        let file = std::fs::File::options().read(true).write(true).open(&node).unwrap();
        Cable::new(&format!("{line}={}", std::os::fd::AsRawFd::as_raw_fd(&file)))
    };
    for line in ["tap,id=n0,fd", "tap,id=n0,fds"] {
        let cable = open(line);
        assert_eq!(cable.backend.describe(), "tap mv0, vnet_hdr");
        let before: u64 = sh("cat /sys/class/net/v1/statistics/rx_packets").trim().parse().unwrap();
        for _ in 0..5 {
            assert_eq!(cable.nic.send(&[0xff; 60]), Delivery::Taken);
        }
        eventually("v1 has them", || {
            sh("cat /sys/class/net/v1/statistics/rx_packets").trim().parse::<u64>().unwrap() >= before + 5
        });
        // A broadcast from the other end of the wire.
        sh(
            "ip addr replace 192.0.2.1/24 dev v1; python3 -c \"import socket; s = socket.socket(socket.AF_INET, \
            socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); \
            s.sendto(b'hello', ('192.0.2.255', 99))\"",
        );
        eventually("the broadcast comes", || cable.nic.udp_payloads(99) == [b"hello"]);
    }
}
