//! What a guest sends in place of an archive, and the lines beside it.
//!
//! The first byte is the length of the pieces in which the rest is received; an odd one has the checksum of every block
//! corrected, which a fuzzer does not guess. Nothing panics, no path leads out of the tree, what was read is written alike,
//! and no more memory is taken than two paths.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::guest::archive::{
    ArchiveReader, ArchiveWriter, BLOCK_BYTES, Entry, EntryKind, EntryPath, MAX_PATH_BYTES, Part, stays_inside,
};
use maqet::domain::guest::copy::{CopyFilter, SourceFacts, parse_sum_line, sum_line};

/// The field with the checksum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if piece % 2 == 1 {
        bytes.chunks_exact_mut(BLOCK_BYTES).for_each(correct_checksum);
    }
    let mut reader = ArchiveReader::default();
    let mut left = 0;
    for mut piece in bytes.chunks(usize::from(*piece).max(1) * 8) {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(Part::Entry(entry))) => {
                    assert_eq!(left, 0, "an entry begins in the content of another");
                    left = if let EntryKind::File { size } = entry.kind { size } else { 0 };
                    check(&entry);
                }
                Ok(Some(Part::Data(data))) => {
                    assert!(!data.is_empty());
                    left = left.checked_sub(data.len() as u64).expect("more content than announced");
                }
                Ok(Some(Part::End)) => assert!(reader.has_ended()),
                Ok(Some(Part::Trailer(bytes))) => assert!(!bytes.is_empty()),
                Ok(None) => break,
                Err(invalid) => {
                    assert!(!invalid.to_string().is_empty());
                    return;
                }
            }
        }
        assert!(piece.is_empty() && reader.buffered() <= 8 * MAX_PATH_BYTES);
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = SourceFacts::parse(line);
        if let Ok(Some((path, digest))) = parse_sum_line(line) {
            check_path(&path);
            let line = sum_line(&path, digest);
            assert_eq!(parse_sum_line(&line[..line.len() - 1]), Ok(Some((path, digest))));
        }
    }
});

fn correct_checksum(block: &mut [u8]) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn check_path(path: &EntryPath) {
    assert!(path.names().all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0)));
    assert!(path.as_bytes().len() <= MAX_PATH_BYTES && !path.as_bytes().starts_with(b"/"));
}

fn check(entry: &Entry) {
    check_path(&entry.path);
    assert_eq!(entry.mode & !0o777, 0);
    let _ = CopyFilter::new(["*.o", "a/**/b"]).leaves_out(&entry.path);
    match &entry.kind {
        EntryKind::Symlink { target } if stays_inside(&entry.path, target) => {
            let parts: Vec<&[u8]> = target.split(|byte| *byte == b'/').collect();
            let ups = parts.iter().filter(|part| **part == b"..").count();
            assert!(ups < entry.path.names().count().max(1) && !target.starts_with(b"/"));
        }
        EntryKind::HardLink { target } => check_path(target),
        _ => {}
    }
    let is_simple = !entry.path.is_root() && !matches!(entry.kind, EntryKind::Special | EntryKind::Symlink { .. });
    let links_nowhere = matches!(&entry.kind, EntryKind::HardLink { target } if target.is_root());
    if is_simple && !links_nowhere && entry.modified >= 0 {
        let written = ArchiveWriter.header(entry.path.as_bytes(), entry);
        let part = ArchiveReader::default().next(&mut written.as_slice());
        assert_eq!(part, Ok(Some(Part::Entry(entry.clone()))));
    }
}
