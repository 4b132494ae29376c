//! From the words of the command line to the exit code.

use std::ffi::OsString;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use maqet::domain::event::{Event, kind};
use maqet::{Environment, Maqet, Settings};

use crate::args::{Cli, Color, Format, Global};
use crate::failure::Failure;
use crate::render::{Output, failure, note};
use crate::{command, exit_code, logging};

/// Runs a command line.
pub(crate) fn main(words: &[OsString]) -> ExitCode {
    let environment = Environment::from_process();
    let args = match Cli::read(words, &environment) {
        Ok(args) => args,
        Err(error) => return unparsed(&error, words, &environment),
    };
    choose_colors(args.global.color);
    let format = args.global.format;
    match begin(args, &environment) {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            failure::show(&failed, format);
            ExitCode::from(exit_code::code(failed.fault))
        }
    }
}

fn begin(args: Cli, environment: &Environment) -> Result<u8, Failure> {
    logging::begin(&args.global)?;
    let listens_itself = command::listens_itself(&args.command);
    if listens_itself {
        command::stop_where_lines_are_edited()?;
    }
    // One thread: starting more costs time, and nothing here keeps more than one busy.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let maqet = open(&args.global, environment).await?;
        let output = Output::new(&args.global);
        let mut running = pin!(command::run(&maqet, args.command, &output));
        tokio::select! {
            done = &mut running => done,
            () = interrupted(), if !listens_itself => {
                // A start that is half-way is given up in order, unless somebody cannot wait for that either.
                tokio::select! {
                    _ = &mut running => {}
                    () = maqet.app().interrupt() => {}
                    () = interrupted() => {}
                }
                output.note("interrupted");
                Ok(exit_code::INTERRUPTED)
            }
        }
    })
}

async fn open(global: &Global, environment: &Environment) -> Result<Maqet, Failure> {
    let settings = Settings::discover(environment, &global.overrides())?;
    tracing::debug!(data = %settings.data_dir.display(), runtime = %settings.runtime_dir.display(),
        database = without_credentials(&settings.database), file = ?settings.config_file, "settings");
    let (is_quiet, format) = (global.quiet, global.format);
    Ok(Maqet::builder(settings).listener(Arc::new(move |event: &Event| tell(event, is_quiet, format))).open().await?)
}

/// Says on standard error what nobody asked for and somebody has to know: that a hook failed.
fn tell(event: &Event, is_quiet: bool, format: Format) {
    if event.kind != kind::HOOK_FAILED || is_quiet {
        return;
    }
    let text = |key: &str| event.data.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let (of, error, log) = (text("event"), text("error"), text("log"));
    let command = event.data.get("command").map(ToString::to_string).unwrap_or_default();
    note(format, &format!("warning: the hook {command} of `{of}` failed: {error}; see {log}"));
}

/// Returns a database's URL without what stands between `//` and `@`.
fn without_credentials(url: &str) -> String {
    match url.split_once("//").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, place)) => format!("{scheme}//{place}"),
        None => url.to_owned(),
    }
}

/// Returns once somebody presses Ctrl-C or asks the process to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn choose_colors(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// Shows the help, or says what is wrong with the command line.
fn unparsed(error: &clap::Error, words: &[OsString], environment: &Environment) -> ExitCode {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_help || !wants_json(words, environment) {
        // A closed pipe is no failure of the help.
        let _ = error.print();
        if let (false, Some(hint)) = (is_help, hint(error, words)) {
            anstream::eprintln!("\n  hint: {hint}");
        }
        return ExitCode::from(if is_help { exit_code::DONE } else { exit_code::code(maqet::Fault::Usage) });
    }
    let text = error.render().to_string();
    // What is missing stands below a line that ends with a colon, one a line.
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let message = paragraph.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned();
    let mut hints: Vec<String> = hint(error, words).into_iter().collect();
    hints.push("see `maqet --help`".to_owned());
    failure::show(&Failure::usage(message, hints), Format::Json);
    ExitCode::from(exit_code::code(maqet::Fault::Usage))
}

/// Returns whether errors are to be JSON although the command line could not be understood.
fn wants_json(words: &[OsString], environment: &Environment) -> bool {
    let by_flag = words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json")
        || words.iter().any(|word| word == "--format=json");
    by_flag || environment.get("MAQET_FORMAT").is_some_and(|format| format == "json")
}

/// Returns what was probably meant and clap does not find.
fn hint(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let elsewhere = || match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => Cli::elsewhere(name),
        _ => None,
    };
    swapped_snapshot(words).or_else(elsewhere)
}

/// Tells whoever writes the Python program's order (`snapshot VM create …`) ours.
fn swapped_snapshot(words: &[OsString]) -> Option<String> {
    const ACTIONS: [&str; 4] = ["create", "load", "rm", "ls"];
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let at = words.iter().position(|word| *word == "snapshot")?;
    let (vm, action) = (words.get(at + 1)?, words.get(at + 2)?);
    let is_swapped = !ACTIONS.contains(vm) && ACTIONS.contains(action);
    is_swapped.then(|| {
        let swapped: Vec<&str> = [*action, *vm].into_iter().chain(words.iter().skip(at + 3).copied()).collect();
        format!("write `maqet snapshot {}`", swapped.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_without_credentials_drops_what_is_secret_alone() {
        assert_eq!(without_credentials("postgres://me:p@ss/word@db:5432/maqet"), "postgres://db:5432/maqet");
        assert_eq!(without_credentials("postgres://db/maqet"), "postgres://db/maqet");
        assert_eq!(without_credentials("sqlite:/home/a@b/maqet.db"), "sqlite:/home/a@b/maqet.db");
    }
}
