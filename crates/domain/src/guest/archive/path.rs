//! Paths of entries, which stay inside the tree.

use std::fmt;

use super::InvalidArchive;

/// The longest path of an entry, as on Linux (`PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;

/// The longest name on the file systems of Linux (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

/// How much of an invalid path is shown.
const SHOWN_BYTES: usize = 100;

/// The path of an entry: names separated by `/`, none of them `.` or `..`. The tree itself has an empty one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Reads a path as archives have it, as in `./a/b/`.
    ///
    /// Errors: `Outside` for an absolute path and for one with `..`; `Path` and `TooLong`.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidArchive> {
        if bytes.len() > MAX_PATH_BYTES {
            return Err(InvalidArchive::TooLong);
        }
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(InvalidArchive::Path { path: shown(bytes) });
        }
        if bytes[0] == b'/' {
            return Err(InvalidArchive::Outside { path: shown(bytes) });
        }
        let mut path = Vec::with_capacity(bytes.len());
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(InvalidArchive::Outside { path: shown(bytes) }),
                _ if name.len() > MAX_NAME_BYTES => return Err(InvalidArchive::TooLong),
                _ => push_name(&mut path, name),
            }
        }
        Ok(Self(path))
    }

    /// Returns the path of `name` in this directory; `name` is one that the file system has.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        push_name(&mut path, name);
        Self(path)
    }

    /// Returns the names.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Returns the path of the directory, and the name in it; `None` for the tree itself.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((Self(self.0[..at].to_vec()), &self.0[at + 1..])),
            None if self.0.is_empty() => None,
            None => Some((Self::default(), &self.0)),
        }
    }

    /// Returns whether this is the tree itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Returns whether a symbolic link at `link` with this target leads to a place inside the tree.
///
/// `..` is allowed at the beginning only: behind a name, which may be another link, it leads anywhere.
pub fn stays_inside(link: &EntryPath, target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return false;
    }
    let mut depth = link.names().count().saturating_sub(1);
    let mut is_below = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if is_below || depth == 0 => return false,
            b".." => depth -= 1,
            _ => is_below = true,
        }
    }
    true
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn test_entry_path_is_normalized() {
        assert_eq!(path("./a//b/./c/").as_bytes(), b"a/b/c");
        assert!(path("./").is_root() && path(".").is_root());
        assert_eq!(path("a/b").split_last(), Some((path("a"), &b"b"[..])));
        assert_eq!(path("a").split_last(), Some((EntryPath::default(), &b"a"[..])));
        assert_eq!(path(".").split_last(), None);
        assert_eq!(EntryPath::default().join(b"a").join(b"b"), path("a/b"));
    }

    #[test]
    fn test_entry_path_out_of_the_tree_is_refused() {
        for text in ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "./..", "//x"] {
            let refused = EntryPath::parse(text.as_bytes());
            assert!(matches!(refused, Err(InvalidArchive::Outside { .. })), "{text}: {refused:?}");
        }
        for bytes in [&b""[..], b"a\0b"] {
            assert!(matches!(EntryPath::parse(bytes), Err(InvalidArchive::Path { .. })));
        }
        for long in ["a/".repeat(2049), "x".repeat(256)] {
            assert_eq!(EntryPath::parse(long.as_bytes()), Err(InvalidArchive::TooLong));
        }
    }

    #[test]
    fn test_link_stays_inside_only_where_no_link_can_lead_out() {
        for (link, target) in [("l", "a"), ("l", "./a/b"), ("a/l", "../b"), ("a/b/l", "../../c"), ("a/l", "..")] {
            assert!(stays_inside(&path(link), target.as_bytes()), "{link} -> {target}");
        }
        for (link, target) in
            [("l", "/etc"), ("l", ".."), ("l", "a/../b"), ("a/l", "../.."), ("a/l", "../b/.."), ("l", "")]
        {
            assert!(!stays_inside(&path(link), target.as_bytes()), "{link} -> {target}");
        }
    }

    proptest! {
        #[test]
        fn test_entry_path_read_never_leads_out(bytes in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'a')], 0..12)) {
            if let Ok(path) = EntryPath::parse(&bytes) {
                prop_assert!(path.names().all(|name| name != b".." && name != b"." && !name.is_empty()));
                prop_assert!(!path.as_bytes().starts_with(b"/"));
            }
        }
    }
}
