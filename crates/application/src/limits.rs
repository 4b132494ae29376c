//! Limits, timeouts and intervals of this crate, each with its reason.

use std::time::Duration;

use maqet_domain::size::ByteSize;

/// How long QEMU may take to answer QMP after it was started: under 0.1 s on an idle host; longer on a busy one
/// with many disks, or firmware on a slow file system.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a guest may take to power off on request: a Linux with services takes 5 to 20 s.
pub const POWER_DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the power button is pressed until the guest reacts: a guest that misses one while it boots loses this much
/// of its time to power off, and one that reacts takes longer to power off, so that a press meanwhile is the exception.
pub const POWER_BUTTON_INTERVAL: Duration = Duration::from_secs(3);

/// How long QEMU may take to quit on request: it flushes its disks, which can be slow.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long QEMU may take to exit after SIGTERM; it does the same work as on `quit`.
pub const SIGTERM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the kernel may take to remove a process after SIGKILL; only stuck I/O takes longer.
pub const SIGKILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an observation waits for a QEMU that is exiting: the kernel takes some milliseconds to remove it, and a
/// second for each few GiB of its memory.
pub const EXIT_GRACE: Duration = Duration::from_secs(2);

/// How long an operation waits for another one on the same VM before it fails.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a database is copied to another one until nothing was written to it meanwhile: VMs are locked, so that only new
/// VMs and a few events come between.
pub const MAX_MOVE_ATTEMPTS: u32 = 10;

/// How long a monitor may take to answer a query, as for the run state: usually a millisecond, longer only while the
/// main loop is blocked. An unresponsive QEMU is reported within two seconds; the difference is for a busy host.
pub const QUERY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a resumed guest is watched for an error that paused it before: QEMU repeats the failed access to the disk at
/// once, within 20 ms (7.2, 10.0).
pub const IO_ERROR_CHECK_TIME: Duration = Duration::from_millis(500);

/// The same for a guest without such an error, which may still have accesses that failed while it was paused.
pub const STATE_CHECK_TIME: Duration = Duration::from_millis(25);

/// How long a QEMU may take to exit on a reset (`-no-reboot`); it closes its images.
pub const RESET_EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is queried meanwhile; a query takes 1 ms.
pub const STATE_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How long a guest that was woken may take until it runs; QEMU resets the machine, which takes some milliseconds.
pub const WAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a busy monitor is tried again.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How many running VMs a list observes at once: each takes two file descriptors, of which a process usually has
/// 1024.
pub const MAX_CONCURRENT_OBSERVATIONS: usize = 64;

/// How many forks are started at once: most of the time of a start, QEMU works, and more than the host has CPUs only wait.
pub const MAX_CONCURRENT_FORKS: usize = 16;

/// How long a QMP command may take by default.
pub const QMP_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest configuration file; real ones have a few KiB.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// How deep a configuration may nest; real ones nest five deep.
pub const MAX_CONFIG_DEPTH: usize = 32;

/// How many values the aliases of a configuration may expand to: a tenth of [`MAX_CONFIG_NODES`], so that an alias bomb
/// is refused within milliseconds.
pub const MAX_CONFIG_ALIASED: usize = 10_000;

/// How many values a configuration may hold, with aliases expanded.
pub const MAX_CONFIG_NODES: usize = 100_000;

/// How long the CPU use of a process is sampled: the kernel counts in hundredths of a second, so this resolves 4 percent
/// of a CPU, and the delay is hardly noticeable.
pub const CPU_SAMPLE: Duration = Duration::from_millis(250);

/// How much of a log is read at once; a serial port writes about 10 KB a second, a flooded one some MB.
pub const LOG_CHUNK_BYTES: usize = 64 << 10;

/// How much of a log one JSON document holds; read the file, or follow it, for more.
pub const MAX_LOG_TEXT_BYTES: usize = 1 << 20;

