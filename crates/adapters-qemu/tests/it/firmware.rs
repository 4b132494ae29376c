//! Finding firmware by descriptors in the test's directories.

use std::fs;
use std::path::{Path, PathBuf};

use maqet_adapters_qemu::DescriptorCatalog;
use maqet_domain::port::{FirmwareCatalog, FirmwareError, FirmwareRequest, SecureBoot, UefiFirmware};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{folder, wait};

/// Folders of descriptors, highest precedence first.
struct Shelf {
    root: TempDir,
    folders: Vec<PathBuf>,
}

impl Shelf {
    fn new(folders: [&str; 2]) -> Self {
        let root = folder();
        let folders = folders.map(|name| root.path().join(name)).to_vec();
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        Self { root, folders }
    }

    /// Returns the descriptor of a plain UEFI for q35; its files exist and carry its name.
    fn descriptor(&self, name: &str) -> Value {
        let flash = |kind: &str| {
            let path = self.root.path().join(format!("{name}.{kind}"));
            fs::write(&path, kind).unwrap();
            json!({"filename": path, "format": "raw"})
        };
        json!({
            "description": "a test",
            "interface-types": ["uefi"],
            "mapping": {"device": "flash", "executable": flash("code"), "nvram-template": flash("vars")},
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
            "features": ["acpi-s3", "verbose-dynamic"],
            "tags": [],
        })
    }

    /// Puts a plain descriptor `name`.json, changed by `change`, into a folder.
    fn put(&self, folder: usize, name: &str, change: impl FnOnce(&mut Value)) {
        let mut descriptor = self.descriptor(name);
        change(&mut descriptor);
        self.write(folder, name, descriptor.to_string());
    }

    fn write(&self, folder: usize, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folders[folder].join(format!("{name}.json")), content).unwrap();
    }

    fn find(&self, architecture: &str, machine: &str) -> Result<UefiFirmware, FirmwareError> {
        self.find_for(&request(architecture, machine, SecureBoot::Off))
    }

    fn find_for(&self, request: &FirmwareRequest) -> Result<UefiFirmware, FirmwareError> {
        wait(DescriptorCatalog::new(self.folders.clone()).uefi(request))
    }

    /// Returns the name of the descriptor that is found for q35.
    fn found(&self) -> Option<String> {
        self.find("x86_64", "q35").ok().map(|firmware| stem(&firmware.code))
    }
}

