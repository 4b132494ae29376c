//! `maqet run`.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;

use maqet::operation::{
    KeepVm, MatrixCase, Run, RunOutcome, RunPhase, RunResult, RunShare, TestCase, junit, read_matrix,
};
use maqet::{Document, ErrorReport, Maqet};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::define::{documents, warn};
use super::exec::{self, CommandSignals, ReportFile, Streams};
use crate::args::RunArgs;
use crate::error::{output_failed, usage};
use crate::exit_code;
use crate::render::sanitize::escape_control;
use crate::render::{Output, TextOutput, data, error};

/// Runs a command in a VM of its own, or one after the other in several; returns the exit code.
pub(super) async fn run(maqet: &Maqet, args: RunArgs, output: &Output) -> Result<u8, ErrorReport> {
    // Before anything runs, so that no result is lost to a file that cannot be written.
    let report = args.report.as_deref().map(ReportFile::create).transpose()?;
    let junit_file = args.junit.as_deref().map(ReportFile::create).transpose()?;
    let cases = run_all(maqet, &args, output).await;
    if let Some(file) = junit_file {
        let text = match &cases {
            Ok(cases) => junit(cases),
            Err(report) => junit(&[not_begun(&args, report)]),
        };
        note_unwritten(file.put(&text), output);
    }
    if let Some(file) = report {
        let documents: Vec<Value> = match &cases {
            Ok(cases) => cases.iter().map(document).collect(),
            Err(report) => vec![document(&not_begun(&args, report))],
        };
        let document = match documents.as_slice() {
            [one] if args.matrix.is_none() => one.clone(),
            all => json!(all),
        };
        note_unwritten(file.put(&format!("{document:#}\n")), output);
    }
    finish(cases?, &args, output)
}

/// Returns what stands for the cases of which none was begun.
fn not_begun(args: &RunArgs, report: &ErrorReport) -> TestCase {
    let name = if args.matrix.is_some() { "matrix".to_owned() } else { args.command.join(" ") };
    TestCase::new(name, Err(report.clone()))
}

/// Returns the exit code: that of the first case that has failed.
fn finish(cases: Vec<TestCase>, args: &RunArgs, output: &Output) -> Result<u8, ErrorReport> {
    if args.matrix.is_some() {
        let failed = cases.iter().filter(|case| !case.has_passed()).count();
        output.note(&format!("{} of {} cases passed", cases.len() - failed, cases.len()));
    }
    let failed = cases.into_iter().find(|case| !case.has_passed());
    match failed.map(|case| case.result) {
        None => Ok(exit_code::DONE),
        Some(Ok(result)) => Ok(result.exit_code),
        // It was shown, unless it is the only one.
        Some(Err(report)) if args.matrix.is_some() => Ok(exit_code::of_exec(&report)),
        Some(Err(report)) => Err(report),
    }
}

async fn run_all(maqet: &Maqet, args: &RunArgs, output: &Output) -> Result<Vec<TestCase>, ErrorReport> {
    let files = documents(maqet, &args.files, output).await?;
    let Some(path) = &args.matrix else {
        let name = args.command.join(" ");
        let signals = CommandSignals::open()?;
        let result = run_case(maqet, args, &MatrixCase::default(), (files, signals), output).await;
        return Ok(vec![TestCase::new(name, result)]);
    };
    let [document] = documents(maqet, std::slice::from_ref(path), output)
        .await?
        .try_into()
        .unwrap_or_else(|_| unreachable!("a document for each path"));
    let cases = read_matrix(&document)?;
    // Once for all, so that none is lost between two.
    let signals = CommandSignals::open()?;
    let mut done = Vec::new();
    for case in &cases {
        output.note(&format!("case `{}`", case.name));
        let result = run_case(maqet, args, case, (files.clone(), Arc::clone(&signals)), output).await;
        if let Err(report) = &result {
            error::show(report, output.format());
        }
        let is_interrupted = result.as_ref().is_ok_and(|result| result.is_interrupted);
        let is_interrupted = signals.have_ended().await || is_interrupted;
        done.push(TestCase::new(case.name.clone(), result));
        if is_interrupted && done.len() < cases.len() {
            output.note(&format!("interrupted; {} cases were not run", cases.len() - done.len()));
            break;
        }
    }
    Ok(done)
}

/// Runs a command with the streams of this process, and shows what became of it.
async fn run_case(
    maqet: &Maqet,
    args: &RunArgs,
    case: &MatrixCase,
    (mut files, signals): (Vec<Document>, Arc<CommandSignals>),
    output: &Output,
) -> Result<RunResult, ErrorReport> {
    files.extend(documents(maqet, &case.files, output).await?);
    let command = case.command.as_ref().unwrap_or(&args.command);
    if command.is_empty() {
        return Err(usage(format!("case `{}` has no command", case.name)).hint("add one, or pass one after `--`"));
    }
    let streams = Streams::with_signals(signals, args.stdin, args.terminal, args.capture)?;
    let begins = Arc::new(Notify::new());
    let run = operation(maqet, args, case, command, files, streams.has_terminal())?.notifying(Arc::clone(&begins));
    let run =
        if args.capture { run.captured(Arc::clone(&streams) as _) } else { run.streams(Arc::clone(&streams) as _) };
    let result = {
        let mut running = pin!(maqet.run(run));
        let early = async {
            tokio::select! {
                biased;
                result = &mut running => Some(result),
                () = begins.notified() => None,
            }
        };
        match output.progress("preparing the VM", early).await {
            Some(result) => result,
            None => running.await,
        }
    };
    let has_exited = result.as_ref().is_ok_and(|result| result.outcome == RunOutcome::Exited);
    let written = exec::finish(streams, has_exited).await.map_err(output_failed);
    let result = result?;
    if args.capture {
        output.show(&result)?;
    } else if !output.is_text() {
        output.show_beside(&result);
    }
    if let Some(report) = &result.error {
        error::show(report, output.format());
    }
    note(&result, args.keep, output);
    written.map(|()| result)
}

