//! `doctor`: looks at everything, and mends what can be mended safely.

use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::maintenance::{Access, Area, Finding, Severity};
use crate::{App, Error};

/// Look at host, database, VMs and leftovers
///
/// Works also where the database cannot be opened. With --fix it does what is safe: it repairs or
/// backs up the database, closes folders to others, writes down the end of runs that are over, and
/// removes sockets, locks and unfinished files that nobody needs. It never removes a disk or a
/// definition, and ends no process. Exit code 1 says that a problem is left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// Do what is safe, and say what was done
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub fix: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether no problem is left.
    pub healthy: bool,
    /// How many problems are left.
    pub problems: usize,
    /// How many warnings there are that were not mended.
    pub warnings: usize,
    /// How many findings were mended.
    pub fixed: usize,
    /// All that was found: the host first, then the database, the VMs and leftovers.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    fn of(findings: Vec<Finding>) -> Self {
        let is_warning = |finding: &&Finding| finding.severity == Severity::Warning && finding.fixed.is_none();
        let problems = findings.iter().filter(|finding| finding.is_left()).count();
        Self {
            healthy: problems == 0,
            problems,
            warnings: findings.iter().filter(is_warning).count(),
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
        let mut findings = app.host_findings(self.fix).await;
        let (of_database, access) = app.database_findings(self.fix).await;
        findings.extend(of_database);
        match access {
            Access::Usable => {
                findings.extend(told(app.vm_findings(self.fix).await, Area::Vm));
                findings.extend(told(app.leftover_findings(self.fix).await, Area::StaleFiles));
            }
            Access::NoneYet => {}
            Access::Unusable => {
                let what = "not looked at: what belongs to a VM cannot be told without the database";
                findings.push(Finding::new(Severity::Note, Area::StaleFiles, "VMs and leftovers", what));
            }
        }
        Ok(Done::reading(Diagnosis::of(findings)))
    }
}

/// Returns the findings, or makes one of the error that hindered the look.
fn told(findings: Result<Vec<Finding>, Error>, area: Area) -> Vec<Finding> {
    findings.unwrap_or_else(|error| vec![Finding::of_error(Severity::Problem, area, "database", &error)])
}
