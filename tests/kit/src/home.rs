//! A home of a test's own: directories, files, and everything that runs in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use crate::process::{self, Found};
use crate::run::Maqet;
use crate::variable::{KEEP, TEST_ROOT};
use crate::wait;

/// How long it may take until nothing is added to a home.
const REMOVAL: Duration = Duration::from_secs(10);

const FOLDERS: [&str; 6] = ["home", "data", "state", "config", "run", "tmp"];

/// A folder with a short path in which the CLI finds all it needs and none of the caller's files.
///
/// The path is short because sockets in it have to stay under 108 bytes. On drop every process whose command line
/// names the folder is killed, and the folder is removed.
#[derive(Debug)]
pub struct TestHome {
    root: PathBuf,
    binary: Option<PathBuf>,
}

impl TestHome {
    /// Makes a new home.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes folders; a default should make nothing")]
    pub fn new() -> Self {
        Self::made(None)
    }

    /// Makes a new home whose [`maqet`](Self::maqet) runs `binary` instead of looking for one.
    #[must_use]
    pub fn with_binary(binary: PathBuf) -> Self {
        Self::made(Some(binary))
    }

    /// Makes a new home whose [`maqet`](Self::maqet) runs the CLI with fault points.
    #[must_use]
    pub fn with_fault_points() -> Self {
        Self::made(Some(crate::faulty::binary()))
    }

    fn made(binary: Option<PathBuf>) -> Self {
        let parent = env::var_os(TEST_ROOT).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let root = tempfile::Builder::new()
            .prefix("mq")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .unwrap_or_else(|error| panic!("cannot make a test home in {}: {error}", parent.display()))
            .keep();
        let home = Self { root, binary };

        for folder in FOLDERS {
            let path = home.path(folder);
            fs::DirBuilder::new().mode(0o700).create(&path).expect("the new test home takes folders");
            // A strange umask may have taken bits away.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
        }
        home
    }

    /// Returns the folder that holds everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of `name` in this home, whether it exists or not.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the CLI's data folder, `$XDG_DATA_HOME/maqet`.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data/maqet")
    }

    /// Returns the CLI's runtime folder, `$XDG_RUNTIME_DIR/maqet`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path("run/maqet")
    }

    /// Returns the CLI's state folder, `$XDG_STATE_HOME/maqet`, where logs are.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path("state/maqet")
    }

    /// Returns the CLI's configuration folder, `$XDG_CONFIG_HOME/maqet`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("config/maqet")
    }

    /// Writes a file (0600, its folders 0700) and returns its path.
    #[track_caller]
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let folder = path.parent().expect("a file in a home has a folder");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("the test home takes folders");
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        // Configurations that others can write are refused, and the umask is the caller's.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        path
    }

    /// Prepares a run of the CLI in this home: `home.maqet(["status", "web"]).run().ok()`.
    pub fn maqet<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Maqet {
        let binary = self.binary.clone().unwrap_or_else(crate::run::binary);
        Maqet::new(binary, &self.root, self.environment()).args(arguments)
    }

    /// Prepares a run of the CLI with fault points, whichever other runs have.
    pub fn maqet_with_fault_points<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Maqet {
        Maqet::new(crate::faulty::binary(), &self.root, self.environment()).args(arguments)
    }

    /// Defines a VM from a YAML text.
    #[track_caller]
    pub fn add(&self, yaml: &str) {
        let file = self.write("vm.yaml", yaml);
        self.maqet(["add"]).arg(file).run().ok();
    }

    /// Creates `folder` and mounts an empty file system of that size on it (`2m`, as mount(8) writes it), which is
    /// unmounted with this home. For tests [with mounts of their own](crate::namespaces::within_mounts).
    #[track_caller]
    pub fn mount_tmpfs(&self, folder: &Path, size: &str) {
        assert!(folder.starts_with(&self.root), "only mounts below the home are unmounted with it");
        fs::create_dir_all(folder).expect("the test home takes folders");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"])
            .arg(folder)
            .status();
        assert!(mount.is_ok_and(|status| status.success()), "cannot mount on {}", folder.display());
    }

    /// Unmounts what is mounted below the home, even while a process that is about to end uses it.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for point in points.filter(|point| point.starts_with(&self.root)) {
            let unmounted = Command::new("umount").arg("--lazy").arg(point).status();
            assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {}", point.display());
        }
    }

    /// Runs the CLI with `--format json`, asserts success, and returns its output.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.maqet(arguments).args(["--format", "json"]).run().ok().json_value()
    }

    /// Runs the CLI with `--format json`, asserts the exit code of a failure, and returns the error.
    #[track_caller]
    pub fn json_error(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        self.maqet(arguments).args(["--format", "json"]).run().code(code).json_error()["error"].clone()
    }

    /// Returns the whole environment of a program run in this home.
    #[must_use]
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let own = [
            ("HOME", "home"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ];
        // A run measured for coverage has to know where its counters go.
        let kept = ["PATH", "LLVM_PROFILE_FILE"];

        own.into_iter()
            .map(|(name, folder)| (name.into(), self.path(folder).into()))
            .chain(kept.into_iter().filter_map(|name| Some((name.into(), env::var_os(name)?))))
            .collect()
    }

    /// Creates a directory with QEMU and no other program, to be a `PATH`, and returns it.
    #[must_use]
    pub fn folder_of_qemu(&self) -> PathBuf {
        let folder = self.path("bin");
        fs::create_dir(&folder).expect("the test home takes folders");
        symlink(crate::qemu::emulator(), folder.join("qemu-system-x86_64")).expect("the folder is ours");
        folder
    }

    /// Returns the living processes whose command line names this home.
    #[must_use]
    pub fn processes(&self) -> Vec<Found> {
        process::naming(&self.root)
    }

    /// Returns the process ids of the QEMUs that live in this home.
    #[must_use]
    pub fn qemu_pids(&self) -> Vec<i32> {
        self.processes().into_iter().filter(Found::is_qemu).map(|qemu| qemu.pid).collect()
    }

    /// Returns files that a removed VM must not leave: sockets, FIFOs, locks, pid files and incomplete files.
    #[must_use]
    pub fn stale_files(&self) -> Vec<PathBuf> {
        let temporary = self.path("tmp");
        let mut found = self.files();
        found.retain(|path| path.starts_with(&temporary) || is_stale(path));
        found
    }

    /// Returns every file of this home, sockets and the like included, folders not, in order.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(_) => found.push(entry.path()),
                    Err(_) => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        process::kill_naming(&self.root);
        if env::var_os(KEEP).is_some() {
            eprintln!("kept because {KEEP} is set: {}", self.root.display());
            return;
        }
        self.unmount();
        let mut last = None;
        // A process that is ending may still create a file.
        let removed = wait::try_until(REMOVAL, || match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                last = Some(error);
                None
            }
            Ok(()) | Err(_) => Some(()),
        });
        // A test that has failed already says something else.
        let is_failed = std::thread::panicking();
        assert!(is_failed || removed.is_some(), "cannot remove {}: {last:?}", self.root.display());
    }
}

