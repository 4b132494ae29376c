//! The commands of the guide on disks, in the order of the page.

use std::fs;
use std::path::Path;

use maqet_testkit::{TestHome, guest};

#[test]
fn test_commands_of_the_guide_on_disks_work() {
    let home = TestHome::new();
    home.add(&format!("{}storage:\n  - {{name: hdd, size: 20G}}\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    fs::create_dir(home.path("images")).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/disks.md");
    let page = fs::read_to_string(page).unwrap().replace("/srv/images", home.path("images").to_str().unwrap());
    let commands = page.lines().filter(|line| line.starts_with("maqet ") || line.starts_with("mv "));

    let mut ran = 0;
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        if command.starts_with("mv ") {
            fs::rename(arguments[0], arguments[1]).unwrap();
        } else {
            // The guest, which never runs, does not power off.
            let force: &[&str] = if arguments[0] == "stop" { &["--force"] } else { &[] };
            home.maqet(&arguments).args(force).run().ok();
        }
        ran += 1;
    }

    assert!(ran >= 13, "{ran}");
    assert_eq!(home.json(&["start", "web"])["status"], "paused");
    home.json(&["stop", "web", "--force"]);
}
