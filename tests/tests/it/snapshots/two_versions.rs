//! Snapshots made by one version of QEMU, and used by the other.

use std::env;
use std::ffi::OsString;
use std::io::{Write, stderr};
use std::iter;

use maqet_testkit::qemu::{Unpacked, image_tool, version_of};
use maqet_testkit::{Finished, TestHome};

use super::Pair;

/// Returns the PATHs of the two versions, that of the test first; `None` if there is only one.
fn paths() -> Option<[OsString; 2]> {
    let unpacked = Unpacked::found()?.programs().canonicalize().ok()?;
    let path = env::var_os("PATH")?;
    let is_unpacked = |folder: &std::path::PathBuf| folder.canonicalize().is_ok_and(|folder| folder == unpacked);
    let system: Vec<_> = env::split_paths(&path).filter(|folder| !is_unpacked(folder)).collect();
    let first = env::join_paths(iter::once(unpacked.clone()).chain(system.iter().cloned())).ok()?;
    let system = env::join_paths(system).ok()?;
    let here = image_tool().canonicalize().ok()?;
    Some(if here.starts_with(&unpacked) { [first, system] } else { [system, first] })
}

/// Returns the version of the `qemu-img` that is first in a PATH.
fn version_in(path: &OsString) -> String {
    let tool = env::split_paths(path).map(|folder| folder.join("qemu-img")).find(|tool| tool.is_file()).unwrap();
    version_of(&tool)
}

#[test]
fn test_snapshots_of_one_version_are_used_by_the_other() {
    let Some([here, other]) = paths() else {
        // The test passes, and `eprintln!` would be captured.
        writeln!(stderr(), "snapshots of two versions of QEMU are SKIPPED: there is one").unwrap();
        return;
    };
    assert_ne!(version_in(&here), version_in(&other));
    for [maker, user] in [[&here, &other], [&other, &here]] {
        let pair = Pair::new(TestHome::new());
        let run = |path: &OsString, arguments: &[&str]| -> Finished {
            pair.home.maqet(["snapshot"]).args(arguments).env("PATH", path).run().ok()
        };
        pair.write_both(1);
        run(maker, &["create", "web", "all", "one", "--description", "it is 1"]);
        pair.write_both(2);
        run(maker, &["create", "web", "all", "two"]);
        run(maker, &["create", "web", "all", "two", "--overwrite"]);
        pair.write_both(3);
        let listed = [maker, user].map(|path| run(path, &["ls", "web"]).stdout);
        assert_eq!(listed[0], listed[1]);

        run(user, &["load", "web", "all", "two"]);
        assert_eq!(pair.values(), [2, 2]);
        run(user, &["load", "web", "all", "one", "--no-safety"]);
        assert_eq!(pair.values(), [1, 1]);
        run(maker, &["load", "web", "all", "before-load"]);
        assert_eq!(pair.values(), [3, 3]);
        run(user, &["create", "web", "hdd", "two", "--overwrite"]);
        run(user, &["rm", "web", "all", "one"]);
        run(maker, &["load", "web", "hdd", "two", "--no-safety"]);

        assert_eq!(pair.values(), [3, 3]);
        let rest = ["before-load safety", "before-load~1 safety", "two disk", "zero disk"];
        let rest: Vec<String> =
            super::DRIVES.iter().flat_map(|drive| rest.map(|one| format!("{drive} {one}"))).collect();
        assert_eq!(pair.list(), rest);
        pair.check_images();
    }
}
