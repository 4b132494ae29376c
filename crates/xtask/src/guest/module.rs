//! Kernel modules and the order in which they are loaded.
//!
//! The package has no `modules.dep`, which its installation would create, so dependencies are read from the `.modinfo`
//! section of each module: `depends=a,b`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::read;
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// A module for the initramfs.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its file name, such as `virtio_blk.ko`.
    pub(crate) file: String,
    pub(crate) content: Vec<u8>,
}

/// Returns `wanted` with their dependencies in load order, without modules that are built into the kernel.
pub(crate) fn in_order(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut available = BTreeMap::new();
    list(folder, &mut available)?;
    let builtin_path = folder.join("modules.builtin");
    let builtin =
        fs::read_to_string(&builtin_path).or_failure(|| format!("cannot read `{}`", builtin_path.display()))?;

    let mut contents = BTreeMap::new();
    let order = resolve(wanted, |name| {
        let Some(path) = available.get(name) else {
            let is_builtin = builtin.lines().any(|line| module_name(Path::new(line)).as_deref() == Some(name));
            let missing = || Failure::new(format!("the kernel package has no module `{name}`"));
            return if is_builtin { Ok(None) } else { Err(missing()) };
        };
        let content = read(path)?;
        let needs = depends(&content);
        contents.insert(name.to_owned(), content);
        Ok(Some(needs))
    })?;

    let module =
        |name: String| Module { content: contents.remove(&name).unwrap_or_default(), file: format!("{name}.ko") };
    Ok(order.into_iter().map(module).collect())
}

/// Sorts every name after those it needs; `needs` returns `None` for built-in modules.
fn resolve(wanted: &[&str], mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>) -> Result<Vec<String>> {
    /// A name to visit, or one whose needs have all been added.
    enum Todo {
        Visit(String),
        Add(String),
    }

    let mut order: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut todo: Vec<Todo> = wanted.iter().rev().map(|name| Todo::Visit((*name).to_owned())).collect();
    while let Some(next) = todo.pop() {
        match next {
            Todo::Add(name) => order.push(name),
            Todo::Visit(name) if seen.insert(name.clone()) => {
                if let Some(needed) = needs(&name)? {
                    todo.push(Todo::Add(name));
                    todo.extend(needed.into_iter().rev().map(Todo::Visit));
                }
            }
            Todo::Visit(_) => {}
        }
    }
    Ok(order)
}

/// Returns the names in `depends=…` of a module.
fn depends(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = content.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = content[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn list(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).or_failure(|| format!("cannot list `{}`", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, found)?;
        } else if let Some(name) = module_name(&path) {
            found.insert(name, path);
        }
    }
    Ok(())
}

/// Returns the name of a module: its file name with `_` for `-`, as the kernel spells it.
fn module_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &[&str], expected: &[&str]) {
        let order = resolve(wanted, |name| {
            Ok(match name {
                "blk" => Some(vec!["virtio".to_owned(), "ring".to_owned()]),
                "virtio" => Some(vec!["ring".to_owned()]),
                "loop_a" => Some(vec!["loop_b".to_owned()]),
                "loop_b" => Some(vec!["loop_a".to_owned()]),
                "builtin" => None,
                _ => Some(Vec::new()),
            })
        });

        assert_eq!(order.unwrap(), expected);
    }

    #[test]
    fn test_resolve_module_comes_after_what_it_needs() {
        check(&["blk"], &["ring", "virtio", "blk"]);
    }

    #[test]
    fn test_resolve_shared_need_comes_once() {
        check(&["virtio", "blk", "ring"], &["ring", "virtio", "blk"]);
    }

    #[test]
    fn test_resolve_builtin_is_omitted() {
        check(&["builtin", "evdev"], &["evdev"]);
    }

    #[test]
    fn test_resolve_circle_ends() {
        check(&["loop_a"], &["loop_b", "loop_a"]);
    }

    #[test]
    fn test_depends_module_information_is_read_up_to_its_end() {
        assert_eq!(
            depends(b"\x7fELF..\0license=GPL\0depends=virtio,net-failover\0name=x\0"),
            ["virtio", "net_failover"]
        );
    }

    #[test]
    fn test_depends_nothing_needed_is_empty() {
        assert!(depends(b"..\0depends=\0name=x\0").is_empty());
    }
}
