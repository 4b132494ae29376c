//! `doctor`: checks the host, the database and the VMs, and fixes what is safe to fix.

use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::maintenance::{
    Area, BinaryCheck, DatabaseAccess, DatabaseCheck, Finding, HostCheck, Severity, VmCheck, host_findings,
    stale_findings,
};
use crate::{App, Error};

/// Check the host, the database and the VMs for problems
///
/// Also works if the database cannot be opened. --fix repairs or backs up the database, makes
/// directories private, records the ends of runs, and removes unused sockets, locks and temporary
/// files. It never removes a disk or a definition, and never ends a process. The exit code is 1 if a
/// problem remains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Doctor {
    /// Fix the problems that are safe to fix
    #[cfg_attr(feature = "clap", arg(long))]
    pub fix: bool,
}

impl Doctor {
    /// Checks without fixing.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Whether no problem remains.
    pub healthy: bool,
    /// How many problems remain.
    pub problems: usize,
    /// How many warnings remain.
    pub warnings: usize,
    /// How many findings were fixed.
    pub fixed: usize,
    /// The findings: the host first, then the database, the VMs and stale files.
    pub findings: Vec<Finding>,
}

impl From<Vec<Finding>> for Diagnosis {
    fn from(findings: Vec<Finding>) -> Self {
        let is_open_warning = |finding: &&Finding| finding.severity == Severity::Warning && finding.fixed.is_none();
        let problems = findings.iter().filter(|finding| finding.is_open_problem()).count();
        Self {
            healthy: problems == 0,
            problems,
            warnings: findings.iter().filter(is_open_warning).count(),
            fixed: findings.iter().filter(|finding| finding.fixed.is_some()).count(),
            findings,
        }
    }
}

impl Operation for Doctor {
    const NAME: &'static str = "doctor";
    const EFFECT: Effect = Effect::Acts;
    type Output = Diagnosis;

    async fn run(&self, app: &App) -> Result<Done<Diagnosis>, Error> {
        let fix = self.fix;
        let mut findings = HostCheck { ports: &app.ports, folders: &app.folders, fix }.findings().await;
        let database = DatabaseCheck {
            maintenance: &app.ports.maintenance,
            hypervisor: &*app.ports.hypervisor,
            folders: &app.folders,
            fix,
        };
        let (of_database, access) = database.findings().await;
        findings.extend(of_database);
        match access {
            DatabaseAccess::Usable => {
                findings.extend(or_error(host_findings(app).await, Area::Database));
                findings.extend(or_error(BinaryCheck { app }.findings().await, Area::Host));
                findings.extend(or_error(VmCheck { app, fix }.findings().await, Area::Vm));
                findings.extend(or_error(stale_findings(app, fix).await, Area::StaleFiles));
            }
            DatabaseAccess::NotCreated => {}
            DatabaseAccess::Unusable => {
                let message = "not checked: the database is not usable";
                findings.push(Finding::new(Severity::Note, Area::StaleFiles, "VMs and stale files", message));
            }
        }
        Ok(Done::reading(findings.into()))
    }
}

/// Returns the findings of a check, or a finding of the error that stopped it.
fn or_error(findings: Result<Vec<Finding>, Error>, area: Area) -> Vec<Finding> {
    findings.unwrap_or_else(|error| vec![Finding::from_error(Severity::Problem, area, "database", &error)])
}
