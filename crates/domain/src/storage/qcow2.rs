//! The header and the tables of a qcow2 image, as QEMU's `docs/interop/qcow2.txt` describes them.
//!
//! maqet reads them itself before each start: `qemu-img` would take ten times as long as all other checks.

use std::path::{Path, PathBuf};

use crate::size::ByteSize;

/// How many bytes of an image hold its header; the name of a backing file may follow later.
pub const HEADER_BYTES: usize = 4096;

/// The end of the longest header that is read, well above the cluster size of usual images.
const MAX_HEADER_BYTES: usize = 2 << 20;

const MAGIC: &[u8; 4] = b"QFI\xfb";
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;
/// The bits of an offset in an entry of the tables.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const SUBCLUSTERS: u64 = 1 << 4;

/// The beginnings of other formats, with their names in QEMU.
const OTHER_FORMATS: [(&[u8], &str); 13] = [
    (b"QFI\xfb\0\0\0\x01", "qcow"),
    (MAGIC, "qcow2"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
    (b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"<<< ", "vdi"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"QED\0", "qed"),
];

const VDI_SIGNATURE: &[u8] = &0xbeda_107f_u32.to_le_bytes();
const VDI_SIGNATURE_AT: usize = 64;

/// Returns the format that the first bytes of an image suggest; `None` for raw images and all others.
pub fn format_by_content(start: &[u8]) -> Option<&'static str> {
    let by_start = OTHER_FORMATS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, format)| *format);
    // The text at its start is for people.
    let is_vdi = || start.get(VDI_SIGNATURE_AT..)?.starts_with(VDI_SIGNATURE).then_some("vdi");
    by_start.or_else(is_vdi)
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// It does not begin as a qcow2 image.
    NotQcow2,
    /// It ends before its header does.
    TooShort,
    /// A later version, or values that no version has.
    Unsupported,
    /// The header ends after this many bytes; read again with as many.
    Incomplete(usize),
}

/// A file that an image refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference {
    /// The file as the image names it: relative to the image's directory, or not a file at all, as in `nbd://…`. `None`
    /// if it is not UTF-8.
    name: Option<String>,
    /// Its format, if the image has it.
    pub format: Option<String>,
}

impl FileReference {
    /// Returns the path of the file for an image at `image`; `None` if it is not a file of the host.
    pub fn path(&self, image: &Path) -> Option<PathBuf> {
        let name = self.name.as_deref()?;
        // As in QEMU, a colon before the first slash separates a protocol.
        let has_protocol = name.split('/').next().is_some_and(|prefix| prefix.contains(':'));
        let name = if has_protocol { name.strip_prefix("file:")? } else { name };
        Some(image.parent().unwrap_or(Path::new("/")).join(name))
    }
}

/// The header of a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2Header {
    /// The size the guest sees.
    pub virtual_size: ByteSize,
    /// Its backing file, if any.
    pub backing: Option<FileReference>,
    /// The file with its data, if that is another one.
    pub data_file: Option<FileReference>,
    /// Whether its content is encrypted.
    pub is_encrypted: bool,
    /// Its incompatible features, as bits.
    features: u64,
    cluster_bits: u32,
    refcount_order: u32,
    l1: (u64, u32),
    refcount_table: (u64, u32),
}

/// Where the content of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterContent {
    /// At an offset of the image.
    At(u64),
    /// All zeros.
    Zeros,
    /// In the backing file; zeros without one.
    Absent,
}

