//! The text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use super::{DiskSize, MeasuredWork, MetricReport};

/// Returns the metrics as text; each of a family has the same labels.
pub(super) fn text(report: &MetricReport) -> String {
    let mut text = Text(String::new());
    text.family("maqet_build_info", "gauge", "The version of maqet.");
    text.sample("maqet_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(since) = report.since {
        let name = "maqet_metrics_start_time_seconds";
        text.family(name, "gauge", "Since when operations are counted, as Unix time.");
        text.sample(name, &[], since.as_second());
    }
    text.work("operation", "operations", &report.operations);
    text.work("step", "steps of operations", &report.steps);

    text.family("maqet_database_up", "gauge", "Whether the VMs could be read.");
    text.sample("maqet_database_up", &[], u8::from(report.problem.is_none()));
    text.family("maqet_vms", "gauge", "The number of VMs in a state.");
    for (state, count) in &report.vms {
        text.sample("maqet_vms", &[("state", state)], count);
    }
    let sizes = report.disks.iter().map(|disk| (disk, disk.virtual_bytes));
    text.disks("maqet_disk_virtual_bytes", "The size of a disk in the guest.", sizes);
    let sizes = report.disks.iter().map(|disk| (disk, disk.allocated_bytes));
    text.disks("maqet_disk_allocated_bytes", "The space that the image of a disk takes.", sizes);

    text.family("maqet_filesystem_free_bytes", "gauge", "What may still be written to the file system of a directory.");
    for space in &report.directories {
        text.sample("maqet_filesystem_free_bytes", &[("directory", space.name)], space.free_bytes);
    }
    text.family("maqet_filesystem_size_bytes", "gauge", "The size of the file system of a directory.");
    for space in &report.directories {
        text.sample("maqet_filesystem_size_bytes", &[("directory", space.name)], space.bytes);
    }
    text.0
}

/// Text that is being written; writing to a string cannot fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if index == 0 { "{" } else { "," }, escaped(value));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// Writes a histogram and a counter of failures.
    fn work(&mut self, label: &str, what: &str, all: &[MeasuredWork]) {
        if all.is_empty() {
            return;
        }
        let name = format!("maqet_{label}_duration_seconds");
        self.family(&name, "histogram", &format!("How long {what} took."));
        for work in all {
            let bucket = format!("{name}_bucket");
            for (bound, count) in work.durations.cumulative() {
                let bound = bound.as_secs_f64().to_string();
                self.sample(&bucket, &[(label, &work.name), ("le", &bound)], count);
            }
            self.sample(&bucket, &[(label, &work.name), ("le", "+Inf")], work.count);
            self.sample(&format!("{name}_sum"), &[(label, &work.name)], work.total_seconds);
            self.sample(&format!("{name}_count"), &[(label, &work.name)], work.count);
        }
        let name = format!("maqet_{label}_failures_total");
        self.family(&name, "counter", &format!("How many {what} failed or were canceled."));
        for work in all {
            self.sample(&name, &[(label, &work.name)], work.failures);
        }
    }

    fn disks<'a>(&mut self, name: &str, help: &str, sizes: impl Iterator<Item = (&'a DiskSize, Option<u64>)>) {
        self.family(name, "gauge", help);
        for (disk, bytes) in sizes {
            if let Some(bytes) = bytes {
                self.sample(name, &[("vm", &disk.vm), ("drive", &disk.drive)], bytes);
            }
        }
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maqet_domain::metric::{Metric, MetricKey};

    use super::*;

    fn report() -> MetricReport {
        let mut start = Metric::new(MetricKey::operation("start"));
        start.add(false, Duration::from_millis(40));
        start.add(true, Duration::from_mins(50));
        MetricReport {
            since: Some("2026-11-30T06:00:00Z".parse().unwrap()),
            started_over: false,
            operations: vec![start.into()],
            steps: Vec::new(),
            vms: [("running", 2)].into(),
            disks: vec![DiskSize {
                vm: "a\\b\"c".to_owned(),
                drive: "root".to_owned(),
                virtual_bytes: Some(7),
                allocated_bytes: None,
            }],
            problem: None,
            directories: Vec::new(),
        }
    }

    fn lines(text: &str, start: &str) -> Vec<String> {
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn test_histogram_counts_are_cumulative_with_sum_and_failures() {
        let text = text(&report());

        let buckets = lines(&text, "maqet_operation_duration_seconds_bucket");
        assert_eq!(buckets.len(), 29);
        assert!(
            buckets
                .contains(&r#"maqet_operation_duration_seconds_bucket{operation="start",le="0.032768"} 0"#.to_owned())
        );
        assert!(
            buckets
                .contains(&r#"maqet_operation_duration_seconds_bucket{operation="start",le="0.065536"} 1"#.to_owned())
        );
        assert_eq!(buckets[28], r#"maqet_operation_duration_seconds_bucket{operation="start",le="+Inf"} 2"#);
        let sum = r#"maqet_operation_duration_seconds_sum{operation="start"} 3000.04"#;
        assert_eq!(lines(&text, "maqet_operation_duration_seconds_sum"), [sum]);
        assert_eq!(
            lines(&text, "maqet_operation_failures_total"),
            [r#"maqet_operation_failures_total{operation="start"} 1"#]
        );
    }

    #[test]
    fn test_labels_are_escaped_and_unknown_sizes_left_out() {
        let text = text(&report());

        assert_eq!(lines(&text, "maqet_disk_virtual"), [r#"maqet_disk_virtual_bytes{vm="a\\b\"c",drive="root"} 7"#]);
        assert_eq!(lines(&text, "maqet_disk_allocated"), [""; 0]);
        assert_eq!(lines(&text, "maqet_database_up"), ["maqet_database_up 1"]);
    }
}
