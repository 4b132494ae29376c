//! Starts that fail because of what the host lacks or does not permit: KVM, low ports, taps, bridges, memory, files.
//!
//! The host of the tests is changed for them: by mounts and networks of their own, and without privileges. QEMU is the
//! real one, and so are its messages.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use maqet_testkit::{TestHome, namespaces, qemu};
use serde_json::Value;

/// Devices of the host without `/dev/kvm` and `/dev/net/tun`, which a test then creates as it needs them.
const OWN_DEVICES: &str = "
    mount -t tmpfs none /mnt && mkdir /mnt/dev && cd /mnt
    for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
    for folder in pts shm; do mkdir dev/$folder; mount --rbind /dev/$folder dev/$folder; done
    ln -s /proc/self/fd dev/fd; ln -s pts/ptmx dev/ptmx; mkdir dev/net
    touch dev/net/tun; mount --bind /dev/net/tun dev/net/tun
    mount --rbind dev /dev";

/// Runs commands in the home.
fn host(home: &TestHome, script: &str) {
    let status = Command::new("sh").args(["-e", "-c", script]).current_dir(home.root()).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Returns what runs a command without the privileges of root.
fn unprivileged() -> Vec<OsString> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    let options = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    let options = options.map(OsString::from);
    if is_root { options.to_vec() } else { options[..1].to_vec() }
}

/// Returns the error of a start with these keys, run through `launcher`.
#[track_caller]
fn refused(home: &TestHome, launcher: &[OsString], keys: &str, exit: i32) -> Value {
    let accelerator = if keys.contains("accel") { "" } else { "accel: tcg\n" };
    let memory = if keys.contains("memory: ") { "" } else { "memory: 32M\n" };
    home.add(&format!("name: web\n{accelerator}{memory}{keys}"));
    let start = home.maqet(["start", "web", "--format", "json"]).through(launcher);
    let error = start.run().code(exit).json_error()["error"].clone();
    home.json(&["rm", "web"]);
    assert!(!error["hints"].to_string().contains("--command-line"), "{keys}: {error}");
    error
}

/// Checks the code, a part of the message, and a part of a hint.
#[track_caller]
fn check(error: &Value, [code, cause, hint]: [&str; 3]) {
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().unwrap().contains(cause), "{error}");
    assert!(error["hints"].to_string().contains(hint), "{error}");
}

#[test]
fn test_kvm_that_is_missing_or_not_permitted_says_so() {
    namespaces::within_mounts("host_failures::test_kvm_that_is_missing_or_not_permitted_says_so", || {
        let home = TestHome::new();
        host(&home, &OWN_DEVICES.replace("touch dev/net/tun; mount --bind /dev/net/tun dev/net/tun", ""));
        // maqet itself does not choose KVM here.
        let keys = "arguments: [{accel: kvm}]\n";
        let mode = |mode| fs::set_permissions("/dev/kvm", Permissions::from_mode(mode)).unwrap();

        let missing = refused(&home, &[], keys, 69);
        let by_key = refused(&home, &[], "accel: kvm\n", 69);
        let falls_back = refused(&home, &[], "arguments: [{accel: kvm}, {accel: tcg}, {device: e1000, x: 1}]\n", 2);
        fs::write("/dev/kvm", "").unwrap();
        mode(0o000);
        let not_permitted = refused(&home, &unprivileged(), keys, 69);
        mode(0o600);
        let cpu = |flags: &str| {
            fs::write(home.path("cpuinfo"), format!("processor\t: 0\nflags\t\t: {flags}\n")).unwrap();
        };
        cpu("fpu sse2");
        host(&home, "mount --bind cpuinfo /proc/cpuinfo");
        let hanging = refused(&home, &[], keys, 69);
        let machine = refused(&home, &[], "machine: {type: q35, accel: \"kvm:tcg\"}\n", 69);
        cpu("fpu sse2 vmx");
        let other = refused(&home, &[], keys, 69);

        for error in [&hanging, &machine] {
            check(
                error,
                ["host.kvm-unavailable", "guests would hang", "remove it from `machine`, `arguments` or `args`"],
            );
        }
        check(&missing, ["host.kvm-unavailable", "KVM is missing: `/dev/kvm` does not exist", "modprobe kvm_intel"]);
        check(
            &by_key,
            ["host.kvm-unavailable", "`/dev/kvm` does not exist", "set `accel: tcg` for software emulation"],
        );
        check(&falls_back, ["device.property-not-found", "no property `x`", "e1000,help"]);
        check(&not_permitted, ["host.kvm-unavailable", "not permitted to use KVM", "usermod -aG kvm"]);
        check(&other, ["host.kvm-unavailable", "KVM does not work: ", "accel: tcg"]);
    });
}

