//! From the command line to the exit code.

use std::ffi::{OsStr, OsString};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use maqet::domain::event::{Event, kind};
use maqet::domain::text::quote;
use maqet::{Environment, ErrorReport, Maqet, Settings};

use crate::args::{Cli, Color, Format, GlobalArgs, suggestion};
use crate::error::{terminal_failed, usage};
use crate::render::{Output, error, note};
use crate::signal::{SignalKind, Signals};
use crate::{command, exit_code, logging};

/// How long a canceled operation may take to report that: it writes a line to a journal.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a command line.
pub(crate) fn main(argv: &[OsString]) -> ExitCode {
    let environment = Environment::from_process();
    let cli = match Cli::parse(argv, &environment) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(show_clap_error(&error, argv, &environment)),
    };
    set_colors(cli.global.color);
    let format = cli.global.format;
    let failure_code = command::failure_codes(&cli.command);
    let code = execute(cli, &environment).unwrap_or_else(|report| {
        error::show(&report, format);
        failure_code(&report)
    });
    ExitCode::from(code)
}

fn execute(cli: Cli, environment: &Environment) -> Result<u8, ErrorReport> {
    let _logging = logging::init(&cli.global, environment)?;
    let handles_signals = command::handles_signals(&cli.command);
    if command::is_interactive_shell(&cli.command) {
        command::stop_only_the_editor().map_err(terminal_failed)?;
    }
    // One thread: starting more takes time, and no command keeps more than one busy.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(terminal_failed)?;
    runtime.block_on(async {
        let maqet = open(&cli.global, environment).await?;
        let output = Output::new(&cli.global, maqet.app().watch_progress());
        let mut running = pin!(command::run(&maqet, cli.command, &output));
        tokio::select! {
            // Polled first, so that signals are handled before the command starts.
            biased;
            () = interrupted(), if !handles_signals => {
                output.interrupt();
                // A canceled start is rolled back, and a canceled stop tells the state of its VM; a second Ctrl-C does
                // not wait for that.
                tokio::select! {
                    biased;
                    outcome = &mut running => show_interrupted(outcome.err(), &output),
                    () = canceled(&maqet) => output.note_interrupted(),
                    () = interrupted() => output.note_interrupted(),
                }
                Ok(exit_code::INTERRUPTED)
            }
            code = &mut running => code,
        }
    })
}

async fn open(global: &GlobalArgs, environment: &Environment) -> Result<Maqet, ErrorReport> {
    let settings = Settings::discover(environment, &global.overrides())?;
    tracing::debug!(data = %settings.data_dir.display(), runtime = %settings.runtime_dir.display(),
        database = settings.database_location(), file = ?settings.config_file, "settings");
    let GlobalArgs { quiet: is_quiet, format, .. } = *global;
    let warn = move |event: &Event| {
        if event.kind == kind::HOOK_FAILED && !is_quiet {
            warn_of_failed_hook(event, format);
        }
    };
    Ok(Maqet::builder(settings).listener(Arc::new(warn)).open().await?)
}

fn warn_of_failed_hook(event: &Event, format: Format) {
    let text = |key: &str| event.data.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let [trigger, error, log] = ["event", "error", "log"].map(text);
    let args = event.data.get("command").and_then(|command| command.as_array());
    let args = args.into_iter().flatten().filter_map(|arg| arg.as_str()).map(quote);
    let command = args.collect::<Vec<_>>().join(" ");
    note(format, &format!("warning: hook `{command}` on `{trigger}` failed: {error}; see {log}"));
}

/// Cancels the jobs, and waits until their operations had time to report that.
async fn canceled(maqet: &Maqet) {
    let has_jobs = !maqet.app().jobs().list().is_empty();
    maqet.app().cancel_jobs().await;
    if has_jobs {
        tokio::time::sleep(REPORT_TIMEOUT).await;
    }
}

/// Shows in which state an interrupted command left its VM, if it says so.
fn show_interrupted(report: Option<ErrorReport>, output: &Output) {
    match report {
        Some(report) if report.code == "vm.stop-interrupted" => error::show(&report, output.format()),
        Some(_) | None => output.note_interrupted(),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() {
    match Signals::new(&[SignalKind::interrupt(), SignalKind::terminate()]) {
        Ok(mut signals) => drop(signals.next().await),
        Err(_) => std::future::pending().await,
    }
}

fn set_colors(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// Shows the help, or what is invalid about the command line, and returns the exit code.
fn show_clap_error(error: &clap::Error, argv: &[OsString], environment: &Environment) -> u8 {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_help || !wants_json(argv, environment) {
        // A closed pipe is not a failure.
        let _ = error.print();
        if let (false, Some(hint)) = (is_help, suggestion(error, argv)) {
            anstream::eprintln!("\n  hint: {hint}");
        }
        return if is_help { exit_code::DONE } else { usage_code(argv) };
    }
    let text = error.render().to_string();
    // Missing arguments are listed below the first line, one on each line.
    let paragraph: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let report = usage(paragraph.join(" ").trim_start_matches("error: "));
    let report = suggestion(error, argv).into_iter().fold(report, ErrorReport::hint).hint("run `maqet --help`");
    error::show(&report, Format::Json);
    usage_code(argv)
}

/// Returns the exit code of an invalid command line: that of `exec` must not be taken for the one of a command, and `run`
/// and `cp` have the same codes.
fn usage_code(argv: &[OsString]) -> u8 {
    let is_option = |arg: &&OsString| arg.as_encoded_bytes().starts_with(b"-");
    let command = argv.iter().skip(1).find(|arg| !is_option(arg));
    if command.is_some_and(|command| ["exec", "shell", "cp", "run"].map(OsStr::new).contains(&command.as_os_str())) {
        exit_code::NOT_STARTED
    } else {
        exit_code::from_fault(maqet::Fault::Usage)
    }
}

/// Returns whether errors are to be JSON although the command line is invalid.
fn wants_json(argv: &[OsString], environment: &Environment) -> bool {
    let by_option =
        argv.windows(2).any(|pair| pair == ["--format", "json"]) || argv.iter().any(|arg| arg == "--format=json");
    by_option || environment.get("MAQET_FORMAT").is_some_and(|format| format == "json")
}
