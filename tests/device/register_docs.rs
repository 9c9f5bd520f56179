//! The register table of `docs/e1000.md` is made from the code; this says when it is stale.

use std::fmt::Write;

use minivmm::nic::e1000::regs::table::{ALIASES, Class, OnReset, State, TABLE, find};

/// Holds the part of `docs/e1000.md` between the marks of this name to be `generated`, or makes it so.
pub(crate) fn replace_block(name: &str, generated: &str) {
    replace_block_of("e1000.md", name, generated);
}

/// So, for a page of `docs`.
pub(crate) fn replace_block_of(page: &str, name: &str, generated: &str) {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&begin).expect("begin mark");
    let (documented, after) = rest.split_once(&end).expect("end mark");
    if std::env::var_os("MINIVMM_BLESS").is_some() {
        std::fs::write(path, format!("{before}{begin}{generated}{end}{after}")).unwrap();
    } else {
        assert!(documented == generated, "docs/{page} is stale: run this test alone with MINIVMM_BLESS=1");
    }
}

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
    replace_block("register table", &generated());
}
