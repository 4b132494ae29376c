//! `doctor` and `start` where this user cannot use files of a VM: nothing is said not to exist that may be there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use crate::damaged_disks::command_without_override;
use crate::health::restricted_findings;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns the messages about VMs.
fn of_vms(findings: &[Value]) -> Vec<&Value> {
    findings.iter().filter(|finding| finding["area"] == "vm" && finding["severity"] == "problem").collect()
}

#[test]
fn test_doctor_file_of_a_vm_in_a_closed_directory_is_a_problem() {
    let home = TestHome::new();
    let closed = home.path("closed");
    fs::create_dir_all(closed.join("share")).unwrap();
    for file in ["seed", "kernel", "initrd", "d.raw", "code.fd", "vars.fd", "image.raw"] {
        fs::write(closed.join(file), vec![0; 1 << 20]).unwrap();
    }
    let cases = [
        ("share", "storage: [{name: s, type: virtfs, path: closed/share}]"),
        ("drive", "storage: [{name: d, type: raw, file: closed/d.raw}]"),
        ("planned", "storage: [{name: d, file: closed/new.qcow2, size: 1M}]"),
        ("code", "firmware: {type: uefi, code: closed/code.fd, variables: closed/vars.fd}"),
        ("bios", "firmware: closed/code.fd"),
        ("listen", "network: [{name: n, mode: stream, listen: closed/socket}]"),
        ("seed", "seed: {user_data: closed/seed}"),
        ("serial", "serial: \"file:closed/log\""),
        ("kernel", "arguments: [{kernel: closed/kernel}]"),
        ("initrd", "args: [-kernel, closed/kernel, -initrd, closed/initrd]"),
        ("socket", "arguments: [{chardev: \"socket,id=c,path=closed/peer\"}]"),
        ("monitor", "arguments: [{monitor: \"unix:closed/monitor,server=on,wait=off\"}]"),
        ("image", "arguments: [{drive: {file: closed/image.raw, format: raw, if: virtio}}]"),
    ];
    for (name, keys) in cases {
        home.add(&format!("name: {name}\naccel: tcg\nmemory: 32M\n{keys}\n"));
    }

    mode(&closed, 0o000);
    let (code, findings) = restricted_findings(&home, &[]);
    mode(&closed, 0o700);
    let (open_code, open) = restricted_findings(&home, &[]);

    assert_eq!(code, Some(1), "{findings:#?}");
    let problems = of_vms(&findings);
    for (name, _) in cases {
        let of_vm: Vec<&str> =
            problems.iter().filter(|one| one["subject"] == name).map(|one| one["message"].as_str().unwrap()).collect();
        assert!(!of_vm.is_empty(), "no problem of `{name}`: {problems:#?}");
        for message in of_vm {
            assert!(message.contains("permission denied"), "{name}: {message}");
            assert!(!message.contains("not exist") && !message.contains("not found"), "{name}: {message}");
        }
    }
    assert!(problems.iter().all(|problem| problem["hint"].is_string()), "{problems:#?}");
    let left = of_vms(&open);
    // Those are no firmware.
    assert!(left.iter().all(|problem| ["code", "bios"].contains(&problem["subject"].as_str().unwrap())), "{left:#?}");
    assert_eq!(open_code.is_some_and(|code| code == 0), left.is_empty());
}

#[test]
fn test_doctor_file_of_a_vm_that_is_missing_is_a_problem() {
    let home = TestHome::new();
    symlink("nothing", home.path("link")).unwrap();
    for (name, keys) in [
        ("kernel", "arguments: [{kernel: none}]"),
        ("serial", "serial: \"file:none/log\""),
        ("link", "arguments: [{kernel: link}]"),
        // The program that listens there is started later.
        ("socket", "arguments: [{chardev: \"socket,id=c,path=none\"}]"),
        ("new", "serial: \"file:new.log\""),
    ] {
        home.add(&format!("name: {name}\naccel: tcg\nmemory: 32M\n{keys}\n"));
    }

    let (code, findings) = restricted_findings(&home, &[]);

    let found: Vec<String> = of_vms(&findings)
        .iter()
        .map(|one| one["message"].as_str().unwrap().replace(home.root().to_str().unwrap(), "HOME"))
        .collect();
    assert_eq!(code, Some(1));
    assert_eq!(
        found,
        [
            "`-kernel` needs `HOME/none`: `HOME/none` does not exist",
            "`-kernel` needs `HOME/link`: `HOME/link` is a symbolic link to `HOME/nothing`, which does not exist",
            "`serial` needs `HOME/none/log`: `HOME/none` does not exist",
        ]
    );
}