#[test]
fn test_low_ports_that_only_root_may_use_say_so() {
    namespaces::within("host_failures::test_low_ports_that_only_root_may_use_say_so", || {
        let home = TestHome::new();
        host(&home, "ip link set lo up");
        for (keys, port) in [
            ("network: {forward: [\"127.0.0.1:80:22\"]}\n", "TCP port 80"),
            ("network: {forward: [\"udp:127.0.0.1:53:53\"]}\n", "UDP port 53"),
            ("serial: \"tcp:127.0.0.1:81,server=on,wait=off\"\n", "TCP port 81"),
            ("arguments: [{netdev: \"socket,id=n,listen=127.0.0.1:82\"}]\n", "TCP port 82"),
            ("arguments: [{netdev: \"socket,id=n,udp=127.0.0.1:9,localaddr=127.0.0.1:83\"}]\n", "UDP port 83"),
        ] {
            let error = refused(&home, &unprivileged(), keys, 69);

            check(&error, ["host.port-refused", port, "ip_unprivileged_port_start"]);
        }
    });
}

#[test]
fn test_tap_devices_that_cannot_be_used_say_why() {
    namespaces::within("host_failures::test_tap_devices_that_cannot_be_used_say_why", || {
        let home = TestHome::new();
        let user = unprivileged();
        host(&home, "ip tuntap add tap7 mode tap; ip tuntap add tap8 mode tap user 1");
        let keys = "sandbox: false\nnetwork: {mode: tap, interface: tap7}\n";
        let script = "sandbox: false\narguments: [{netdev: \"tap,id=n,ifname=tap7,script=/bin/false\"}]\n";

        let failed_script = refused(&home, &[], script, 69);
        let foreign = "arguments: [{netdev: \"tap,id=n,ifname=tap8,script=no,downscript=no\"}]\n";
        let foreign = refused(&home, &user, foreign, 69);
        home.add(&format!("name: first\naccel: tcg\nmemory: 32M\n{keys}"));
        home.json(&["start", "first", "--paused"]);
        let busy = refused(&home, &[], keys, 69);
        home.json(&["stop", "first", "--force"]);
        host(&home, &OWN_DEVICES.replace("mount --bind /dev/net/tun dev/net/tun", "chmod 0 dev/net/tun"));
        let not_permitted = refused(&home, &user, keys, 69);
        fs::remove_file("/dev/net/tun").unwrap();
        let missing = refused(&home, &[], keys, 69);

        check(&failed_script, ["host.tap-unavailable", "script `/bin/false` of a tap device failed", "script: no"]);
        check(
            &foreign,
            ["host.tap-unavailable", "`tap8` cannot be used: Operation not permitted", "ip tuntap add tap8"],
        );
        check(&busy, ["host.tap-unavailable", "another VM, uses tap device `tap7`", "ip tuntap add NAME"]);
        check(&not_permitted, ["host.tap-unavailable", "you may not use tap devices", "chmod a+rw /dev/net/tun"]);
        check(&missing, ["host.tap-unavailable", "the host has no tap devices", "modprobe tun"]);
    });
}

