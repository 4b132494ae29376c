//! The guest's RAM in a file or a directory: one that does not exist, or that is to have huge pages and has none.
//!
//! QEMU says nothing: it creates a regular file of that name, which is empty and of the size of the RAM, or takes ordinary
//! memory.

use std::path::{Path, PathBuf};

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{FileAccess, Machine, WrittenAs, WrittenFile};
use maqet_domain::port::{PathKind, PathObstacle};
use maqet_domain::text::quote;

use super::disk_error::DiskError;
use super::preflight::Preflight;
use crate::Error;

/// Why the guest's RAM is not put at a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryRefusal {
    /// Nothing is there.
    #[error("`{}`, which is to hold the guest's RAM, does not exist", path.display())]
    NotFound {
        /// Its path.
        path: PathBuf,
    },
    /// It is named for huge pages, and has none.
    #[error("`{}`, which is to hold the guest's RAM, is not in a mount of huge pages", path.display())]
    NoHugePages {
        /// Its path.
        path: PathBuf,
    },
}

impl MemoryRefusal {
    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::NotFound { path } | Self::NoHugePages { path } => path,
        }
    }
}

impl Explain for MemoryRefusal {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { path } => {
                let quoted = quote(&path.to_string_lossy());
                Explanation::new("qemu.file-not-found", Fault::NotFound)
                    .hint(format!(
                        "for huge pages, mount them: `sudo mkdir -p {quoted} && sudo mount -t hugetlbfs none {quoted}`"
                    ))
                    .hint(format!("for files in this directory, create it: `mkdir -p {quoted}`"))
                    .hint("for a new file with the RAM, add `share=on` to a `memory-backend-file`")
            }
            Self::NoHugePages { path } => {
                let directory = quote(&huge_pages_directory(path).to_string_lossy());
                Explanation::new("host.huge-pages-unavailable", Fault::Host)
                    .hint(format!("mount huge pages: `sudo mount -t hugetlbfs none {directory}`"))
                    .hint("name another directory for ordinary memory, such as `/dev/shm`")
            }
        }
    }
}

impl From<MemoryRefusal> for Error {
    fn from(refusal: MemoryRefusal) -> Self {
        DiskError::from(refusal).into()
    }
}

impl Preflight<'_> {
    /// Refuses RAM in a file that does not exist and would stay empty, and ordinary memory at a path for huge pages.
    pub(super) async fn check_memory_files(&self, machine: &Machine) -> Result<(), Error> {
        self.memory_refusals(machine).await.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Returns the paths for RAM that a start refuses.
    pub(crate) async fn memory_refusals(&self, machine: &Machine) -> Vec<MemoryRefusal> {
        let mut refusals = Vec::new();
        for WrittenFile { path, written_as, .. } in machine.written_files() {
            let WrittenAs::Memory { is_shared } = written_as else { continue };
            refusals.extend(self.memory_refusal(path, is_shared).await);
        }
        refusals
    }

    async fn memory_refusal(&self, path: PathBuf, is_shared: bool) -> Option<MemoryRefusal> {
        let is_for_huge_pages = is_of_huge_pages(&path);
        if self.paths.kind(&path).await != PathKind::NotFound {
            let lacks_them = is_for_huge_pages && !self.paths.is_huge_pages(&path).await;
            return lacks_them.then_some(MemoryRefusal::NoHugePages { path });
        }
        // What may not be seen is for QEMU to report.
        if matches!(self.paths.obstacle(&path, FileAccess::Read).await, Some(PathObstacle::Closed { .. })) {
            return None;
        }
        let is_new_huge_page_file = match path.parent() {
            Some(parent) => self.paths.is_huge_pages(parent).await,
            None => false,
        };
        let is_among_devices = path.parent() == Some(Path::new("/dev"));
        let is_refused = !is_new_huge_page_file && (!is_shared || is_for_huge_pages || is_among_devices);
        is_refused.then_some(MemoryRefusal::NotFound { path })
    }
}

/// Returns whether a path is named for huge pages, as `/mnt/huge`, `/hugepages-1G` and `/dev/hugepages/libvirt` are.
fn is_of_huge_pages(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("huge"))
}

/// Returns the directory that is named for huge pages.
fn huge_pages_directory(path: &Path) -> &Path {
    let named =
        path.ancestors().filter(|at| at.file_name().is_some_and(|name| name.to_string_lossy().starts_with("huge")));
    named.last().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_path_of_huge_pages_is_known_by_its_name() {
        for (path, expected) in [
            ("/mnt/huge", Some("/mnt/huge")),
            ("/hugepages-1G", Some("/hugepages-1G")),
            ("/mnt/hugetlbfs/a", Some("/mnt/hugetlbfs")),
            ("/run/hugepages/kvm/vm", Some("/run/hugepages")),
            ("/home/a/nvdimm.raw", None),
            ("/dev/shm/vm", None),
        ] {
            assert_eq!(is_of_huge_pages(Path::new(path)), expected.is_some(), "{path}");
            assert_eq!(huge_pages_directory(Path::new(path)), Path::new(expected.unwrap_or(path)));
        }
    }
}
