//! Firmware images: which architecture they are for, whether the machine has flash, and whether two of them fit.

use std::path::{Path, PathBuf};

use super::Machine;
use super::keys::ARCHITECTURES;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{OptionString, option_value};
use crate::size::ByteSize;

/// Machine types that have no flash for a UEFI firmware and its variables (7.2, 10.0).
const WITHOUT_FLASH: [&str; 4] = ["microvm", "isapc", "none", "xenpv"];

/// Architectures for which there is UEFI firmware.
const UEFI_ARCHITECTURES: [&str; 6] = ["x86_64", "i386", "aarch64", "arm", "riscv64", "loongarch64"];

/// `-bios` of x86 loads images of whole multiples of this (`x86_bios_rom_init`, 7.2 and 10.0).
const BIOS_UNIT: u64 = 64 << 10;

/// The builds of OVMF, by the sizes of their two files: the code finds the variables at a fixed distance.
const LAYOUTS: [(&str, u64, u64); 2] = [("2M", 0x1e_0000, 0x2_0000), ("4M", 0x37_c000, 0x8_4000)];

/// The options of `-machine` whose values are block devices with the firmware and its variables.
const FLASH: [(u32, &str); 2] = [(0, "pflash0"), (1, "pflash1")];

/// Block nodes through which the content passes as it is.
const FILTERS: [&str; 2] = ["throttle", "copy-on-read"];

/// A firmware image that the user's switches name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareImage {
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// Its format, as QEMU names it, if it is flash; that of `-bios` is raw.
    pub format: Option<String>,
}

/// Why two firmware images do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutConflict {
    /// The build that the code is of.
    pub code: &'static str,
    /// The build that the variables are of.
    pub variables: &'static str,
}

impl LayoutConflict {
    /// Compares the sizes of a UEFI firmware's code and variables; `None` if they fit, or are of no known build.
    pub fn of_sizes(code: ByteSize, variables: ByteSize) -> Option<Self> {
        let build_of_code = LAYOUTS.iter().find(|(_, size, _)| *size == code.bytes())?.0;
        let build_of_variables = LAYOUTS.iter().find(|(_, _, size)| *size == variables.bytes())?.0;
        (build_of_code != build_of_variables).then_some(Self { code: build_of_code, variables: build_of_variables })
    }
}

/// Returns whether `-bios` of x86 can load an image of this size.
pub fn is_bios_size(size: ByteSize) -> bool {
    size.bytes() > 0 && size.bytes().is_multiple_of(BIOS_UNIT)
}

/// Returns whether an image of this size is the code of a UEFI firmware without its variables.
pub fn is_uefi_code_size(size: ByteSize) -> bool {
    LAYOUTS.iter().any(|(_, code, _)| *code == size.bytes())
}

