//! The commands that are killed, each in a home prepared for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::{Maqet, TestHome, guest, qcow2};

/// A command, and the home it runs in.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Commands that come before, each of which succeeds.
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    /// Its exit code if it is not killed.
    pub(crate) code: i32,
}

/// The VM of the commands; `other` is an unrelated one.
pub(crate) const VM: &str = "web";
pub(crate) const OTHER: &str = "other";
pub(crate) const DRIVE: &str = "hdd";

const ADD: &[&str] = &["add", "web.yaml"];
const ADD_OTHER: &[&str] = &["add", "other.yaml"];
const START: &[&str] = &["start", VM];
const RESUME: &[&str] = &["resume", VM];
/// A device that is unplugged without the guest's help.
const DEVICE_ADD: &[&str] = &["qmp", "device-add", VM, "usb-storage", "--id", "stick", "--file", "stick.raw"];
/// A VM whose disk exists.
const WITH_DISK: &[&[&str]] = &[ADD, START, &["stop", VM, "--force"]];
/// With a second drive.
const ADD_PAIR: &[&str] = &["add", "pair.yaml"];
const SNAPSHOT_ALL: &[&str] = &["snapshot", "create", VM, "all", "one"];
const SNAPSHOT: &[&str] = &["snapshot", "create", VM, DRIVE, "one"];
const LIVE_SNAPSHOT: &[&str] = &["snapshot", "create", VM, "all", "one", "--live"];
/// What QEMU cannot load into a VM with other memory.
const FOREIGN_SNAPSHOT: &[&str] =
    &["qmp", "run", VM, "snapshot-save", "--json", r#"{"job-id":"j","tag":"one","vmstate":"hdd","devices":["hdd"]}"#];
const KILL: &[&str] = &["stop", VM, "--force"];
const MORE_MEMORY: &[&str] = &["apply", VM, "--memory", "48M"];
const BACKUP: &[&str] = &["backup", "create", VM];
const CHECKPOINT: &[&str] = &["checkpoint", "create", VM, "one"];
const FORK: &[&str] = &["fork", "web@one", "--name", "fork"];
const UPGRADE: &[&str] = &["upgrade", VM];
const TO_TRASH: &[&str] = &["rm", VM, "--delete-storage"];

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the first add", before: &[], command: ADD, code: 0 },
    Scenario { name: "add", before: &[ADD_OTHER], command: ADD, code: 0 },
    Scenario { name: "apply", before: &[ADD_OTHER, ADD], command: &["apply", VM, "--memory", "48M"], code: 0 },
    Scenario { name: "the first start", before: &[ADD], command: START, code: 0 },
    Scenario { name: "a later start", before: &[ADD, START, &["stop", VM]], command: START, code: 0 },
    Scenario {
        name: "a start that QEMU refuses",
        before: &[&["add", "refused.yaml"]],
        command: &["start", "refused"],
        code: 2,
    },
    Scenario { name: "stop", before: &[ADD, START], command: &["stop", VM], code: 0 },
    Scenario { name: "stop --force", before: &[ADD, START], command: &["stop", VM, "--force"], code: 0 },
    Scenario { name: "restart --force", before: &[ADD, START], command: &["restart", VM, "--force"], code: 0 },
    Scenario { name: "resume", before: &[ADD, START], command: RESUME, code: 0 },
    Scenario { name: "pause", before: &[ADD, START, RESUME], command: &["pause", VM], code: 0 },
    Scenario { name: "reset", before: &[ADD, START], command: &["reset", VM], code: 0 },
    Scenario { name: "qmp device-add", before: &[ADD, START], command: DEVICE_ADD, code: 0 },
    Scenario {
        name: "qmp device-del",
        before: &[ADD, START, DEVICE_ADD],
        command: &["qmp", "device-del", VM, "stick"],
        code: 0,
    },
    Scenario {
        name: "qmp insert",
        before: &[ADD, START],
        command: &["qmp", "insert", VM, "ide1-cd0", "stick.raw"],
        code: 0,
    },
    Scenario { name: "rm --force", before: &[ADD_OTHER, ADD, START], command: &["rm", VM, "--force"], code: 0 },
    Scenario { name: "the first snapshot", before: &[ADD], command: SNAPSHOT, code: 0 },
    Scenario {
        name: "snapshot load",
        before: &[ADD, SNAPSHOT],
        command: &["snapshot", "load", VM, DRIVE, "one"],
        code: 0,
    },
    Scenario { name: "storage resize", before: WITH_DISK, command: &["storage", "resize", VM, DRIVE, "6M"], code: 0 },
    Scenario {
        name: "storage convert in place",
        before: WITH_DISK,
        command: &["storage", "convert", VM, DRIVE, "qcow2"],
        code: 0,
    },
    Scenario {
        name: "storage convert to another file",
        before: WITH_DISK,
        command: &["storage", "convert", VM, DRIVE, "qcow2", "--file", "moved.qcow2"],
        code: 0,
    },
    Scenario { name: "a live snapshot", before: &[ADD, START], command: LIVE_SNAPSHOT, code: 0 },
    Scenario {
        name: "a live snapshot that replaces one",
        before: &[ADD, START, LIVE_SNAPSHOT],
        command: &["snapshot", "create", VM, "all", "one", "--live", "--overwrite"],
        code: 0,
    },
    Scenario {
        name: "a live load",
        before: &[ADD, START, LIVE_SNAPSHOT],
        command: &["snapshot", "load", VM, "all", "one", "--live"],
        code: 0,
    },
    Scenario {
        name: "a start from a snapshot",
        before: &[ADD, START, LIVE_SNAPSHOT, KILL],
        command: &["snapshot", "load", VM, "all", "one", "--start"],
        code: 0,
    },
    Scenario {
        name: "a live load that QEMU refuses",
        before: &[ADD, START, FOREIGN_SNAPSHOT, KILL, MORE_MEMORY, START],
        command: &["snapshot", "load", VM, "all", "one", "--live"],
        code: 1,
    },
    Scenario {
        name: "a removal of a live snapshot",
        before: &[ADD, START, LIVE_SNAPSHOT],
        command: &["snapshot", "rm", VM, "all", "one", "--live"],
        code: 0,
    },
    Scenario {
        name: "snapshot create all --overwrite",
        before: &[ADD_PAIR, SNAPSHOT_ALL],
        command: &["snapshot", "create", VM, "all", "one", "--overwrite"],
        code: 0,
    },
    Scenario {
        name: "snapshot load all",
        before: &[ADD_PAIR, SNAPSHOT_ALL, &["snapshot", "load", VM, "all", "one"]],
        command: &["snapshot", "load", VM, "all", "one"],
        code: 0,
    },
    Scenario {
        name: "snapshot rm all",
        before: &[ADD_PAIR, SNAPSHOT_ALL],
        command: &["snapshot", "rm", VM, "all", "one"],
        code: 0,
    },
    Scenario { name: "snapshot rm", before: &[ADD, SNAPSHOT], command: &["snapshot", "rm", VM, DRIVE, "one"], code: 0 },
    Scenario { name: "rm --delete-storage", before: &[ADD, SNAPSHOT], command: TO_TRASH, code: 0 },
    Scenario {
        name: "storage trash restore",
        before: &[ADD, SNAPSHOT, TO_TRASH],
        command: &["storage", "trash", "restore", VM],
        code: 0,
    },
    Scenario {
        name: "storage trash empty",
        before: &[ADD, SNAPSHOT, TO_TRASH],
        command: &["storage", "trash", "empty"],
        code: 0,
    },
    Scenario {
        name: "storage verify --repair",
        before: WITH_DISK,
        command: &["storage", "verify", VM, DRIVE, "--repair", "leaks"],
        code: 0,
    },
    Scenario { name: "storage compact", before: WITH_DISK, command: &["storage", "compact", VM, DRIVE], code: 0 },
    Scenario { name: "a backup of a stopped VM", before: WITH_DISK, command: BACKUP, code: 0 },
    Scenario { name: "an increment of a running VM", before: &[ADD, START, BACKUP], command: BACKUP, code: 0 },
    Scenario {
        name: "backup restore",
        before: &[ADD, START, BACKUP, KILL],
        command: &["backup", "restore", VM, "latest"],
        code: 0,
    },
    Scenario {
        name: "backup rm",
        before: &[ADD, START, BACKUP, BACKUP, KILL],
        command: &["backup", "rm", VM, "latest"],
        code: 0,
    },
    Scenario { name: "a checkpoint", before: &[ADD, START, RESUME], command: CHECKPOINT, code: 0 },
    Scenario {
        name: "the removal of a checkpoint of a running VM",
        before: &[ADD, START, RESUME, CHECKPOINT],
        command: &["checkpoint", "rm", VM, "--all"],
        code: 0,
    },
    Scenario {
        name: "the removal of a checkpoint of a stopped VM",
        before: &[ADD, START, RESUME, CHECKPOINT, KILL],
        command: &["checkpoint", "rm", VM, "--all"],
        code: 0,
    },
    Scenario {
        name: "checkpoint check",
        before: &[ADD, START, RESUME],
        command: &["checkpoint", "check", VM],
        code: 0,
    },
    Scenario {
        name: "a restore of a checkpoint",
        before: &[ADD, START, RESUME, CHECKPOINT],
        command: &["checkpoint", "restore", VM, "one"],
        code: 0,
    },
    Scenario { name: "a fork", before: &[ADD, START, RESUME, CHECKPOINT], command: FORK, code: 0 },
    Scenario { name: "an upgrade", before: &[ADD, START, RESUME], command: UPGRADE, code: 0 },
    Scenario { name: "storage attach", before: &[ADD], command: &["storage", "attach", VM, "stick.raw"], code: 0 },
];

