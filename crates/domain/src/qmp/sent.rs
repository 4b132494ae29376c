//! The QMP commands that maqet sends a running QEMU on its own, each with the reason why it does no harm.
//!
//! A query can end a guest: `qom-list-types` loads all modules of QEMU, and after an upgrade of its package those belong
//! to another build, over which QEMU aborts. Others block the main loop, or allocate for as long as the reply is large.
//! A test compares this list with the code, so that a command is only sent once its reason is known. Queries that a
//! running QEMU must not be asked are a [`TypeQuery`](super::TypeQuery). Commands of the user are not in the list: they
//! are sent as given, within [`host_access`](super::host_access()).
//!
//! All were sent to QEMU 7.2.22 and 10.0.2 with the modules of the respective other build in place.

/// A command that is sent to a running QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The name of the command; of the human monitor, its line.
    pub name: &'static str,
    /// Why it does no harm.
    pub why: &'static str,
}

/// Reads what QEMU has in memory.
const MEMORY_ONLY: &str = "reads only what QEMU has in memory, and replies at once";

/// Reads data about open images.
const OPEN_IMAGES: &str =
    "reads sizes of open images; it waits only for a file system on which the guest's own requests wait too";

/// Reads a list of the few devices that a path has.
const ONE_OBJECT: &str = "reads one object, with fixed paths; it creates none and loads no module";

/// Changes the state of the VM, on request.
const POWER: &str = "is the change of state that the user requested";

/// Removes what maqet created itself.
const OWN_BACKEND: &str = "removes a backend that maqet created; QEMU refuses it while a device uses it";

/// Changes a device that the user named.
const DEVICE: &str = "is the change of a device that the user requested; it uses only code that the device has loaded";

/// Works on snapshots.
const SNAPSHOT: &str =
    "works on the snapshot that the user named; it blocks the main loop meanwhile, which the progress shows";

/// Saves a VM for a checkpoint.
const CHECKPOINT: &str = "is part of a checkpoint that the user requested; sent only once QEMU named nothing that keeps the VM from being saved";

/// Ends a job.
const OWN_JOB: &str = "concerns a job that maqet started, found by its ID";

/// The commands, by name.
pub const SENT: &[Sent] = &[
    sent("add-fd", "takes a descriptor of a file that maqet created; it is closed with `remove-fd`"),
    sent("balloon", DEVICE),
    sent("block-commit", "copies a layer that maqet created into the image below, in the background"),
    sent("block_resize", "grows the image that the user named, once requests to it are done; it loads no module"),
    sent(
        "block-dirty-bitmap-add",
        "records what the guest changes from then on, some kilobytes for each GiB of a disk",
    ),
    sent("block-dirty-bitmap-remove", "removes a bitmap that maqet added; QEMU refuses it while a job uses it"),
    sent(
        "blockdev-add",
        "opens the file that the user named with a format that QEMU's own images use, without modules",
    ),
    sent(
        "blockdev-backup",
        "copies a disk in the background, to an image whose space is reserved: a write of the guest waits for one copy",
    ),
    sent("blockdev-close-tray", DEVICE),
    sent("blockdev-del", OWN_BACKEND),
    sent("blockdev-insert-medium", DEVICE),
    sent("blockdev-open-tray", DEVICE),
    sent("blockdev-remove-medium", DEVICE),
    sent("blockdev-snapshot", "puts an empty layer that maqet created on an image, within two milliseconds"),
    sent("blockdev-snapshot-internal-sync", SNAPSHOT),
    sent("cont", POWER),
    sent("device_add", "adds the device that the user named; QEMU refuses a device whose module it cannot load"),
    sent("device_del", DEVICE),
    sent("drive_add 0", "opens the file that the user named, as `blockdev-add`, with limits from its first request on"),
    sent("drive_del", "removes a drive that maqet created; sent only if no device uses it"),
    sent("getfd", "takes a descriptor of a file that maqet created, for the `migrate` that follows"),
    sent("hostfwd_add", "forwards a port to the guest, as the QEMU did that the guest was in"),
    sent("hostfwd_remove", "gives up a forwarded port, which another QEMU gets together with the guest"),
    sent("info network", MEMORY_ONLY),
    sent("info usernet", MEMORY_ONLY),
    sent("inject-nmi", DEVICE),
    sent("job-cancel", OWN_JOB),
    sent("job-complete", OWN_JOB),
    sent("job-dismiss", OWN_JOB),
    sent("migrate", CHECKPOINT),
    sent("migrate-set-capabilities", CHECKPOINT),
    sent("migrate-set-parameters", CHECKPOINT),
    sent(
        "migrate-incoming",
        "loads the state of a machine into a QEMU that maqet started for it, and that has not run yet",
    ),
    sent("migrate_cancel", CHECKPOINT),
    sent("netdev_add", "creates the backend that the user described; its code is part of QEMU, not of a module"),
    sent("netdev_del", OWN_BACKEND),
    sent("qom-get", ONE_OBJECT),
    sent("qom-list", ONE_OBJECT),
    sent("query-balloon", MEMORY_ONLY),
    sent("query-block", OPEN_IMAGES),
    sent("query-chardev", MEMORY_ONLY),
    sent("query-cpus-fast", "reads no registers: unlike `query-cpus` it does not interrupt the CPUs"),
    sent("query-jobs", MEMORY_ONLY),
    sent("query-kvm", MEMORY_ONLY),
    sent("query-memdev", MEMORY_ONLY),
    sent("query-memory-size-summary", MEMORY_ONLY),
    sent("query-migrate", MEMORY_ONLY),
    sent("query-migrate-capabilities", MEMORY_ONLY),
    sent("query-migrate-parameters", MEMORY_ONLY),
    sent("query-named-block-nodes", "leaves out the chains of images (`flat`); otherwise as `query-block`"),
    sent("query-qmp-schema", "reads constant data; sent once for each build, as the reply is cached"),
    sent("query-status", MEMORY_ONLY),
    sent("query-version", MEMORY_ONLY),
    sent("query-yank", "is answered outside of the main loop, from memory"),
    sent("quit", POWER),
    sent("remove-fd", "closes a descriptor that maqet passed"),
    sent("screendump", "writes the picture of an existing screen; its code is part of QEMU, not of a module"),
    sent("send-key", DEVICE),
    sent("set_link", DEVICE),
    sent("snapshot-delete", SNAPSHOT),
    sent("snapshot-load", SNAPSHOT),
    sent("snapshot-save", SNAPSHOT),
    sent("stop", POWER),
    sent("system_powerdown", POWER),
    sent("system_reset", POWER),
    sent("system_wakeup", POWER),
    sent("transaction", "runs commands of this list together"),
];

/// The commands that are sent to a fresh process without a VM only.
pub const SENT_WITHOUT_VM: &[&str] = &["device-list-properties", "qom-list-types"];

const fn sent(name: &'static str, why: &'static str) -> Sent {
    Sent { name, why }
}
