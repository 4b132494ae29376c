//! What a copy leaves out.

use crate::guest::archive::EntryPath;
use crate::text::glob_matches;

/// Patterns of what is left out.
///
/// A pattern without a slash matches a name anywhere; one with a slash matches a path from the directory that is copied. `*`
/// and `?` do not match a slash, `**` matches any number of directories. What is in a directory that matches is left out as
/// well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFilter {
    patterns: Vec<String>,
}

impl CopyFilter {
    /// Leaves out what matches one of these.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns = patterns.into_iter().map(Into::into);
        Self { patterns: patterns.map(|pattern: String| pattern.trim_end_matches('/').to_owned()).collect() }
    }

    /// Returns whether a path, or a directory that it is in, is left out.
    pub fn leaves_out(&self, path: &EntryPath) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let names: Vec<String> = path.names().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (1..=names.len()).any(|end| self.patterns.iter().any(|pattern| matches(pattern, &names[..end])))
    }

    /// Returns the options with which GNU tar leaves out what is known to match.
    pub fn tar_options(&self) -> Vec<String> {
        let by_name = self.patterns.iter().filter(|pattern| !pattern.contains('/') && !pattern.is_empty());
        by_name.map(|pattern| format!("--exclude={}", escaped(pattern))).collect()
    }
}

/// Escapes what is a wildcard for tar only.
fn escaped(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    for char in pattern.chars() {
        if matches!(char, '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(char);
    }
    text
}

fn matches(pattern: &str, names: &[&str]) -> bool {
    match pattern.trim_start_matches('/') {
        "" => false,
        name if name.len() == pattern.len() && !pattern.contains('/') => {
            names.last().is_some_and(|last| glob_matches(name, last))
        }
        pattern => path_matches(&pattern.split('/').collect::<Vec<_>>(), names),
    }
}

/// Matches names by patterns, of which `**` takes any number; as [`glob_matches`] does it with characters.
fn path_matches(patterns: &[&str], names: &[&str]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < names.len() {
        if patterns.get(p) == Some(&"**") {
            star = Some((p, n));
            p += 1;
        } else if patterns.get(p).is_some_and(|pattern| glob_matches(pattern, names[n])) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star_at, end)) = star {
            star = Some((star_at, end + 1));
            (p, n) = (star_at + 1, end + 1);
        } else {
            return false;
        }
    }
    patterns[p..].iter().all(|pattern| *pattern == "**")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expected: bool) {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        assert_eq!(CopyFilter::new([pattern]).leaves_out(&path), expected, "{pattern} {path}");
    }

    #[test]
    fn test_filter_without_slash_matches_names_anywhere() {
        check("*.o", "a/b/c.o", true);
        check("*.o", "c.o/d", true);
        check("*.o", "a/c.oo", false);
        check("target", "x/target/y", true);
        check("target/", "target", true);
        check("a*c", "a/c", false);
    }

    #[test]
    fn test_filter_with_slash_matches_from_the_directory() {
        check("a/*.o", "a/c.o", true);
        check("a/*.o", "x/a/c.o", false);
        check("/a", "a", true);
        check("/a", "b/a", false);
        check("**/x/y", "a/b/x/y", true);
        check("a/**", "a/b", true);
        check("a/**/z", "a/z", true);
        check("a/**/z", "a/b/c/z", true);
        check("", "a", false);
    }

    #[test]
    fn test_filter_hostile_pattern_is_fast() {
        check(&format!("{}x", "**/".repeat(500)), &"a/".repeat(2000), false);
    }

    #[test]
    fn test_filter_for_tar_has_names_only() {
        assert_eq!(CopyFilter::new(["*.o", "a/b", "x[1]"]).tar_options(), ["--exclude=*.o", "--exclude=x\\[1\\]"]);
    }
}
