//! The patterns of machine types in firmware descriptors: `*` and `?`, as in glob(7).
//!
//! Sets in brackets are not understood; no descriptor is known that has one.

/// Returns whether the whole of `text` is of the form of `pattern`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last `*` and where its stretch ends for now. Earlier ones never need to be tried again, so that this takes
    // no longer than the product of the lengths.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(byte), _) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((at, end))) => {
                star = Some((at, end + 1));
                p = at + 1;
                t = end + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "`{text}` against `{pattern}`");
    }

    #[test]
    fn test_glob_without_wildcards_is_the_text_itself() {
        check("virt", "virt", true);
        check("virt", "virt-7.2", false);
        check("virt-7.2", "virt", false);
        check("", "", true);
        check("", "virt", false);
    }

    #[test]
    fn test_glob_star_is_any_stretch_and_also_none() {
        check("pc-q35-*", "pc-q35-7.2", true);
        check("pc-q35-*", "pc-q35-", true);
        check("pc-q35-*", "pc-q35", false);
        check("pc-*-7.?", "pc-i440fx-7.2", true);
        check("*-*-*", "a-b", false);
        check("*ab", "aab", true);
        check("**", "", true);
    }

    #[test]
    fn test_glob_hostile_pattern_takes_no_time() {
        let pattern = format!("{}b", "*a".repeat(5_000));

        check(&pattern, &"a".repeat(10_000), false);
    }
}
