//! `ls`: all VMs and their states.

use std::collections::HashMap;

use futures_util::future::join_all;
use maqet_domain::port::{Holder, LockName};
use maqet_domain::vm::VmEntry;
use serde::{Deserialize, Serialize};

use crate::call::{Done, Effect, Operation};
use crate::look::VmStatus;
use crate::{App, Error, limits};

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum SortKey {
    /// The name.
    #[default]
    Name,
    /// The state, then the name.
    Status,
    /// When it was defined, the oldest first.
    Created,
}

/// List VMs and their states
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Ls {
    /// Only VMs in this state
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "STATUS", value_parser = maqet_domain::vm::Status::WORDS))]
    pub status: Option<String>,
    /// Only VMs whose name matches; `*` stands for any text and `?` for one character
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "GLOB"))]
    pub name: Option<String>,
    /// What to sort by
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "KEY"))]
    pub sort: SortKey,
}

impl Operation for Ls {
    const NAME: &'static str = "ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<VmStatus>;

    async fn run(&self, app: &App) -> Result<Done<Vec<VmStatus>>, Error> {
        let mut entries = app.ports.store.list().await?;
        if let Some(pattern) = &self.name {
            entries.retain(|entry| matches(pattern, entry.name.as_str()));
        }
        if self.sort == SortKey::Created {
            entries.sort_by_key(|entry| entry.created_at);
        }
        let mut statuses = look_at_all(app, &entries).await;
        if let Some(wanted) = &self.status {
            statuses.retain(|vm| vm.status == wanted);
        }
        if self.sort == SortKey::Status {
            statuses.sort_by(|a, b| a.status.cmp(b.status));
        }
        Ok(Done::reading(statuses))
    }
}

/// Looks at many VMs at once, so that one that hangs delays the list by its own deadline only.
async fn look_at_all(app: &App, entries: &[VmEntry]) -> Vec<VmStatus> {
    let held: HashMap<LockName, Holder> = app.ports.locks.held().await.into_iter().collect();
    let mut statuses = Vec::with_capacity(entries.len());
    for some in entries.chunks(limits::LOOKS_AT_ONCE) {
        let looks = some.iter().map(|entry| async {
            let holder = held.get(&LockName::Vm(entry.id)).cloned();
            VmStatus::of(entry, &app.look_beside(entry, holder).await)
        });
        statuses.extend(join_all(looks).await);
    }
    statuses
}

/// Returns whether `text` matches a pattern in which `*` is any text and `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            p = star_at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_glob_star_and_question_mark_match() {
        for (pattern, text, expected) in [
            ("web-*", "web-1", true),
            ("*", "", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("*-1", "a-b-1", true),
            ("web", "web1", false),
            ("*a*b*", "xxaxxbxx", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
