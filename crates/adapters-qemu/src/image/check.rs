//! Checks images and repairs them: `qemu-img check --output=json`, typed.

use std::path::Path;

use maqet_domain::port::{ImageCheck, ImageError, ImageFile, ImageRepair, ImageWork};
use serde::Deserialize;

use super::tool::{Tool, Tools};

const ACTION: &str = "check";

/// The exit codes (7.2, 10.0, `qemu-img.c`).
const ERRORS_FOUND: i32 = 2;
const LEAKS_FOUND: i32 = 3;
const NOT_SUPPORTED: i32 = 63;

/// Checks an image; `None` for a format that has nothing to check.
pub(super) async fn check(
    tools: &Tools,
    image: &ImageFile,
    repair: Option<ImageRepair>,
    work: &ImageWork<'_>,
) -> Result<Option<ImageCheck>, ImageError> {
    let tool = match repair {
        Some(_) => Tool::in_place(tools, ACTION, &image.path, work.guard)?,
        None => Tool::bound(tools, ACTION, &image.path)?,
    };
    require_file(&image.path)?;
    let repair = repair.map(|repair| repair.to_string());
    let mut options = vec!["check", "--output=json", "-f", &image.format];
    options.extend(repair.iter().flat_map(|repair| ["-r", repair]));
    let captured = tool.work(options, [tool.image()], work).await?;
    match captured.status.code() {
        Some(NOT_SUPPORTED) => Ok(None),
        Some(0 | ERRORS_FOUND | LEAKS_FOUND) => parse(&captured.output.stdout)
            .map(Some)
            .map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}"))),
        _ => Err(tool.call_error(&captured)),
    }
}

/// Returns whether two images have the same content.
pub(super) async fn has_same_content(tools: &Tools, image: &ImageFile, other: &ImageFile) -> Result<bool, ImageError> {
    const DIFFERENT: i32 = 1;

    let tool = Tool::bound(tools, "compare", &image.path)?;
    require_file(&image.path)?;
    require_file(&other.path)?;
    let options = ["compare", "-q", "-f", &image.format, "-F", &other.format];
    let captured = tool.finish(options, [tool.image(), other.path.clone().into()]).await?;
    match captured.status.code() {
        Some(0) => Ok(true),
        Some(DIFFERENT) => Ok(false),
        _ => Err(tool.call_error(&captured)),
    }
}

pub(super) fn require_file(path: &Path) -> Result<(), ImageError> {
    if path.exists() { Ok(()) } else { Err(ImageError::NotFound { path: path.to_owned() }) }
}

/// What is zero is not printed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Printed {
    corruptions: u64,
    leaks: u64,
    check_errors: u64,
    corruptions_fixed: u64,
    leaks_fixed: u64,
    allocated_clusters: u64,
    compressed_clusters: u64,
}

fn parse(printed: &[u8]) -> Result<ImageCheck, serde_json::Error> {
    let printed: Printed = serde_json::from_slice(printed)?;
    Ok(ImageCheck {
        corruptions: printed.corruptions,
        leaks: printed.leaks,
        check_errors: printed.check_errors,
        corruptions_fixed: printed.corruptions_fixed,
        leaks_fixed: printed.leaks_fixed,
        allocated_clusters: printed.allocated_clusters,
        compressed_clusters: printed.compressed_clusters,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_parse_check_counts_what_is_wrong() {
        let check = parse(br#"{"image-end-offset": 1, "leaks": 2, "corruptions": 1, "check-errors": 0}"#).unwrap();

        assert_eq!((check.corruptions, check.leaks), (1, 2));
        assert!(!check.is_clean());
        assert!(parse(br#"{"check-errors": 0, "allocated-clusters": 128}"#).unwrap().is_clean());
    }

    #[test]
    fn test_parse_check_after_repair_counts_what_was_repaired() {
        let check = parse(br#"{"leaks-fixed": 2, "check-errors": 0, "allocated-clusters": 128}"#).unwrap();

        assert!(check.is_clean());
        assert_eq!((check.leaks_fixed, check.allocated_clusters), (2, 128));
    }

    proptest! {
        #[test]
        fn test_parse_check_any_bytes_do_not_panic(printed in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&printed);
        }
    }
}
