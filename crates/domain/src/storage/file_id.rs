//! Which file an image is, whatever its path.

use serde::{Deserialize, Serialize};

/// Identifies a file of the host, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device of its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}
