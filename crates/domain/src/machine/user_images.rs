//! Images under `arguments` and `args`.

use std::path::{Path, PathBuf};

use super::Machine;
use crate::config::{KeyPath, Node};
use crate::qemu::{NamedFile, OptionString, image_files};
use crate::storage::ImageAccess;

/// Switches whose whole argument is an image, and what a guest does with it.
const IMAGES: [(&str, ImageAccess); 10] = [
    ("cdrom", ImageAccess::Read),
    ("fda", ImageAccess::Write),
    ("fdb", ImageAccess::Write),
    ("hda", ImageAccess::Write),
    ("hdb", ImageAccess::Write),
    ("hdc", ImageAccess::Write),
    ("hdd", ImageAccess::Write),
    ("mtdblock", ImageAccess::Write),
    ("pflash", ImageAccess::Write),
    ("sd", ImageAccess::Write),
];

/// Protocols of images that are not files.
const REMOTE: [&str; 7] = ["gluster", "iscsi", "nbd", "nfs", "rbd", "sheepdog", "ssh"];

/// An image that a switch of the user opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserImage {
    /// The switch, without hyphens.
    pub switch: &'static str,
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// Whether the guest can write to it.
    pub access: ImageAccess,
    /// Whether it is opened as raw, whatever its content is.
    pub is_raw: bool,
}

impl UserImage {
    /// Returns how to have it opened for reading only.
    pub fn readonly_option(&self) -> &'static str {
        match self.switch {
            "drive" | "object" => "add `readonly=on` to it",
            "blockdev" => "add `read-only=on` to it",
            _ => "write it as `- {drive: {file: PATH, format: raw, if: virtio, readonly: on}}`",
        }
    }
}

impl Machine {
    /// Returns the images that the user's switches open.
    pub fn user_images(&self) -> Vec<UserImage> {
        let options =
            |(name, argument): (&str, Option<&str>)| (name.to_owned(), argument.unwrap_or_default().to_owned());
        let switches: Vec<(String, String)> = self.user_switches().map(options).collect();
        let images = |(name, argument): &(String, String)| self.images(name, argument);
        switches.iter().flat_map(images).collect()
    }

    /// Returns them with their positions in the definition.
    pub fn user_images_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, UserImage)> {
        let mut found = Vec::new();
        for switch in self.switches_in(definition).into_iter().filter(|switch| !switch.is_key) {
            let images = self.images(&switch.name, &switch.argument).into_iter();
            found.extend(images.map(|image| (switch.at.clone(), switch.node, image)));
        }
        found
    }

    /// Returns whether a drive of the user's switches is written, of which `-snapshot` throws away what is.
    pub fn has_written_drives(&self) -> bool {
        let is_written = |name: &str, argument: &str| match IMAGES.iter().find(|(known, _)| *known == name) {
            Some((_, access)) => *access == ImageAccess::Write,
            None if name == "drive" => {
                let options = OptionString::parse(name, argument);
                options.get("media") != Some("cdrom") && !is_read(&options, "")
            }
            None => false,
        };
        let mut switches = self.user_switches();
        !self.has_switch("snapshot") && switches.any(|(name, argument)| is_written(name, argument.unwrap_or_default()))
    }

    /// Returns what is written through a `-blockdev` or the memory of an `-object`, with its position: nothing throws that away.
    pub fn written_nodes_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, &'static str, String)> {
        let mut found = Vec::new();
        let switches = self.switches_in(definition).into_iter();
        for switch in switches.filter(|switch| !switch.is_key) {
            let kinds = ["blockdev", "object"];
            let Some(kind) = kinds.into_iter().find(|kind| *kind == switch.name) else { continue };
            let options = OptionString::parse(&switch.name, &switch.argument);
            let images = self.images(&switch.name, &switch.argument).into_iter();
            let written = images.filter(|image| image.access == ImageAccess::Write);
            let remote = options.iter().filter(|_| kind == "blockdev").filter(|option| {
                let node = option.key.strip_suffix("driver").map(|node| node.trim_end_matches('.'));
                node.is_some_and(|node| REMOTE.contains(&option.value.as_str()) && !is_read(&options, node))
            });
            let image = written.map(|image| image.path.display().to_string()).next();
            let image = image.or_else(|| remote.map(|option| option.value.clone()).next());
            found.extend(image.map(|image| (switch.at.clone(), switch.node, kind, image)));
        }
        found
    }

    fn images(&self, switch: &str, argument: &str) -> Vec<UserImage> {
        let is_discarded = self.has_switch("snapshot");
        if let Some((switch, access)) = IMAGES.into_iter().find(|(known, _)| *known == switch) {
            let access = if is_discarded { ImageAccess::Read } else { access };
            let image = |path| UserImage { switch, path, access, is_raw: false };
            return image_paths(argument).map(image).collect();
        }
        if switch == "object" {
            return memory_image(argument).into_iter().collect();
        }
        let Some(switch) = ["drive", "blockdev"].into_iter().find(|known| *known == switch) else { return Vec::new() };
        let options = OptionString::parse(switch, argument);
        let is_kept = options.get("media") == Some("cdrom") || switch == "drive" && is_discarded;
        let images = options.iter().flat_map(|option| {
            let node = match option.key.as_str() {
                "file" if switch == "drive" => Some(""),
                "filename" => Some(""),
                key => key.strip_suffix(".filename"),
            };
            let is_kept = is_kept || node.is_some_and(|node| is_read(&options, node));
            let access = if is_kept { ImageAccess::Read } else { ImageAccess::Write };
            let is_raw = node.is_some_and(|node| format_of(&options, node) == Some("raw"));
            let paths = node.into_iter().flat_map(|_| image_paths(&option.value));
            paths.map(move |path| UserImage { switch, path, access, is_raw })
        });
        images.collect()
    }
}

