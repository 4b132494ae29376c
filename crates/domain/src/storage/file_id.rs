//! Which file an image is, whatever its path.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Identifies a file of the host, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device of its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// Identifies a file or a block device on each host that has it: the numbers of devices differ between hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedFileId {
    /// A file.
    File {
        /// Its number in its file system, which all hosts see that have the file system.
        inode: u64,
        /// When it was created; NFS does not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        born_at: Option<Timestamp>,
    },
    /// A block device, by what its hardware, or the volume manager, calls it.
    Device(String),
}

impl SharedFileId {
    /// Returns whether this may be what another host saw as `other`.
    ///
    /// Where one of them does not see when a file was created, its number decides.
    pub fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { inode, born_at }, Self::File { inode: other, born_at: other_born_at }) => {
                let is_as_old = born_at.is_none() || other_born_at.is_none() || born_at == other_born_at;
                inode == other && is_as_old
            }
            (Self::Device(id), Self::Device(other)) => id == other,
            (Self::File { .. }, Self::Device(_)) | (Self::Device(_), Self::File { .. }) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_shared_file_id_is_compared_by_number_and_birth() {
        let file = |inode, second: Option<i64>| SharedFileId::File {
            inode,
            born_at: second.map(|second| Timestamp::from_second(second).unwrap()),
        };
        let device = |id: &str| SharedFileId::Device(id.to_owned());

        assert!(file(7, Some(1)).may_be(&file(7, Some(1))));
        // The server of an NFS share sees what its clients do not.
        assert!(file(7, Some(1)).may_be(&file(7, None)) && file(7, None).may_be(&file(7, Some(2))));
        assert!(!file(7, None).may_be(&file(8, None)));
        // Two hosts that were set up alike.
        assert!(!file(7, Some(1)).may_be(&file(7, Some(2))));
        assert!(device("naa.5").may_be(&device("naa.5")) && !device("naa.5").may_be(&device("naa.6")));
        assert!(!device("7").may_be(&file(7, None)) && !file(7, None).may_be(&device("7")));
    }
}