fn request(architecture: &str, machine: &str, secure_boot: SecureBoot) -> FirmwareRequest {
    FirmwareRequest { architecture: architecture.to_owned(), machine: machine.to_owned(), secure_boot }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn shelf() -> Shelf {
    Shelf::new(["user", "packages"])
}

#[test]
fn test_uefi_plain_descriptor_has_files_and_formats() {
    let shelf = shelf();
    shelf.put(1, "60-a", |descriptor| descriptor["mapping"]["nvram-template"]["format"] = json!("qcow2"));

    let firmware = shelf.find("x86_64", "q35").unwrap();

    let expected = UefiFirmware {
        code: shelf.root.path().join("60-a.code"),
        code_format: "raw".to_owned(),
        variables: shelf.root.path().join("60-a.vars"),
        variables_format: "qcow2".to_owned(),
        requires_smm: false,
    };
    assert_eq!(firmware, expected);
}

#[test]
fn test_uefi_other_machine_type_names_the_supported_ones() {
    let shelf = shelf();
    shelf.put(1, "60-a", |_| {});
    shelf.put(1, "70-b", |descriptor| descriptor["targets"][0]["machines"] = json!(["pc-i440fx-*"]));

    let known = vec!["pc-i440fx-*".to_owned(), "pc-q35-*".to_owned()];
    let (architecture, machine) = ("x86_64".to_owned(), "isapc".to_owned());
    assert_eq!(shelf.find("x86_64", "isapc"), Err(FirmwareError::MachineNotFound { architecture, machine, known }));
}

#[test]
fn test_uefi_first_file_name_of_all_folders_is_used() {
    let shelf = shelf();
    shelf.put(0, "50-user", |_| {});
    shelf.put(1, "60-late", |_| {});
    shelf.put(1, "40-early", |_| {});

    assert_eq!(shelf.found().as_deref(), Some("40-early"));
}

#[test]
fn test_uefi_earlier_folder_overrides_same_file_name() {
    let shelf = shelf();
    shelf.put(1, "50-a", |_| {});
    shelf.put(0, "other", |_| {});
    fs::rename(shelf.folders[0].join("other.json"), shelf.folders[0].join("50-a.json")).unwrap();

    assert_eq!(shelf.found().as_deref(), Some("other"));
}

#[test]
fn test_uefi_empty_file_disables_same_file_name() {
    let shelf = shelf();
    shelf.put(1, "50-a", |_| {});
    shelf.put(1, "60-b", |_| {});
    shelf.write(0, "50-a", "");
    std::os::unix::fs::symlink("/dev/null", shelf.folders[0].join("60-b.json")).unwrap();

    assert_eq!(shelf.found(), None);
}

#[test]
fn test_uefi_unusable_descriptors_are_skipped() {
    let shelf = shelf();
    shelf.write(1, "10-no-json", "{");
    shelf.write(1, "11-not-utf8", b"\xff\xfe{}");
    shelf.write(1, "12-other-shape", r#"{"mapping": []}"#);
    shelf.write(1, "13-huge", " ".repeat(1 << 20));
    fs::create_dir(shelf.folders[1].join("14-folder.json")).unwrap();
    mkfifoat(CWD, shelf.folders[1].join("15-fifo.json"), Mode::RUSR | Mode::WUSR).unwrap();
    shelf.put(1, "16-no-file", |descriptor| descriptor["mapping"]["executable"]["filename"] = json!("/nonexistent"));
    shelf.put(1, "17-relative", |descriptor| descriptor["mapping"]["executable"]["filename"] = json!("code.fd"));
    shelf.put(1, "18-half", |descriptor| descriptor["mapping"]["nvram-template"] = Value::Null);
    shelf.put(1, "90-good", |_| {});
    fs::write(shelf.folders[1].join("19-other-ending.txt"), shelf.descriptor("19-other-ending").to_string()).unwrap();

    assert_eq!(shelf.found().as_deref(), Some("90-good"));
}

#[test]
fn test_uefi_other_kinds_of_firmware_are_skipped() {
    let shelf = shelf();
    shelf.put(1, "10-bios", |descriptor| descriptor["interface-types"] = json!(["bios"]));
    shelf.put(1, "11-memory", |descriptor| descriptor["mapping"] = json!({"device": "memory", "filename": "/x"}));
    shelf.put(1, "12-stateless", |descriptor| descriptor["mapping"]["mode"] = json!("stateless"));
    shelf.put(1, "13-combined", |descriptor| descriptor["mapping"]["mode"] = json!("combined"));
    shelf.put(1, "14-secure", |descriptor| descriptor["features"] = json!(["secure-boot"]));
    shelf.put(1, "15-smm", |descriptor| descriptor["features"] = json!(["requires-smm"]));
    shelf.put(1, "16-arm", |descriptor| descriptor["targets"][0]["architecture"] = json!("aarch64"));
    shelf.put(1, "90-split", |descriptor| {
        descriptor["mapping"]["mode"] = json!("split");
        descriptor["interface-types"] = json!(["bios", "uefi"]);
    });

    assert_eq!(shelf.found().as_deref(), Some("90-split"));
}

#[test]
fn test_uefi_enrolled_keys_are_the_second_choice() {
    let shelf = shelf();
    shelf.put(1, "10-keys", |descriptor| descriptor["features"] = json!(["enrolled-keys"]));
    shelf.put(1, "11-keys", |descriptor| descriptor["features"] = json!(["enrolled-keys"]));
    let only_keys = shelf.found();
    shelf.put(1, "90-plain", |_| {});

    assert_eq!((only_keys.as_deref(), shelf.found().as_deref()), (Some("10-keys"), Some("90-plain")));
}

#[test]
fn test_uefi_secure_boot_needs_enrolled_keys_or_own_variables() {
    let shelf = shelf();
    let found = |secure_boot| {
        let found = shelf.find_for(&request("x86_64", "q35", secure_boot));
        found.map(|firmware| (stem(&firmware.code), firmware.requires_smm))
    };
    let none = Err(FirmwareError::SecureBootNotFound { architecture: "x86_64".to_owned(), machine: "q35".to_owned() });
    let named = |name: &str, requires_smm| Ok((name.to_owned(), requires_smm));
    shelf.put(1, "10-plain", |_| {});

    let without = [SecureBoot::Supported, SecureBoot::Enrolled].map(found);
    shelf.put(1, "20-keys", |descriptor| {
        descriptor["features"] = json!(["enrolled-keys", "requires-smm", "secure-boot"]);
    });
    let only_keys = [SecureBoot::Supported, SecureBoot::Enrolled].map(found);
    shelf.put(1, "30-secure", |descriptor| descriptor["features"] = json!(["secure-boot"]));

    assert_eq!(without, [none.clone(), none]);
    assert_eq!(only_keys, [named("20-keys", true), named("20-keys", true)]);
    assert_eq!(
        [SecureBoot::Supported, SecureBoot::Enrolled].map(found),
        [named("30-secure", false), named("20-keys", true)]
    );
    assert_eq!(found(SecureBoot::Off), named("10-plain", false));
}

#[test]
fn test_uefi_machine_matches_short_name_and_full_type() {
    #[track_caller]
    fn check(pattern: &str, machine: &str, expected: bool) {
        let shelf = shelf();
        shelf.put(1, "50-a", |descriptor| descriptor["targets"][0]["machines"] = json!(["other", pattern]));
        assert_eq!(shelf.find("x86_64", machine).is_ok(), expected, "`{machine}` against `{pattern}`");
    }

    check("pc-i440fx-*", "pc", true);
    check("pc-i440fx-*", "q35", false);
    check("pc-q35-*", "pc", false);
    check("pc-q35-*", "pc-q35-7.2", true);
    check("pc-q35-*", "pc-i440fx-7.2", false);
    check("virt-*", "virt", true);
    check("virt", "virt", true);
    check("virt-*", "virt-7.2", true);
    check("pc-q35-7.2", "pc-q35-7.2", true);
    check("pc-q35-7.*", "q35", false);
    check("pc-q35-7.2-*", "pc-q35-7.2", false);
    check("*", "microvm", true);
    check("pc-*", "isapc", false);
    check("pc-q35-?.?", "pc-q35-7.2", true);
}

#[test]
fn test_uefi_no_match_names_the_architecture() {
    let shelf = shelf();
    shelf.put(1, "50-a", |_| {});

    let refused = shelf.find("aarch64", "virt");

    assert_eq!(refused, Err(FirmwareError::NotFound { architecture: "aarch64".to_owned() }));
}

#[test]
fn test_uefi_missing_folders_are_empty() {
    let catalog = DescriptorCatalog::new(vec!["/nonexistent/firmware".into()]);

    assert!(wait(catalog.uefi(&request("x86_64", "q35", SecureBoot::Off))).is_err());
}
