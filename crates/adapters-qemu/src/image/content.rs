//! Reads the content of small images without `qemu-img`.

use std::io;

use maqet_domain::port::{ImageError, ImageUse};
use maqet_domain::storage::qcow2::{ClusterContent, HeaderError, Qcow2Header};

use super::examine::{self, OpenImage};
use super::tool::io_error;
use crate::limits::MAX_FIRST_TABLE_BYTES;

/// Returns up to `bytes` bytes from the start of what the guest sees; `None` if they are not simply in the file.
pub(super) fn start(image: &ImageUse, bytes: usize) -> Result<Option<Vec<u8>>, ImageError> {
    let image = examine::open_image(image)?;
    read_start(&image, bytes).map_err(|error| io_error("read", &image.path, error))
}

fn read_start(image: &OpenImage, bytes: usize) -> io::Result<Option<Vec<u8>>> {
    match image.header()? {
        Err(HeaderError::NotQcow2) => image.read(0, bytes).map(Some),
        Err(_) => Ok(None),
        Ok(header) => qcow2_start(image, &header, bytes),
    }
}

fn qcow2_start(image: &OpenImage, header: &Qcow2Header, bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let (l1_offset, l1_bytes) = header.l1_table();
    let l1 = image.read(l1_offset, usize::try_from(l1_bytes).unwrap_or(usize::MAX).min(MAX_FIRST_TABLE_BYTES))?;
    let cluster = usize::try_from(header.cluster_bytes()).unwrap_or(usize::MAX);
    let size = usize::try_from(header.virtual_size.bytes()).unwrap_or(usize::MAX).min(bytes);
    let mut content = Vec::with_capacity(size);
    'tables: for l1_entry in l1.chunks_exact(8) {
        let l2 = match Qcow2Header::l2_tables(l1_entry).next() {
            Some(l2) => image.read(l2, cluster)?,
            None => vec![0; cluster],
        };
        for entry in l2.chunks_exact(8) {
            if content.len() >= size {
                break 'tables;
            }
            let entry = entry.try_into().map_or(0, u64::from_be_bytes);
            match header.cluster(entry) {
                Some(ClusterContent::At(offset)) => content.extend(image.read(offset, cluster)?),
                Some(ClusterContent::Absent) if header.backing.is_some() => return Ok(None),
                Some(ClusterContent::Zeros | ClusterContent::Absent) => content.resize(content.len() + cluster, 0),
                None => return Ok(None),
            }
        }
    }
    content.truncate(size);
    Ok(Some(content))
}
