//! Whether the host's processor is of the make on which comparisons with it were recorded.
//!
//! Shared by test programs that hold the software CPU against the host (`cpu_diff`, `machine`).

use std::arch::x86_64::__cpuid;

/// The make whose processors' departures from the SDM the tables list (Zen 5, 2026-11).
const RECORDED: &str = "AuthenticAMD";

/// What CPUID leaf 0 calls the maker.
fn maker() -> String {
    let leaf = __cpuid(0);
    let bytes: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx].iter().flat_map(|r| r.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// For a comparison with disagreements that no table explains: whether they are to be told and let pass, since the
/// processor is of a make that nobody has recorded, and `MINIVMM_ALLOW_SKIP` contains `processor`. Many of them are
/// the software's fault on any processor: at most one comparison in a thousand may disagree.
pub fn may_disagree(disagreements: u64, comparisons: u64) -> bool {
    let maker = maker();
    if maker == RECORDED || disagreements.saturating_mul(1000) > comparisons {
        return false;
    }
    println!(
        "SKIP processor: {disagreements} of {comparisons} comparisons disagree on {maker}, listed above; the tables \
         are of {RECORDED}"
    );
    std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default().split(',').any(|reason| reason == "processor")
}
