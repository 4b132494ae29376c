//! Reads an archive that comes in pieces.

use std::mem;

use super::header::{
    Block, CHECKSUM, KIND, LINK, MAGIC, MODE, MODIFIED, NAME, POSIX_MAGIC, PREFIX, SIZE, checksum, number, text,
};
use super::path::MAX_PATH_BYTES;
use super::writer::padding;
use super::{BLOCK_BYTES, Entry, EntryKind, EntryPath, InvalidArchive};

/// The largest extended header: two paths and what else pax may say.
const MAX_EXTENDED_BYTES: u64 = 4 * MAX_PATH_BYTES as u64;

/// A part of an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// An entry begins.
    Entry(Entry),
    /// Content of the file that began last.
    Data(&'a [u8]),
    /// The archive has ended.
    End,
    /// What follows the archive, without the zeros in between.
    Trailer(&'a [u8]),
}

/// Reads an archive; the memory that it takes is bounded.
#[derive(Debug, Default)]
pub struct ArchiveReader {
    state: State,
    /// What the next entry has instead of what its header says.
    extended: Extended,
}

#[derive(Debug)]
enum State {
    /// A header, of which so much is there; whether the block before was the first of the end.
    Header(Vec<u8>, bool),
    /// Content of a file.
    Data {
        left: u64,
        size: u64,
    },
    /// Bytes that are not used.
    Skip {
        left: u64,
    },
    /// An extended header.
    Extended {
        kind: u8,
        size: u64,
        data: Vec<u8>,
    },
    /// Zeros after the end.
    Ended,
    Trailer,
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Vec::new(), false)
    }
}

#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

impl ArchiveReader {
    /// Returns the next part, and takes it from `input`; `None` once that is empty.
    ///
    /// After an error, the reader is of no use.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, InvalidArchive> {
        loop {
            if let State::Data { left: 0, size } = self.state {
                self.state = State::Skip { left: padding(size) as u64 };
            }
            if let State::Skip { left: 0 } = self.state {
                self.state = State::default();
            }
            if let State::Extended { kind, size, data } = &mut self.state
                && data.len() as u64 == *size
            {
                let (kind, size, data) = (*kind, *size, mem::take(data));
                self.extended.add(kind, &data)?;
                self.state = State::Skip { left: padding(size) as u64 };
                continue;
            }
            if input.is_empty() {
                return Ok(None);
            }
            match &mut self.state {
                State::Header(block, _) => {
                    let part = take(input, (BLOCK_BYTES - block.len()) as u64);
                    block.extend_from_slice(part);
                    if let Ok(block) = Block::try_from(block.as_slice())
                        && let Some(part) = self.header(&block)?
                    {
                        return Ok(Some(part));
                    }
                }
                State::Data { left, .. } => {
                    let part = take(input, *left);
                    *left -= part.len() as u64;
                    return Ok(Some(Part::Data(part)));
                }
                State::Skip { left } => *left -= take(input, *left).len() as u64,
                State::Extended { size, data, .. } => {
                    let part = take(input, *size - data.len() as u64);
                    data.extend_from_slice(part);
                }
                State::Ended => match input.iter().position(|byte| *byte != 0) {
                    Some(at) => {
                        *input = &input[at..];
                        self.state = State::Trailer;
                    }
                    None => *input = &[],
                },
                State::Trailer => return Ok(Some(Part::Trailer(mem::take(input)))),
            }
        }
    }

    /// Returns whether the archive has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended | State::Trailer)
    }

    /// Returns how many bytes it holds in memory.
    pub fn buffered(&self) -> usize {
        let of = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::len);
        let state = match &self.state {
            State::Header(bytes, _) | State::Extended { data: bytes, .. } => bytes.len(),
            State::Data { .. } | State::Skip { .. } | State::Ended | State::Trailer => 0,
        };
        state + of(&self.extended.path) + of(&self.extended.link)
    }

    /// Takes a header; returns the entry that begins with it, or the end.
    fn header(&mut self, block: &Block) -> Result<Option<Part<'static>>, InvalidArchive> {
        let State::Header(_, was_zero) = mem::take(&mut self.state) else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            if !was_zero {
                self.state = State::Header(Vec::new(), true);
                return Ok(None);
            }
            self.state = State::Ended;
            return Ok(Some(Part::End));
        }
        if number(&block[CHECKSUM]) != Some(u64::from(checksum(block))) {
            return Err(InvalidArchive::Header);
        }
        let kind = block[KIND];
        let size = number(&block[SIZE]).ok_or(InvalidArchive::Header)?;
        if b"LKxg".contains(&kind) {
            if size > MAX_EXTENDED_BYTES {
                return Err(InvalidArchive::TooLong);
            }
            self.state = State::Extended { kind, size, data: Vec::new() };
            return Ok(None);
        }
        let extended = mem::take(&mut self.extended);
        let size = extended.size.unwrap_or(size);
        let name = extended.path.unwrap_or_else(|| name(block));
        let link = extended.link.unwrap_or_else(|| text(&block[LINK]).to_vec());
        let path = EntryPath::parse(&name)?;
        let kind = match kind {
            b'0' | b'7' | 0 if name.ends_with(b"/") => EntryKind::Directory,
            b'0' | b'7' | 0 => EntryKind::File { size },
            b'1' if size == 0 => EntryKind::HardLink { target: EntryPath::parse(&link)? },
            b'2' => EntryKind::Symlink { target: link },
            b'3' | b'4' | b'6' => EntryKind::Special,
            b'5' => EntryKind::Directory,
            kind => return Err(InvalidArchive::Kind { kind }),
        };
        if let EntryKind::File { size } = kind {
            self.state = State::Data { left: size, size };
        }
        let mode = number(&block[MODE]).map_or(0, |mode| u32::try_from(mode & 0o777).unwrap_or(0));
        let modified = number(&block[MODIFIED]).and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
        Ok(Some(Part::Entry(Entry { path, kind, mode, modified: extended.modified.unwrap_or(modified) })))
    }
}

