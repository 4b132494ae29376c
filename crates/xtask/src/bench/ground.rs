//! Where the races are run: one private folder, the maqet that is measured, and the programs it is measured against.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::TestHome;
use serde_json::Value;

use super::race::{Race, told};
use super::row::Bar;
use crate::failure::{Failure, OrFailure};
use crate::{Result, program};

/// A limit that is a C program of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    name: &'static str,
    text: &'static str,
}

/// Connects to a monitor and asks for the state.
pub(crate) const QMP: Source = Source { name: "qmp", text: include_str!("qmp.c") };

/// Writes a small file, flushes it, renames it.
pub(crate) const PUBLISH: Source = Source { name: "publish", text: include_str!("publish.c") };

/// Prints so many bytes.
pub(crate) const PRINT: Source = Source { name: "print", text: include_str!("print.c") };

/// A home for all the races of a run.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) home: &'a TestHome,
    pub(crate) runs: usize,
    /// The example that runs many commands on one session, as a user of the library would.
    pub(crate) session: &'a Path,
}

impl Ground<'_> {
    /// Returns a race of as many rounds as are asked for.
    pub(crate) fn race(&self, work: impl Into<String>, limit: &'static str, bar: Bar) -> Race {
        Race { work: work.into(), limit, bar, runs: self.runs }
    }

    /// Returns a command of maqet.
    pub(crate) fn maqet<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.home.maqet(arguments).into_command()
    }

    /// Returns a command of maqet on the store `store`, one of many in this home.
    pub(crate) fn maqet_on<A: AsRef<OsStr>>(&self, store: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.maqet(arguments);
        command.env("XDG_DATA_HOME", self.home.path(store));
        command
    }

    /// Returns where the database of `store` is.
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

    /// Returns how many VMs `store` has, as maqet lists them.
    pub(crate) fn count(&self, store: &str) -> Result<usize> {
        let listed = json(self.maqet_on(store, ["ls", "--format", "json"]))?;
        listed.as_array().map(Vec::len).ok_or_else(|| Failure::new("`maqet ls --format json` does not print a list"))
    }

    /// Compiles a limit and returns where it is.
    pub(crate) fn compiled(&self, source: Source) -> Result<PathBuf> {
        let text = self.home.write(Path::new("limit").join(source.name).with_extension("c"), source.text);
        let binary = text.with_extension("");
        told(self.other("cc", [OsStr::new("-O2"), OsStr::new("-o"), binary.as_os_str(), text.as_os_str()]))?;
        Ok(binary)
    }
}

/// Returns what a command says in JSON, unmeasured.
pub(crate) fn json(command: Command) -> Result<Value> {
    let shown = program::shown(&command);
    let (_, said) = told(command)?;
    serde_json::from_str(&said).or_failure(|| format!("`{shown}` did not print JSON"))
}
