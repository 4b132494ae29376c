//! Glob patterns for names.

/// Returns whether all of `text` matches a pattern in which `*` is any text and `?` is one character.
///
/// Sets in brackets are not supported. Takes at most time proportional to the product of the lengths.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // The last `*` and the end of the text it takes so far. Earlier ones need not be tried again.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_at, end)) = star {
            star = Some((star_at, end + 1));
            p = star_at + 1;
            t = end + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
    }

    #[test]
    fn test_glob_without_wildcards_matches_the_same_text() {
        check("virt", "virt", true);
        check("virt", "virt-7.2", false);
        check("virt-7.2", "virt", false);
        check("", "", true);
        check("", "virt", false);
    }

    #[test]
    fn test_glob_question_mark_matches_one_character() {
        check("w?b", "web", true);
        check("w?b", "wüb", true);
        check("w?b", "wb", false);
    }

    #[test]
    fn test_glob_star_matches_any_text() {
        check("web-*", "web-1", true);
        check("pc-q35-*", "pc-q35-", true);
        check("pc-q35-*", "pc-q35", false);
        check("pc-*-7.?", "pc-i440fx-7.2", true);
        check("*-1", "a-b-1", true);
        check("*-*-*", "a-b", false);
        check("*ab", "aab", true);
        check("*a*b*", "xxaxxbxx", true);
        check("*", "", true);
        check("**", "", true);
    }

    #[test]
    fn test_glob_hostile_pattern_is_fast() {
        let pattern = format!("{}b", "*a".repeat(5_000));

        check(&pattern, &"a".repeat(10_000), false);
    }
}