/// Takes at most `most` bytes.
fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (part, rest) = input.split_at(length);
    *input = rest;
    part
}

fn name(block: &Block) -> Vec<u8> {
    let (name, prefix) = (text(&block[NAME]), text(&block[PREFIX]));
    if block[MAGIC].starts_with(POSIX_MAGIC) && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

impl Extended {
    /// Adds what an extended header says.
    fn add(&mut self, kind: u8, data: &[u8]) -> Result<(), InvalidArchive> {
        match kind {
            b'L' => self.path = Some(text(data).to_vec()),
            b'K' => self.link = Some(text(data).to_vec()),
            b'x' => {
                let mut data = data;
                while !data.is_empty() {
                    let (key, value) = record(&mut data).ok_or(InvalidArchive::Header)?;
                    self.set(key, value)?;
                }
            }
            // What holds for all entries is nothing that is read.
            _ => {}
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), InvalidArchive> {
        let digits = || std::str::from_utf8(value).ok();
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let size =
                    digits().and_then(|text| text.parse().ok()).filter(|size| *size <= super::header::MAX_NUMBER);
                self.size = Some(size.ok_or(InvalidArchive::Header)?);
            }
            b"mtime" => self.modified = digits().and_then(|text| text.split('.').next()?.parse().ok()),
            // The content of such a file is not what follows.
            _ if key.starts_with(b"GNU.sparse.") => return Err(InvalidArchive::Kind { kind: b'S' }),
            _ => {}
        }
        Ok(())
    }
}

