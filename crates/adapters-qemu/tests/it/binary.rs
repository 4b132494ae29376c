//! Finding a binary and identifying it.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use maqet_adapters_qemu::QemuHypervisor;
use maqet_domain::port::{BinaryError, Hypervisor};
use maqet_testkit::qemu;

use crate::kit::{environment, folder, script, wait, with_path};

#[test]
fn test_binary_name_is_found_and_cached() {
    wait(async {
        let folder = folder();
        let hypervisor = QemuHypervisor::new(environment(), folder.path().join("cache"), folder.path().join("locks"));

        let first = hypervisor.binary("qemu-system-x86_64").await.unwrap();
        let remembered = hypervisor.binary("qemu-system-x86_64").await.unwrap();

        assert_eq!(first, remembered);
        assert_eq!(first.path, qemu::emulator());
        assert_eq!(first.version.to_string(), qemu::version());
        assert_eq!(std::fs::read_dir(folder.path().join("cache")).unwrap().count(), 1);
    });
}

/// Identifies the script `body`.
#[track_caller]
fn refusal_of(body: &str) -> String {
    wait(async {
        let folder = folder();
        script(folder.path(), "tool", body);
        let path = format!("{}:/bin", folder.path().display());
        let hypervisor =
            QemuHypervisor::new(with_path(&path), folder.path().join("cache"), folder.path().join("locks"));
        match hypervisor.binary("tool").await.unwrap_err() {
            BinaryError::NotQemu { printed, .. } => printed,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn test_binary_other_program_is_not_qemu() {
    assert_eq!(refusal_of("echo bash 5"), "`--version` printed `bash 5` and ended with exit code 0");
    assert_eq!(refusal_of("exit 3"), "`--version` printed nothing and ended with exit code 3");
    assert_eq!(
        refusal_of("echo qemu-img version 7.2.0"),
        "`--version` printed `qemu-img version 7.2.0` and ended with exit code 0"
    );
}

#[test]
fn test_binary_endless_output_is_cut_off() {
    let started = Instant::now();

    assert_eq!(refusal_of("exec cat /dev/zero"), "`--version` printed more than 64 KiB");

    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn test_binary_hanging_times_out() {
    assert_eq!(refusal_of("sleep 1000"), "`--version` did not end within 5 s");
}

#[test]
fn test_binary_not_executable_is_unavailable() {
    wait(async {
        let folder = folder();
        let path = folder.path().join("tool");
        std::fs::write(&path, b"\x7fELF nonsense").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let hypervisor = QemuHypervisor::new(environment(), folder.path().join("cache"), folder.path().join("locks"));

        let refusal = hypervisor.binary(path.to_str().unwrap()).await.unwrap_err();

        assert!(matches!(refusal, BinaryError::NotExecutable { .. }), "{refusal:?}");
    });
}

#[test]
fn test_binary_missing_names_what_was_requested() {
    wait(async {
        let folder = folder();
        let hypervisor = QemuHypervisor::new(environment(), folder.path().join("cache"), folder.path().join("locks"));

        for wanted in ["qemu-system-nowhere", "/nonexistent/qemu", ""] {
            let refusal = hypervisor.binary(wanted).await.unwrap_err();
            assert!(
                matches!(&refusal, BinaryError::NotFound { binary: reported } if reported == wanted),
                "{refusal:?}"
            );
        }
    });
}
