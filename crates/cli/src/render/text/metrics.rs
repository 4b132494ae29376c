//! The result of `maqet metrics`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::operation::{MeasuredWork, MetricReport};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for MetricReport {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (heading, work) in [("OPERATION", &self.operations), ("STEP", &self.steps)] {
            if !work.is_empty() {
                let rows = work.iter().map(|work| (PLAIN, row(work)));
                write_table(out, &[heading, "COUNT", "FAILURES", "P50", "P95", "P99", "TOTAL"], 0, rows)?;
                writeln!(out)?;
            }
        }
        let vms: Vec<String> =
            self.vms.iter().filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}")).collect();
        if !vms.is_empty() {
            writeln!(out, "VMs: {}", vms.join(", "))?;
        }
        for space in &self.directories {
            let [free, bytes] = [space.free_bytes, space.bytes].map(BinaryBytes);
            writeln!(
                out,
                "free in the {} directory: {free} of {bytes} at {}",
                space.name,
                escape_control(&space.path)
            )?;
        }
        match (&self.since, self.started_over) {
            (None, _) => writeln!(out, "no operation was counted yet"),
            (Some(since), false) => writeln!(out, "counted since {}", whole_seconds(since)),
            (Some(since), true) => {
                writeln!(out, "counted since {}: the counts of before were damaged", whole_seconds(since))
            }
        }
    }
}

fn row(work: &MeasuredWork) -> [Cow<'_, str>; 7] {
    let [p50, p95, p99, total] =
        [work.p50_seconds, work.p95_seconds, work.p99_seconds, work.total_seconds].map(|time| duration(time).into());
    [Cow::from(&work.name), work.count.to_string().into(), work.failures.to_string().into(), p50, p95, p99, total]
}

/// Returns a duration with the unit that suits it.
fn duration(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0} µs", seconds * 1e6),
        ..0.1 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.1} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_duration_has_unit_that_suits() {
        let shown = [0.0, 0.000_85, 0.0412, 0.412, 41.2, 412.0, 41_200.0].map(duration);

        assert_eq!(shown, ["0 µs", "850 µs", "41.2 ms", "412 ms", "41.2 s", "7 min", "11 h"]);
    }
}
