//! Files of the host that a definition names: what is refused before QEMU could harm them, and block devices.

use std::process::Command;

use maqet_testkit::{TestHome, guest};

fn qemu_img(home: &TestHome, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(home.root()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn paused(storage: &str) -> String {
    format!("{}storage:\n{storage}", guest::paused_yaml("web"))
}

/// `qemu-img` 7.2 makes such an overlay without a word, and the guest sees only the beginning of its disk.
#[test]
fn test_start_overlay_smaller_than_its_backing_file_is_refused() {
    let home = TestHome::new();
    for (name, format, size) in
        [("base.qcow2", "qcow2", "2M"), ("odd.raw", "raw", "1048577"), ("other.vmdk", "vmdk", "2M")]
    {
        qemu_img(&home, &["create", "-q", "-f", format, name, size]);
    }
    let overlay = |backing: &str, size: &str| {
        let vm = guest::paused_yaml("web");
        home.write("vm.yaml", format!("{vm}storage: [{{name: over, backing_file: {backing}, size: {size}}}]\n"));
        home.maqet(["config", "check", "vm.yaml", "--format", "json"]).run()
    };

    for (backing, size, backing_size) in
        [("base.qcow2", "1M", "2M"), ("odd.raw", "1M", "1049088"), ("other.vmdk", "1536K", "2M")]
    {
        let refused = overlay(backing, size).code(2);
        let path = home.path(backing);
        let message =
            format!("drive `over` has a size of {size}, and its backing file `{}` has {backing_size}", path.display());
        assert!(refused.stderr.contains(&message), "{refused}");
        assert!(refused.stderr.contains(r#""path":"storage[0].size""#), "{refused}");
    }
    for (backing, size) in [("base.qcow2", "2M"), ("base.qcow2", "3M"), ("odd.raw", "1049088"), ("other.vmdk", "2M")] {
        overlay(backing, size).ok();
    }

    // The images of one definition, and a backing file that has grown since.
    let chain = "  - {name: base, size: 2M, file: new.qcow2}\n  - {name: over, size: 1M, backing_file: new.qcow2}\n";
    home.write("chain.yaml", paused(chain));
    let chained = home.maqet(["config", "check", "chain.yaml"]).run().code(2);
    assert!(chained.stderr.contains("its backing file") && chained.stderr.contains("has 2M"), "{chained}");
    let grown = home
        .write("grown.yaml", paused("  - {name: over, size: 2M, backing_file: base.qcow2}\n").replace("web", "grown"));
    home.json(&["add", grown.to_str().unwrap()]);
    qemu_img(&home, &["resize", "-q", "base.qcow2", "4M"]);
    let refused = home.json_error(&["start", "grown"], 2);
    assert_eq!(refused["code"], "storage.size-conflict", "{refused}");
    assert!(!home.data().join("storage/grown/over.qcow2").exists());
}