impl Qcow2Header {
    /// Parses the first bytes of an image.
    pub fn parse(start: &[u8]) -> Result<Self, HeaderError> {
        if !start.starts_with(MAGIC) {
            return Err(HeaderError::NotQcow2);
        }
        let u32_at = |at: usize| be_u32(start, at).ok_or(HeaderError::TooShort);
        let u64_at = |at: usize| be_u64(start, at).ok_or(HeaderError::TooShort);
        let version = u32_at(4)?;
        let cluster_bits = u32_at(20)?;
        if !matches!(version, 2 | 3) || !(9..=21).contains(&cluster_bits) {
            return Err(HeaderError::Unsupported);
        }
        let is_3 = version == 3;
        let features = if is_3 { u64_at(72)? } else { 0 };
        let header_length = if is_3 { u32_at(100)? as usize } else { 72 };
        u64_at(64)?;

        let backing_at = usize::try_from(u64_at(8)?).map_err(|_| HeaderError::Unsupported)?;
        let backing_len = u32_at(16)? as usize;
        let extensions = Extensions::read(start, header_length);
        let backing = if backing_at == 0 {
            None
        } else {
            let end = backing_at.checked_add(backing_len).filter(|end| *end <= MAX_HEADER_BYTES);
            let end = end.ok_or(HeaderError::Unsupported)?;
            let name = start.get(backing_at..end).ok_or(HeaderError::Incomplete(end))?;
            Some(FileReference { name: name_of(name), format: extensions.backing_format })
        };
        Ok(Self {
            virtual_size: ByteSize::from_bytes(u64_at(24)?),
            backing,
            data_file: extensions.data_file.filter(|_| features & EXTERNAL_DATA != 0),
            is_encrypted: u32_at(32)? != 0,
            features,
            cluster_bits,
            refcount_order: if is_3 { u32_at(96)? } else { 4 },
            l1: (u64_at(40)?, u32_at(36)?),
            refcount_table: (u64_at(48)?, u32_at(56)?),
        })
    }

    /// Returns whether it was not closed; QEMU repairs its counters when it opens the image for writing.
    pub const fn is_dirty(&self) -> bool {
        self.features & DIRTY != 0
    }

    /// Returns whether QEMU found it damaged; it refuses to open it for writing.
    pub const fn is_corrupt(&self) -> bool {
        self.features & CORRUPT != 0
    }

    /// Returns the size of a cluster, the unit of its tables.
    pub const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns the offset of the first table of its content, and how many bytes it has.
    pub const fn l1_table(&self) -> (u64, u64) {
        (self.l1.0, self.l1.1 as u64 * 8)
    }

    /// Returns the offset of the table of its reference counts, and how many bytes it has.
    pub const fn refcount_table(&self) -> (u64, u64) {
        (self.refcount_table.0, (self.refcount_table.1 as u64) << self.cluster_bits)
    }

    /// Returns the index of the last block of reference counts in their table, and the offset of the block.
    pub fn last_refcount_block(table: &[u8]) -> Option<(u64, u64)> {
        let entries = table.chunks_exact(8).enumerate().rev();
        let mut blocks = entries.filter_map(|(index, entry)| Some((index as u64, be_u64(entry, 0)? & !0x1ff)));
        blocks.find(|(_, offset)| *offset != 0)
    }

    /// Returns the offset of the last cluster in use, by the last block of reference counts and its index.
    ///
    /// A cluster in use may lie behind the end of the file without any harm, after QEMU was killed: only what the other
    /// tables refer to counts. `None` if the counts have less than a byte.
    pub fn last_cluster_in_use(&self, index: u64, block: &[u8]) -> Option<u64> {
        let count_bytes = 1_usize << self.refcount_order.checked_sub(3).filter(|order| *order <= 3)?;
        let last = block.chunks_exact(count_bytes).rposition(|count| count.iter().any(|byte| *byte != 0))?;
        let clusters_per_block = self.cluster_bytes() / count_bytes as u64;
        Some((index * clusters_per_block + last as u64) << self.cluster_bits)
    }

    /// Returns the offsets of the second tables, by a part of the first.
    pub fn l2_tables(l1: &[u8]) -> impl Iterator<Item = u64> {
        let offsets = l1.chunks_exact(8).filter_map(|entry| be_u64(entry, 0)).map(|entry| entry & OFFSET_MASK);
        offsets.filter(|offset| *offset != 0)
    }

    /// Returns where the content of a cluster is, by its place in the first table and what the second one has there.
    ///
    /// `None` for what is not simply at an offset of this file: compressed, encrypted, or in parts of clusters.
    pub const fn cluster(&self, entry: u64) -> Option<ClusterContent> {
        if self.is_encrypted || self.features & (EXTERNAL_DATA | SUBCLUSTERS) != 0 || entry & COMPRESSED != 0 {
            return None;
        }
        Some(match entry & OFFSET_MASK {
            offset if offset != 0 && entry & ZERO == 0 => ClusterContent::At(offset),
            0 if entry & ZERO == 0 => ClusterContent::Absent,
            _ => ClusterContent::Zeros,
        })
    }

