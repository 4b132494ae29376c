//! Images that are opened as raw and are not, and tap devices that do not exist: refused before QEMU harms anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use maqet_testkit::{TestHome, guest, namespaces};

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn create(home: &TestHome, format: &str, name: &str) -> String {
    let path = home.path(name).to_str().unwrap().to_owned();
    qemu_img(&["create", "-q", "-f", format, &path, "1M"]);
    path
}

fn hints(error: &serde_json::Value) -> String {
    error["hints"].to_string()
}

#[test]
fn test_image_of_another_format_is_not_written_as_raw() {
    let home = TestHome::new();
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels"] {
        // The raw image is replaced once the VM is defined.
        let image = create(&home, "raw", &format!("{format}.img"));
        let drive = format!("storage: [{{name: hdd, type: raw, file: {image}}}]\n");
        home.add(&format!("{}{drive}", guest::paused_yaml(format)));
        create(&home, format, &format!("{format}.img"));
        let before = fs::read(&image).unwrap();

        let refused = home.json_error(&["start", format], 2);

        assert_eq!(refused["code"], "storage.format-conflict", "{refused}");
        let hint = if ["qed", "qcow", "parallels"].contains(&format) { "convert" } else { "set `type: " };
        assert!(hints(&refused).contains(hint) && hints(&refused).contains("blockdev"), "{refused}");
        assert_eq!(fs::read(&image).unwrap(), before, "{format}");
        let file = home.write("vm.yaml", format!("name: other\n{drive}"));
        let invalid = home.json_error(&["config", "check", file.to_str().unwrap()], 2);
        assert_eq!(invalid["problems"][0]["path"], "storage[0].type", "{invalid}");
    }
}

#[test]
fn test_image_of_another_format_that_is_only_read_is_a_warning() {
    let home = TestHome::new();
    let image = create(&home, "qcow2", "a.img");
    create(&home, "raw", "base.img");
    let overlay = home.path("overlay.img");
    let base = home.path("base.img");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.to_str().unwrap(), overlay.to_str().unwrap()]);
    create(&home, "vmdk", "base.img");
    let yaml = format!(
        "{}  - {{drive: \"file={image},format=raw,if=none,id=x,readonly=on\"}}\n\
         storage:\n  - {{name: a, type: raw, readonly: true, file: {image}}}\n  - {{name: b, type: iso, file: {image}}}\n  \
         - {{name: c, file: {}}}\n",
        guest::paused_yaml("web"),
        overlay.display()
    );
    home.add(&yaml);

    let started = home.json(&["start", "web"]);

    let warnings: Vec<&str> = started["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), 4, "{started}");
    for (warning, expected) in
        warnings.iter().zip(["drive `a` is raw", "drive `b` is `type: iso`", "base.img`", "`-drive`"])
    {
        assert!(warning.contains(expected) && warning.contains("looks like"), "{warning}");
    }
    home.json(&["stop", "web", "--force"]);
}

/// The way for those who mean it.
#[test]
fn test_image_of_another_format_by_switch_is_refused_or_warned() {
    let home = TestHome::new();
    let image = create(&home, "qcow2", "a.img");
    let drive = home.write("d.yaml", format!("name: a\nargs: [-drive, \"if=virtio,format=raw,file={image}\"]\n"));
    let backing = format!("name: a\nstorage: [{{name: b, backing_file: {image}, backing_format: raw}}]\n");
    let backing = home.write("b.yaml", backing);
    for (file, path) in [(drive, "args[0]"), (backing, "storage[0].backing_format")] {
        let refused = home.json_error(&["add", file.to_str().unwrap()], 2);
        assert_eq!(refused["problems"][0]["path"], path, "{refused}");
    }
    let node = format!("driver: raw, node-name: n, file: {{driver: file, filename: {image}}}");
    home.add(&format!(
        "{}  - {{blockdev: {{{node}}}}}\n  - {{device: virtio-blk-pci, drive: n}}\n",
        guest::paused_yaml("web")
    ));

    let started = home.json(&["start", "web"]);

    assert!(started["warnings"].to_string().contains("`-blockdev` opens"), "{started}");
    home.json(&["stop", "web", "--force"]);
}

