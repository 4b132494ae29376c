//! Files in which blocks of zeros take no space.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The size of a block of most file systems.
const BLOCK_BYTES: usize = 4096;

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub(super) struct SparseFile {
    file: File,
    position: u64,
}

impl SparseFile {
    pub(super) const fn new(file: File) -> Self {
        Self { file, position: 0 }
    }

    /// Writes bytes; returns how many of them take space.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let mut written = 0;
        let mut unwritten: Option<(u64, usize)> = None;
        let mut at = 0;
        while at < bytes.len() {
            let position = self.position + at as u64;
            let in_block = usize::try_from(position % BLOCK_BYTES as u64).unwrap_or(0);
            let length = (BLOCK_BYTES - in_block).min(bytes.len() - at);
            let is_zero = bytes[at..at + length].iter().all(|byte| *byte == 0);
            match (&unwritten, is_zero) {
                (None, false) => unwritten = Some((position, at)),
                (Some((from, begin)), true) => {
                    self.file.write_all_at(&bytes[*begin..at], *from)?;
                    written += (at - begin) as u64;
                    unwritten = None;
                }
                (None, true) | (Some(_), false) => {}
            }
            at += length;
        }
        if let Some((from, begin)) = unwritten {
            self.file.write_all_at(&bytes[begin..], from)?;
            written += (bytes.len() - begin) as u64;
        }
        self.position += bytes.len() as u64;
        Ok(written)
    }

    /// Returns the file, with zeros at its end.
    pub(super) fn finish(self) -> io::Result<File> {
        self.file.set_len(self.position)?;
        Ok(self.file)
    }

    pub(super) const fn length(&self) -> u64 {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn write(path: &Path, pieces: &[Vec<u8>]) -> u64 {
        let mut file = SparseFile::new(File::create(path).unwrap());
        let written = pieces.iter().map(|piece| file.write(piece).unwrap()).sum();
        file.finish().unwrap();
        written
    }

    #[test]
    fn test_sparse_file_zeros_take_no_space() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let pieces = [vec![1; 5000], vec![0; 1 << 20], vec![0; 100]];

        let written = write(&path, &pieces);

        assert_eq!(std::fs::read(&path).unwrap(), pieces.concat());
        assert_eq!(written, 5000);
        assert!(path.metadata().unwrap().blocks() * 512 < 64 << 10);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn test_sparse_file_has_the_content(pieces in proptest::collection::vec((any::<bool>(), 0..9000_usize), 0..8)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|(is_zero, length)| vec![u8::from(!is_zero); length]).collect();

            write(&path, &pieces);

            prop_assert_eq!(std::fs::read(&path).unwrap(), pieces.concat());
        }
    }
}
