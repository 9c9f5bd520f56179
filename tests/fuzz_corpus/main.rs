//! Every input of `fuzz/corpus` through the bodies of the fuzz targets, without a fuzzer: what was found once stays found.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod bodies;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn corpora_pass() {
    for (target, body) in bodies::TARGETS {
        let folder = Path::new(FUZZ).join("corpus").join(target);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for name in &inputs {
            let data = fs::read(folder.join(name)).unwrap();
            if catch_unwind(|| body(&data)).is_err() {
                panic!("fuzz target {target}: fuzz/corpus/{target}/{name}");
            }
        }
        println!("fuzz target {target}: {} inputs", inputs.len());
    }
}

#[test]
fn every_target_is_everywhere() {
    let mut listed: Vec<String> = bodies::TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    listed.sort();
    assert_eq!(names(&Path::new(FUZZ).join("fuzz_targets")), listed, "fuzz/fuzz_targets beside TARGETS");
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    for name in listed {
        let path = format!("path = \"fuzz_targets/{name}\"");
        assert!(manifest.contains(&path), "no [[bin]] for {name} in fuzz/Cargo.toml");
    }
}
