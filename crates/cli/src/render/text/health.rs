//! What `doctor` and `cleanup` found, for people.

use std::io::{self, Write};

use anstyle::Style;
use maqet::operation::{Cleaned, CleanedItem, Diagnosis, Outcome};
use maqet::{Finding, Severity};

use super::{BAD, GOOD, ODD, PLAIN, TextOutput, in_colour};
use crate::render::sanitize::escape_control;

impl TextOutput for Diagnosis {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            write_finding(out, finding)?;
        }
        let fixed = if self.fixed > 0 { format!(", {} fixed", self.fixed) } else { String::new() };
        let style = in_colour(if self.healthy { GOOD } else { BAD });
        let [problems, warnings] = [counted(self.problems, "problem"), counted(self.warnings, "warning")];
        writeln!(out, "{style}{problems}{style:#}, {warnings}{fixed}")
    }
}

/// Returns a number of things in words.
fn counted(number: usize, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

fn write_finding(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    let (style, word) = match (&finding.fixed, finding.severity) {
        (Some(_), _) => (GOOD, "fixed"),
        (None, Severity::Ok) => (GOOD, "ok"),
        (None, Severity::Note) => (PLAIN, "note"),
        (None, Severity::Warning) => (ODD, "warning"),
        (None, Severity::Problem) => (BAD, "problem"),
    };
    let style = in_colour(style);
    writeln!(out, "{style}{word:<8}{style:#} {}: {}", escape_control(&finding.subject), escape_control(&finding.what))?;
    if let Some(fixed) = &finding.fixed {
        return writeln!(out, "         {}", escape_control(fixed));
    }
    if let Some(cure) = finding.cure.as_ref().filter(|_| finding.severity > Severity::Ok) {
        let by_fix = if finding.fixable { " (`--fix` does it)" } else { "" };
        writeln!(out, "         cure: {}{by_fix}", escape_control(cure))?;
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
    let (style, done, would): (Style, &str, &str) = match item.outcome {
        Outcome::Removed => (GOOD, "removed", "would remove"),
        Outcome::Settled => (GOOD, "written down", "would write down"),
        Outcome::Ended => (GOOD, "ended", "would end"),
        Outcome::Adopted => (GOOD, "taken back", "would take back"),
        Outcome::Left => (ODD, "left", "would leave"),
        Outcome::Failed => (BAD, "failed", "failed"),
    };
    let (style, word) = (in_colour(style), if dry_run { would } else { done });
    let why = item.why.as_ref().map(|why| format!(": {}", escape_control(why))).unwrap_or_default();
    writeln!(out, "{style}{word}{style:#} {} ({}){why}", escape_control(&item.subject), item.what)
}
