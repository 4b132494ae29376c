//! Screenshots of guests, with and without QEMU's sandbox.

use std::fs;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;
use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest};
use serde_json::json;

use crate::output::failure;
use crate::versions;

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

    fs::create_dir(home.path("screens")).unwrap();
    let failures = ["link.png", "screens", "none/screen.png"].map(|file| failure(&home, &["screenshot", "web", file]));
    let untouched = fs::read_to_string(&old).unwrap();
    home.json(&["screenshot", "web", "screen.png"]);

    assert_snapshot!(failures.join("\n"), @"
    screen.file-invalid, exit code 2
    error: cannot write `[home]/link.png`: it is a symbolic link
      hint: pass the path of a file, such as `[home]/screenshot.png`

    screen.file-invalid, exit code 2
    error: cannot write `[home]/screens`: it is a directory
      hint: pass the path of a file, such as `[home]/screens/screenshot.png`

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

/// QEMU's own consoles, as of a parallel port, are no screens; with some of these arguments there are none.
#[test]
fn test_screen_of_vm_without_one_is_refused_everywhere() {
    for more in ["vga: none\n", "args: [-nodefaults]\n", "args: [-parallel, none, -vga, none]\n", MICROVM] {
        let home = home_with(more);

        let waited = home.json_error(&["wait", "web", "--for", "screen-stable=100ms", "--timeout", "5s"], 4);
        let any = home.json_error(&["wait", "web", "--any", "--for", "screen-stable=1s", "--for", "serial:never"], 4);
        let png = home.json_error(&["screenshot", "web", "-"], 4);
        let ppm = home.json_error(&["qmp", "screendump", "web", "screen.ppm"], 4);

        for error in [waited, any, png, ppm] {
            assert_eq!(error["code"], "screen.unavailable", "{more}: {error}");
        }
    }
}

#[test]
fn test_screen_of_any_graphics_card_is_taken() {
    for more in [
        "vga: cirrus\n",
        "args: [-nographic]\n",
        "args: [-nodefaults, -device, VGA]\n",
        "args: [-vga, none, -device, virtio-gpu-pci]\n",
        "vga: none\nargs: [-device, bochs-display]\n",
        "vga: none\nargs: [-device, secondary-vga]\n",
        "vga: virtio\ndisplay: vnc=none\n",
    ] {
        let home = home_with(more);

        let taken = home.json(&["screenshot", "web", "screen.png"]);
        home.json(&["wait", "web", "--for", "screen-stable=100ms"]);

        assert!(taken["width"].as_u64() >= Some(640), "{more}: {taken}");
    }
}

/// QEMU does not list the consoles of hot-plugged cards.
#[test]
fn test_screen_of_hot_plugged_card_is_taken() {
    let home = home_with("args: [-nodefaults, -machine, pc]\n");
    let without = home.json_error(&["screenshot", "web", "screen.png"], 4);

    home.json(&["qmp", "web", "device_add", "driver=bochs-display", "id=card"]);

    assert_eq!(without["code"], "screen.unavailable");
    assert_eq!(home.json(&["screenshot", "web", "screen.png"])["width"], 640);
}

/// Behind a text console, QEMU 7.2 finds it by its device, and 10.0 would abort.
#[test]
fn test_screen_of_card_behind_text_console_never_ends_qemu() {
    let home = home_with("vga: none\nargs: [-machine, pc]\n");
    home.json(&["qmp", "web", "device_add", "driver=bochs-display", "id=card"]);

    let taken = home.maqet(["--format", "json", "screenshot", "web", "screen.png"]).run();

    match taken.code {
        Some(0) => assert_eq!(taken.json_value()["width"], 640),
        _ => assert_eq!(taken.code(4).json_error()["error"]["code"], "screen.unavailable"),
    }
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
}

const MICROVM: &str = "args: [-machine, microvm]\n";

#[test]
fn test_keys_of_vm_without_keyboard_are_refused() {
    for more in [MICROVM, "args: [-machine, \"q35,i8042=off\"]\n"] {
        let home = home_with(more);
        home.json(&["resume", "web"]);

        let keys = home.json_error(&["keys", "web", "a"], 4);
        let text = home.json_error(&["type", "web", "a"], 4);

        assert_eq!([&keys["code"], &text["code"]], ["keys.keyboard-not-found"; 2], "{more}");
    }
}

#[test]
fn test_keys_of_vm_with_other_keyboard_are_sent() {
    for device in ["virtio-keyboard-pci", "usb-kbd"] {
        let machine = format!("args: [-machine, \"q35,i8042=off\", -device, qemu-xhci, -device, {device}]\n");
        let home = home_with(&machine);
        home.json(&["resume", "web"]);

        assert_eq!(home.json(&["keys", "web", "a"])["keys"], json!(["a"]), "{device}");
    }
}

/// QEMU 10.0 aborts over the picture of a card that was plugged in, and of a device that is no card.
#[test]
fn test_raw_screendump_of_device_never_ends_qemu() {
    let home = home_with("args: [-device, \"VGA,id=first\", -device, \"virtio-rng-pci,id=rng\"]\nvga: none\n");
    let pid = home.json(&["status", "web"])["pid"].clone();
    home.json(&["qmp", "device-add", "web", "secondary-vga", "--id", "second"]);
    let file = home.path("raw.ppm").display().to_string();
    let dump = |device: &str| {
        let (name, device) = (format!("filename={file}"), format!("device={device}"));
        home.maqet(["qmp", "web", "screendump", &name, &device, "--allow-dangerous", "--format", "json"]).run()
    };
    let hmp = |device: &str| {
        let line = format!("command-line=screendump {file} {device}");
        home.maqet(["qmp", "web", "human-monitor-command", &line, "--allow-dangerous", "--format", "json"]).run()
    };

    dump("first").ok();
    let unknown = dump("third").json_error()["error"]["code"].clone();
    let others = [dump("second"), dump("rng"), hmp("second"), hmp("rng")].map(|dumped| dumped.code);

    assert_eq!(unknown, "qmp.refused");
    let aborts = versions::has(Difference::ScreendumpOfDeviceAborts);
    assert_eq!(others, if aborts { [Some(4); 4] } else { [Some(0), Some(1), Some(0), Some(1)] });
    assert_eq!(home.json(&["status", "web"])["pid"], pid);
}
