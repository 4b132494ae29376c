//! The texts of the guest agent.

/// Returns whether the agent refused a command because it is disabled, or does not exist (7.2, `qapi/qmp-dispatch.c`).
pub fn is_command_disabled(class: &str, description: &str) -> bool {
    // `Command guest-exec has been disabled: the command is not allowed`; older ones `The command guest-exec has been
    // disabled for this instance`.
    (class == "CommandNotFound" || description.contains("has been disabled")) && !is_frozen(description)
}

/// Returns whether the agent refused a command because the file systems are frozen (7.2, `qga/main.c`).
pub fn is_frozen(description: &str) -> bool {
    description.contains("frozen state")
}

/// Returns whether the agent does not know a process, as after the guest was rebooted (7.2, `qga/commands.c`).
pub fn is_unknown_process(description: &str) -> bool {
    // `Invalid parameter 'pid'`, `PID 1234 does not exist`.
    description.contains("'pid'") || description.starts_with("PID ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_disabled_command_differs_from_a_frozen_guest() {
        let frozen = "Command guest-exec has been disabled: the agent is in frozen state";

        assert!(is_command_disabled("CommandNotFound", "Command guest-exec has been disabled"));
        assert!(is_command_disabled("GenericError", "The command guest-exec has been disabled for this instance"));
        assert!(!is_command_disabled("CommandNotFound", frozen) && is_frozen(frozen));
        assert!(!is_command_disabled("GenericError", "Invalid parameter 'pid'"));
        assert!(is_unknown_process("Invalid parameter 'pid'"));
    }
}
