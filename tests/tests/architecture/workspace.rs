//! The workspace: its packages, as `cargo metadata` lists them, and its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::Value;

use crate::source::RustFile;

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// A dependency of a package.
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `normal`, `dev` or `build`.
    pub(crate) kind: String,
    pub(crate) is_optional: bool,
    pub(crate) features: Vec<String>,
}

/// A build target of a package.
pub(crate) struct Target {
    /// The file it begins with, relative to the root.
    pub(crate) source: String,
    pub(crate) kind: String,
    /// Whether `cargo test` runs it.
    pub(crate) is_tested: bool,
}

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace").to_owned()
}

/// Returns a file as text; `path` is relative to the root.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("cannot read {path}: {why}"))
}

/// Returns the packages of the workspace.
pub(crate) fn packages() -> Vec<Package> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    list(&metadata["packages"]).iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let manifest = word(&package["manifest_path"]);
    let folder = manifest.trim_end_matches("/Cargo.toml");
    let features = package["features"].as_object().into_iter().flatten();
    Package {
        name: word(&package["name"]),
        folder: relative(Path::new(folder)),
        dependencies: list(&package["dependencies"]).iter().map(dependency).collect(),
        features: features.map(|(name, needs)| (name.clone(), list(needs).iter().map(word).collect())).collect(),
        targets: list(&package["targets"]).iter().map(target).collect(),
    }
}

fn dependency(dependency: &Value) -> Dependency {
    Dependency {
        name: word(&dependency["name"]),
        kind: dependency["kind"].as_str().unwrap_or("normal").to_owned(),
        is_optional: dependency["optional"] == Value::Bool(true),
        features: list(&dependency["features"]).iter().map(word).collect(),
    }
}

fn target(target: &Value) -> Target {
    Target {
        source: relative(Path::new(&word(&target["src_path"]))),
        kind: list(&target["kind"]).first().map(word).unwrap_or_default(),
        is_tested: target["test"] == Value::Bool(true),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn relative(path: &Path) -> String {
    let root = root().canonicalize().expect("the root is there");
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.strip_prefix(root).unwrap_or(&whole).to_string_lossy().into_owned()
}

/// Returns the files below `folder` that end in `.extension`, or all if it is empty, relative to the root and in order.
///
/// Hidden files and build output are skipped.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_empty() || path.extension() == Some(OsStr::new(extension)) {
                found.push(path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the Rust files of crates and tests that are below `folder`.
pub(crate) fn rust_files(folder: &str) -> Vec<&'static RustFile> {
    static ALL: LazyLock<Vec<RustFile>> = LazyLock::new(|| {
        let paths = ["crates", "tests"].map(|folder| files(folder, "rs")).concat();
        paths.iter().map(|path| RustFile::new(path, &text(path))).collect()
    });
    ALL.iter().filter(|file| Path::new(&file.path).starts_with(folder)).collect()
}

/// Returns the files of `crates/NAME/src`, without those that are compiled for tests only.
pub(crate) fn shipped(name: &str) -> Vec<&'static RustFile> {
    let mut files = rust_files(&format!("crates/{name}/src"));
    assert!(!files.is_empty(), "there is no crate `{name}`");
    let modules = files.iter().flat_map(|file| file.modules.iter().map(|module| (file.module_folder(), module)));
    let for_tests: Vec<String> = modules
        .filter(|(_, module)| module.for_tests)
        .map(|(folder, module)| format!("{folder}/{}", module.name))
        .collect();
    files.retain(|file| {
        let is_below = |module: &String| {
            file.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        !for_tests.iter().any(is_below)
    });
    files
}

/// Returns the names of the folders in `crates`.
pub(crate) fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).expect("there are crates").flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_packages_every_crate_is_one_of_them() {
        let folders: Vec<String> = packages().into_iter().map(|package| package.folder).collect();

        for name in crates() {
            assert!(folders.contains(&format!("crates/{name}")), "{name} is not among {folders:?}");
        }
    }
}
