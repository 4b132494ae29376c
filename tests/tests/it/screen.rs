//! Screenshots of guests, with and without QEMU's sandbox.

use std::fs;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest};
use serde_json::json;

use crate::output::failure;

fn home_with(more: &str) -> TestHome {
    let home = TestHome::new();
    home.add(&format!("{}{more}", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    home
}

#[test]
fn test_screenshot_format_follows_name_and_file_is_owned() {
    let home = home_with("");

    let png = home.json(&["screenshot", "web", "screen.png"]);
    let ppm = home.json(&["qmp", "screendump", "web", "screen.ppm"]);
    let named = home.json(&["screenshot", "web", "screen", "--image-format", "ppm"]);
    let unknown = home.json_error(&["screenshot", "web", "screen.jpg"], 2);

    let [png_bytes, ppm_bytes, named_bytes] =
        ["screen.png", "screen.ppm", "screen"].map(|name| fs::read(home.path(name)).unwrap());
    assert!(png_bytes.starts_with(b"\x89PNG\r\n\x1a\n") && ppm_bytes.starts_with(b"P6\n"));
    assert_eq!(named_bytes, ppm_bytes);
    assert_eq!((&png["width"], &png["height"], &png["format"]), (&ppm["width"], &ppm["height"], &json!("png")));
    assert_eq!((&png["file"], &png["bytes"]), (&json!(home.path("screen.png")), &json!(png_bytes.len())));
    assert_eq!((&named["format"], &unknown["code"]), (&json!("ppm"), &json!("screen.format-unsupported")));
    // QEMU's own file is removed.
    let left: Vec<_> = home.files().into_iter().filter(|path| path.to_string_lossy().contains("picture-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn test_screenshot_in_pipe_is_only_the_image() {
    let home = home_with("");
    let mut command = home.maqet(["--format", "json", "screenshot", "web", "-"]).into_command();

    let output = command.output().unwrap();

    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"\x89PNG") && output.stdout.ends_with(b"IEND\xaeB`\x82"), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn test_screenshot_replaces_files_but_nothing_else() {
    let home = home_with("");
    let old = home.write("screen.png", "old");
    symlink(&old, home.path("link.png")).unwrap();

    let failures = ["link.png", "none/screen.png"].map(|file| failure(&home, &["screenshot", "web", file]));
    let untouched = fs::read_to_string(&old).unwrap();
    home.json(&["screenshot", "web", "screen.png"]);

    assert_snapshot!(failures.join("\n"), @"
    screen.write-failed, exit code 69
    error: cannot write `[home]/link.png`
      caused by: not a regular file
      hint: check that the directory exists, is writable and has free space

    screen.write-failed, exit code 69
    error: cannot write `[home]/none/screen.png`
      caused by: No such file or directory (os error 2)
      hint: check that the directory exists, is writable and has free space
    ");
    assert_eq!(untouched, "old");
    assert!(fs::read(&old).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn test_screenshot_without_graphics_card_is_unavailable() {
    let home = home_with("vga: none\n");

    assert_snapshot!(failure(&home, &["screenshot", "web", "screen.png"]), @"
    screen.unavailable, exit code 4
    error: VM `web` has no screen
      hint: add a graphics card with `maqet apply web --set vga=std`, and restart the VM
      hint: read its serial console with `maqet logs web`
    ");
    assert!(!home.path("screen.png").exists());
}
