//! The backends on sockets and helpers: what their options mean, and what is refused.

use std::path::PathBuf;
use std::time::Duration;

use minivmm::cli::{
    BridgeHelper, Cookies, CounterChoice, DgramOptions, InetAddress, L2tpv3Options, NetdevKind, PasstOptions,
    SocketAddress, SocketOptions, StreamOptions, TapOptions, UnixAddress,
};

use crate::{refusal, run_words};

fn netdev(value: &str) -> NetdevKind {
    run_words(&["-kernel", "k", "-netdev", value]).netdevs.remove(0).kind
}

fn refused(value: &str) -> String {
    refusal(&["-kernel", "k", "-netdev", value])
}

#[test]
fn streams() {
    let inet = InetAddress { keep_alive: true, ipv4: Some(true), ..InetAddress::new("h.example", 1234) };
    let expected = NetdevKind::Stream(StreamOptions {
        addr: SocketAddress::Inet(inet),
        server: false,
        reconnect: Some(Duration::from_millis(1500)),
    });
    let line = "stream,id=n0,server=off,addr.type=inet,addr.host=h.example,addr.port=1234,addr.ipv4=on,\
                addr.keep-alive=on,reconnect-ms=1500";
    assert_eq!(netdev(line), expected);
    for json in [
        r#"{"type":"stream","id":"n0","addr":{"type":"inet","host":"h.example","port":"1234","ipv4":true,"keep-alive":true},"reconnect-ms":1500}"#,
        r#"{"type":"stream","id":"n0","server":false,"addr.type":"inet","addr.host":"h.example","addr.port":1234,"addr":{"ipv4":true,"keep-alive":true},"reconnect-ms":1500}"#,
    ] {
        assert_eq!(netdev(json), expected);
    }
    let unix = |address| StreamOptions { addr: SocketAddress::Unix(address), server: true, reconnect: None };
    assert_eq!(
        netdev("stream,id=n0,addr.type=unix,addr.path=/run/s,server=on,reconnect=0"),
        NetdevKind::Stream(unix(UnixAddress::Path("/run/s".into())))
    );
    assert_eq!(
        netdev("stream,id=n0,addr.type=unix,addr.path=/run/s,addr.abstract=on,addr.tight=on,server"),
        NetdevKind::Stream(unix(UnixAddress::Abstract("/run/s".into())))
    );
    let NetdevKind::Stream(fd) = netdev("stream,id=n0,addr.type=fd,addr.str=5") else { panic!() };
    assert_eq!(fd.addr, SocketAddress::Fd(5));
}

#[test]
fn datagrams() {
    let inet = DgramOptions::Inet { local: InetAddress::new("", 1), remote: InetAddress::new("::1", 2) };
    let line =
        "dgram,id=n0,local.type=inet,local.host=,local.port=1,remote.type=inet,remote.host=::1,remote.port=2";
    assert_eq!(netdev(line), NetdevKind::Dgram(inet));
    let path = |path: &str| UnixAddress::Path(path.into());
    assert_eq!(
        netdev("dgram,id=n0,local.type=unix,local.path=a,remote.type=unix,remote.path=b"),
        NetdevKind::Dgram(DgramOptions::Unix { local: path("a"), remote: path("b") })
    );
    let group = |interface| DgramOptions::Multicast { group: [230, 0, 0, 1].into(), port: 5, interface };
    let remote = "remote.type=inet,remote.host=230.0.0.1,remote.port=5";
    assert_eq!(netdev(&format!("dgram,id=n0,{remote}")), NetdevKind::Dgram(group(None)));
    assert_eq!(
        netdev(&format!("dgram,id=n0,{remote},local.type=inet,local.host=10.0.0.1,local.port=5")),
        NetdevKind::Dgram(group(Some([10, 0, 0, 1].into())))
    );
    assert_eq!(netdev("dgram,id=n0,local.type=fd,local.str=7"), NetdevKind::Dgram(DgramOptions::Fd(7)));

    let socket = |options: &str| match netdev(&format!("socket,id=n0,{options}")) {
        NetdevKind::Socket(options) => options,
        other => panic!("{other:?}"),
    };
    assert_eq!(socket("mcast=230.0.0.1:5"), SocketOptions::Dgram(group(None)));
    let local = InetAddress::new("", 1);
    let udp = DgramOptions::Inet { local, remote: InetAddress::new("h", 2) };
    assert_eq!(socket("udp=h:2,localaddr=:1"), SocketOptions::Dgram(udp));
    assert_eq!(socket("fd=9"), SocketOptions::Fd(9));
    let stream = |addr, server| {
        SocketOptions::Stream(StreamOptions { addr: SocketAddress::Inet(addr), server, reconnect: None })
    };
    let any = InetAddress { ipv4: Some(true), ..InetAddress::new("", 1234) };
    assert_eq!(socket("listen=:1234"), stream(any, true));
    assert_eq!(socket("connect=[::1]:1234"), stream(InetAddress::new("::1", 1234), false));
}

