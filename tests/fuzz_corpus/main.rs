//! Every input of `fuzz/corpus` through the bodies of the fuzz targets, without a fuzzer: what was found once stays found.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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

/// Random inputs for each target where no time is given: the same on every machine.
const INPUTS: u64 = 2000;

/// Random bytes for the bodies that take any bytes: no coverage guides them, but they are fast. By hand:
/// `MINIVMM_FUZZ_TARGETS` (names; all), `MINIVMM_FUZZ_SECONDS` for each (else [`INPUTS`]), `MINIVMM_FUZZ_SEED` (1).
#[test]
fn random_inputs_pass() {
    let number =
        |name: &str| -> Option<u64> { std::env::var(name).ok().map(|text| text.parse().expect(name)) };
    let (seconds, seed) = (number("MINIVMM_FUZZ_SECONDS"), number("MINIVMM_FUZZ_SEED").unwrap_or(1));
    let chosen = std::env::var("MINIVMM_FUZZ_TARGETS").unwrap_or_default();
    for (target, body) in bodies::TARGETS {
        if !chosen.is_empty() && !chosen.split(',').any(|name| name == *target) {
            continue;
        }
        // Xorshift64, which must not start at zero.
        let mut word = seed | 1 << 63;
        let mut next = move || {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word
        };
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut runs = 0u64;
        while end.map_or(runs < INPUTS, |end| Instant::now() < end) {
            let words = next() as usize % 400 + 1;
            let data: Vec<u8> = (0..words).flat_map(|_| next().to_le_bytes()).collect();
            if catch_unwind(|| body(&data)).is_err() {
                let path = std::env::temp_dir().join(format!("{target}-{seed}-{runs}"));
                fs::write(&path, &data).unwrap();
                panic!("fuzz target {target}, seed {seed}, run {runs}: {}", path.display());
            }
            runs += 1;
        }
        println!("fuzz target {target}: {runs} random inputs, seed {seed}");
    }
    let operations = bodies::e1000::OPERATIONS.load(Ordering::Relaxed);
    println!("{operations} operations on the e1000");
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
