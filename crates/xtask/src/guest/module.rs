//! Kernel modules and the order in which they have to be loaded.
//!
//! The package holds no `modules.dep` (its installation would make one), so each module is asked itself: its
//! `.modinfo` section holds a text `depends=a,b`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::read;
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// A module to be put into the initramfs.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its file's name, such as `virtio_blk.ko`.
    pub(crate) file: String,
    pub(crate) content: Vec<u8>,
}

/// Returns the modules behind `wanted`, each after those it depends on; what is built into the kernel is left out.
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
            let missing = || Failure::new(format!("the kernel's package has no module `{name}`"));
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

/// Puts every name after the names it needs; `needs` returns `None` for what has not to be loaded.
fn resolve(wanted: &[&str], mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>) -> Result<Vec<String>> {
    /// Either a name to look at, or one all of whose needs were put before it.
    enum Todo {
        Look(String),
        Put(String),
    }

    let mut order: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut todo: Vec<Todo> = wanted.iter().rev().map(|name| Todo::Look((*name).to_owned())).collect();
    while let Some(next) = todo.pop() {
        match next {
            Todo::Put(name) => order.push(name),
            Todo::Look(name) if seen.insert(name.clone()) => {
                if let Some(needed) = needs(&name)? {
                    todo.push(Todo::Put(name));
                    todo.extend(needed.into_iter().rev().map(Todo::Look));
                }
            }
            Todo::Look(_) => {}
        }
    }
    Ok(order)
}

/// Returns the names in the text `depends=…` of a module; none if it has no such text.
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

/// Returns a module's name: that of its file, with `_` for `-`, as the kernel spells it.
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
    fn test_resolve_builtin_is_left_out() {
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
