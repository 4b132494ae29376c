//! The texts of QEMU that maqet matches, because QEMU has no error class or field for what they say.
//!
//! Each was seen in the QEMU named beside it and comes from the source file named there. No other module compares a
//! message of QEMU; an upgrade of QEMU is checked here.

mod agent;
mod endpoint;
mod exit_messages;
mod help;
mod hmp;
mod near_names;
mod socket_path;
mod start_warnings;

pub use self::agent::{is_command_disabled, is_frozen, is_unknown_process};
pub use self::endpoint::{Endpoint, Transport};
pub use self::exit_messages::{ExitMessage, Lookup, NameList, Names, Recognized, Role, exit_messages, recognize};
pub use self::help::{ListedName, listed_names};
pub use self::hmp::{hmp_failure, is_stream_pending, stream_failure};
pub(crate) use self::near_names::architectures_of;
pub use self::near_names::{default_machine_type, near_machine_types, near_names, other_architectures_of};
pub use self::socket_path::{ListeningSocket, StreamBackend};
pub use self::start_warnings::start_warnings;

use std::path::PathBuf;

/// The first column of `info usernet` for a TCP port of the host that leads to the guest (7.2, libslirp `src/misc.c`).
pub const TCP_FORWARD: &str = "TCP[HOST_FORWARD]";

/// The same for UDP.
pub const UDP_FORWARD: &str = "UDP[HOST_FORWARD]";

/// The first column of `info usernet` for a connection that the guest has accepted (7.2, libslirp `src/misc.c`).
pub const TCP_ESTABLISHED: &str = "TCP[ESTABLISHED]";

/// How QEMU answers a `device_del` that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnplugRefusal {
    /// The device or its bus cannot be unplugged.
    Unsupported,
    /// The guest was asked before and has not answered.
    Pending,
    /// Anything else.
    Other,
}

/// Returns why QEMU refused a `device_del` (7.2, `softmmu/qdev-monitor.c`, `include/qapi/qmp/qerror.h`).
pub fn unplug_refusal(description: &str) -> UnplugRefusal {
    // `Bus 'x' does not support hotplugging`, `Device 'x' does not support hotplugging`.
    if description.contains("does not support hot") {
        UnplugRefusal::Unsupported
    } else if description.contains("is already in the process of unplug") {
        UnplugRefusal::Pending
    } else {
        UnplugRefusal::Other
    }
}

/// Returns the argument that was refused because it is a string, and the type that it must have (10.0,
/// `qapi/qobject-input-visitor.c`, `include/qapi/qmp/qerror.h`).
pub fn expected_type(description: &str) -> Option<(&str, &str)> {
    // `Parameter 'queue-size' expects uint64`, `Invalid parameter type for 'share-rw', expected: boolean`.
    let named = |prefix: &str, middle: &str| description.strip_prefix(prefix)?.split_once(middle);
    named("Parameter '", "' expects ").or_else(|| named("Invalid parameter type for '", "', expected: "))
}

/// Returns whether a `device_add` was refused because a disk has no backend (7.2, `hw/block/virtio-blk.c`,
/// `hw/scsi/scsi-disk.c`, `hw/nvme/ctrl.c`).
pub fn is_drive_required(description: &str) -> bool {
    description == "drive property not set" || description.contains("drive is empty")
}

/// Returns whether a `netdev_add` was refused because the bridge helper failed (7.2, `net/tap.c`).
pub fn is_bridge_helper_failure(description: &str) -> bool {
    description == "bridge helper failed"
}

/// Returns whether a `screendump` was refused because there is no graphics card (7.2, `ui/console.c`).
pub fn is_without_screen(description: &str) -> bool {
    // `There is no console to take a screendump from`.
    description.contains("no console")
}

/// Returns whether the file name that `query-chardev` reports is that of a socket without a client (7.2,
/// `chardev/char-socket.c`).
pub fn is_disconnected_socket(filename: &str) -> bool {
    filename.starts_with("disconnected:")
}

/// Returns whether a message of QEMU or `qemu-img` says that another process has an image open (7.2,
/// `block/file-posix.c`).
pub fn is_image_locked(message: &str) -> bool {
    // `Failed to get "write" lock`, `Failed to get shared "write" lock`.
    let is_lock = |line: &str| line.contains("Failed to get ") && line.trim_end().ends_with("\" lock");
    message.contains("Is another process using the image") || message.lines().any(is_lock)
}

/// Returns the image that QEMU's standard error says another process has open (7.2, `block/file-posix.c`).
pub fn locked_image(stderr: &str) -> Option<PathBuf> {
    let mut images = stderr.lines().filter_map(|line| line.strip_prefix("Is another process using the image ["));
    images.find_map(|rest| rest.strip_suffix("]?")).map(PathBuf::from)
}

