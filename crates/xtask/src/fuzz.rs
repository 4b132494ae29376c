//! Runs the fuzz targets in `fuzz/`.

use std::fs;

use clap::ValueEnum;

use crate::failure::{Failure, OrFailure};
use crate::task::step;
use crate::workspace::Workspace;
use crate::{Result, program};

/// Memory limit of a target in MiB, most of it used by the sanitizer.
const MEMORY_MIB: u32 = 1024;

/// Timeout of one input in seconds; an input takes milliseconds.
const INPUT_TIMEOUT_SECONDS: u32 = 5;

/// Size limit of an input in bytes; longer inputs are slower and find nothing more.
const MAX_INPUT: u32 = 8192;

#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// Run only these targets
    #[arg(value_name = "TARGET", value_enum)]
    targets: Vec<Target>,
    /// Duration of each target in seconds
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// The targets, named as their files in `fuzz/fuzz_targets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Agent,
    Archive,
    Command,
    Config,
    Output,
    Qcow2,
    Qmp,
    Setting,
    Stream,
    Value,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Archive => "archive",
            Self::Command => "command",
            Self::Config => "config",
            Self::Output => "output",
            Self::Qcow2 => "qcow2",
            Self::Qmp => "qmp",
            Self::Setting => "setting",
            Self::Stream => "stream",
            Self::Value => "value",
        }
    }

    /// Returns the directories of initial inputs, which are only read.
    fn seeds(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &["fuzz/seeds/agent"],
            Self::Archive => &["fuzz/seeds/archive"],
            Self::Command => &["fuzz/seeds/command"],
            Self::Config => &["fuzz/seeds/config", "docs/examples", "tests/data/broken", "tests/data/python"],
            Self::Output => &["fuzz/seeds/output"],
            Self::Qcow2 => &["fuzz/seeds/qcow2"],
            Self::Qmp => &["fuzz/seeds/qmp"],
            Self::Setting => &["fuzz/seeds/setting"],
            Self::Stream => &["fuzz/seeds/stream"],
            Self::Value => &["fuzz/seeds/value"],
        }
    }

    /// Returns the dictionary.
    fn dictionary(self) -> &'static str {
        match self {
            Self::Agent | Self::Qmp => "fuzz/qmp.dict",
            Self::Archive => "fuzz/archive.dict",
            Self::Command => "fuzz/command.dict",
            Self::Config | Self::Setting | Self::Value => "fuzz/yaml.dict",
            Self::Output => "fuzz/output.dict",
            Self::Qcow2 => "fuzz/qcow2.dict",
            Self::Stream => "fuzz/stream.dict",
        }
    }
}

impl Fuzz {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        if program::find("cargo-fuzz").is_none() {
            return Err(Failure::new("cargo-fuzz is missing").hint("run `cargo install --locked cargo-fuzz`"));
        }
        let targets = if self.targets.is_empty() { Target::value_variants() } else { &self.targets };
        targets.iter().try_for_each(|target| self.fuzz(workspace, *target))
    }

    fn fuzz(&self, workspace: &Workspace, target: Target) -> Result<()> {
        let name = target.name();
        step(&format!("Fuzzing `{name}` for {} s", self.seconds));
        // New inputs go into the first folder; the others are part of the repository.
        let found = format!("fuzz/corpus/{name}");
        fs::create_dir_all(workspace.root().join(&found)).or_failure(|| format!("cannot create `{found}`"))?;
        // The profile of releases is for small programs; that of development has no other settings than this one.
        let mut command = workspace.cargo(["fuzz", "run", "--dev", "--features=targets", name, &found]);
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "3");
        // Stable compilers have the sanitizers too, and refuse to use them without this.
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR");
        command.args(target.seeds()).args(["--", "-print_final_stats=1"]);
        command
            .arg(format!("-dict={}", target.dictionary()))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={MAX_INPUT}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"));
        program::run(&mut command).map_err(|failure| {
            Failure::new(format!("`{name}` found a failing input"))
                .because(failure)
                .hint(format!("reproduce with RUSTC_BOOTSTRAP=1 cargo fuzz run --dev --features=targets {name} fuzz/artifacts/{name}/FILE"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn test_targets_all_have_a_file_and_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();

        for target in Target::value_variants() {
            assert!(root.join(format!("fuzz/fuzz_targets/{}.rs", target.name())).is_file(), "{target:?}");
            for folder in target.seeds() {
                assert!(root.join(folder).read_dir().unwrap().next().is_some(), "{folder}");
            }
            assert!(root.join(target.dictionary()).is_file(), "{target:?}");
        }
        let files = root.join("fuzz/fuzz_targets").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let of_targets = files.filter(|path| fs::read_to_string(path).unwrap().contains("fuzz_target!("));
        assert_eq!(of_targets.count(), Target::value_variants().len());
    }
}
