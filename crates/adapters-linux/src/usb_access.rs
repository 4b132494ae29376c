//! USB devices of the host that the user may not open: QEMU leaves them out without a message (7.2, 10.0).

use std::fs;
use std::path::{Path, PathBuf};

use maqet_domain::machine::UsbDevice;

/// The kernel's list of USB devices, and the directory of their files (`Documentation/ABI/stable/sysfs-bus-usb`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsbDirectories<'a> {
    /// `/sys/bus/usb/devices`.
    pub(crate) list: &'a Path,
    /// `/dev/bus/usb`.
    pub(crate) files: &'a Path,
}

/// Returns the file of a device that is plugged in, if `may_open` says that no such device can be used.
pub(crate) fn refused_file(
    directories: UsbDirectories<'_>,
    device: &UsbDevice,
    may_open: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let files = files_of(directories, device);
    // Of several with one model, QEMU takes one that it can open.
    if files.iter().any(|file| may_open(file)) { None } else { files.into_iter().next() }
}

fn files_of(directories: UsbDirectories<'_>, device: &UsbDevice) -> Vec<PathBuf> {
    let entries = fs::read_dir(directories.list).into_iter().flatten().flatten();
    let mut listed: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|entry| is_it(entry, device)).collect();
    listed.sort();
    let file = |entry: &PathBuf| {
        let number = |name: &str| read(entry, name)?.parse::<u32>().ok();
        Some(directories.files.join(format!("{:03}/{:03}", number("busnum")?, number("devnum")?)))
    };
    listed.iter().filter_map(file).collect()
}

fn is_it(entry: &Path, device: &UsbDevice) -> bool {
    let id = |name: &str| u16::from_str_radix(&read(entry, name)?, 16).ok();
    match device {
        UsbDevice::Tablet | UsbDevice::Mouse | UsbDevice::Keyboard => false,
        UsbDevice::Model { vendor, product } => id("idVendor") == Some(*vendor) && id("idProduct") == Some(*product),
        UsbDevice::Port { bus, port } => entry.ends_with(format!("{bus}-{port}")),
    }
}

fn read(entry: &Path, name: &str) -> Option<String> {
    fs::read_to_string(entry.join(name)).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_refused_file_is_that_of_a_device_that_no_one_can_open() {
        let root = tempfile::tempdir().unwrap();
        for (name, vendor, product, device) in [
            ("1-4", "046d", "c52b", "5"),
            ("1-5", "046d", "c52b", "6"),
            ("2-1.3", "0951", "1666", "12"),
            ("usb1", "1d6b", "2", "1"),
        ] {
            let entry = root.path().join(name);
            fs::create_dir(&entry).unwrap();
            let bus = if name.starts_with('2') { "2" } else { "1" };
            for (file, text) in [("idVendor", vendor), ("idProduct", product), ("busnum", bus), ("devnum", device)] {
                fs::write(entry.join(file), format!("{text}\n")).unwrap();
            }
        }
        // An interface of a device, which has none of these.
        fs::create_dir(root.path().join("1-4:1.0")).unwrap();
        let directories = UsbDirectories { list: root.path(), files: Path::new("/dev/bus/usb") };
        let refused = |device: &str, open: &[&str]| {
            let may_open = |file: &Path| open.iter().any(|open| file.ends_with(open));
            refused_file(directories, &device.parse().unwrap(), may_open)
        };

        assert_eq!(refused("046d:c52b", &[]), Some("/dev/bus/usb/001/005".into()));
        assert_eq!(refused("046d:c52b", &["001/006"]), None);
        assert_eq!(refused("1-4", &["001/006"]), Some("/dev/bus/usb/001/005".into()));
        assert_eq!(refused("2-1.3", &[]), Some("/dev/bus/usb/002/012".into()));
        // Not plugged in.
        assert_eq!(refused("2-1", &[]), None);
        assert_eq!(refused("046d:0001", &[]), None);
        assert_eq!(refused("tablet", &[]), None);
    }
}
