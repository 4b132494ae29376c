//! Failures of the human monitor, which it reports as text in a successful reply (7.2, `hmp-commands.hx`).

/// Returns why a stream of `info network` has no connection, by its state; the reason itself is known since 8.0.
pub fn stream_failure(state: &str) -> Option<Option<&str>> {
    match state.trim_end() {
        "connection error" => Some(None),
        state => state.strip_prefix("error: ").map(Some),
    }
}

/// Returns whether what becomes of a stream of `info network` is not known yet, by its state (seen in 10.0; 7.2 has none).
pub fn is_stream_pending(state: &str) -> bool {
    state.trim_end() == "initializing"
}

/// Commands that print nothing on success.
const SILENT: &[&str] = &[
    "announce_self",
    "balloon",
    "block_job_cancel",
    "block_job_complete",
    "block_job_pause",
    "block_job_resume",
    "block_job_set_speed",
    "block_resize",
    "block_set_io_throttle",
    "boot_set",
    "c",
    "change",
    "chardev-add",
    "chardev-change",
    "chardev-remove",
    "chardev-send-break",
    "client_migrate_info",
    "closefd",
    "commit",
    "cont",
    "cpu",
    "delvm",
    "device_add",
    "device_del",
    "drive_backup",
    "drive_del",
    "drive_mirror",
    "dump-guest-memory",
    "dumpdtb",
    "eject",
    "expire_password",
    "getfd",
    "loadvm",
    "log",
    "logfile",
    "mce",
    "memsave",
    "migrate_cancel",
    "migrate_continue",
    "migrate_incoming",
    "migrate_pause",
    "migrate_recover",
    "migrate_set_capability",
    "migrate_set_parameter",
    "migrate_start_postcopy",
    "mouse_button",
    "mouse_move",
    "mouse_set",
    "nbd_server_add",
    "nbd_server_remove",
    "nbd_server_start",
    "nbd_server_stop",
    "netdev_add",
    "netdev_del",
    "nmi",
    "object_add",
    "object_del",
    "pmemsave",
    "q",
    "qom-set",
    "quit",
    "ringbuf_write",
    "s",
    "savevm",
    "screendump",
    "sendkey",
    "set_link",
    "set_password",
    "singlestep",
    "snapshot_blkdev",
    "snapshot_blkdev_internal",
    "snapshot_delete_blkdev_internal",
    "stop",
    "stopcapture",
    "system_powerdown",
    "system_reset",
    "system_wakeup",
    "trace-event",
    "watchdog_action",
    "wavcapture",
    "x_colo_lost_heartbeat",
    "xen-event-inject",
];

/// Commands that print data of the guest, which can hold any text.
const DATA: &[&str] = &["ringbuf_read"];

/// How the first line of a failure begins.
const FAILED: &[&str] = &[
    "unknown command: ",
    "Error: ",
    "Could not ",
    "could not ",
    "Can't ",
    // `drive_add` of an image in use.
    "Failed ",
    // `calc_dirty_rate`.
    "Incorrect ",
    "Either ",
    "invalid ",
    "Invalid ",
    "unexpected end of expression",
    "user mode network stack not in use",
];

