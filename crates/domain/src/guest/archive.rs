//! Archives as tar(1) writes and reads them: a tree of files as a stream of bytes.
//!
//! What maqet [writes](ArchiveWriter) are ustar headers with the GNU extensions for long names and large files, which GNU
//! tar, busybox and libarchive read. The [reader](ArchiveReader) also knows pax headers. It trusts nothing: a guest may
//! send anything, and an entry is passed on only if its path stays inside the tree.

mod header;
mod path;
mod reader;
mod writer;

pub use self::path::{EntryPath, MAX_PATH_BYTES, stays_inside};
pub use self::reader::{ArchiveReader, Part};
pub use self::writer::{ArchiveWriter, padding};

/// The size of a header, to a multiple of which content is filled up.
pub const BLOCK_BYTES: usize = 512;

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the tree.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// The permissions of owner, group and others; other bits are left out.
    pub mode: u32,
    /// When it was last modified, in seconds since 1970.
    pub modified: i64,
}

/// What an entry of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file; so many bytes follow.
    File {
        /// The size.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it names.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// The file.
        target: EntryPath,
    },
    /// A device or a FIFO.
    Special,
}

/// Why bytes are not an archive that is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidArchive {
    #[error("a header of the archive is damaged")]
    Header,
    #[error("entry `{}` leads out of the directory", path.escape_debug())]
    Outside { path: String },
    #[error("a path of the archive is invalid: `{}`", path.escape_debug())]
    Path { path: String },
    #[error("a path of the archive is too long")]
    TooLong,
    #[error("the archive has an entry of the unknown type `{}`", char::from(*kind).escape_debug())]
    Kind { kind: u8 },
    #[error("the archive ended early")]
    Incomplete,
}
