//! The commands that take several VMs: `start`, `stop`, `wait`, `rm`, `status`, `inspect` and so on.

use std::future::ready;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt};
use maqet::operation::{self, Since, Upgrade};
use maqet::{Condition, ErrorReport, HumanDuration, Maqet, Operation, WaitSince};
use serde::Serialize;
use tokio::time::Instant;

use super::absolute;
use super::define::{note_mismatches, warn_of_log_failure, warn_of_start};
use crate::args::{RestartArgs, RmArgs, StartArgs, StopArgs, StopOptions, VmsArgs, WaitArgs};
use crate::exit_code;
use crate::render::{self, Output, TextOutput};

/// How many VMs are worked on concurrently: with more, booting VMs only compete for the CPUs; with fewer, one guest
/// that powers off slowly delays the others.
const MAX_CONCURRENT_VMS: usize = 8;

/// The code of the error that a VM is not removed with its images because another VM uses one of them.
const IMAGE_IN_USE: &str = "storage.image-in-use";

pub(super) async fn start(maqet: &Maqet, args: StartArgs, output: &Output) -> Result<u8, ErrorReport> {
    if args.foreground {
        return super::foreground::start(maqet, args, output).await;
    }
    let StartArgs { vms, wait, timeout, recreate, paused, dry_run, foreground: _, grace: _ } = args;
    if dry_run {
        return run_on_each(maqet, vms, output, "reading", |vm| operation::Info::new(vm).command_line(true)).await;
    }
    let conditions = with_absolute_paths(wait)?;
    let start = async |vm| {
        let began = Instant::now();
        let start = operation::Start::new(vm).timeout(timeout).recreate(recreate.clone()).paused(paused);
        let mut started = maqet.run(start).await?;
        note_mismatches(&started.mismatches, output);
        warn_of_log_failure(started.log_failure.as_ref(), output);
        warn_of_start(&started.vm.name, &started.warnings, output);
        if !conditions.is_empty() {
            // Events count from the start of this boot, however early they occurred.
            let since = started.vm.started_at.map(|at| WaitSince::Moment(Since::At(at)));
            let left = timeout.map(|all| HumanDuration::new(all.duration().saturating_sub(began.elapsed())));
            let vm = started.vm.id.clone();
            let wait = operation::Wait::new(vm, conditions.clone()).timeout(left).since(since);
            let waited = maqet.run(wait).await;
            started.vm = waited.map_err(|error| with_given_timeout(error, timeout))?.vm;
        }
        Ok(started)
    };
    for_each_vm(maqet, vms, output, "starting", start).await
}

/// Returns the error of a wait with the timeout that the user has given, of which the start took a part.
fn with_given_timeout(error: maqet::Error, timeout: Option<HumanDuration>) -> maqet::Error {
    match timeout {
        Some(timeout) => error.of_timeout(timeout.duration()),
        None => error,
    }
}

pub(super) async fn wait(maqet: &Maqet, args: WaitArgs, output: &Output) -> Result<u8, ErrorReport> {
    // `--all` is the default, so that only `--any` matters.
    let WaitArgs { vms, conditions, any, all: _, timeout, since } = args;
    let conditions = with_absolute_paths(conditions)?;
    let wait = |vm| operation::Wait::new(vm, conditions.clone()).any(any).timeout(timeout).since(since);
    run_on_each(maqet, VmsArgs { vms, all: false }, output, "waiting for", wait).await
}

pub(super) fn with_absolute_paths(conditions: Vec<Condition>) -> Result<Vec<Condition>, ErrorReport> {
    let with_absolute_path = |condition| match condition {
        Condition::File(path) => Ok(Condition::File(absolute(&path)?)),
        other => Ok(other),
    };
    conditions.into_iter().map(with_absolute_path).collect()
}

pub(super) async fn stop(maqet: &Maqet, args: StopArgs, output: &Output) -> Result<u8, ErrorReport> {
    let StopArgs { vms, options: StopOptions { timeout, force } } = args;
    let stop = async |vm| {
        let stopped = maqet.run(operation::Stop::new(vm).timeout(timeout).force(force)).await?;
        note_power_cut(&stopped.vm.name, stopped.power_cut_after_ms, output);
        Ok(stopped)
    };
    for_each_vm(maqet, vms, output, "stopping", stop).await
}

/// Notes that the power of a guest was cut, and what helps.
pub(super) fn note_power_cut(vm: &str, after_ms: Option<u64>, output: &Output) {
    if after_ms.is_some() {
        output.note(&format!(
            "the power of `{vm}` was cut, as its guest ignored the power button or was too slow: \
             pass a longer `--timeout`, or check that it handles ACPI power-down"
        ));
    }
}

pub(super) async fn restart(maqet: &Maqet, args: RestartArgs, output: &Output) -> Result<u8, ErrorReport> {
    let RestartArgs { vms, options: StopOptions { timeout, force }, recreate } = args;
    let restart = async |vm| {
        let restarted =
            maqet.run(operation::Restart::new(vm).timeout(timeout).force(force).recreate(recreate.clone())).await?;
        note_power_cut(&restarted.vm.name, restarted.power_cut_after_ms, output);
        note_mismatches(&restarted.mismatches, output);
        warn_of_log_failure(restarted.log_failure.as_ref(), output);
        warn_of_start(&restarted.vm.name, &restarted.warnings, output);
        Ok(restarted)
    };
    for_each_vm(maqet, vms, output, "restarting", restart).await
}

