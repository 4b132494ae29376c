//! Writes an initramfs, a `cpio` archive in the format "newc".
//!
//! The output is reproducible: everything belongs to root, times are zero, and inode numbers count from one.

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a folder; its parents must have been added.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, (0, 0), b"");
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o755, (0, 0), content);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o644, (0, 0), content);
    }

    /// Adds a symbolic link to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | 0o600, number, b"");
    }

    /// Returns the complete archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.header("TRAILER!!!", 0, (0, 0), 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        self.header(path, mode, device, content.len());
        self.bytes.extend(content);
        self.pad();
    }

    fn header(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), length: usize) {
        let links = 1;
        let (user, group, time) = (0, 0, 0);
        let length = u32::try_from(length).expect("the files of the guest are smaller than 4 GiB");
        let name_length = u32::try_from(path.len() + 1).expect("paths are short");
        let fields = [
            self.entries, mode, user, group, links, time, length, 0, 0, major, minor, name_length,
            /* check sum */ 0,
        ];

        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_finish_empty_archive_is_the_trailer() {
        let mut fields = ["00000000"; 13];
        fields[4] = "00000001"; // links
        fields[11] = "0000000B"; // length of the name with its NUL

        let bytes = Archive::default().finish();

        let expected = format!("070701{}TRAILER!!!\0\0\0\0", fields.concat());
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn test_file_content_and_header_are_padded_to_four() {
        let mut archive = Archive::default();

        archive.file("ab", b"hello");

        let text = String::from_utf8(archive.bytes).unwrap();
        assert_eq!(&text[..6 + 16], "07070100000001000081A4");
        assert_eq!(&text[6 + 6 * 8..6 + 7 * 8], "00000005");
        assert_eq!(&text[110..], "ab\0\0\0\0hello\0\0\0");
    }

    #[test]
    fn test_device_numbers_stand_in_their_fields() {
        let mut archive = Archive::default();

        archive.device("dev/console", (5, 1));

        let text = String::from_utf8(archive.bytes).unwrap();
        assert_eq!(&text[6 + 9 * 8..6 + 11 * 8], "0000000500000001");
        assert_eq!(&text[14..22], "00002180");
    }

    #[test]
    fn test_same_entries_give_the_same_bytes() {
        let make = || {
            let mut archive = Archive::default();
            archive.folder("bin");
            archive.program("bin/busybox", b"\x7fELF");
            archive.link("bin/sh", "busybox");
            archive.finish()
        };

        assert_eq!(make(), make());
    }
}
