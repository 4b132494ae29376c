//! A PostgreSQL server of the tests' own: on a socket in a directory of the test root, ended with the tests.
//!
//! `initdb` refuses to run as root, so for root the server runs as the user that Debian's package creates.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::variable::TEST_ROOT;
use crate::wait::try_until;
use crate::{Shared, port};

/// The user that runs the server, if root runs the tests.
const USER: &str = "postgres";

/// The role and the database of the tests.
const ROLE: &str = "maqet";

/// A role that needs the password [`PASSWORD`], also on the socket.
pub const PASSWORD_ROLE: &str = "guarded";

/// The password of [`PASSWORD_ROLE`]; not one that is easily embedded in a URL.
pub const PASSWORD: &str = "p@ss/w:rd ü";

/// Where Debian's packages put the programs.
const FOLDERS: &str = "/usr/lib/postgresql";

/// A server that starts within this time is a healthy one, also on a busy host.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Settings of every server; nothing has to survive a loss of power.
const SETTINGS: &str = "\
fsync = off
full_page_writes = off
shared_buffers = '16MB'
max_connections = 100
unix_socket_permissions = 0777
log_min_messages = log
";

/// The rules of access: one role needs its password, all others none.
const ACCESS: &str = "\
local all guarded scram-sha-256
host all guarded all scram-sha-256
local all all trust
host all all all trust
local replication all trust
";

static SERVER: Shared<PostgresServer> = Shared::new();

/// Returns the server that all tests of a process share.
pub fn server() -> Arc<PostgresServer> {
    SERVER.get_or_make(PostgresServer::start)
}

/// Returns the folder of PostgreSQL's programs, the newest version first; `None` if the server is not installed.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(FOLDERS).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = versions.map(|version| version.join("bin")).collect();
    let number = |folder: &Path| -> Option<u32> { folder.parent()?.file_name()?.to_str()?.parse().ok() };
    folders.sort_by_key(|folder| std::cmp::Reverse(number(folder)));
    let in_path = std::env::var_os("PATH");
    folders.extend(in_path.iter().flat_map(std::env::split_paths));
    folders.into_iter().find(|folder| folder.join("initdb").is_file())
}

/// A server, stopped and removed when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    folder: PathBuf,
    programs: PathBuf,
    /// The TCP port, if it listens on one.
    port: Option<u16>,
    running: Mutex<Option<Running>>,
    schemas: AtomicU32,
}

/// A schema of a server, as empty as a new database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSchema {
    /// Its URL.
    pub url: String,
    /// Its name.
    pub name: String,
}

/// The process of a server, with the thread that started it: the server is killed when that thread ends.
#[derive(Debug)]
struct Running {
    pidfd: OwnedFd,
    keeper: JoinHandle<()>,
}

/// A transaction that holds its locks; rolled back when dropped.
#[derive(Debug)]
pub struct OpenTransaction(Child);

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