#[test]
fn test_bridges_that_the_helper_refuses_say_why() {
    namespaces::within("host_failures::test_bridges_that_the_helper_refuses_say_why", || {
        let home = TestHome::new();
        host(&home, "mkdir up work; mount -t tmpfs none up; mkdir up/up up/work");
        host(&home, "mount -t overlay none -o lowerdir=/etc,upperdir=up/up,workdir=up/work /etc; rm -rf /etc/qemu");
        host(&home, "ip link add br0 type bridge");
        let allow = |text: &str| {
            fs::create_dir_all("/etc/qemu").unwrap();
            fs::write("/etc/qemu/bridge.conf", text).unwrap();
        };
        let keys = "network: {mode: bridge, bridge: br0}\n";

        let no_file = refused(&home, &[], keys, 69);
        allow("allow br9\n");
        let not_allowed = refused(&home, &[], keys, 69);
        let no_bridge = refused(&home, &[], "network: {mode: bridge, bridge: br9}\n", 69);
        allow("allow br0\n");
        let not_root = refused(&home, &unprivileged(), keys, 69);
        let no_helper = "sandbox: false\narguments: [{netdev: \"bridge,id=n,br=br0,helper=/none\"}]\n";
        let no_helper = refused(&home, &[], no_helper, 69);

        let code = "device.bridge-refused";
        check(
            &no_file,
            [code, "`/etc/qemu/bridge.conf` does not exist", "echo allow br0 | sudo tee -a /etc/qemu/bridge.conf"],
        );
        check(&not_allowed, [code, "does not allow bridge `br0`", "echo allow br0 | sudo tee -a"]);
        check(&no_bridge, [code, "bridge `br9` cannot be used: No such device", "ip link add br9 type bridge"]);
        check(&not_root, [code, "does not run as root", "chmod u+s"]);
        check(&no_helper, [code, "helper failed for bridge `br0`", "ip link show br0"]);
    });
}

#[test]
fn test_limits_of_memory_say_which_one() {
    let home = TestHome::new();
    let limit = |limit: &str| vec![OsString::from("prlimit"), limit.into()];
    let locked = [unprivileged(), limit("--memlock=65536")].concat();

    let address_space = refused(&home, &limit("--as=300000000"), "memory: 1G\n", 69);
    let locked = refused(&home, &locked, "arguments: [{overcommit: {mem-lock: on}}]\n", 69);

    check(&address_space, ["host.memory-full", "little memory", "set less `memory`"]);
    check(&locked, ["host.locked-memory-refused", "lock the guest's RAM", "ulimit -l"]);
}

/// A stand-in for the kernel that is out of memory: only who sends the signal differs.
#[test]
fn test_qemu_that_is_killed_says_that_memory_may_be_short() {
    let home = TestHome::new();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-qmp*|*-mon*) kill -9 $$;; esac\nexec {} \"$@\"\n",
        qemu::emulator().display()
    );
    let binary = home.write("qemu", script);
    fs::set_permissions(&binary, Permissions::from_mode(0o700)).unwrap();

    let killed = refused(&home, &[], &format!("binary: {}\n", binary.display()), 1);

    check(&killed, ["vm.start-failed", "another process killed QEMU, or the kernel did", "dmesg"]);
}

#[test]
fn test_files_without_permission_are_not_said_to_be_missing() {
    let home = TestHome::new();
    let mine = unprivileged();
    let closed = |name: &str| {
        let path = home.write(name, vec![0; 131_072]);
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        path
    };
    let path = closed("closed");
    let path: &Path = &path;
    for firmware in [format!("arguments: [{{bios: {}}}]\n", path.display()), format!("firmware: {}\n", path.display())]
    {
        let error = refused(&home, &mine, &firmware, 69);

        check(&error, ["host.path-refused", "cannot be used", &format!("`ls -ld {}`", path.display())]);
    }
    for (keys, command) in [
        (format!("arguments: [{{kernel: {}}}]\n", path.display()), "sudo chmod a+r"),
        (format!("arguments: [{{smbios: {{file: {}}}}}]\n", path.display()), "sudo chmod a+r"),
        (format!("arguments: [{{acpitable: {{file: {}}}}}]\n", path.display()), "sudo chmod a+r"),
        (format!("arguments: [{{device: loader, file: {}}}]\n", path.display()), "sudo chmod a+r"),
        (format!("arguments: [{{device: e1000, romfile: {}}}]\n", path.display()), "sudo chmod a+r"),
        (format!("arguments: [{{object: secret, id: s, file: {}}}]\n", path.display()), "sudo chown $USER"),
    ] {
        let error = refused(&home, &mine, &keys, 69);

        check(&error, ["qemu.file-refused", "you may not read", &format!("`{command} {}`", path.display())]);
    }
}