/// Returns the file that holds memory of the guest, which writes to it if it is shared, also beside `-snapshot`.
fn memory_image(argument: &str) -> Option<UserImage> {
    let options = OptionString::parse("object", argument);
    let path = options.get("mem-path").filter(|_| options.head() == "memory-backend-file").map(PathBuf::from)?;
    let is_on = |key| options.is_on(key) == Some(true);
    let access = if is_on("share") && !is_on("readonly") { ImageAccess::Write } else { ImageAccess::Read };
    path.is_absolute().then_some(UserImage { switch: "object", path, access, is_raw: false })
}

/// Returns the images in the name of one whose paths are absolute.
fn image_paths(name: &str) -> impl Iterator<Item = PathBuf> {
    let images = image_files(name).into_iter().filter(|(kind, _)| *kind == NamedFile::Image);
    images.map(|(_, path)| PathBuf::from(path)).filter(|path| Path::is_absolute(path))
}

/// Returns whether the block node of a path, or one above it, is only read.
///
/// What is below one that is read, or under an overlay, is not written.
fn is_read(options: &OptionString, node: &str) -> bool {
    let is_on = |prefix: &str, key: &str| options.is_on(&format!("{prefix}{key}")) == Some(true);
    let read = |prefix: &str| ["readonly", "read-only", "snapshot"].iter().any(|key| is_on(prefix, key));
    let mut ends = node.match_indices('.').map(|(at, _)| at).chain([node.len()]);
    read("") || node.split('.').any(|child| child == "backing") || ends.any(|end| read(&format!("{}.", &node[..end])))
}

