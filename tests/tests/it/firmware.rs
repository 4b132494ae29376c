//! UEFI with Secure Boot and with variables of one's own; the topology of CPUs, as a guest sees both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, serial};
use serde_json::Value;

const BOOT: Duration = Duration::from_secs(90);

/// Variables of Debian's firmware with the keys of Microsoft. Its firmware that is used with other variables has none.
const ENROLLED: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

fn variables(home: &TestHome) -> PathBuf {
    home.data().join("storage/web/uefi-vars.qcow2")
}

fn set(home: &TestHome, setting: &str) {
    home.json(&["apply", "web", "--set", setting]);
}

/// The kernel is signed by Debian, and by none of the keys in the variables.
#[test]
fn test_secure_boot_refuses_code_that_is_not_signed() {
    let home = TestHome::new();
    let kernel = fs::read(guest::Files::built().kernel()).unwrap();
    home.write("esp/EFI/BOOT/BOOTX64.EFI", kernel);
    let yaml = |name: &str, is_secure: bool| {
        let drive = format!("{{drive: 'file=fat:{},format=raw,if=virtio,readonly=on'}}", home.path("esp").display());
        format!(
            "name: {name}\nmachine: q35\naccel: tcg\nmemory: 128M\nnetwork: none\nfirmware: {{secure_boot: \
             {is_secure}}}\narguments:\n  - {drive}\n"
        )
    };
    home.add(&yaml("secure", true));
    home.add(&yaml("any", false));

    let logs = ["secure", "any"].map(|name| {
        let started = home.json(&["start", name]);
        PathBuf::from(started["serial_log"].as_str().unwrap())
    });

    serial::wait_for(&logs[0], "Access Denied", BOOT);
    serial::wait_for(&logs[1], "BdsDxe: starting Boot0002", BOOT);
    assert!(!serial::text(&logs[0]).contains("BdsDxe: starting Boot0002"));
    home.json(&["stop", "--all", "--force"]);
}

#[test]
fn test_cpu_topology_is_that_of_the_definition() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "cpu: {sockets: 2, threads: 2}\n"));
    home.json(&["start", "web"]);

    let cpus = home.json(&["qmp", "web", "query-cpus-fast"]);

    let of = |cpu: &Value| ["socket-id", "core-id", "thread-id"].map(|level| cpu["props"][level].as_u64().unwrap());
    let levels: Vec<_> = cpus.as_array().unwrap().iter().map(of).collect();
    assert_eq!(levels, [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]);
}

/// What a store holds decides, and not how this VM came by it: `rm` and `add` leave no record.
#[test]
fn test_secure_boot_is_decided_by_the_content_of_the_variables() {
    let home = TestHome::new();
    let add =
        |firmware: &str| home.add(&format!("{}machine: q35\nfirmware: {{{firmware}}}\n", guest::paused_yaml("web")));
    let run = || {
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
    };
    add("type: uefi");
    run();
    home.json(&["rm", "web"]);
    add("secure_boot: true");
    let without = home.json_error(&["start", "web"], 4);
    home.json(&["rm", "web"]);
    fs::remove_file(variables(&home)).unwrap();
    // With keys, although the record says otherwise.
    add(&format!("type: uefi, code: /usr/share/OVMF/OVMF_CODE_4M.secboot.fd, variables: {ENROLLED}"));
    run();
    set(&home, "firmware={type: uefi, secure_boot: true}");
    run();
    fs::remove_file(variables(&home)).unwrap();
    set(&home, "firmware={secure_boot: true, variables: /usr/share/OVMF/OVMF_VARS_4M.fd}");

    let template = home.json_error(&["start", "web", "--recreate", "uefi-vars"], 4);
    let keyless = home.path("keyless.qcow2");
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "/usr/share/OVMF/OVMF_VARS_4M.fd"].map(Path::new);
    qemu_img(convert.into_iter().chain([keyless.as_path()]));
    set(&home, &format!("firmware={{secure_boot: true, variables: {}}}", keyless.display()));
    let qcow2 = home.json_error(&["start", "web", "--recreate", "uefi-vars"], 4);
    let convert = ["convert", "-c", "-f", "raw", "-O", "qcow2", "/usr/share/OVMF/OVMF_VARS_4M.fd"].map(Path::new);
    qemu_img(convert.into_iter().chain([keyless.as_path()]));
    let compressed = home.json_error(&["start", "web", "--recreate", "uefi-vars"], 2);

    assert_eq!(without["code"], "firmware.variables-conflict", "{without}");
    assert_eq!(template["code"], "firmware.variables-conflict", "{template}");
    assert_eq!(qcow2["code"], "firmware.variables-conflict", "{qcow2}");
    assert!(compressed["message"].to_string().contains("it is compressed"), "{compressed}");
    assert!(!variables(&home).exists());
}