/// QEMU empties files for output, and removes those in place of its sockets; it has no lock for them.
#[test]
fn test_image_that_qemu_would_empty_or_remove_is_refused() {
    let home = TestHome::new();
    let disk = create(&home, "qcow2", "d.qcow2");
    let image = create(&home, "vmdk", "x.vmdk");
    let raw = create(&home, "raw", "r.raw");
    fs::hard_link(&raw, home.path("link.raw")).unwrap();
    let before = [&disk, &image, &raw].map(|path| fs::read(path).unwrap());
    let drives = "storage: [{name: d, file: ./d.qcow2}, {name: r, type: raw, file: ./r.raw}]";
    let pmem = "{object: \"memory-backend-file,id=m,size=1M,mem-path=./x.vmdk,share=on\"}";
    let filter = "{netdev: \"user,id=n\"}, {object: \"filter-dump,id=f,netdev=n,file=./x.vmdk\"}";
    let at_check = [
        (format!("{drives}\nserial: file:./d.qcow2"), "serial", "`-serial` would empty"),
        (format!("{drives}\narguments: [{{parallel: file:./link.raw}}]"), "arguments[0]", "`-parallel` would empty"),
        ("arguments: [{hda: ./r.raw}, {D: ./r.raw}]".to_owned(), "arguments[1]", "`-D` would empty"),
        ("args: [-hda, ./r.raw, -D, ./r.raw]".to_owned(), "args[2]", "`-D` would empty"),
        ("arguments: [{chardev: null, id: n, logfile: ./x.vmdk}]".to_owned(), "arguments[0]", "`-chardev` would empty"),
        (
            "arguments: [{monitor: \"unix:./x.vmdk,server=on,wait=off\"}]".to_owned(),
            "arguments[0]",
            "`-monitor` would remove",
        ),
        (format!("arguments: [{pmem}]"), "arguments[0]", "`-object` would write to"),
        (format!("arguments: [{filter}]"), "arguments[1]", "`-object` would empty"),
        ("arguments: [{audiodev: wav, id: w, path: ./x.vmdk}]".to_owned(), "arguments[0]", "`-audiodev` would empty"),
        (
            "arguments: [{audio: \"driver=wav,model=hda,path=./x.vmdk\"}]".to_owned(),
            "arguments[0]",
            "`-audio` would empty",
        ),
        (
            "arguments: [{qmp: \"tcp:127.0.0.1:0,server=on,wait=off,logfile=./x.vmdk\"}]".to_owned(),
            "arguments[0]",
            "`-qmp` would empty",
        ),
        ("display: \"vnc=unix:./x.vmdk\"".to_owned(), "display", "`-display` would remove"),
    ];
    for (keys, at, message) in &at_check {
        let file = home.write("web.yaml", format!("name: web\naccel: tcg\nmemory: 16M\n{keys}\n"));

        let refused = home.json_error(&["config", "check", file.to_str().unwrap()], 2);

        let problem = &refused["problems"][0];
        assert!(problem["path"].as_str().unwrap().starts_with(at), "{keys}: {refused}");
        assert!(problem["message"].as_str().unwrap().starts_with(message), "{keys}: {refused}");
    }
    // Those that are images only once the VM is defined.
    let hidden = [(home.path("x.vmdk"), home.path("x.away")), (home.path("link.raw"), home.path("link.away"))];
    for index in [1, 4, 5, 6, 7, 8, 9, 10, 11] {
        let (keys, _, message) = &at_check[index];
        for (path, away) in &hidden {
            fs::rename(path, away).unwrap();
        }
        home.add(&format!("name: web\naccel: tcg\nmemory: 16M\n{keys}\n"));
        for (path, away) in &hidden {
            fs::rename(away, path).unwrap();
        }

        let refused = home.json_error(&["start", "web"], 2);

        home.json(&["rm", "web"]);
        assert_eq!(refused["code"], "storage.use-conflict", "{keys}: {refused}");
        assert!(refused["message"].as_str().unwrap().starts_with(message), "{keys}: {refused}");
    }
    assert_eq!([&disk, &image, &raw].map(|path| fs::read(path).unwrap()), before);
}

