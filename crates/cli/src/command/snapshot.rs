//! `maqet snapshot check`.

use maqet::operation::SnapshotCheck;
use maqet::{ErrorReport, Fault, Maqet};

use crate::exit_code;
use crate::render::Output;

/// Checks whether snapshots of a VM can be created.
pub(super) async fn check(maqet: &Maqet, check: SnapshotCheck, output: &Output) -> Result<u8, ErrorReport> {
    let readiness = output.progress("checking the drives", maqet.run(check)).await?;
    output.show(&readiness)?;
    Ok(if readiness.ready { exit_code::DONE } else { exit_code::from_fault(Fault::Failed) })
}
