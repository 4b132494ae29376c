//! Writes the headers of an archive.

use super::header::{
    Block, CHECKSUM, GID, GNU_MAGIC, KIND, LINK, MAGIC, MODE, MODIFIED, NAME, SIZE, UID, checksum, set_number,
};
use super::{BLOCK_BYTES, Entry, EntryKind};

/// The name of GNU's entries that hold a long path.
const LONG_NAME: &[u8] = b"././@LongLink";

/// Writes the headers of an archive, whose entries belong to root.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveWriter;

impl ArchiveWriter {
    /// Returns the header of an entry; after that of a file, its content and its [`padding`] follow.
    ///
    /// `path` is how the archive names it.
    pub fn header(self, path: &[u8], entry: &Entry) -> Vec<u8> {
        let (kind, size, link): (u8, u64, &[u8]) = match &entry.kind {
            EntryKind::File { size } => (b'0', *size, b""),
            EntryKind::Directory => (b'5', 0, b""),
            EntryKind::Symlink { target } => (b'2', 0, target),
            EntryKind::HardLink { target } => (b'1', 0, target.as_bytes()),
            EntryKind::Special => (b'6', 0, b""),
        };
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        for (field, value, long) in [(LINK, link, b'K'), (NAME, path, b'L')] {
            if value.len() > field.len() {
                let size = value.len() as u64 + 1;
                bytes.extend(block(LONG_NAME, b"", long, size, 0o644, 0));
                bytes.extend_from_slice(value);
                bytes.push(0);
                bytes.resize(bytes.len() + padding(size), 0);
            }
        }
        // What is not known of the time is not worth a failure.
        let modified = u64::try_from(entry.modified).unwrap_or(0);
        bytes.extend(block(path, link, kind, size, entry.mode, modified));
        bytes
    }

    /// Returns the end of an archive.
    pub fn end(self) -> Vec<u8> {
        vec![0; 2 * BLOCK_BYTES]
    }
}

/// Returns how many zeros follow a content of so many bytes.
pub fn padding(size: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    usize::try_from((block - size % block) % block).unwrap_or(0)
}

fn block(path: &[u8], link: &[u8], kind: u8, size: u64, mode: u32, modified: u64) -> Block {
    let mut block = [0; BLOCK_BYTES];
    for (field, value) in [(NAME, path), (LINK, link)] {
        let length = value.len().min(field.len());
        block[field][..length].copy_from_slice(&value[..length]);
    }
    for (field, value) in [(MODE, u64::from(mode)), (UID, 0), (GID, 0), (SIZE, size), (MODIFIED, modified)] {
        set_number(&mut block[field], value);
    }
    block[KIND] = kind;
    block[MAGIC].copy_from_slice(GNU_MAGIC);
    let sum = checksum(&block);
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
