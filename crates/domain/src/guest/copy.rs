//! Copying between host and guest: what the guest runs, and what it says.
//!
//! A file goes as its bytes, a directory as an [archive](super::archive). What the guest receives is written under a
//! temporary name in the directory of the target, and gets its own name once everything has arrived: a stream that was cut
//! lacks its end.

mod digest;
mod filter;
mod script;

use std::fmt;
use std::str::FromStr;

pub use self::digest::{Digest, Sha256};
pub use self::filter::CopyFilter;
pub use self::script::{CopyFailure, GuestScript, GuestSource, GuestTarget};
use super::archive::{EntryPath, InvalidArchive};
use super::command::Nonce;

/// The directory of the tree in the archive that a guest receives.
pub const TREE: &str = "d";

/// The entry of that archive with the checksums.
pub const SUMS: &str = "sums";

/// The last entry of that archive, without which it is incomplete.
pub const LAST: &str = "end";

/// One side of a copy: `VM:PATH`, a path of the host, or `-`.
#[derive(Debug, Clone, PartialEq, Eq, serde_with::DeserializeFromStr, serde_with::SerializeDisplay)]
pub enum CopyPlace {
    /// A path in a guest; an empty one is the home directory.
    Guest {
        /// The VM: a name, an ID, or a unique prefix of an ID.
        vm: String,
        /// The path.
        path: String,
    },
    /// A path of the host.
    Host(String),
    /// Standard input or output.
    Stream,
}

/// A text that is not a side of a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidCopyPlace {
    #[error("the path is empty")]
    Empty,
    #[error("the path `{}` has a NUL character", path.escape_debug())]
    Nul { path: String },
    #[error("`{}` has no name of a VM before the colon", path.escape_debug())]
    NoVm { path: String },
}

impl FromStr for CopyPlace {
    type Err = InvalidCopyPlace;

    /// What is before the first colon is a VM, unless it has a slash: `./a:b` is a file.
    fn from_str(text: &str) -> Result<Self, InvalidCopyPlace> {
        if text.is_empty() {
            return Err(InvalidCopyPlace::Empty);
        }
        if text.contains('\0') {
            return Err(InvalidCopyPlace::Nul { path: text.to_owned() });
        }
        Ok(match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some(("", _)) => return Err(InvalidCopyPlace::NoVm { path: text.to_owned() }),
            Some((vm, path)) if !vm.contains('/') => Self::Guest { vm: vm.to_owned(), path: path.to_owned() },
            Some(_) | None => Self::Host(text.to_owned()),
        })
    }
}

impl fmt::Display for CopyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest { vm, path } => write!(f, "{vm}:{path}"),
            Self::Host(path) => f.write_str(path),
            Self::Stream => f.write_str("-"),
        }
    }
}

/// Returns the name under which a path is copied into a directory; `None` for one whose content is copied, as with `dir/.`.
pub fn copied_name(path: &str) -> Option<&str> {
    let trimmed = path.trim_end_matches('/');
    let name = trimmed.rsplit('/').next().unwrap_or_default();
    (!matches!(name, "" | "." | "..")).then_some(name)
}

/// What a copy reads, as its first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFacts {
    /// A file.
    File {
        /// The size, where it is known: files in `/proc` say 0.
        size: Option<u64>,
        /// The permissions.
        mode: u32,
        /// When it was last modified, in seconds since 1970.
        modified: i64,
        /// The checksum, if it was requested.
        digest: Option<Digest>,
    },
    /// A directory.
    Directory,
}

/// The longest first line.
pub const MAX_FIRST_LINE_BYTES: usize = 256;

impl SourceFacts {
    /// Reads the line, without its end, with which the output of [`GuestSource::script`] begins.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        match (words.next()?, words.next()) {
            ("directory", None) => Some(Self::Directory),
            ("file", Some(size)) => {
                let size = if size == "-" { None } else { Some(size.parse().ok()?) };
                let mode = u32::from_str_radix(words.next()?, 8).ok()? & 0o777;
                let modified = words.next()?.parse().ok()?;
                let digest = match words.next()? {
                    "-" => None,
                    text => Some(text.parse().ok()?),
                };
                words.next().is_none().then_some(())?;
                let size = size.filter(|size| *size > 0);
                Some(Self::File { size, mode, modified, digest })
            }
            _ => None,
        }
    }
}

/// Returns what follows the bytes of a file that a guest receives; without it, the file is incomplete.
pub fn file_end(id: &Nonce, size: u64, digest: Option<Digest>) -> Vec<u8> {
    let digest = digest.map_or_else(|| "-".repeat(64), |digest| digest.to_string());
    format!("{id} {size:020} {digest}\n").into_bytes()
}

