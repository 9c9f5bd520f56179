//! The register table of `docs/e1000.md` is made from the code; this says when it is stale.

use std::fmt::Write;

use minivmm::nic::e1000::regs::table::{ALIASES, Class, OnReset, State, TABLE, find};

const BEGIN: &str = "<!-- register table: begin -->";
const END: &str = "<!-- register table: end -->";

fn generated() -> String {
    let mut text =
        String::from("\n| Offset | Name | Count | Access | Writable | Reset | On RST | State | Manual |\n");
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for row in TABLE {
        let access = match row.class {
            Class::Rw => "RW",
            Class::Ro => "RO",
            Class::Wo => "WO",
            Class::Rc => "RC",
            Class::W1c => "RW1C",
        };
        let on_reset = if row.on_reset == OnReset::Keep { "kept" } else { "reset" };
        let state = match row.state {
            State::Implemented => "implemented",
            State::Stored => "stored",
            State::ReadsZero => "reads 0",
        };
        let count = if row.count == 1 { String::new() } else { format!("{} x {}", row.count, row.stride) };
        writeln!(
            text,
            "| {:05x} | {} | {count} | {access} | {:08x} | {:08x} | {on_reset} | {state} | {} |",
            row.offset, row.name, row.mask, row.reset, row.section
        )
        .unwrap();
    }
    text += "\nSecond places (82542 addresses, diagnostics):";
    for alias in ALIASES {
        let name = find(alias.to).map(|f| f.row.name).unwrap_or_default();
        write!(text, " {:05x} {name},", alias.from).unwrap();
    }
    text.pop();
    text + ".\n"
}

#[test]
fn the_documented_table_is_the_one_in_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/e1000.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("begin mark");
    let (documented, after) = rest.split_once(END).expect("end mark");
    let generated = generated();
    if std::env::var_os("MINIVMM_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{generated}{END}{after}")).unwrap();
        return;
    }
    assert!(documented == generated, "docs/e1000.md is stale: run this test with MINIVMM_BLESS=1");
}