impl Machine {
    /// Returns the architecture of the guest, by `arch` or by the name of the binary; `None` for that of the host.
    pub fn architecture(&self) -> Option<&'static str> {
        self.arch.or_else(|| binary_architecture(self.binary.as_deref()?))
    }

    /// Returns the flash images of the user's switches: code first, then variables.
    pub fn flash_images(&self) -> Vec<FirmwareImage> {
        let drives = self.user_switches().filter_map(|(name, argument)| match name {
            "pflash" => Some((None, FirmwareImage { path: PathBuf::from(argument?), format: None })),
            "drive" => flash_drive(argument?),
            _ => None,
        });
        let of_machine = FLASH.iter().filter_map(|(unit, option)| {
            let device = self.machine_arguments().filter_map(|argument| option_value(argument, option)).next_back()?;
            Some((Some(*unit), self.block_image(&device)?))
        });
        let images = drives.chain(of_machine);
        let mut drives: Vec<_> = images.filter(|(_, image)| image.path.is_absolute()).collect();
        // Without a unit, QEMU counts them in their order.
        drives.sort_by_key(|(unit, _)| unit.unwrap_or_default());
        drives.into_iter().map(|(_, image)| image).collect()
    }

    /// Returns the image of a block node, through those that it stands on, or of a `-drive` with this ID.
    fn block_image(&self, device: &str) -> Option<FirmwareImage> {
        let nodes: Vec<OptionString> = self.user_options("blockdev").collect();
        let mut name = device;
        let mut format = None;
        // A longer chain is a circle.
        for _ in &nodes {
            let Some(node) = nodes.iter().find(|node| node.get("node-name") == Some(name)) else { break };
            if let Some(file) = node.get("filename") {
                return Some(FirmwareImage { path: file.into(), format });
            }
            format = format.or_else(|| Some(node.head().to_owned()).filter(|head| !FILTERS.contains(&head.as_str())));
            if let Some(file) = node.get("file.filename") {
                return Some(FirmwareImage { path: file.into(), format });
            }
            name = node.get("file")?;
        }
        let drive = self.user_options("drive").find(|drive| drive.get("id") == Some(name))?;
        let own = drive.get("format").or_else(|| drive.get("driver")).map(str::to_owned);
        Some(FirmwareImage { path: drive.get("file")?.into(), format: format.or(own) })
    }

    /// Returns the image of the user's `-bios`, unless QEMU searches its own directories for it.
    pub fn bios_image(&self) -> Option<PathBuf> {
        let path = self.user_arguments("bios").next_back().map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    }

    /// Reports UEFI firmware for a machine that cannot have one, and a binary of another architecture.
    pub(super) fn check_firmware(&self, definition: &Node, report: &mut Diagnostics) {
        if let (Some(arch), Some(binary)) = (self.arch, self.binary.as_deref().and_then(binary_architecture))
            && arch != binary
            && let Some(node) = definition.get("arch")
        {
            let help = Some(format!("set `arch: {binary}`, or remove it: the binary determines the architecture"));
            let message = format!("`binary` runs guests of `{binary}`, not of `{arch}`");
            report.error_with_help(&KeyPath::top("arch"), node, message, help);
        }
        let (Some(node), true) = (definition.get("firmware"), self.firmware.is_uefi()) else { return };
        let at = KeyPath::top("firmware");
        if let Some(kind) = self.kind().filter(|kind| WITHOUT_FLASH.contains(kind)) {
            let help = match kind {
                "microvm" => "set `machine: q35`, or `firmware` to the path of an image for it, such as `MICROVM.fd`",
                _ => "set `machine: q35`, or remove `firmware`",
            };
            let message = format!("`machine: {kind}` has no flash for UEFI firmware");
            report.error_with_help(&at, node, message, Some(help.to_owned()));
        } else if let Some(arch) = self.architecture().filter(|arch| !UEFI_ARCHITECTURES.contains(arch)) {
            let help = Some("remove `firmware`, or set it to the path of an image".to_owned());
            report.error_with_help(&at, node, format!("there is no UEFI firmware for `{arch}`"), help);
        }
    }
}

/// Returns the architecture in the name of a QEMU binary.
pub fn binary_architecture(binary: &str) -> Option<&'static str> {
    let name = Path::new(binary).file_name()?.to_str()?.strip_prefix("qemu-system-")?;
    ARCHITECTURES.iter().find(|architecture| **architecture == name).copied()
}

