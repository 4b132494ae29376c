//! The image of a CD with a few files in its root directory (ECMA-119, with the names of Joliet beside).
//!
//! Guests read the Joliet names, which keep lower case; those that do not know Joliet make lower case of the others. The
//! dates are left out, so that the same files are the same image.

/// The size of a sector.
const SECTOR: usize = 2048;

/// The sectors before the volume descriptors, which are not used.
const SYSTEM_AREA: usize = 16;

/// Where everything is, in sectors: three volume descriptors, four path tables, two directories, and the files.
const PATH_TABLES: usize = SYSTEM_AREA + 3;
const DIRECTORIES: usize = PATH_TABLES + 4;
const FILES: usize = DIRECTORIES + 2;

/// The size of a path table with the root directory only.
const PATH_TABLE_BYTES: usize = 10;

/// A way to write names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Upper case, with a version.
    Plain,
    /// UCS-2, as written.
    Joliet,
}

impl Names {
    fn file(self, name: &str) -> Vec<u8> {
        match self {
            Self::Plain => format!("{}.;1", name.to_ascii_uppercase()).into_bytes(),
            Self::Joliet => self.text(name),
        }
    }

    fn text(self, text: &str) -> Vec<u8> {
        match self {
            Self::Plain => text.as_bytes().to_vec(),
            Self::Joliet => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// Returns a text of a fixed length, filled up with spaces.
    fn padded(self, text: &str, length: usize) -> Vec<u8> {
        let space = self.text(" ");
        let mut bytes = self.text(text);
        while bytes.len() + space.len() <= length {
            bytes.extend(&space);
        }
        bytes.resize(length, 0);
        bytes
    }

    /// Returns the sectors of the path tables in both byte orders, and of the root directory.
    const fn sectors(self) -> (usize, usize, usize) {
        match self {
            Self::Plain => (PATH_TABLES, PATH_TABLES + 1, DIRECTORIES),
            Self::Joliet => (PATH_TABLES + 2, PATH_TABLES + 3, DIRECTORIES + 1),
        }
    }
}

/// Returns the image of a CD.
///
/// The names are ASCII, and few enough for one sector; the contents are at most some megabytes.
pub(super) fn image(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut next = FILES;
    let mut entries = Vec::new();
    for (name, content) in files {
        entries.push((*name, next, content.len()));
        next += content.len().div_ceil(SECTOR);
    }
    let mut image = vec![0; SYSTEM_AREA * SECTOR];
    image.extend(volume_descriptor(Names::Plain, label, next));
    image.extend(volume_descriptor(Names::Joliet, label, next));
    image.extend(sector([&[255][..], b"CD001", &[1]].concat()));
    for names in [Names::Plain, Names::Joliet] {
        let root = number(names.sectors().2);
        image.extend(sector([&[1, 0][..], &root.to_le_bytes(), &[1, 0, 0, 0]].concat()));
        image.extend(sector([&[1, 0][..], &root.to_be_bytes(), &[0, 1, 0, 0]].concat()));
    }
    for names in [Names::Plain, Names::Joliet] {
        image.extend(directory(names, &entries));
    }
    for (_, content) in files {
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    image
}

fn volume_descriptor(names: Names, label: &str, sectors: usize) -> Vec<u8> {
    let (little, big, root) = names.sectors();
    let kind = if names == Names::Plain { 1 } else { 2 };
    let mut bytes = [&[kind][..], b"CD001", &[1, 0]].concat();
    bytes.extend(names.padded("", 32));
    bytes.extend(names.padded(label, 32));
    bytes.extend([0; 8]);
    bytes.extend(both(sectors));
    // Names in UCS-2, level 3.
    let escape: &[u8] = if names == Names::Joliet { b"%/E" } else { &[] };
    bytes.extend(escape);
    bytes.resize(120, 0);
    for value in [1, 1] {
        bytes.extend(both16(value));
    }
    bytes.extend(both16(2048));
    bytes.extend(both(PATH_TABLE_BYTES));
    bytes.extend(number(little).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(number(big).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(record(&[0], root, SECTOR, true));
    // The set of volumes, the publisher, the preparer and the application; then three names of files.
    for length in [128, 128, 128, 128, 37, 37, 37] {
        bytes.extend(names.padded("", length));
    }
    // No dates: when it was created and modified, when it expires and becomes effective.
    for _ in 0..4 {
        bytes.extend([b'0'; 16]);
        bytes.push(0);
    }
    bytes.push(1);
    sector(bytes)
}

/// Returns the root directory: itself, its parent, which is itself, and the files in the order of their names.
fn directory(names: Names, entries: &[(&str, usize, usize)]) -> Vec<u8> {
    let root = names.sectors().2;
    let mut bytes = [record(&[0], root, SECTOR, true), record(&[1], root, SECTOR, true)].concat();
    let mut records: Vec<_> = entries.iter().map(|(name, at, length)| (names.file(name), *at, *length)).collect();
    records.sort();
    for (name, at, length) in records {
        bytes.extend(record(&name, at, length, false));
    }
    sector(bytes)
}

fn record(name: &[u8], at: usize, length: usize, is_directory: bool) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both(at));
    bytes.extend(both(length));
    bytes.extend([0; 7]);
    bytes.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    bytes.extend(both16(1));
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes[0] = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    bytes
}

/// Returns a number in both byte orders.
fn both(value: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number(value).to_le_bytes());
    bytes[4..].copy_from_slice(&number(value).to_be_bytes());
    bytes
}

fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn sector(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(SECTOR, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_image_has_a_label_and_files_at_their_sectors() {
        let long = vec![b'x'; 3 * SECTOR + 1];

        let image = image("CIDATA", &[("user-data", b"#cloud-config\n"), ("meta-data", &long)]);

        let at = |sector: usize, offset: usize, length: usize| &image[sector * SECTOR + offset..][..length];
        assert_eq!(image.len(), (FILES + 1 + 4) * SECTOR);
        assert_eq!(at(16, 0, 7), b"\x01CD001\x01");
        assert_eq!(at(16, 40, 8), b"CIDATA  ");
        assert_eq!(at(17, 40, 12), b"\0C\0I\0D\0A\0T\0A");
        assert_eq!(at(17, 88, 3), b"%/E");
        assert_eq!(at(18, 0, 6), b"\xffCD001");
        assert_eq!(at(16, 80, 4), number(FILES + 5).to_le_bytes());
        assert_eq!(at(16, 156 + 2, 4), number(DIRECTORIES).to_le_bytes());
        // After the two records of the directory itself, the first file by its name.
        assert_eq!(at(DIRECTORIES, 68 + 33, 12), b"META-DATA.;1");
        assert_eq!(at(DIRECTORIES, 68 + 2, 4), number(FILES + 1).to_le_bytes());
        assert_eq!(at(DIRECTORIES, 68 + 10, 4), number(long.len()).to_le_bytes());
        assert_eq!(at(FILES, 0, 15), b"#cloud-config\n\0");
        assert_eq!(at(FILES + 4, 0, 2), b"x\0");
    }
}