/// Takes a record of a pax header: its length, a space, `KEY=VALUE` and the end of the line.
fn record<'a>(data: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let space = data.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    *data = &data[length..];
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::archive::ArchiveWriter;

    /// Entries with their content, and what follows the end.
    type Content = (Vec<(Entry, Vec<u8>)>, Vec<u8>);

    /// Reads `bytes` in pieces.
    fn read(bytes: &[u8], piece: usize) -> Result<Content, InvalidArchive> {
        let (mut reader, mut entries, mut trailer) = (ArchiveReader::default(), Vec::new(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while let Some(part) = reader.next(&mut piece)? {
                match part {
                    Part::Entry(entry) => entries.push((entry, Vec::new())),
                    Part::Data(data) => entries.last_mut().unwrap().1.extend_from_slice(data),
                    Part::End => {}
                    Part::Trailer(bytes) => trailer.extend_from_slice(bytes),
                }
            }
        }
        if reader.has_ended() { Ok((entries, trailer)) } else { Err(InvalidArchive::Incomplete) }
    }

    fn written(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (entry, content) in entries {
            bytes.extend(ArchiveWriter.header(entry.path.as_bytes(), entry));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + padding(content.len() as u64), 0);
        }
        bytes.extend(ArchiveWriter.end());
        bytes
    }

    fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
        let kind = EntryKind::File { size: content.len() as u64 };
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        (Entry { path, kind, mode: 0o644, modified: 1_700_000_000 }, content.to_vec())
    }

    fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let path = proptest::collection::vec("[a-zé ]{1,120}", 1..5).prop_map(|names| names.join("/"));
        let content = proptest::collection::vec(any::<u8>(), 0..2000);
        (path, content, 0..4_u8, 0..0o1000_u32, any::<u32>(), "[a-z./]{1,300}").prop_map(
            |(path, content, kind, mode, modified, target)| {
                let path = EntryPath::parse(path.as_bytes()).unwrap();
                let (kind, content) = match kind {
                    0 => (EntryKind::Directory, Vec::new()),
                    1 => (EntryKind::Symlink { target: target.into_bytes() }, Vec::new()),
                    2 => (EntryKind::HardLink { target: path.clone() }, Vec::new()),
                    _ => (EntryKind::File { size: content.len() as u64 }, content),
                };
                (Entry { path, kind, mode, modified: modified.into() }, content)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn test_archive_is_read_as_written(
            entries in proptest::collection::vec(entry(), 0..6), piece in 1..3000_usize, trailer in "[a-z]{0,20}"
        ) {
            let mut bytes = written(&entries);
            bytes.extend_from_slice(&[0; 300]);
            bytes.extend_from_slice(trailer.as_bytes());

            prop_assert_eq!(read(&bytes, piece).unwrap(), (entries, trailer.into_bytes()));
        }

        #[test]
        fn test_archive_cut_anywhere_is_incomplete(content in proptest::collection::vec(any::<u8>(), 0..900), at in any::<prop::sample::Index>()) {
            let bytes = written(&[file("a", &content)]);

            prop_assert_eq!(read(&bytes[..at.index(bytes.len() - 1)], 512), Err(InvalidArchive::Incomplete));
        }

        #[test]
        fn test_archive_of_any_bytes_takes_no_memory(bytes in proptest::collection::vec(any::<u8>(), 0..4000), piece in 1..2000_usize) {
            let mut reader = ArchiveReader::default();
            for mut piece in bytes.chunks(piece) {
                while let Ok(Some(_)) = reader.next(&mut piece) {}
                prop_assert!(reader.buffered() <= 40_000);
            }
        }
    }

    /// Replaces a field of the first header, and corrects the checksum.
    fn forged(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
        bytes[at..at + value.len()].copy_from_slice(value);
        let sum = checksum(&Block::try_from(&bytes[..BLOCK_BYTES]).unwrap());
        bytes[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    }

    #[test]
    fn test_archive_hostile_headers_are_refused() {
        let archive = || written(&[file("aaaaaaaaaaaa", b"x")]);
        let error = |at, value: &[u8]| read(&forged(archive(), at, value), 512).unwrap_err();

        assert!(matches!(error(0, b"../etc/x"), InvalidArchive::Outside { .. }));
        assert!(matches!(error(0, b"/etc/x\0"), InvalidArchive::Outside { .. }));
        assert!(matches!(error(0, b"a/../../x"), InvalidArchive::Outside { .. }));
        assert_eq!(error(KIND, b"S"), InvalidArchive::Kind { kind: b'S' });
        assert_eq!(error(SIZE.start, &[0xff; 12]), InvalidArchive::Header);
        assert!(matches!(error(KIND, b"1"), InvalidArchive::Kind { kind: b'1' }));
        let mut damaged = archive();
        damaged[3] ^= 1;
        assert_eq!(read(&damaged, 512), Err(InvalidArchive::Header));
    }

    #[test]
    fn test_archive_set_user_id_and_devices_are_only_named() {
        let set_user_id = forged(written(&[file("a", b"x")]), MODE.start, b"0006755\0");
        let device = forged(written(&[file("null", b"")]), KIND, b"3");

        assert_eq!(read(&set_user_id, 512).unwrap().0[0].0.mode, 0o755);
        assert_eq!(read(&device, 512).unwrap().0[0].0.kind, EntryKind::Special);
    }

    fn extended(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut header = written(&[file("x", data)]);
        header = forged(header, KIND, &[kind]);
        header.truncate(BLOCK_BYTES + data.len() + padding(data.len() as u64));
        header
    }

    #[test]
    fn test_archive_pax_header_has_precedence() {
        let long = "d/".repeat(150) + "name";
        let record = |key: &str, value: &str| {
            let length = key.len() + value.len() + 3;
            let length = length + (length + 3).to_string().len();
            format!("{length} {key}={value}\n")
        };
        let data = record("path", &long) + &record("mtime", "1234567890.5") + &record("comment", "none");
        let bytes = [extended(b'x', data.as_bytes()), written(&[file("short", b"hi")])].concat();

        let (entries, _) = read(&bytes, 100).unwrap();

        assert_eq!((entries[0].0.path.to_string(), entries[0].0.modified), (long, 1_234_567_890));
        assert_eq!(entries[0].1, b"hi");
    }

    #[test]
    fn test_archive_hostile_extended_headers_are_refused() {
        let error = |kind, data: &[u8]| {
            read(&[extended(kind, data), written(&[file("short", b"hi")])].concat(), 512).unwrap_err()
        };

        assert!(matches!(error(b'L', b"../../etc/passwd"), InvalidArchive::Outside { .. }));
        assert!(matches!(error(b'x', b"18 path=/etc/passw\n"), InvalidArchive::Header));
        assert!(matches!(error(b'x', b"20 path=/etc/passwd\n"), InvalidArchive::Outside { .. }));
        assert_eq!(error(b'x', b"99999999 path=x\n"), InvalidArchive::Header);
        assert_eq!(error(b'x', b"22 GNU.sparse.major=1\n"), InvalidArchive::Kind { kind: b'S' });
        assert_eq!(error(b'L', &vec![b'a'; 20_000]), InvalidArchive::TooLong);
        assert_eq!(error(b'L', &vec![b'a'; 5000]), InvalidArchive::TooLong);
    }
}