    /// Returns the offsets of the clusters with data, by a second table; none if they are in another file.
    pub fn data_clusters<'t>(&self, l2: &'t [u8]) -> impl Iterator<Item = u64> + use<'t> {
        let entry_bytes = if self.features & SUBCLUSTERS == 0 { 8 } else { 16 };
        let is_skipped = self.features & (EXTERNAL_DATA | SUBCLUSTERS) != 0;
        let entries = l2.chunks_exact(entry_bytes).filter(move |_| !is_skipped).filter_map(|entry| be_u64(entry, 0));
        entries.filter(|entry| entry & (COMPRESSED | ZERO) == 0).map(|entry| entry & OFFSET_MASK)
    }
}

/// What maqet reads of the extensions of a header.
#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<FileReference>,
}

impl Extensions {
    fn read(start: &[u8], at: usize) -> Self {
        let mut found = Self::default();
        for (kind, data) in extensions(start, at) {
            match kind {
                BACKING_FORMAT => found.backing_format = Some(String::from_utf8_lossy(data).into_owned()),
                DATA_FILE => found.data_file = Some(FileReference { name: name_of(data), format: None }),
                _ => {}
            }
        }
        found
    }
}

/// Returns the extensions of a header that ends at `at`, each with its type.
fn extensions(start: &[u8], mut at: usize) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let kind = be_u32(start, at).filter(|kind| *kind != 0)?;
        let length = be_u32(start, at + 4)? as usize;
        let data = start.get(at + 8..at + 8 + length)?;
        at += 8 + length.next_multiple_of(8);
        Some((kind, data))
    })
}

/// Returns the extension of this type.
pub(super) fn extension(start: &[u8], header_length: usize, wanted: u32) -> Option<&[u8]> {
    extensions(start, header_length).find(|(kind, _)| *kind == wanted).map(|(_, data)| data)
}

fn name_of(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().map(str::to_owned)
}

pub(super) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

