//! Files that QEMU could not use.

use std::path::{Path, PathBuf};

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::port::{ImageError, ImageTools, ImageUse, Paths};
use maqet_domain::qemu::{OptionString, switch_values};
use maqet_domain::storage::{FileId, ImageAccess, ImageProblem};
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
        let switch = self.recognized.switch.unwrap_or("arguments");
        match problem {
            Some(ImageProblem::NotFound { .. }) => None,
            Some(ImageProblem::NotPermitted { .. }) => {
                let explanation = Explanation::new("qemu.file-refused", Fault::Host)
                    .hint(format!("make it readable: `sudo chmod a+r {quoted}`"))
                    .hint("copy it to a directory of yours");
                Some((format!("you may not read `{shown}`"), explanation))
            }
            Some(ImageProblem::IsDirectory) => {
                let explanation = invalid.hint(format!("name a file in `{switch}`"));
                Some((format!("`{shown}` is a directory, and not a file"), explanation))
            }
            Some(_) | None => {
                let explanation = invalid
                    .hint(format!("check its kind and size: `file {quoted}; ls -l {quoted}`"))
                    .hint(format!("name a file of the kind that `{switch}` takes"));
                Some((format!("QEMU cannot load `{shown}`: it has an invalid size or content"), explanation))
            }
        }
    }

    /// Returns which format the image of the switch has, if it is another one.
    pub(super) async fn format_hint(&self) -> Option<String> {
        let (key, path) = image_of(self.recognized.switch?)?;
        let image = ImageUse { path: PathBuf::from(&path), format: Some("raw".to_owned()), access: ImageAccess::Read };
        let found = self.app.ports.images.examine(&image).await.ok()?.resembles.unwrap_or("raw");
        Some(format!(
            "set `{key}={found}`, the format that `{path}` has, or `type: {found}` for a drive under `storage`"
        ))
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

/// Returns what helps if a file of a switch is missing because its path is relative.
pub(super) fn relative_path_hint(switch: Option<&str>, path: &str) -> Option<String> {
    // Where maqet leaves a name as it is, since QEMU has files of its own with such names.
    let is_searched = |switch: &str| {
        ["-bios", "-option-rom"].iter().any(|name| switch.starts_with(name))
            || ["romfile=", "firmware="].iter().any(|option| switch.contains(option))
    };
    if path.starts_with('/') {
        return None;
    }
    Some(if path.starts_with('~') {
        "write the path in full: QEMU does not expand `~`".to_owned()
    } else if path.contains('/') || !switch.is_none_or(is_searched) {
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
    let mut uses = 0;
    for named in switch_values(args).map(|(name, argument)| files_of(name, argument)) {
        for file in named {
            // One argument names a file once.
            let is_it = paths.resolve(&file).await == wanted
                || wanted_file.is_some() && file_at(tools, &file).await == wanted_file;
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
        assert_eq!(relative_path_hint(None, "/boot/x"), None);
        assert!(relative_path_hint(None, "~/x").unwrap().contains("expand"));
        assert!(relative_path_hint(None, "a/x").unwrap().contains("in full"));
        for switch in
            [None, Some("-bios OVMF.fd"), Some("-device e1000,romfile=OVMF.fd"), Some("-machine q35,firmware=OVMF.fd")]
        {
            assert!(relative_path_hint(switch, "OVMF.fd").unwrap().contains("`./OVMF.fd`"), "{switch:?}");
        }
        assert!(relative_path_hint(Some("-device u2f-emulated,cert=OVMF.fd"), "OVMF.fd").unwrap().contains("in full"));
    }
}
