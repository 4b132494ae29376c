//! `metrics`: how often operations ran and how long they took, and the VMs, disks and free space at this moment.

mod prometheus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::metric::{Histogram, Metric, MetricKind, MetricRecord, Quantile};
use maqet_domain::vm::Status;
use serde::{Deserialize, Serialize};

use super::Ls;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::operation::StorageLs;
use crate::{App, Error};

/// Show how often operations ran, failed, and how long they took
///
/// The metrics are those of all commands of this user on this host since the file `metrics` in the data directory was
/// created. The durations are exact to a quarter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Metrics {
    /// Write the metrics as Prometheus text to this file, for the textfile collector of the node exporter
    #[cfg_attr(feature = "clap", arg(short, long, value_name = "FILE"))]
    #[setters(strip_option)]
    pub output: Option<PathBuf>,
}

impl Metrics {
    /// Reads the metrics.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The metrics.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MetricReport {
    /// Since when operations are counted; `null` if none was.
    pub since: Option<Timestamp>,
    /// Whether the counts were lost at that time, because their file was damaged.
    pub started_over: bool,
    /// The operations, ordered by name.
    pub operations: Vec<MeasuredWork>,
    /// The steps of operations, ordered by name.
    pub steps: Vec<MeasuredWork>,
    /// How many VMs are in each state.
    pub vms: BTreeMap<&'static str, u64>,
    /// The disks of the VMs.
    pub disks: Vec<DiskSize>,
    /// Why VMs or disks are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The space of the file systems with maqet's directories.
    pub directories: Vec<DirectorySpace>,
}

/// An operation or a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MeasuredWork {
    /// Its name.
    pub name: String,
    /// How often it ran.
    pub count: u64,
    /// How often it failed or was canceled.
    pub failures: u64,
    /// How long it took in all.
    pub total_seconds: f64,
    /// What half of them did not exceed.
    pub p50_seconds: f64,
    /// What 95 % of them did not exceed.
    pub p95_seconds: f64,
    /// What 99 % of them did not exceed.
    pub p99_seconds: f64,
    /// The durations.
    #[serde(skip)]
    pub durations: Histogram,
}

impl From<Metric> for MeasuredWork {
    fn from(metric: Metric) -> Self {
        let Metric { key, failures, total, durations } = metric;
        let seconds = |quantile| durations.quantile(quantile).unwrap_or(Duration::ZERO).as_secs_f64();
        Self {
            name: key.name.into_owned(),
            count: durations.count(),
            failures,
            total_seconds: total.as_secs_f64(),
            p50_seconds: seconds(Quantile::P50),
            p95_seconds: seconds(Quantile::P95),
            p99_seconds: seconds(Quantile::P99),
            durations,
        }
    }
}

/// The size of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiskSize {
    /// The VM's name.
    pub vm: String,
    /// The drive.
    pub drive: String,
    /// The size in the guest, if it is known.
    pub virtual_bytes: Option<u64>,
    /// The space that its image takes, without its backing files, if it is known.
    pub allocated_bytes: Option<u64>,
}

/// The space of the file system with a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DirectorySpace {
    /// Which directory it is: `data`, `state` or `runtime`.
    pub name: &'static str,
    /// Its path.
    pub path: String,
    /// What this user may still write.
    pub free_bytes: u64,
    /// The size of the file system.
    pub bytes: u64,
}

impl MetricReport {
    /// Returns the metrics in the text format of Prometheus.
    pub fn to_prometheus(&self) -> String {
        prometheus::text(self)
    }
}

impl Operation for Metrics {
    const NAME: &'static str = "metrics";
    const EFFECT: Effect = Effect::Reads;
    type Output = MetricReport;

    /// Works without a database, too: only the VMs and their disks are missing then.
    async fn run(&self, app: &App) -> Result<Done<MetricReport>, Error> {
        let MetricRecord { since, started_over, metrics } = app.ports.metrics.read()?;
        let (operations, steps): (Vec<_>, Vec<_>) =
            metrics.into_iter().partition(|metric| metric.key.kind == MetricKind::Operation);
        let mut report = MetricReport {
            since,
            started_over,
            operations: operations.into_iter().map(MeasuredWork::from).collect(),
            steps: steps.into_iter().map(MeasuredWork::from).collect(),
            vms: BTreeMap::new(),
            disks: Vec::new(),
            problem: None,
            directories: directories(app).await,
        };
        if let Err(error) = Box::pin(add_vms(app, &mut report)).await {
            report.problem = Some(error.for_logs());
        }
        if let Some(file) = &self.output {
            app.ports.metrics.publish(file, &report.to_prometheus())?;
        }
        Ok(Done::reading(report))
    }
}

async fn add_vms(app: &App, report: &mut MetricReport) -> Result<(), Error> {
    let vms = Ls::default().run(app).await?.value;
    report.vms = Status::NAMES.iter().map(|state| (*state, 0)).collect();
    for vm in vms {
        *report.vms.entry(vm.status).or_default() += 1;
    }
    let drives = StorageLs::default().run(app).await?.value;
    report.disks = drives
        .into_iter()
        .map(|drive| DiskSize {
            vm: drive.vm,
            drive: drive.drive,
            virtual_bytes: drive.image.virtual_bytes,
            allocated_bytes: drive.image.allocated_bytes,
        })
        .collect();
    Ok(())
}

async fn directories(app: &App) -> Vec<DirectorySpace> {
    let storage = &app.folders.storage;
    let data = storage.parent().unwrap_or(storage);
    let all: [(&str, &Path); 3] = [("data", data), ("state", &app.folders.state), ("runtime", &app.folders.runtime)];
    let mut found = Vec::new();
    for (name, path) in all {
        if let Some(space) = app.ports.maintenance.probe.space(path).await {
            found.push(DirectorySpace { name, path: shown(path), free_bytes: space.free_bytes, bytes: space.bytes });
        }
    }
    found
}