pub(super) async fn upgrade(maqet: &Maqet, mut upgrade: Upgrade, output: &Output) -> Result<u8, ErrorReport> {
    // QEMU is started in another directory.
    upgrade.binary = upgrade.binary.as_deref().map(absolute_program).transpose()?;
    let upgraded = output.progress("putting the guest into another QEMU", maqet.run(upgrade)).await?;
    warn_of_start(&upgraded.vm.name, &upgraded.warnings, output);
    output.finish(&upgraded)
}

/// Returns the absolute path of a program; a name without a slash is searched for in PATH.
fn absolute_program(program: &Path) -> Result<PathBuf, ErrorReport> {
    if program.components().count() > 1 { absolute(program) } else { Ok(program.to_owned()) }
}

pub(super) async fn rm(maqet: &Maqet, args: RmArgs, output: &Output) -> Result<u8, ErrorReport> {
    let RmArgs { vms, force, delete_storage } = args;
    let rm = async |vm| maqet.run(operation::Rm::new(vm).force(force).delete_storage(delete_storage)).await;
    let batch = Batch { vms, verb: "removing", retried: IMAGE_IN_USE };
    for_each_of(maqet, batch, output, rm).await
}

/// Runs the operation that `new` makes on each VM.
pub(super) async fn run_on_each<O>(
    maqet: &Maqet,
    vms: VmsArgs,
    output: &Output,
    verb: &str,
    new: impl Fn(String) -> O,
) -> Result<u8, ErrorReport>
where
    O: Operation,
    O::Output: Serialize + TextOutput,
{
    for_each_vm(maqet, vms, output, verb, async |vm| maqet.run(new(vm)).await).await
}

/// Does work on each VM, several at a time.
///
/// One VM gives one result; several, or `--all`, give a list in the given order. A failure does not affect the other
/// VMs; the exit code is that of the first failure that is shown. Canceled operations are not reported, as the command ends.
async fn for_each_vm<T>(
    maqet: &Maqet,
    vms: VmsArgs,
    output: &Output,
    verb: &str,
    work: impl AsyncFn(String) -> Result<T, maqet::Error>,
) -> Result<u8, ErrorReport>
where
    T: Serialize + TextOutput,
{
    for_each_of(maqet, Batch { vms, verb, retried: "" }, output, work).await
}

/// The VMs of a command, and how it works on them.
struct Batch<'a> {
    vms: VmsArgs,
    verb: &'a str,
    /// The code of a failure that may be gone once other VMs are done: as long as one is, the work is tried again.
    retried: &'a str,
}

/// Does the same for the VMs of a batch.
async fn for_each_of<T>(
    maqet: &Maqet,
    batch: Batch<'_>,
    output: &Output,
    work: impl AsyncFn(String) -> Result<T, maqet::Error>,
) -> Result<u8, ErrorReport>
where
    T: Serialize + TextOutput,
{
    let Batch { vms, verb, retried } = batch;
    let is_one = !vms.all && vms.vms.len() == 1;
    let names = names(maqet, vms).await?;
    let message = match names.as_slice() {
        [name] => format!("{verb} `{name}`"),
        names => format!("{verb} {} VMs", names.len()),
    };
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    let mut left: Vec<(usize, String)> = names.into_iter().enumerate().collect();
    while !left.is_empty() {
        let mut again = Vec::new();
        let count = left.len();
        let names = stream::iter(left).take_while(|_| ready(!output.is_interrupted()));
        let outcomes = names.map(async |(index, name)| (index, work(name.clone()).await, name));
        let mut outcomes = outcomes.buffered(MAX_CONCURRENT_VMS);
        while let Some((index, outcome, name)) = output.progress(&message, outcomes.next()).await {
            match outcome.map_err(ErrorReport::from) {
                Ok(result) if is_one || output.is_text() => output.show(&result)?,
                Ok(result) => results.push((index, render::data(&result)?)),
                Err(report) if is_one => return Err(report),
                Err(report) if report.code == "operation.interrupted" => {}
                Err(report) if report.code == retried => again.push((index, name, report)),
                Err(report) => failures.push(show_failure(&report, output)),
            }
        }
        if again.len() == count || output.is_interrupted() {
            failures.extend(again.drain(..).map(|(_, _, report)| show_failure(&report, output)));
        }
        left = again.into_iter().map(|(index, name, _)| (index, name)).collect();
    }
    if !is_one && !output.is_text() {
        results.sort_by_key(|(index, _)| *index);
        output.show_data(&results.into_iter().map(|(_, result)| result).collect::<Vec<_>>())?;
    }
    Ok(failures.first().copied().unwrap_or(exit_code::DONE))
}

/// Shows why the work on one of several VMs failed; returns the exit code.
fn show_failure(report: &ErrorReport, output: &Output) -> u8 {
    render::error::show(report, output.format());
    exit_code::from_fault(report.fault)
}

async fn names(maqet: &Maqet, vms: VmsArgs) -> Result<Vec<String>, ErrorReport> {
    if !vms.all {
        return Ok(vms.vms);
    }
    let all = maqet.run(operation::Ls::default()).await?;
    Ok(all.into_iter().map(|vm| vm.id).collect())
}
