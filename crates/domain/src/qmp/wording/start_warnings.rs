//! What QEMU complains about at a start that works.

/// The most that is reported; the log has the rest.
const MAX_WARNINGS: usize = 10;

/// Returns what QEMU wrote to its standard error at a start that works, without what is information (7.2, 10.0,
/// `util/error-report.c`, `net/net.c`, `target/i386/cpu.c`, `block/block-backend.c`).
///
/// CPU features that are not there are reported together, as one model can lack dozens. The rest of the log can be the
/// output of the guest.
pub fn start_warnings(log: &str) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(text) = complaint(line) else { continue };
        if let Some((accelerator, feature)) = missing_feature(text) {
            match missing.iter_mut().find(|(other, _)| *other == accelerator) {
                // Each CPU has its own line (7.2).
                Some((_, features)) if features.contains(&feature) => {}
                Some((_, features)) => features.push(feature),
                None => missing.push((accelerator, vec![feature])),
            }
            continue;
        }
        let mut text = text.to_owned();
        while let Some(more) = lines.next_if(|line| continues(line)) {
            text.push(' ');
            text.push_str(more.trim());
        }
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
    let features = missing.into_iter().map(|(accelerator, features)| {
        format!("{accelerator} doesn't support features of the CPU model: {}", features.join(", "))
    });
    let mut all: Vec<String> = features.chain(warnings).collect();
    if all.len() > MAX_WARNINGS {
        let rest = all.len() - MAX_WARNINGS;
        all.truncate(MAX_WARNINGS);
        all.push(format!("{rest} more in QEMU's log"));
    }
    all
}

/// Returns the text of a line that is a warning or an error.
fn complaint(line: &str) -> Option<&str> {
    if let Some(text) = line.strip_prefix("WARNING: ") {
        return Some(text);
    }
    // As QEMU 7.2 says it, without its name.
    if line.starts_with("Could not open option rom ") || line.starts_with("rom: file ") {
        return Some(line);
    }
    let (program, text) = line.split_once(": ")?;
    let is_qemu = program.rsplit('/').next().is_some_and(|name| name == "qemu" || name.starts_with("qemu-system-"));
    if !is_qemu || text.starts_with("info: ") || text.starts_with("terminating on signal ") {
        return None;
    }
    // `-chardev socket,…: warning: short-form boolean option 'server' deprecated`
    let text = text.strip_prefix("warning: ").unwrap_or(text);
    Some(text)
}

/// Returns whether a line belongs to the warning before it.
fn continues(line: &str) -> bool {
    line.starts_with("Please use ") || line.starts_with("         ")
}

/// Returns who lacks a CPU feature, and its name: `TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]`.
fn missing_feature(text: &str) -> Option<(&str, &str)> {
    let (accelerator, feature) = text.split_once(" doesn't support requested feature: ")?;
    let name = feature.split(" [bit").next().unwrap_or(feature);
    Some((accelerator, name.rsplit('.').next().unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_start_warnings_missing_features_are_one_warning() {
        let log = "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]\n\
                   qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.hle [bit 4]\n\
                   qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]\n\
                   qemu-system-x86_64: warning: netdev n has no peer\n";

        let warnings = start_warnings(log);

        assert_eq!(warnings, ["TCG doesn't support features of the CPU model: pcid, hle", "netdev n has no peer"]);
    }

    #[test]
    fn test_start_warnings_lines_of_one_warning_are_joined() {
        let log = "qemu-system-x86_64: -chardev socket,server: warning: short-form boolean option 'server' deprecated\n\
                   Please use server=on instead\n\
                   WARNING: Image format was not specified for '/d/a' and probing guessed raw.\n         \
                   Automatically detecting the format is dangerous.\n         Specify it.\n";

        assert_eq!(
            start_warnings(log),
            [
                "-chardev socket,server: warning: short-form boolean option 'server' deprecated Please use server=on instead",
                "Image format was not specified for '/d/a' and probing guessed raw. Automatically detecting the format is \
                 dangerous. Specify it."
            ]
        );
    }

    #[test]
    fn test_start_warnings_output_of_guest_and_information_are_left_out() {
        let log = "Linux version 6.1\nlogin: root\nqemu-system-x86_64: info: x\n\
                   qemu-system-x86_64: terminating on signal 15 from pid 1 (kill)\n";

        assert_eq!(start_warnings(log), Vec::<String>::new());
        assert_eq!(start_warnings(""), Vec::<String>::new());
    }

    #[test]
    fn test_start_warnings_are_limited() {
        let lines: Vec<String> =
            (0..30).map(|number| format!("/usr/bin/qemu-system-arm: warning: w{number}\n")).collect();

        let warnings = start_warnings(&lines.concat());

        assert_eq!((warnings.len(), warnings[10].as_str()), (11, "20 more in QEMU's log"));
    }
}
