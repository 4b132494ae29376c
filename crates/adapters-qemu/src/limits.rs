//! Every time-out, retry and limit of this crate, each with its reason.

use std::time::Duration;

/// How long `--version` may take; the slowest seen is 0.3 s, on a cold disk.
pub const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// How much `--version` may print; QEMU prints two lines.
pub const VERSION_OUTPUT_BYTES: usize = 64 << 10;

/// How much of a stranger's output is quoted in an error: one line of a terminal, roughly.
pub const QUOTED_CHARS: usize = 160;

/// The pause between two tries to connect to a QEMU that is coming up; it is up after 50 to 90 ms.
pub const CONNECT_PAUSE: Duration = Duration::from_millis(1);

/// How long a monitor may take to greet; QEMU greets from a thread of its own, within milliseconds even while its main
/// loop is blocked, so that more than this means that another client has the monitor.
pub const GREETING_DEADLINE: Duration = Duration::from_secs(5);

/// The shortest silence of a monitor that tells something of QEMU: it greets and negotiates within a millisecond or two,
/// and within some ten on a busy machine.
pub const SILENCE_TELLS: Duration = Duration::from_millis(50);

/// How deep what is sent may be nested: QEMU 7.2 reads to 1024 (`MAX_NESTING` of `json-streamer.c`), and refuses one that
/// is deeper with an error for each of its remaining brackets.
pub const QMP_DEPTH: usize = 1_000;

/// How many tokens what is sent may have: QEMU 7.2 reads 2,097,152 (`MAX_TOKEN_COUNT`), and of more it may end.
pub const QMP_TOKENS: usize = 2_000_000;

/// How much text what is sent may hold: QEMU 7.2 reads 64 MiB (`MAX_TOKEN_SIZE`), in which a character may take six
/// bytes.
pub const QMP_TEXT_BYTES: usize = 10 << 20;

/// The longest line a monitor may send; the largest answer known (`query-qmp-schema`) has 0.2 MiB, and a line is held
/// in memory as a whole.
pub const QMP_LINE_BYTES: usize = 16 << 20;

/// How much of the reason for a refusal is told; QEMU's are a sentence or two.
pub const QMP_REASON_BYTES: usize = 4 << 10;

/// How much is read from a monitor at once; nearly every answer fits.
pub const QMP_READ_BYTES: usize = 8 << 10;

/// After how many reads and messages of one monitor the others of the runtime have their turn; some 100 µs.
pub const QMP_LOOKS_IN_A_ROW: u32 = 64;

/// How many events a session holds for a reader that is slow, the oldest are dropped first: minutes of a busy machine.
pub const QMP_EVENTS_HELD: usize = 1_024;

/// How much memory they may take, in bytes; an event has some 150 as a rule, and a peer gone mad sends larger ones.
pub const QMP_EVENT_BYTES: usize = 4 << 20;

/// How many commands of a session may be unanswered: QEMU 7.2 queues eight, and reads nothing more while they wait,
/// not even a command out of band.
pub const QMP_UNANSWERED: usize = 6;

/// How long a monitor for sessions may take to greet before the other one is tried; see [`GREETING_DEADLINE`].
pub const SESSION_GREETING: Duration = Duration::from_secs(1);

/// How much of the end of QEMU's log becomes its last words, in bytes; an error is to be read, not scrolled.
pub const LAST_WORDS_BYTES: usize = 2 << 10;

/// How many lines of QEMU's log become its last words.
pub const LAST_WORDS_LINES: usize = 10;

/// How long a helper such as `passt` may take until it listens; it takes some 10 ms, and looks at the host's network.
pub const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// How much a helper may write before it listens; `passt` writes under 1 KiB.
pub const HELPER_OUTPUT_BYTES: usize = 64 << 10;

/// How long is waited for the flight recorder once the command monitor answered; it is ready within a millisecond or
/// two, and a machine without it is better than none.
pub const RECORDER_DEADLINE: Duration = Duration::from_secs(1);

/// How much of the end of the flight recorder is searched; about 400 events, and `SHUTDOWN` is among the last.
pub const RECORDER_TAIL_BYTES: u64 = 64 << 10;

/// How long is waited for the end of a program that started QEMU outside its session, as a QEMU that goes into the
/// background does; that one ends as soon as the other answers.
pub const ENDING_DEADLINE: Duration = Duration::from_millis(500);

/// How many boots of a VM keep their logs; the newest matter, and a log can be large.
pub const BOOTS_KEPT: usize = 10;

/// How long `qemu-img info` may take; it reads some kilobytes, perhaps from a sleeping disk.
pub const IMAGE_INFO_DEADLINE: Duration = Duration::from_secs(30);

/// How long the making of an image may take; it writes some kilobytes, perhaps to a slow network.
pub const IMAGE_CREATE_DEADLINE: Duration = Duration::from_mins(2);

/// How long work on a snapshot may take; it rewrites an image's reference counts, seconds for terabytes.
pub const IMAGE_SNAPSHOT_DEADLINE: Duration = Duration::from_mins(10);

/// How much `qemu-img` may print; a snapshot takes 250 bytes, so this is some 60,000 of them.
pub const IMAGE_OUTPUT_BYTES: usize = 16 << 20;

/// The largest firmware descriptor that is read; real ones have under 1 KiB.
pub const DESCRIPTOR_BYTES: u64 = 64 << 10;

/// How many descriptors are looked at in one folder; the largest distributions bring some 20.
pub const DESCRIPTORS: usize = 1_000;

/// How long QEMU may take to notice that the one before has left the serial console; its main loop needs a millisecond,
/// and more on a busy machine. Whoever is there still is a stranger.
pub const CONSOLE_LET_GO: Duration = Duration::from_secs(1);

/// How long QEMU may take to tell who is at the serial console; one that is busy is not waited for.
pub const CONSOLE_ASK: Duration = Duration::from_secs(1);

/// How much is read from a serial console at once; a guest writes some 10 KB a second.
pub const CONSOLE_READ_BYTES: usize = 16 << 10;

/// How long `qemu-img --version` may take; as [`VERSION_DEADLINE`].
pub const IMAGE_VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// The largest picture of a screen that is read: PPM of some 33 million pixels, as 8K has.
pub const PICTURE_BYTES: u64 = 100 << 20;