fn operation(
    maqet: &Maqet,
    args: &RunArgs,
    case: &MatrixCase,
    command: &[String],
    files: Vec<Document>,
    has_terminal: bool,
) -> Result<Run, ErrorReport> {
    let overrides = &args.overrides;
    let flag = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
    let flags = flag("memory", &overrides.memory).into_iter().chain(flag("cpu", &overrides.cpu));
    let set: Vec<String> = flags.chain(overrides.set.iter().chain(&case.set).cloned()).collect();
    let share = args.share.iter().map(|share| {
        let path = super::absolute(&share.path)?;
        Ok(RunShare { path, ..share.clone() })
    });
    let variables = args.environment.iter().chain(&case.environment);
    Ok(Run::new(command)
        .vm(case.vm.clone().or_else(|| args.vm.clone()))
        .template(args.template.clone())
        .documents(files)
        .set(set)
        .lenient(overrides.lenient)
        .user(args.user.clone())
        .directory(args.workdir.clone())
        .environment(exec::environment(variables, has_terminal, maqet)?)
        .timeout(args.timeout)
        .kill_after(args.kill_after)
        .merge(args.merge)
        .via(args.via)
        .copy(args.copy.clone())
        .collect(args.collect.clone())
        .share(share.collect::<Result<Vec<_>, ErrorReport>>()?)
        .keep(args.keep)
        .wait(super::lifecycle::with_absolute_paths(args.wait.clone())?)
        .boot_timeout(args.boot_timeout))
}

/// Says what the streams of the command do not tell.
fn note(result: &RunResult, keep: KeepVm, output: &Output) {
    if !output.is_text() {
        return;
    }
    warn(&result.warnings, output);
    if let (Some(template), Some(reason)) = (&result.template, &result.rebuilt) {
        output.note(&format!("template `{template}` was rebuilt: {reason}"));
    }
    let because = result.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match result.outcome {
        RunOutcome::TimedOut => output.note(&format!("the command timed out, and was ended{because}")),
        RunOutcome::VmEnded => output.note(&format!("the VM ended under the command{because}")),
        RunOutcome::Lost => output.note(&format!("the command was lost{because}")),
        RunOutcome::Interrupted => output.note(&format!("interrupted{because}")),
        RunOutcome::Exited | RunOutcome::Signalled | RunOutcome::NotStarted => {
            if let Some(reason) = &result.reason {
                output.note(reason);
            }
        }
    }
    if let Some(stage) = result.stage.filter(|_| result.phase == RunPhase::Boot) {
        output.note(&format!("the guest came to the stage `{stage}`"));
    }
    // An error shows them itself.
    if !result.serial.is_empty() && result.error.is_none() {
        output.note("the last lines of its serial console are:");
        result.serial.iter().for_each(|line| output.note(&format!("  {line}")));
    }
    let steps: Vec<String> = result
        .steps
        .iter()
        .map(|step| format!("{} {}.{} s", step.phase, step.duration_ms / 1000, step.duration_ms % 1000 / 100))
        .collect();
    output.note(&steps.join(", "));
    let name = escape_control(&result.name);
    if result.kept {
        let stays = "it stays until `maqet rm --force --delete-storage`";
        output.note(&format!("kept `{name}`: open a shell with `maqet shell {name}`; {stays}"));
    }
    if let Some(reason) = &result.not_removed {
        let what = if keep == KeepVm::Never { "removed" } else { "removed or kept" };
        output.note(&format!("warning: `{name}` could not be {what}: {reason}; run `maqet cleanup` to remove it"));
    }
}

fn note_unwritten(written: Result<(), ErrorReport>, output: &Output) {
    if let Err(report) = written {
        output.note(&format!("warning: {}", report.message));
    }
}

/// Returns the document of the report about a case.
fn document(case: &TestCase) -> Value {
    let mut document = match &case.result {
        Ok(result) => data(result).unwrap_or_default(),
        Err(report) => {
            let mut document = json!({ "outcome": "not-started", "exit_code": exit_code::of_exec(report) });
            document["error"] = report.to_document()["error"].take();
            document
        }
    };
    document["case"] = json!(case.name);
    document
}

impl TextOutput for RunResult {
    /// The captured output.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.command {
            Some(command) => command.write(out),
            None => Ok(()),
        }
    }
}
