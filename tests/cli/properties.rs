//! Whatever is typed: no panic, and an error is one line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use minivmm::cli::{self, AddressChoice, Command, FwCfgSource, Netdev, NetdevKind, ScriptChoice};
use proptest::prelude::*;

use crate::run_words;

const GOOD: &[&[&str]] = &[
    &["-kernel", "k", "-netdev", "tap,id=n0", "-device", "e1000,netdev=n0", "-m", "1.5G", "-smp", "cpus=2"],
    &["--kernel", "k", "-device", "e1000,netdev=n0,mac=52:54:00:12:34:56,addr=0x3.0,link-delay=500ms"],
    &["-kernel", "k", "-netdev", "tap,id=a,ifname=tap0,script=/x,,y,vnet_hdr=on,address=10.0.2.2/24"],
    &["-kernel", "k", "-netdev", r#"{"type":"tap","id":"n0","ifname":"t","vnet_hdr":true,"address":"none"}"#],
    &[
        "-kernel",
        "k",
        "-device",
        r#"{"driver":"isa-debug-exit","iobase":1281,"iosize":2}"#,
        "-timeout",
        "1m30s",
    ],
    &[
        "-kernel",
        "k",
        "-serial",
        "unix:/tmp/s,server,nowait",
        "-fw_cfg",
        "opt/x,string=y",
        "-accel",
        "kvm:soft",
    ],
    &[
        "-M",
        "q35,kernel-unpack=guest,accel=kvm",
        "-cpu",
        "max",
        "-append",
        "a b",
        "-initrd",
        "i",
        "-no-reboot",
    ],
];

fn bytes_of(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn check_one_line(words: Vec<Vec<u8>>) -> Result<(), TestCaseError> {
    if let Err(error) = cli::parse(words.iter().cloned().map(OsString::from_vec)) {
        let line = error.to_string();
        prop_assert!(!line.is_empty() && line.chars().all(|c| !c.is_control()), "{words:?}: {line:?}");
        prop_assert!(line.len() < 4000, "{} bytes for {words:?}", line.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_words_never_panic(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
        check_one_line(words)?;
    }

    #[test]
    fn random_values_never_panic(
        option in prop::sample::select(vec![
            "-m", "-smp", "-cpu", "-accel", "-machine", "-device", "-netdev", "-serial", "-fw_cfg", "-timeout", "-expect", "-vga",
        ]),
        value in r#"(tap|e1000|unix:|file:|opt/|\{)?[a-z0-9,=:./{}\[\]" +%é\\-]{0,40}"#,
    ) {
        check_one_line(bytes_of(&["-kernel", "k", option, &value]))?;
    }

    #[test]
    fn mutated_lines_never_panic(
        line in prop::sample::select(GOOD),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..5),
    ) {
        let mut words = bytes_of(line);
        for (word, at, byte, kind) in edits {
            let n = word.index(words.len());
            let at = at.index(words[n].len() + 1);
            match kind {
                0 => words[n].insert(at, byte),
                1 if at < words[n].len() => words[n][at] = byte,
                2 => words[n].truncate(at),
                _ => {
                    let copy = words[n].clone();
                    words.insert(n, copy);
                }
            }
        }
        check_one_line(words)?;
    }

    #[test]
    fn a_doubled_comma_is_a_comma(value in "[a-z,=/ é]{1,40}") {
        let escaped = value.replace(',', ",,");
        let netdev = format!("tap,id=n0,script={escaped},address=none");
        let fw_cfg = format!("opt/x,string={escaped}");
        let config = run_words(&["-kernel", "k", "-netdev", &netdev, "-fw_cfg", &fw_cfg]);
        let [Netdev { kind: NetdevKind::Tap(tap), .. }] = config.netdevs.as_slice() else { panic!("{:?}", config.netdevs) };
        prop_assert_eq!(&tap.script, &ScriptChoice::Path(PathBuf::from(&value)));
        prop_assert_eq!(tap.address, AddressChoice::None);
        prop_assert_eq!(&config.fw_cfg[0].source, &FwCfgSource::String(value));
    }
}

#[test]
fn the_lines_that_are_mutated_are_read_to_their_end() {
    for line in GOOD.iter().filter(|line| !line[0].contains("-M")) {
        let result = cli::parse(line.iter().map(OsString::from));
        let reads = match &result {
            Ok(Command::Run(_)) => true,
            Err(error) => error.to_string().contains("there is no netdev"),
            Ok(_) => false,
        };
        assert!(reads, "{line:?} gave {result:?}");
    }
}

#[test]
fn deep_json_is_refused_not_followed() {
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let result = cli::parse(["-kernel", "k", "-netdev", &deep].iter().map(OsString::from));
    assert!(result.is_err_and(|error| error.to_string().contains("this is not a JSON object")));
}