/// With such variables, the firmware would run any code.
#[test]
fn test_secure_boot_with_variables_without_keys_is_refused() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "machine: q35\nfirmware: uefi\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    set(&home, "firmware={type: uefi, secure_boot: true}");

    let refused = home.json_error(&["start", "web"], 4);
    fs::remove_file(variables(&home)).unwrap();
    home.json(&["start", "web", "--recreate", "uefi-vars"]);
    home.json(&["stop", "web", "--force"]);

    assert_eq!(refused["code"], "firmware.variables-conflict", "{refused}");
    home.json(&["start", "web"]);
}

#[test]
fn test_secure_boot_without_firmware_for_the_machine_offers_q35() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "firmware: {type: uefi, secure_boot: true}\n"));

    let refused = home.json_error(&["start", "web"], 69);

    assert_eq!(refused["code"], "host.firmware-not-found", "{refused}");
    assert!(refused["hints"].to_string().contains("set `machine: q35`"), "{refused}");
}

#[test]
fn test_uefi_variables_begin_with_those_of_the_definition() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "machine: q35\nfirmware: {secure_boot: true, variables: own.fd}\n"));
    let own = home.path("own.fd");
    let overlay = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", ENROLLED].map(Path::new);

    let missing = home.json_error(&["start", "web"], 3);
    qemu_img(overlay.into_iter().chain([own.as_path()]));
    let with_backing = home.json_error(&["start", "web"], 2);
    fs::remove_file(&own).unwrap();
    // Its content would be copied, whatever the link leads to by then.
    let data_file = format!("data_file={},data_file_raw=on", home.path("data.raw").display());
    qemu_img(["create", "-q", "-f", "qcow2", "-o", &data_file, own.to_str().unwrap(), "540672"].map(Path::new));
    let with_data_file = home.json_error(&["start", "web"], 2);
    fs::remove_file(&own).unwrap();
    fs::copy(ENROLLED, &own).unwrap();
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    assert!(with_data_file["message"].to_string().contains("it has a data file"), "{with_data_file}");
    assert_eq!(missing["code"], "firmware.variables-not-found", "{missing}");
    assert_eq!(with_backing["code"], "firmware.variables-invalid", "{with_backing}");
    // It fails if they differ.
    let store = variables(&home);
    qemu_img([Path::new("compare"), Path::new("-q"), &own, &store]);
}

/// As of a machine that another program made, with firmware of its own: here the one of Debian with 2 MiB.
#[test]
fn test_uefi_code_of_the_definition_runs_with_its_variables() {
    let home = TestHome::new();
    let [code, variables] = ["CODE", "VARS"].map(|part| format!("/usr/share/OVMF/OVMF_{part}.fd"));
    home.write("code.fd", fs::read(code).unwrap());
    let firmware = format!("firmware: {{code: code.fd, variables: {variables}}}\n");
    home.add(&("name: web\nmachine: q35\naccel: tcg\nmemory: 64M\nnetwork: none\n".to_owned() + &firmware));

    home.json(&["start", "web", "--paused"]);

    let nodes = home.json(&["qmp", "web", "query-named-block-nodes"]);
    let file =
        |name: &str| nodes.as_array().unwrap().iter().find(|node| node["node-name"] == name).unwrap()["file"].clone();
    assert_eq!(file("uefi-code-file"), home.path("code.fd").to_str().unwrap());
    assert_eq!(fs::read(self::variables(&home)).unwrap()[..4], *b"QFI\xfb");
    home.json(&["stop", "web", "--force"]);
}

fn qemu_img<'a>(arguments: impl IntoIterator<Item = &'a Path>) {
    assert!(Command::new("qemu-img").args(arguments).status().unwrap().success());
}
