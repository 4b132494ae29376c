//! `maqet metrics`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use maqet::operation::Metrics;

use super::Format;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet metrics
  maqet metrics --format prometheus
  maqet metrics --output /var/lib/prometheus/node-exporter/maqet.prom")]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    pub(crate) metrics: Metrics,
    // Replaces the global option, which takes its value: `prometheus` is for this command only.
    /// Output format
    #[arg(long, default_value = "table", value_parser = parser())]
    format: Format,
}

fn parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["table", "json", "yaml", "prometheus"]).map(|format| match format.as_str() {
        "json" => Format::Json,
        "yaml" => Format::Yaml,
        "prometheus" => Format::Prometheus,
        _ => Format::Table,
    })
}
