//! Files that QEMU, as root, would create among the devices of the host, in place of one that is not there: a mount of
//! huge pages, the port of an adapter that is not plugged in.

use std::path::Path;

use maqet_domain::machine::{Machine, WrittenAs, WrittenFile};
use maqet_domain::port::PathKind;
use maqet_domain::text::quote;

use super::disk_error::DiskError;
use super::preflight::Preflight;
use crate::Error;

impl Preflight<'_> {
    /// Refuses files directly in `/dev` that do not exist.
    pub(super) async fn check_device_files(&self, machine: &Machine) -> Result<(), Error> {
        for WrittenFile { path, written_as, .. } in machine.written_files() {
            let is_memory = matches!(written_as, WrittenAs::Memory { .. });
            if !is_memory && written_as != WrittenAs::Output {
                continue;
            }
            if path.parent() != Some(Path::new("/dev")) || self.paths.kind(&path).await != PathKind::NotFound {
                continue;
            }
            let quoted = quote(&path.to_string_lossy());
            let (purpose, hint) = if is_memory {
                let mount =
                    format!("mount huge pages there: `sudo mkdir {quoted} && sudo mount -t hugetlbfs none {quoted}`");
                ("is to hold the guest's RAM", mount)
            } else {
                ("QEMU is to write to", "plug the device in; `ls /dev` lists those of the host".to_owned())
            };
            return Err(DiskError::DeviceNotFound { path, purpose, hint }.into());
        }
        Ok(())
    }

    /// Refuses memory in a file that does not exist and whose path is one for huge pages: without them mounted, QEMU would
    /// leave a regular file of the size of the memory there.
    pub(super) async fn check_huge_pages(&self, machine: &Machine) -> Result<(), Error> {
        for WrittenFile { path, written_as, .. } in machine.written_files() {
            let is_memory = matches!(written_as, WrittenAs::Memory { .. });
            if !is_memory || !is_of_huge_pages(&path) || self.paths.kind(&path).await != PathKind::NotFound {
                continue;
            }
            let quoted = quote(&path.to_string_lossy());
            let hint = format!("mount huge pages: `sudo mkdir -p {quoted} && sudo mount -t hugetlbfs none {quoted}`");
            return Err(DiskError::DeviceNotFound { path, purpose: "is to hold the guest's RAM", hint }.into());
        }
        Ok(())
    }
}

/// Returns whether a path is named for huge pages, as `/mnt/huge`, `/hugepages-1G` and `/dev/hugepages/libvirt` are.
fn is_of_huge_pages(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("huge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_path_of_huge_pages_is_known_by_its_name() {
        for (path, expected) in [
            ("/mnt/huge", true),
            ("/hugepages-1G", true),
            ("/mnt/hugetlbfs", true),
            ("/run/hugepages/kvm/vm", true),
            ("/home/a/nvdimm.raw", false),
            ("/dev/shm/vm", false),
        ] {
            assert_eq!(is_of_huge_pages(Path::new(path)), expected, "{path}");
        }
    }
}
