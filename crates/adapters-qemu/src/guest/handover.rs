//! Taking turns at a guest agent.
//!
//! One process at a time has the lock of the agent, and a connection to it. An agent whose client leaves sleeps for 100 ms
//! (`qga/main.c`, 7.2 and 10.0), in which it starts and answers nothing. So a process whose turn is over passes its
//! connection on to the one that has waited longest, and the locked file with it: the lock is that of the open file, also
//! while it is on its way, and the kernel releases it with the last process that has it.
//!
//! A process that is stopped by a signal keeps what it has. It is passed over while it waits; if it has the lock, the others
//! say so instead of waiting for it.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_adapters_linux::LockedFile;
use maqet_adapters_linux::private_file::private_file;
use maqet_adapters_linux::process::{LockKind, PidScope, Stat, lockers_with_own};
use maqet_domain::vm::RunPaths;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg_addr, socket_with,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::time::{Instant, sleep};

use super::agent_lock;
use crate::limits::AGENT_HOLDER_CHECK_INTERVAL;

/// The first letters of the sockets of processes that wait.
const PREFIX: &str = "w-";

/// The digits of base 32, in their order.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// How many of them the time has in their names, which begins again after 12 days.
const TIME_DIGITS: usize = 6;

/// How many of them a process ID has, which is less than 2^22 (proc(5)).
const PID_DIGITS: usize = 5;

/// How waiting for the turn of this process has ended.
pub(super) enum Wait {
    /// It has the lock.
    Over(AgentLock),
    /// Its time is over.
    TimedOut,
    /// The process that has the lock is stopped by a signal.
    Stopped { pid: u32 },
}

/// The lock of an agent, and the connection of the process that had it before, if that passed it on.
pub(super) struct AgentLock {
    lock: LockedFile,
    connection: Option<OwnedFd>,
    folder: PathBuf,
}

/// A connection to an agent, and the right to use it.
pub(super) struct Turn {
    /// Closed before the lock is released, so that the next process finds the socket free.
    pub(super) stream: UnixStream,
    lock: Option<LockedFile>,
    folder: PathBuf,
    /// Whether the connection is that of the process before.
    pub(super) is_passed_on: bool,
    /// Whether it is of use to others: nothing is requested that was not answered.
    pub(super) is_idle: bool,
}

/// Waits for the turn of this process until `deadline`.
///
/// Errors: whatever the system reports.
pub(super) async fn acquire(paths: &RunPaths, deadline: Instant) -> io::Result<Wait> {
    let folder = paths.sockets.clone();
    let file = match LockedFile::try_lock(private_file(&agent_lock(paths))?)? {
        Ok(lock) => return Ok(Wait::Over(AgentLock { lock, connection: None, folder })),
        Err(file) => file,
    };
    let receiver = Receiver::bind(&folder)?;
    let (lock, connection) = tokio::select! {
        passed = receiver.receive() => {
            let (connection, lock) = passed?;
            (lock, Some(connection))
        }
        // Of a process that was killed, or had nothing to pass on.
        lock = LockedFile::lock(file.try_clone()?, deadline) => match lock? {
            Ok(lock) => (lock, None),
            Err(_) => return Ok(Wait::TimedOut),
        },
        pid = stopped_holder(&file, &folder) => return Ok(Wait::Stopped { pid }),
    };
    Ok(Wait::Over(AgentLock { lock, connection, folder }))
}

/// Waits until the process that has the lock is found stopped twice; returns its ID.
async fn stopped_holder(lock: &File, folder: &Path) -> u32 {
    let mut before = None;
    loop {
        sleep(AGENT_HOLDER_CHECK_INTERVAL).await;
        let stopped = find_stopped_holder(lock, folder);
        match stopped {
            Some(pid) if before == stopped => return pid,
            _ => before = stopped,
        }
    }
}

/// Finds a stopped process that has the lock: open, or unread in its socket if no process has it open.
fn find_stopped_holder(lock: &File, folder: &Path) -> Option<u32> {
    let holders: Vec<u32> = lockers_with_own(&lock.metadata().ok()?, LockKind::Flock).collect();
    if holders.is_empty() {
        return waiting(folder).filter_map(|socket| waiter(&socket)).find(|pid| is_stopped(*pid));
    }
    holders.iter().all(|pid| is_stopped(*pid)).then(|| holders[0])
}

fn is_stopped(pid: u32) -> bool {
    PidScope::current().stat_of(pid).is_some_and(Stat::is_frozen)
}

