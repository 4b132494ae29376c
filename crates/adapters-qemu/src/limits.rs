//! Timeouts, intervals and limits of this crate, each with its reason.

use std::time::Duration;

/// The largest snapshot table that is read: 64 times that of 500 snapshots with the longest names of maqet.
pub const MAX_SNAPSHOT_TABLE_BYTES: usize = 8 << 20;

/// How often a snapshot table is read if QEMU replaces it meanwhile, which it does once for each snapshot.
pub const MAX_SNAPSHOT_TABLE_READS: u32 = 8;

/// How long `--version` may take; the slowest seen is 0.3 s, on a cold disk.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest output of `--version`; QEMU prints two lines.
pub const MAX_VERSION_OUTPUT_BYTES: usize = 64 << 10;

/// How long QEMU may take to print a list of names; 40 to 100 ms on an idle host.
pub const NAMES_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest list of names; that of the devices has 20 KB.
pub const MAX_NAMES_BYTES: usize = 1 << 20;

/// How much of the standard error of a QEMU that is up is searched for warnings; a CPU model can lack dozens of features,
/// with 90 bytes each.
pub const MAX_START_LOG_BYTES: usize = 64 << 10;

/// How long a fresh QEMU may take to list device types; 60 to 90 ms on an idle host.
pub const BUILD_QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest output of a fresh QEMU; the list of all types has some 30 KB.
pub const MAX_BUILD_REPLY_BYTES: usize = 2 << 20;

/// How much of the output of another program is quoted in an error: about one line of a terminal.
pub const MAX_QUOTED_CHARS: usize = 160;

/// The pause between two attempts to connect to a QEMU that is starting; it is up after 50 to 90 ms.
pub const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// How long a monitor may take to send its greeting. QEMU sends it from a separate thread, within milliseconds even while
/// its main loop is blocked; longer means that another client is connected.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest wait for a monitor that proves that it is silent: greeting and negotiation take 1 or 2 ms, and about
/// 10 ms on a busy host.
pub const MIN_CONCLUSIVE_SILENCE: Duration = Duration::from_millis(50);

/// The deepest nesting that is sent. QEMU 7.2 accepts 1024 (`MAX_NESTING` of `json-streamer.c`), and reports an error for
/// each further bracket.
pub const MAX_QMP_DEPTH: usize = 1_000;

/// The most tokens that are sent. QEMU 7.2 accepts 2,097,152 (`MAX_TOKEN_COUNT`), and may exit on more.
pub const MAX_QMP_TOKENS: usize = 2_000_000;

/// The most text that is sent. QEMU 7.2 accepts 64 MiB (`MAX_TOKEN_SIZE`), and a character may take six bytes.
pub const MAX_QMP_TEXT_BYTES: usize = 10 << 20;

/// The longest line that a monitor may send, which is kept in memory; the longest known (`query-qmp-schema`) has 0.2 MiB.
pub const MAX_QMP_LINE_BYTES: usize = 16 << 20;

/// How much of an error description is kept; those of QEMU are a sentence or two.
pub const MAX_QMP_REASON_CHARS: usize = 2 << 10;

/// How much is read from a monitor in one call; nearly every reply fits.
pub const QMP_READ_BYTES: usize = 8 << 10;

/// After how many reads and messages of one monitor other tasks of the runtime have their turn; about 100 µs.
pub const MAX_QMP_POLLS_IN_A_ROW: u32 = 64;

/// How many events a session keeps for a slow reader, before it drops the oldest; minutes of a busy guest.
pub const MAX_QMP_EVENTS: usize = 1_024;

/// How much memory these events may take; one usually has 150 bytes.
pub const MAX_QMP_EVENT_BYTES: usize = 4 << 20;

/// How many commands of a session may be unanswered. QEMU 7.2 queues eight, and reads nothing more while they wait, not
/// even a command out of band.
pub const MAX_QMP_UNANSWERED: usize = 6;

/// How long a session monitor may take to send its greeting before the other one is tried; see [`GREETING_TIMEOUT`].
pub const SESSION_GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of the end of QEMU's standard error is part of an error message.
pub const MAX_STDERR_TAIL_BYTES: usize = 2 << 10;

/// How many of its lines are part of an error message.
pub const MAX_STDERR_TAIL_LINES: usize = 10;

/// How long a helper such as `passt` may take until it listens; it takes about 10 ms.
pub const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest output of a helper before it listens; `passt` prints less than 1 KiB.
pub const MAX_HELPER_OUTPUT_BYTES: usize = 64 << 10;

/// How long to wait for the QMP log once the command monitor responded. It is ready within a millisecond or two, and a VM
/// without it is better than none.
pub const QMP_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of the end of the QMP log is searched; about 400 events, and `SHUTDOWN` is among the last.
pub const MAX_QMP_LOG_TAIL_BYTES: usize = 64 << 10;

/// How much of the end of the QMP log is searched for resets of the guest, in a few ms; two hours of a guest that
/// resets every second.
pub const MAX_RESET_LOG_BYTES: u64 = 1 << 20;

/// How much of the end of the log of the processors is searched: the message is the last, before at most one dump.
pub const MAX_CPU_LOG_BYTES: usize = 64 << 10;

/// The largest notes of a start that are read; they have less than 1 KiB.
pub const MAX_START_NOTES_BYTES: u64 = 64 << 10;