/// How often a followed log is read; each read takes about 100 µs.
pub const LOG_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often logs are bounded while a command follows or waits: a guest that floods its console writes about 1 MB a
/// second, and a check takes some 10 µs.
pub const LOG_BOUND_INTERVAL: Duration = Duration::from_secs(1);

/// How much space the serial log of a boot may take: a hundred boots of a Linux with debug messages.
pub const MAX_SERIAL_LOG: ByteSize = ByteSize::from_mib(16);

/// How much space QEMU's output in a boot may take: usually it has a few lines.
pub const MAX_QEMU_LOG: ByteSize = ByteSize::from_mib(4);

/// How much space the QMP log of a boot may take: about 80,000 events, more than [`MAX_EVENTS`].
pub const MAX_QMP_LOG: ByteSize = ByteSize::from_mib(8);

/// How large maqet's own log of a VM may be: about 2,000 operations.
pub const MAX_MAQET_LOG: ByteSize = ByteSize::from_bytes(256 << 10);

/// How long a QMP command may take before its process is checked for being frozen: most take a few milliseconds.
pub const FREEZE_CHECK_DELAY: Duration = Duration::from_millis(100);

/// How large the log of hooks may be.
pub const MAX_HOOK_LOG: ByteSize = ByteSize::from_mib(1);

/// The smallest limit of a log: half of it stays, in whole blocks of the file system.
pub const MIN_LOG: ByteSize = ByteSize::from_bytes(64 << 10);

/// How many boots of a VM keep their logs.
pub const KEPT_BOOTS: usize = 10;

/// How much space is reserved for the next events in a QMP log, so that the end of a VM is recorded on a full disk: about
/// 200 events.
pub const QMP_LOG_RESERVE_BYTES: u64 = 32 << 10;

/// How much space is reserved to find out whether a log can be written: one block.
pub const LOG_RESERVE_BYTES: u64 = 4 << 10;

/// How many events are buffered for a slow reader of a stream: minutes of a busy host, at some hundred bytes each.
pub const EVENT_STREAM_CAPACITY: usize = 1_024;

/// How many events, the newest, one answer holds: 60 MB at most, where a guest that resets in a loop makes a million a
/// day.
pub const MAX_EVENTS: usize = 50_000;

/// How many events are read from the store at once.
pub const EVENT_PAGE: u32 = 1_000;

/// How much of a QMP log is read at once: about 6,000 events.
pub const QMP_LOG_CHUNK_BYTES: usize = 1 << 20;

/// How often `events --follow` checks for new events: they are shown within 100 ms, and a check of a handful of VMs
/// takes about 0.1 ms.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(25);

/// How often `events --follow` lists the VMs again if the store reports no change.
pub const FOLLOW_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a hook may take; the command that runs it waits for it.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// How many files a process should be allowed to open: a list observes [`MAX_CONCURRENT_OBSERVATIONS`] VMs with two
/// each, and QEMU with many disks opens some hundred.
pub const MIN_OPEN_FILES: u64 = 1024;

/// The boot number up to which the paths of sockets must fit.
pub const MAX_BOOT: u32 = 999_999;

/// Less free space than this is a problem: a commit, a log or a lock may not fit.
pub const MIN_FREE_BYTES: u64 = 16 << 20;

/// How many directories that cannot be used `doctor` names; the others are counted.
pub const MAX_CLOSED_DIRECTORIES: usize = 20;

/// Less free space than this is worth a warning: one update of a guest fills it.
pub const LOW_FREE_BYTES: u64 = 1 << 30;

/// How many files should still fit: a start creates about twenty.
pub const LOW_FREE_FILES: u64 = 1_000;

/// How long a cleanup waits for the lock of a VM; a VM in use is skipped.
pub const CLEANUP_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How long `wait` waits by default: an emulated guest boots in 10 to 40 s.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// After how many checks of its conditions `wait` asks QEMU for the state of the guest, which few conditions show: every
/// second.
pub const WAIT_ROUNDS_PER_QUERY: u32 = 20;

