//! Backups for tests.

use jiff::Timestamp;

use super::{
    BackedUpDrive, BackupCatalog, BackupContent, BackupManifest, BackupName, BackupSource, BackupVm, FoundBackup,
    FullReason, MANIFEST_FORMAT,
};
use crate::config::Node;

pub(super) fn name(index: u32) -> BackupName {
    BackupName::parse(&format!("20261129T{index:06}Z")).unwrap()
}

/// Returns backups of the drive `hdd` of 1 MiB, each with the one it builds on; their bitmaps are `b1`, `b2`, ….
pub(super) fn catalog(links: &[(u32, Option<u32>)]) -> BackupCatalog {
    let backup = |(index, base): &(u32, Option<u32>)| {
        let content = match base {
            Some(base) => BackupContent::Incremental { base: name(*base) },
            None => BackupContent::Full { reason: FullReason::First },
        };
        let drive = BackedUpDrive {
            drive: "hdd".to_owned(),
            file: "hdd.qcow2".to_owned(),
            disk: "/d/hdd.qcow2".into(),
            format: "qcow2".to_owned(),
            virtual_bytes: 1 << 20,
            content,
            bitmap: Some(format!("b{index}")),
            file_bytes: 7,
            crc32: 0,
        };
        let id = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();
        let manifest = BackupManifest {
            format: MANIFEST_FORMAT,
            name: name(*index),
            created_at: Timestamp::from_second(i64::from(*index)).unwrap(),
            vm: BackupVm { id, name: "web".parse().unwrap() },
            source: BackupSource::Stopped,
            qemu: "7.2.22".to_owned(),
            drives: vec![drive],
            definition: Node::empty_map(),
        };
        FoundBackup { directory: format!("/b/web/{index}").into(), manifest, lengths: vec![Some(7)] }
    };
    BackupCatalog::new(links.iter().rev().map(backup).collect())
}
