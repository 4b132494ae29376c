//! Images under `arguments` and `args` that QEMU opens as raw, whatever their content is.

use std::path::PathBuf;

use super::Machine;
use crate::config::{KeyPath, Node};
use crate::qemu::OptionString;
use crate::storage::ImageAccess;

/// An image that a switch of the user opens as raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawImage {
    /// The switch, without hyphens: `drive` or `blockdev`.
    pub switch: &'static str,
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// Whether the guest can write to it.
    pub access: ImageAccess,
}

impl Machine {
    /// Returns the images that the user's switches open as raw.
    pub fn raw_images(&self) -> Vec<RawImage> {
        let images = self.user_switches().filter_map(|(name, argument)| {
            let is_of_image = matches!(name, "drive" | "blockdev");
            self.raw_image(name, &OptionString::parse(name, argument.filter(|_| is_of_image)?))
        });
        images.collect()
    }

    /// Returns them with their positions in the definition.
    pub fn raw_images_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, RawImage)> {
        let switches = self.switches_in(definition).into_iter();
        let images = switches.filter_map(|switch| {
            let image = self.raw_image(&switch.name, switch.options())?;
            Some((switch.at, switch.node, image))
        });
        images.collect()
    }

    fn raw_image(&self, switch: &str, options: &OptionString) -> Option<RawImage> {
        let switch = ["drive", "blockdev"].into_iter().find(|known| *known == switch)?;
        let format = options.get("format").or_else(|| options.get("driver"));
        let path = options.get("file.filename").or_else(|| options.get("file"));
        let path = path.map(PathBuf::from).filter(|path| format == Some("raw") && path.is_absolute())?;
        let is_kept = options.get("media") == Some("cdrom")
            || ["readonly", "read-only", "snapshot"].iter().any(|key| options.is_on(key) == Some(true))
            || switch == "drive" && self.has_switch("snapshot");
        Some(RawImage { switch, path, access: if is_kept { ImageAccess::Read } else { ImageAccess::Write } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    #[test]
    fn test_raw_images_are_those_that_a_switch_opens_as_raw() {
        let image = |switch, path: &str, access| RawImage { switch, path: path.into(), access };
        let raw = r#"{"args": ["-drive", "file=/a,,b,format=raw", "-drive", "file=/c,format=raw,readonly=on"],
            "arguments": [{"drive": "driver=raw,file.filename=/d,media=cdrom"},
                {"drive": {"file": "/e", "format": "qcow2"}}, {"drive": "file=relative,format=raw"}, {"hda": "/f"},
                {"blockdev": "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"/g\"}}"}]}"#;

        assert_eq!(
            read(raw).0.raw_images(),
            [
                image("drive", "/a,b", ImageAccess::Write),
                image("drive", "/c", ImageAccess::Read),
                image("drive", "/d", ImageAccess::Read),
                image("blockdev", "/g", ImageAccess::Write),
            ]
        );
        let discarded = r#"{"arguments": ["snapshot", {"drive": "file=/a,format=raw"}]}"#;
        assert_eq!(read(discarded).0.raw_images(), [image("drive", "/a", ImageAccess::Read)]);
    }
}
