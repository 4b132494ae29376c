//! `doctor` and `cleanup`.

use maqet::operation::{Cleanup, Doctor, Outcome};
use maqet::{Fault, Maqet};

use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::progress;

/// Shows what was found; exit code 1 if a problem is left.
pub(super) async fn doctor(maqet: &Maqet, doctor: Doctor, output: &Output) -> Result<u8, Failure> {
    let diagnosis = progress::shown(output.shows_progress, "looking at everything", maqet.run(doctor)).await?;
    output.show(&diagnosis)?;
    Ok(if diagnosis.healthy { exit_code::DONE } else { exit_code::code(Fault::Failed) })
}

/// Shows what was removed; exit code 1 if something could not be.
pub(super) async fn cleanup(maqet: &Maqet, cleanup: Cleanup, output: &Output) -> Result<u8, Failure> {
    let cleaned = progress::shown(output.shows_progress, "looking for leftovers", maqet.run(cleanup)).await?;
    output.show(&cleaned)?;
    let left = cleaned.items.iter().filter(|item| item.kind == "orphan" && item.outcome == Outcome::Left).count();
    if left > 0 && output.is_for_people() {
        output.note("a QEMU that no VM owns is taken back with `--adopt-orphans` and ended with `--end-orphans`");
    }
    let has_failed = cleaned.items.iter().any(|item| item.outcome == Outcome::Failed);
    Ok(if has_failed { exit_code::code(Fault::Failed) } else { exit_code::DONE })
}
