//! Which configurations are trusted: a file that others can write could run any program.

use std::fs::{File, Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use maqet_testkit::TestHome;
use serde_json::{Value, json};

const YAML: &str = "name: web\n";

/// Writes a configuration with these permissions.
fn with_mode(home: &TestHome, name: &str, mode: u32) -> PathBuf {
    let file = home.write(name, YAML);
    set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    file
}

/// Asserts that `add` refuses a file and stores nothing, and returns the error.
#[track_caller]
fn refused(home: &TestHome, file: &Path) -> Value {
    let error = home.json_error(&["add", file.to_str().unwrap()], 2);

    assert_eq!(error["code"], "config.permissions-insecure", "{error}");
    assert_eq!(home.json(&["ls"]), json!([]));
    error
}

#[track_caller]
fn taken(home: &TestHome, file: &Path) {
    home.maqet(["config", "check"]).arg(file).run().ok();
}

#[test]
fn test_config_writable_by_others_fails_with_fixing_command() {
    let home = TestHome::new();

    for (mode, who) in [(0o664, "its group"), (0o620, "its group"), (0o666, "every user"), (0o602, "every user")] {
        let file = with_mode(&home, "vm.yaml", mode);

        let error = refused(&home, &file);

        let message = error["message"].as_str().unwrap();
        assert!(message.contains(who) && message.contains(&format!("{mode:04o}")), "{message}");
        let hints = error["hints"].to_string();
        assert!(hints.contains(&format!("`chmod go-w {}`", file.display())), "{hints}");
        assert!(hints.contains("`--allow-insecure-config`"), "{hints}");
    }
}

#[test]
fn test_config_group_writable_hint_names_umask() {
    let home = TestHome::new();

    let by_group = refused(&home, &with_mode(&home, "vm.yaml", 0o664));
    let by_all = refused(&home, &with_mode(&home, "vm.yaml", 0o666));

    assert!(by_group["hints"].to_string().contains("umask 022"), "{by_group}");
    assert!(!by_all["hints"].to_string().contains("umask"), "{by_all}");
}

#[test]
fn test_config_writable_by_owner_only_is_accepted() {
    let home = TestHome::new();

    for mode in [0o600, 0o644, 0o400, 0o755] {
        taken(&home, &with_mode(&home, "vm.yaml", mode));
    }
}

#[test]
fn test_config_writable_by_others_is_refused_everywhere() {
    let home = TestHome::new();
    home.add(YAML);
    let file = with_mode(&home, "open.yaml", 0o664);
    let file = file.to_str().unwrap();

    for command in [&["apply", "web", file][..], &["config", "check", file], &["ls", "--config", file]] {
        assert_eq!(home.json_error(command, 2)["code"], "config.permissions-insecure", "{command:?}");
    }
}

#[test]
fn test_config_settings_writable_by_others_fail_every_command() {
    let home = TestHome::new();
    let file = home.write("config/maqet/maqet.conf", "defaults: {memory: 48M}\n");
    set_permissions(&file, Permissions::from_mode(0o666)).unwrap();

    assert_eq!(home.json_error(&["status", "web"], 2)["code"], "config.permissions-insecure");
    home.maqet(["ls", "--allow-insecure-config"]).run().ok();
}

#[test]
fn test_config_writable_by_others_is_accepted_with_override() {
    let home = TestHome::new();
    let file = with_mode(&home, "vm.yaml", 0o666);

    home.maqet(["config", "check", "--allow-insecure-config"]).arg(&file).run().ok();
    home.maqet(["--allow-insecure-config", "config", "check"]).arg(&file).run().ok();
    home.maqet(["config", "check"]).arg(&file).env("MAQET_ALLOW_INSECURE_CONFIG", "true").run().ok();

    let denied = home.maqet(["config", "check"]).arg(&file).env("MAQET_ALLOW_INSECURE_CONFIG", "false").run();
    assert_eq!(denied.code, Some(2), "{denied}");
}

#[test]
fn test_config_symlink_is_checked_at_its_target() {
    let home = TestHome::new();
    let open = with_mode(&home, "open.yaml", 0o666);
    let closed = with_mode(&home, "closed.yaml", 0o600);
    symlink(open, home.path("to-open.yaml")).unwrap();
    symlink(closed, home.path("to-closed.yaml")).unwrap();

    refused(&home, &home.path("to-open.yaml"));
    taken(&home, &home.path("to-closed.yaml"));
}

#[test]
fn test_config_in_shared_folder_requires_sticky_bit() {
    let home = TestHome::new();
    let file = home.write("shared/vm.yaml", YAML);
    symlink(&file, home.path("link.yaml")).unwrap();
    let folder = |mode| set_permissions(home.path("shared"), Permissions::from_mode(mode)).unwrap();

    folder(0o777);
    let error = refused(&home, &file);
    assert!(error["message"].as_str().unwrap().contains("every user can replace it"), "{error}");
    refused(&home, &home.path("link.yaml"));

    folder(0o1777);
    taken(&home, &file);
}

#[test]
fn test_config_of_another_user_is_refused_for_root_too() {
    let home = TestHome::new();
    let file = with_mode(&home, "vm.yaml", 0o444);
    // Changing the owner of a file needs root; a unit test covers the rule.
    if chown(&file, Some(12_345), None).is_ok() {
        let error = refused(&home, &file);

        assert!(error["message"].as_str().unwrap().contains("uid 12345"), "{error}");
    }
}

#[test]
fn test_config_from_stdin_is_always_accepted() {
    let home = TestHome::new();
    let file = with_mode(&home, "vm.yaml", 0o666);
    let mut check = home.maqet(["config", "check", "-"]).into_command();

    let status = check.stdin(File::open(file).unwrap()).status().unwrap();

    assert!(status.success());
}

#[test]
fn test_config_from_shell_pipe_is_accepted() {
    let home = TestHome::new();
    let mut check = home.maqet(["config", "check", "/dev/fd/0"]).into_command();
    let mut child = check.stdin(std::process::Stdio::piped()).spawn().unwrap();

    std::io::Write::write_all(&mut child.stdin.take().unwrap(), YAML.as_bytes()).unwrap();

    assert!(child.wait().unwrap().success());
}
