//! Filters with ports in other cables: who is joined with whom, in use by what, and what is refused.

use super::*;
use crate::cli::{FilterKind, FilterQueue, SocketAddress, StreamOptions, UnixAddress};

fn filter_on(netdev: &str, id: &str, kind: FilterKind) -> FilterOptions {
    let (id, netdev) = (id.to_owned(), netdev.to_owned());
    FilterOptions { id, netdev, queue: FilterQueue::All, on: true, place: Place::Tail, kind }
}

fn mirror(netdev: &str, id: &str, outdev: &str) -> FilterOptions {
    filter_on(netdev, id, FilterKind::Mirror { outdev: outdev.into() })
}

#[test]
fn a_mirror_s_copies_go_to_the_netdev_that_it_names_and_both_are_in_use() {
    let b = bench();
    let (n0, n1) = (b.backend("n0"), b.backend("n1"));
    let (_, nic) = b.nic(None, Some("n0"));
    b.network.add_filter(&mirror("n0", "m0", "n1")).unwrap();
    nic.send(1);
    n0.send(2);
    assert_eq!((n0.seen(), nic.seen(), n1.seen()), (1, 1, 2));
    let says = |result: Result<(), NetworkError>| result.unwrap_err().to_string();
    assert_eq!(says(b.network.remove_netdev("n0")), "the netdev 'n0' is in use by 'e1000.0'");
    assert_eq!(says(b.network.remove_netdev("n1")), "the netdev 'n1' is in use by 'm0:outdev'");
    assert_eq!(says(b.network.remove_netdev("m0:outdev")), "there is no netdev 'm0:outdev'");
    assert_eq!(says(b.try_nic(None, Some("n1")).map(drop)), "the netdev 'n1' is in use by 'm0:outdev'");
    assert_eq!(
        says(b.network.add_filter(&mirror("n0", "m1", "n1"))),
        "the netdev 'n1' is in use by 'm0:outdev'"
    );
    let end = b.end("m0:outdev", "filter");
    assert_eq!((end.peer.as_deref(), end.counters.map(|c| c.to_peer.frames)), (Some("n1"), Some(2)));
    b.network.set_link("n1", false).unwrap();
    nic.send(3);
    assert_eq!((n0.seen(), n1.seen()), (2, 2), "the copy's link is down, not the cable's");
    b.network.remove_filter("m0").unwrap();
    nic.send(4);
    assert_eq!((n0.seen(), n1.seen()), (3, 2));
    b.network.remove_netdev("n1").unwrap();
    assert_eq!(b.network.snapshot().ends.len(), 2);
}

#[test]
fn branches_by_which_frames_could_come_back_are_refused() {
    let b = bench();
    b.backend("n0");
    b.backend("n1");
    b.backend("n2");
    let hub = HubPortOptions { hubid: 0, netdev: None, learning: None };
    b.network.add_netdev(&Netdev { id: "p".into(), kind: NetdevKind::HubPort(hub) }).unwrap();
    b.network.add_filter(&mirror("n1", "m1", "n2")).unwrap();
    let ends = b.network.snapshot().ends.len();
    let says = |outdev: &str| b.network.add_filter(&mirror("n0", "m0", outdev)).unwrap_err().to_string();
    assert_eq!(says("x"), "there is no chardev and no netdev 'x'");
    for outdev in ["n0", "n1", "p"] {
        assert!(
            says(outdev).starts_with(&format!("outdev={outdev}: frames may come back by it")),
            "{outdev}"
        );
    }
    let error = b.network.add_filter(&mirror("n2", "m2", "n0")).unwrap_err().to_string();
    assert!(error.starts_with("outdev=n0: frames may come back"), "a branch of a branch: {error}");
    assert_eq!(b.network.snapshot().ends.len(), ends, "nothing of what was refused stays");
}

#[test]
fn two_machines_share_frames_by_chardevs_as_qemu_writes_them() {
    use std::io::{Read, Write};
    let (b, folder) = (bench(), tempfile::tempdir().unwrap());
    let n0 = b.backend("n0");
    let (_, nic) = b.nic(None, Some("n0"));
    let open = |id: &str| {
        let path = folder.path().join(id);
        let addr = SocketAddress::Unix(UnixAddress::Path(path.clone()));
        let stream = StreamOptions { addr, server: true, reconnect: None };
        b.network.add_chardev(&SocketChardev { id: id.into(), stream, wait: false })?;
        Ok::<_, NetworkError>(path)
    };
    let (a, r) = (open("a").unwrap(), open("r").unwrap());
    assert_eq!(open("a").unwrap_err().to_string(), "the id 'a' is taken");
    b.network.add_filter(&mirror("n0", "m0", "a")).unwrap();
    let indev = FilterKind::Redirector { indev: Some("r".into()), outdev: None };
    b.network.add_filter(&FilterOptions { queue: FilterQueue::Tx, ..filter_on("n0", "r0", indev) }).unwrap();
    let mut reader = std::os::unix::net::UnixStream::connect(a).unwrap();
    let mut writer = std::os::unix::net::UnixStream::connect(r).unwrap();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !done() {
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    wait("the link", &|| b.end("m0:outdev", "filter").link_up);
    nic.send(7);
    let mut copy = [0; 64];
    reader.read_exact(&mut copy).unwrap();
    assert_eq!((&copy[..4], &copy[4..]), (&[0, 0, 0, 60][..], &[7; 60][..]));
    writer.write_all(&copy).unwrap();
    wait("the frame", &|| nic.seen() == 1);
    assert_eq!(n0.seen(), 1, "queue=tx is towards the guest only");
    assert_eq!(b.end("chardev:a", "chardev").peer.as_deref(), Some("m0:outdev"));
    assert_eq!(b.end("r0:indev", "filter").counters.map(|c| c.from_peer.frames), Some(1));
}
