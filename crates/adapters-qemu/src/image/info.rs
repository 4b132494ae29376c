//! The properties of an image: `qemu-img info --output=json`, typed.

use std::path::Path;

use jiff::Timestamp;
use maqet_domain::port::{ImageError, ImageInfo};
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::ImageSnapshot;
use maqet_domain::snapshot::table::sort_by_id;
use serde::Deserialize;

use super::tool::{Tool, Tools};
use crate::limits::IMAGE_INFO_TIMEOUT;

const ACTION: &str = "read";

/// Reads the properties of an image, also while a VM uses it (`-U`).
pub(super) async fn info(tools: &Tools, path: &Path) -> Result<ImageInfo, ImageError> {
    let tool = Tool::find(tools, ACTION, path, IMAGE_INFO_TIMEOUT)?;
    if !path.exists() {
        return Err(ImageError::NotFound { path: path.to_owned() });
    }
    let printed = tool.run(["info", "-U", "--output=json"], [tool.image()]).await?;
    parse(&printed).map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}")))
}

/// Parses the output of `qemu-img info`, for fuzzing.
#[cfg(feature = "fuzzing")]
pub fn read_image_info(printed: &[u8]) -> Result<ImageInfo, String> {
    parse(printed).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Printed {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    actual_size: u64,
    #[serde(default)]
    snapshots: Vec<PrintedSnapshot>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PrintedSnapshot {
    id: String,
    name: String,
    vm_state_size: u64,
    date_sec: i64,
    date_nsec: i32,
    vm_clock_sec: u64,
    vm_clock_nsec: u64,
}

fn parse(printed: &[u8]) -> Result<ImageInfo, serde_json::Error> {
    let printed: Printed = serde_json::from_slice(printed)?;
    let mut snapshots: Vec<ImageSnapshot> = printed.snapshots.into_iter().map(PrintedSnapshot::into_domain).collect();
    sort_by_id(&mut snapshots);
    Ok(ImageInfo {
        format: printed.format,
        virtual_size: ByteSize::from_bytes(printed.virtual_size),
        actual_size: ByteSize::from_bytes(printed.actual_size),
        snapshots,
    })
}

impl PrintedSnapshot {
    fn into_domain(self) -> ImageSnapshot {
        ImageSnapshot {
            id: self.id,
            name: self.name,
            // An impossible date in a corrupt image must not hide the snapshot.
            created_at: Timestamp::new(self.date_sec, self.date_nsec).unwrap_or(Timestamp::UNIX_EPOCH),
            vm_state_bytes: self.vm_state_size,
            vm_clock_nanos: self.vm_clock_sec.saturating_mul(1_000_000_000).saturating_add(self.vm_clock_nsec),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_parse_output_of_7_2_sorts_snapshots_by_id() {
        let printed = br#"{
            "snapshots": [
                {"icount": 0, "vm-clock-nsec": 7, "name": "b", "date-sec": 1795467665, "date-nsec": 939380000,
                 "vm-clock-sec": 2, "id": "10", "vm-state-size": 5},
                {"vm-clock-nsec": 0, "name": "a", "date-sec": 1, "date-nsec": 0, "vm-clock-sec": 0, "id": "9",
                 "vm-state-size": 0}
            ],
            "virtual-size": 1048576, "filename": "/d/a", "format": "qcow2", "actual-size": 200704,
            "format-specific": {"type": "qcow2", "data": {"compat": "1.1"}}, "dirty-flag": false
        }"#;

        let info = parse(printed).unwrap();

        assert_eq!(info.format, "qcow2");
        assert_eq!(info.virtual_size, ByteSize::from_mib(1));
        let ids: Vec<&str> = info.snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
        assert_eq!(ids, ["9", "10"]);
        assert_eq!(info.snapshots[1].vm_clock_nanos, 2_000_000_007);
        assert_eq!(info.snapshots[1].created_at.as_second(), 1_795_467_665);
    }

    #[test]
    fn test_parse_without_snapshots_has_none() {
        let info = parse(br#"{"virtual-size": 1, "format": "raw", "actual-size": 0}"#).unwrap();

        assert_eq!(info.snapshots, []);
    }

    #[test]
    fn test_parse_invalid_output_is_an_error() {
        assert!(parse(b"").is_err());
        assert!(parse(b"{}").is_err());
        assert!(parse(br#"{"virtual-size": -1, "format": "raw"}"#).is_err());
    }

    proptest! {
        #[test]
        fn test_parse_any_bytes_do_not_panic(printed in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&printed);
        }
    }
}