/// Returns the line of a file in the list that `sha256sum -c` reads.
pub fn sum_line(path: &EntryPath, digest: Digest) -> Vec<u8> {
    let mut name = Vec::new();
    for byte in path.as_bytes() {
        match byte {
            b'\n' => name.extend_from_slice(b"\\n"),
            b'\r' => name.extend_from_slice(b"\\r"),
            b'\\' => name.extend_from_slice(b"\\\\"),
            _ => name.push(*byte),
        }
    }
    let mark: &[u8] = if name.len() == path.as_bytes().len() { b"" } else { b"\\" };
    [mark, digest.to_string().as_bytes(), b"  ./", &name, b"\n"].concat()
}

/// Reads a line of such a list, without its end.
///
/// Errors: those of the path, which a hostile guest may have written.
pub fn parse_sum_line(line: &[u8]) -> Result<Option<(EntryPath, Digest)>, InvalidArchive> {
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let Some((digest, name)) = line.split_at_checked(64) else { return Ok(None) };
    let digest = std::str::from_utf8(digest).ok().and_then(|digest| digest.parse().ok());
    let Some((digest, name)) = digest.zip(name.strip_prefix(b"  ")) else { return Ok(None) };
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' if is_escaped => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => b'\\',
            },
            byte => *byte,
        });
    }
    Ok(Some((EntryPath::parse(&path)?, digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_copy_place_is_read_as_by_scp() {
        let guest = |vm: &str, path: &str| CopyPlace::Guest { vm: vm.to_owned(), path: path.to_owned() };
        for (text, place) in [
            ("web:/etc/motd", guest("web", "/etc/motd")),
            ("web:", guest("web", "")),
            ("web:a:b", guest("web", "a:b")),
            ("./a:b", CopyPlace::Host("./a:b".to_owned())),
            ("/srv/x", CopyPlace::Host("/srv/x".to_owned())),
            ("-", CopyPlace::Stream),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
            assert_eq!(text.parse::<CopyPlace>().unwrap().to_string(), text);
        }
        assert_eq!("".parse::<CopyPlace>(), Err(InvalidCopyPlace::Empty));
        assert!(matches!("a\0b".parse::<CopyPlace>(), Err(InvalidCopyPlace::Nul { .. })));
        assert!(matches!(":/etc".parse::<CopyPlace>(), Err(InvalidCopyPlace::NoVm { .. })));
    }

    #[test]
    fn test_copied_name_is_the_last_one() {
        for (path, name) in [("/etc/motd", "motd"), ("a", "a"), ("a/b///", "b"), ("a/..b", "..b")] {
            assert_eq!(copied_name(path), Some(name), "{path}");
        }
        for path in ["", "/", ".", "..", "a/.", "a/../", "./"] {
            assert_eq!(copied_name(path), None, "{path}");
        }
    }

    #[test]
    fn test_source_facts_of_hostile_lines_are_none() {
        let digest = "ab".repeat(32);
        let file = SourceFacts::parse(format!("file 12 4755 1700000000 {digest}").as_bytes());
        let SourceFacts::File { size, mode, modified, digest } = file.unwrap() else { panic!() };

        assert_eq!((size, mode, modified), (Some(12), 0o755, 1_700_000_000));
        assert_eq!(digest.unwrap().to_string(), "ab".repeat(32));
        assert_eq!(SourceFacts::parse(b"directory"), Some(SourceFacts::Directory));
        for line in
            [&b""[..], b"directory x", b"file", b"file -1 644 0 -", b"file 1 999 0 -", b"file 1 644 0 - x", b"\xff"]
        {
            assert_eq!(SourceFacts::parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn test_sum_line_is_read_as_written() {
        let digest = Sha256::of(b"content");
        for name in ["a/b", "new\nline", "back\\slash", "\\n"] {
            let path = EntryPath::parse(name.as_bytes()).unwrap();

            let line = sum_line(&path, digest);

            assert_eq!(line.split(|byte| *byte == b'\n').count(), 2, "{name:?}");
            assert_eq!(parse_sum_line(&line[..line.len() - 1]), Ok(Some((path, digest))), "{name:?}");
        }
        assert_eq!(parse_sum_line(b"short"), Ok(None));
        let hostile = format!("{digest}  ../../etc/passwd");
        assert!(matches!(parse_sum_line(hostile.as_bytes()), Err(InvalidArchive::Outside { .. })));
    }
}