/// Reads the flash of a `-drive`, with its unit.
fn flash_drive(argument: &str) -> Option<(Option<u32>, FirmwareImage)> {
    let drive = OptionString::parse("drive", argument);
    if drive.get("if") != Some("pflash") {
        return None;
    }
    let unit = drive.get("unit").or_else(|| drive.get("index")).and_then(|unit| unit.parse().ok());
    Some((unit, FirmwareImage { path: drive.get("file")?.into(), format: drive.get("format").map(str::to_owned) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    #[test]
    fn test_layout_of_another_build_is_a_conflict() {
        let check =
            |code, variables| LayoutConflict::of_sizes(ByteSize::from_bytes(code), ByteSize::from_bytes(variables));
        let conflict = |code, variables| Some(LayoutConflict { code, variables });

        assert_eq!(check(1_966_080, 131_072), None);
        assert_eq!(check(3_653_632, 540_672), None);
        assert_eq!(check(3_653_632, 131_072), conflict("4M", "2M"));
        assert_eq!(check(1_966_080, 540_672), conflict("2M", "4M"));
        // Both are padded to the size of the flash on `virt`.
        assert_eq!(check(64 << 20, 64 << 20), None);
        assert_eq!(check(3_653_632, 64 << 20), None);
    }

    #[test]
    fn test_bios_size_is_a_multiple_of_64_kib() {
        assert_eq!(
            [0, 1, 65_536, 131_072, 3_653_632].map(|size| is_bios_size(ByteSize::from_bytes(size))),
            [false, false, true, true, false]
        );
    }

    #[test]
    fn test_architecture_is_that_of_the_binary() {
        for (definition, expected) in [
            ("{}", None),
            (r#"{"arch": "riscv64"}"#, Some("riscv64")),
            (r#"{"binary": "qemu-system-aarch64"}"#, Some("aarch64")),
            (r#"{"binary": "/opt/qemu/bin/qemu-system-riscv64"}"#, Some("riscv64")),
            (r#"{"binary": "qemu-system-arm"}"#, Some("arm")),
            (r#"{"binary": "/usr/libexec/qemu-kvm"}"#, None),
            (r#"{"binary": "/opt/qemu-system-aarch64-wrapper"}"#, None),
        ] {
            assert_eq!(read(definition).0.architecture(), expected, "{definition}");
        }
        assert_eq!(
            read(r#"{"arch": "x86_64", "binary": "qemu-system-aarch64"}"#).1,
            ["arch: `binary` runs guests of `aarch64`, not of `x86_64`"]
        );
        assert_eq!(read(r#"{"arch": "aarch64", "binary": "qemu-system-aarch64"}"#).1, [""; 0]);
    }

    #[test]
    fn test_uefi_of_machine_without_flash_is_an_error() {
        for (rest, message) in [
            (r#""machine": "microvm""#, Some("`machine: microvm` has no flash for UEFI firmware")),
            (r#""machine": {"type": "isapc"}"#, Some("`machine: isapc` has no flash for UEFI firmware")),
            (r#""arguments": [{"machine": "none"}]"#, Some("`machine: none` has no flash for UEFI firmware")),
            (r#""arch": "s390x""#, Some("there is no UEFI firmware for `s390x`")),
            (r#""binary": "qemu-system-ppc64""#, Some("there is no UEFI firmware for `ppc64`")),
            (r#""machine": "q35""#, None),
            (r#""binary": "qemu-system-riscv64", "machine": "virt""#, None),
        ] {
            let problems = read(&format!(r#"{{"firmware": "uefi", {rest}}}"#)).1;

            assert_eq!(problems, message.map(|message| format!("firmware: {message}")).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(read(r#"{"firmware": "bios", "machine": "microvm"}"#).1, [""; 0]);
    }

    #[test]
    fn test_flash_images_are_in_the_order_of_their_units() {
        let image =
            |path: &str, format: Option<&str>| FirmwareImage { path: path.into(), format: format.map(Into::into) };
        let raw = r#"{"args": ["-drive", "if=pflash,unit=1,file=/v.fd,format=raw", "-drive", "file=/c,,x.fd,if=pflash"],
            "arguments": [{"drive": {"file": "/disk", "if": "virtio"}}, {"drive": "if=pflash,file=relative.fd"}]}"#;

        assert_eq!(read(raw).0.flash_images(), [image("/c,x.fd", None), image("/v.fd", Some("raw"))]);
        assert_eq!(read(r#"{"arguments": [{"pflash": "/a"}]}"#).0.flash_images(), [image("/a", None)]);
        // The form of libvirt, with the nodes in any order and form.
        let (code, variables) = (image("/c.fd", Some("raw")), image("/v.fd", Some("qcow2")));
        let nodes = r#"{"blockdev": {"driver": "raw", "node-name": "p0", "file": "f0"}},
            {"blockdev": "driver=file,node-name=f0,filename=/c.fd"},
            {"blockdev": "{\"driver\": \"qcow2\", \"node-name\": \"p1\", \"file\": {\"driver\": \"file\", \"filename\": \"/v.fd\"}}"}"#;
        for machine in [
            format!(r#"{{"machine": {{"type": "q35", "pflash1": "p1", "pflash0": "p0"}}, "arguments": [{nodes}]}}"#),
            format!(r#"{{"arguments": [{{"machine": "q35,pflash0=p0,pflash1=p1"}}, {nodes}]}}"#),
            format!(
                r#"{{"args": ["-machine", "pflash1=p1"], "arguments": [{{"machine": {{"pflash0": "p0"}}}}, {nodes}]}}"#
            ),
        ] {
            assert_eq!(read(&machine).0.flash_images(), [code.clone(), variables.clone()], "{machine}");
        }
        let by_drive = r#"{"args": ["-machine", "pflash0=p", "-drive", "if=none,id=p,file=/c.fd,format=raw"]}"#;
        assert_eq!(read(by_drive).0.flash_images(), [code]);
        let circle = r#"{"args": ["-machine", "pflash0=p", "-blockdev", "raw,node-name=p,file=p"]}"#;
        assert_eq!(read(circle).0.flash_images(), []);
        assert_eq!(read(r#"{"arguments": [{"bios": "/b"}]}"#).0.bios_image(), Some("/b".into()));
        assert_eq!(read(r#"{"arguments": [{"bios": "bios-256k.bin"}]}"#).0.bios_image(), None);
    }
}