impl Scenario {
    /// Creates a home and runs the preceding commands.
    pub(crate) fn home(&self) -> TestHome {
        let home = TestHome::with_fault_points();
        let disk = "storage: [{name: hdd, size: 4M}]\n";
        home.write("web.yaml", guest::paused_yaml(VM) + "  - {device: qemu-xhci}\n" + disk);
        let pair = "storage: [{name: hdd, size: 4M}, {name: ssd, size: 1M}]\n";
        home.write("pair.yaml", guest::paused_yaml(VM) + pair);
        home.write("other.yaml", guest::paused_yaml(OTHER));
        home.write("refused.yaml", guest::paused_yaml("refused") + "args: [\"-nonsense\"]\n" + disk);
        home.write("stick.raw", vec![0; 1 << 20]);
        for arguments in self.before {
            home.maqet(*arguments).run().ok();
        }
        match self.command {
            ["storage", "verify", ..] => disks(&home).iter().for_each(|disk| qcow2::leak_cluster(disk)),
            ["storage", "compact", ..] => disks(&home).iter().for_each(|disk| allocate_zeros(disk)),
            _ => {}
        }
        home
    }

    /// Returns whether the home is new.
    pub(crate) fn is_first(&self) -> bool {
        self.before.is_empty()
    }

    /// Prepares the command.
    pub(crate) fn command(&self, home: &TestHome) -> Maqet {
        home.maqet(self.command)
    }

