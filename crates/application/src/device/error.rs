//! Why a device was not plugged in or out.

use std::path::PathBuf;
use std::time::Duration;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::hotplug::{InvalidDeviceId, InvalidNetdev, InvalidProperty};
use maqet_domain::size::ByteSize;
use maqet_domain::text::did_you_mean;
use maqet_domain::vm::VmName;

/// Why a device of a running machine was not added, removed or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// QEMU has no such driver.
    #[error("QEMU has no device `{}`", given.escape_debug())]
    NoDriver {
        /// What was given.
        given: String,
        /// Drivers that look like it.
        similar: Vec<String>,
    },
    /// The driver has no such property.
    #[error("`{driver}` has no property `{}`", given.escape_debug())]
    NoProperty {
        /// The driver.
        driver: String,
        /// What was given.
        given: String,
        /// Properties that look like it.
        similar: Vec<String>,
    },
    /// A property whose value does not fit, or that is none.
    #[error(transparent)]
    Property(#[from] InvalidProperty),
    /// An id that no device may have.
    #[error(transparent)]
    Id(#[from] InvalidDeviceId),
    /// A network back end that is none.
    #[error(transparent)]
    Netdev(#[from] InvalidNetdev),
    /// What was given excludes each other.
    #[error("{what} cannot be given together")]
    Conflict {
        /// What.
        what: &'static str,
    },
    /// The driver has no place for such a back end.
    #[error("`{driver}` takes no {what}")]
    TakesNo {
        /// The driver.
        driver: String,
        /// What was given.
        what: &'static str,
    },
    /// The machine has a device of this id already.
    #[error("the VM `{vm}` has a device `{id}` already")]
    IdTaken {
        /// The VM.
        vm: VmName,
        /// The id.
        id: String,
    },
    /// The definition calls something so.
    #[error("`{id}` is a name of the definition of `{vm}`")]
    IdOfDefinition {
        /// The VM.
        vm: VmName,
        /// The id.
        id: String,
    },
    /// The machine has no such device.
    #[error("the VM `{vm}` has no {what} `{}`", id.escape_debug())]
    NoDevice {
        /// The VM.
        vm: VmName,
        /// What was looked for, as in `device`.
        what: &'static str,
        /// What was given.
        id: String,
        /// Those that look like it.
        similar: Vec<String>,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The machine has such devices, and none of them can be named.
    #[error("the `{driver}` of `{vm}` has no id")]
    NoId {
        /// The VM.
        vm: VmName,
        /// The driver, as it was given.
        driver: String,
        /// Where they are in QEMU's tree of objects.
        paths: Vec<String>,
    },
    /// What is called so can be behind a device, and is none.
    #[error("`{id}` of `{vm}` is what a device uses, and none itself{}", by.as_deref().map(|by| format!(": `{by}` has it")).unwrap_or_default())]
    BackEnd {
        /// The VM.
        vm: VmName,
        /// What was given.
        id: String,
        /// The device that has it; `None` if none has.
        by: Option<String>,
    },
    /// The device is out, and what was behind it is not free.
    #[error("`{id}`, which was behind a device that is out of `{vm}`, is in use still{}", by.as_deref().map(|by| format!(": `{by}` has it")).unwrap_or_default())]
    BackEndInUse {
        /// The VM.
        vm: VmName,
        /// What was behind the device.
        id: String,
        /// The device that has it; `None` if none has.
        by: Option<String>,
    },
    /// The device is part of the machine for as long as that runs.
    #[error("`{id}` cannot be taken out of `{vm}` while it runs: {why}")]
    Fixed {
        /// The VM.
        vm: VmName,
        /// The device.
        id: String,
        /// QEMU's words, or ours.
        why: String,
        /// Where it is from.
        origin: Origin,
    },
    /// QEMU would be ended for what it would have to do.
    #[error("QEMU would have to start a program of the host for it, which the sandbox of `{vm}` ends it for")]
    Sandboxed {
        /// The VM.
        vm: VmName,
    },
    /// QEMU's helper joined no bridge.
    #[error("QEMU's bridge helper refused to give `{vm}` a place on the bridge")]
    BridgeRefused {
        /// The VM.
        vm: VmName,
    },
    /// The machine takes no more devices while it runs.
    #[error("the VM `{vm}` has no free port for `{driver}`: {why}")]
    NoPort {
        /// The VM.
        vm: VmName,
        /// The driver.
        driver: String,
        /// Why.
        why: String,
    },
    /// There is no such file.
    #[error("there is no file `{}`", path.display())]
    NoFile {
        /// Where it was expected.
        path: PathBuf,
    },
    /// It is no regular file.
    #[error("`{}` is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A path that depends on where somebody is.
    #[error("the path `{}` is not absolute", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// The file looks like an image, and nothing but its content says so.
    #[error("`{}` looks like `{format}`, and its name does not say so", path.display())]
    FormatUnsure {
        /// The file.
        path: PathBuf,
        /// The format it looks like.
        format: String,
    },
    /// The driver is a disk, and there is no file for it.
    #[error("`{driver}` needs a file")]
    FileNeeded {
        /// The driver.
        driver: String,
    },
    /// The machine has no balloon.
    #[error("the VM `{vm}` has no balloon device")]
    NoBalloon {
        /// The VM.
        vm: VmName,
    },
    /// A text that is no amount of memory.
    #[error("`{}` is no amount of memory: {why}", given.escape_debug())]
    BalloonSize {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than the machine has.
    #[error("the machine has {memory} of memory, which is less than {size}")]
    BalloonTooLarge {
        /// What was wanted.
        size: ByteSize,
        /// What there is.
        memory: ByteSize,
    },
    /// The guest did not come to what was asked for.
    #[error("the guest of `{vm}` has {actual} after {after:?}, and was asked for {wanted}")]
    BalloonStopped {
        /// The VM.
        vm: VmName,
        /// What was asked for.
        wanted: ByteSize,
        /// What it came to.
        actual: ByteSize,
        /// How long was waited.
        after: Duration,
    },
    /// The drive's medium stays where it is.
    #[error("the drive `{drive}` of `{vm}` has no tray")]
    NoTray {
        /// The VM.
        vm: VmName,
        /// The drive.
        drive: String,
    },
    /// The guest keeps the tray closed.
    #[error(
        "the guest of `{vm}` has locked the drive `{drive}`; it was asked to open it, and did not within {after:?}"
    )]
    TrayLocked {
        /// The VM.
        vm: VmName,
        /// The drive.
        drive: String,
        /// How long was waited.
        after: Duration,
    },
    /// The guest did not let a device go in time.
    #[error(
        "`{id}` is still there after {after:?}: QEMU asked the guest of `{vm}` to let it go, and the guest did not answer{}",
        if *stands_still { ", as it stands still" } else { "" }
    )]
    NotReleased {
        /// The VM.
        vm: VmName,
        /// The device.
        id: String,
        /// How long was waited.
        after: Duration,
        /// Whether the machine does not run.
        stands_still: bool,
    },
    /// The VM ended, with all that was plugged in.
    #[error("the VM `{vm}` ended while its guest was waited for to let `{id}` go")]
    RunEnded {
        /// The VM.
        vm: VmName,
        /// The device.
        id: String,
    },
    /// The guest said no.
    #[error("the guest of `{vm}` refused to let `{id}` go{}", why.as_deref().map(|why| format!(": {why}")).unwrap_or_default())]
    GuestRefused {
        /// The VM.
        vm: VmName,
        /// The device.
        id: String,
        /// QEMU's words, where it said any.
        why: Option<String>,
    },
}

