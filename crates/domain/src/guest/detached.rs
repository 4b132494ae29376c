//! Detached commands, which run on without a maqet process: their records in the guest, and the scripts that use these.
//!
//! The record of a command is a directory of root in the guest, with its output, who it is, and how it exited. So it
//! belongs to the guest as the command does: a snapshot of the memory has both, and no other host has to know of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::command::{Nonce, ProcessSignal, shell};
use super::protocol::AgentCommand;
use super::scripts::RECORD_DIRECTORIES;
use crate::text::{is_control, quote, truncated};

/// How much of a command line is recorded.
const MAX_COMMAND_CHARS: usize = 1000;

/// How many records of commands that have ended are kept.
const MAX_ENDED: usize = 16;

/// The functions that the other scripts use: `record` finds the record of a command, and `alive` tells whether it runs.
///
/// A number of a process is used again: the time of its start tells one from another.
const FUNCTIONS: &str = r#"
record() {
    for d in $directories; do
        d=$d/$1
        [ ! -d "$d" ] || return 0
    done
    return 1
}
alive() {
    b=
    [ ! -s "$1/boot" ] || read -r b <"$1/boot"
    [ "$b" = "$boot" ] && [ -s "$1/process" ] && read -r pid start <"$1/process" || return 1
    [ -r "/proc/$pid/stat" ] && read -r stat <"/proc/$pid/stat" || return 1
    set -- ${stat##*) }
    [ "${20}" = "$start" ] && [ "$1" != Z ]
}
read -r boot </proc/sys/kernel/random/boot_id
"#;

/// Prints two lines for each command: its nonce, state and exit code, and what is known about it.
const LIST: &str = r#"
for top in $directories; do
    for d in "$top"/*; do
        [ -s "$d/about" ] || continue
        code=
        if alive "$d"; then
            state=running
        elif [ -s "$d/exit" ]; then
            state=exited
            read -r code <"$d/exit"
        elif [ "$b" = "$boot" ]; then
            state=killed
        else
            state=lost
        fi
        read -r about <"$d/about"
        printf '%s\n' "${d##*/} $state $code" "$about"
    done
done
"#;

/// Prints the output of a command, until it has ended, and exits as it did.
///
/// Two programs that share the offset in an open file with the shell print what has been added since.
const FOLLOW: &str = r#"
record "$1" || exit 255
exec 6<"$d/out"
[ ! -e "$d/err" ] || exec 7<"$d/err"
while :; do
    ended=
    [ ! -s "$d/exit" ] && alive "$d" || ended=1
    cat <&6
    [ ! -e "$d/err" ] || cat <&7 >&2
    [ -z "$ended" ] || break
    sleep 0.5 2>/dev/null || sleep 1
done
if [ -s "$d/exit" ]; then
    read -r code <"$d/exit"
    exit "$code"
fi
[ "$b" = "$boot" ] || exit 255
kill -s KILL $$
"#;

/// Sends a signal to a command that runs.
const STOP: &str = r#"
record "$1" && alive "$d" || exit 3
kill -s "$2" -- "-$pid" 2>/dev/null || kill -s "$2" "$pid"
kill -s CONT -- "-$pid" 2>/dev/null
exit 0
"#;

/// Removes records.
const REMOVE: &str = r#"
for id in "$@"; do
    ! record "$id" || rm -rf -- "$d"
done
"#;

/// A detached command, as its guest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DetachedCommand {
    /// Its ID in the guest.
    pub id: String,
    /// Its program and arguments, in the quotes of a shell; the beginning of them, if they are long.
    pub command: String,
    /// Its user.
    pub user: String,
    /// When it was started, by the clock of the host.
    pub started_at: Timestamp,
    /// Whether it runs, and how it ended.
    pub state: DetachedState,
    /// Its exit code, if it exited; 128 and the number of a signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// The state of a detached command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum DetachedState {
    /// It runs.
    Running,
    /// It exited.
    Exited,
    /// It was killed, together with the process that records how it exits.
    Killed,
    /// The guest was started again meanwhile.
    Lost,
}

/// What is recorded about a command when it is started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    command: String,
    user: String,
    started_at: Timestamp,
}

impl About {
    /// Returns the line for the record.
    pub(super) fn line(args: &[String], user: &str, started_at: Timestamp) -> String {
        let args: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        let command = truncated(&args.join(" "), MAX_COMMAND_CHARS).into_owned();
        let about = Self { command, user: user.to_owned(), started_at };
        serde_json::to_string(&about).unwrap_or_default()
    }
}

impl DetachedCommand {
    /// Reads what the script of [`list_detached`] printed, oldest commands first; what is not in its form is left out.
    pub fn from_list(output: &[u8]) -> Vec<Self> {
        let output = String::from_utf8_lossy(output);
        let lines: Vec<&str> = output.lines().collect();
        let mut commands: Vec<Self> = lines.windows(2).filter_map(|pair| Self::from_lines(pair[0], pair[1])).collect();
        commands.sort_by(|one, other| (one.started_at, &one.id).cmp(&(other.started_at, &other.id)));
        commands.dedup_by(|one, other| one.id == other.id);
        commands
    }

