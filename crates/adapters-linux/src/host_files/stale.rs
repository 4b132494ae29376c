//! Directories that killed copies left.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::tree::remove_tree;
use crate::process::PidScope;
use crate::temporary_file::parse_temporary_name;

/// Removes the temporary directories of `target` in `directory` whose writers are gone.
pub(super) fn remove(directory: &Path, target: &Path) {
    let (scope, name) = (PidScope::current(), target.file_name().unwrap_or_default());
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (file, path) = (entry.file_name(), entry.path());
        let Some((stem, writer)) = parse_temporary_name(&file) else { continue };
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && name.as_bytes().starts_with(stem) && writer.has_abandoned(&path, &scope) {
            let _ = remove_tree(&path);
        }
    }
}