/// Returns whether a message of `qemu-img` says that there is no space left (the C library's texts for `ENOSPC` and
/// `EDQUOT`).
pub fn is_disk_full(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("Disk quota exceeded")
}

/// What keeps QEMU from saving the state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveBlocker {
    /// An NVMe controller.
    Nvme,
    /// A device of the host.
    Vfio,
    /// A directory that is shared over 9p, and mounted in the guest.
    MountedShare,
    /// Anything else.
    Other,
}

/// Returns what a reason of `query-migrate` says that keeps a machine from being saved (7.2 and 10.0,
/// `migration/savevm.c`, `hw/9pfs/9p.c`, `hw/vfio/migration.c`).
pub fn save_blocker(reason: &str) -> SaveBlocker {
    // `non-migratable device: 0000:00:04.0/nvme`, `Migration is disabled when VirtFS export path '…' is mounted …`,
    // `VFIO device doesn't support migration`.
    if reason.contains("/nvme") {
        SaveBlocker::Nvme
    } else if reason.contains("VirtFS export path") {
        SaveBlocker::MountedShare
    } else if reason.to_ascii_lowercase().contains("vfio") {
        SaveBlocker::Vfio
    } else {
        SaveBlocker::Other
    }
}

/// Returns whether a job `snapshot-load` that ended with this changed neither a disk nor the memory (7.2 and 10.0,
/// `migration/savevm.c`, `block/snapshot.c`): QEMU checks the drives first.
pub fn is_load_without_effect(error: &str) -> bool {
    // `Snapshot 's' does not exist in one or more devices`, `This is a disk-only snapshot. Revert to it  offline using
    // qemu-img`, `Device 'd' is writable but does not support snapshots`, `No block device node 'd'`,
    // `vmstate block device 'd' does not exist`. Not those of a later step: `Could not load snapshot 's' on 'd': …`,
    // `Could not open VM state file`, `Error -22 while loading VM state`.
    (error.starts_with("Snapshot '") && error.ends_with("' does not exist in one or more devices"))
        || error.starts_with("This is a disk-only snapshot.")
        || (error.starts_with("Device '") && error.ends_with("' is writable but does not support snapshots"))
        || error.starts_with("No block device node '")
        || (error.starts_with("vmstate block device '") && error.ends_with("' does not exist"))
}

/// Returns whether `cont` was refused because the migration before is about to end (7.2, 10.0, `monitor/qmp-cmds.c`).
pub fn is_migration_unfinished(description: &str) -> bool {
    description.contains("Migration is not finalized yet")
}

/// Returns whether a job of QEMU ended with this because it was canceled, as one whose transaction failed is (the C
/// library's text for `ECANCELED`).
pub fn is_job_canceled(error: &str) -> bool {
    error == "Operation canceled"
}

/// Returns whether `--version` printed this, and the program is `qemu-img` (7.2, `qemu-img.c`).
pub fn is_qemu_img_version(output: &str) -> bool {
    output.starts_with("qemu-img version")
}

/// A signal that QEMU exited on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated<'t> {
    /// The number of the signal.
    pub signal: i32,
    /// The process that sent it; `None` for the kernel, as on the end of a terminal.
    pub pid: Option<u32>,
    /// The path of its program.
    pub program: Option<&'t str>,
}

/// Returns the signal that QEMU's standard error says it exited on (7.2, `softmmu/runstate.c`; 10.0,
/// `system/runstate.c`).
pub fn terminated_by_signal(stderr: &str) -> Option<Terminated<'_>> {
    // `terminating on signal 15 from pid 7751 (/usr/bin/kill)`, `terminating on signal 2`.
    let rest = stderr.lines().rev().find_map(|line| line.split_once("terminating on signal ")).map(|(_, rest)| rest)?;
    let mut parts = rest.splitn(5, ' ');
    let signal = parts.next()?.trim().parse().ok()?;
    let pid = parts.nth(2).and_then(|pid| pid.parse().ok());
    let program = parts.next().map(|program| program.trim_matches(['(', ')']));
    Some(Terminated { signal, pid, program: program.filter(|name| !name.starts_with('<')) })
}

/// Returns the message of an assertion with which QEMU aborted (`assert` of glibc, and `g_assert` of `GLib`).
pub fn aborted(stderr: &str) -> Option<String> {
    let is_abort = |line: &&str| {
        line.contains(": Assertion `") && line.ends_with("' failed.")
            || line.starts_with("ERROR:") && line.contains("assertion failed")
            || line.starts_with("Bail out! ERROR:")
            || line.contains("qemu: fatal: ")
            || line.contains("qemu: hardware error: ")
    };
    stderr.lines().rev().find(is_abort).map(str::to_owned)
}

