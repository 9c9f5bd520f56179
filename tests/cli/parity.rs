//! Lines that QEMU users type, and what they mean here.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use minivmm::cli::{
    AccelChoice, AddressChoice, Chardev, Command, Config, CpuModel, Device, E1000Options, FwCfgFile,
    FwCfgSource, IsaDebugExitOptions, KernelUnpack, MachineConfig, MonitorConfig, Netdev, NetdevKind,
    NicModel, NicOverflow, ObserveConfig, PciAddress, ScriptChoice, TapOptions,
};

use crate::{parse, run, run_words};

fn tap(config: &Config) -> &TapOptions {
    let [Netdev { kind: NetdevKind::Tap(tap), .. }] = config.netdevs.as_slice() else {
        panic!("{:?}", config.netdevs)
    };
    tap
}

fn nics(config: &Config) -> Vec<&E1000Options> {
    let nics = config.devices.iter().filter_map(|device| match device {
        Device::E1000(nic) => Some(nic),
        Device::IsaDebugExit(_) => None,
    });
    nics.collect()
}

fn nic(config: &Config) -> &E1000Options {
    let [nic] = nics(config)[..] else { panic!("{:?}", config.devices) };
    nic
}

#[test]
fn the_bare_line_has_the_defaults() {
    let default_nic = nic(&run("-nic user")).clone();
    assert_eq!(default_nic.netdev.as_deref(), Some("#net0"));
    assert_eq!((default_nic.model, default_nic.mac_given), (NicModel::I82540Em, false));
    assert_eq!(
        run(""),
        Config {
            kernel: Some(PathBuf::from("k")),
            bios: None,
            initrd: None,
            append: String::new(),
            memory: 256 << 20,
            smp: 1,
            netdevs: vec![Netdev { id: "#net0".into(), kind: NetdevKind::User(Box::default()) }],
            devices: vec![Device::E1000(default_nic)],
            chardevs: Vec::new(),
            filters: vec![],
            faults: vec![],
            accel: vec![],
            cpu: CpuModel::Host,
            nographic: false,
            serials: vec![Chardev::Stdio],
            monitors: vec![],
            console_monitor: true,
            stopped: false,
            gdb: None,
            no_reboot: false,
            expect: vec![],
            on_failure: None,
            result: None,
            timeout: None,
            observe: ObserveConfig::default(),
            machine: MachineConfig { kernel_unpack: KernelUnpack::Host },
            fw_cfg: vec![],
            warnings: vec![],
        }
    );
}