/// Returns why the command `line` of the human monitor failed, if its reply says so.
///
/// ```
/// use maqet_domain::qmp::wording::hmp_failure;
///
/// assert_eq!(hmp_failure("foo", "unknown command: 'foo'\r\n").as_deref(), Some("unknown command: 'foo'"));
/// assert_eq!(hmp_failure("drive_del x", "Device 'x' not found\r\n").as_deref(), Some("Device 'x' not found"));
/// assert_eq!(hmp_failure("info status", "VM status: running\r\n"), None);
/// assert_eq!(hmp_failure("eject cd", ""), None);
/// ```
pub fn hmp_failure(line: &str, reply: &str) -> Option<String> {
    let command = line.split_ascii_whitespace().next().unwrap_or_default();
    let reply = reply.trim();
    if reply.is_empty() || DATA.contains(&command) {
        return None;
    }
    let first = reply.lines().next().unwrap_or_default().trim_end();
    // The end of a syntax error: ``Try "help cpu" for more information``.
    let is_syntax_error = reply.lines().last().is_some_and(|last| last.starts_with("Try \"help "));
    let is_info = matches!(command, "info" | "help" | "?");
    let fails = if is_info {
        first.starts_with("unknown command: ") || first.starts_with("Error: ") || is_syntax_error
    } else {
        let is_missing = command == "hostfwd_remove" && first.ends_with(" not found");
        is_syntax_error
            || is_missing
            || SILENT.contains(&command)
            || FAILED.iter().any(|begin| first.starts_with(begin))
    };
    fails.then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line and its reply were seen on QEMU 7.2.
    #[test]
    fn test_hmp_failure_recognises_errors_of_qemu() {
        for (line, reply, failure) in [
            ("foo", "unknown command: 'foo'\r\n", "unknown command: 'foo'"),
            ("info foo", "unknown command: 'info foo'\r\n", "unknown command: 'info foo'"),
            ("eject zz", "Error: Device 'zz' not found\r\n", "Error: Device 'zz' not found"),
            ("drive_del zz", "Device 'zz' not found\r\n", "Device 'zz' not found"),
            ("cpu 9", "invalid CPU index\r\n", "invalid CPU index"),
            ("boot_set z", "Invalid boot device 'z'\r\n", "Invalid boot device 'z'"),
            ("sendkey foo", "invalid parameter: foo\r\n", "invalid parameter: foo"),
            ("hostfwd_add tcp::80-:80", "user mode network stack not in use\r\n", "user mode network stack not in use"),
            (
                "drive_add 0 file=/nonexistent",
                "Could not open '/nonexistent': No such file or directory\r\n",
                "Could not open '/nonexistent': No such file or directory",
            ),
            (
                "print 1+",
                "unexpected end of expression\r\nTry \"help print\" for more information\r\n",
                "unexpected end of expression",
            ),
            (
                "info qtree ; foo",
                "qtree: extraneous characters at the end of line\r\nTry \"help info qtree\" for more information\r\n",
                "qtree: extraneous characters at the end of line",
            ),
            (
                "hostfwd_remove tcp::1",
                "host forwarding rule for tcp::1 not found\r\n",
                "host forwarding rule for tcp::1 not found",
            ),
            (
                "drive_add",
                "drive_add: string expected\r\nTry \"help drive_add\" for more information\r\n",
                "drive_add: string expected",
            ),
            ("calc_dirty_rate 0", "Incorrect period length specified!\r\n", "Incorrect period length specified!"),
            (
                "calc_dirty_rate -r -b 1",
                "Either dirty ring or dirty bitmap can be specified!\r\n",
                "Either dirty ring or dirty bitmap can be specified!",
            ),
            (
                "drive_add 0 if=scsi,driver=null-co",
                "Can't hot-add drive to type 2\r\n",
                "Can't hot-add drive to type 2",
            ),
            ("trace-event foo on", "unknown event \"foo\"\r\n", "unknown event \"foo\""),
            ("hostfwd_add tcp:x", "Error: Host forwarding rule is wrong\r\n", "Error: Host forwarding rule is wrong"),
        ] {
            assert_eq!(hmp_failure(line, reply).as_deref(), Some(failure), "{line}");
        }
    }

    #[test]
    fn test_hmp_failure_accepts_ordinary_output() {
        for (line, reply) in [
            ("info status", "VM status: paused (prelaunch)\r\n"),
            ("info tlb", "PG disabled\r\n"),
            ("help eject", "eject [-f] device -- eject a removable medium (use -f to force it)\r\n"),
            ("drive_add 0 if=none", "OK\r\n"),
            ("gpa2hva 0", "Host virtual address for 0x0 (pc.ram) is 0x7f4c6fe00000\r\n"),
            ("sum 0 10", "00000\r\n"),
            ("gdbserver none", "Disabled gdbserver\r\n"),
            ("stop", ""),
            ("hostfwd_remove tcp::1", "host forwarding rule for tcp::1 removed\r\n"),
            ("ringbuf_read c 10", "Error: said the guest\r\n"),
        ] {
            assert_eq!(hmp_failure(line, reply), None, "{line}");
        }
    }
}
