//! Firmware files that QEMU could not load, or that do not fit each other: refused with both files and the cure.

use std::fs;
use std::path::{Path, PathBuf};

use maqet_testkit::{TestHome, guest};
use serde_json::json;

/// The files of Debian's firmware.
const OVMF: &str = "/usr/share/OVMF";

/// Writes a descriptor of the user, with this code and these variables.
fn describe(home: &TestHome, name: &str, architecture: &str, machine: &str, [code, variables]: [&Path; 2]) -> PathBuf {
    let file = |path: &Path| json!({"filename": path, "format": "raw"});
    let descriptor = json!({
        "description": "a test",
        "interface-types": ["uefi"],
        "mapping": {"device": "flash", "executable": file(code), "nvram-template": file(variables)},
        "targets": [{"architecture": architecture, "machines": [machine]}],
        "features": [],
        "tags": [],
    });
    let environment = home.environment();
    let (_, folder) = environment.iter().find(|(name, _)| name == "XDG_CONFIG_HOME").unwrap();
    let folder = Path::new(folder).join("qemu/firmware");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, descriptor.to_string()).unwrap();
    path
}

fn ovmf(name: &str) -> PathBuf {
    Path::new(OVMF).join(name)
}

/// As after an update of the package, whose firmware is of another build than before.
#[test]
fn test_uefi_variables_of_another_build_are_refused() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "machine: q35\nfirmware: uefi\n"));
    let two = [ovmf("OVMF_CODE.fd"), ovmf("OVMF_VARS.fd")];
    let before = describe(&home, "00-own.json", "x86_64", "pc-q35-*", [&two[0], &two[1]]);
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::remove_file(before).unwrap();
    let store = home.data().join("storage/web/uefi-vars.qcow2");

    let refused = home.json_error(&["start", "web"], 4);
    fs::rename(&store, store.with_extension("old")).unwrap();
    home.json(&["start", "web", "--recreate", "uefi-vars"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", &format!("firmware={{variables: {}}}", two[1].display())]);
    fs::rename(&store, store.with_extension("older")).unwrap();
    let template = home.json_error(&["start", "web", "--recreate", "uefi-vars"], 4);

    let code = ovmf("OVMF_CODE_4M.fd");
    let message = |file: &Path| {
        format!("UEFI variables `{}` (128K) do not fit firmware `{}` (3568K)", file.display(), code.display())
    };
    assert_eq!((&refused["code"], &refused["message"]), (&json!("firmware.size-conflict"), &json!(message(&store))));
    assert!(refused["hints"][1].as_str().unwrap().contains("maqet start web --recreate uefi-vars`"), "{refused}");
    assert_eq!(template["message"], message(&two[1]));
    // The template belongs to others.
    assert!(!template["hints"].to_string().contains("mv "), "{template}");
    assert!(template["hints"][0].as_str().unwrap().contains("remove `variables`"), "{template}");
}

/// The file of the definition is only read to create the variables.
#[test]
fn test_uefi_variables_that_fit_do_not_depend_on_their_template() {
    let home = TestHome::new();
    for (file, from) in [("c4.fd", "OVMF_CODE_4M.fd"), ("v4.fd", "OVMF_VARS_4M.fd")] {
        fs::copy(ovmf(from), home.path(file)).unwrap();
    }
    home.add(&(guest::paused_yaml("web") + "machine: q35\nfirmware: {code: ./c4.fd, variables: ./v4.fd}\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    fs::copy(ovmf("OVMF_VARS.fd"), home.path("v4.fd")).unwrap();
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::copy(ovmf("OVMF_CODE.fd"), home.path("c4.fd")).unwrap();

    let refused = home.json_error(&["start", "web"], 4);
    assert_eq!(refused["code"], "firmware.size-conflict", "{refused}");
}

#[test]
fn test_uefi_files_that_are_not_regular_are_refused() {
    let home = TestHome::new();
    for (name, keys) in [
        ("variables", "{type: uefi, variables: /dev/zero}"),
        ("code", "{type: uefi, code: /dev/zero, variables: /dev/zero}"),
        ("folder", "{type: uefi, variables: /etc}"),
        ("bios", "/dev/zero"),
    ] {
        home.add(&format!("{}machine: q35\nfirmware: {keys}\n", guest::paused_yaml(name)));

        let refused = home.json_error(&["start", name], 2);

        let is_invalid = |code: &serde_json::Value| code.as_str().unwrap().ends_with("-invalid");
        assert!(is_invalid(&refused["code"]), "{name}: {refused}");
        assert!(!home.data().join("storage").join(name).join("uefi-vars.qcow2").exists(), "{name}");
    }
}

#[test]
fn test_flash_of_arguments_of_two_builds_is_refused() {
    let home = TestHome::new();
    let drives = |code: &str, variables: &str| {
        fs::copy(ovmf(variables), home.path(variables)).unwrap();
        let drive =
            |file: &Path, rest: &str| format!("  - -drive\n  - 'if=pflash,format=raw,file={}{rest}'\n", file.display());
        drive(&ovmf(code), ",readonly=on") + &drive(&home.path(variables), "")
    };
    let vm = |name: &str, code: &str, variables: &str| {
        home.add(&format!("{}args:\n{}", guest::paused_yaml(name), drives(code, variables)));
    };
    vm("big-code", "OVMF_CODE_4M.fd", "OVMF_VARS.fd");
    vm("big-variables", "OVMF_CODE.fd", "OVMF_VARS_4M.fd");
    vm("good", "OVMF_CODE.fd", "OVMF_VARS.fd");
    // The form of libvirt.
    let nodes = |name: &str, variables: &str| {
        let node = |node: &str, file: &Path, rest: &str| {
            let own = format!("driver=raw,node-name={node},file={node}-file{rest}");
            let file = format!("driver=file,node-name={node}-file,filename={}{rest}", file.display());
            format!("  - -blockdev\n  - {file}\n  - -blockdev\n  - {own}\n")
        };
        let nodes = node("p0", &ovmf("OVMF_CODE_4M.fd"), ",read-only=on") + &node("p1", &home.path(variables), "");
        let machine = "machine: {type: q35, pflash0: p0, pflash1: p1}\n";
        home.add(&format!("{}{machine}args:\n{nodes}", guest::paused_yaml(name)));
    };
    nodes("nodes", "OVMF_VARS.fd");
    nodes("good-nodes", "OVMF_VARS_4M.fd");

    let of_nodes = home.json_error(&["start", "nodes"], 4);
    home.json(&["start", "good-nodes"]);
    home.json(&["stop", "good-nodes", "--force"]);
    assert_eq!(of_nodes["code"], "firmware.size-conflict", "{of_nodes}");
    let refused = ["big-code", "big-variables"].map(|name| home.json_error(&["start", name], 4));
    home.json(&["start", "good"]);
    home.json(&["stop", "good", "--force"]);

    for (error, files) in refused.iter().zip([["OVMF_CODE_4M.fd", "OVMF_VARS.fd"], ["OVMF_CODE.fd", "OVMF_VARS_4M.fd"]])
    {
        assert_eq!(error["code"], "firmware.size-conflict", "{error}");
        assert!(files.iter().all(|file| error["message"].as_str().unwrap().contains(file)), "{error}");
    }
}

/// QEMU says "could not load PC BIOS" to each.
#[test]
fn test_firmware_image_that_qemu_cannot_load_is_refused() {
    let home = TestHome::new();
    let missing = home.path("missing.fd");
    let vm = |name: &str, rest: &str| home.add(&format!("{}{rest}\n", guest::paused_yaml(name)));
    vm("file", &format!("firmware: {}", missing.display()));
    vm("code", "firmware: /usr/share/OVMF/OVMF_CODE_4M.fd");
    vm("folder", "firmware: /usr/share/OVMF/.");
    vm("bios", &format!("args: [-bios, {}]", missing.display()));
    vm("flash", &format!("args: [-pflash, {}]", missing.display()));
    vm("good", "args: [-bios, /usr/share/ovmf/OVMF.fd]");

    let [file, bios, flash] = ["file", "bios", "flash"].map(|name| home.json_error(&["start", name], 3));
    let [code, folder] = ["code", "folder"].map(|name| home.json_error(&["start", name], 2));
    home.json(&["start", "good"]);
    home.json(&["stop", "good", "--force"]);

    let message = format!("firmware image `{}` not found", missing.display());
    for error in [file, bios, flash] {
        assert_eq!((&error["code"], &error["message"]), (&json!("firmware.image-not-found"), &json!(message)));
    }
    assert_eq!(code["code"], "firmware.image-invalid", "{code}");
    assert!(code["message"].as_str().unwrap().ends_with("has 3653632 bytes, and QEMU loads whole multiples of 64 KiB"));
    assert!(code["hints"][0].as_str().unwrap().starts_with("set `firmware: uefi`"), "{code}");
    assert_eq!(folder["code"], "firmware.image-invalid", "{folder}");
}

/// Debian has no package of firmware for that architecture, which a host could have installed.
#[test]
fn test_uefi_is_that_of_the_architecture_of_the_binary() {
    let home = TestHome::new();
    let binary = home.path("qemu-system-loongarch64");
    std::os::unix::fs::symlink(maqet_testkit::qemu::emulator(), &binary).unwrap();
    let files = [home.write("CODE.fd", vec![0; 1 << 16]), home.write("VARS.fd", vec![0; 1 << 16])];
    let define = |name: &str, machine: &str| {
        home.add(&format!("name: {name}\nbinary: {}\nmachine: {machine}\nfirmware: uefi\n", binary.display()));
    };
    define("web", "virt");
    define("board", "ls7a");

    let without = home.json_error(&["start", "web", "--dry-run"], 69);
    describe(&home, "60-own.json", "loongarch64", "virt-*", [&files[0], &files[1]]);
    let line = home.json(&["info", "web", "--command-line"])["command_line"].to_string();
    let board = home.json_error(&["start", "board", "--dry-run"], 69);

    assert_eq!(without["message"], "no UEFI firmware for `loongarch64` is installed");
    assert!(line.contains(&format!("filename={}", files[0].display())), "{line}");
    assert!(line.contains("-accel tcg"), "{line}");
    assert_eq!(board["message"], "no UEFI firmware for the machine type `ls7a` of `loongarch64` is installed");
    assert!(board["hints"][0].as_str().unwrap().contains("`virt-*`"), "{board}");
}
