//! Two operations on the snapshots of one drive at once: one of them waits, or is refused.

use std::time::Duration;

use maqet_testkit::{TestHome, wait};

use super::Pair;

/// How long a tool may take to start on a busy host.
const START: Duration = Duration::from_mins(1);

#[test]
fn test_two_snapshots_of_a_drive_at_once_are_both_right() {
    let pair = Pair::new(TestHome::new());
    pair.write("hdd", 1);
    let release = pair.home.path("go");
    let waits = format!(
        "case \"$*\" in *' -c first '*) touch '{0}.waits'; until [ -e '{0}' ]; do sleep 0.05; done;; esac",
        release.display()
    );
    let path = pair.tool(&waits);
    let create = |name: &str| pair.home.maqet(["snapshot", "create", "web", "hdd", name]).env("PATH", &path).spawn();

    let first = create("first");
    wait::until(START, "the tool to run", || pair.home.path("go.waits").exists().then_some(()));
    pair.home.write("config/maqet/maqet.conf", "timeouts: {lock: 200ms}\n");
    let refused = pair.home.json_error(&["snapshot", "create", "web", "hdd", "refused"], 75);
    std::fs::remove_file(pair.home.path("config/maqet/maqet.conf")).unwrap();
    let second = create("second");
    let listed = pair.list();
    pair.home.write("go", "");
    first.wait().ok();
    second.wait().ok();

    assert_eq!(refused["code"], "lock.in-use", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("`snapshot.create`"), "{refused}");
    assert_eq!(listed, ["hdd zero disk", "ssd zero disk"]);
    assert_eq!(pair.list(), ["hdd first disk", "hdd second disk", "hdd zero disk", "ssd zero disk"]);
    for name in ["first", "second"] {
        pair.write("hdd", 2);
        pair.home.json(&["snapshot", "load", "web", "hdd", name, "--no-safety"]);
        assert_eq!(pair.value("hdd"), 1, "{name}");
    }
    pair.check_images();
}