pub(super) fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `qemu-img create -f qcow2 -b /d/base.qcow2 -F qcow2` 7.2 writes it, for 64 MiB.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(4, &3_u32.to_be_bytes());
        put(8, &0x210_u64.to_be_bytes());
        put(16, &14_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(64_u64 << 20).to_be_bytes());
        put(36, &1_u32.to_be_bytes());
        put(40, &0x3_0000_u64.to_be_bytes());
        put(48, &0x1_0000_u64.to_be_bytes());
        put(56, &1_u32.to_be_bytes());
        put(96, &4_u32.to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        put(112, &BACKING_FORMAT.to_be_bytes());
        put(116, &5_u32.to_be_bytes());
        put(120, b"qcow2");
        put(0x210, b"/d/base.qcow2x");
        bytes
    }

    #[test]
    fn test_format_by_content_of_each_that_qemu_recognizes() {
        let mut vdi = vec![0; 512];
        vdi[VDI_SIGNATURE_AT..VDI_SIGNATURE_AT + 4].copy_from_slice(VDI_SIGNATURE);
        for (start, expected) in [
            (&b"QFI\xfb\0\0\0\x03"[..], Some("qcow2")),
            (b"QFI\xfb\0\0\0\x02", Some("qcow2")),
            (b"QFI\xfb\0\0\0\x01", Some("qcow")),
            (b"WithoutFreeSpace\x02\0", Some("parallels")),
            (b"WithouFreSpacExt\x02\0", Some("parallels")),
            (b"Bochs Virtual HD Image\0", Some("bochs")),
            (b"#!/bin/sh\n#V2.0 Format\n", Some("cloop")),
            (b"QED\0", Some("qed")),
            (b"<<< Oracle VM VirtualBox Disk Image >>>", Some("vdi")),
            (&vdi, Some("vdi")),
            (b"#!/bin/sh\n", None),
            (b"LUKS\xba\xbe", None),
            (b"", None),
        ] {
            assert_eq!(format_by_content(start), expected, "{start:?}");
        }
    }

    #[test]
    fn test_header_of_overlay_is_read() {
        let header = Qcow2Header::parse(&header()).unwrap();

        assert_eq!(header.virtual_size, ByteSize::from_mib(64));
        let backing = header.backing.as_ref().unwrap();
        assert_eq!(backing.path(Path::new("/e/x")), Some("/d/base.qcow2x".into()));
        assert_eq!(backing.format.as_deref(), Some("qcow2"));
        assert_eq!((header.l1_table(), header.refcount_table()), ((0x3_0000, 8), (0x1_0000, 0x1_0000)));
        assert!(!header.is_dirty() && !header.is_corrupt() && !header.is_encrypted);
    }

    #[test]
    fn test_header_flags_are_distinguished() {
        let flags = |value: u8| {
            let mut bytes = header();
            bytes[79] = value;
            let header = Qcow2Header::parse(&bytes).unwrap();
            (header.is_dirty(), header.is_corrupt())
        };

        assert_eq!([flags(0), flags(1), flags(2)], [(false, false), (true, false), (false, true)]);
    }

    #[test]
    fn test_header_invalid_reasons_are_distinguished() {
        let mut newer = header();
        newer[7] = 9;
        let mut far = header();
        far[8..16].copy_from_slice(&0x3000_u64.to_be_bytes());

        assert_eq!(Qcow2Header::parse(b""), Err(HeaderError::NotQcow2));
        assert_eq!(Qcow2Header::parse(b"KDMV"), Err(HeaderError::NotQcow2));
        assert_eq!(Qcow2Header::parse(&header()[..100]), Err(HeaderError::TooShort));
        assert_eq!(Qcow2Header::parse(&newer), Err(HeaderError::Unsupported));
        assert_eq!(Qcow2Header::parse(&far), Err(HeaderError::Incomplete(0x300e)));
    }

    #[test]
    fn test_reference_path_is_relative_to_the_image() {
        let path = |name: &str| {
            let reference = FileReference { name: Some(name.to_owned()), format: None };
            reference.path(Path::new("/d/a.qcow2"))
        };

        assert_eq!(path("b.qcow2"), Some("/d/b.qcow2".into()));
        assert_eq!(path("/e/b:c.qcow2"), Some("/e/b:c.qcow2".into()));
        assert_eq!(path("file:/e/b"), Some("/e/b".into()));
        assert_eq!(path("nbd://host/b"), None);
        assert_eq!(path("json:{\"driver\":\"null-co\"}"), None);
    }

    #[test]
    fn test_last_cluster_in_use_is_found_by_counts() {
        let header = Qcow2Header::parse(&header()).unwrap();
        let mut table = vec![0; 64];
        table[8..16].copy_from_slice(&0x2_0000_u64.to_be_bytes());
        let mut block = vec![0; 0x1_0000];
        block[7] = 1;

        let (index, offset) = Qcow2Header::last_refcount_block(&table).unwrap();

        assert_eq!((index, offset), (1, 0x2_0000));
        assert_eq!(header.last_cluster_in_use(index, &block), Some((0x8000 + 3) << 16));
    }

    #[test]
    fn test_data_clusters_skip_zeros_and_compressed() {
        let header = Qcow2Header::parse(&header()).unwrap();
        let entries = [0x5_0000 | 1 << 63, 0x6_0000 | ZERO, 0x7_0000 | COMPRESSED];
        let l2: Vec<u8> = entries.iter().flat_map(|entry: &u64| entry.to_be_bytes()).collect();

        assert_eq!(header.data_clusters(&l2).collect::<Vec<u64>>(), [0x5_0000]);
    }

    proptest! {
        #[test]
        fn test_parse_any_bytes_do_not_panic(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [&MAGIC[..], &[0, 0, 0, 3], &rest].concat();
            if let Ok(header) = Qcow2Header::parse(&bytes) {
                let _ = header.last_cluster_in_use(u64::from(u32::MAX), &rest);
                let _ = header.data_clusters(&rest).count();
            }
        }
    }
}
