//! The log: what is done, for whoever wants to know.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::arguments::{Color, Global};
use crate::failure::Failure;

/// Sets the log going, if anybody asked for one.
pub(crate) fn begin(global: &Global) -> Result<(), Failure> {
    let level = match (global.verbose, &global.log_file) {
        (0, None) => return Ok(()),
        (0 | 1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (_, _) => LevelFilter::TRACE,
    };
    let builder = fmt().with_max_level(level).with_target(level == LevelFilter::TRACE);
    match &global.log_file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|error| {
                let message = format!("could not write the log file `{}`", path.display());
                Failure { causes: vec![error.to_string()], ..Failure::usage(message, Vec::new()) }
            })?;
            builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init();
        }
        None => builder.with_ansi(global.color == Color::Always).with_writer(std::io::stderr).init(),
    }
    Ok(())
}
