//! Where comparisons run: one private directory, the measured maqet, and the programs it is compared to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::TestHome;
use serde_json::Value;

use super::compare::{Comparison, output};
use super::row::Bar;
use crate::failure::{Failure, OrFailure};
use crate::workspace::Workspace;
use crate::{Result, program};

/// A C program to compare with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    name: &'static str,
    text: &'static str,
}

/// Connects to a monitor and queries the status.
pub(crate) const QMP: Source = Source { name: "qmp", text: include_str!("qmp.c") };

/// Writes a small file, syncs it, renames it.
pub(crate) const PUBLISH: Source = Source { name: "publish", text: include_str!("publish.c") };

/// Prints a number of bytes.
pub(crate) const PRINT: Source = Source { name: "print", text: include_str!("print.c") };

/// The environment of all comparisons of a run.
#[derive(Debug)]
pub(crate) struct Env<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) home: &'a TestHome,
    pub(crate) runs: usize,
}

impl Env<'_> {
    /// Returns a comparison of [`runs`](Self::runs) rounds.
    pub(crate) fn compare(&self, work: impl Into<String>, limit: &'static str, bar: Bar) -> Comparison {
        Comparison { work: work.into(), limit, bar, runs: self.runs }
    }

    /// Returns a command of maqet.
    pub(crate) fn maqet<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.home.maqet(arguments).into_command()
    }

    /// Returns a command of maqet on `store`, one of several in this home.
    pub(crate) fn maqet_on<A: AsRef<OsStr>>(&self, store: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.maqet(arguments);
        command.env("XDG_DATA_HOME", self.home.path(store));
        command
    }

    /// Returns the path of the database of `store`.
    pub(crate) fn database(&self, store: &str) -> PathBuf {
        self.home.path(store).join("maqet/maqet.db")
    }

    /// Returns a command of another program, in the same environment.
    pub(crate) fn other<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.home.environment()).current_dir(self.home.root()).args(arguments);
        command
    }

    /// Returns the number of VMs in `store` according to `maqet ls`.
    pub(crate) fn count(&self, store: &str) -> Result<usize> {
        let listed = json(self.maqet_on(store, ["ls", "--format", "json"]))?;
        listed.as_array().map(Vec::len).ok_or_else(|| Failure::new("`maqet ls --format json` does not print a list"))
    }

    /// Compiles a C program and returns its path.
    pub(crate) fn compiled(&self, source: Source) -> Result<PathBuf> {
        let text = self.home.write(Path::new("limit").join(source.name).with_extension("c"), source.text);
        let binary = text.with_extension("");
        output(self.other("cc", [OsStr::new("-O2"), OsStr::new("-o"), binary.as_os_str(), text.as_os_str()]))?;
        Ok(binary)
    }
}

/// Returns the JSON output of a command.
pub(crate) fn json(command: Command) -> Result<Value> {
    let shown = program::shown(&command);
    let (_, stdout) = output(command)?;
    serde_json::from_str(&stdout).or_failure(|| format!("`{shown}` did not print JSON"))
}
