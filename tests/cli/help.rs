//! What is printed when help is asked for.

use minivmm::cli::Command;

use crate::parse;

fn printed(words: &[&str]) -> String {
    match parse(words) {
        Ok(Command::Print(text)) => {
            assert!(text.ends_with('\n') && text.lines().all(|line| line.len() <= 120), "{text}");
            text
        }
        other => panic!("{words:?} gave {other:?}"),
    }
}

#[test]
fn help_teaches() {
    let help = printed(&["-help"]);
    assert_eq!(help, printed(&["--help"]));
    assert_eq!(help, printed(&["-h", "-nonsense"]));
    for part in [
        "-netdev tap,id=n0 -device e1000,netdev=n0",
        "ip tuntap add dev tap0 mode tap user $USER",
        "10.0.2.2/24",
        "52:54:00:12:34:56",
        "Ctrl-A x",
        "Exit status:",
        "  124 ",
        "-M, -machine",
        "-timeout TIME",
        "-device help",
    ] {
        assert!(help.contains(part), "{part} is missing");
    }
}

#[test]
fn every_option_that_help_shows_is_taken() {
    let help = printed(&["-help"]);
    let rows =
        help.lines().skip_while(|line| *line != "What to boot:").filter_map(|line| line.strip_prefix("  -"));
    let names: Vec<&str> =
        rows.flat_map(|row| row.split("  ").next()).flat_map(|row| row.split(' ').next()).collect();
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        let option = format!("-{}", name.trim_end_matches(','));
        if let Err(error) = parse(&[option.as_str(), "nonsense"]) {
            assert!(!error.to_string().contains("no such option"), "{error}");
        }
    }
}

#[test]
fn the_examples_in_the_help_are_valid() {
    let help = printed(&["-help"]).replace(" \\\n", " ");
    let examples: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("minivmm "))
        .filter(|line| !line.contains('['))
        .collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples.into_iter().filter(|example| example.starts_with('-')) {
        let unquoted =
            example.replace("-append 'ip=10.9.0.2::10.9.0.1:255.255.255.0::eth0:off'", "-append ip=x");
        let command = parse(&unquoted.split_whitespace().collect::<Vec<_>>());
        let Ok(Command::Run(config)) = command else { panic!("{example}: {command:?}") };
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

#[test]
fn lists() {
    assert_eq!(printed(&["-version"]), format!("minivmm {}\n", env!("CARGO_PKG_VERSION")));
    let devices = printed(&["-device", "help"]);
    assert!(devices.starts_with("name \"e1000\", bus PCI, alias \"e1000-82540em\", desc \""), "{devices}");
    assert!(devices.contains("name \"e1000-82544gc\", bus PCI, desc"), "{devices}");
    assert!(devices.contains("name \"e1000-82545em\", bus PCI, desc"), "{devices}");
    assert!(devices.contains("name \"isa-debug-exit\", bus ISA, desc"), "{devices}");
    assert_eq!(devices, printed(&["-device", "?"]));
    assert!(printed(&["-netdev", "help"]).contains("\n  tap "));
    assert!(printed(&["-machine", "help"]).contains("kernel-unpack=<str>"));
    assert!(printed(&["-M", "q35,help"]).contains("q35"));
    assert!(printed(&["-cpu", "help"]).contains("\n  max "));
    assert!(printed(&["-serial", "help"]).contains("unix:PATH[,server=on|off][,wait=on|off]"));
}

#[test]
fn keys_are_listed_sorted_in_qemus_form() {
    for words in [
        ["-device", "e1000,help"],
        ["-device", "e1000-82545em,help"],
        ["-netdev", "tap,help"],
        ["-device", "isa-debug-exit,help"],
    ] {
        let text = printed(&words);
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default();
        assert!(title.ends_with(" options:"), "{title}");
        let names: Vec<&str> = lines
            .map(|line| {
                let (name, rest) = line.trim_start().split_once("=<").unwrap_or_else(|| panic!("{line}"));
                assert!(rest.contains("> ") && rest.contains(" - "), "{line}");
                name
            })
            .collect();
        assert!(names.len() >= 3 && names.is_sorted(), "{names:?}");
    }
    let e1000 = printed(&["-device", "e1000,help"]);
    assert!(
        e1000.contains("mac=<str>") && e1000.contains("(default: 52:54:00:12:34:56, counting up)"),
        "{e1000}"
    );
    assert_eq!(e1000, printed(&["-device", "e1000-82540em,netdev=n0,?"]));
}
