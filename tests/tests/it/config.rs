//! The configuration language: the diagnostics of invalid files, and the meaning of existing ones.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use maqet_testkit::{Finished, TestHome};
use serde_json::{Value, json};

/// Returns the files of a folder of this workspace that end in `ending`, in order.
#[track_caller]
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

/// Checks a configuration made here, and asserts that it is refused and nothing is stored.
#[track_caller]
fn refused(content: impl AsRef<[u8]>) -> Value {
    let home = TestHome::new();
    home.write("vm.yaml", content);

    let error = home.json_error(&["config", "check", "vm.yaml"], 2);

    assert_stored_nothing(&home);
    error
}

#[track_caller]
fn assert_stored_nothing(home: &TestHome) {
    assert_eq!(home.json(&["ls"]), json!([]));
    assert_eq!(files_of_vms(home), Vec::<PathBuf>::new());
}

/// Returns all files but the database, the metrics and those the test wrote.
fn files_of_vms(home: &TestHome) -> Vec<PathBuf> {
    let is_database = |path: &Path| {
        path.file_name().is_some_and(|name| name == "metrics" || name.to_string_lossy().starts_with("maqet.db"))
    };
    home.files().into_iter().filter(|path| path.parent() != Some(home.root()) && !is_database(path)).collect()
}

/// Runs `config check NAME.yaml` where the file is; `NAME.over.yaml` beside it is the second file.
fn checked(home: &TestHome, file: &Path) -> Finished {
    let over = file.with_extension("over.yaml");
    let names = [file, &over].into_iter().filter(|path| path.exists()).filter_map(Path::file_name);
    let check = home.maqet(["config", "check"]).args(names).in_folder(file.parent().expect("a file has a folder"));
    // The files of a checkout have any owner and mode.
    check.env("MAQET_ALLOW_INSECURE_CONFIG", "true").run()
}

/// Copies the documented examples into the home, with the backing file that one of them names.
fn examples(home: &TestHome) -> Vec<PathBuf> {
    home.write("examples/base.qcow2", "");
    let copied = files("../docs/examples", ".yaml").into_iter().map(|file| {
        let name = Path::new("examples").join(file.file_name().expect("it is a file"));
        home.write(name, fs::read(&file).expect("the example can be read"))
    });
    copied.collect()
}

#[test]
fn test_broken_files_fail_with_the_expected_diagnostics() {
    let updates = std::env::var_os("UPDATE_DOCS").is_some();
    let broken: Vec<PathBuf> = files("data/broken", ".yaml")
        .into_iter()
        .filter(|path| !path.to_string_lossy().ends_with(".over.yaml"))
        .collect();
    let mut wrong = String::new();

    for file in &broken {
        let home = TestHome::new();
        let reported = checked(&home, file).code(2).stderr;
        assert_stored_nothing(&home);
        let beside = file.with_extension("txt");
        if updates {
            fs::write(&beside, &reported).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if reported != expected {
            writeln!(wrong, "{}\n--- expected\n{expected}--- reported\n{reported}", file.display()).unwrap();
        }
    }

    assert!(broken.len() >= 40, "{}", broken.len());
    assert!(wrong.is_empty(), "{wrong}to accept the new diagnostics: UPDATE_DOCS=1 cargo xtask test");
}

#[test]
fn test_broken_files_and_diagnostics_come_in_pairs() {
    let orphans: Vec<PathBuf> =
        files("data/broken", ".txt").into_iter().filter(|path| !path.with_extension("yaml").exists()).collect();

    assert_eq!(orphans, Vec::<PathBuf>::new());
}

#[test]
fn test_config_binary_file_is_not_text() {
    let elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 64], &[0xff; 64]].concat();

    assert_eq!(refused(elf)["code"], "config.encoding-invalid");
}

#[test]
fn test_config_other_encoding_is_not_text() {
    assert_eq!(refused(b"name: gr\xf6\xdfe\n")["code"], "config.encoding-invalid");
    assert_eq!(refused(b"\xff\xfen\0a\0m\0e\0:\0 \0w\0")["code"], "config.encoding-invalid");
}

#[test]
fn test_config_empty_file_reports_required_keys() {
    for content in ["", "# later\n", "---\n", "null\n"] {
        let home = TestHome::new();
        home.write("vm.yaml", content);

        let reported = home.maqet(["add", "vm.yaml"]).run().code(2).stderr;

        assert!(reported.contains("no VM name given") && reported.contains("`name:`"), "{content:?}: {reported}");
        assert_stored_nothing(&home);
    }
}

#[test]
fn test_config_two_megabyte_file_is_refused_unread() {
    let text = format!("name: web\nlabels: {{note: \"{}\"}}\n", "x".repeat(2 << 20));

    assert_eq!(refused(text)["code"], "config.too-large");
}