/// Where a device is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The definition, or its `arguments`.
    Definition,
    /// Maqet made it for other devices to sit on.
    Maqet,
    /// It was plugged in.
    HotplugSession,
}

/// Tells what there is.
fn listed(what: &str, known: &[String]) -> String {
    match known {
        [] => format!("it has no {what} that could be named"),
        known => {
            let quoted: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("the {what}s are: {}", quoted.join(", "))
        }
    }
}

impl Explain for DeviceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoDriver { .. } => "device.driver-unknown",
            Self::NoProperty { .. } => "device.property-unknown",
            Self::Property(_) => "device.property-invalid",
            Self::Id(_) => "device.id-invalid",
            Self::Netdev(_) => "device.netdev-invalid",
            Self::Conflict { .. } => "device.conflict",
            Self::TakesNo { .. } => "device.no-back-end",
            Self::IdTaken { .. } | Self::IdOfDefinition { .. } => "device.id-taken",
            Self::NoDevice { .. } => "device.not-found",
            Self::NoId { .. } => "device.without-id",
            Self::BackEnd { .. } => "device.back-end",
            Self::BackEndInUse { .. } => "device.back-end-in-use",
            Self::Fixed { .. } => "device.fixed",
            Self::Sandboxed { .. } => "device.sandboxed",
            Self::BridgeRefused { .. } => "device.bridge-refused",
            Self::NoPort { .. } => "device.no-port",
            Self::NoFile { .. } => "device.file-missing",
            Self::NotAFile { .. } => "device.not-a-file",
            Self::Relative { .. } => "device.path-relative",
            Self::FormatUnsure { .. } => "device.format-unsure",
            Self::FileNeeded { .. } => "device.file-needed",
            Self::NoBalloon { .. } => "balloon.none",
            Self::BalloonSize { .. } => "balloon.size-invalid",
            Self::BalloonTooLarge { .. } => "balloon.too-large",
            Self::BalloonStopped { .. } => "balloon.not-reached",
            Self::NoTray { .. } => "medium.no-tray",
            Self::TrayLocked { .. } => "medium.locked",
            Self::NotReleased { .. } => "device.not-released",
            Self::RunEnded { .. } => "device.run-ended",
            Self::GuestRefused { .. } => "device.guest-refused",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NoDriver { .. }
            | Self::NoProperty { .. }
            | Self::Property(_)
            | Self::Id(_)
            | Self::Netdev(_)
            | Self::Conflict { .. }
            | Self::TakesNo { .. }
            | Self::NotAFile { .. }
            | Self::Relative { .. }
            | Self::FormatUnsure { .. }
            | Self::FileNeeded { .. }
            | Self::BalloonSize { .. }
            | Self::BalloonTooLarge { .. }
            | Self::NoTray { .. } => Fault::Usage,
            Self::IdTaken { .. }
            | Self::IdOfDefinition { .. }
            | Self::BackEndInUse { .. }
            | Self::Fixed { .. }
            | Self::RunEnded { .. }
            | Self::Sandboxed { .. }
            | Self::NoPort { .. }
            | Self::NoBalloon { .. } => Fault::State,
            Self::BridgeRefused { .. } => Fault::Host,
            Self::NoDevice { .. } | Self::NoId { .. } | Self::BackEnd { .. } | Self::NoFile { .. } => Fault::NotFound,
            Self::NotReleased { .. } | Self::BalloonStopped { .. } | Self::TrayLocked { .. } => Fault::TimedOut,
            Self::GuestRefused { .. } => Fault::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoDriver { similar, .. } => {
                vec![did_you_mean(similar).unwrap_or("list them with `qemu-system-x86_64 -device help`".to_owned())]
            }
            Self::NoProperty { driver, similar, .. } => {
                let all = format!("list them with `qemu-system-x86_64 -device {driver},help`");
                vec![did_you_mean(similar).unwrap_or(all)]
            }
            Self::TakesNo { .. } => vec!["leave it out, or choose another device".to_owned()],
            Self::IdTaken { vm, id } => {
                vec!["choose another id".to_owned(), format!("or remove it with `maqet qmp device-del {vm} {id}`")]
            }
            Self::IdOfDefinition { .. } => vec!["choose another id".to_owned()],
            Self::NoDevice { what, similar, known, .. } => vec![did_you_mean(similar).unwrap_or_else(|| listed(what, known))],
            Self::NoId { vm, driver, paths } => {
                let by_path = |path| format!("call it by its place: `maqet qmp {vm} device_del 'id={path}'`");
                let named =
                    format!("give it an id for the next start: `{{device: {driver}, id: …}}` under `arguments`");
                paths.iter().map(by_path).chain([named]).collect()
            }
            Self::BackEnd { vm, by: Some(by), .. } | Self::BackEndInUse { vm, by: Some(by), .. } => {
                vec![format!("take that out with `maqet qmp device-del {vm} {by}`")]
            }
            Self::BackEnd { vm, by: None, .. } | Self::BackEndInUse { vm, by: None, .. } => {
                vec![format!("no device has it; see whether a job does with `maqet qmp {vm} query-block-jobs`")]
            }
            Self::Fixed { vm, origin: Origin::Definition, .. } => {
                vec![format!("stop it with `maqet stop {vm}`, and take the device out of the definition")]
            }
            Self::Fixed { vm, origin: Origin::Maqet, .. } => {
                vec![format!("take out what sits on it instead, with `maqet qmp device-del {vm} ID`")]
            }
            Self::Fixed { vm, origin: Origin::HotplugSession, .. } => {
                vec![format!("stop it with `maqet stop {vm}`: what was plugged in is gone then")]
            }
            Self::Sandboxed { vm } => vec![
                "for a network card, use a tap that is on the bridge already, without scripts: `--netdev tap,ifname=NAME`"
                    .to_owned(),
                format!("or do without the sandbox: `maqet apply {vm} --set sandbox=false`, and start it anew"),
            ],
            Self::BridgeRefused { vm } => vec![
                format!("see what it said with `maqet logs {vm} --qemu`"),
                "it takes what `/etc/qemu/bridge.conf` allows, as in `allow br0`".to_owned(),
            ],
            Self::NoPort { vm, .. } => vec![
                format!("give it some with `maqet apply {vm} --set hotplug_ports=8`, and start it anew"),
                format!("or remove a device with `maqet qmp device-del {vm} ID`"),
            ],
            Self::FormatUnsure { format, .. } => vec![
                format!("say what it is: `--file-format {format}`, if that is so"),
                "or `--file-format raw`: a guest can write anything into a raw disk, also what looks like an image"
                    .to_owned(),
            ],
            Self::FileNeeded { .. } => vec!["name one with `--file`".to_owned()],
            Self::NoBalloon { vm } => vec![
                format!("plug one in with `maqet qmp device-add {vm} virtio-balloon-pci`"),
                "or give it one for good: `{device: virtio-balloon-pci}` under `arguments`".to_owned(),
            ],
            Self::BalloonStopped { .. } => {
                vec!["it may still come; a guest without a driver for its balloon never does".to_owned()]
            }
            Self::TrayLocked { .. } => {
                vec!["unmount it in the guest".to_owned(), "or open it all the same with `--force`".to_owned()]
            }
            Self::NotReleased { vm, stands_still: true, .. } => {
                vec![format!("let it go on with `maqet resume {vm}`: it may still let the device go")]
            }
            Self::NotReleased { vm, id, .. } => vec![
                format!("it may still happen: see `maqet events {vm} --type qemu.DEVICE_DELETED`"),
                "a guest without a driver for it, or that uses it, never lets it go".to_owned(),
                format!("wait for longer with `maqet qmp device-del {vm} {id} --timeout 5m`"),
            ],
            Self::RunEnded { vm, .. } => vec![
                format!("see what became of it with `maqet status {vm}`"),
                "nothing is left to do: the next start has what the definition says, and nothing else".to_owned(),
            ],
            Self::GuestRefused { vm, .. } => {
                vec![format!("stop what uses it in the guest of `{vm}`, then try again")]
            }
            Self::Property(_)
            | Self::Id(_)
            | Self::Netdev(_)
            | Self::Conflict { .. }
            | Self::NoFile { .. }
            | Self::NotAFile { .. }
            | Self::Relative { .. }
            | Self::BalloonSize { .. }
            | Self::BalloonTooLarge { .. }
            | Self::NoTray { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_hotplug_error_fixed_speaks_of_the_definition_only_where_the_device_is_of_it() {
        let hint = |origin| {
            let (vm, id, why) = ("web".parse().unwrap(), "d".to_owned(), "so".to_owned());
            DeviceError::Fixed { vm, id, why, origin }.hints().concat()
        };

        assert!(hint(Origin::Definition).ends_with("out of the definition"));
        assert!([Origin::Maqet, Origin::HotplugSession].iter().all(|origin| !hint(*origin).contains("definition")));
    }
}
