//! `cp` into and from a real Debian guest, which all tests share.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_testkit::Maqet;
use serde_json::Value;

use crate::debian::Booted;

/// Returns `cp` with these arguments.
fn cp<const N: usize>(booted: &Booted, arguments: [&str; N]) -> Maqet {
    booted.0.maqet(["--format", "json", "cp"]).args(arguments).deadline(Duration::from_mins(2))
}

/// Copies, and returns the result.
#[track_caller]
fn copied<const N: usize>(booted: &Booted, arguments: [&str; N]) -> Value {
    cp(booted, arguments).run().ok().json_value()
}

/// Returns the code of the error, and the exit code.
fn refused<const N: usize>(booted: &Booted, arguments: [&str; N]) -> (String, Option<i32>) {
    let failed = cp(booted, arguments).run();
    (failed.json_error()["error"]["code"].as_str().unwrap().to_owned(), failed.code)
}

/// Makes an empty directory in the guest, and one of the host with the same name.
fn directories(booted: &Booted, name: &str) -> (String, PathBuf) {
    let path = booted.0.path(name);
    fs::create_dir(&path).unwrap();
    booted.shell(&format!("mkdir /srv/{name}")).ok();
    (format!("/srv/{name}"), path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file goes in and out with its content, by each way and by streams.
#[test]
fn test_cp_file_goes_in_and_out_by_each_way() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let (guest, host) = directories(&booted, "cp-file");
    let content: Vec<u8> =
        (0..150_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let source = host.join("source");
    fs::write(&source, &content).unwrap();
    fs::set_permissions(&source, Permissions::from_mode(0o4750)).unwrap();

    for via in ["ports", "agent"] {
        let there = copied(&booted, ["-p", "--verify", "--via", via, text(&source), &format!("deb:{guest}")]);
        let back =
            copied(&booted, ["-p", "--verify", "--via", via, &format!("deb:{guest}/source"), text(&host.join(via))]);

        for result in [there, back] {
            assert_eq!((&result["files"], &result["bytes"], &result["via"]), (&1.into(), &600_000.into(), &via.into()));
        }
        let found = fs::metadata(host.join(via)).unwrap();
        assert!(fs::read(host.join(via)).unwrap() == content, "{via}: the content differs");
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o750, source.metadata().unwrap().mtime()), "{via}");
    }
    let (streamed, output) = (format!("deb:{guest}/streamed"), host.join("output"));
    cp(&booted, ["-", &streamed]).stdin(File::open(&source).unwrap()).run().ok();
    let mut out = cp(&booted, [&streamed, "-"]).into_command();
    assert!(out.stdout(File::create(&output).unwrap()).status().unwrap().success());
    assert!(fs::read(&output).unwrap() == content, "the stream differs");
    // A file without a size, and one without content.
    fs::write(host.join("empty"), "").unwrap();
    for (file, name) in [("/proc/sys/kernel/ostype", "ostype"), (text(&host.join("empty")), "empty")] {
        cp(&booted, [file, &format!("deb:{guest}/{name}")]).run().ok();
    }
    let small = booted.shell(&format!("cat {guest}/ostype; wc -c <{guest}/empty; rm {guest}/ostype {guest}/empty"));
    assert_eq!(small.stdout, "Linux\n0\n");
    let left = booted.shell(&format!("ls -A {guest} /var/tmp | grep maqet; ls -l {guest}/source"));
    assert!(left.stdout.starts_with("-rwxr-x---"), "{}", left.stdout);
}