#[test]
fn test_config_deep_nesting_fails_at_the_limit() {
    let flow = refused(format!("name: web\nlabels: {}{}\n", "[".repeat(200), "]".repeat(200)));
    let maps = refused(format!("name: web\nlabels: {}1{}\n", "{a: ".repeat(200), "}".repeat(200)));

    for error in [flow, maps] {
        assert_eq!(error["code"], "config.invalid");
        assert_eq!(error["problems"][0]["line"], 2, "{error}");
    }
}

/// Returns a configuration with a thousand drives on one bus.
fn thousand_drives(interface: &str) -> String {
    (0..1000).fold("name: web\nstorage:\n".to_owned(), |mut yaml, number| {
        writeln!(yaml, "  - {{name: d{number}, size: 1M, interface: {interface}}}").expect("a text takes all");
        yaml
    })
}

#[test]
fn test_config_thousand_drives_exceed_the_bus_limit() {
    for (interface, limit) in [("virtio", 28), ("scsi", 256), ("sata", 6), ("nvme", 28)] {
        let error = refused(thousand_drives(interface));

        let reported = error["problems"][0]["message"].as_str().unwrap();
        let expected = format!("too many drives with `interface: {interface}`: 1000, the limit is {limit}");
        assert_eq!(reported, expected);
    }
}

#[test]
fn test_config_thousand_detached_drives_are_valid() {
    let home = TestHome::new();
    home.write("vm.yaml", thousand_drives("none"));

    let checked = home.json(&["config", "check", "vm.yaml"]);

    assert_eq!(checked["definition"]["storage"].as_array().unwrap().len(), 1000);
}

#[test]
fn test_config_documented_examples_are_valid() {
    let home = TestHome::new();
    let examples = examples(&home);

    for example in &examples {
        checked(&home, example).ok();
    }

    assert!(examples.len() >= 5, "{examples:?}");
    assert_eq!(home.json(&["ls"]), json!([]));
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Returns the switches of a command line, each with its values, without those maqet always adds.
fn switches(argv: &Value) -> Vec<String> {
    const OWN: [&str; 15] = [
        "-d cpu_reset",
        "-D ",
        "-name guest=",
        "-uuid ",
        "-sandbox ",
        "-chardev ",
        "-mon ",
        "-pidfile ",
        "-serial chardev:serial0",
        "-accel ",
        "-device {\"driver\":\"virtio-rng-pci\"",
        "-device {\"driver\":\"vmgenid\"",
        "-device {\"driver\":\"virtio-serial-pci\",\"id\":\"maqet-",
        "-device {\"driver\":\"virtconsole\",\"id\":\"maqet-",
        "-device {\"driver\":\"virtserialport\",\"id\":\"maqet-",
    ];
    let words = list(argv).iter().skip(1).map(word);
    let mut switches: Vec<String> = Vec::new();
    for word in words {
        match switches.last_mut() {
            Some(switch) if !word.starts_with('-') => write!(switch, " {word}").expect("a text takes all"),
            Some(_) | None => switches.push(word.to_owned()),
        }
    }
    let is_own = |switch: &str| OWN.iter().any(|own| switch.starts_with(own)) && !switch.contains("id=c0");
    switches.retain(|switch| !is_own(switch));
    switches
}

/// Compares with `tests/data/python/NAME.txt`, switch by switch: for `args` and `forms` the arguments that the Python
/// version passed to QEMU, in its order (except `-vga` of the key), without its three bugs, with a list under an option as
/// this option repeated, and with paths relative to the file; for the others arguments that give the guest the same machine.
#[track_caller]
fn check_python(name: &str) {
    let home = TestHome::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/python");
    // `/home/user` stands for the home of the test.
    let here = home.root().to_str().expect("it is UTF-8").to_owned();
    let read = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).expect("what is expected is there");
        text.replace("/home/user", &here)
    };
    home.write("images/debian.qcow2", "");
    let file = |name: &str| home.write(name, read(name)).into_os_string();
    home.maqet(["add"]).args([file("base.yaml"), file(&format!("{name}.yaml"))]).run().ok();

    let info = home.json(&["info", name, "--command-line"]);

    let given = switches(&info["argv"]);
    let text = read(&format!("{name}.txt"));
    let expected: Vec<&str> = text.lines().collect();
    assert_eq!(info["argv"][0], "/usr/bin/qemu-system-x86_64");
    assert_eq!(given, expected);
}

#[test]
fn test_python_switches_and_raw_arguments_mean_the_same() {
    check_python("args");
}

#[test]
fn test_python_forms_of_arguments_mean_the_same() {
    check_python("forms");
}

#[test]
fn test_python_drives_and_cards_mean_the_same() {
    check_python("dev");
}

#[test]
fn test_python_shared_folder_means_the_same() {
    check_python("share");
}

#[test]
fn test_python_overlay_means_the_same() {
    check_python("overlay");
}