/// Returns the format of a path's image: the driver of the node above its own.
fn format_of<'o>(options: &'o OptionString, node: &str) -> Option<&'o str> {
    let above = match node.rsplit_once('.') {
        Some((above, _)) => format!("{above}."),
        None => String::new(),
    };
    let explicit = options.get("format").filter(|_| above.is_empty());
    explicit.or_else(|| options.get(&format!("{above}driver")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    const READ: ImageAccess = ImageAccess::Read;
    const WRITE: ImageAccess = ImageAccess::Write;

    #[track_caller]
    fn check(definition: &str, expected: &[(&'static str, &str, ImageAccess, bool)]) {
        let image = |&(switch, path, access, is_raw): &(&'static str, &str, ImageAccess, bool)| UserImage {
            switch,
            path: path.into(),
            access,
            is_raw,
        };
        let expected: Vec<UserImage> = expected.iter().map(image).collect();

        assert_eq!(read(definition).0.user_images(), expected, "{definition}");
    }

    #[test]
    fn test_user_images_are_those_of_every_switch() {
        check(
            r#"{"args": ["-hda", "/a", "--cdrom", "/b.iso", "-sd", "file:/c", "-fda", "fat:floppy:/d"],
                "arguments": [{"pflash": "/e"}, {"hdb": "nbd:unix:/s"}, {"drive": "file=relative,format=raw"}]}"#,
            &[
                ("hda", "/a", WRITE, false),
                ("cdrom", "/b.iso", READ, false),
                ("sd", "/c", WRITE, false),
                ("pflash", "/e", WRITE, false),
            ],
        );
        check(
            r#"{"args": ["-drive", "file=/a,,b,format=raw", "-drive", "file=/c,format=raw,readonly=on"],
                "arguments": [{"drive": "driver=raw,file.filename=/d,media=cdrom"},
                    {"drive": {"file": "/e", "format": "qcow2"}}, {"drive": "file=/f,snapshot=on"},
                    {"drive": {"file": {"driver": "host_device", "filename": "/dev/g"}}}]}"#,
            &[
                ("drive", "/a,b", WRITE, true),
                ("drive", "/c", READ, true),
                ("drive", "/d", READ, true),
                ("drive", "/e", WRITE, false),
                ("drive", "/f", READ, false),
                ("drive", "/dev/g", WRITE, false),
            ],
        );
    }

    #[test]
    fn test_user_images_of_nodes_below_others_are_written_as_those() {
        check(
            r#"{"arguments": [
                {"blockdev": "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"/a\"}}"},
                {"blockdev": {"driver": "host_device", "filename": "/dev/b", "node-name": "b"}},
                {"blockdev": {"driver": "raw", "read-only": true, "file": {"driver": "file", "filename": "/c"}}},
                {"blockdev": {"driver": "raw", "file": {"driver": "file", "read-only": true, "filename": "/d"}}},
                {"blockdev": {"driver": "qcow2", "file": {"driver": "file", "filename": "/e"},
                    "backing": {"driver": "raw", "file": {"driver": "file", "filename": "/f"}}}},
                {"blockdev": "driver=quorum,children.0.driver=raw,children.0.file.filename=/g"}]}"#,
            &[
                ("blockdev", "/a", WRITE, true),
                ("blockdev", "/dev/b", WRITE, false),
                ("blockdev", "/c", READ, true),
                ("blockdev", "/d", READ, true),
                ("blockdev", "/e", WRITE, false),
                ("blockdev", "/f", READ, true),
                ("blockdev", "/g", WRITE, true),
            ],
        );
    }

    #[test]
    fn test_user_images_of_memory_are_written_if_shared() {
        check(
            r#"{"arguments": [{"object": "memory-backend-file,id=a,size=1G,mem-path=/a,share=on"},
                {"object": {"qom-type": "memory-backend-file", "mem-path": "/b", "share": true, "readonly": true}},
                {"object": "memory-backend-file,id=c,size=1G,mem-path=/c"}, {"object": "rng-random,id=r,filename=/x"}]}"#,
            &[("object", "/a", WRITE, false), ("object", "/b", READ, false), ("object", "/c", READ, false)],
        );
    }

    #[test]
    fn test_written_drives_are_those_of_every_switch() {
        for (definition, expected) in [
            (r#"{"storage": [{"name": "a"}]}"#, false),
            (r#"{"arguments": [{"drive": {"file": "/a", "format": "raw"}}]}"#, true),
            (r#"{"arguments": [{"drive": {"file": "nbd:unix:/s", "format": "raw"}}]}"#, true),
            (r#"{"arguments": [{"drive": {"file": "/a", "format": "raw", "readonly": "on"}}]}"#, false),
            (r#"{"arguments": [{"drive": "file=/a,media=cdrom"}, {"cdrom": "/b"}]}"#, false),
            (r#"{"args": ["-hda", "/a"]}"#, true),
            (r#"{"arguments": [{"fda": "/a"}]}"#, true),
            (r#"{"arguments": [{"fdb": "/a"}]}"#, true),
            (r#"{"arguments": [{"pflash": "/a"}]}"#, true),
            (r#"{"arguments": ["snapshot", {"hda": "/a"}]}"#, false),
        ] {
            assert_eq!(read(definition).0.has_written_drives(), expected, "{definition}");
        }
    }

    #[test]
    fn test_written_nodes_are_those_of_block_devices() {
        for (node, expected) in [
            (r#"{"driver": "raw", "node-name": "z", "file": {"driver": "file", "filename": "/a"}}"#, Some("/a")),
            (r#""driver=file,node-name=z,filename=/a""#, Some("/a")),
            (r#"{"driver": "raw", "read-only": true, "file": {"driver": "file", "filename": "/a"}}"#, None),
            (r#"{"driver": "raw", "file": {"driver": "nbd", "server": {"type": "unix", "path": "/s"}}}"#, Some("nbd")),
            (r#"{"driver": "raw", "read-only": true, "file": {"driver": "nbd"}}"#, None),
            (r#"{"driver": "null-co", "node-name": "z"}"#, None),
        ] {
            let definition = format!(r#"{{"arguments": ["snapshot", {{"hda": "/b"}}, {{"blockdev": {node}}}]}}"#);
            let machine = read(&definition).0;
            let definition = serde_json::from_str(&definition).unwrap();
            let found = machine.written_nodes_in(&definition);
            let found: Vec<_> = found.iter().map(|(at, _, _, image)| (at.to_string(), image.as_str())).collect();
            let expected: Vec<_> = expected.iter().map(|image| ("arguments[2]".to_owned(), *image)).collect();
            assert_eq!(found, expected, "{node}");
        }
    }

    #[test]
    fn test_user_images_beside_snapshot_are_only_read() {
        check(
            r#"{"arguments": ["snapshot", {"drive": "file=/a,format=raw"}, {"hda": "/b"},
                {"blockdev": "driver=file,filename=/c,node-name=c"},
                {"object": "memory-backend-file,id=m,size=1G,mem-path=/d,share=on"}]}"#,
            &[
                ("drive", "/a", READ, true),
                ("hda", "/b", READ, false),
                ("blockdev", "/c", WRITE, false),
                ("object", "/d", WRITE, false),
            ],
        );
    }
}