/// A directory goes in and out; links, permissions, patterns and existing content are as documented.
#[test]
fn test_cp_directory_goes_in_and_out() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let (guest, host) = directories(&booted, "cp-tree");
    let tree = host.join("tree");
    let long = "long-name-".repeat(20);
    for directory in ["a/b", "target", &format!("{long}/{long}")] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    for (name, content) in [("a/b/one", "1"), ("a/two\nlines", "2"), ("target/x.o", "3"), ("a/y.o", "4"), ("-n", "")] {
        fs::write(tree.join(name), content).unwrap();
    }
    fs::write(tree.join(&long).join(&long).join("deep"), "5").unwrap();
    fs::write(tree.join("read-only"), "6").unwrap();
    fs::set_permissions(tree.join("read-only"), Permissions::from_mode(0o400)).unwrap();
    symlink("b/one", tree.join("a/link")).unwrap();
    symlink("/etc/passwd", tree.join("out")).unwrap();

    let there = copied(
        &booted,
        ["-rp", "--verify", "--exclude", "target", "--exclude", "a/*.o", text(&tree), &format!("deb:{guest}/new")],
    );
    let back = copied(&booted, ["-rp", "--verify", &format!("deb:{guest}/new"), text(&host)]);
    booted.shell(&format!("echo kept >{guest}/new/kept; echo old >{guest}/new/a/b/one")).ok();
    copied(&booted, ["-r", &format!("{}/.", text(&tree)), &format!("deb:{guest}/new")]);

    assert_eq!((&there["files"], &there["links"], &there["skipped_count"]), (&5.into(), &2.into(), &0.into()));
    assert_eq!((&back["files"], &back["links"], &back["skipped_count"]), (&5.into(), &1.into(), &1.into()));
    assert_eq!((&back["skipped"][0]["path"], &back["verified"]), (&"out".into(), &true.into()));
    let new = host.join("new");
    for name in ["a/b/one", "a/two\nlines", "-n", &format!("{long}/{long}/deep"), "read-only"] {
        assert_eq!(fs::read(new.join(name)).unwrap(), fs::read(tree.join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read_link(new.join("a/link")).unwrap(), Path::new("b/one"));
    assert!(["target", "a/y.o", "out"].iter().all(|name| new.join(name).symlink_metadata().is_err()));
    assert_eq!(new.join("read-only").metadata().unwrap().mode() & 0o7777, 0o400);
    let merged = booted.shell(&format!("cd {guest}/new; cat kept a/b/one target/x.o; readlink out; ls -A .. | wc -l"));
    assert_eq!(merged.stdout, "kept\n13/etc/passwd\n1\n");
}

#[test]
fn test_cp_what_cannot_be_copied_has_codes() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let (guest, host) = directories(&booted, "cp-refused");
    fs::write(host.join("file"), "x").unwrap();
    booted.shell(&format!("mkfifo {guest}/fifo; echo x >{guest}/file; mkdir {guest}/directory")).ok();
    let (file, directory) = (host.join("file"), text(&host));
    let is = |code: &str, exit: i32| (code.to_owned(), Some(exit));
    let deb = |path: &str| format!("deb:{guest}/{path}");

    assert_eq!(refused(&booted, ["a", "b"]), is("copy.vm-required", 125));
    assert_eq!(refused(&booted, ["deb:a", "deb:b"]), is("copy.vm-unsupported", 125));
    assert_eq!(refused(&booted, ["-r", "-", "deb:b"]), is("copy.stream-unsupported", 125));
    assert_eq!(refused(&booted, ["none:a", "b"]), is("vm.not-found", 125));
    assert_eq!(refused(&booted, ["/nope", &deb("x")]), is("copy.source-not-found", 1));
    assert_eq!(refused(&booted, [&deb("nope"), directory]), is("copy.source-not-found", 1));
    assert_eq!(refused(&booted, [&deb("fifo"), directory]), is("copy.source-unsupported", 1));
    assert_eq!(refused(&booted, [directory, &deb("x")]), is("copy.recursive-required", 1));
    assert_eq!(refused(&booted, [&deb("directory"), directory]), is("copy.recursive-required", 1));
    assert_eq!(refused(&booted, [text(&file), &deb("nope/x")]), is("copy.target-not-found", 1));
    assert_eq!(refused(&booted, [&deb("file"), text(&host.join("nope/x"))]), is("copy.target-not-found", 1));
    assert_eq!(refused(&booted, [text(&file), &deb("fifo")]), is("copy.target-conflict", 1));
    assert_eq!(refused(&booted, ["-r", directory, &deb("file")]), is("copy.target-conflict", 1));
    assert_eq!(refused(&booted, ["-r", &deb("directory"), text(&file)]), is("copy.target-conflict", 1));
    assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
}

/// A full disk, a timeout and a kill leave neither the target nor a temporary name.
#[test]
fn test_cp_that_fails_leaves_nothing() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let (guest, host) = directories(&booted, "cp-left");
    let big = host.join("big");
    // Its zeros are sent as well, and take no space here.
    File::create(&big).unwrap().set_len(1 << 36).unwrap();
    booted.shell(&format!("mount -t tmpfs -o size=1m none {guest}; truncate -s 64G /srv/endless")).ok();
    let target = format!("deb:{guest}/big");

    let full = refused(&booted, [text(&big), &target]);
    booted.shell(&format!("umount {guest}")).ok();
    let slow = refused(&booted, ["--timeout", "3s", text(&big), &target]);
    let out = refused(&booted, ["--timeout", "3s", "deb:/srv/endless", text(&host.join("endless"))]);
    let killed = cp(&booted, [text(&big), &target]).spawn();
    let begun = format!("until ls -A {guest} | grep -q part; do sleep 0.1; done; ls -A {guest} | wc -l");
    let begun = booted.shell(&begun);
    let _ = killed.kill_after(Duration::ZERO);

    assert_eq!(full, ("copy.guest-failed".to_owned(), Some(1)));
    assert_eq!(slow, ("copy.transfer-timed-out".to_owned(), Some(124)));
    assert_eq!(out, ("copy.transfer-timed-out".to_owned(), Some(124)));
    assert_eq!(begun.stdout, "1\n");
    // The script notices that its input has ended too early.
    let left = booted
        .shell(&format!("for i in $(seq 200); do [ -n \"$(ls -A {guest})\" ] || exit 0; sleep 0.1; done; exit 1"));
    assert_eq!(left.code, Some(0));
    let names: Vec<_> = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["big"]);
}

/// What a killed copy left is removed by the next one in that directory; what belongs to one that runs is not, nor what may
/// be of another machine that shares the directory.
#[test]
fn test_cp_removes_what_killed_copies_left() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let (guest, host) = directories(&booted, "cp-stale");
    let (dead, alive) = ("0".repeat(32), "1".repeat(32));
    let boot = booted.shell("cut -d- -f1 /proc/sys/kernel/random/boot_id").stdout;
    let part = |boot: &str, id: &str| format!(".maqet-part.{}.{id}", boot.trim());
    let (dead, of_other, alive) = (part(&boot, &dead), part("other", &dead), part(&boot, &alive));
    let id = "1".repeat(32);
    let script =
        format!("cd {guest}; mkdir {dead} {of_other}; touch {alive}; MAQET_COPY={id} sleep 3600 >/dev/null 2>&1 &");
    booted.shell(&script).ok();
    fs::write(host.join("file"), "x").unwrap();

    copied(&booted, [text(&host.join("file")), &format!("deb:{guest}/")]);

    let left = booted.shell(&format!("ls -A {guest}; pkill -f '^sleep 3600'; rm -r {guest}/.maqet-part.*"));
    let mut expected = [alive, of_other];
    expected.sort();
    assert_eq!(left.stdout, format!("{}\nfile\n", expected.join("\n")));
}
