//! Which file or block device a path leads to, as other hosts see it that have the same storage.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use jiff::Timestamp;
use maqet_domain::storage::SharedFileId;

/// Where the kernel describes block devices, by their numbers (sysfs(5)).
const BLOCK_DEVICES: &str = "/sys/dev/block";

/// What names a block device whatever host it is seen on: a volume of LVM or multipath, NVMe, SCSI.
const NAMES: [&str; 3] = ["dm/uuid", "wwid", "device/wwid"];

/// Returns which file or block device is at `path`; `None` if there is none, or if it has no name that other hosts see.
pub fn shared_id(path: &Path) -> Option<SharedFileId> {
    let found = path.metadata().ok()?;
    if found.file_type().is_block_device() {
        return device_id(Path::new(BLOCK_DEVICES), found.rdev()).map(SharedFileId::Device);
    }
    // Some file systems do not tell.
    let born_at = found.created().ok().and_then(|at| Timestamp::try_from(at).ok());
    found.is_file().then(|| SharedFileId::File { inode: found.ino(), born_at })
}

/// Returns the name of a block device that `devices` describes; that of a partition ends with its number.
fn device_id(devices: &Path, number: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = devices.join(format!("{major}:{minor}")).canonicalize().ok()?;
    match read(&device.join("partition")) {
        Some(partition) => Some(format!("{}-part{partition}", name(device.parent()?)?)),
        None => name(&device),
    }
}

fn name(device: &Path) -> Option<String> {
    NAMES.iter().find_map(|name| read(&device.join(name)))
}

/// Returns what a file says, if it says anything.
fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn test_shared_id_is_that_of_the_file_and_not_of_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let [image, link, copy] = ["image", "link", "copy"].map(|name| folder.path().join(name));
        fs::write(&image, "x").unwrap();
        let before = shared_id(&image);
        fs::hard_link(&image, &link).unwrap();
        fs::write(&image, "y").unwrap();
        fs::copy(&image, &copy).unwrap();

        let (same, other) = (shared_id(&link), shared_id(&copy));

        assert!(before.is_some() && same == before && other != before, "{before:?} {same:?} {other:?}");
        assert_eq!((shared_id(folder.path()), shared_id(Path::new("/dev/null"))), (None, None));
    }

    #[test]
    fn test_device_id_of_disks_volumes_and_partitions() {
        let folder = tempfile::tempdir().unwrap();
        let described = |device: &str, number: &str, files: &[(&str, &str)]| {
            let device = folder.path().join("devices").join(device);
            for (file, text) in files {
                let file = device.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            symlink(&device, folder.path().join(number)).unwrap();
        };
        described("sda", "8:0", &[("device/wwid", "naa.5000\n")]);
        described("sda/sda2", "8:2", &[("partition", "2\n")]);
        described("dm-0", "253:0", &[("dm/uuid", "LVM-abc\n")]);
        described("loop0", "7:0", &[("size", "8\n"), ("wwid", "\n")]);
        let id = |major, minor| device_id(folder.path(), rustix::fs::makedev(major, minor));

        assert_eq!(id(8, 0).as_deref(), Some("naa.5000"));
        assert_eq!(id(8, 2).as_deref(), Some("naa.5000-part2"));
        assert_eq!(id(253, 0).as_deref(), Some("LVM-abc"));
        assert_eq!((id(7, 0), id(9, 9)), (None, None));
    }
}
