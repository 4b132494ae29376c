//! Thawing the file systems of a guest from inside, should maqet be killed before it does.
//!
//! The agent starts nothing while they are frozen, so a process that waits is started before. It thaws them one by one;
//! the agent takes them for frozen until it is asked to thaw them, too, which then costs nothing.

use std::time::Duration;

use super::command::{PATH, shell};
use super::protocol::AgentCommand;
use super::status::ExitStatus;

/// Waits, and thaws every file system that may have been frozen: the agent freezes those whose device is a path
/// (`qga/commands-posix.c`, 7.2). Exits with 0 after that, and with another code if it was ended or cannot thaw.
///
/// Reading is possible while they are frozen, and access times are not updated (`touch_atime`, Linux).
///
/// Its argument: how many seconds.
const THAW_LATER: &str = r#"
command -v fsfreeze || exit 3
trap '[ -z "$!" ] || kill "$!"; exit 4' TERM
sleep "$1" &
wait "$!" || exit 4
while read -r device directory _; do
    case $device in
    /*) fsfreeze --unfreeze "$(printf %b "$directory")" ;;
    esac
done </proc/self/mounts
exit 0
"#;

/// Ends such processes: one, or all, which are found by their environment.
///
/// Its argument: the process, or nothing.
const END: &str = r#"
for f in ${1:-$(grep -ls MAQET_THAW= /proc/[0-9]*/environ)}; do
    f=${f#/proc/}
    kill "${f%%/*}"
done
"#;

/// Returns the request that tells by exit code 0 that the guest has what [thaws later](thaw_later).
pub fn can_thaw_later() -> AgentCommand {
    shell(vec!["-c", "command -v fsfreeze"]).argument("env", vec![PATH])
}

/// Returns the request that has the guest thaw its file systems after a while; the process is to be
/// [ended](end_thaw_later) before.
pub fn thaw_later(after: Duration) -> AgentCommand {
    let seconds = after.as_millis().div_ceil(1000).to_string();
    shell(vec!["-c", THAW_LATER, "maqet-thaw", &seconds]).argument("env", vec![PATH, "MAQET_THAW=1"])
}

/// Returns whether the process that [thaws later](thaw_later) did so, according to how it has exited.
pub fn has_thawed(exit: ExitStatus) -> bool {
    exit == ExitStatus::Code(0)
}

/// Returns the request that ends a process that [thaws later](thaw_later), or all of them.
pub fn end_thaw_later(pid: Option<i64>) -> AgentCommand {
    let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
    shell(vec!["-c", END, "maqet-thaw-end", &pid]).argument("env", vec![PATH])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_thaw_later_is_in_whole_seconds() {
        let seconds = |milliseconds| {
            let request = thaw_later(Duration::from_millis(milliseconds));
            request.arguments["arg"][3].as_str().unwrap().to_owned()
        };

        assert_eq!([seconds(90_000), seconds(1), seconds(1500)], ["90", "1", "2"]);
    }

    #[test]
    fn test_end_thaw_later_names_one_or_all() {
        let argument = |pid| end_thaw_later(pid).arguments["arg"][3].as_str().unwrap().to_owned();

        assert_eq!([argument(Some(7)), argument(None)], ["7", ""]);
    }
}