impl AgentLock {
    /// Connects to the agent, unless it is connected.
    ///
    /// Errors: whatever the system reports.
    pub(super) async fn connect(self, socket: &Path) -> io::Result<Turn> {
        let Self { lock, connection, folder } = self;
        let is_passed_on = connection.is_some();
        let stream = match connection {
            // As the process before left it, it does not block.
            Some(connection) => UnixStream::from_std(net::UnixStream::from(connection))?,
            None => UnixStream::connect(socket).await?,
        };
        Ok(Turn { stream, lock: Some(lock), folder, is_passed_on, is_idle: true })
    }
}

impl Turn {
    /// Returns whether another process waits.
    pub(super) fn is_wanted(&self) -> bool {
        waiting(&self.folder).next().is_some()
    }
}

impl Drop for Turn {
    /// Passes the connection and the lock on if a process waits for them.
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take_if(|_| self.is_idle) {
            let mut waiting: Vec<PathBuf> = waiting(&self.folder).collect();
            waiting.sort_unstable();
            // A stopped process would keep the lock; once it goes on, it takes the lock without being handed it.
            waiting.retain(|socket| !waiter(socket).is_some_and(is_stopped));
            if waiting.iter().any(|socket| pass_on(socket, &self.stream, &lock)) {
                lock.passed_on();
            } else {
                // Released after the connection was closed.
                self.lock = Some(lock);
            }
        }
    }
}

/// Returns the sockets of the processes that wait for the agent of a run; their names are in the order of time.
pub(crate) fn waiting(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())).map(|entry| entry.path())
}

/// Returns the process whose socket has this name; another number for one of an older version.
fn waiter(socket: &Path) -> Option<u32> {
    let name = socket.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    u32::from_str_radix(name.get(TIME_DIGITS..)?, 32).ok()
}

/// Returns the name of the socket of a process that waits since this time.
fn socket_name(milliseconds: u128, pid: u32) -> String {
    let base_32 = |value: u128, digits: usize| {
        (0..digits).rev().map(move |place| char::from(DIGITS[usize::try_from(value >> (5 * place) & 31).unwrap_or(0)]))
    };
    PREFIX.chars().chain(base_32(milliseconds, TIME_DIGITS)).chain(base_32(pid.into(), PID_DIGITS)).collect()
}

/// Returns the time since the host was booted.
fn milliseconds() -> u128 {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default().as_millis()
}

/// Passes a connection and a lock on to a process that waits; returns whether it did.
fn pass_on(socket: &Path, stream: &UnixStream, lock: &File) -> bool {
    match send(socket, stream, lock) {
        Ok(()) => true,
        // Of a process that was killed.
        Err(Errno::CONNREFUSED) => {
            let _ = fs::remove_file(socket);
            false
        }
        Err(_) => false,
    }
}

fn send(receiver: &Path, stream: &UnixStream, lock: &File) -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let files = [stream.as_fd(), lock.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let address = SocketAddrUnix::new(receiver)?;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg_addr(&socket, &address, &[IoSlice::new(&[0])], &mut control, flags)?;
    Ok(())
}

/// The socket of a process that waits, which is removed with it.
struct Receiver {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Receiver {
    /// Binds a socket behind those that are there.
    fn bind(folder: &Path) -> io::Result<Self> {
        loop {
            // As short as the longest name of QEMU's sockets: the length of the path is limited.
            let path = folder.join(socket_name(milliseconds(), std::process::id()));
            let socket = match UnixDatagram::bind(&path) {
                // Of another task of this process, in the same millisecond.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                socket => socket?,
            };
            let receiver = Self { socket, path };
            fs::set_permissions(&receiver.path, Permissions::from_mode(0o600))?;
            return Ok(receiver);
        }
    }

