//! Why a device was not plugged in or unplugged.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{InvalidDeviceId, InvalidNetdev, InvalidProperty};
use crate::error::{Explain, Explanation, Fault};
use crate::qmp::HostAccessRefused;
use crate::text::quoted_list;
use crate::vm::VmName;

/// Why a device of a running VM was not added, removed or changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum DeviceError {
    #[error("unknown device `{}`", driver.escape_debug())]
    DriverNotFound { driver: String, similar: Vec<String> },
    #[error("`{driver}` has no property `{}`", property.escape_debug())]
    PropertyNotFound { driver: String, property: String, similar: Vec<String> },
    #[error(transparent)]
    Property(#[from] InvalidProperty),
    #[error(transparent)]
    Id(#[from] InvalidDeviceId),
    #[error(transparent)]
    Netdev(#[from] InvalidNetdev),
    #[error(transparent)]
    HostAccess(#[from] HostAccessRefused),
    #[error("{arguments} cannot be combined")]
    ArgumentConflict { arguments: &'static str },
    #[error("`{driver}` does not take a {backend}")]
    BackendInvalid { driver: String, backend: &'static str },
    #[error("VM `{vm}` already has a device `{id}`")]
    IdExists { vm: VmName, id: String },
    #[error("`{id}` is in use by the definition of VM `{vm}`")]
    IdOfDefinition { vm: VmName, id: String },
    /// There is no such device; `kind` is what was searched for, as in `device`.
    #[error("VM `{vm}` has no {kind} `{}`", id.escape_debug())]
    NotFound { vm: VmName, kind: &'static str, id: String, similar: Vec<String>, known: Vec<String> },
    /// Devices of this driver have no id; `paths` are those in QEMU's object tree.
    #[error("device `{driver}` of VM `{vm}` has no ID")]
    IdRequired { vm: VmName, driver: String, paths: Vec<String> },
    #[error("`{id}` is a backend, not a device{}", Around(" (used by `", user.as_deref(), "`)"))]
    IsBackend { vm: VmName, id: String, user: Option<String> },
    #[error("device removed, but its backend `{id}` is still in use{}", Around(" by `", user.as_deref(), "`"))]
    BackendInUse { vm: VmName, id: String, user: Option<String> },
    #[error("cannot unplug `{id}` from VM `{vm}`: {reason}")]
    UnplugUnsupported { vm: VmName, id: String, reason: String, origin: DeviceOrigin },
    #[error("this requires QEMU to spawn a host process, which the sandbox of VM `{vm}` forbids")]
    SandboxRefused { vm: VmName },
    #[error("QEMU's bridge helper refused to connect VM `{vm}` to the bridge")]
    BridgeRefused { vm: VmName },
    #[error("VM `{vm}` has no free port for `{driver}`: {reason}")]
    PortUnavailable { vm: VmName, driver: String, reason: String },
    #[error("file `{}` not found", path.display())]
    FileNotFound { path: PathBuf },
    #[error("`{}` is not a regular file", path.display())]
    FileInvalid { path: PathBuf },
    #[error("the path `{}` is not absolute", path.display())]
    PathInvalid { path: PathBuf },
    /// Only the content of the file suggests an image format, and a guest can write that.
    #[error("`{}` looks like `{format}`, but its name does not say so", path.display())]
    FormatAmbiguous { path: PathBuf, format: String },
    #[error("`{driver}` requires a file")]
    FileRequired { driver: String },
    #[error("timed out after {after:?} waiting for the {} of VM `{vm}` to release `{id}`", guest(*is_paused))]
    UnplugTimedOut { vm: VmName, id: String, after: Duration, is_paused: bool },
    /// The guest refused; `reason` is QEMU's message, if there is one.
    #[error("the guest of VM `{vm}` refused to release `{id}`{}", Around(": ", reason.as_deref(), ""))]
    UnplugRefused { vm: VmName, id: String, reason: Option<String> },
}

/// Where a device comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceOrigin {
    /// The definition, or its `arguments`.
    Definition,
    /// Maqet created it for other devices to be connected to.
    Maqet,
    /// It was hot-plugged.
    Hotplug,
}

/// A text between two others, or nothing.
struct Around<'a>(&'static str, Option<&'a str>, &'static str);

impl fmt::Display for Around<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.map_or(Ok(()), |text| write!(f, "{}{text}{}", self.0, self.2))
    }
}

const fn guest(is_paused: bool) -> &'static str {
    if is_paused { "paused guest" } else { "guest" }
}

impl Explain for DeviceError {
    fn explain(&self) -> Explanation {
        let usage = |code| Explanation::new(code, Fault::Usage);
        let not_found = |code| Explanation::new(code, Fault::NotFound);
        let state = |code| Explanation::new(code, Fault::State);
        let timed_out = |code| Explanation::new(code, Fault::TimedOut);
        match self {
            Self::DriverNotFound { similar, .. } => usage("device.driver-not-found")
                .did_you_mean(similar)
                .or_hint("list them with `qemu-system-x86_64 -device help`"),
            Self::PropertyNotFound { driver, similar, .. } => usage("device.property-not-found")
                .did_you_mean(similar)
                .or_hint(format!("list them with `qemu-system-x86_64 -device {driver},help`")),
            Self::Property(_) => usage("device.property-invalid"),
            Self::Id(_) => usage("device.id-invalid"),
            Self::Netdev(_) => usage("device.netdev-invalid"),
            Self::HostAccess(source) => source.explain(),
            Self::ArgumentConflict { .. } => usage("device.argument-conflict"),
            Self::BackendInvalid { .. } => usage("device.backend-invalid").hint("remove it, or choose another device"),
            Self::IdExists { vm, id } => state("device.id-exists")
                .hint("choose another ID")
                .hint(format!("remove the device with `maqet qmp device-del {vm} {id}`")),
            Self::IdOfDefinition { .. } => state("device.id-exists").hint("choose another ID"),
            Self::NotFound { kind, similar, known, .. } => {
                not_found("device.not-found").did_you_mean(similar).or_hint(list(kind, known))
            }
            Self::IdRequired { vm, driver, paths } => {
                let by_path = |path| format!("remove it by its path with `maqet qmp {vm} device_del 'id={path}'`");
                let mut explanation = not_found("device.id-required");
                explanation.hints.extend(paths.iter().map(by_path));
                explanation.hint(format!("add an ID for the next start: `{{device: {driver}, id: …}}` in `arguments`"))
            }
            Self::IsBackend { vm, user, .. } => {
                not_found("device.backend-unsupported").hint(release(vm, user.as_deref()))
            }
            Self::BackendInUse { vm, user, .. } => state("device.backend-in-use").hint(release(vm, user.as_deref())),
            Self::UnplugUnsupported { vm, origin, .. } => state("device.unplug-unsupported").hint(match origin {
                DeviceOrigin::Definition => {
                    format!("run `maqet stop {vm}`, and remove the device from the definition")
                }
                DeviceOrigin::Maqet => {
                    format!("remove the devices connected to it with `maqet qmp device-del {vm} ID`")
                }
                DeviceOrigin::Hotplug => format!("run `maqet stop {vm}`, which removes hot-plugged devices"),
            }),
            Self::SandboxRefused { vm } => state("device.sandbox-refused")
                .hint("use a tap device that is already connected to the bridge: `--netdev tap,ifname=NAME`")
                .hint(format!("disable the sandbox with `maqet apply {vm} --set sandbox=false`, and restart the VM")),
            Self::BridgeRefused { vm } => Explanation::new("device.bridge-refused", Fault::Host)
                .hint(format!("read its message with `maqet logs {vm} --qemu`"))
                .hint("allow the bridge in `/etc/qemu/bridge.conf`, as in `allow br0`"),
            Self::PortUnavailable { vm, .. } => state("device.port-unavailable")
                .hint(format!("add ports with `maqet apply {vm} --set hotplug_ports=8`, and restart the VM"))
                .hint(format!("remove a device with `maqet qmp device-del {vm} ID`")),
            Self::FileNotFound { .. } => not_found("device.file-not-found"),
            Self::FileInvalid { .. } => usage("device.file-invalid"),
            Self::PathInvalid { .. } => usage("device.path-invalid"),
            Self::FormatAmbiguous { format, .. } => usage("device.format-ambiguous")
                .hint(format!("pass `--file-format {format}` if you trust its content"))
                .hint("pass `--file-format raw` if it is a raw disk, to which a guest can write anything"),
            Self::FileRequired { .. } => usage("device.file-required").hint("pass one with `--file`"),
            Self::UnplugTimedOut { vm, is_paused: true, .. } => timed_out("device.unplug-timed-out")
                .hint(format!("resume the VM with `maqet resume {vm}`, so that it can release the device")),
            Self::UnplugTimedOut { vm, id, .. } => timed_out("device.unplug-timed-out")
                .hint(format!("watch for the release with `maqet events {vm} --type qemu.DEVICE_DELETED --follow`"))
                .hint("check that the guest has a driver for the device and does not use it")
                .hint(format!("wait longer with `maqet qmp device-del {vm} {id} --timeout 5m`")),
            Self::UnplugRefused { vm, .. } => Explanation::new("device.unplug-refused", Fault::Failed)
                .hint(format!("stop what uses the device in the guest of `{vm}`, then try again")),
        }
    }
}

/// Returns a hint that lists what exists.
fn list(kind: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("there is no {kind} with a name");
    }
    format!("use one of the {kind}s: {}", quoted_list(known))
}