/// A raw image and a CD have no header that tells.
#[test]
fn test_image_of_another_vm_is_not_for_output() {
    let home = TestHome::new();
    let raw = create(&home, "raw", "r.raw");
    let iso = home.write("cd.iso", vec![1; 4096]).display().to_string();
    home.add(&format!(
        "{}storage: [{{name: r, type: raw, file: {raw}}}, {{name: cd, type: iso, file: {iso}}}]\n",
        guest::paused_yaml("db")
    ));
    let before = [&raw, &iso].map(|path| fs::read(path).unwrap());
    fs::hard_link(&raw, home.path("link.raw")).unwrap();
    for file in ["r.raw", "link.raw", "cd.iso"] {
        let yaml = format!("name: web\naccel: tcg\nmemory: 16M\nserial: \"file:./{file}\"\n");
        let path = home.write("web.yaml", yaml);

        let refused = home.json_error(&["config", "check", path.to_str().unwrap()], 2);

        let message = refused["problems"][0]["message"].as_str().unwrap();
        assert!(message.ends_with("which VM `db` uses as an image"), "{message}");
    }
    home.add(&format!("{}serial: \"file:./later.raw\"\n", guest::paused_yaml("later")));
    fs::rename(home.path("link.raw"), home.path("later.raw")).unwrap();

    let refused = home.json_error(&["start", "later"], 2);

    assert_eq!(refused["code"], "storage.use-conflict", "{refused}");
    assert!(refused["message"].as_str().unwrap().ends_with("which VM `db` uses as an image"), "{refused}");
    assert_eq!([&raw, &iso].map(|path| fs::read(path).unwrap()), before);
}

#[test]
fn test_tap_device_that_does_not_exist_is_not_created() {
    namespaces::within("foreign_content::test_tap_device_that_does_not_exist_is_not_created", || {
        let home = TestHome::new();
        let device = |name: &str| Path::new("/proc/self/net/dev_snmp6").join(name).exists();
        home.add(&format!("{}network: {{mode: tap, interface: tap5}}\n", guest::paused_yaml("web")));

        let refused = home.json_error(&["start", "web"], 69);

        assert_eq!(refused["code"], "host.tap-unavailable", "{refused}");
        assert!(hints(&refused).contains("ip tuntap add tap5"), "{refused}");
        assert!(!device("tap5"));
        let switch = |name: &str, netdev: &str| {
            let netdev = format!("  - {{netdev: \"tap,id=n{netdev}\"}}\nsandbox: false\n");
            home.add(&(guest::paused_yaml(name) + &netdev));
        };
        switch("missing", ",ifname=tap6,script=no,downscript=no");
        switch("unnamed", ",script=no,downscript=no");
        switch("long", ",ifname=sixteen-bytes-xy,script=no");
        for name in ["missing", "unnamed", "long"] {
            assert_eq!(home.json_error(&["start", name], 69)["code"], "host.tap-unavailable", "{name}");
        }
        assert!(!device("tap0") && !device("tap6"));
        // The script of QEMU may connect it.
        let script = home.write("script.yaml", "name: script\nsandbox: false\narguments: [{netdev: \"tap,id=n\"}]\n");
        let checked = home.json(&["config", "check", script.to_str().unwrap()]);
        assert!(checked["warnings"][0]["message"].as_str().unwrap().contains("without `ifname`"), "{checked}");
        let tap = Command::new("ip").args(["tuntap", "add", "tap5", "mode", "tap"]).status().unwrap();
        assert!(tap.success());
        home.json(&["start", "web"]);
        let netdev = ["qmp", "device-add", "web", "virtio-net-pci", "--netdev", "tap,ifname=tap6"];
        assert_eq!(home.json_error(&netdev, 69)["code"], "host.tap-unavailable");
        assert!(!device("tap6"));
        home.json(&["stop", "web", "--force"]);
    });
}
