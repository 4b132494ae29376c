//! Images that the host uses, and drives of which one is a part or a view of the other: each has two writers, and QEMU
//! has no lock for it.

use std::path::PathBuf;

use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageUse, PathKind};
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::VmName;

use super::disk_error::DiskError;
use super::drives::Drive;
use super::preflight::Preflight;
use crate::Error;

/// An image that a VM uses.
struct Used {
    /// Its path, resolved.
    path: PathBuf,
    /// What it is a part or a view of.
    below: Vec<PathBuf>,
    access: ImageAccess,
}

impl Preflight<'_> {
    /// Refuses images of the user's switches that the host uses, as those of drives are when they are examined.
    pub(super) async fn check_host_use(&self, machine: &Machine) -> Result<(), Error> {
        for image in machine.user_images().into_iter().filter(|image| image.access == ImageAccess::Write) {
            let readonly = image.readonly_option();
            let image = ImageUse { path: image.path, format: Some("raw".to_owned()), access: ImageAccess::Write };
            match self.images.examine(&image).await {
                Err(ImageError::Unusable(error)) if error.is_used_by_host() => {
                    return Err(DiskError::UsedByHost { readonly, error }.into());
                }
                // QEMU reports what else is wrong with it.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses a disk beside a part of it, and a file beside its loop device, unless both are only read.
    pub(super) async fn check_overlaps(
        &self,
        vm: &VmName,
        machine: &Machine,
        drives: &[Drive<'_>],
    ) -> Result<(), Error> {
        let of_drives = drives.iter().filter_map(Drive::image_use).map(|image| (image.path, image.access));
        let of_switches = machine.user_images().into_iter().map(|image| (image.path, image.access));
        let mut earlier: Vec<Used> = Vec::new();
        for (path, access) in of_drives.chain(of_switches) {
            let is_device = self.paths.kind(&path).await == PathKind::BlockDevice;
            let below = if is_device { self.paths.below(&path).await } else { Vec::new() };
            let image = Used { path: self.paths.resolve(&path).await, below, access };
            if let Some((whole, device)) = earlier.iter().find_map(|other| overlap(other, &image)) {
                return Err(DiskError::Overlap { vm: vm.clone(), path: whole.clone(), device: device.clone() }.into());
            }
            earlier.push(image);
        }
        Ok(())
    }
}

/// Returns the image that the other one is a part or a view of, and that one, if one of them is written.
fn overlap<'a>(first: &'a Used, second: &'a Used) -> Option<(&'a PathBuf, &'a PathBuf)> {
    let is_written = [first, second].iter().any(|image| image.access == ImageAccess::Write);
    let pairs = [(first, second), (second, first)].into_iter().filter(|_| is_written);
    let mut overlaps = pairs.filter(|(whole, part)| part.below.contains(&whole.path));
    overlaps.next().map(|(whole, part)| (&whole.path, &part.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_overlap_is_a_part_beside_what_it_is_a_part_of() {
        let used = |path: &str, below: &[&str], access| Used {
            path: path.into(),
            below: below.iter().map(PathBuf::from).collect(),
            access,
        };
        let disk = used("/dev/sdb", &[], ImageAccess::Write);
        let read = used("/dev/sdb", &[], ImageAccess::Read);
        let part = used("/dev/sdb1", &["/dev/sdb"], ImageAccess::Read);
        let written = used("/dev/sdb2", &["/dev/sdb"], ImageAccess::Write);
        let deep = used("/dev/loop0p1", &["/dev/loop0", "/a.raw"], ImageAccess::Write);
        let file = used("/a.raw", &[], ImageAccess::Read);

        for (first, second, expected) in [
            (&disk, &part, Some(("/dev/sdb", "/dev/sdb1"))),
            (&part, &disk, Some(("/dev/sdb", "/dev/sdb1"))),
            (&written, &read, Some(("/dev/sdb", "/dev/sdb2"))),
            (&read, &part, None),
            // Two parts of one disk.
            (&part, &written, None),
            (&file, &deep, Some(("/a.raw", "/dev/loop0p1"))),
            (&file, &disk, None),
        ] {
            let found = overlap(first, second).map(|(whole, part)| (whole.to_str().unwrap(), part.to_str().unwrap()));
            assert_eq!(found, expected, "{:?} {:?}", first.path, second.path);
        }
    }
}