/// How often conditions are checked; a check takes under a millisecond.
pub const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// How often `wait` checks a VM of which only the end of QEMU matters, which it notices at once.
pub const WAIT_END_INTERVAL: Duration = Duration::from_secs(1);

/// How often the agent is asked how far the guest is: the programs that tell take an emulated guest 0.1 s.
pub const GUEST_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a server for SSH may take to send its version; an emulated guest that boots takes seconds.
pub const SSH_GREETING_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the screen is captured; a picture has a few MB.
pub const SCREEN_INTERVAL: Duration = Duration::from_millis(250);

/// How long a connection to a port of the guest is held open to see whether the guest accepts it; a guest on a busy host
/// takes some tens of milliseconds, and the next check tries again.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How often QEMU is queried for the state of such a connection.
pub const DIAL_INTERVAL: Duration = Duration::from_millis(20);

/// How much of the end of the serial log is searched for a pattern at once, so that a guest that floods its console
/// costs bounded memory.
pub const SERIAL_WINDOW_BYTES: usize = 256 << 10;

/// How many of the last lines of the serial console an error of `wait` shows.
pub const SERIAL_TAIL_LINES: usize = 10;

/// How much of the end of the serial log is read for them.
pub const SERIAL_TAIL_BYTES: u64 = 4 << 10;

/// The pause after each press and release while a text is typed: with 10 ms, Linux and GRUB lost none of a thousand keys
/// on a busy host; the buffer of an idle PS/2 keyboard holds 16 bytes, about five keys.
pub const TYPING_INTERVAL: Duration = Duration::from_millis(10);

/// The same for chords, which are few, and often meant for firmware that polls its keyboard slowly.
pub const KEY_HOLD: Duration = Duration::from_millis(50);

/// The shortest pause: QEMU counts in milliseconds, and 0 makes it use its default of 100.
pub const MIN_KEY_INTERVAL: Duration = Duration::from_millis(1);

/// The longest pause; firmware needs a key held for seconds at most.
pub const MAX_KEY_INTERVAL: Duration = Duration::from_mins(1);

/// The longest text that is typed; it takes half an hour, and a disk is the faster way for more.
pub const MAX_TYPED_BYTES: usize = 64 << 10;

/// The longest JSON text with arguments of a QMP command: a `transaction` over a thousand disks is shorter, and a file
/// given by mistake is not read to its end.
pub const MAX_QMP_ARGUMENTS_BYTES: usize = 1 << 20;

/// How often the list of devices is checked during an unplug, in case the event was missed; a check takes under a
/// millisecond.
pub const UNPLUG_INTERVAL: Duration = Duration::from_millis(250);

/// How often the removal of a backend is tried after its device is gone: QEMU releases it with the last reader of the
/// device, within milliseconds.
pub const BACKEND_REMOVAL_TRIES: u32 = 40;

/// The pause between two tries.
pub const BACKEND_REMOVAL_INTERVAL: Duration = Duration::from_millis(50);

/// How often the size of the balloon is queried; a guest gives or takes some hundred MiB in that time.
pub const BALLOON_INTERVAL: Duration = Duration::from_millis(100);

/// The pause between two checks whether a process of another PID namespace has exited; each reads the open files of the processes here.
pub const HIDDEN_PROCESS_INTERVAL: Duration = Duration::from_millis(50);

/// How many VMs a finding names; more are counted.
pub const MAX_LISTED_VMS: usize = 5;

/// How much space the tables of a snapshot take besides its L1 table, rounded up to a cluster.
pub const SNAPSHOT_TABLES_BYTES: u64 = 1 << 16;

/// With less free space than this, a disk on which QEMU could not write is full.
pub const FULL_DISK_BYTES: u64 = 1 << 20;

/// How much of a disk one byte of its L1 table stands for, with the usual clusters of 64 KiB.
pub const BYTES_PER_L1_BYTE: u64 = 1 << 26;

