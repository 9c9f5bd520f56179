//! QEMU's event patterns: a name in which `*` stands for anything.

/// Whether `name` is what `pattern` means.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            let Some(rest) = name.strip_prefix(before) else { return false };
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_anything_and_the_rest_is_itself() {
        for (pattern, name, expected) in [
            ("*", "e1000_link", true),
            ("e1000_*", "e1000_link", true),
            ("e1000_*_frame", "e1000_tx_frame", true),
            ("e1000_*_frame", "e1000_tx_frames", false),
            ("*tx*", "e1000_tx_frame", true),
            ("e1000_link", "e1000_link", true),
            ("e1000_lin", "e1000_link", false),
            ("", "e1000_link", false),
            ("virtio_*", "e1000_link", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
