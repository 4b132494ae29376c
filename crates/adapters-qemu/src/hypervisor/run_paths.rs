//! The files of a run: created before QEMU, removed after it.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::slice;

use maqet_adapters_linux::log_file;
use maqet_adapters_linux::private_file::{
    fresh_fifo, fresh_log, new_private_file, private_file, private_folder, unless_missing,
};
use maqet_domain::first_boot::MAX_CREDENTIALS;
use maqet_domain::guest::PortSet;
use maqet_domain::port::{LaunchError, RunFile};
use maqet_domain::vm::{BootNumber, MonitorRole, ProcessIdentity, RunPaths};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, openat, unlinkat};

use super::error::io_error;
use super::evidence::spare_start_notes;
use super::helper;
use crate::console::console_lock;
use crate::guest::{agent_lock, agent_queue, port_lock, waiting};
use crate::image::user_of;
use crate::limits::{LOG_RESERVE_BYTES, QMP_LOG_RESERVE_BYTES};
use crate::picture;
use crate::qmp::lock_path;

/// Creates the private folders of a run, its logs and the locks of its monitors.
///
/// Logs of a failed attempt are replaced, since its boot number is used again. Locks are created now so that QEMU can
/// still be queried and stopped on a disk that is full later.
pub(super) fn create(paths: &RunPaths) -> Result<(), LaunchError> {
    for folder in [&paths.sockets, &paths.records] {
        let vm_folder = folder.parent().unwrap_or(folder);
        private_folder(vm_folder).map_err(|error| io_error("create the directory", vm_folder, error))?;
        private_folder(folder).map_err(|error| io_error("create the directory", folder, error))?;
    }
    let locks = MonitorRole::ALL.iter().map(|role| lock_path(paths, *role)).chain([console_lock(paths)]);
    for lock in locks {
        private_file(&lock).map_err(|error| io_error("create the lock", &lock, error))?;
    }
    create_pipe(paths)?;
    // QEMU would create the serial log with the mode of the umask.
    for log in [paths.qemu_log(), paths.serial_log()] {
        fresh_log(&log).map_err(|error| io_error("create the log", &log, error))?;
    }
    Ok(())
}

/// Creates the pipe of the serial console: a FIFO for the input, and no output but the log that QEMU writes beside it.
fn create_pipe(paths: &RunPaths) -> Result<(), LaunchError> {
    let (input, output) = (paths.serial_input(), paths.serial_output());
    let create = || {
        fresh_fifo(&input)?;
        unless_missing(fs::remove_file(&output))?;
        symlink("/dev/null", &output)
    };
    create().map_err(|error| io_error("create the serial console", &input, error))
}

/// Reserves space for the logs of a run, of which the QMP log has to record how it ends, even on a disk that is full
/// later; returns why there is none.
pub(super) fn reserve_logs(paths: &RunPaths) -> Option<io::Error> {
    let logs = [
        (paths.qmp_log(), QMP_LOG_RESERVE_BYTES),
        (paths.serial_log(), LOG_RESERVE_BYTES),
        (paths.qemu_log(), LOG_RESERVE_BYTES),
    ];
    logs.iter().find_map(|(log, bytes)| log_file::reserve(log, *bytes).err())
}

/// Removes the logs of all but the newest `kept` boots of the VM; `records` is the folder of the current one.
pub(super) fn rotate(records: &Path, kept: usize) {
    let Some(vm_records) = records.parent() else { return };
    if RunPaths::boot_of(records).is_none() {
        return;
    }
    let Ok(entries) = fs::read_dir(vm_records) else { return };
    let mut boots: Vec<(BootNumber, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| RunPaths::boot_of(&entry.path()).map(|number| (number, entry.path())))
        .collect();
    boots.sort_unstable_by(|one, other| other.cmp(one));
    for (_, folder) in boots.iter().skip(kept).filter(|(_, folder)| folder != records) {
        remove_folder(folder);
    }
}

/// Returns the files of a run that are useless without its process.
fn socket_files(paths: &RunPaths) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = MonitorRole::ALL.iter().map(|role| paths.monitor(*role)).collect();
    files.extend(MonitorRole::ALL.iter().map(|role| lock_path(paths, *role)));
    files.extend(paths.guest_sockets().chain(guest_locks(paths)));
    files.extend(start_files(paths).chain([paths.takeover_socket()]));
    let serial = [paths.serial_input(), paths.serial_output(), paths.serial_socket(), console_lock(paths)];
    // The pid file last: without the others, its absence says nothing about QEMU.
    files.extend(serial.into_iter().chain([spare_start_notes(paths), paths.pid_file()]));
    files
}

/// Returns the files that QEMU only reads while it starts.
fn start_files(paths: &RunPaths) -> impl Iterator<Item = PathBuf> + '_ {
    (0..MAX_CREDENTIALS).map(|index| paths.credential(index)).chain([paths.seed_image()])
}

/// Creates the files that QEMU only reads while it starts.
pub(super) fn create_start_files(files: &[RunFile]) -> Result<(), LaunchError> {
    for RunFile { path, content } in files {
        let create = || {
            unless_missing(fs::remove_file(path))?;
            new_private_file(path)?.write_all(content)
        };
        create().map_err(|error| io_error("create", path, error))?;
    }
    Ok(())
}

/// Removes them: QEMU has read them, or has them open.
pub(super) fn remove_start_files(paths: &RunPaths) {
    for file in start_files(paths) {
        let _ = fs::remove_file(file);
    }
}

