use super::*;
use crate::qemu::Switch;

fn rebased(rebase: fn(Node, &Path) -> Node, json: &str) -> String {
    let node: Node = serde_json::from_str(json).unwrap();
    serde_json::to_string(&rebase(node, Path::new("/y"))).unwrap()
}

#[track_caller]
fn check(json: &str, expected: &str) {
    assert_eq!(rebased(rebase_structured, &format!("[{json}]")), format!("[{expected}]"));
}

#[test]
fn test_rebase_structured_files_become_relative_to_the_folder() {
    check(r#"{"kernel":"vmlinuz"}"#, r#"{"kernel":"/y/vmlinuz"}"#);
    check(r#"{"-initrd":"a/b.img"}"#, r#"{"-initrd":"/y/a/b.img"}"#);
    check(r#"{"dtb":"x.dtb"}"#, r#"{"dtb":"/y/x.dtb"}"#);
    check(r#"{"pflash":"code.fd"}"#, r#"{"pflash":"/y/code.fd"}"#);
    check(r#"{"cdrom":"a.iso"}"#, r#"{"cdrom":"/y/a.iso"}"#);
    check(r#"{"drive":{"file":"a.img","if":"ide"}}"#, r#"{"drive":{"file":"/y/a.img","if":"ide"}}"#);
    check(r#"{"drive":null,"file":"a.img"}"#, r#"{"drive":null,"file":"/y/a.img"}"#);
    check(r#"{"fsdev":"local","path":"a","id":"f"}"#, r#"{"fsdev":"local","path":"/y/a","id":"f"}"#);
    check(
        r#"{"blockdev":{"driver":"qcow2","file":{"driver":"file","filename":"a"}}}"#,
        r#"{"blockdev":{"driver":"qcow2","file":{"driver":"file","filename":"/y/a"}}}"#,
    );
    check(
        r#"{"blockdev":{"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","filename":"a"}}}}"#,
        r#"{"blockdev":{"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","filename":"/y/a"}}}}"#,
    );
    check(
        r#"{"drive":"driver=quorum,children.0.file.filename=a,children.1.file.filename=/b,file.file.filename=./c"}"#,
        r#"{"drive":"driver=quorum,children.0.file.filename=/y/a,children.1.file.filename=/b,file.file.filename=/y/./c"}"#,
    );
    check(r#"{"kernel":6.12}"#, r#"{"kernel":"/y/6.12"}"#);
    check(r#"{"drive":{"file":7,"if":"ide"}}"#, r#"{"drive":{"file":"/y/7","if":"ide"}}"#);
    check(r#"{"boot":"order=c,splash=./logo.jpg"}"#, r#"{"boot":"order=c,splash=/y/./logo.jpg"}"#);
    check(r#"{"boot":{"order":"c","splash":"a/l.jpg"}}"#, r#"{"boot":{"order":"c","splash":"/y/a/l.jpg"}}"#);
    check(r#"{"D":"qemu.log"}"#, r#"{"D":"/y/qemu.log"}"#);
    check(r#"{"L":"pc-bios"}"#, r#"{"L":"/y/pc-bios"}"#);
    check(r#"{"mem-path":"ram"}"#, r#"{"mem-path":"/y/ram"}"#);
    check(r#"{"object":"tls-creds-x509,id=t,dir=pki"}"#, r#"{"object":"tls-creds-x509,id=t,dir=/y/pki"}"#);
    check(r#"{"netdev":"user,id=u,tftp=boot"}"#, r#"{"netdev":"user,id=u,tftp=/y/boot"}"#);
    check(
        r#"{"blockdev":"{\"driver\":\"file\",\"filename\":\"a\"}"}"#,
        r#"{"blockdev":"{\"driver\":\"file\",\"filename\":\"/y/a\"}"}"#,
    );
    check(r#"{"serial":"file:a,b.log"}"#, r#"{"serial":"file:/y/a,b.log"}"#);
    check(r#"{"monitor":"unix:m.sock,server=on"}"#, r#"{"monitor":"unix:/y/m.sock,server=on"}"#);
    check(r#"{"serial":"mon:pipe:./p"}"#, r#"{"serial":"mon:pipe:/y/./p"}"#);
    check(
        r#"{"monitor":"unix:m.sock,server=on,logfile=a,,b.log"}"#,
        r#"{"monitor":"unix:/y/m.sock,server=on,logfile=/y/a,,b.log"}"#,
    );
    check(
        r#"{"serial":"telnet:127.0.0.1:1,server,logfile=a.log,wait=off"}"#,
        r#"{"serial":"telnet:127.0.0.1:1,server,logfile=/y/a.log,wait=off"}"#,
    );
    check(r#"{"audio":"driver=wav,model=hda,path=a.wav"}"#, r#"{"audio":"driver=wav,model=hda,path=/y/a.wav"}"#);
    check(r#"{"vnc":"unix:v.sock,password=on"}"#, r#"{"vnc":"unix:/y/v.sock,password=on"}"#);
    check(r#"{"display":"vnc=unix:v.sock"}"#, r#"{"display":"vnc=unix:/y/v.sock"}"#);
    check(r#"{"device":"loader,file=a.elf,cpu-num=0"}"#, r#"{"device":"loader,file=/y/a.elf,cpu-num=0"}"#);
    check(r#"{"device":"e1000,romfile=./a.rom"}"#, r#"{"device":"e1000,romfile=/y/./a.rom"}"#);
    check(
        r#"{"machine":"virt,kernel=Image,firmware=a/b.fd"}"#,
        r#"{"machine":"virt,kernel=/y/Image,firmware=/y/a/b.fd"}"#,
    );
    check(r#"{"drive":"file=a,,b.img,if=ide,id=x"}"#, r#"{"drive":"file=/y/a,,b.img,if=ide,id=x"}"#);
}

/// QEMU would take them from `/`: `fat:rw:../home` is the host's `/home`.
/// Of a name, QEMU looks among its own files.
#[test]
fn test_rebase_key_makes_files_in_both_forms_relative_to_the_folder() {
    let boot = |json: &str| rebased(|node, folder| rebase_key("boot", node, folder), json);

    assert_eq!(boot(r#"{"splash":"./logo.jpg","menu":true}"#), r#"{"splash":"/y/./logo.jpg","menu":true}"#);
    assert_eq!(boot(r#""order=d,splash=./logo.jpg""#), r#""order=d,splash=/y/./logo.jpg""#);
    assert_eq!(boot(r#"{"splash":"logo.jpg"}"#), r#"{"splash":"logo.jpg"}"#);
    assert_eq!(boot(r#""dc""#), r#""dc""#);
}

#[test]
fn test_rebase_structured_files_in_addresses_are_rebased() {
    check(r#"{"drive":"file=fat:rw:../home,if=virtio"}"#, r#"{"drive":"file=fat:rw:/y/../home,if=virtio"}"#);
    check(r#"{"hdb":"fat:floppy:docs"}"#, r#"{"hdb":"fat:floppy:/y/docs"}"#);
    check(r#"{"drive":{"file":"fat:a,b","if":"ide"}}"#, r#"{"drive":{"file":"fat:/y/a,b","if":"ide"}}"#);
    check(r#"{"drive":"driver=vvfat,dir=d,rw=on"}"#, r#"{"drive":"driver=vvfat,dir=/y/d,rw=on"}"#);
    check(
        r#"{"blockdev":{"driver":"raw","file":{"driver":"vvfat","dir":"d"}}}"#,
        r#"{"blockdev":{"driver":"raw","file":{"driver":"vvfat","dir":"/y/d"}}}"#,
    );
    check(r#"{"hda":"nbd:unix:s:exportname=x"}"#, r#"{"hda":"nbd:unix:/y/s:exportname=x"}"#);
    check(r#"{"cdrom":"nbd+unix:///x?socket=s"}"#, r#"{"cdrom":"nbd+unix:///x?socket=/y/s"}"#);
    check(
        r#"{"drive":"driver=nbd,server.type=unix,server.path=s,if=virtio"}"#,
        r#"{"drive":"driver=nbd,server.type=unix,server.path=/y/s,if=virtio"}"#,
    );
    check(
        r#"{"blockdev":{"driver":"nbd","server":{"type":"unix","path":"s"}}}"#,
        r#"{"blockdev":{"driver":"nbd","server":{"type":"unix","path":"/y/s"}}}"#,
    );
    check(r#"{"drive":"file=file:../a,if=ide"}"#, r#"{"drive":"file=file:/y/../a,if=ide"}"#);
    check(r#"{"hda":"blkdebug:r.conf:a.img"}"#, r#"{"hda":"blkdebug:/y/r.conf:/y/a.img"}"#);
    check(
        r#"{"drive":{"file":"json:{\"driver\":\"vvfat\",\"dir\":\"d\"}","if":"ide"}}"#,
        r#"{"drive":{"file":"json:{\"driver\":\"vvfat\",\"dir\":\"/y/d\"}","if":"ide"}}"#,
    );
    check(
        r#"{"spice":"unix=on,addr=s,disable-ticketing=on"}"#,
        r#"{"spice":"unix=on,addr=/y/s,disable-ticketing=on"}"#,
    );
    check(r#"{"spice":{"addr":"s","unix":true}}"#, r#"{"spice":{"addr":"/y/s","unix":true}}"#);
}

#[test]
fn test_rebase_structured_other_values_are_unchanged() {
    for other in [
        r#"{"kernel":"/boot/vmlinuz"}"#,
        r#"{"append":"root=/dev/vda"}"#,
        r#"{"bios":"qboot.rom"}"#,
        r#"{"cdrom":"https://example.com/a.iso"}"#,
        r#"{"drive":{"file":"nbd:localhost:1","if":"ide"}}"#,
        r#"{"drive":"file=json:{},if=ide"}"#,
        r#"{"spice":"port=5930,addr=localhost"}"#,
        r#"{"spice":{"port":5930,"addr":"localhost"}}"#,
        r#"{"drive":"driver=ssh,path=a,server.host=h"}"#,
        r#"{"hda":"fat:/d"}"#,
        r#"{"kernel":"~/vmlinuz"}"#,
        r#"{"L":"help"}"#,
        r#"{"chardev":"socket,id=c,path=x,abstract=on"}"#,
        r#"{"chardev":{"socket":null,"id":"c","path":"x","abstract":true}}"#,
        r#"{"chardev":"socket,id=c,path=x","abstract":"on"}"#,
        r#"{"netdev":{"stream":null,"id":"n","addr":{"type":"unix","path":"x","abstract":true}}}"#,
        r#"{"device":7}"#,
        r#"{"device":"e1000,romfile=efi-e1000.rom"}"#,
        r#"{"device":"e1000,romfile="}"#,
        r#"{"machine":"q35,firmware=bios.bin"}"#,
        r#"{"serial":"file:/a.log"}"#,
        r#"{"serial":"unix:x,abstract=on"}"#,
        r#"{"serial":"tcp:localhost:1"}"#,
        r#"{"serial":"chardev:c"}"#,
        r#"{"vnc":"unix.example:1"}"#,
        r#"{"display":"vnc=:1"}"#,
        r#"{"display":"gtk,gl=on"}"#,
        r#"{"blockdev":"driver=raw,file=f0,node-name=f1"}"#,
        r#"{"kernel":null}"#,
        r#"{"netdev":{"user":null,"id":"file"}}"#,
        r#""S""#,
    ] {
        check(other, other);
    }
    check(r#"{"bios":"./qboot.rom"}"#, r#"{"bios":"/y/./qboot.rom"}"#);
}

#[test]
fn test_rebase_raw_argument_after_its_switch_is_rebased() {
    let raw = r#"["-kernel","vmlinuz","--initrd","i","-S","-drive","if=none,file=a.img","x","-append","a","-dtb",6.5]"#;

    assert_eq!(
        rebased(rebase_raw, raw),
        r#"["-kernel","/y/vmlinuz","--initrd","/y/i","-S","-drive","if=none,file=/y/a.img","x","-append","a","-dtb","/y/6.5"]"#
    );
}

#[test]
fn test_relative_path_warnings_name_switch_and_file() {
    let arguments = vec![
        Switch::verbatim("monitor", "unix:mon.sock,server=on"),
        Switch::new("device").head("loader").option("file", "boot/x.elf"),
        Switch::new("device").head("e1000").option("romfile", "efi-e1000.rom"),
        Switch::new("device").head("e1000").option("romfile", ""),
        Switch::verbatim("append", "root=LABEL"),
        Switch::verbatim("blockdev", "driver=file,filename=raw.img,node-name=f0"),
        Switch::verbatim("blockdev", "driver=raw,file=f0,node-name=f1"),
        Switch::verbatim("serial", "file:/tmp/x"),
        Switch::verbatim("audio", "driver=wav,model=hda"),
        Switch::verbatim("audiodev", "wav,id=a,path=/tmp/a.wav"),
    ];
    let args = ["--serial", "file:out.log", "-D", "qemu.log", "-chardev", "socket,id=c,path=x,abstract=on", "-S"];
    let args = args.map(str::to_owned).to_vec();
    let machine = Machine { arguments, args, ..Machine::default() };

    let warnings: Vec<String> = machine.relative_path_warnings().collect();

    let expected = [
        "`-serial file:out.log`",
        "`-D qemu.log`",
        "`mon.sock` is `/mon.sock`",
        "`boot/x.elf`",
        "`raw.img` is",
        "`/qemu.wav`",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.contains(expected), "{warning}");
    }
}
