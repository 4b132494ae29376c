//! The commands that take one VM or several: `start`, `stop`, `rm`, `status`, `inspect`.

use maqet::{Maqet, operation};
use serde::Serialize;

use super::command_line_of;
use crate::arguments::{Inspect, Rm, Start, Status, Stop, Vms};
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::{self, Output, People};

pub(crate) async fn start(maqet: &Maqet, arguments: Start, output: &Output) -> Result<u8, Failure> {
    let timeout = arguments.timeout;
    if arguments.dry_run {
        return each(maqet, arguments.vms, output, "looking at", async |vm| maqet.run(command_line_of(vm)).await).await;
    }
    each(maqet, arguments.vms, output, "starting", async |vm| maqet.run(operation::Start { vm, timeout }).await).await
}

pub(crate) async fn stop(maqet: &Maqet, arguments: Stop, output: &Output) -> Result<u8, Failure> {
    let Stop { vms, timeout, force } = arguments;
    each(maqet, vms, output, "stopping", async |vm| maqet.run(operation::Stop { vm, timeout, force }).await).await
}

pub(crate) async fn rm(maqet: &Maqet, arguments: Rm, output: &Output) -> Result<u8, Failure> {
    let force = arguments.force;
    each(maqet, arguments.vms, output, "removing", async |vm| maqet.run(operation::Rm { vm, force }).await).await
}

pub(crate) async fn status(maqet: &Maqet, arguments: Status, output: &Output) -> Result<u8, Failure> {
    each(maqet, arguments.vms, output, "looking at", async |vm| maqet.run(operation::Status { vm }).await).await
}

pub(crate) async fn inspect(maqet: &Maqet, arguments: Inspect, output: &Output) -> Result<u8, Failure> {
    each(maqet, arguments.vms, output, "looking at", async |vm| maqet.run(operation::Inspect { vm }).await).await
}

/// Does the same to each VM, one after the other.
///
/// One VM gives one result; several, or `--all`, give a list. A failure is told at once and does
/// not keep the others from their turn; the exit code is that of the first.
async fn each<T>(
    maqet: &Maqet,
    vms: Vms,
    output: &Output,
    what: &str,
    work: impl AsyncFn(String) -> Result<T, maqet::Error>,
) -> Result<u8, Failure>
where
    T: Serialize + People,
{
    let is_one = !vms.all && vms.vms.len() == 1;
    let names = named(maqet, vms).await?;
    let mut results = Vec::new();
    let mut code = exit::DONE;
    for name in names {
        let message = format!("{what} `{name}`");
        let outcome = progress::shown(output.shows_progress, &message, work(name)).await.map_err(Failure::from);
        match outcome {
            Ok(result) if is_one || output.is_for_people() => output.show(&result)?,
            Ok(result) => results.push(result),
            Err(failure) if is_one => return Err(failure),
            Err(failure) => {
                render::failure::show(&failure, output.format());
                code = if code == exit::DONE { exit::code(failure.fault) } else { code };
            }
        }
    }
    if !is_one && !output.is_for_people() {
        output.data(&results)?;
    }
    Ok(code)
}

async fn named(maqet: &Maqet, vms: Vms) -> Result<Vec<String>, Failure> {
    if !vms.all {
        return Ok(vms.vms);
    }
    let all = maqet.run(operation::Ls::default()).await?;
    Ok(all.into_iter().map(|vm| vm.id).collect())
}