/// Returns the files by which processes take turns at the channels to the guest.
fn guest_locks(paths: &RunPaths) -> impl Iterator<Item = PathBuf> + '_ {
    let of_agent = [agent_lock(paths), agent_queue(paths)].into_iter().chain(waiting(&paths.sockets));
    PortSet::all().map(|set| port_lock(paths, set)).chain(of_agent)
}

/// Makes the files that QEMU created private, whatever the umask; their folders are private already.
pub(super) fn make_private(paths: &RunPaths) {
    let sockets = MonitorRole::ALL.iter().map(|role| paths.monitor(*role)).chain(paths.guest_sockets());
    for file in sockets.chain([paths.pid_file(), paths.serial_log()]) {
        // A definition may leave out some of them.
        let _ = chmodat(CWD, &file, Mode::RUSR | Mode::WUSR, AtFlags::empty());
    }
}

/// Ends the helpers of a run and removes its known files, and their folder if it is then empty.
pub(crate) async fn remove_sockets(paths: &RunPaths) {
    remove_overlays(paths);
    remove_folder(&paths.temporary());
    let Some(folder) = open_sockets(paths) else { return };
    helper::end(slice::from_ref(&paths.sockets)).await;
    remove_files(&folder, paths);
}

/// Does the same without waiting; returns the helpers, which were sent SIGKILL.
pub(super) fn remove_sockets_now(paths: &RunPaths) -> Vec<ProcessIdentity> {
    remove_overlays(paths);
    remove_folder(&paths.temporary());
    let Some(folder) = open_sockets(paths) else { return Vec::new() };
    let helpers = helper::kill(slice::from_ref(&paths.sockets));
    remove_files(&folder, paths);
    helpers
}

/// Opens the folder of the sockets; `None` for a symbolic link in its place.
fn open_sockets(paths: &RunPaths) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    openat(CWD, &paths.sockets, flags, Mode::empty()).ok()
}

/// Removes the names of the overlays of a run: QEMU has them open, or is gone.
///
/// While QEMU has them open, the kernel keeps what is in them, and frees it with the process, however that ends.
pub(super) fn remove_overlays(paths: &RunPaths) {
    remove_folder(&paths.overlays());
}

/// Does the same for a QEMU that may still be about to open them.
pub(super) fn remove_open_overlays(paths: &RunPaths) {
    let overlays = fs::read_dir(paths.overlays()).into_iter().flatten().flatten();
    for overlay in overlays.map(|entry| entry.path()).filter(|overlay| user_of(overlay).is_some()) {
        let _ = fs::remove_file(overlay);
    }
    let _ = fs::remove_dir(paths.overlays());
}

fn remove_files(folder: &OwnedFd, paths: &RunPaths) {
    let others = helper::files(&paths.sockets).into_iter().chain(picture::screendump_files(&paths.sockets));
    for file in others.chain(socket_files(paths)) {
        if let Some(name) = file.file_name() {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }
    // What was reserved for events.
    let _ = log_file::release(&paths.qmp_log());
    let _ = fs::remove_dir(&paths.sockets);
}

/// Removes the folder of the sockets of a VM, and ends the helpers of an interrupted start.
pub(super) async fn remove_vm_sockets(vm_sockets: &Path) {
    let runs = fs::read_dir(vm_sockets).into_iter().flatten().flatten();
    helper::end(&runs.map(|run| run.path()).collect::<Vec<_>>()).await;
    remove_folder(vm_sockets);
}

/// Removes a folder and everything in it; symbolic links are removed, not followed.
pub(super) fn remove_folder(folder: &Path) {
    // std opens folders relative to each other, so that a link put in place meanwhile is not followed either.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_rotate_keeps_newest_boots_by_number() {
        let vm = tempfile::tempdir().unwrap();
        for number in 1..=12 {
            fs::create_dir(vm.path().join(format!("boot-{number}"))).unwrap();
        }
        fs::create_dir(vm.path().join("boot-notes")).unwrap();

        rotate(&vm.path().join("boot-12"), 10);

        let left = |name: &str| vm.path().join(name).exists();
        assert!(left("boot-12") && left("boot-3") && left("boot-notes"));
        assert!(!left("boot-1") && !left("boot-2"));
    }

    #[tokio::test]
    async fn test_clear_foreign_file_keeps_folder() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        create(&paths).unwrap();
        fs::write(paths.sockets.join("mine"), "").unwrap();

        remove_sockets(&paths).await;

        assert_eq!(fs::read_dir(&paths.sockets).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn test_clear_link_in_place_of_folder_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("qemu.pid"), "").unwrap();
        fs::create_dir(root.path().join("vm")).unwrap();
        symlink(&elsewhere, &paths.sockets).unwrap();

        remove_sockets(&paths).await;

        assert!(elsewhere.join("qemu.pid").exists());
    }

    #[test]
    fn test_remove_folder_link_is_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (vm, elsewhere) = (root.path().join("vm"), root.path().join("elsewhere"));
        fs::create_dir_all(vm.join("b1")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("kept"), "").unwrap();
        symlink(&elsewhere, vm.join("b1/link")).unwrap();

        remove_folder(&vm);

        assert!(!vm.exists());
        assert!(elsewhere.join("kept").exists());
    }

    #[test]
    fn test_create_link_in_place_of_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        symlink("/tmp", root.path().join("vm")).unwrap();

        assert!(matches!(create(&paths), Err(LaunchError::Io { .. })));
    }
}
