//! Files that QEMU could not use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::machine::{Machine, SwitchArgument};
use maqet_domain::port::{ImageError, ImageTools, ImageUse, Paths};
use maqet_domain::qemu::{OptionString, switch_values};
use maqet_domain::qmp::wording::Recognized;
use maqet_domain::storage::{FileId, ImageAccess, ImageProblem, is_image_type};
use maqet_domain::text::quote;

use super::Diagnosis;

impl Diagnosis<'_> {
    /// Returns why QEMU could not load a file that exists; `None` for one that does not, or that QEMU looks for among its
    /// own files.
    pub(super) async fn unloaded_file(&self, path: &Path) -> Option<(String, Explanation)> {
        if !path.is_absolute() {
            return None;
        }
        let shown = path.display();
        let quoted = quote(&path.to_string_lossy());
        let image = ImageUse { path: path.to_owned(), format: Some("raw".to_owned()), access: ImageAccess::Read };
        let problem = match self.app.ports.images.examine(&image).await {
            Ok(_) => None,
            Err(ImageError::Unusable(unusable)) => Some(unusable.problem),
            Err(_) => return None,
        };
        let invalid = Explanation::new("qemu.file-invalid", Fault::Usage);
        let location = self.location();
        match problem {
            Some(ImageProblem::NotFound { .. }) => None,
            Some(ImageProblem::NotPermitted { .. }) => {
                let explanation = Explanation::new("qemu.file-refused", Fault::Host)
                    .hint(format!("make it readable: `sudo chmod a+r {quoted}`"))
                    .hint("copy it to a directory of yours");
                Some((format!("you may not read `{shown}`"), explanation))
            }
            Some(ImageProblem::IsDirectory) => {
                let explanation = invalid.hint(format!("name a file in {location}"));
                Some((format!("`{shown}` is a directory, and not a file"), explanation))
            }
            Some(_) | None => {
                let explanation = invalid
                    .hint(format!("check its kind and size: `file {quoted}; ls -l {quoted}`"))
                    .hint(format!("name a file of the kind that {location} takes"));
                Some((format!("QEMU cannot load `{shown}`: it has an invalid size or content"), explanation))
            }
        }
    }

    /// Returns where the definition has the file of the message, in backticks.
    pub(super) fn location(&self) -> String {
        location(self.command_line.args(), self.machine, &self.recognized)
    }

    /// Returns what helps if a file is missing because its path is relative.
    pub(super) fn relative_path_hint(&self, path: &str) -> Option<String> {
        relative_path_hint(SwitchArgument::with_file(self.command_line.args(), path), path)
    }

    /// Returns which format the image of the switch has, if it is another one.
    pub(super) async fn format_hint(&self) -> Option<String> {
        let (key, path) = image_of(self.recognized.switch.as_deref()?)?;
        let image = ImageUse { path: PathBuf::from(&path), format: Some("raw".to_owned()), access: ImageAccess::Read };
        let found = self.app.ports.images.examine(&image).await.ok()?.resembles.unwrap_or("raw");
        let by_type = if is_image_type(found) {
            format!(", or `type: {found}` for a drive under `storage`")
        } else {
            String::new()
        };
        Some(format!("set `{key}={found}`, the format that `{path}` has{by_type}"))
    }
}

/// Returns where the definition has one of the parts of a message, if one is a file of the command line; else the switch
/// that QEMU names, or the one that has such an option.
fn location(args: &[String], machine: &Machine, recognized: &Recognized<'_>) -> String {
    let parts = || recognized.parts.iter().filter(|part| !part.is_empty());
    let of_file = parts().find_map(|part| Some(machine.shown_location(SwitchArgument::with_file(args, part)?, part)));
    let of_option =
        || parts().find_map(|part| Some(machine.shown_location(SwitchArgument::with_option(args, part)?, "")));
    match (of_file, recognized.switch.as_deref()) {
        (Some(location), _) => location,
        (None, Some(switch)) => match switch.trim_start_matches('-').split_once(' ') {
            Some((switch, argument)) => machine.shown_location(SwitchArgument { switch, argument }, ""),
            None => format!("`{switch}`"),
        },
        (None, None) => of_option().unwrap_or_else(|| "`arguments`".to_owned()),
    }
}

/// Returns the key for the format of the image of a switch, and the image.
fn image_of(switch: &str) -> Option<(&'static str, String)> {
    let (name, argument) = switch.split_once(' ')?;
    let name = name.trim_start_matches('-');
    let options = OptionString::parse(name, argument);
    let path = ["file", "filename", "file.filename"].into_iter().find_map(|key| options.get(key))?;
    Some((if name == "drive" { "format" } else { "driver" }, path.to_owned()))
}

/// Returns what helps if a file is missing because its path is relative; maqet leaves a name as it is where QEMU searches
/// its own files for it.
fn relative_path_hint(switch: Option<SwitchArgument<'_>>, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    Some(if path.starts_with('~') {
        "write the path in full: QEMU does not expand `~`".to_owned()
    } else if path.contains('/') || !switch.is_none_or(|switch| switch.is_searched(path)) {
        "write the path in full: QEMU runs in `/`".to_owned()
    } else {
        format!(
            "write `./{path}` for a file beside the YAML file: QEMU runs in `/`, and looks for names among its own files"
        )
    })
}