/// Neither one that a check has reported, nor one whose path begins with that of another one, hides the rest.
#[test]
fn test_doctor_reports_every_missing_file_of_a_vm_once() {
    let home = TestHome::new();
    let backend = |id: &str| format!("{{object: \"memory-backend-file,id={id},size=16M,mem-path=none-{id}\"}}");
    home.add(&format!(
        "name: web\naccel: tcg\nmemory: 32M\nserial: \"file:/dev/maqet-none\"\narguments: [{}, {}, {{kernel: none}}, \
         {{initrd: none-}}]\n",
        backend("a"),
        backend("b")
    ));

    let (code, findings) = restricted_findings(&home, &[]);

    let of_vm = of_vms(&findings).into_iter().map(|one| one["message"].as_str().unwrap());
    let mut found: Vec<String> = of_vm.map(|text| text.replace(home.root().to_str().unwrap(), "HOME")).collect();
    found.sort();
    let memory = |id: &str| format!("`HOME/none-{id}`, which is to hold the guest's RAM, does not exist");
    let device =
        "`/dev/maqet-none`, which QEMU is to write to, does not exist; as root, it would create a regular file";
    let expected = [
        "`-initrd` needs `HOME/none-`: `HOME/none-` does not exist",
        "`-kernel` needs `HOME/none`: `HOME/none` does not exist",
        device,
        &memory("a"),
        &memory("b"),
    ];
    assert_eq!(code, Some(1));
    assert_eq!(found, expected);
}

#[test]
fn test_start_with_a_share_that_cannot_be_entered_is_refused() {
    let home = TestHome::new();
    let share = home.path("above/share");
    fs::create_dir_all(&share).unwrap();
    home.add(&format!(
        "{}storage: [{{name: s, type: virtfs, path: {}}}]\n",
        guest::paused_yaml("web"),
        share.display()
    ));
    let start = || {
        let output = command_without_override(&home, &["start", "web"]).output().unwrap();
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        (output.status.code(), error["error"].clone())
    };

    mode(&share, 0o000);
    let own = start();
    mode(&home.path("above"), 0o000);
    let above = start();
    mode(&home.path("above"), 0o700);
    mode(&share, 0o700);

    for ((code, error), closed) in [(own, &share), (above, &home.path("above"))] {
        assert_eq!((code, &error["code"]), (Some(69), &json!("host.path-refused")), "{error}");
        assert_eq!(error["message"], format!("`{}` cannot be used", share.display()));
        assert_eq!(error["causes"][0], format!("you may not use `{}`: permission denied", closed.display()));
        assert_eq!(error["hints"][0], format!("correct its owner and its mode: `ls -ld {}`", closed.display()));
    }
}

/// As when `~/.local` is a link to a volume that is not mounted.
#[test]
fn test_doctor_data_below_a_dangling_link_is_a_problem() {
    let home = TestHome::new();
    let link = home.path("local");
    symlink(home.path("volume"), &link).unwrap();
    let data = link.join("share/maqet");

    let (code, findings) = restricted_findings(&home, &["--data-dir", data.to_str().unwrap()]);

    let message = format!(
        "`{}` does not exist, and cannot be created in `{}`: it is a symbolic link to nothing",
        data.display(),
        link.display()
    );
    let found = findings.iter().find(|finding| finding["message"] == message.as_str());
    assert_eq!((code, found.map(|found| &found["severity"])), (Some(1), Some(&json!("problem"))), "{findings:#?}");
}
