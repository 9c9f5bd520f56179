//! QEMU's backends that are not here, each with what to do instead.

use crate::cli::keyval::Absent;

const USE_TAP: &str = "use -netdev tap,id=ID";
const VIRTIO_ONLY: &str = "it serves virtio NICs only; use -netdev tap,id=ID";
const MACOS: &str = "it is macOS's; use -netdev tap,id=ID";

const fn row(name: &'static str, instead: &'static str) -> Absent {
    Absent { name, accepts: None, instead }
}

pub(super) const ABSENT: &[Absent] = &[
    row("user", "use -netdev tap,id=ID: it brings the same 10.0.2.0/24"),
    row("bridge", "use -netdev tap,id=ID,ifname=TAP with a tap on that bridge"),
    row("socket", USE_TAP),
    row("stream", USE_TAP),
    row("dgram", USE_TAP),
    row("hubport", USE_TAP),
    row("l2tpv3", USE_TAP),
    row("vde", USE_TAP),
    row("passt", USE_TAP),
    row("vhost-user", VIRTIO_ONLY),
    row("vhost-vdpa", VIRTIO_ONLY),
    row("af-xdp", USE_TAP),
    row("netmap", USE_TAP),
    row("vmnet-host", MACOS),
    row("vmnet-shared", MACOS),
    row("vmnet-bridged", MACOS),
];
