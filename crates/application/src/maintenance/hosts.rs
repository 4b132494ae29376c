//! Other hosts that share the database and are away.

use maqet_domain::history::Actor;

use super::{Area, Finding, Severity, count_vms};
use crate::host::Hosts;
use crate::host::error::evict_command;
use crate::{App, Error};

/// Reports the hosts that are away and have VMs.
pub(crate) async fn host_findings(app: &App) -> Result<Vec<Finding>, Error> {
    let Actor { user, host: here, .. } = app.ports.host.actor();
    let hosts = Hosts::read(&*app.ports.store).await?;
    let mut findings = Vec::new();
    for record in hosts.0.iter().filter(|record| record.vms > 0 && record.host != here) {
        let Some(since) = hosts.away_since(&record.host) else { continue };
        let of_owner = if record.owner == user { String::new() } else { format!(" of user `{}`", record.owner) };
        let vms = count_vms(record.vms);
        let message =
            format!("host away since {since:.0}: {vms}{of_owner}, running when last recorded: {}", record.open_runs);
        // A host on which no command runs is one on which nothing was started either.
        let severity = if record.open_runs > 0 { Severity::Warning } else { Severity::Note };
        let finding = Finding::new(severity, Area::Database, format!("host {}", record.host), message);
        let evict = evict_command(&record.host, &record.owner, None);
        findings.push(finding.hint(format!("move its VMs here with `{evict}` if it does not come back")));
    }
    Ok(findings)
}
