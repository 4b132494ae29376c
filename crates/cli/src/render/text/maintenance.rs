//! Results of `maqet doctor` and `maqet cleanup`.

use std::io::{self, Write};

use maqet::operation::{Cleaned, CleanedItem, CleanupOutcome, Diagnosis};
use maqet::{Finding, Severity};

use super::{BAD, GOOD, PLAIN, TextOutput, UNUSUAL, counted, if_coloured};
use crate::render::sanitize::escape_control;

impl TextOutput for Diagnosis {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            write_finding(out, finding)?;
        }
        let fixed = if self.fixed > 0 { format!(", {} fixed", self.fixed) } else { String::new() };
        let style = if_coloured(if self.healthy { GOOD } else { BAD });
        let [problems, warnings] = [counted(self.problems, "problem"), counted(self.warnings, "warning")];
        writeln!(out, "{style}{problems}{style:#}, {warnings}{fixed}")
    }
}

fn write_finding(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    let (style, word) = match (&finding.fixed, finding.severity) {
        (Some(_), _) => (GOOD, "fixed"),
        (None, Severity::Ok) => (GOOD, "ok"),
        (None, Severity::Note) => (PLAIN, "note"),
        (None, Severity::Warning) => (UNUSUAL, "warning"),
        (None, Severity::Problem) => (BAD, "problem"),
    };
    let style = if_coloured(style);
    let (subject, message) = (escape_control(&finding.subject), escape_control(&finding.message));
    writeln!(out, "{style}{word:<8}{style:#} {subject}: {message}")?;
    if let Some(fixed) = &finding.fixed {
        return writeln!(out, "         {}", escape_control(fixed));
    }
    if let Some(hint) = finding.hint.as_ref().filter(|_| finding.severity > Severity::Ok) {
        let by_fix = if finding.fixable { " (`--fix` does this)" } else { "" };
        writeln!(out, "         hint: {}{by_fix}", escape_control(hint))?;
    }
    Ok(())
}

impl TextOutput for Cleaned {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.items.is_empty() {
            return writeln!(out, "nothing to clean up");
        }
        self.items.iter().try_for_each(|item| write_item(out, item, self.dry_run))
    }
}

fn write_item(out: &mut dyn Write, item: &CleanedItem, dry_run: bool) -> io::Result<()> {
    let (style, done, would) = match item.outcome {
        CleanupOutcome::Removed => (GOOD, "removed", "would remove"),
        CleanupOutcome::Reconciled => (GOOD, "reconciled", "would reconcile"),
        CleanupOutcome::Ended => (GOOD, "ended", "would end"),
        CleanupOutcome::Adopted => (GOOD, "adopted", "would adopt"),
        CleanupOutcome::Skipped => (UNUSUAL, "skipped", "would skip"),
        CleanupOutcome::Failed => (BAD, "failed", "failed"),
    };
    let (style, verb) = (if_coloured(style), if dry_run { would } else { done });
    let reason = item.reason.as_ref().map(|reason| format!(": {}", escape_control(reason))).unwrap_or_default();
    let method = item.method.map(|method| format!("; stop method: {method}")).unwrap_or_default();
    writeln!(out, "{style}{verb}{style:#} {} ({}{method}){reason}", escape_control(&item.subject), item.message)?;
    item.hint.iter().try_for_each(|hint| writeln!(out, "  hint: {}", escape_control(hint)))
}
