//! The log of maqet itself, enabled by `--verbose` and `--log-file`, and the export of spans.

mod field;
mod file;
mod json;
#[cfg(feature = "otlp")]
mod otlp;

use std::io;
use std::path::Path;

use maqet::{Environment, ErrorReport, Explanation, Fault};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use self::file::LogFile;
use self::json::JsonLayer;
use crate::args::{Color, GlobalArgs, LogFormat};
#[cfg(feature = "otlp")]
use crate::render::note;

/// A layer of any kind.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Ends the log when it is dropped.
#[must_use = "the export of spans ends with it"]
pub(crate) struct Logging {
    #[cfg(feature = "otlp")]
    _exporter: Option<otlp::Exporter>,
}

/// Starts logging, if it is enabled.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "variables are for the export only"))]
pub(crate) fn init(global: &GlobalArgs, environment: &Environment) -> Result<Logging, ErrorReport> {
    #[cfg(feature = "otlp")]
    let (spans, exporter) = match otlp::layer(environment) {
        Ok(export) => export.unzip(),
        Err(unusable) => {
            note(global.format, &format!("warning: no spans are exported: {unusable}"));
            (None, None)
        }
    };
    #[cfg(not(feature = "otlp"))]
    let spans: Option<BoxedLayer> = None;
    let layers: Vec<BoxedLayer> = log(global)?.into_iter().chain(spans).collect();
    if !layers.is_empty() {
        tracing_subscriber::registry().with(layers).init();
    }
    Ok(Logging {
        #[cfg(feature = "otlp")]
        _exporter: exporter,
    })
}

/// Returns the log, if it is enabled.
fn log(global: &GlobalArgs) -> Result<Option<BoxedLayer>, ErrorReport> {
    let level = match (global.verbose, &global.log_file) {
        (0, None) => return Ok(None),
        (0 | 1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (_, _) => LevelFilter::TRACE,
    };
    let format = global.log_format;
    let layer = match &global.log_file {
        Some(path) => {
            let file = LogFile::open(path).map_err(|error| cannot_open(path, &error))?;
            layer(format, level, false, file)
        }
        None => layer(format, level, global.color == Color::Always, io::stderr),
    };
    Ok(Some(layer.with_filter(level).boxed()))
}

fn layer<S, W>(format: LogFormat, level: LevelFilter, is_coloured: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_trace = level == LevelFilter::TRACE;
    match format {
        LogFormat::Json => JsonLayer::new(writer).boxed(),
        LogFormat::Text => {
            let spans = if is_trace { FmtSpan::CLOSE } else { FmtSpan::NONE };
            let layer = fmt::layer().with_target(is_trace).with_span_events(spans);
            layer.with_ansi(is_coloured).with_writer(writer).boxed()
        }
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> ErrorReport {
    let explanation = Explanation::new("host.log-file-unavailable", Fault::Host);
    ErrorReport::new(format!("cannot open the log file `{}`", path.display()), explanation).cause(error)
}
