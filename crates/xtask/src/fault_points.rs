//! Builds the CLI that kills itself at a fault point, and exports spans, next to the regular one.

use std::fs;

use crate::failure::OrFailure;
use crate::task::remark;
use crate::workspace::Workspace;
use crate::{Result, program};

/// Builds `maqet-fault-points` in the same target folder, so that dependencies are built once.
///
/// Cargo writes it to the path of the regular CLI, which is moved aside meanwhile.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let (regular, faulty) = (workspace.maqet(), workspace.faulty_maqet());
    let aside = regular.with_extension("aside");
    let is_aside = fs::rename(&regular, &aside).is_ok();
    // The example has Cargo choose the features of dependencies as for tests; without it, many would be built again.
    let arguments = [
        "build",
        "--workspace",
        "--bin=maqet",
        "--example=one_session",
        "--features=maqet-cli/fault-points,maqet-cli/otlp",
    ];
    let built = program::run(&mut workspace.cargo(arguments));
    // Copied to another name first: an executable cannot be written to while it runs.
    let fresh = faulty.with_extension("new");
    let placed = fs::copy(&regular, &fresh).and_then(|_| fs::rename(&fresh, &faulty));
    let removed = fs::remove_file(&regular);
    let restored = if is_aside { fs::rename(&aside, &regular) } else { removed };

    built?;
    placed.or_failure(|| format!("cannot write `{}`", faulty.display()))?;
    restored.or_failure(|| format!("cannot restore `{}`", regular.display()))?;
    remark(&format!("{} kills itself at the fault point in MAQET_FAULT_POINT", faulty.display()));
    Ok(())
}