    fn from_lines(state: &str, about: &str) -> Option<Self> {
        let mut parts = state.split_whitespace();
        let nonce = Nonce::parse(parts.next()?)?;
        let state: DetachedState = parts.next()?.parse().ok()?;
        let About { command, user, started_at } = serde_json::from_str(about).ok()?;
        let shown = |text: &str| text.chars().filter(|char| !is_control(*char)).take(MAX_COMMAND_CHARS).collect();
        let exit_code = parts.next().and_then(|code| code.parse().ok());
        Some(Self {
            id: nonce.to_string(),
            command: shown(&command),
            user: shown(&user),
            started_at,
            state,
            exit_code: exit_code.filter(|_| state == DetachedState::Exited),
        })
    }

    /// Returns whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.state != DetachedState::Running
    }

    /// Returns the IDs of those that ended longest ago, where more have than records are kept.
    pub fn outdated(commands: &[Self]) -> Vec<&str> {
        let ended: Vec<_> = commands.iter().filter(|command| command.has_ended()).collect();
        let excess = ended.len().saturating_sub(MAX_ENDED);
        ended[..excess].iter().map(|command| command.id.as_str()).collect()
    }
}

/// Returns the request that lists detached commands.
pub fn list_detached() -> AgentCommand {
    script(LIST, &[])
}

/// Returns the program that prints the output of a detached command, and exits as it does.
pub fn follow_detached(id: &str) -> Vec<String> {
    let script = whole(FOLLOW);
    ["/bin/sh", "-c", &script, "maqet-attach", id].map(str::to_owned).to_vec()
}

/// Returns the request that sends a signal to a detached command; its program exits with 3 if the command had ended.
pub fn signal_detached(id: &str, signal: ProcessSignal) -> AgentCommand {
    script(STOP, &[id, signal.into()])
}

/// Returns the request that removes the records of detached commands.
pub fn remove_detached(ids: &[&str]) -> AgentCommand {
    script(REMOVE, ids)
}

fn whole(script: &str) -> String {
    format!("directories='{RECORD_DIRECTORIES}'{FUNCTIONS}{script}")
}

fn script(script: &str, args: &[&str]) -> AgentCommand {
    let script = whole(script);
    let mut all = vec!["-c", &script, "maqet-detached"];
    all.extend(args);
    shell(all).argument("capture-output", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> String {
        Nonce::new([number; 16]).to_string()
    }

    fn listed(lines: &[(&str, &str, &str)]) -> Vec<DetachedCommand> {
        let about = |time: &str| About::line(&["echo".to_owned(), "a  b".to_owned()], "root", time.parse().unwrap());
        let text: Vec<String> =
            lines.iter().map(|(id, state, time)| format!("{id} {state}\n{}\n", about(time))).collect();
        DetachedCommand::from_list(text.concat().as_bytes())
    }

    #[test]
    fn test_list_of_detached_commands_is_read_in_order_of_their_starts() {
        let [one, two, three, four] = [1, 2, 3, 4].map(id);
        let commands = listed(&[
            (&one, "exited 7", "2026-01-02T00:00:00Z"),
            (&two, "running", "2026-01-01T00:00:00Z"),
            (&three, "killed", "2026-01-03T00:00:00Z"),
            (&four, "lost 3", "2026-01-04T00:00:00Z"),
        ]);

        let read: Vec<_> =
            commands.iter().map(|command| (command.id.as_str(), command.state, command.exit_code)).collect();
        let expected: [(&str, _, _); 4] = [
            (&two, DetachedState::Running, None),
            (&one, DetachedState::Exited, Some(7)),
            (&three, DetachedState::Killed, None),
            (&four, DetachedState::Lost, None),
        ];
        assert_eq!(read, expected);
        assert_eq!(commands[0].command, "echo 'a  b'");
    }

    #[test]
    fn test_list_of_a_hostile_guest_has_only_what_is_in_its_form() {
        let hostile =
            format!("x\n{{}}\n../.. running\n{{}}\n{} running\n{{\"command\": 1}}\n\x1b[2J\n{}", id(1), id(2));
        assert_eq!(DetachedCommand::from_list(hostile.as_bytes()), []);
        assert_eq!(DetachedCommand::from_list(&[0xff, b'\n', 0xfe]), []);

        let about = r#"{"command": "\u001b[2Jls", "user": "a\nb", "started_at": "2026-01-01T00:00:00Z"}"#;
        let shown = DetachedCommand::from_list(format!("{} exited 999\n{about}\n", id(1)).as_bytes());
        assert_eq!((shown[0].command.as_str(), shown[0].user.as_str()), ("[2Jls", "ab"));
        assert_eq!(shown[0].exit_code, None);
    }

    #[test]
    fn test_outdated_records_are_the_oldest_that_ended() {
        let ids: Vec<String> = (1..=40).map(id).collect();
        let state = |number: usize| ["exited 0", "running"][usize::from(number.is_multiple_of(2))];
        let time = |number: usize| format!("2026-01-01T00:00:{number:02}Z");
        let times: Vec<String> = (1..=40).map(time).collect();
        let lines: Vec<_> = (0..40).map(|at| (ids[at].as_str(), state(at + 1), times[at].as_str())).collect();

        let commands = listed(&lines);

        assert_eq!(DetachedCommand::outdated(&commands), [&ids[0], &ids[2], &ids[4], &ids[6]]);
    }

    #[test]
    fn test_record_of_a_long_command_is_cut() {
        let line = About::line(&["x".repeat(5000)], "root", Timestamp::UNIX_EPOCH);

        assert!(line.len() < 2 * MAX_COMMAND_CHARS && !line.contains('\n'), "{}", line.len());
    }
}
