//! The command lines of definitions.

use serde_json::json;

use super::*;
use crate::config::Node;
use crate::machine::builtin_handlers;
use crate::qemu::OptionString;
use crate::qmp::versions::TESTED;
use crate::storage::builtin_drivers;
use crate::vm::BootNumber;

fn command_line(definition: &str) -> CommandLine {
    command_line_for(definition, TESTED[0])
}

fn command_line_for(definition: &str, version: QemuVersion) -> CommandLine {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_str(definition).unwrap();
    let machine = Machine::check(&definition, &handlers).unwrap();
    // They have tests of their own.
    let machine = Machine { agent: machine.agent.or(Some(false)), ..machine };
    let context = LaunchContext {
        name: VmName::parse("web").unwrap(),
        id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
        binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        architecture: machine.arch.unwrap_or("x86_64").to_owned(),
        accelerator: Accelerator::Tcg,
        vm_storage: PathBuf::from("/d/storage/web"),
        paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        uefi: Some(UefiFiles {
            code: PathBuf::from("/fw/code.fd"),
            code_format: "raw".to_owned(),
            variables: PathBuf::from("/d/storage/web/uefi-vars.qcow2"),
            requires_smm: machine.firmware.uefi().is_some_and(|uefi| uefi.secure_boot),
        }),
        credentials: Vec::new(),
        file_kinds: FileKinds::default(),
        tpm: machine.tpm.then(|| Tpm { device: "tpm-crb", directory: PathBuf::from("/d/storage/web") }),
        version,
        is_root: false,
    };
    CommandLine::new(&machine, &context).unwrap()
}

/// Returns the argument of each `-name`.
fn arguments_of<'a>(line: &'a CommandLine, name: &str) -> Vec<&'a str> {
    let switch = format!("-{name}");
    line.args().windows(2).filter(|pair| pair[0] == switch).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn test_command_line_empty_definition_gets_the_defaults() {
    let line = command_line("{}");

    assert_eq!(arguments_of(&line, "m"), ["2G"]);
    assert_eq!(arguments_of(&line, "smp"), ["1"]);
    assert_eq!(arguments_of(&line, "display"), ["none"]);
    assert_eq!(arguments_of(&line, "accel"), ["tcg"]);
    assert_eq!(arguments_of(&line, "name"), ["guest=web"]);
    assert_eq!(arguments_of(&line, "sandbox").len(), 1);
    assert_eq!(arguments_of(&line, "mon").len(), 5);
}

