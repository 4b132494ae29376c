//! Drives that are block devices of the host: loop devices, as there are neither disks nor CD drives for tests.

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest, namespaces};

/// A loop device, which is detached on drop.
struct Loop {
    device: PathBuf,
}

impl Loop {
    /// Makes a file a block device; reports the test as skipped on a host where that is not possible.
    fn attach(file: &Path, test: &str) -> Option<Self> {
        match Command::new("losetup").args(["--find", "--show"]).arg(file).output() {
            Ok(output) if output.status.success() => {
                let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
                Some(Self { device })
            }
            other => {
                // The test passes, and `eprintln!` would be captured.
                let written = writeln!(stderr(), "{test} is SKIPPED: this host has no loop devices ({other:?})");
                written.expect("standard error can be written");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn qemu_img(home: &TestHome, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(home.root()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn test_start_drives_that_are_block_devices_run() {
    let home = TestHome::new();
    let name = "block_devices::test_start_drives_that_are_block_devices_run";
    let boot = BootSector::new("from a device", AfterMarker::Sleep).write(&home);
    fs::OpenOptions::new().write(true).open(&boot).unwrap().set_len(1 << 20).unwrap();
    qemu_img(&home, &["create", "-q", "-f", "qcow2", "image.qcow2", "1M"]);
    fs::OpenOptions::new().write(true).open(home.path("image.qcow2")).unwrap().set_len(2 << 20).unwrap();
    home.write("cd.iso", vec![0; 1 << 20]);
    home.write("spare.raw", vec![0; 1 << 20]);
    let files = [boot.clone(), home.path("image.qcow2"), home.path("cd.iso"), home.path("spare.raw")];
    let Some(loops) = files.iter().map(|file| Loop::attach(file, name)).collect::<Option<Vec<_>>>() else { return };
    let [disk, image, cd, spare] = [0, 1, 2, 3].map(|index: usize| loops[index].device.to_str().unwrap());
    let yaml = format!(
        "name: web\naccel: tcg\nmemory: 16M\nstorage:\n  \
         - {{name: boot, type: raw, interface: ide, file: {disk}}}\n  \
         - {{name: image, type: qcow2, file: {image}}}\n  - {{name: cd, type: iso, file: {cd}}}\n  \
         - {{name: over, size: 1M, backing_file: {cd}, backing_format: raw}}\n"
    );
    let file = home.write("vm.yaml", yaml);
    home.json(&["add", file.to_str().unwrap()]);

    home.maqet(["start", "web", "--wait", "serial:from a device", "--timeout", "60s"]).run().ok();
    let line = home.json(&["info", "web", "--command-line"])["command_line"].as_str().unwrap().to_owned();
    let plugged = home.json(&["qmp", "device-add", "web", "virtio-blk-pci", "--file", spare, "--file-format", "raw"]);
    let disks = home.json(&["inspect", "web"]);
    home.json(&["stop", "web", "--force"]);

    assert_eq!(line.matches("driver=host_device").count(), 3, "{line}");
    assert!(line.contains(&format!("filename={disk}")), "{line}");
    assert!(plugged["id"].is_string(), "{plugged}");
    assert!(disks.to_string().contains(&format!("\"{spare}\"")), "{disks}");
    assert!(fs::metadata(disk).is_ok(), "the device is left alone");
    home.json(&["rm", "web", "--delete-storage"]);
    assert!(fs::metadata(image).is_ok(), "the device is left alone");
}

/// Attaches a file as a device with a file system, and returns it with a directory to mount it at; `None` where this host has
/// no loop devices.
fn with_file_system(home: &TestHome, file: &Path, test: &str) -> Option<(Loop, PathBuf)> {
    let attached = Loop::attach(file, test)?;
    let made = Command::new("mkfs.ext2").arg("-q").arg(&attached.device).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let folder = home.path("mounted");
    fs::create_dir(&folder).unwrap();
    Some((attached, folder))
}

/// A file system that the host and a guest write at the same time is lost.
#[test]
fn test_start_mounted_block_device_is_refused() {
    const NAME: &str = "block_devices::test_start_mounted_block_device_is_refused";
    namespaces::within_mounts(NAME, || {
        let home = TestHome::new();
        let file = home.write("disk.raw", vec![0; 2 << 20]);
        let Some((attached, folder)) = with_file_system(&home, &file, NAME) else { return };
        let device = attached.device.to_str().unwrap();
        let vm = |name: &str, rest: &str| {
            home.add(&format!(
                "{}storage: [{{name: hdd, type: raw, file: {device}{rest}}}]\n",
                guest::paused_yaml(name)
            ));
        };
        vm("web", "");
        vm("reader", ", readonly: true");

        assert!(Command::new("mount").arg(device).arg(&folder).status().unwrap().success());
        let refused = home.json_error(&["start", "web"], 75);
        home.json(&["start", "reader"]);
        home.json(&["stop", "reader", "--force"]);
        assert!(Command::new("umount").arg(&folder).status().unwrap().success());
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);

        assert_eq!(refused["code"], "storage.device-in-use", "{refused}");
        assert_eq!(
            refused["message"],
            format!("block device `{device}` is mounted, or in use by another driver of the host")
        );
    });
}

/// The same for those that are attached under `arguments`, and for a file that the host has mounted by a loop device.
#[test]
fn test_start_mounted_image_of_any_form_is_refused() {
    const NAME: &str = "block_devices::test_start_mounted_image_of_any_form_is_refused";
    namespaces::within_mounts(NAME, || {
        let home = TestHome::new();
        let file = home.write("disk.raw", vec![0; 2 << 20]);
        let Some((attached, folder)) = with_file_system(&home, &file, NAME) else { return };
        let device = attached.device.to_str().unwrap();
        assert!(Command::new("mount").arg(device).arg(&folder).status().unwrap().success());
        let refused = |keys: &str| {
            home.add(&format!("name: web\naccel: tcg\nmemory: 16M\n{keys}\n"));
            let error = home.json_error(&["start", "web"], 75);
            home.json(&["rm", "web"]);
            assert_eq!(error["code"], "storage.device-in-use", "{keys}: {error}");
            error
        };
        for keys in [
            format!("arguments: [{{drive: \"file={device},format=raw,if=virtio\"}}]"),
            format!("arguments: [{{hdb: {device}}}]"),
            format!("args: [-blockdev, \"driver=host_device,filename={device},node-name=d\"]"),
            format!("args: [-object, \"memory-backend-file,id=m,size=2M,mem-path={device},share=on\", -snapshot]"),
        ] {
            let error = refused(&keys);
            assert!(
                error["message"].as_str().unwrap().starts_with(&format!("block device `{device}` is mounted")),
                "{error}"
            );
        }
        for keys in ["storage: [{name: hdd, type: raw, file: disk.raw}]", "arguments: [{hda: disk.raw}]"] {
            let error = refused(keys);
            let expected =
                format!("`{}` is mounted, or in use by another driver of the host, by `{device}`", file.display());
            assert!(error["message"].as_str().unwrap().contains(&expected), "{error}");
            assert!(error["hints"][0].as_str().unwrap().contains(&format!("`lsblk {device}`")), "{error}");
        }
        let read = format!("arguments: [S, {{drive: {{file: {device}, format: raw, if: virtio, readonly: true}}}}]");
        home.add(&format!("name: web\naccel: tcg\nmemory: 16M\n{read}\n"));
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
        assert!(Command::new("umount").arg(&folder).status().unwrap().success());

        // Not mounted any more, but one image.
        home.add(&format!(
            "name: both\naccel: tcg\nmemory: 16M\nstorage: [{{name: hdd, type: raw, file: disk.raw}}]\n\
             arguments: [{{hdb: {device}}}]\n"
        ));
        let twice = home.json_error(&["start", "both"], 2);
        assert_eq!(twice["code"], "storage.use-conflict", "{twice}");
        assert_eq!(
            twice["message"],
            format!("VM `both` uses `{}` twice: `{device}` is a part or a view of it", file.display())
        );
    });
}
