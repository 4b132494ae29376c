//! Damage to qcow2 images.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Counts a cluster of an image as used that no table refers to (`docs/interop/qcow2.txt`).
#[track_caller]
pub fn leak_cluster(image: &Path) {
    leak(image).unwrap_or_else(|error| panic!("cannot change {}: {error}", image.display()));
}

fn leak(image: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(image)?;
    let number_at = |offset: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset)?;
        Ok::<u64, io::Error>(u64::from_be_bytes(bytes))
    };
    let block = number_at(number_at(48)?)?;
    file.write_all_at(&1_u16.to_be_bytes(), block + 2 * 100)?;
    file.set_len(101 << 16)
}