/// Returns whether a line of QEMU's standard error is a warning or information (7.2, `util/error-report.c`), or says
/// that QEMU goes on without a module (10.0, `util/module.c`).
pub fn is_warning(line: &str) -> bool {
    let text = line.split_once(": ").map_or(line, |(_, text)| text);
    ["warning: ", "info: "].iter().any(|kind| line.starts_with(kind) || text.starts_with(kind))
        || text.starts_with("failed to initialize module")
        || line == "Only modules from the same build can be loaded."
}

/// What QEMU logs with `-d cpu_reset` before the reset of a triple fault (7.2, 10.0, `target/i386/tcg/excp_helper.c`).
pub const TRIPLE_FAULT: &str = "Triple fault";

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 7.2 writes it.
    const LOCKED: &str =
        "Failed to get shared \"write\" lock\nIs another process using the image [/var/lib/d.qcow2]?\n";

    #[test]
    fn test_unplug_refusal_tells_unsupported_from_pending() {
        for (description, expected) in [
            ("Bus 'pcie.0' does not support hotplugging", UnplugRefusal::Unsupported),
            ("Device 'ide-hd' does not support hotplugging", UnplugRefusal::Unsupported),
            ("Device d1 is already in the process of unplug", UnplugRefusal::Pending),
            ("Device 'd1' not found", UnplugRefusal::Other),
        ] {
            assert_eq!(unplug_refusal(description), expected, "{description}");
        }
    }

    #[test]
    fn test_expected_type_has_two_texts() {
        assert_eq!(expected_type("Parameter 'queue-size' expects uint64"), Some(("queue-size", "uint64")));
        let boolean = "Invalid parameter type for 'share-rw', expected: boolean";
        assert_eq!(expected_type(boolean), Some(("share-rw", "boolean")));
        assert_eq!(expected_type("Property 'x' not found"), None);
    }

    #[test]
    fn test_drive_required_has_two_texts() {
        assert!(is_drive_required("drive property not set"));
        assert!(is_drive_required("Device needs media, but drive is empty"));
        assert!(!is_drive_required("Property 'virtio-blk-device.drive' can't find value 'x'"));
    }

    #[test]
    fn test_image_locked_is_found_with_its_path() {
        assert!(is_image_locked(LOCKED));
        assert!(is_image_locked("qemu-img: Could not open '/d/a': Failed to get \"write\" lock\n"));
        assert!(is_image_locked("qemu-img: Failed to get shared \"write\" lock\n"));
        assert!(!is_image_locked("Could not open 'x': Permission denied"));
        assert_eq!(locked_image(LOCKED), Some("/var/lib/d.qcow2".into()));
        assert_eq!(locked_image("Failed to get \"write\" lock"), None);
    }

    #[test]
    fn test_disk_full_covers_quota() {
        assert!(is_disk_full("qemu-img: /d/a: Could not resize image: No space left on device"));
        assert!(is_disk_full("Disk quota exceeded") && !is_disk_full("Permission denied"));
    }

    #[test]
    fn test_save_blocker_has_the_kind_of_its_device() {
        for (reason, expected) in [
            ("non-migratable device: 0000:00:04.0/nvme", SaveBlocker::Nvme),
            (
                "Migration is disabled when VirtFS export path '/d' is mounted in the guest using mount_tag 't'",
                SaveBlocker::MountedShare,
            ),
            ("0000:01:00.0: VFIO migration is not supported in kernel", SaveBlocker::Vfio),
            ("State blocked by something", SaveBlocker::Other),
        ] {
            assert_eq!(save_blocker(reason), expected, "{reason}");
        }
    }

    #[test]
    fn test_single_texts_are_matched() {
        assert!(is_load_without_effect("Snapshot 's' does not exist in one or more devices"));
        assert!(is_load_without_effect("This is a disk-only snapshot. Revert to it  offline using qemu-img"));
        assert!(!is_load_without_effect("Error -22 while loading VM state"));
        assert!(!is_load_without_effect("Could not load snapshot 's' on 'd': Snapshot 's' does not exist"));
        assert!(is_job_canceled("Operation canceled") && !is_job_canceled("No space left on device"));
        assert!(is_bridge_helper_failure("bridge helper failed"));
        assert!(is_without_screen("There is no console to take a screendump from"));
        assert!(is_disconnected_socket("disconnected:unix:/r/serial.sock,server=on"));
        assert!(is_qemu_img_version("qemu-img version 7.2.22 (Debian 1:7.2)"));
    }
}
