//! Values of `display`, `vnc`, `serial`, `sound`, `machine`, `cpu_model` and `accel` that QEMU refuses.

use maqet_testkit::qemu;

use super::check_all;

#[test]
fn test_screens_with_a_wrong_value_say_what_fits() {
    let (invalid, conflict) = ("qemu.option-invalid", "device.backend-conflict");
    let vnc = "write it as `- {vnc: \"127.0.0.1:1\"}`, for port 5901, or `- {vnc: \"unix:/PATH\"}`";
    check_all(&[
        ("display: \"vnc=:1:true\"\n", 2, invalid, "`true` in `-display vnc=:1:true` is not the number", vnc),
        ("display: \"vnc=127.0.0.1:x\"\n", 2, invalid, "`x` in `-display", vnc),
        ("arguments: [{vnc: \"127.0.0.1:99999\"}]\n", 2, invalid, "`99999` in `-vnc", vnc),
        ("arguments: [{vnc: \"127.0.0.1:-1\"}]\n", 2, invalid, "`-1` in `-vnc", vnc),
        (
            "display: \"vnc=unix:/tmp/x.maqet,share=nonsense\"\n",
            2,
            invalid,
            "`share`",
            "set `allow-exclusive`, `force-shared` or `ignore`",
        ),
        (
            "display: \"vnc=unix:/tmp/x.maqet,tls-creds=nil\"\n",
            2,
            conflict,
            "no TLS credentials `nil`",
            "add `- {object: tls-creds-x509, id: nil, dir: DIRECTORY, endpoint: server}` under `arguments`, or correct the name \
             in `-display vnc=unix:/tmp/x.maqet,tls-creds=nil`",
        ),
        (
            "arguments: [{vnc: \"unix:/tmp/x.maqet,tls-authz=x\"}]\n",
            2,
            "qemu.option-conflict",
            "`tls-authz` requires TLS",
            "add `tls-creds=ID` to `-vnc unix:/tmp/x.maqet,tls-authz=x`, or remove `tls-authz`",
        ),
        (
            "arguments: [{vnc: \"unix:/tmp/x.maqet,password-secret=nil\"}]\n",
            2,
            conflict,
            "no secret `nil`",
            "add `- {object: secret, id: nil, file: /PATH}` under `arguments`, or correct the name in `-vnc \
             unix:/tmp/x.maqet,password-secret=nil`",
        ),
        (
            "display: \"vnc=unix:/tmp/x.maqet,audiodev=nil\"\n",
            2,
            conflict,
            "no audio backend `nil`",
            "add `- {audiodev: none, id: nil}` under `arguments`, or correct the name in `-display \
             vnc=unix:/tmp/x.maqet,audiodev=nil`",
        ),
        ("display: \"none,gl=on\"\n", 2, "qemu.option-conflict", "no OpenGL", "remove `gl` from `display`"),
    ]);
}

#[test]
fn test_serial_ports_and_sound_with_a_wrong_value_say_what_fits() {
    let serial = "write another one in full, as `file:/PATH`, `unix:/PATH,server=on,wait=off` or \
                  `tcp:127.0.0.1:4444,server=on,wait=off`";
    check_all(&[
        ("serial: \"tcp:127.0.0.1\"\n", 2, "device.backend-conflict", "cannot use `tcp:127.0.0.1`", serial),
        ("serial: \"file:/etc\"\n", 2, "qemu.file-invalid", "`/etc` is a directory", "name a file in `serial`"),
        (
            "serial: \"tcp:127.0.0.1:x\"\n",
            2,
            "qemu.option-invalid",
            "`127.0.0.1:x` has no valid port",
            "write the port as a number, as in `127.0.0.1:4444`, in `-serial tcp:127.0.0.1:x`",
        ),
        ("serial: \"/dev/nosuch\"\n", 3, "qemu.file-not-found", "`/dev/nosuch`", "correct the path in `serial`"),
    ]);
    if !std::path::Path::new("/dev/dsp").exists() {
        let cause = if qemu::is_unpacked() { "`/dev/dsp`" } else { "`oss`" };
        let hint = "set `backend: none` under `sound` for a card without sound";
        check_all(&[("sound: {model: hda, backend: oss}\n", 69, "host.sound-unavailable", cause, hint)]);
    }
}

#[test]
fn test_machines_and_cpus_with_a_wrong_value_name_their_key() {
    let invalid = "qemu.option-invalid";
    check_all(&[
        (
            "machine: \"q35,usb\"\n",
            2,
            invalid,
            "`usb` in `-machine q35,usb` has no value",
            "write it as `usb=on`, `usb=off`, or with another value",
        ),
        ("machine: {type: q35, usb: maybe}\n", 2, invalid, "`usb` expects", "correct it in `machine`"),
        (
            "machine: {type: q35, smp: x}\n",
            2,
            "qemu.option-conflict",
            "`smp` has a value",
            "remove `smp` from `machine`, and use the key or the switch for it",
        ),
        (
            "cpu_model: \"qemu64,family=9999\"\n",
            2,
            invalid,
            "`9999` is not a value of `family`",
            "correct `family` in `cpu_model`: a feature is `on` or `off`, and others are numbers or texts",
        ),
        (
            "cpu_model: \"qemu64,vmx=maybe\"\n",
            2,
            invalid,
            "`maybe` is not a value of `vmx`",
            "correct `vmx` in `cpu_model`: a feature is `on` or `off`, and others are numbers or texts",
        ),
        (
            "cpu_model: \"qemu64,phys-bits=99\"\n",
            2,
            invalid,
            "`phys-bits` of the CPU model is 99",
            "set `phys-bits` from 32 to 52 in `cpu_model`",
        ),
        (
            "cpu_model: \"qemu64,enforce,+vmx\"\n",
            69,
            "host.cpu-features-unavailable",
            "TCG does not have all features",
            "remove `enforce` from `cpu_model` to start without them, which are then warned of",
        ),
        (
            "arguments: [{accel: \"tcg,colour=x\"}]\n",
            2,
            "qemu.option-not-found",
            "accelerator `tcg` has no option `colour`",
            "remove it from `-accel tcg,colour=x`; `qemu-system-x86_64 -help` lists the options of `-accel`",
        ),
        (
            "arguments: [{accel: \"\"}]\n",
            2,
            invalid,
            "is empty",
            "set `accel: tcg` for software emulation, or `accel: auto` to use KVM where it works",
        ),
    ]);
}
