//! The YAML that defines each guest for the CLI; a test appends what else it needs.

use super::{DebianFiles, Files};

/// Returns the cheapest VM: QEMU and its monitors are up in under 0.1 s, and no CPU ever runs.
#[must_use]
pub fn paused_yaml(name: &str) -> String {
    format!("name: {name}\naccel: tcg\nmemory: 32M\narguments:\n  - S\n")
}

/// Returns a VM that boots the kernel and busybox of `cargo xtask guest`; ready after about 4 s.
///
/// A test appends keys, such as `storage:`, to the text.
#[must_use]
pub fn linux_yaml(name: &str, files: &Files) -> String {
    format!("name: {name}\nmemory: 256M\n{}", linux_boot_yaml(files))
}

/// Returns YAML that makes any VM boot that kernel under software emulation, to be merged over another file.
#[must_use]
pub fn linux_boot_yaml(files: &Files) -> String {
    let kernel = quoted(&files.kernel());
    let initramfs = quoted(&files.initramfs());
    format!(
        "accel: tcg\narguments:\n  - {{kernel: {kernel}}}\n  - {{initrd: {initramfs}}}\n  \
         - {{append: \"console=ttyS0 quiet\"}}\n"
    )
}

/// Returns a VM that boots the Debian system of `cargo xtask guest debian`, on an overlay of its disk; its agent answers after
/// 20 to 40 s, and its serial line has a shell of root before.
#[must_use]
pub fn debian_yaml(name: &str, files: &DebianFiles) -> String {
    // The terminal is the shell's, and what no test uses costs time at boot.
    let masked = ["serial-getty@ttyS0", "getty@tty1", "systemd-logind", "ssh"]
        .map(|unit| format!(" systemd.mask={unit}.service"))
        .concat();
    let [kernel, initramfs, disk] = [files.kernel(), files.initramfs(), files.disk()].map(|file| quoted(&file));
    format!(
        "name: {name}\nmemory: 384M\naccel: tcg\n\
         storage: [{{name: root, backing_file: {disk}, backing_format: qcow2}}]\n\
         arguments:\n  - {{kernel: {kernel}}}\n  - {{initrd: {initramfs}}}\n  \
         - {{append: \"console=ttyS0 cloud-init=disabled systemd.debug_shell=ttyS0{masked}\"}}\n"
    )
}

/// What the only program of [`agent_yaml`] is: the guest agent, with the ports at the names that systemd gives them, once the
/// kernel has them, which is after its module was loaded.
const AGENT_INIT: &str = "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; \
    mount -t tmpfs run /run; modprobe virtio_console; mkdir -p /dev/virtio-ports; \
    until [ -e /dev/virtio-ports/org.qemu.guest_agent.0 ]; do \
    for port in /sys/class/virtio-ports/*; do read name <$port/name && ln -sf ../${port##*/} /dev/virtio-ports/$name; done; \
    done; exec qemu-ga";

/// Returns a VM with nothing but the guest agent of that system, which answers after a third of the time; the disk of the
/// system itself is the drive, for commands that do not write it.
#[must_use]
pub fn agent_yaml(name: &str, files: &DebianFiles) -> String {
    let [kernel, initramfs, disk] = [files.kernel(), files.initramfs(), files.disk()].map(|file| quoted(&file));
    format!(
        "name: {name}\nmemory: 256M\naccel: tcg\nnetwork: none\nstorage: [{{name: root, file: {disk}}}]\n\
         arguments:\n  - {{kernel: {kernel}}}\n  - {{initrd: {initramfs}}}\n  \
         - append: 'console=ttyS0 quiet init=/bin/sh -- -c \"{AGENT_INIT}\"'\n"
    )
}

/// Returns a VM that boots the same system with cloud-init and sshd, and with a forwarded port to the latter.
#[must_use]
pub fn seeded_yaml(name: &str, files: &DebianFiles) -> String {
    let masked = ["serial-getty@ttyS0", "getty@tty1", "systemd-logind"]
        .map(|unit| format!(" systemd.mask={unit}.service"))
        .concat();
    let [kernel, initramfs, disk] = [files.kernel(), files.initramfs(), files.disk()].map(|file| quoted(&file));
    format!(
        "name: {name}\nmemory: 384M\naccel: tcg\n\
         storage: [{{name: root, backing_file: {disk}, backing_format: qcow2}}]\n\
         network: [{{mode: user, forward: [\"0:22\"]}}]\n\
         arguments:\n  - {{kernel: {kernel}}}\n  - {{initrd: {initramfs}}}\n  \
         - {{append: \"console=ttyS0{masked}\"}}\n"
    )
}

/// Returns a path as a YAML scalar; JSON's quotes are YAML's double quotes.
pub(super) fn quoted(path: &std::path::Path) -> String {
    serde_json::Value::from(path.to_str().expect("paths of tests are text")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_linux_yaml_path_with_quote_is_one_scalar() {
        let files = Files::in_folder("/a \"b\", c");

        let yaml = linux_yaml("web", &files);

        assert!(yaml.contains(r#"- {kernel: "/a \"b\", c/vmlinuz"}"#), "{yaml}");
    }
}
