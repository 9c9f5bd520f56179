//! "Did you mean": the nearest known word.
//!
//! Called wherever a name from a fixed set was expected. Pure.

/// The candidate that `word` most likely stands for, if one is near enough to be worth saying.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.to_lowercase().chars().take(64).collect();
    let length = word.chars().count();
    let tolerance = match length {
        0..=2 => 0,
        3..=4 => 1,
        5..=7 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::osa_distance(&word, candidate);
            let begins = length >= 3 && (candidate.starts_with(&word) || word.starts_with(candidate));
            (distance <= tolerance || begins && candidate.len() >= 3).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean 'X'?" for the nearest candidate, else `otherwise`.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl Into<String>,
) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("did you mean '{candidate}'?"),
        None => otherwise.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_beginnings_but_not_strangers() {
        let known = ["kernel", "netdev", "device", "smp", "m"];
        assert_eq!(nearest("kernal", known), Some("kernel"));
        assert_eq!(nearest("NETDEV", known), Some("netdev"));
        assert_eq!(nearest("devcie", known), Some("device"));
        assert_eq!(nearest("kern", known), Some("kernel"));
        assert_eq!(nearest("spm", known), Some("smp"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("bicycle", known), None);
    }
}
