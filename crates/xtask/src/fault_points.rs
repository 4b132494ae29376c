//! The CLI that kills itself at a step it is told: built beside the usual one, for the killing tests.

use std::fs;

use crate::chore::remark;
use crate::failure::OrFailure;
use crate::workspace::Workspace;
use crate::{Result, program};

/// Builds it.
///
/// In the same target folder, so that dependencies are built once: only our own crates differ. Cargo puts it where the
/// usual CLI is, which is laid aside meanwhile.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let (usual, faulty) = (workspace.maqet(), workspace.faulty_maqet());
    let kept = usual.with_extension("kept");
    let is_kept = fs::rename(&usual, &kept).is_ok();
    let arguments = ["build", "--workspace", "--bin", "maqet", "--features", "maqet-cli/fault-points"];
    let built = program::run(&mut workspace.cargo(arguments));
    // Copied under another name first: one that runs right now cannot be written to.
    let fresh = faulty.with_extension("new");
    let placed = fs::copy(&usual, &fresh).and_then(|_| fs::rename(&fresh, &faulty));
    let gone = fs::remove_file(&usual);
    let restored = if is_kept { fs::rename(&kept, &usual) } else { gone };

    built?;
    placed.or_failure(|| format!("cannot place `{}`", faulty.display()))?;
    restored.or_failure(|| format!("cannot put `{}` back", usual.display()))?;
    remark(&format!("{} kills itself at the step that MAQET_FAULT_POINT names", faulty.display()));
    Ok(())
}
