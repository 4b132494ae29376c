//! `maqet doctor` and `maqet cleanup`.

use maqet::operation::{Cleanup, CleanupOutcome, Doctor};
use maqet::{ErrorReport, Fault, Maqet};

use crate::exit_code;
use crate::render::Output;

/// Shows the findings; exit code 1 if a problem remains.
pub(super) async fn doctor(maqet: &Maqet, doctor: Doctor, output: &Output) -> Result<u8, ErrorReport> {
    let diagnosis = output.progress("checking the host, the database and the VMs", maqet.run(doctor)).await?;
    output.show(&diagnosis)?;
    Ok(if diagnosis.healthy { exit_code::DONE } else { exit_code::from_fault(Fault::Failed) })
}

/// Shows the removed files; exit code 1 if one could not be removed.
pub(super) async fn cleanup(maqet: &Maqet, cleanup: Cleanup, output: &Output) -> Result<u8, ErrorReport> {
    let message = match (cleanup.dry_run, cleanup.adopt_orphans, cleanup.end_orphans) {
        (false, true, _) => "adopting orphans",
        (false, false, true) => "ending orphans, which may take as long as `maqet stop`",
        (true, ..) | (false, false, false) => "searching for stale files",
    };
    let cleaned = output.progress(message, maqet.run(cleanup)).await?;
    output.show(&cleaned)?;
    let has_orphans = cleaned.items.iter().any(|item| item.kind == "orphan" && item.outcome == CleanupOutcome::Skipped);
    if has_orphans && output.is_text() {
        output.note("pass `--adopt-orphans` to adopt the orphans, or `--end-orphans` to end them");
    }
    let has_failed = cleaned.items.iter().any(|item| item.outcome == CleanupOutcome::Failed);
    Ok(if has_failed { exit_code::from_fault(Fault::Failed) } else { exit_code::DONE })
}
