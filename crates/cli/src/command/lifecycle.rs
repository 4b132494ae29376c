//! The commands that take one VM or several: `start`, `stop`, `rm`, `status`, `inspect`.

use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use maqet::operation::{self, Since};
use maqet::{Condition, HumanDuration, Maqet};
use serde::Serialize;

use super::add::note_size_mismatches;
use super::command_line_of;
use crate::args::{
    InspectArgs, PowerOffArgs, Press, RestartArgs, RmArgs, StartArgs, Status, StopArgs, VmsArgs, WaitArgs,
};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::progress;
use crate::render::{self, Output, TextOutput};

/// How many VMs are worked on at once: more machines that boot side by side only take the CPUs from each other, and
/// fewer would have a guest that is slow to power off keep all others waiting.
const AT_ONCE: usize = 8;

pub(crate) async fn start(maqet: &Maqet, args: StartArgs, output: &Output) -> Result<u8, Failure> {
    let timeout = args.timeout;
    if args.dry_run {
        return each(maqet, args.vms, output, "looking at", async |vm| maqet.run(command_line_of(vm)).await).await;
    }
    let conditions = absolute(args.wait)?;
    let start = async |vm| {
        let began = Instant::now();
        let mut started = maqet.run(operation::Start::new(vm).timeout(timeout)).await?;
        note_size_mismatches(&started.size_mismatches, output);
        if !conditions.is_empty() {
            // Events of this boot count from its beginning, however fast they were.
            let since = started.vm.started_at.map(Since::At);
            let timeout = timeout.map(|all| HumanDuration::new(all.duration().saturating_sub(began.elapsed())));
            let vm = started.vm.id.clone();
            let wait = operation::Wait { vm, conditions: conditions.clone(), any: false, timeout, since };
            started.vm = maqet.run(wait).await?.vm;
        }
        Ok(started)
    };
    each(maqet, args.vms, output, "starting", start).await
}

pub(crate) async fn wait(maqet: &Maqet, args: WaitArgs, output: &Output) -> Result<u8, Failure> {
    // `--all` says what holds without `--any`.
    let WaitArgs { vms, conditions, any, all: _, timeout, since } = args;
    let conditions = absolute(conditions)?;
    let wait = async |vm| maqet.run(operation::Wait { vm, conditions: conditions.clone(), any, timeout, since }).await;
    each(maqet, VmsArgs { vms, all: false }, output, "waiting for", wait).await
}

/// Returns the conditions with paths that hold wherever they are looked at.
fn absolute(conditions: Vec<Condition>) -> Result<Vec<Condition>, Failure> {
    let absolute = |condition| match condition {
        Condition::File(path) => Ok(Condition::File(std::path::absolute(path)?)),
        other => Ok(other),
    };
    conditions.into_iter().map(absolute).collect()
}

pub(crate) async fn stop(maqet: &Maqet, args: StopArgs, output: &Output) -> Result<u8, Failure> {
    let StopArgs { vms, how: PowerOffArgs { timeout, force } } = args;
    each(maqet, vms, output, "stopping", async |vm| {
        maqet.run(operation::Stop::new(vm).timeout(timeout).force(force)).await
    })
    .await
}

pub(crate) async fn restart(maqet: &Maqet, args: RestartArgs, output: &Output) -> Result<u8, Failure> {
    let RestartArgs { vms, how: PowerOffArgs { timeout, force } } = args;
    let restart = async |vm| {
        let restarted = maqet.run(operation::Restart::new(vm).timeout(timeout).force(force)).await?;
        note_size_mismatches(&restarted.size_mismatches, output);
        Ok(restarted)
    };
    each(maqet, vms, output, "restarting", restart).await
}

pub(crate) async fn pause(maqet: &Maqet, args: Press, output: &Output) -> Result<u8, Failure> {
    each(maqet, args.vms, output, "pausing", async |vm| maqet.run(operation::Pause::new(vm)).await).await
}

pub(crate) async fn resume(maqet: &Maqet, args: Press, output: &Output) -> Result<u8, Failure> {
    each(maqet, args.vms, output, "resuming", async |vm| maqet.run(operation::Resume::new(vm)).await).await
}

pub(crate) async fn reset(maqet: &Maqet, args: Press, output: &Output) -> Result<u8, Failure> {
    each(maqet, args.vms, output, "resetting", async |vm| maqet.run(operation::Reset::new(vm)).await).await
}

pub(crate) async fn rm(maqet: &Maqet, args: RmArgs, output: &Output) -> Result<u8, Failure> {
    let force = args.force;
    each(maqet, args.vms, output, "removing", async |vm| maqet.run(operation::Rm::new(vm).force(force)).await).await
}

pub(crate) async fn status(maqet: &Maqet, args: Status, output: &Output) -> Result<u8, Failure> {
    each(maqet, args.vms, output, "looking at", async |vm| maqet.run(operation::Status::new(vm)).await).await
}

pub(crate) async fn inspect(maqet: &Maqet, args: InspectArgs, output: &Output) -> Result<u8, Failure> {
    each(maqet, args.vms, output, "looking at", async |vm| maqet.run(operation::Inspect { vm }).await).await
}

/// Does the same to each VM, several at once.
///
/// One VM gives one result; several, or `--all`, give a list in the order they were named. A failure is told in its
/// turn and keeps no other from its own; the exit code is that of the first.
async fn each<T>(
    maqet: &Maqet,
    vms: VmsArgs,
    output: &Output,
    what: &str,
    work: impl AsyncFn(String) -> Result<T, maqet::Error>,
) -> Result<u8, Failure>
where
    T: Serialize + TextOutput,
{
    let is_one = !vms.all && vms.vms.len() == 1;
    let names = named(maqet, vms).await?;
    let message = match names.as_slice() {
        [name] => format!("{what} `{name}`"),
        names => format!("{what} {} VMs", names.len()),
    };
    let mut results = Vec::new();
    let mut code = exit_code::DONE;
    let mut outcomes = stream::iter(names).map(|name| work(name)).buffered(AT_ONCE);
    while let Some(outcome) = progress::shown(output.shows_progress, &message, outcomes.next()).await {
        match outcome.map_err(Failure::from) {
            Ok(result) if is_one || output.is_for_people() => output.show(&result)?,
            Ok(result) => results.push(result),
            Err(failure) if is_one => return Err(failure),
            Err(failure) => {
                render::failure::show(&failure, output.format());
                code = if code == exit_code::DONE { exit_code::code(failure.fault) } else { code };
            }
        }
    }
    if !is_one && !output.is_for_people() {
        output.data(&results)?;
    }
    Ok(code)
}

async fn named(maqet: &Maqet, vms: VmsArgs) -> Result<Vec<String>, Failure> {
    if !vms.all {
        return Ok(vms.vms);
    }
    let all = maqet.run(operation::Ls::default()).await?;
    Ok(all.into_iter().map(|vm| vm.id).collect())
}