/// Returns how many arguments name a file, by whatever path, also by that of a hard link.
pub(crate) async fn uses_of((paths, tools): (&dyn Paths, &dyn ImageTools), args: &[String], path: &Path) -> usize {
    let wanted = paths.resolve(path).await;
    let wanted_file = file_at(tools, path).await;
    let mut known: HashMap<PathBuf, bool> = HashMap::new();
    let mut uses = 0;
    for named in switch_values(args).map(|(name, argument)| files_of(name, argument)) {
        for file in named {
            let is_it = if let Some(is_it) = known.get(&file) {
                *is_it
            } else {
                let is_it = paths.resolve(&file).await == wanted
                    || wanted_file.is_some() && file_at(tools, &file).await == wanted_file;
                *known.entry(file).or_insert(is_it)
            };
            // One argument names a file once.
            if is_it {
                uses += 1;
                break;
            }
        }
    }
    uses
}

async fn file_at(tools: &dyn ImageTools, path: &Path) -> Option<FileId> {
    tools.identify(path).await.map(|(_, file)| file)
}

/// Returns the values of a switch that can be files; QEMU runs in `/`.
fn files_of(switch: &str, argument: &str) -> Vec<PathBuf> {
    let options = OptionString::parse(switch, argument);
    let values = options.iter().map(|option| option.value.strip_prefix("file:").unwrap_or(&option.value));
    values.filter(|value| value.contains('/')).map(|value| Path::new("/").join(value)).collect()
}

#[cfg(test)]
mod tests {
    use maqet_domain::port::{MockImageTools, MockPaths};

    use super::*;

    #[tokio::test]
    async fn test_uses_of_counts_arguments_by_resolved_path() {
        let mut paths = MockPaths::new();
        paths.expect_resolve().returning(|path| match path.to_str() {
            Some("/link/a" | "/d/./a") => "/d/a".into(),
            _ => path.to_owned(),
        });
        let mut tools = MockImageTools::new();
        tools.expect_identify().returning(|path| {
            let inode = if matches!(path.to_str(), Some("/d/a" | "/d/hard")) { 1 } else { 2 };
            Some((path.to_owned(), FileId { device: 1, inode }))
        });
        // Each file once.
        let mut counting = MockPaths::new();
        counting.expect_resolve().times(3).returning(Path::to_owned);
        let repeated: Vec<String> = ["-hda", "/x", "-hdb", "/x", "-hdc", "/y"].map(str::to_owned).to_vec();
        assert_eq!(uses_of((&counting, &tools), &repeated, Path::new("/d/a")).await, 0);

        let uses = async |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            uses_of((&paths, &tools), &args, Path::new("/d/a")).await
        };

        assert_eq!(uses(&["-drive", "file=/d/a,if=ide", "-hda", "/d/a", "-drive", "file=/d/a.bak"]).await, 2);
        assert_eq!(uses(&["-hda", "/link/a", "-hdb", "d/./a", "-hdc", "/x/d/a"]).await, 2);
        assert_eq!(uses(&["-blockdev", r#"{"driver":"file","filename":"/link/a"}"#, "-hda", "file:/d/a"]).await, 2);
        assert_eq!(uses(&["-hda", "/d/a", "-hdb", "/d/hard", "-hdc", "/d/other"]).await, 2);
        assert_eq!(uses(&["-drive", "file=/d/a,,b", "-name", "/d/b"]).await, 0);
    }

    #[test]
    fn test_image_of_a_switch_in_any_form() {
        for (switch, expected) in [
            ("-drive file=/a,,b,format=qcow2", Some(("format", "/a,b"))),
            ("-drive driver=qcow2,file.driver=file,file.filename=/a", Some(("format", "/a"))),
            ("-blockdev driver=qcow2,file.driver=file,file.filename=/a", Some(("driver", "/a"))),
            (r#"-blockdev {"driver":"qcow2","file":{"driver":"file","filename":"/a"}}"#, Some(("driver", "/a"))),
            ("-blockdev qcow2,file=node", Some(("driver", "node"))),
            ("-drive if=none", None),
        ] {
            let found = image_of(switch);
            assert_eq!(found.as_ref().map(|(key, path)| (*key, path.as_str())), expected, "{switch}");
        }
    }

    #[test]
    fn test_relative_path_hint_says_where_qemu_looks() {
        let hint = |args: &[&str], path: &str| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            relative_path_hint(SwitchArgument::with_file(&args, path), path).unwrap_or_default()
        };

        assert_eq!(hint(&[], "/boot/x"), "");
        assert!(hint(&[], "~/x").contains("expand"));
        assert!(hint(&["-bios", "a/x"], "a/x").contains("in full"));
        assert!(hint(&[], "OVMF.fd").contains("`./OVMF.fd`"));
        assert!(hint(&["-bios", "OVMF.fd"], "OVMF.fd").contains("`./OVMF.fd`"));
        assert!(hint(&["-device", "u2f-emulated,cert=OVMF.fd"], "OVMF.fd").contains("in full"));
    }
}
