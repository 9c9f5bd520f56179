//! The target description: the register table as gdb reads it (gdb manual, "Target Descriptions" and "i386 Features").
//!
//! Called by `target.rs` once a session. Pure.

use std::fmt::Write;

use super::registers::{CORE, GROUPS, SEGMENTS, SSE, SYSTEM};

/// Names of the bits of EFLAGS and MXCSR, lowest first; an empty name is no flag.
const EFLAGS: [&str; 22] = [
    "CF", "", "PF", "", "AF", "", "ZF", "SF", "TF", "IF", "DF", "OF", "", "", "NT", "", "RF", "VM", "AC",
    "VIF", "VIP", "ID",
];
const MXCSR: [&str; 16] =
    ["IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM", "", "", "FZ"];
/// What an XMM register can be taken for: field, element, elements.
const VECTORS: [(&str, &str, u32); 6] = [
    ("v4_float", "ieee_single", 4),
    ("v2_double", "ieee_double", 2),
    ("v16_int8", "int8", 16),
    ("v8_int16", "int16", 8),
    ("v4_int32", "int32", 4),
    ("v2_int64", "int64", 2),
];

/// The whole document.
pub(super) fn document() -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
         <architecture>i386:x86-64</architecture>",
    );
    let mut number = 0;
    for feature in [CORE, SSE, SEGMENTS, SYSTEM] {
        // Writing to a String cannot fail.
        let _ = write!(xml, "<feature name=\"{feature}\">");
        match feature {
            CORE => flags(&mut xml, "i386_eflags", &EFLAGS),
            SSE => {
                flags(&mut xml, "i386_mxcsr", &MXCSR);
                vector(&mut xml);
            }
            _ => {}
        }
        for group in GROUPS.iter().filter(|group| group.feature == feature) {
            for name in group.names {
                let _ = write!(
                    xml,
                    "<reg name=\"{name}\" bitsize=\"{}\" type=\"{}\" regnum=\"{number}\"/>",
                    group.bits, group.kind
                );
                number += 1;
            }
        }
        xml += "</feature>";
    }
    xml + "</target>"
}

fn flags(xml: &mut String, id: &str, names: &[&str]) {
    let _ = write!(xml, "<flags id=\"{id}\" size=\"4\">");
    for (bit, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let _ = write!(xml, "<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>");
    }
    *xml += "</flags>";
}

fn vector(xml: &mut String) {
    for (field, element, count) in VECTORS {
        let _ = write!(xml, "<vector id=\"{field}_t\" type=\"{element}\" count=\"{count}\"/>");
    }
    *xml += "<union id=\"vec128\">";
    for (field, ..) in VECTORS {
        let _ = write!(xml, "<field name=\"{field}\" type=\"{field}_t\"/>");
    }
    *xml += "<field name=\"uint128\" type=\"uint128\"/></union>";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_described_once_with_its_number() {
        let xml = document();
        let names: Vec<_> = GROUPS.iter().flat_map(|g| g.names).collect();
        for (number, name) in names.iter().enumerate() {
            let found: Vec<_> = xml.match_indices(&format!("<reg name=\"{name}\" ")).collect();
            assert_eq!(found.len(), 1, "{name}");
            let row = &xml[found[0].0..];
            assert!(row[..row.find("/>").unwrap()].ends_with(&format!("regnum=\"{number}\"")), "{name}");
        }
        assert_eq!(xml.matches("<feature").count(), xml.matches("</feature>").count());
    }
}