impl PostgresServer {
    /// Starts a server that listens on its socket only.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server that listens on its socket only, with more `settings`.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        Self::start_on(settings, None)
    }

    /// Starts a server that also listens on a TCP port of the loopback interface, with more `settings`.
    #[must_use]
    pub fn start_on_tcp(settings: &str) -> Self {
        Self::start_on(settings, Some(port::free()))
    }

    fn start_on(settings: &str, port: Option<u16>) -> Self {
        let programs = programs().expect("PostgreSQL is not installed; `cargo xtask test` installs it");
        let server =
            Self { folder: new_folder(), programs, port, running: Mutex::new(None), schemas: AtomicU32::new(0) };
        let data = server.data();
        let initdb = ["-D", text(&data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        server.run("initdb", &initdb);
        let addresses = match port {
            Some(port) => format!("listen_addresses = '127.0.0.1'\nport = {port}\n"),
            None => "listen_addresses = ''\n".to_owned(),
        };
        server.write("data/pg_hba.conf", ACCESS);
        server.configure(&format!(
            "{SETTINGS}{addresses}unix_socket_directories = '{}'\n{settings}",
            text(&server.folder)
        ));
        server.resume();
        server.sql(&format!("CREATE DATABASE {ROLE}"), "postgres");
        let password = PASSWORD.replace('\'', "''");
        server.sql(&format!("CREATE ROLE {PASSWORD_ROLE} LOGIN SUPERUSER PASSWORD '{password}'"), "postgres");
        server
    }

    /// Starts a standby: a read-only server that follows this one.
    #[must_use]
    pub fn standby(&self) -> Self {
        let folder = new_folder();
        let standby = Self {
            folder,
            programs: self.programs.clone(),
            port: None,
            running: Mutex::new(None),
            schemas: AtomicU32::new(0),
        };
        let (from, to) = (text(&self.folder), standby.data());
        let port = self.port.unwrap_or(5432).to_string();
        let backup = ["-h", from, "-p", &port, "-U", ROLE, "-D", text(&to), "-R", "-c", "fast", "--no-sync"];
        self.run("pg_basebackup", &backup);
        standby.configure(&format!(
            "listen_addresses = ''\nport = 5432\nunix_socket_directories = '{}'",
            text(&standby.folder)
        ));
        standby.resume();
        standby
    }

    /// Adds settings, which apply from the next start on.
    pub fn configure(&self, settings: &str) {
        let file = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("the server has settings");
        self.write("data/postgresql.conf", &format!("{before}\n{settings}"));
    }

    /// Writes a file that the server can read, and only the server.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap_or_else(|why| panic!("cannot write {}: {why}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
        give_away(&path);
        path
    }

    /// Starts the server again, and waits until it accepts connections.
    pub fn resume(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(running.is_none(), "the server is running");
        let status = self.data().join("postmaster.pid");
        let _left_by_a_kill = fs::remove_file(&status);
        *running = Some(Running::start(self.command("postgres", &["-D", text(&self.data())]), &self.log()));
        let is_ready = || fs::read_to_string(&status).is_ok_and(|status| status.contains("ready"));
        assert!(
            try_until(START_TIMEOUT, || is_ready().then_some(())).is_some(),
            "the server did not start:\n{}",
            self.messages()
        );
    }

    /// Stops the server as a restart of its service does: connections are ended, no transaction is finished.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Ends the server at once, as a crash does.
    pub fn crash(&self) {
        self.end(Signal::QUIT);
    }

    fn end(&self, signal: Signal) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.end(signal);
        }
    }

    /// Returns the URL of its database on the socket.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.port.map(|port| format!("&port={port}")).unwrap_or_default();
        format!("postgres:///{ROLE}?host={}&user={ROLE}{port}", text(&self.folder))
    }

    /// Returns the address of its TCP port.
    #[must_use]
    pub fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.port.expect("the server listens on a TCP port"))
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port.unwrap_or(5432)))
    }

    /// Creates a new schema; its URL makes it the one that is used.
    pub fn schema(&self) -> PostgresSchema {
        let name = format!("t{}", self.schemas.fetch_add(1, Ordering::Relaxed));
        self.query(&format!("CREATE SCHEMA {name}"));
        PostgresSchema { url: self.in_schema(&self.url(), &name), name }
    }

    /// Returns `url` with a schema.
    #[must_use]
    pub fn in_schema(&self, url: &str, schema: &str) -> String {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-csearch_path%3D{schema}")
    }

    /// Executes SQL in the database of the tests, and returns the rows as lines with columns separated by `|`.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.sql(sql, ROLE)
    }

    /// Executes SQL in a transaction, which stays open until the result is dropped.
    #[must_use]
    pub fn hold(&self, sql: &str) -> OpenTransaction {
        let port = self.port.unwrap_or(5432).to_string();
        let mut command = self.command("psql", &self.psql(&port, ROLE));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|why| panic!("cannot run `psql`: {why}"));
        let stdin = child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "BEGIN; {sql};\n\\echo open").expect("`psql` reads");
        let lines = BufReader::new(child.stdout.as_mut().expect("it is piped")).lines();
        let is_open = lines.map_while(Result::ok).any(|line| line == "open");
        assert!(is_open, "the transaction was not opened");
        OpenTransaction(child)
    }

    #[track_caller]
    fn sql(&self, sql: &str, database: &str) -> String {
        let port = self.port.unwrap_or(5432).to_string();
        let arguments = [&self.psql(&port, database)[..], &["-c", sql]].concat();
        String::from_utf8_lossy(&self.run("psql", &arguments).stdout).trim_end().to_owned()
    }

    fn psql<'a>(&'a self, port: &'a str, database: &'a str) -> [&'a str; 11] {
        let folder = text(&self.folder);
        ["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", folder, "-p", port, "-U", ROLE, "-d", database]
    }

    /// Runs one of PostgreSQL's programs as the user of the server, and returns its output.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program, arguments).output();
        let output = output.unwrap_or_else(|why| panic!("cannot run `{program}`: {why}"));
        assert!(output.status.success(), "`{program} {arguments:?}`: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Returns a command that runs one of PostgreSQL's programs as the user of the server, and ends with this thread.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "QUIT", "--"]).arg(self.programs.join(program)).args(arguments);
        command.current_dir(&self.folder).env_clear().env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Returns the folder of the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what the server logged.
    #[must_use]
    pub fn messages(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.crash();
        let removed = fs::remove_dir_all(&self.folder);
        if let (Err(why), false) = (removed, thread::panicking()) {
            panic!("cannot remove {}: {why}", self.folder.display());
        }
    }
}

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("the server's folder takes files");
        command.stdout(log.try_clone().expect("a file can be duplicated")).stderr(log);
        let (sender, receiver) = mpsc::channel();
        let keeper = thread::spawn(move || {
            let mut child = command.spawn().expect("the server can be started");
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("our child is not reaped yet");
            sender.send(pidfd).expect("the starter waits");
            child.wait().expect("the server is our child");
        });
        Self { pidfd: receiver.recv().expect("the server was started"), keeper }
    }

    fn end(self, signal: Signal) {
        let _ended_already = pidfd_send_signal(&self.pidfd, signal);
        let _ended = self.keeper.join();
    }
}