/// Returns a hint how to stop the use of a backend.
fn release(vm: &VmName, user: Option<&str>) -> String {
    match user {
        Some(user) => format!("remove the device with `maqet qmp device-del {vm} {user}`"),
        None => format!("check whether a block job uses it with `maqet qmp {vm} query-block-jobs`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_device_error_unplug_hint_depends_on_origin() {
        let hint = |origin| {
            let (vm, id, reason) = ("web".parse().unwrap(), "d".to_owned(), "fixed".to_owned());
            DeviceError::UnplugUnsupported { vm, id, reason, origin }.hints().concat()
        };

        assert!(hint(DeviceOrigin::Definition).ends_with("from the definition"));
        assert!(
            [DeviceOrigin::Maqet, DeviceOrigin::Hotplug].iter().all(|origin| !hint(*origin).contains("definition"))
        );
    }

    #[test]
    fn test_device_error_backend_names_its_user() {
        let message = |user: Option<&str>| {
            let (vm, id, user) = ("web".parse().unwrap(), "x".to_owned(), user.map(str::to_owned));
            DeviceError::IsBackend { vm, id, user }.to_string()
        };

        assert_eq!(message(Some("d")), "`x` is a backend, not a device (used by `d`)");
        assert_eq!(message(None), "`x` is a backend, not a device");
    }
}
