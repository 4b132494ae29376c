//! Where an image has data: `qemu-img map --output=json`, typed.

use maqet_domain::port::{ImageError, ImageFile};
use maqet_domain::size::ByteSize;
use serde::Deserialize;

use super::check::require_file;
use super::tool::{Tool, Tools};

/// A part of what the guest sees.
#[derive(Deserialize)]
struct Extent {
    /// Whether it takes space; what does not is zero, or that of a backing file.
    data: bool,
    /// Whether it is known to be zero.
    zero: bool,
}

/// Returns whether an image has data at or behind an offset.
pub(super) async fn has_data(tools: &Tools, image: &ImageFile, from: ByteSize) -> Result<bool, ImageError> {
    let tool = Tool::bound(tools, "map", &image.path)?;
    require_file(&image.path)?;
    let start = format!("--start-offset={}", from.bytes());
    let printed = tool.run(["map", "--output=json", "-f", &image.format, &start], [tool.image()]).await?;
    parse(&printed).map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}")))
}

fn parse(printed: &[u8]) -> Result<bool, serde_json::Error> {
    let extents: Vec<Extent> = serde_json::from_slice(printed)?;
    Ok(extents.iter().any(|extent| extent.data || !extent.zero))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_parse_map_finds_what_is_not_zero() {
        let hole = r#"{"start": 0, "length": 65536, "depth": 0, "present": false, "zero": true, "data": false}"#;
        let data = r#"{"start": 65536, "length": 65536, "depth": 0, "zero": false, "data": true, "offset": 327680}"#;
        let has_data = |extents: &[&str]| parse(format!("[{}]", extents.join(",")).as_bytes()).unwrap();

        assert!(!has_data(&[]));
        assert!(!has_data(&[hole]));
        assert!(has_data(&[hole, data]));
        assert!(has_data(&[&hole.replace("true", "false")]), "it may be anything");
    }
}