/// Makes a folder that the user of the server owns and can enter.
fn new_folder() -> PathBuf {
    let parent = std::env::var_os(TEST_ROOT).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    if is_root() {
        let mode = fs::metadata(&parent).expect("the test root exists").mode();
        // It cannot be listed, only passed.
        fs::set_permissions(&parent, Permissions::from_mode(mode | 0o011)).expect("the test root is ours");
    }
    let folder = tempfile::Builder::new()
        .prefix("mqpg")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&parent)
        .expect("the test root takes folders")
        .keep();
    give_away(&folder);
    folder
}

/// Makes the user of the server own a file, if root runs the tests.
fn give_away(path: &Path) {
    if !is_root() {
        return;
    }
    let id = |option: &str| {
        let output = Command::new("id").args([option, USER]).output().expect("`id` runs");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    chown(path, id("-u"), id("-g")).expect("root may change owners");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn text(path: &impl AsRef<OsStr>) -> &str {
    path.as_ref().to_str().expect("the test root has a name in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_server_runs_until_dropped_and_leaves_nothing() {
        let server = PostgresServer::start();
        let folder = server.folder().to_owned();

        assert_eq!(server.query("SELECT 1 + 1"), "2");
        server.crash();
        server.resume();
        assert_eq!(server.query("SELECT 2 + 1"), "3");
        drop(server);

        assert!(!folder.exists());
        assert_eq!(crate::process::naming(&folder), []);
    }
}
