//! Every time-out and limit of this crate, each with its reason.

use std::time::Duration;

/// How long a start may take until QMP answers: QEMU needs under 0.1 s on an idle machine; a busy
/// one with many disks and firmware on a slow file system needs longer.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a guest may take to power off once asked: a Linux with services needs 5 to 20 s.
pub const POWER_DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long QEMU may take to quit once told: it flushes its disks, which can be slow.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long QEMU may take to end after SIGTERM; the same work as for a quit.
pub const SIGTERM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the kernel may take to remove a process after SIGKILL: only I/O that hangs takes longer.
pub const SIGKILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a look at a VM waits for a QEMU that is on its way out: the kernel needs some milliseconds to take it apart,
/// and a second for each few GiB of memory that it had.
pub const EXIT_GRACE: Duration = Duration::from_secs(2);

/// How long an operation waits for another one on the same VM before it says who holds it.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a monitor may take to tell the run state: a millisecond as a rule, longer only while the
/// main loop is blocked; that is told within two seconds, of which this leaves some for a busy host.
pub const RUN_STATE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long to wait before a busy monitor is asked again: often enough for a person, seldom enough for QEMU.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How many running VMs a list asks at once: each takes two file descriptors, of which a process has 1024 as a rule.
pub const MAX_CONCURRENT_OBSERVATIONS: usize = 64;

/// How long a QMP command may take unless the caller says otherwise.
pub const QMP_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest configuration file that is read; real ones have a few KiB.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// How deep a configuration may nest; real ones nest five deep.
pub const MAX_CONFIG_DEPTH: usize = 32;

/// How many values the aliases of a configuration may stand for: a tenth of all that it may hold, so that an alias bomb
/// is refused in milliseconds.
pub const MAX_CONFIG_ALIASED: usize = 10_000;

/// How many values a configuration may hold, aliases counted each time they are used.
pub const MAX_CONFIG_NODES: usize = 100_000;

/// How long the CPU use of a process is sampled: the kernel counts in hundredths of a second, so that this tells 4 percent
/// of a CPU from none, and people do not yet feel it as waiting.
pub const CPU_SAMPLE: Duration = Duration::from_millis(250);

/// How much of a log is read at once; a serial port brings some 10 KB a second, a flood some MB.
pub const LOG_CHUNK_BYTES: usize = 64 << 10;

/// How much of a log one document holds; whoever wants more reads the file, or piece by piece.
pub const MAX_LOG_TEXT_BYTES: usize = 1 << 20;

/// How often a log that is followed is looked at: a person does not feel it, and it costs some 100 µs.
pub const LOG_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How many events wait for a slow reader of a stream: minutes of a busy host; each takes some hundred bytes.
pub const EVENT_STREAM_CAPACITY: usize = 1_024;

/// How many events one answer holds, the newest: some 60 MB at most, where a guest that resets in a loop makes a million a day.
pub const MAX_EVENTS: usize = 50_000;

/// How many events are read from the store at once.
pub const EVENT_PAGE: u32 = 1_000;

/// How much of a flight recorder is read at once: some 6,000 events.
pub const QMP_LOG_CHUNK_BYTES: usize = 1 << 20;

/// How often a follower looks whether something happened: an event is to be seen within 100 ms, and a look at a
/// handful of VMs takes some 0.1 ms.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(25);

/// How often a follower looks which VMs there are, where nobody wrote that something changed.
pub const FOLLOW_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a hook may take: it is to tell somebody, and whoever ran the command waits for it.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// How many files a process should be allowed to have open: a list asks [`MAX_CONCURRENT_OBSERVATIONS`] VMs with two each, and QEMU
/// has some hundred with many disks.
pub const MIN_OPEN_FILES: u64 = 1024;

/// The number of a boot up to which sockets have to fit; nobody starts a VM more often.
pub const MAX_BOOT: u32 = 999_999;

/// The digits of an id that name a VM's folder of sockets.
pub const SHORT_ID_DIGITS: usize = 12;

/// Less free space than this is a problem: a commit, a log or a lock may not fit.
pub const MIN_FREE_BYTES: u64 = 16 << 20;

/// Less free space than this is worth a warning: one update of a guest fills it.
pub const LOW_FREE_BYTES: u64 = 1 << 30;

/// How many files should still fit: a start makes some twenty.
pub const LOW_FREE_FILES: u64 = 1_000;

/// How long a cleanup waits for somebody who works on a VM: who is at work needs no cleaning up after.
pub const CLEANUP_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How long is waited for a condition unless the caller says otherwise: a guest under software emulation boots in 10 to
/// 40 s.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// How often conditions are looked at; a look takes under a millisecond.
pub const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// How often the screen is looked at: a picture has a few MB.
pub const SCREEN_INTERVAL: Duration = Duration::from_millis(250);

/// How long a connection to a guest's port is held to see whether the guest takes it; the guest of a busy host needs
/// some tens of milliseconds, and the next look tries again.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How often QEMU is asked about such a connection.
pub const DIAL_INTERVAL: Duration = Duration::from_millis(20);

/// How much of the end of the serial log a pattern is looked for in at once, so that a guest that floods its console
/// costs bounded memory.
pub const SERIAL_WINDOW_BYTES: usize = 256 << 10;

/// How many of the last lines of the serial console are told when waiting was in vain.
pub const SERIAL_TAIL_LINES: usize = 10;

/// How much of the end of the serial log is read for them.
pub const SERIAL_TAIL_BYTES: u64 = 4 << 10;

/// The pause after each key that goes down or up while a text is typed: with 10 ms Linux and GRUB lost none of a
/// thousand keys on a busy host, while a PS/2 keyboard that nobody reads holds 16 bytes, some five keys.
pub const TYPING_INTERVAL: Duration = Duration::from_millis(10);

/// The same for chords, which are few, and often meant for firmware that looks at its keyboard now and then.
pub const KEY_HOLD: Duration = Duration::from_millis(50);

/// The shortest pause: QEMU counts in milliseconds, and takes none for 100 of them.
pub const MIN_KEY_INTERVAL: Duration = Duration::from_millis(1);

/// The longest pause: nobody holds a key for longer than some firmware wants, which is seconds.
pub const MAX_KEY_INTERVAL: Duration = Duration::from_mins(1);

/// The longest text that is typed; it takes half an hour, and more comes faster on a disk.
pub const MAX_TYPED_BYTES: usize = 64 << 10;

/// The longest JSON that is read as the arguments of a QMP command: a `transaction` over a thousand disks has less, and
/// a file that was named by mistake is not read to its end.
pub const MAX_QMP_ARGUMENTS_BYTES: usize = 1 << 20;

/// How often is looked whether a device is gone while its guest is waited for, should the event have come before: a
/// look takes under a millisecond.
pub const UNPLUG_INTERVAL: Duration = Duration::from_millis(250);

/// How often a back end is tried to be removed once its device is gone: QEMU lets it go with the last reader of the
/// device, which is a matter of milliseconds.
pub const BACKEND_REMOVAL_TRIES: u32 = 40;

/// The pause between two tries.
pub const BACKEND_REMOVAL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a guest is asked how far its balloon is: it takes or gives some hundred MiB in such a time.
pub const BALLOON_INTERVAL: Duration = Duration::from_millis(100);
