//! Finds qcow2 images whose end is missing, such as after a copy that was interrupted.
//!
//! QEMU opens such an image, and the guest reads zeros where its data was. Reading all tables of a large image takes long,
//! so the reference counts decide first whether something can be missing.

use std::io;

use maqet_domain::storage::qcow2::Qcow2Header;

use super::examine::OpenImage;
use crate::limits::{MAX_FIRST_TABLE_BYTES, MAX_REFCOUNT_TABLE_BYTES, MAX_SECOND_TABLES};

/// Returns the end of the content if the file of `length` bytes ends before it.
///
/// What lies behind the end of the file and is only counted as used is not missing: QEMU counts a cluster before it
/// writes it, and may be killed in between.
pub(super) fn missing_end(image: &OpenImage, header: &Qcow2Header, length: u64) -> io::Result<Option<u64>> {
    let (l1_offset, l1_bytes) = header.l1_table();
    let (counts_offset, counts_bytes) = header.refcount_table();
    let cluster = header.cluster_bytes();
    for (offset, bytes) in [(l1_offset, l1_bytes), (counts_offset, counts_bytes)] {
        if bytes > 0 && offset >= length {
            return Ok(Some(offset.saturating_add(bytes)));
        }
    }
    let l1 = image.read(l1_offset, bounded(l1_bytes, MAX_FIRST_TABLE_BYTES))?;
    let last_table = Qcow2Header::l2_tables(&l1).max().unwrap_or_default();
    let last_data = if may_end_early(image, header, length)? { last_data(image, header, &l1)? } else { 0 };
    let last = last_table.max(last_data);
    Ok((last >= length && last > 0).then(|| last.saturating_add(cluster)))
}

/// Returns whether a cluster behind the end of the file is counted as used.
fn may_end_early(image: &OpenImage, header: &Qcow2Header, length: u64) -> io::Result<bool> {
    let (offset, bytes) = header.refcount_table();
    let table = image.read(offset, bounded(bytes, MAX_REFCOUNT_TABLE_BYTES))?;
    let Some((index, block)) = Qcow2Header::last_refcount_block(&table) else { return Ok(false) };
    if block >= length {
        return Ok(true);
    }
    let block = image.read(block, bounded(header.cluster_bytes(), MAX_REFCOUNT_TABLE_BYTES))?;
    Ok(header.last_cluster_in_use(index, &block).is_some_and(|last| last >= length))
}

/// Returns the offset of the last cluster with data.
fn last_data(image: &OpenImage, header: &Qcow2Header, l1: &[u8]) -> io::Result<u64> {
    let mut last = 0;
    for table in Qcow2Header::l2_tables(l1).take(MAX_SECOND_TABLES) {
        let table = image.read(table, bounded(header.cluster_bytes(), MAX_REFCOUNT_TABLE_BYTES))?;
        last = header.data_clusters(&table).fold(last, u64::max);
    }
    Ok(last)
}

fn bounded(bytes: u64, limit: usize) -> usize {
    usize::try_from(bytes).unwrap_or(limit).min(limit)
}
