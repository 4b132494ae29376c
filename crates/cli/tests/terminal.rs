//! Environment variables, colors and control characters in output.

use std::path::PathBuf;

use maqet_testkit::{TestHome, guest};

fn home() -> TestHome {
    TestHome::with_binary(PathBuf::from(env!("CARGO_BIN_EXE_maqet")))
}

#[test]
fn test_flag_overrides_opposite_variable() {
    let home = home();

    let quiet = home.maqet(["-q", "ls"]).env("MAQET_VERBOSE", "1").run().ok();
    let verbose = home.maqet(["-v", "ls"]).env("MAQET_QUIET", "true").run().ok();

    assert_eq!(quiet.stderr, "");
    assert!(verbose.stderr.contains("operation=\"ls\""), "{}", verbose.stderr);
}

#[test]
fn test_flags_opposite_last_one_wins() {
    let home = home();

    let quiet = home.maqet(["-v", "-q", "ls"]).run().ok();
    let verbose = home.maqet(["-q", "-v", "ls"]).run().ok();

    let after_the_command = home.maqet(["-q", "ls", "-v"]).run().ok();
    assert_eq!(quiet.stderr, "");
    assert!(verbose.stderr.contains("operation=\"ls\""), "{}", verbose.stderr);
    assert!(after_the_command.stderr.contains("operation=\"ls\""), "{}", after_the_command.stderr);
}

#[test]
fn test_variables_quiet_and_verbose_mean_quiet() {
    let home = home();

    let finished = home.maqet(["ls"]).env("MAQET_VERBOSE", "1").env("MAQET_QUIET", "1").run().ok();

    assert_eq!(finished.stderr, "");
}

#[test]
fn test_variable_empty_counts_as_unset() {
    let names = [
        "MAQET_DATA_DIR", "MAQET_CONFIG_DIR", "MAQET_RUNTIME_DIR", "MAQET_CONFIG", "MAQET_DATABASE", "MAQET_LOG_FILE",
        "MAQET_VERBOSE", "MAQET_QUIET", "MAQET_FORMAT", "MAQET_NO_PROGRESS", "MAQET_COLOR",
    ];
    let home = home();
    let expected = home.maqet(["ls"]).run().ok().stdout;

    for name in names {
        let finished = home.maqet(["ls"]).env(name, "").run().ok();

        assert_eq!((finished.stdout, finished.stderr), (expected.clone(), String::new()), "{name}");
    }
}

#[test]
fn test_color_always_colors_only_status_in_pipe() {
    let home = home();
    home.add(&guest::paused_yaml("web"));
    home.maqet(["start", "web"]).run().ok();

    let always = home.maqet(["ls", "--color", "always"]).run().ok().stdout;
    let never = home.maqet(["ls", "--color", "never"]).run().ok().stdout;
    let auto = home.maqet(["ls"]).run().ok().stdout;

    let status = "paused (started-paused)";
    assert_eq!(always, never.replace(status, &format!("\u{1b}[33m{status}\u{1b}[0m")));
    assert_eq!(auto, never);
}

#[test]
fn test_color_always_colors_errors_in_pipe() {
    let home = home();

    let always = home.maqet(["status", "nope", "--color", "always"]).run().code(3).stderr;
    let auto = home.maqet(["status", "nope"]).run().code(3).stderr;

    assert!(always.contains("\u{1b}["), "{always}");
    assert!(!auto.contains('\u{1b}'), "{auto}");
}

#[test]
fn test_log_file_unusable_is_a_host_error() {
    let home = home();
    home.write("target", "");
    std::os::unix::fs::symlink(home.path("target"), home.path("link")).unwrap();

    for log in ["link", "no/such/log", "/dev/null", "run"] {
        let error = home.json_error(&["ls", "--log-file", log], 69);

        assert_eq!(error["code"], "host.log-file-unavailable", "{log}");
    }
}

#[test]
fn test_log_file_never_holds_credentials() {
    let home = home();
    let database = "postgres://me:secret@127.0.0.1:1/x?password=secret";

    let finished = home.maqet(["ls", "-vvv", "--database", database]).run().code(69);

    let settings = finished.stderr.lines().find(|line| line.contains("settings")).unwrap_or_default();
    assert!(settings.contains("database=\"postgres://127.0.0.1:1/x\""), "{}", finished.stderr);
    assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
}

#[test]
fn test_control_characters_in_names_are_escaped() {
    let home = home();
    let name = "x\u{1b}[31mRED\nfake größe";

    let finished = home.maqet(["status", name, "--color", "never"]).run().code(3);

    assert!(finished.stderr.contains("`x\\u{1b}[31mRED\\nfake größe`"), "{}", finished.stderr);
    assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
}

#[test]
fn test_control_characters_in_source_lines_are_escaped() {
    let home = home();
    home.write("vm.yaml", "name: web\nmemry: 1G # \u{9b}31m \u{202e} \u{7f}\n");

    let finished = home.maqet(["config", "check", "vm.yaml"]).run().code(2);

    let obeyed: Vec<char> =
        finished.stderr.chars().filter(|c| c.is_control() && *c != '\n' || *c == '\u{202e}').collect();
    assert_eq!(obeyed, Vec::<char>::new(), "{}", finished.stderr);
}
