//! QEMU's backends that are not here, each with what to do instead.

use crate::cli::keyval::Absent;

const USE_TAP: &str = "use -netdev tap,id=ID";
const VIRTIO_ONLY: &str = "it serves virtio NICs only; use -netdev tap,id=ID";
const MACOS: &str = "it is macOS's; use -netdev tap,id=ID";

const fn row(name: &'static str, instead: &'static str) -> Absent {
    Absent { name, accepts: None, instead }
}

pub(super) const ABSENT: &[Absent] = &[
    row(
        "vde",
        "its library is not built in: put a tap on the switch ('vde_plug2tap -s SWITCH tap0') and use -netdev tap,id=ID,ifname=tap0",
    ),
    row("vhost-user", VIRTIO_ONLY),
    row("vhost-vdpa", VIRTIO_ONLY),
    row("af-xdp", USE_TAP),
    row("netmap", USE_TAP),
    row("vmnet-host", MACOS),
    row("vmnet-shared", MACOS),
    row("vmnet-bridged", MACOS),
];
