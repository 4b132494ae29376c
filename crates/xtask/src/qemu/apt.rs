//! An apt of our own: the mirror and keys of the system, and nothing that is written outside of our directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::failure::OrFailure;
use crate::{Result, program};

/// apt with its lists, caches and sources in a private directory.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Writes the configuration into `folder`.
    pub(crate) fn in_folder(folder: &Path, source: &Source) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "sources", "downloads"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).or_failure(|| format!("cannot create `{}`", path.display()))?;
        }
        let config = folder.join("apt.conf");
        let files = [(&config, config_text(folder)), (&folder.join("sources").join(source.file), source.text.clone())];
        for (path, text) in files.into_iter().chain([(&folder.join("status"), String::new())]) {
            fs::write(path, text).or_failure(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(Self { folder: folder.to_owned(), config })
    }

    /// Downloads and verifies packages; returns the folder with them.
    ///
    /// The lists are signed by the keys that the system trusts, and contain the hashes of the packages.
    pub(crate) fn download(&self, packages: &[&str]) -> Result<PathBuf> {
        self.run(&["update", "--error-on=any"])?;
        self.run(&[&["download"], packages].concat())?;
        Ok(self.downloads())
    }

    fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut apt = program::command("apt-get");
        apt.arg("--config-file").arg(&self.config).args(["--quiet=2"]).args(arguments).current_dir(self.downloads());
        program::output(&mut apt).map(drop)
    }
}

/// Read after the system's configuration, which keeps its proxies.
fn config_text(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::Etc::sourcelist \"/dev/null\";\n\
         Dir::Etc::sourceparts \"{folder}/sources\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{folder}\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::AllowInsecureRepositories \"false\";\n\
         Acquire::AllowWeakRepositories \"false\";\n\
         Acquire::AllowDowngradeToInsecureRepositories \"false\";\n\
         APT::Get::AllowUnauthenticated \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n"
    )
}