    /// Waits for a connection and the lock.
    async fn receive(&self) -> io::Result<(OwnedFd, LockedFile)> {
        loop {
            self.socket.readable().await?;
            let received = self.socket.try_io(Interest::READABLE, || receive_files(&self.socket));
            let files = match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                files => files?,
            };
            if let Ok([connection, lock]) = <[OwnedFd; 2]>::try_from(files)
                && let Ok(lock) = LockedFile::try_lock(File::from(lock))?
            {
                return Ok((connection, lock));
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Receives the files that come with a message.
fn receive_files(socket: &UnixDatagram) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(files.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Directories of a run whose agent is a socket that accepts connections.
    fn agent() -> (tempfile::TempDir, RunPaths, net::UnixListener) {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths { sockets: root.path().to_owned(), records: root.path().to_owned() };
        let listener = net::UnixListener::bind(paths.agent_socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        (root, paths, listener)
    }

    async fn turn(paths: &RunPaths, timeout: Duration) -> Option<Turn> {
        match acquire(paths, Instant::now() + timeout).await.unwrap() {
            Wait::Over(lock) => Some(lock.connect(&paths.agent_socket()).await.unwrap()),
            Wait::TimedOut | Wait::Stopped { .. } => None,
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    fn connections(listener: &net::UnixListener) -> usize {
        listener.incoming().take_while(Result::is_ok).count()
    }

    async fn wait_for(paths: &RunPaths, count: usize) {
        while waiting(&paths.sockets).count() < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn test_turns_of_those_that_wait_use_one_connection_in_order() {
        let (_root, paths, listener) = agent();
        let first = turn(&paths, LONG).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for index in 0..8 {
            let (paths, order) = (paths.clone(), Arc::clone(&order));
            let place = paths.sockets.clone();
            tasks.push(tokio::spawn(async move {
                let turn = turn(&paths, LONG).await.unwrap();
                order.lock().unwrap().push(index);
                drop(turn);
            }));
            while waiting(&place).count() <= index {
                tokio::task::yield_now().await;
            }
            // The names of those that come in the same millisecond are in any order.
            let now = milliseconds();
            while milliseconds() == now {
                tokio::task::yield_now().await;
            }
        }
        let is_wanted = first.is_wanted();

        drop(first);
        for task in tasks {
            task.await.unwrap();
        }

        assert!(is_wanted);
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
        assert_eq!((connections(&listener), waiting(&paths.sockets).count()), (1, 0));
        assert!(turn(&paths, Duration::ZERO).await.is_some());
    }

    #[tokio::test]
    async fn test_turn_with_an_unanswered_request_has_its_connection_closed() {
        let (_root, paths, listener) = agent();
        let mut first = turn(&paths, LONG).await.unwrap();
        first.is_idle = false;
        let path = paths.clone();
        let second = tokio::spawn(async move { turn(&path, LONG).await.is_some() });
        wait_for(&paths, 1).await;

        drop(first);

        assert!(second.await.unwrap());
        assert_eq!(connections(&listener), 2);
    }

    #[tokio::test]
    async fn test_turn_passed_to_a_process_that_is_gone_is_free() {
        let (_root, paths, _listener) = agent();
        let first = turn(&paths, LONG).await.unwrap();
        // As of a process that was killed with the connection unread.
        let gone = Receiver::bind(&paths.sockets).unwrap();
        drop(first);
        let meanwhile = turn(&paths, Duration::ZERO).await;

        drop(gone);
        // And one that left its socket.
        drop(net::UnixDatagram::bind(paths.sockets.join("w-0")).unwrap());
        drop(turn(&paths, LONG).await.unwrap());

        assert!(meanwhile.is_none());
        assert!(turn(&paths, Duration::ZERO).await.is_some());
        assert_eq!(waiting(&paths.sockets).count(), 0);
    }

    /// A process that is stopped by a signal, until it is dropped.
    struct Stopped(std::process::Child);

    impl Stopped {
        fn new() -> Self {
            let child = std::process::Command::new("sleep").arg("1000").current_dir("/").spawn().unwrap();
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            while !is_stopped(child.id()) {
                std::thread::yield_now();
            }
            Self(child)
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[tokio::test]
    async fn test_turn_is_not_passed_to_a_stopped_process() {
        let (_root, paths, _listener) = agent();
        let first = turn(&paths, LONG).await.unwrap();
        let stopped = Stopped::new();
        let _receiver = UnixDatagram::bind(paths.sockets.join(socket_name(0, stopped.0.id()))).unwrap();
        let path = paths.clone();
        let second = tokio::spawn(async move { turn(&path, LONG).await.is_some() });
        wait_for(&paths, 2).await;

        drop(first);

        assert!(second.await.unwrap());
    }

    /// A lock that no process has open is one that a stopped process has not read.
    #[tokio::test]
    async fn test_lock_of_a_stopped_process_is_noticed() {
        let (_root, paths, _listener) = agent();
        let stopped = Stopped::new();
        let socket = paths.sockets.join(socket_name(0, stopped.0.id()));
        let _receiver = UnixDatagram::bind(&socket).unwrap();
        let first = turn(&paths, LONG).await.unwrap();
        let lock = first.lock.as_ref().unwrap();
        assert!(pass_on(&socket, &first.stream, lock));
        let _: Option<()> = { first }.lock.take().map(LockedFile::passed_on);

        let wait = acquire(&paths, Instant::now() + LONG).await.unwrap();

        assert!(matches!(wait, Wait::Stopped { pid } if pid == stopped.0.id()));
    }

    #[test]
    fn test_socket_names_are_in_order_and_have_the_process() {
        let names = [(31, 4_194_303), (32, 1), (1 << 29, 7)].map(|(time, pid)| socket_name(time, pid));

        assert_eq!(names, ["w-00000v3vvvv", "w-00001000001", "w-g0000000007"]);
        assert_eq!(names.map(|name| waiter(Path::new(&name))), [Some(4_194_303), Some(1), Some(7)]);
    }
}
