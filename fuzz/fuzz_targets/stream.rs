//! The migration stream of QEMU, of which maqet takes the memory out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::checkpoint::{PAGE_BYTES, Piece, StreamError, StreamFacts, StreamReader};

/// What comes out of a stream: how many bytes stay, and the pages of the memory, each with whether it has content.
type Taken = (usize, Vec<(u64, bool)>, StreamFacts);

/// Takes a stream apart that comes in chunks.
fn take_apart(bytes: &[u8], chunk: usize) -> Result<Taken, StreamError> {
    let mut reader = StreamReader::new("pc.ram");
    let (mut rest, mut pages) = (0, Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match reader.take(&bytes[start..end])? {
            Some((piece, length)) => {
                assert!(length > 0);
                start += length;
                match piece {
                    Piece::State(kept) => {
                        assert_eq!(kept.len(), length);
                        rest += length;
                    }
                    Piece::Page { offset, content } => {
                        assert_eq!(content.len(), PAGE_BYTES);
                        pages.push((offset, true));
                    }
                    Piece::ZeroPage { offset } => pages.push((offset, false)),
                }
            }
            None if end == bytes.len() => {
                // An incomplete piece.
                if start != end {
                    assert!(end - start < PAGE_BYTES + 1024);
                }
                return Ok((rest, pages, reader.finish()?));
            }
            None => end = bytes.len().min(end + chunk),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = take_apart(bytes, usize::MAX);
    let chunk = bytes.first().map_or(1, |first| usize::from(*first) + 1);
    assert_eq!(whole, take_apart(bytes, chunk));

    if let Ok((rest, mut pages, facts)) = whole {
        // Every page of the memory is there, none is outside, and nothing else was taken out.
        let content = pages.iter().filter(|(_, has_content)| *has_content).count() * PAGE_BYTES;
        assert!(rest + content < bytes.len());
        pages.sort_unstable();
        pages.dedup_by_key(|(offset, _)| *offset);
        assert_eq!(pages.len() as u64 * PAGE_BYTES as u64, facts.memory.bytes);
        assert!(pages.iter().all(|(offset, _)| offset % PAGE_BYTES as u64 == 0 && *offset < facts.memory.bytes));
        // A part of it is not complete.
        assert!(take_apart(&bytes[..bytes.len() - 1], usize::MAX).is_err());
    }
});