#[test]
fn tunnels_and_programs() {
    let expected = L2tpv3Options {
        src: "a".into(),
        dst: "b".into(),
        ports: Some((1, 2)),
        ipv6: true,
        tx_session: 0xffff_ffff,
        rx_session: 4,
        cookies: Some(Cookies { tx: 0x0123_4567_89ab_cdef, rx: 6, wide: true }),
        counter: CounterChoice::Pinned,
        offset: 8,
    };
    let line = "l2tpv3,id=n0,src=a,dst=b,udp=on,srcport=1,dstport=2,ipv6=on,txsession=0xffffffff,rxsession=4,\
                cookie64=on,txcookie=0x0123456789abcdef,rxcookie=6,counter=on,pincounter=on,offset=8";
    assert_eq!(netdev(line), NetdevKind::L2tpv3(expected));
    let NetdevKind::L2tpv3(plain) = netdev("l2tpv3,id=n0,src=a,dst=b,txsession=3") else { panic!() };
    assert_eq!((plain.ports, plain.rx_session, plain.counter), (None, 3, CounterChoice::Absent));

    let passt = |keys: &str| match netdev(&format!("passt,id=n0{keys}")) {
        NetdevKind::Passt(options) => options,
        other => panic!("{other:?}"),
    };
    assert_eq!(passt(""), PasstOptions::default());
    let words =
        ["--quiet", "--mtu", "1400", "--search", "a", "--search", "b", "--no-tcp", "--ipv4-only", "-x"];
    assert_eq!(
        passt(",path=/p,quiet=on,mtu=1400,ipv6=off,search=a,search=b,tcp=off,udp=on,freebind=off,param=-x"),
        PasstOptions { path: Some(PathBuf::from("/p")), arguments: words.map(str::to_owned).to_vec() }
    );

    let br = |bridge: &str, program: Option<&str>| BridgeHelper {
        bridge: bridge.into(),
        program: program.map(str::to_owned),
    };
    assert_eq!(netdev("bridge,id=n0"), NetdevKind::Bridge(br("br0", None)));
    assert_eq!(netdev("bridge,id=n0,br=b1,helper=/h"), NetdevKind::Bridge(br("b1", Some("/h"))));
    let tap = |options| NetdevKind::Tap(options);
    assert_eq!(
        netdev("tap,id=n0,br=b1"),
        tap(TapOptions { helper: Some(br("b1", None)), ..TapOptions::default() })
    );
    assert_eq!(
        netdev("tap,id=n0,fds=4,sndbuf=64k"),
        tap(TapOptions { fd: Some(4), sndbuf: Some(65536), ..TapOptions::default() })
    );
    assert_eq!(
        netdev(r#"{"type":"tap","id":"n0","sndbuf":1000}"#),
        tap(TapOptions { sndbuf: Some(1000), ..TapOptions::default() })
    );
}

#[test]
fn mistakes_are_named() {
    let inet = "stream,id=n0,addr.type=inet";
    for (line, words) in [
        ("stream,id=n0".to_owned(), "the address is missing; add addr.type=unix,addr.path=PATH or"),
        ("stream,id=n0,addr.path=s".into(), "addr.type= is missing; add addr.type=inet, addr.type=unix or"),
        ("stream,id=n0,addr.type=tcp".into(), "addr.type: 'tcp' is not a choice; write inet or unix or fd"),
        (inet.into(), "addr.host= is missing: addr.type=inet needs it"),
        (format!("{inet},addr.host=h"), "addr.port= is missing"),
        (format!("{inet},addr.host=h,addr.port=1,addr.path=x"), "addr.path= is not for addr.type=inet; inet has addr.host=, addr.port="),
        (format!("{inet},addr.host=h,addr.port=65536"), "addr.port: '65536' is not a number from 0 to 65535"),
        (format!("{inet},addr.host=1.2.3.400,addr.port=1"), "addr.host: '1.2.3.400' is not an IPv4 address"),
        (format!("{inet},addr.host=h,addr.port=0"), "a client needs the host and the port to connect to"),
        (format!("{inet},addr.host=,addr.port=1"), "a client needs the host and the port"),
        (format!("{inet},addr.host=h,addr.port=1,addr.to=5"), "has no 'addr.to' here; choose one port"),
        (format!("{inet},addr.host=h,addr.port=1,server=on,reconnect=1"), "a server waits for others to connect"),
        (format!("{inet},addr.host=h,addr.port=1,reconnect-ms=1,reconnect=1"), "say the same; keep one"),
        (format!("{inet},addr.hst=h"), "has no 'addr.hst'; did you mean 'addr.host'?"),
        (format!("stream,id=n0,addr.type=unix,addr.path={}", "x".repeat(108)), "108 bytes long and a socket's path may have 107"),
        ("stream,id=n0,addr.type=fd,addr.str=1".into(), "addr.str: 1 is standard input, output or error"),
        (r#"{"type":"stream","id":"n0","addr":{}}"#.into(), "has no 'addr'"),
        (r#"{"type":"stream","id":"n0","addr":{"type":"unix","path":5}}"#.into(), "addr.path: JSON string expected"),
        (r#"{"type":"stream","id":"n0","addr":{"type":"unix","path":"a"},"addr.path":"b"}"#.into(), "'addr.path' is given twice"),
        ("dgram,id=n0,remote.type=inet,remote.host=h,remote.port=1".into(), "the local address is missing"),
        ("dgram,id=n0,local.type=inet,local.host=h,local.port=1".into(), "the remote address is missing"),
        ("dgram,id=n0,local.type=fd,local.str=5,remote.type=fd,remote.str=6".into(), "a descriptor knows its remote end"),
        ("dgram,id=n0,local.type=inet,local.host=h,local.port=1,remote.type=unix,remote.path=p".into(), "of different types"),
        ("dgram,id=n0,local.type=inet,local.host=h,local.port=1,remote.type=inet,remote.host=230.0.0.1,remote.port=1".into(), "names an interface; write the IPv4 address"),
        ("socket,id=n0".into(), "what to do is missing; give one of listen="),
        ("socket,id=n0,listen=:1,connect=h:1".into(), "listen= and connect= exclude each other"),
        ("socket,id=n0,connect=h".into(), "connect: 'h' has no port; write HOST:PORT"),
        ("socket,id=n0,connect=:5".into(), "connect= needs a host and a port"),
        ("socket,id=n0,connect=::1:5".into(), "connect: '::1' is not a host; write HOST:PORT, as in 127.0.0.1:1234 or [::1]"),
        ("socket,id=n0,mcast=10.0.0.1:5".into(), "mcast: 10.0.0.1 is no multicast address"),
        ("socket,id=n0,udp=h:5".into(), "udp= goes with localaddr=; add localaddr=:PORT"),
        ("socket,id=n0,listen=:5,localaddr=:6".into(), "localaddr= is not for listen="),
        ("l2tpv3,id=n0,src=a,dst=b".into(), "txsession= is missing; src=, dst= and txsession= are required"),
        ("l2tpv3,id=n0,src=a,dst=b,txsession=1,udp=on,srcport=1".into(), "udp=on needs both ports"),
        ("l2tpv3,id=n0,src=a,dst=b,txsession=1,srcport=1,dstport=1".into(), "ports are for UDP; add udp=on"),
        ("l2tpv3,id=n0,src=a,dst=b,txsession=1,txcookie=1".into(), "in both directions or in none"),
        ("l2tpv3,id=n0,src=a,dst=b,txsession=1,txcookie=0x100000000,rxcookie=1".into(), "txcookie: '0x100000000' is not a number"),
        ("l2tpv3,id=n0,src=a,dst=b,txsession=1,offset=65536".into(), "offset: '65536' is not a number from 0"),
        ("passt,id=n0,vhost-user=on".into(), "-netdev passt has no 'vhost-user' here"),
        ("passt,id=n0,tcp=maybe".into(), "tcp: 'maybe' is neither 'on' nor 'off'"),
        ("bridge,id=n0,br=a-bridge-with-17".into(), "br: 'a-bridge-with-17' is 16 characters long"),
        ("tap,id=n0,fds=4:5".into(), "fds: 2 queues, and an e1000 has one; hand over one tap by fd="),
        ("tap,id=n0,fds=4,fd=5".into(), "fds= brings a tap that is already set up, so fd= cannot go with it"),
        ("tap,id=n0,fd=4,br=b".into(), "fd= brings a tap that is already set up, so br= cannot go with it"),
        ("tap,id=n0,helper=/h,ifname=t".into(), "helper= has a helper make the tap, so ifname= cannot go with it"),
        ("tap,id=n0,sndbuf=3G".into(), "sndbuf: '3G' is not a size from 0 to 2147483647 bytes; write 65536, 64k or 1M"),
    ] {
        let message = refused(&line);
        assert!(message.contains(words), "{message}\nlacks: {words}");
    }
    let twice =
        ["-kernel", "k", "-netdev", "socket,id=a,fd=5", "-netdev", "stream,id=b,addr.type=fd,addr.str=5"];
    assert!(refusal(&twice).contains("this fd is taken by '-netdev socket,id=a,fd=5'"));
}