/// How long to wait for the exit of the process that started a daemonized QEMU; it exits as soon as QEMU responds.
pub const LAUNCHER_EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the lock of a run is tried for, and how long a process that seems hidden is examined: another process may be
/// checking the lock, a few microseconds, or the process that holds it is ending.
pub const RUN_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How often a process that seems hidden is examined at least.
pub const MIN_RUN_LOCK_CHECKS: u32 = 5;

/// How much longer a start waits for a QEMU that is being killed: its threads need the CPU to end.
pub const RUN_END_TIMEOUT: Duration = Duration::from_secs(10);

/// How much space is reserved for events when a run starts: about 200 of them.
pub const QMP_LOG_RESERVE_BYTES: u64 = 32 << 10;

/// How much space is reserved for the other logs, to find out whether there is any: one block.
pub const LOG_RESERVE_BYTES: u64 = 4 << 10;

/// How long `qemu-img info` may take; it reads a few kilobytes, perhaps from a sleeping disk.
pub const IMAGE_INFO_TIMEOUT: Duration = Duration::from_secs(30);

/// How many backing files an image may have; QEMU opens each of them at every start.
pub const MAX_BACKING_FILES: usize = 200;

/// How much of the first table of a qcow2 image is read: 4 TiB with usual clusters.
pub const MAX_FIRST_TABLE_BYTES: usize = 64 << 10;

/// How much of the table of reference counts is read, and of another table: one cluster of the largest size.
pub const MAX_REFCOUNT_TABLE_BYTES: usize = 2 << 20;

/// How many of the second tables are read of an image that may be truncated: 2 TiB with usual clusters, in seconds.
pub const MAX_SECOND_TABLES: usize = 4096;

/// How long the lock of an image may remain after its process exited: the kernel closes files one by one. Starting QEMU
/// took as long before it opened the image.
pub const IMAGE_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How often the lock of an image is checked until then.
pub const IMAGE_LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// How long the creation of an image may take; it writes a few kilobytes, perhaps over a slow network.
pub const IMAGE_CREATE_TIMEOUT: Duration = Duration::from_mins(2);

/// How often the progress of `qemu-img` is repeated while it prints none; it prints each percent of an image.
pub const IMAGE_PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long a QEMU without a guest may take to end on SIGTERM: it flushes the images and stores their bitmaps.
pub const IMAGE_SERVER_EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the measurement of an image may take, which reads all its tables: seconds for terabytes.
pub const IMAGE_MEASURE_TIMEOUT: Duration = Duration::from_mins(10);

/// The largest directory of bitmaps that is read; a bitmap takes about 70 bytes.
pub const MAX_BITMAP_DIRECTORY_BYTES: usize = 4 << 20;

/// How long `qemu-img --version` may take; as [`VERSION_TIMEOUT`].
pub const IMAGE_VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest output of `qemu-img`: about 60,000 snapshots of 250 bytes.
pub const MAX_IMAGE_OUTPUT_BYTES: usize = 16 << 20;

/// The largest firmware descriptor that is read; real ones have less than 1 KiB.
pub const MAX_DESCRIPTOR_BYTES: u64 = 64 << 10;

/// How many descriptors of a folder are read; large distributions have about 20.
pub const MAX_DESCRIPTORS: usize = 1_000;

/// How long QEMU may take to notice that the previous client of the serial console disconnected; its main loop needs a
/// millisecond, or more on a busy host. A client that remains is another program.
pub const CONSOLE_RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long QEMU may take to report the client of the serial console.
pub const CONSOLE_QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a console checks its log and QEMU, in case it was not notified: the time until it notices that QEMU exited.
pub const CONSOLE_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often a console checks its log without notifications, or whether the guest has read the end of its input.
pub const CONSOLE_RELEASE_INTERVAL: Duration = Duration::from_millis(5);

/// How much is read from a serial console in one call; a guest writes about 10 KB a second.
pub const CONSOLE_READ_BYTES: usize = 16 << 10;

/// The largest image of a screen that is read: PPM with 33 million pixels, as in 8K.
pub const MAX_PICTURE_BYTES: u64 = 100 << 20;

/// How long other processes may use a guest agent: each keeps it for some 100 ms in a slow guest.
pub const AGENT_QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a process that waits for the agent checks that the one that has it is not stopped, which reads `/proc`.
pub const AGENT_HOLDER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How fast a guest agent takes input and sends output at least: 2 MiB/s in an idle guest that is emulated.
pub const MIN_AGENT_BYTES_PER_SECOND: usize = 256 << 10;

/// How much is read from a guest agent in one call; most replies fit.
pub const AGENT_READ_BYTES: usize = 64 << 10;

/// How much is read from a port of a command in one call: about as much as a socket holds.
pub const PORT_READ_BYTES: usize = 128 << 10;

/// The longest note in the lock of a set of ports: a nonce of 32 characters, and a newline.
pub const MAX_PORT_NOTE_BYTES: usize = 64;

/// How much of a file of a checkpoint is read at once: a millisecond or two, after which other work goes on, and as many
/// pages as are written at once.
pub const CHECKPOINT_CHUNK_BYTES: usize = 4 << 20;

/// The largest manifest of a checkpoint that is read; one of a machine with a hundred drives has 100 KB.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