#[test]
fn test_command_line_user_argument_replaces_the_default() {
    let line = command_line(r#"{"memory": "1G", "cpu": 4, "arguments": [{"m": 512}, {"smp": 2}]}"#);

    assert_eq!(arguments_of(&line, "m"), ["512"]);
    assert_eq!(arguments_of(&line, "smp"), ["2"]);
}

#[test]
fn test_command_line_paused_has_the_switch_once() {
    let paused = |definition| command_line(definition).paused();
    let count = |line: &CommandLine| line.args().iter().filter(|arg| *arg == "-S").count();

    assert_eq!((count(&command_line("{}")), count(&paused("{}"))), (0, 1));
    assert_eq!(count(&paused(r#"{"args": ["-S"]}"#)), 1);
}

/// The order of the Python maqet 0.0.15; guests number devices in this order.
#[test]
fn test_command_line_args_are_before_arguments() {
    let line =
        command_line(r#"{"arguments": [{"device": "b"}], "args": ["-device", "a"], "storage": [{"name": "hdd"}]}"#);

    assert_eq!(
        arguments_of(&line, "device"),
        [
            "virtio-blk-pci,drive=hdd,id=hdd",
            "a",
            "b",
            r#"{"driver":"vmgenid","id":"maqet-vmgenid","guid":"auto"}"#,
            r#"{"driver":"virtio-rng-pci","id":"maqet-rng"}"#,
        ]
    );
}

#[test]
fn test_command_line_exit_on_reset_logs_resets() {
    for exits in [
        r#""arguments": ["no-reboot"]"#,
        r#""args": ["-no-reboot"]"#,
        r#""arguments": [{"action": {"reboot": "shutdown"}}]"#,
        r#""args": ["-action", "panic=pause,reboot=shutdown"]"#,
    ] {
        let line = command_line(&format!("{{{exits}}}"));
        assert_eq!(
            (arguments_of(&line, "d"), arguments_of(&line, "D")),
            (vec!["cpu_reset"], vec!["/s/web/boot-1/cpu.log"]),
            "{exits}"
        );
    }
    for other in
        [r#""memory": "1G""#, r#""args": ["-no-reboot", "-d", "int"]"#, r#""args": ["-action", "reboot=reset"]"#]
    {
        assert!(arguments_of(&command_line(&format!("{{{other}}}")), "D").is_empty(), "{other}");
    }
}

#[test]
fn test_command_line_raw_serial_stays_the_first_one() {
    let line = command_line(r#"{"args": ["-serial", "file:/tmp/x"]}"#);

    assert_eq!(arguments_of(&line, "serial"), ["file:/tmp/x"]);
}

/// QEMU refuses RAM whose size differs from that of its backend.
#[test]
fn test_command_line_shared_memory_has_the_size_of_ram() {
    for (rest, size) in [
        (r#""memory": "1G""#, "1G"),
        (r#""memory": "1G", "arguments": [{"m": 512}]"#, "512M"),
        (r#""arguments": [{"m": {"size": "0.3G", "slots": 2}}]"#, "314576K"),
        (r#""args": ["-m", "slots=2,maxmem=8G,size=768M"]"#, "768M"),
        (r#""memory": "1G", "args": ["--m", "slots=2,maxmem=8G"]"#, "1G"),
    ] {
        let share = r#"{"name": "s", "type": "virtiofs", "socket": "/r/s"}"#;
        let line = command_line(&format!(r#"{{"storage": [{share}], {rest}}}"#));

        let expected = format!("memory-backend-memfd,id=shared-memory,size={size},share=on");
        assert_eq!(arguments_of(&line, "object"), [expected], "{rest}");
    }
}

/// `-m` reads a bare number as MiB; QEMU rounds up to 8 KiB.
#[test]
fn test_command_line_memory_of_odd_size_has_a_unit() {
    assert_eq!(arguments_of(&command_line(r#"{"memory": "1048577B"}"#), "m"), ["1032K"]);
}

#[test]
fn test_command_line_disk_without_path_is_in_the_vm_folder() {
    let line = command_line(r#"{"storage": [{"name": "hdd"}]}"#);

    assert!(arguments_of(&line, "blockdev")[0].contains("filename=/d/storage/web/hdd.qcow2"));
    assert_eq!(arguments_of(&line, "device")[0], "virtio-blk-pci,drive=hdd,id=hdd");
}

#[test]
fn test_command_line_snapshot_drive_is_an_overlay() {
    let line = command_line(r#"{"storage": [{"name": "hdd", "type": "raw", "file": "/d/a.raw", "snapshot": true}]}"#);

    let overlay = "driver=file,node-name=hdd-file,filename=/s/web/boot-1/overlays/hdd.qcow2";
    assert_eq!(arguments_of(&line, "blockdev"), [overlay, "driver=qcow2,node-name=hdd,file=hdd-file"]);
    assert!(!line.to_string().contains("/d/a.raw"), "{line}");
}

#[test]
fn test_command_line_two_scsi_disks_share_one_controller() {
    let line = command_line(r#"{"storage": [{"name": "a", "interface": "scsi"}, {"name": "b", "interface": "scsi"}]}"#);

    let controllers = arguments_of(&line, "device").into_iter().filter(|d| d.starts_with("virtio-scsi-pci")).count();
    assert_eq!(controllers, 1);
}

#[test]
fn test_command_line_keys_become_their_switches() {
    let line = command_line(
        r#"{"machine": {"type": "q35", "usb": true}, "cpu_model": "max,+aes", "boot": "c", "serial": "none",
            "sandbox": false, "network": {"forward": ["2222:22", "0:80"]}, "hotplug_ports": 0}"#,
    );

    assert_eq!(arguments_of(&line, "machine"), ["type=q35,usb=on"]);
    assert_eq!(arguments_of(&line, "cpu"), ["max,+aes"]);
    assert_eq!(arguments_of(&line, "boot"), ["c"]);
    assert_eq!(arguments_of(&line, "serial"), ["none"]);
    assert_eq!(arguments_of(&line, "sandbox"), ["off"]);
    let expected = "user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:0-:80";
    assert_eq!(arguments_of(&line, "netdev"), [expected]);
    assert_eq!(arguments_of(&line, "device")[0], "virtio-net-pci,netdev=net0,id=net0-card,mac=52:54:00:0d:9f:2a");
}

#[test]
fn test_command_line_network_none_has_no_card() {
    let line = command_line(r#"{"network": "none"}"#);

    assert_eq!(arguments_of(&line, "nic"), ["none"]);
}

#[test]
fn test_command_line_passt_is_a_helper_and_a_stream() {
    let line = command_line(r#"{"network": [{}, {"mode": "passt", "forward": ["2222:22", "udp:0.0.0.0:53:5353"]}]}"#);

    let helper = "passt --one-off --quiet --socket /r/web/b1/card-1.sock --tcp-ports 127.0.0.1/2222:22 \
                  --udp-ports 0.0.0.0/53:5353";
    let netdevs = arguments_of(&line, "netdev");
    assert_eq!(netdevs[1], "stream,id=net1,server=off,addr.type=unix,addr.path=/r/web/b1/card-1.sock");
    assert_eq!(line.helpers().iter().map(ToString::to_string).collect::<Vec<_>>(), [helper]);
    assert!(line.to_string().starts_with(&format!("{helper} && /usr/bin/qemu-system-x86_64 ")), "{line}");
}

#[test]
fn test_command_line_links_between_vms_are_netdevs() {
    let definition = r#"{"network": [
        {"mode": "stream", "listen": "/run/lab,1.sock", "bootindex": 1},
        {"mode": "stream", "connect": "[::1]:4000"},
        {"mode": "dgram", "remote": "230.0.0.1:1234"},
        {"mode": "dgram", "local": "/run/a", "remote": "/run/b"},
        {"restrict": true, "subnet": "192.168.76.0/24", "forward": ["2222:22"]}
    ]}"#;
    let line = command_line(definition);

    let reconnected = "stream,id=net1,server=off,addr.type=inet,addr.host=::1,addr.port=4000";
    let expected = [
        "stream,id=net0,server=on,addr.type=unix,addr.path=/run/lab,,1.sock",
        reconnected,
        "dgram,id=net2,remote.type=inet,remote.host=230.0.0.1,remote.port=1234",
        "dgram,id=net3,remote.type=unix,remote.path=/run/b,local.type=unix,local.path=/run/a",
        "user,id=net4,net=192.168.76.0/24,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22",
    ];
    assert_eq!(arguments_of(&line, "netdev"), expected);
    assert!(arguments_of(&line, "device")[0].ends_with("id=net0-card,mac=52:54:00:0d:9f:2a,bootindex=1"));
    let newer = command_line_for(definition, TESTED[1]);
    assert_eq!(arguments_of(&newer, "netdev")[1], format!("{reconnected},reconnect-ms=1000"));
}

#[test]
fn test_command_line_uefi_is_two_flash_nodes() {
    let line = command_line(r#"{"firmware": "uefi"}"#);

    assert_eq!(arguments_of(&line, "machine"), ["pflash0=uefi-code,pflash1=uefi-vars"]);
    assert!(arguments_of(&line, "blockdev").contains(&"driver=qcow2,node-name=uefi-vars,file=uefi-vars-file"));
    assert!(arguments_of(&line, "global").is_empty());
}

#[test]
fn test_command_line_secure_boot_protects_the_variables() {
    let line = command_line(r#"{"machine": "q35", "firmware": {"type": "uefi", "secure_boot": true}}"#);

    assert_eq!(arguments_of(&line, "machine"), ["q35", "pflash0=uefi-code,pflash1=uefi-vars,smm=on"]);
    assert_eq!(arguments_of(&line, "global"), ["driver=cfi.pflash01,property=secure,value=on"]);
}

#[test]
fn test_command_line_cpu_map_is_a_topology() {
    let line = command_line(r#"{"cpu": {"cores": 2, "threads": 2}}"#);

    assert_eq!(arguments_of(&line, "smp"), ["4,sockets=1,cores=2,threads=2"]);
}

/// QEMU merges both (7.2, 10.0).
#[test]
fn test_command_line_boot_key_and_switch_are_merged_by_qemu() {
    for (key, switch, expected) in [
        (r#"{"menu": true}"#, "dc", &["menu=on", "dc"][..]),
        (r#""dc""#, "menu=on", &["dc", "menu=on"]),
        (r#""c""#, "order=d", &["order=d"]),
    ] {
        let line = command_line(&format!(r#"{{"boot": {key}, "args": ["-boot", "{switch}"]}}"#));
        assert_eq!(arguments_of(&line, "boot"), expected, "{key} {switch}");
    }
}

#[test]
fn test_command_line_arm_and_riscv_have_defaults_that_work() {
    let cd = r#""storage": [{"name": "cd", "type": "iso", "file": "/cd.iso"}]"#;
    let line = |rest: &str| command_line(&format!(r#"{{{rest}, {cd}, "rng": false, "generation_id": false}}"#));
    let of = |rest: &str| {
        let line = line(rest);
        let all = |name| arguments_of(&line, name).join(" ");
        (all("machine"), all("cpu"), all("device"))
    };
    let scsi = "virtio-scsi-pci,id=scsi scsi-cd,bus=scsi.0,drive=cd,id=cd";
    let expected = |machine: &str, cpu: &str, device: &str| (machine.to_owned(), cpu.to_owned(), device.to_owned());

    assert_eq!(of(r#""arch": "aarch64""#), expected("virt", "max", scsi));
    assert_eq!(of(r#""arch": "riscv64""#), expected("virt", "", scsi));
    assert_eq!(
        of(r#""arch": "aarch64", "machine": {"gic-version": 3}, "cpu_model": "cortex-a72""#),
        expected("virt gic-version=3", "cortex-a72", scsi)
    );
    assert_eq!(of(r#""arch": "aarch64", "machine": "virt-7.2""#), expected("virt-7.2", "max", scsi));
    // Boards have a CPU of their own.
    for board in ["sbsa-ref", "raspi3b", "xlnx-versal-virt"] {
        assert_eq!(of(&format!(r#""arch": "aarch64", "machine": "{board}""#)).1, "");
    }
    let ide = "ide-cd,bus=ide.0,unit=0,drive=cd,id=cd";
    assert_eq!(of(r#""machine": "pc""#), expected("pc", "", ide));
    assert_eq!(of(r#""machine": "microvm""#).2, scsi);
}

/// `on` is the boolean of QEMU's options.
#[test]
fn test_command_line_boolean_in_place_of_a_text_is_as_written() {
    let line = command_line(
        r#"{"rng": false, "generation_id": false, "cpu_model": true, "storage": [
            {"name": "a", "type": "virtfs", "path": "/s", "options": {"mount_tag": true}},
            {"name": "b", "type": "virtiofs", "socket": "/s", "mount_tag": false, "serial": null},
            {"name": "c", "serial": true}], "network": {"model": true}}"#,
    );

    let devices = arguments_of(&line, "device").join(" ");
    for expected in ["mount_tag=true", "tag=false", "serial=true", "true,netdev=net0"] {
        assert!(devices.contains(expected), "{expected}: {devices}");
    }
    assert_eq!(arguments_of(&line, "cpu"), ["true"]);
}

#[test]
fn test_command_line_tpm_is_a_helper_and_a_device() {
    let line = command_line(r#"{"tpm": true}"#);

    let helper = "mkdir -p -m 700 /d/storage/web && swtpm socket --tpm2 --tpmstate dir=/d/storage/web,mode=0600 \
                  --ctrl type=unixio,path=/r/web/b1/tpm.sock,mode=0600 --terminate --daemon";
    assert_eq!(line.helpers().iter().map(ToString::to_string).collect::<Vec<_>>(), [helper]);
    assert_eq!(arguments_of(&line, "tpmdev"), ["emulator,id=tpm,chardev=tpm"]);
    assert_eq!(arguments_of(&line, "device")[0], "tpm-crb,tpmdev=tpm");
    assert!(arguments_of(&line, "chardev").contains(&"socket,id=tpm,path=/r/web/b1/tpm.sock"));
}

#[test]
fn test_command_line_display_is_a_shell_command() {
    let line = command_line(r#"{"arguments": [{"append": "a b 'c'"}], "rng": false, "generation_id": false}"#);

    assert!(line.to_string().ends_with(r"-append 'a b '\''c'\'''"), "{line}");
}

/// Each ID of maqet is refused for something of the user's.
#[test]
fn test_command_line_ids_are_those_that_users_cannot_take() {
    let definition = r#"{"machine": "q35", "firmware": "uefi", "tpm": true, "sound": true, "balloon": true, "watchdog": true,
        "panic": true, "usb": ["tablet"], "numa": 2, "cpu": 2, "network": ["user", {"mode": "stream", "listen": "/a"}],
        "storage": [{"name": "a"}, {"name": "b", "interface": "scsi"}, {"name": "c", "type": "virtfs", "path": "/c"},
            {"name": "d", "type": "virtiofs", "socket": "/d"}, {"name": "e", "interface": "sata", "snapshot": true}]}"#;
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let line = command_line(definition);
    let mut count = 0;
    for pair in line.args().windows(2) {
        let Some(switch) = pair[0].strip_prefix('-') else { continue };
        let options = OptionString::parse(switch, &pair[1]);
        // There is one TPM.
        let key = if switch == "blockdev" { "node-name" } else { "id" };
        let Some(id) = options.get(key).filter(|_| switch != "tpmdev") else { continue };
        let mut with_id: Node = serde_json::from_str(definition).unwrap();
        let argument = format!("{},{key}={id}", if switch == "device" { "e1000" } else { options.head() });
        with_id = with_id.map_entries(|mut entries| {
            entries.push(("args".to_owned(), serde_json::from_value(json!([pair[0], argument])).unwrap()));
            entries
        });

        let problems = Machine::check(&with_id, &handlers).unwrap_err();

        assert!(problems.iter().any(|one| one.message.contains(&format!("the ID `{id}`"))), "{pair:?}: {problems:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn test_command_line_channels_are_ports_of_the_last_device() {
    let line = command_line(r#"{"guest": {"agent": true}, "arguments": [{"device": "e1000"}]}"#);

    let devices = arguments_of(&line, "device");
    let channels: Vec<&str> = devices.iter().copied().filter(|device| device.contains("maqet-serial")).collect();
    assert_eq!((devices.last(), channels.len()), (channels.last(), 16));
    assert_eq!(channels[0], r#"{"driver":"virtio-serial-pci","id":"maqet-serial"}"#);
    let agent = r#"{"driver":"virtserialport","id":"maqet-agent","chardev":"maqet-agent","bus":"maqet-serial.0","nr":2,"name":"org.qemu.guest_agent.0"}"#;
    assert_eq!(channels[3], agent);
    assert!(channels[15].contains(r#""nr":14,"name":"org.maqet.err.4""#), "{}", channels[15]);
    let sockets = arguments_of(&line, "chardev");
    let socket = |id: &str| sockets.iter().filter(|device| device.contains(&format!("id={id},"))).count();
    assert_eq!([socket("maqet-agent"), socket("maqet-in1"), socket("maqet-err4")], [1, 1, 1]);
    assert!(sockets.contains(&"socket,id=maqet-out2,path=/r/web/b1/out2.sock,server=on,wait=off"));
    assert!(!command_line(r#"{"guest": {"agent": false}}"#).to_string().contains("maqet-agent"));
}

#[test]
fn test_command_line_of_a_takeover_has_three_switches_more() {
    let line = command_line(r#"{"machine": "pc"}"#);

    let taking_over = line.clone().taking_over("pc-i440fx-7.2");

    assert_eq!(CommandLine::without_takeover(taking_over.args(), "pc-i440fx-7.2"), line.args());
    assert_eq!(arguments_of(&taking_over, "machine"), ["pc", "type=pc-i440fx-7.2"]);
    assert_eq!(arguments_of(&taking_over, "incoming"), ["defer"]);
    assert_eq!(taking_over.args().last().map(String::as_str), Some("-S"));
    // Another type was chosen otherwise.
    assert_eq!(CommandLine::without_takeover(taking_over.args(), "pc-i440fx-7.1"), taking_over.args());
}
