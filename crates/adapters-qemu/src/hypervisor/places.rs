//! The folders of a run: made, cleared, forgotten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::private_file::{fresh_log, private_file, private_folder};
use maqet_domain::port::LaunchError;
use maqet_domain::vm::{BootNumber, MonitorRole, RunPaths};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, openat, unlinkat};

use super::helper;
use crate::console::console_lock;
use crate::limits::BOOTS_KEPT;
use crate::picture;
use crate::qmp::turn_file;

/// Makes the folders of a run, its logs and the locks of its monitors, all of it ours alone.
///
/// The logs are new: an attempt that failed has left its own, as the number of a boot is given again after it.
/// The locks are made here, so that on a disk that filled up later a machine can still be asked and stopped.
pub(super) fn make(paths: &RunPaths) -> Result<(), LaunchError> {
    for folder in [&paths.sockets, &paths.records] {
        let vm_folder = folder.parent().unwrap_or(folder);
        private_folder(vm_folder).map_err(|why| failed("make the folder", vm_folder, why))?;
        private_folder(folder).map_err(|why| failed("make the folder", folder, why))?;
    }
    for role in MonitorRole::ALL {
        let lock = turn_file(paths, role);
        private_file(&lock).map_err(|why| failed("make the lock", &lock, why))?;
    }
    // QEMU would make the serial log as the umask has it.
    let lock = console_lock(paths);
    private_file(&lock).map_err(|why| failed("make the lock", &lock, why))?;
    for log in [paths.qemu_log(), paths.serial_log()] {
        fresh_log(&log).map_err(|why| failed("make the log", &log, why))?;
    }
    Ok(())
}

pub(super) fn failed(action: &'static str, path: &Path, why: io::Error) -> LaunchError {
    LaunchError::Io { action, path: path.to_owned(), source: why.into() }
}

/// Removes the logs of all but the newest boots of the VM that `records` belongs to.
pub(super) fn rotate(records: &Path) {
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
    for (_, folder) in boots.iter().skip(BOOTS_KEPT).filter(|(_, folder)| folder != records) {
        forget(folder);
    }
}

/// The names of the files of a run that are gone with its process.
fn socket_files(paths: &RunPaths) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = MonitorRole::ALL.iter().map(|role| paths.monitor(*role)).collect();
    files.extend(MonitorRole::ALL.iter().map(|role| turn_file(paths, *role)));
    files.extend([paths.serial_socket(), console_lock(paths), paths.pid_file()]);
    files
}

/// Makes what QEMU made itself ours alone, whatever the umask; the folders around it are already.
pub(super) fn close_files(paths: &RunPaths) {
    let sockets = MonitorRole::ALL.iter().map(|role| paths.monitor(*role));
    for file in sockets.chain([paths.serial_socket(), paths.pid_file(), paths.serial_log()]) {
        // A definition may do without some of them.
        let _ = chmodat(CWD, &file, Mode::RUSR | Mode::WUSR, AtFlags::empty());
    }
}

/// Ends the helpers of a run and removes its files that we know by name, and their folder if nothing else is in it.
///
/// Through a handle of the folder, so that a link put in its place leads nowhere.
pub(crate) fn clear(paths: &RunPaths) {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(folder) = openat(CWD, &paths.sockets, flags, Mode::empty()) else { return };
    let helpers = helper::sockets(&paths.sockets);
    helper::end(&helpers);
    let pictures = picture::left_behind(&paths.sockets);
    for file in socket_files(paths).into_iter().chain(helpers).chain(pictures) {
        if let Some(name) = file.file_name() {
            let _ = unlinkat(&folder, name, AtFlags::empty());
        }
    }
    let _ = fs::remove_dir(&paths.sockets);
}

/// Removes the folder of a VM's runs; the helpers of one that was cut off end.
pub(super) fn forget_sockets(vm_sockets: &Path) {
    let runs = fs::read_dir(vm_sockets).into_iter().flatten().flatten();
    let sockets: Vec<PathBuf> = runs.flat_map(|run| helper::sockets(&run.path())).collect();
    helper::end(&sockets);
    forget(vm_sockets);
}

/// Removes a folder and all below it; links are removed, not followed.
pub(super) fn forget(folder: &Path) {
    // std walks by handles (openat, unlinkat), so that a link swapped in halfway leads nowhere either.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_rotate_keeps_the_newest_boots_by_number() {
        let vm = tempfile::tempdir().unwrap();
        for number in 1..=12 {
            fs::create_dir(vm.path().join(format!("boot-{number}"))).unwrap();
        }
        fs::create_dir(vm.path().join("boot-notes")).unwrap();

        rotate(&vm.path().join("boot-12"));

        let left = |name: &str| vm.path().join(name).exists();
        assert!(left("boot-12") && left("boot-3") && left("boot-notes"));
        assert!(!left("boot-1") && !left("boot-2"));
    }

    #[test]
    fn test_clear_strangers_file_keeps_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        make(&paths).unwrap();
        fs::write(paths.sockets.join("mine"), "").unwrap();

        clear(&paths);

        assert_eq!(fs::read_dir(&paths.sockets).unwrap().count(), 1);
    }

    #[test]
    fn test_clear_link_in_place_of_the_folder_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("qemu.pid"), "").unwrap();
        fs::create_dir(root.path().join("vm")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &paths.sockets).unwrap();

        clear(&paths);

        assert!(elsewhere.join("qemu.pid").exists());
    }

    #[test]
    fn test_forget_link_inside_is_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (vm, elsewhere) = (root.path().join("vm"), root.path().join("elsewhere"));
        fs::create_dir_all(vm.join("b1")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, vm.join("b1/link")).unwrap();

        forget(&vm);

        assert!(!vm.exists());
        assert!(elsewhere.join("kept").exists());
    }

    #[test]
    fn test_make_folder_of_the_vm_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("vm"), &root.path().join("records"), BootNumber(1));
        std::os::unix::fs::symlink("/tmp", root.path().join("vm")).unwrap();

        assert!(matches!(make(&paths), Err(LaunchError::Io { .. })));
    }
}
