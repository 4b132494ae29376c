//! `maqet metrics`.

use maqet::{ErrorReport, Maqet};

use crate::args::{Format, MetricsArgs};
use crate::exit_code;
use crate::render::{self, Output};

/// Shows the metrics; as a table or as Prometheus text only if they are not written to a file.
pub(super) async fn run(maqet: &Maqet, args: MetricsArgs, output: &Output) -> Result<u8, ErrorReport> {
    let is_written = args.metrics.output.is_some();
    let report = output.progress("reading the metrics", maqet.run(args.metrics)).await?;
    if let Some(problem) = &report.problem {
        output.note(&format!("the VMs and disks are missing: {problem}"));
    }
    match output.format() {
        Format::Table | Format::Prometheus if is_written => {}
        Format::Prometheus => drop(render::line(report.to_prometheus().trim_end())?),
        Format::Table | Format::Json | Format::Yaml => output.show(&report)?,
    }
    Ok(exit_code::DONE)
}