#[test]
fn the_line_of_the_readme() {
    let line = "--kernel target/guest/bzImage -netdev tap,id=n0 -device e1000,netdev=n0";
    let config = run_words(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(config.kernel, Some(PathBuf::from("target/guest/bzImage")));
    assert_eq!(*tap(&config), TapOptions::default());
    assert_eq!(
        *nic(&config),
        E1000Options {
            model: NicModel::I82540Em,
            id: None,
            netdev: Some("n0".into()),
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            mac_given: false,
            addr: None,
            link_delay: Duration::ZERO,
            msi: true,
            strict: false,
            overflow: NicOverflow::Wait,
            eeprom: None,
            romfile: None,
            coverage: None,
        }
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn order_and_dashes_do_not_matter() {
    let one = run("-netdev tap,id=n0 -device e1000,netdev=n0 -m 1G");
    for line in [
        "-device e1000,netdev=n0 -netdev tap,id=n0 -m 1G",
        "--m 1G --device e1000,netdev=n0 --netdev tap,id=n0",
        "-m 1G --netdev id=n0,type=tap -device netdev=n0,driver=e1000",
        "-m 1024 -netdev tap,id=n0, -device e1000-82540em,netdev=n0,",
    ] {
        assert_eq!(run(line), one, "{line}");
    }
}

#[test]
fn memory_sizes() {
    for (text, bytes) in [
        ("512", 512 << 20),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("2G", 2 << 30),
        ("1.5g", 3 << 29),
        ("size=1G", 1 << 30),
        ("65536k", 64 << 20),
        ("67108864b", 64 << 20),
        ("67108865b", (64 << 20) + 8192),
        ("1t", 1 << 40),
        ("1G,slots=0", 1 << 30),
    ] {
        assert_eq!(run(&format!("-m {text}")).memory, bytes, "{text}");
    }
}

#[test]
fn cpus_accelerators_and_machine() {
    assert_eq!(run("-smp 2").smp, 2);
    assert_eq!(run("-smp cpus=32").smp, 32);
    assert_eq!(run("-smp 4,cores=1,threads=1").smp, 4);
    assert_eq!(run("-smp 4 -smp 2").smp, 2, "the last one counts");
    assert_eq!(run("-cpu host").cpu, CpuModel::Host);
    assert_eq!(run("-cpu max").cpu, CpuModel::Max);

    use AccelChoice::{Kvm, Soft};
    for (line, expected) in [
        ("-accel kvm", vec![Kvm]),
        ("-accel accel=soft", vec![Soft]),
        ("-accel kvm:soft", vec![Kvm, Soft]),
        ("-accel soft -accel kvm", vec![Soft, Kvm]),
        ("-enable-kvm", vec![Kvm]),
        ("-machine pc,accel=kvm:soft", vec![Kvm, Soft]),
        ("-enable-kvm -accel kvm", vec![Kvm]),
    ] {
        assert_eq!(run(line).accel, expected, "{line}");
    }
    for line in ["-machine pc", "-M q35", "-machine type=q35,usb=off,vmport=off,smm=off"] {
        assert_eq!(run(line), run(""), "{line}");
    }
    assert_eq!(run("-machine kernel-unpack=guest -M q35").machine.kernel_unpack, KernelUnpack::Guest);
}

#[test]
fn tap_options() {
    let config = run("-netdev tap,id=n-0.a_b,ifname=tap0,script=/etc/up,downscript=no,vnet_hdr=off,\
                      address=10.9.0.1/16,vhost=off,queues=1 -device e1000,netdev=n-0.a_b");
    assert_eq!(config.netdevs[0].id, "n-0.a_b");
    assert_eq!(
        *tap(&config),
        TapOptions {
            ifname: Some("tap0".into()),
            script: ScriptChoice::Path("/etc/up".into()),
            downscript: ScriptChoice::No,
            vnet_hdr: Some(false),
            address: AddressChoice::Ip4 { addr: Ipv4Addr::new(10, 9, 0, 1), prefix: 16 },
            ..TapOptions::default()
        }
    );
    let tap_of = |keys: &str| tap(&run(&format!("-netdev tap,id=n0,{keys}"))).clone();
    assert_eq!(tap_of("fd=3,address=none").fd, Some(3));
    assert_eq!(tap_of("fd=3,address=none").address, AddressChoice::None);
    assert_eq!(tap_of("vnet_hdr").vnet_hdr, Some(true), "a bare flag means on");
    assert_eq!(tap_of("novnet_hdr").vnet_hdr, Some(false));
    assert_eq!(tap_of("ifname=fifteen-letters").ifname.as_deref(), Some("fifteen-letters"));
    assert_eq!(tap_of("script=/a,,b,,,,c").script, ScriptChoice::Path("/a,b,,c".into()));
}

#[test]
fn json_means_the_same() {
    let keyval = run("-netdev tap,id=n0,fd=7,address=none -device e1000,netdev=n0,addr=1e,link-delay=500");
    for (netdev, device) in [
        (
            r#"{"type":"tap","id":"n0","fd":7,"address":"none"}"#,
            r#"{"driver":"e1000","netdev":"n0","addr":"1e","link-delay":"500"}"#,
        ),
        (
            r#" { "id": "n0", "fd": "7", "type": "tap", "address": "none", "queues": 1 } "#,
            r#"{"netdev":"n0","driver":"e1000","addr":"0x1e.0","link-delay":"500ms","multifunction":false}"#,
        ),
    ] {
        assert_eq!(run_words(&["-kernel", "k", "-netdev", netdev, "-device", device]), keyval);
    }
    let json = r#"{"type":"tap","id":"n0","vnet_hdr":true}"#;
    assert_eq!(tap(&run_words(&["-kernel", "k", "-netdev", json])).vnet_hdr, Some(true));
}

#[test]
fn nics_count_up_past_the_addresses_that_are_taken() {
    let config =
        run("-device e1000 -device e1000,mac=52:54:00:12:34:57 -device e1000 -device e1000,mac=2-0-0-0-0-A");
    let macs: Vec<[u8; 6]> = nics(&config).iter().map(|nic| nic.mac).collect();
    let default = |last| [0x52, 0x54, 0, 0x12, 0x34, last];
    assert_eq!(macs, [default(0x56), default(0x57), default(0x58), [2, 0, 0, 0, 0, 10]]);
}

#[test]
fn pci_slots_are_hexadecimal() {
    for (text, slot) in [("3", 3), ("0x3", 3), ("03.0", 3), ("10", 16), ("1e", 30), ("0x1E.0x0", 30)] {
        let config = run(&format!("-device e1000,addr={text}"));
        assert_eq!(nic(&config).addr, Some(PciAddress { slot, function: 0 }), "{text}");
    }
}

#[test]
fn other_properties_of_e1000() {
    let config = run("-device e1000,id=nic0,link-delay=2s,romfile=,bus=pci.0,mitigation=on");
    assert_eq!((nic(&config).id.as_deref(), &nic(&config).romfile), (Some("nic0"), &None));
    assert_eq!(nic(&run("-device e1000,romfile=/a,,b")).romfile, Some("/a,b".into()));
    assert_eq!(nic(&config).link_delay, Duration::from_secs(2));
}

#[test]
fn isa_debug_exit() {
    let device = |line: &str| run(line).devices.pop();
    let expected =
        |iobase, iosize| Some(Device::IsaDebugExit(IsaDebugExitOptions { id: None, iobase, iosize }));
    assert_eq!(device("-device isa-debug-exit"), expected(0x501, 2));
    assert_eq!(device("-device isa-debug-exit,iobase=0xf4,iosize=0x04"), expected(0xf4, 4));
    assert_eq!(device("-device isa-debug-exit,iobase=65535,iosize=1"), expected(0xffff, 1));
}

fn tcp(host: &str, port: u16, server: bool, wait: bool) -> Chardev {
    Chardev::Tcp { host: host.into(), port, server, wait }
}

#[test]
fn monitors_have_a_kind_and_a_place() {
    let config = run("-qmp unix:/tmp/q,server=on,wait=off -monitor tcp:localhost:5 -qmp stdio");
    let q = Chardev::Unix { path: "/tmp/q".into(), server: true, wait: false };
    let expected = [(true, q), (false, tcp("localhost", 5, false, false)), (true, Chardev::Stdio)];
    let expected = expected.map(|(qmp, place)| MonitorConfig { qmp, place });
    assert_eq!((config.monitors, config.console_monitor), (expected.to_vec(), false));
    let none = run("-monitor none -S");
    assert!(none.monitors.is_empty() && !none.console_monitor && none.stopped);
    assert!(run("-qmp null").console_monitor, "a QMP leaves Ctrl-A c where it is");
}

#[test]
fn serial_ports() {
    for (line, expected) in [
        ("-serial stdio", vec![Chardev::Stdio]),
        ("-serial mon:stdio", vec![Chardev::Stdio]),
        ("-serial tcp:127.0.0.1:4444", vec![tcp("127.0.0.1", 4444, false, false)]),
        ("-serial tcp::4444,server,nowait", vec![tcp("", 4444, true, false)]),
        ("-serial tcp:[::1]:1,server=on", vec![tcp("::1", 1, true, true)]),
        ("-serial null -qmp stdio", vec![Chardev::Null]),
        ("-qmp stdio", vec![Chardev::Null]),
        ("-monitor stdio", vec![Chardev::Stdio]),
        ("-nographic", vec![Chardev::Stdio]),
        ("-nodefaults", vec![]),
        ("-nodefaults -serial stdio", vec![Chardev::Stdio]),
        ("-serial none", vec![Chardev::None]),
        ("-serial null -serial stdio", vec![Chardev::Null, Chardev::Stdio]),
        ("-serial file:/tmp/a,b:c", vec![Chardev::File("/tmp/a,b:c".into())]),
        ("-serial unix:/tmp/s", vec![Chardev::Unix { path: "/tmp/s".into(), server: false, wait: false }]),
        (
            "-serial unix:/tmp/s,server=on",
            vec![Chardev::Unix { path: "/tmp/s".into(), server: true, wait: true }],
        ),
        (
            "-serial unix:/tmp/s,server=on,wait=off",
            vec![Chardev::Unix { path: "/tmp/s".into(), server: true, wait: false }],
        ),
        (
            "-serial stdio -serial unix:/tmp/s,server,nowait",
            vec![Chardev::Stdio, Chardev::Unix { path: "/tmp/s".into(), server: true, wait: false }],
        ),
    ] {
        assert_eq!(run(line).serials, expected, "{line}");
    }
}

#[test]
fn the_run() {
    for (text, expected) in [
        ("90", Duration::from_secs(90)),
        ("1m30s", Duration::from_secs(90)),
        ("500ms", Duration::from_millis(500)),
        ("0.25", Duration::from_millis(250)),
        ("1.5h", Duration::from_secs(5400)),
        ("1h1m1s1ms", Duration::from_millis(3_661_001)),
    ] {
        assert_eq!(run(&format!("-timeout {text}")).timeout, Some(expected), "{text}");
    }
    let [first, second] = &run("-expect a+b -expect within=1m30s,login:,").expect[..] else { panic!() };
    assert_eq!((first.pattern.text(), first.within), ("a+b", None));
    assert_eq!((second.pattern.text(), second.within), ("login:,", Some(Duration::from_secs(90))));
    assert_eq!(run("-on-failure /tmp/kept").on_failure, Some(PathBuf::from("/tmp/kept")));
    assert!(run("-no-reboot").no_reboot);
    assert!(run("-nographic").nographic);
}

#[test]
fn boot_options() {
    let config = run_words(&[
        "-kernel",
        "a",
        "-append",
        "-initrd=x console=ttyS0, quiet",
        "-initrd",
        "b,c",
        "-kernel",
        "d",
    ]);
    assert_eq!(config.kernel, Some(PathBuf::from("d")), "the last one counts");
    assert_eq!(config.initrd, Some(PathBuf::from("b,c")));
    assert_eq!(config.append, "-initrd=x console=ttyS0, quiet");
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_utf8() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let path = OsString::from_vec(vec![b'k', 0xff]);
    let words = [OsString::from("-kernel"), path.clone()];
    let Ok(Command::Run(config)) = minivmm::cli::parse(words.into_iter()) else { panic!("refused") };
    assert_eq!(config.kernel, Some(PathBuf::from(path)));
}

#[test]
fn firmware_instead_of_a_kernel() {
    let config = run_words(&["-bios", "/usr/share/seabios/bios-256k.bin", "-m", "64"]);
    assert_eq!(config.bios, Some(PathBuf::from("/usr/share/seabios/bios-256k.bin")));
    assert_eq!(config.kernel, None);
    assert_eq!(run("").bios, None);
}

#[test]
fn fw_cfg_files() {
    let config = run("-fw_cfg name=opt/minivmm/a,file=/tmp/a,,b -fw_cfg opt/b,string=x=y");
    assert_eq!(
        config.fw_cfg,
        [
            FwCfgFile { name: "opt/minivmm/a".into(), source: FwCfgSource::File("/tmp/a,b".into()) },
            FwCfgFile { name: "opt/b".into(), source: FwCfgSource::String("x=y".into()) },
        ]
    );
}

#[test]
fn asking_for_nothing_is_granted() {
    assert_eq!(run("-display none -vga none -parallel none"), run(""));
    assert_eq!(run("-net none -nic none"), run("-nodefaults -serial stdio"));
}

#[test]
fn doubtful_lines_run_with_a_warning() {
    for (line, warnings) in [
        (
            "-netdev tap,id=n0",
            vec!["-netdev tap,id=n0: no device uses this netdev; add -device e1000,netdev=n0"],
        ),
        (
            "-device e1000",
            vec!["-device e1000: the NIC has no netdev, so its link stays without a peer; add netdev=ID"],
        ),
        (
            "-netdev tap,id=a -netdev tap,id=b -device e1000,netdev=a,mac=2:0:0:0:0:1 -device e1000,netdev=b,mac=2:0:0:0:0:1",
            vec!["-device e1000,netdev=b,mac=2:0:0:0:0:1: another NIC has the same MAC address"],
        ),
        ("-S", vec![]),
        ("-S -monitor none -qmp unix:q,server=on", vec![]),
        ("-S -nodefaults -s", vec![]),
        ("-S -monitor none", vec!["-S: nothing can start the guest; add -monitor stdio, -qmp WHERE or -s"]),
        (
            "-nodefaults -S -serial null",
            vec!["-S: nothing can start the guest; add -monitor stdio, -qmp WHERE or -s"],
        ),
    ] {
        assert_eq!(run(line).warnings, warnings, "{line}");
    }
}

#[test]
fn accelerator_help_is_left_to_the_machine() {
    assert_eq!(parse(&["-accel", "help"]), Ok(Command::AccelHelp));
    assert_eq!(parse(&["-accel", "?"]), Ok(Command::AccelHelp));
}

#[test]
fn models_and_their_properties() {
    for (name, model) in [
        ("e1000", NicModel::I82540Em),
        ("e1000-82540em", NicModel::I82540Em),
        ("e1000-82545em", NicModel::I82545Em),
        ("e1000-82544gc", NicModel::I82544Gc),
    ] {
        let config = run(&format!(
            "-netdev tap,id=n0 -device {name},id=nic,netdev=n0,mac=02:00:00:00:00:09,addr=4,autonegotiation=on,\
             multifunction=off,x-pcie-extcap-init=on,msi=off,strict=on,overflow=drop,eeprom=rom.bin"
        ));
        assert_eq!(
            *nic(&config),
            E1000Options {
                model,
                id: Some("nic".into()),
                netdev: Some("n0".into()),
                mac: [2, 0, 0, 0, 0, 9],
                mac_given: true,
                addr: Some(PciAddress { slot: 4, function: 0 }),
                link_delay: Duration::ZERO,
                msi: false,
                strict: true,
                overflow: NicOverflow::Drop,
                eeprom: Some("rom.bin".into()),
                romfile: None,
                coverage: None,
            }
        );
    }
    assert!(!nic(&run("-device e1000,nomsi")).msi);
    assert!(nic(&run(r#"-device {"driver":"e1000-82545em","strict":true}"#)).strict);
    let two = run("-device e1000,eeprom=a -device e1000-82545em,eeprom=b");
    assert_eq!(nics(&two).len(), 2);
}

#[test]
fn gdb_is_waited_for_on_this_host() {
    let tcp = |host: &str, port| {
        let host = host.to_owned();
        Some(Chardev::Tcp { host, port, server: true, wait: false })
    };
    assert_eq!(run("-s").gdb, tcp("127.0.0.1", 1234));
    assert_eq!(run("-gdb tcp::4321").gdb, tcp("127.0.0.1", 4321));
    assert_eq!(run("-gdb tcp:[::]:4321,server=on,wait=off").gdb, tcp("::", 4321));
    let path = PathBuf::from("/tmp/s");
    assert_eq!(run("-gdb unix:/tmp/s").gdb, Some(Chardev::Unix { path, server: true, wait: false }));
    assert_eq!(run("-s -gdb none").gdb, None);
    for place in ["stdio", "file:x", "tcp::0", "1234"] {
        assert!(parse(&["-kernel", "k", "-gdb", place]).is_err(), "{place}");
    }
}