    /// Returns whether the command adds or removes this VM, so that it may be there or not.
    pub(crate) fn moves(&self, vm: &str) -> bool {
        ["add", "rm"].contains(&self.command[0]) && vm == VM
    }

    /// Returns whether the command moves the disks of the VM to the trash or back.
    pub(crate) fn moves_disks(&self) -> bool {
        self.command == TO_TRASH || matches!(self.command, ["storage", "trash", "restore", ..])
    }

    /// Returns whether the next command that changes the VM recovers what a killed one left, and commands that only read
    /// may miss a disk or see a QEMU of no VM until then.
    pub(crate) fn is_recovered_by_changes(&self) -> bool {
        let moves_guests =
            matches!(self.command, ["backup", "create" | "restore", ..] | ["checkpoint" | "upgrade", ..]);
        self.moves_disks() || moves_guests
    }

    /// Returns whether the command puts the guest into another QEMU.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.command == UPGRADE
    }

    /// Returns whether the command is about checkpoints.
    pub(crate) fn is_of_checkpoints(&self) -> bool {
        self.command[0] == "checkpoint" || self.is_fork()
    }

    /// Returns whether the command makes a VM from a checkpoint.
    pub(crate) fn is_fork(&self) -> bool {
        self.command == FORK
    }

    /// Returns whether the command makes or removes this snapshot.
    pub(crate) fn moves_snapshot(&self, snapshot: &str) -> bool {
        match self.command {
            // The one that it replaces is there, or its successor is.
            ["snapshot", "create", .., "--overwrite"] => false,
            ["snapshot", "create" | "rm", _, _, name, ..] => *name == snapshot,
            ["snapshot", "load", ..] => snapshot.starts_with("before-load"),
            _ => false,
        }
    }

    /// Returns whether clusters without a use may be left: a QEMU that worked on snapshots is killed in the end, or they
    /// were there before.
    pub(crate) fn leaks(&self) -> bool {
        matches!(self.command, ["storage", "verify", ..])
            || self.command.iter().any(|argument| ["--live", "--start"].contains(argument))
    }
}

/// Writes zeros to an image, which takes space that the image does not need.
fn allocate_zeros(disk: &Path) {
    let written = Command::new("qemu-io").args(["-c", "write -P 0 0 1M"]).arg(disk).output().unwrap();
    assert!(written.status.success(), "{written:?}");
}

/// Returns the disks in the trash of a home.
pub(crate) fn trashed(home: &TestHome) -> Vec<PathBuf> {
    let trash = home.data().join("trash");
    let is_image = |path: &PathBuf| path.starts_with(&trash) && path.extension().is_some_and(|kind| kind == "qcow2");
    home.files().into_iter().filter(is_image).collect()
}

/// Returns the disks of a home, without incomplete ones, which have hidden names.
pub(crate) fn disks(home: &TestHome) -> Vec<PathBuf> {
    let storage = home.data().join("storage");
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    home.files().into_iter().filter(|path| path.starts_with(&storage) && !is_hidden(path)).collect()
}
