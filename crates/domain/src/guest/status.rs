//! How a command ended, as the agent says.

use serde_json::Value;

use super::command::decoded;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// It was killed by this signal.
    Signal(u8),
}

impl ExitStatus {
    /// Returns the exit code that shells give it: 128 and the number of a signal.
    pub const fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// The reply to `guest-exec-status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandStatus {
    /// How it ended; `None` while it runs.
    pub exit: Option<ExitStatus>,
    /// What it wrote to a captured standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to a captured standard error.
    pub stderr: Vec<u8>,
    /// Whether the agent has cut one of them.
    pub is_truncated: bool,
}

/// What the agent captures of one stream at most (`qga/commands.c`, 7.2).
const MAX_CAPTURED_BYTES: usize = 16 << 20;

impl CommandStatus {
    /// Reads a reply of the agent; `None` if it is not one.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        let is_set = |key: &str| reply.get(key).and_then(Value::as_bool).unwrap_or_default();
        let number = |key: &str| reply.get(key).and_then(Value::as_u64);
        let bytes = |key: &str| decoded(reply.get(key).and_then(Value::as_str).unwrap_or_default());
        let has_exited = reply.get("exited")?.as_bool()?;
        let (stdout, stderr) = (bytes("out-data")?, bytes("err-data")?);
        // An agent of before 2.5 does not say so.
        let is_full = [&stdout, &stderr].iter().any(|bytes| bytes.len() >= MAX_CAPTURED_BYTES);
        let is_truncated = is_set("out-truncated") || is_set("err-truncated") || is_full;
        let byte = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        let exit = match (number("signal"), number("exitcode")) {
            _ if !has_exited => None,
            (Some(signal), _) => Some(ExitStatus::Signal(byte(signal).min(127))),
            // Windows has larger ones.
            (None, Some(code)) => Some(ExitStatus::Code(byte(code))),
            (None, None) => return None,
        };
        Some(Self { exit, stdout, stderr, is_truncated })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exit(reply: &Value) -> Option<ExitStatus> {
        CommandStatus::from_reply(reply).unwrap().exit
    }

    #[test]
    fn test_status_exit_is_a_code_or_a_signal() {
        assert_eq!(exit(&json!({"exited": false})), None);
        assert_eq!(exit(&json!({"exited": true, "exitcode": 3})), Some(ExitStatus::Code(3)));
        assert_eq!(exit(&json!({"exited": true, "signal": 9})), Some(ExitStatus::Signal(9)));
        assert_eq!(exit(&json!({"exited": true, "exitcode": 4_294_967_295_u64})), Some(ExitStatus::Code(255)));
        assert_eq!(ExitStatus::Signal(15).code(), 143);
    }

    #[test]
    fn test_status_nonsense_is_none() {
        let invalid = json!({"exited": true, "exitcode": 0, "out-data": "?"});
        for reply in [json!(null), json!({}), json!({"exited": 1}), json!({"exited": true}), json!([]), invalid] {
            assert_eq!(CommandStatus::from_reply(&reply), None, "{reply}");
        }
    }

    #[test]
    fn test_status_output_is_decoded_and_its_end_known() {
        let status = |truncated| {
            let reply = json!({"exited": true, "exitcode": 0, "out-data": "aGkK", "out-truncated": truncated});
            CommandStatus::from_reply(&reply).unwrap()
        };

        assert_eq!((status(false).stdout.as_slice(), status(false).is_truncated), (&b"hi\n"[..], false));
        assert!(status(true).is_truncated);
    }
}
