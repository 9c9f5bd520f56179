//! docs/qemu-compat.md says what the parser does.

use minivmm::cli::Command;

use crate::{parse, refusal};

const PAGE: &str = include_str!("../../docs/qemu-compat.md");

/// The cells of the rows in the section with this title, without the head.
fn rows(title: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(title)).unwrap_or_default();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .skip(2)
        .collect();
    assert!(rows.len() > 1, "no table under {title}");
    rows
}

/// The texts between backquotes.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_option_does_what_its_row_says() {
    for row in rows("Options") {
        let [option, state, rest] = row[..] else { panic!("{row:?}") };
        let more = rest.split_once("also ").map_or("", |(_, more)| more);
        for option in code(option).chain(code(more)).filter(|option| option.starts_with('-')) {
            let words: Vec<&str> =
                ["-kernel", "k"].into_iter().chain(option.split(' ')).chain(["x"]).collect();
            let answer = parse(&words).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(!answer.contains("no such option"), "{answer}");
            let refused = answer.contains(" is not here");
            assert_eq!(refused, state == "not there", "{option} is {state}, but: {answer}");
        }
    }
}

#[test]
fn every_option_has_a_row() {
    let Ok(Command::Print(help)) = parse(&["-help"]) else { panic!("no help") };
    let listed: Vec<&str> = rows("Options").iter().flat_map(|row| code(row[0])).collect();
    let shown = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with('-'));
    let synopses = shown.flat_map(|line| line.split("  ").next());
    let names: Vec<&str> =
        synopses.flat_map(|synopsis| synopsis.split(", ")).flat_map(|name| name.split(' ').next()).collect();
    assert!(names.len() >= 19, "{names:?}");
    for name in names {
        assert!(listed.contains(&name), "{name} has no row");
    }
}

#[test]
fn messages_are_quoted_word_for_word() {
    let lines: &[(&str, &str)] = &[
        ("unknown device", "-device e1001"),
        ("unknown property", "-device e1000,foo=1"),
        ("bad MAC", "-device e1000,mac=zz"),
        ("multicast MAC", "-device e1000,mac=01:00:5e:00:00:01"),
        ("netdev missing", "-device e1000,netdev=nope"),
        ("netdev used twice", "-netdev tap,id=n0 -device e1000,netdev=n0 -device e1000,netdev=n0"),
        ("duplicate id", "-netdev tap,id=n0 -netdev tap,id=n0"),
        ("no id", "-netdev tap"),
        ("unknown backend", "-netdev foo,id=n0"),
        ("unknown key", "-netdev tap,id=n0,foo=1"),
        ("not on or off", "-netdev tap,id=n0,vnet_hdr=maybe"),
        ("no such slot", "-device e1000,addr=99"),
        ("slot taken", "-device e1000,addr=3 -device e1000,addr=3"),
        ("fd with other keys", "-netdev tap,id=n0,fd=4,ifname=tap0"),
        ("long ifname", "-netdev tap,id=n0,ifname=sixteen-letters-"),
        ("idle queues", "-netdev tap,id=n0,queues=4"),
    ];
    let rows = rows("What a mistake looks like");
    assert_eq!(rows.len(), lines.len() + 2, "the two warnings have their own test");
    for (mistake, line) in lines {
        let row =
            rows.iter().find(|row| row[0] == *mistake).unwrap_or_else(|| panic!("{mistake} has no row"));
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split(' ')).collect();
        let message = refusal(&words);
        let said = code(row[2]).next().unwrap_or_default();
        assert!(message.ends_with(&format!(": {said}")), "{message}\nbut the page says {said}");
    }
}

#[test]
fn every_key_of_a_backend_has_a_row() {
    for backend in ["tap", "bridge", "stream", "dgram", "socket", "l2tpv3", "passt"] {
        let Ok(Command::Print(help)) = parse(&["-netdev", &format!("{backend},help")]) else {
            panic!("no help")
        };
        let keys: Vec<&str> = help
            .lines()
            .skip(1)
            .filter_map(|line| line.trim().split_once("=<"))
            .map(|(key, _)| key)
            .collect();
        assert!(keys.len() > 1, "{help}");
        let rows = rows(&format!("`-netdev {backend}`"));
        let listed: Vec<&str> = rows.iter().flat_map(|row| code(row[0])).collect();
        for key in keys.into_iter().filter(|key| *key != "id") {
            assert!(listed.contains(&format!("{key}=").as_str()), "-netdev {backend} has no row for {key}=");
        }
    }
}