/// How long no command must have used the store on a host for that to be away; its clock of signs of life is a minute.
pub const HOST_AWAY_AFTER: Duration = Duration::from_mins(15);

/// How often a command that takes long records that its host is there.
pub const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_mins(1);

/// How often a job that takes long reports its progress, so that a report is never older than half a second.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long a job of QEMU may take from one reply to the next. A save of the guest's memory blocks QEMU until it is done:
/// on a slow disk that takes minutes for each 10 GiB.
pub const QMP_JOB_TIMEOUT: Duration = Duration::from_hours(2);

/// How often QEMU is asked about a job whose event was missed.
pub const QMP_JOB_INTERVAL: Duration = Duration::from_millis(250);

/// How much more than what has changed is reserved for a backup: what the guest writes until the copies begin, some
/// milliseconds later.
pub const BACKUP_RESERVE_BYTES: u64 = 16 << 20;

/// How long to wait for other processes that write metrics, each for some microseconds: a metric is worth no delay.
pub const METRICS_TIMEOUT: Duration = Duration::from_millis(20);

/// The pause between two attempts to write metrics; a process that does not run has the lock then.
pub const METRICS_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// How long a guest agent may take to answer; 1 to 6 ms in an idle guest, seconds in one that is emulated on a busy host.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(4);

/// The same where an answer only tells that the agent is there, or adds to what is shown.
pub const AGENT_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a session with the agent is kept after a command was started, unless another process waits: most commands end
/// by then, and a new session takes up to 100 ms.
pub const AGENT_HOLD: Duration = Duration::from_millis(300);

/// The largest reply of a guest agent without captured output; `guest-info` has about 10 KB.
pub const MAX_AGENT_REPLY_BYTES: usize = 1 << 20;

/// How much is captured of each stream of a command: as much as the agent does itself.
pub const MAX_CAPTURED_BYTES: usize = 16 << 20;

/// The largest reply with captured output: two streams in base64.
pub const MAX_CAPTURED_REPLY_BYTES: usize = 48 << 20;

/// How often the agent is asked whether a program has exited that signals a command; starting it takes an emulated guest
/// some 50 ms.
pub const AGENT_TOOL_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is asked at most: what the program does takes no second, and its exit is not needed.
pub const AGENT_TOOL_POLLS: u32 = 100;

/// How often the state of a program is asked for that says how far the guest is: for 15 s.
pub const AGENT_OUTPUT_POLLS: u32 = 750;

/// How often the state of a detached command's start is asked for: for 30 s, as three programs are started.
pub const DETACH_POLLS: u32 = 1500;

/// How often it is asked whether a detached command has ended that got a signal.
pub const DETACHED_INTERVAL: Duration = Duration::from_millis(200);

/// How long the file systems of a guest may take to be frozen, which writes what is not on its disks yet, or to be thawed.
pub const FREEZE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long they may be frozen: the guest thaws them then on its own, even if the process that froze them was killed. They
/// are frozen for as long as it takes to write what is not on the disks yet, and then for a second or less.
pub const FREEZE_LIMIT: Duration = Duration::from_secs(90);

/// How long the agent may take to set the clock: it also starts a program, for the real-time clock.
pub const SET_CLOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long thawing is tried again after a failure.
pub const THAW_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts.
pub const THAW_INTERVAL: Duration = Duration::from_millis(500);

/// How much of what a guest says about a command that did not start is shown.
pub const MAX_REASON_CHARS: usize = 400;

/// The longest name of a host that is shown.
pub const MAX_HOSTNAME_CHARS: usize = 253;

/// How long after SIGTERM a command that has timed out gets SIGKILL.
pub const KILL_AFTER: Duration = Duration::from_secs(10);

/// How soon QEMU is asked first whether a command still has its output open; the answer takes a millisecond.
pub const MIN_EXEC_POLL: Duration = Duration::from_millis(4);

