//! Dirty bitmaps of other tools: QEMU does not revert a disk that has one (7.2, 10.0).
//!
//! maqet removes its own before it reverts a disk. Those of others are theirs, so that they are reported, with the way to
//! remove them, before anything is changed.

use std::path::{Path, PathBuf};

use maqet_domain::backup::BITMAP_PREFIX;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::vm::VmName;

use crate::{App, Error};

/// A disk that cannot be reverted because of dirty bitmaps.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum BitmapsInTheWay {
    #[error("cannot revert drive `{drive}` of VM `{vm}`: it has dirty bitmaps of another tool: {}", quoted_list(names))]
    OfDrive { vm: VmName, drive: String, names: Vec<String> },
    /// Such a bitmap has no name.
    #[error("cannot revert drive `{drive}` of VM `{vm}`: a job of QEMU records its changes")]
    OfJob { vm: VmName, drive: String },
    #[error("cannot revert `{}`: it has dirty bitmaps of another tool: {}", image.display(), quoted_list(names))]
    OfImage { image: PathBuf, names: Vec<String> },
}

/// What removing such a bitmap means.
const CONSEQUENCE: &str = "the next backup of its tool is then full";

impl Explain for BitmapsInTheWay {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("snapshot.refused", Fault::State);
        match self {
            Self::OfDrive { vm, drive, names } => names.iter().fold(explanation, |explanation, name| {
                let arguments = serde_json::json!({ "node": drive, "name": name }).to_string();
                explanation.hint(format!(
                    "remove it with `maqet qmp run {vm} block-dirty-bitmap-remove --json {}`; {CONSEQUENCE}",
                    quote(&arguments)
                ))
            }),
            Self::OfJob { vm, .. } => explanation.hint(format!("wait for it: `maqet qmp run {vm} query-block-jobs`")),
            Self::OfImage { image, names } => names.iter().fold(explanation, |explanation, name| {
                let (image, name) = (quote(&image.to_string_lossy()), quote(name));
                explanation.hint(format!("remove it with `qemu-img bitmap --remove {image} {name}`; {CONSEQUENCE}"))
            }),
        }
    }
}

/// Refuses an image that no QEMU has open and that has bitmaps of another tool; cheap if it has no bitmap.
pub(crate) async fn refuse_foreign(app: &App, image: &Path) -> Result<(), Error> {
    let bitmaps = app.ports.backup_images.bitmaps(image).await?;
    let names = bitmaps.into_iter().map(|bitmap| bitmap.name);
    let names: Vec<String> = names.filter(|name| !name.starts_with(BITMAP_PREFIX)).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(BitmapsInTheWay::OfImage { image: image.to_owned(), names }.into())
}
