//! Unpacking Debian packages, without installing them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, OrFailure};
use crate::{Result, program};

/// Unpacks packages downloaded into `downloads`, each into the folder that `into` returns for its name, in parallel.
pub(crate) fn unpack(downloads: &Path, packages: &[String], into: impl Fn(&str) -> PathBuf) -> Result<()> {
    let archives = packages
        .iter()
        .map(|package| Ok((only_entry(downloads, &format!("{package}_"))?, into(package))))
        .collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let unpacking = archives.iter().map(|(archive, folder)| {
            scope.spawn(move || {
                program::output(program::command("dpkg-deb").arg("--extract").args([archive, folder])).map(drop)
            })
        });
        let unpacking: Vec<_> = unpacking.collect();
        let done = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(Failure::new("a thread that unpacked a package panicked")))
        };
        // All threads are joined before the first failure is returned.
        unpacking.into_iter().map(done).collect::<Vec<_>>().into_iter().collect()
    })
}

/// Returns the first entry of `folder` whose name starts with `prefix`.
pub(crate) fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).or_failure(|| format!("cannot read `{}`", folder.display()))?;
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(named)
        .ok_or_else(|| Failure::new(format!("there is no `{}/{prefix}*`", folder.display())))
}