/// How often QEMU is asked at least, once a command has run for a while.
pub const MAX_EXEC_POLL: Duration = Duration::from_millis(100);

/// Until then, QEMU is asked after this part of the time that the command has run: so much later its end is noticed.
pub const EXEC_POLL_SHARE: u32 = 16;

/// How long a command may take to begin, from the reply of the agent: three programs are started.
pub const EXEC_START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the agent is asked about a command that has not begun, or has closed its output.
pub const EXEC_STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// How long a command may take to end after SIGKILL, and its ports to be closed.
pub const EXEC_GIVE_UP: Duration = Duration::from_secs(3);

/// How long what an earlier command has left may take to end before its ports are used.
pub const EXEC_SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to log in by SSH: a second in an idle guest that is emulated, and 20 s on a busy host.
pub const SSH_LOGIN_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a command that was run by SSH may take to end after SIGKILL, for which two connections are made.
pub const SSH_GIVE_UP: Duration = Duration::from_secs(20);

/// How long what may be the beginning of the record of an exit code is kept back: its parts follow each other at once.
pub const RECORD_DELAY: Duration = Duration::from_millis(200);

/// How often QEMU is asked whether the guest of a command still runs.
pub const EXEC_WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How much is kept of what a guest writes before a command begins, which explains why it does not.
pub const MAX_PREFACE_BYTES: usize = 4 << 10;

/// How soon the agent is asked first about a command that it captures.
pub const MIN_CAPTURE_POLL: Duration = Duration::from_millis(10);

/// How often it is asked at least in the first seconds.
pub const MAX_CAPTURE_POLL: Duration = Duration::from_millis(250);

/// From then on, it is asked after this part of the time that the command has run: so much later its end is noticed.
pub const CAPTURE_POLL_SHARE: u32 = 8;

/// How often it is asked at least later, or if it has many to answer: each answer takes 3 ms of an emulated guest.
pub const MAX_BUSY_CAPTURE_POLL: Duration = Duration::from_secs(1);

/// How many pieces of a copy are read ahead, each as large as what a port passes on at once.
pub const COPY_PIECES_AHEAD: usize = 16;

/// How much is kept of what the script of a copy writes to its standard error.
pub const MAX_COPY_MESSAGE_BYTES: usize = 4 << 10;

/// How much the agent reads and writes at once: larger pieces are not faster.
pub const STAGED_PIECE_BYTES: usize = 1 << 20;

/// The largest reply with such a piece, in base64.
pub const MAX_STAGED_REPLY_BYTES: usize = 2 << 20;

/// How long after SIGTERM the script of a copy that is canceled gets SIGKILL.
pub const COPY_KILL_AFTER: Duration = Duration::from_secs(3);

/// How long a start waits for what becomes of a network link: a slow name server must not delay it much.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often it asks.
pub const LINK_INTERVAL: Duration = Duration::from_millis(5);

/// How large the files of a seed may be together, and each of them: they are held in memory and in the runtime directory,
/// which often is in memory, too.
pub const MAX_SEED_BYTES: usize = 8 << 20;

/// How long the guest of `run` may take to boot: an emulated cloud image takes a minute on an idle host.
pub const RUN_BOOT_TIMEOUT: Duration = Duration::from_mins(5);

/// How long a share may take to be mounted in an emulated guest, which loads modules.
pub const RUN_MOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long what a `run` does may take to end once that is interrupted: a copy ends its script in the guest.
pub const RUN_CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of the end of each stream of a command `run` keeps, for its reports.
pub const RUN_TAIL_BYTES: usize = 64 << 10;

/// How often QEMU is asked whether it has taken the state of the devices of a guest that is paused meanwhile.
pub const CHECKPOINT_MOMENT_INTERVAL: Duration = Duration::from_millis(1);

/// How long QEMU may take for what a guest is paused for: the state of its devices, and its resumption. A busy host took 0.2 s.
pub const CHECKPOINT_MOMENT_TIMEOUT: Duration = Duration::from_mins(1);