fn is_stale(path: &Path) -> bool {
    let special =
        fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket() || meta.file_type().is_fifo());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();

    let is_partial = name.starts_with('.') && name.contains(".partial-");

    special || is_partial || name.starts_with(".tmp") || ["lock", "pid", "tmp", "part"].contains(&ending.as_ref())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn test_home_new_is_private_and_short() {
        let home = TestHome::new();

        let mode = fs::metadata(home.root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(home.root().as_os_str().len() <= 24, "{}", home.root().display());
    }

    #[test]
    fn test_home_environment_inherits_only_path() {
        let home = TestHome::new();

        let foreign: Vec<_> = home
            .environment()
            .into_iter()
            .filter(|(_, value)| !Path::new(value).starts_with(home.root()))
            .map(|(name, _)| name)
            .filter(|name| name != "LLVM_PROFILE_FILE")
            .collect();

        assert_eq!(foreign, ["PATH"]);
    }

    #[test]
    fn test_home_write_creates_private_file_in_new_folder() {
        let home = TestHome::new();

        let file = home.write("a/web.yaml", "name: web\n");

        assert_eq!(fs::read_to_string(&file).unwrap(), "name: web\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn test_home_stale_files_are_sockets_locks_and_temporary_files() {
        let home = TestHome::new();
        home.write("web.yaml", "");
        let lock = home.write("run/maqet/web.lock", "");
        let temporary = home.write("tmp/x", "");
        let socket = home.path("run/qmp.sock");
        let _listener = UnixListener::bind(&socket).unwrap();

        assert_eq!(home.stale_files(), [lock, socket, temporary]);
    }

    #[test]
    fn test_home_dropped_kills_processes_and_removes_folder() {
        let home = TestHome::new();
        let root = home.root().to_owned();
        let mut sleeper = Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(home.path("x"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();

        drop(home);

        assert!(process::naming(&root).is_empty());
        assert!(!sleeper.wait().unwrap().success());
        assert!(env::var_os(KEEP).is_some() || !root.exists());
    }
}
