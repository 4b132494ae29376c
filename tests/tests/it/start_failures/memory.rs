//! The guest's RAM in a directory or a file of the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use maqet_testkit::TestHome;
use serde_json::Value;

use super::{assert_explained, without_places};
use crate::damaged_disks::command_without_override;

/// QEMU would leave an empty file there, or take ordinary memory, and say nothing.
#[test]
fn test_memory_at_a_path_without_huge_pages_is_refused() {
    let home = TestHome::new();
    fs::create_dir(home.path("hugepages")).unwrap();
    let backend = |path: &str| {
        format!(
            "arguments: [{{object: \"memory-backend-file,id=m,size=32M,mem-path={path}\"}}, {{machine: \"memory-backend=m\"}}]"
        )
    };
    for (keys, exit, code, message, hint) in [
        (
            "arguments: [{mem-path: pages}]".to_owned(),
            3,
            "qemu.file-not-found",
            "`HOME/pages`, which is to hold the guest's RAM, does not exist",
            "for huge pages, mount them: `sudo mkdir -p HOME/pages && sudo mount -t hugetlbfs none HOME/pages`",
        ),
        (
            backend("pages"),
            3,
            "qemu.file-not-found",
            "`HOME/pages`, which is to hold the guest's RAM, does not exist",
            "for a new file with the RAM, add `share=on` to a `memory-backend-file`",
        ),
        (
            "args: [-mem-path, hugepages]".to_owned(),
            69,
            "host.huge-pages-unavailable",
            "`HOME/hugepages`, which is to hold the guest's RAM, is not in a mount of huge pages",
            "mount huge pages: `sudo mount -t hugetlbfs none HOME/hugepages`",
        ),
        (
            backend("hugepages,share=on"),
            69,
            "host.huge-pages-unavailable",
            "is not in a mount of huge pages",
            "name another directory for ordinary memory, such as `/dev/shm`",
        ),
    ] {
        home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}\n"));

        let error = home.json_error(&["start", "web"], exit);

        let shown = without_places(&home, error["message"].as_str().unwrap());
        assert!(error["code"] == code && shown.contains(message), "{keys}: {error}");
        let hints: Vec<String> = error["hints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hint| without_places(&home, hint.as_str().unwrap()))
            .collect();
        assert!(hints.iter().any(|one| one == hint), "{keys}: {hints:#?}");
        assert_explained(&error);
        home.json(&["rm", "web"]);
    }
    assert!(!home.path("pages").exists());
    // Another directory, and a new file that is shared.
    fs::create_dir(home.path("ram")).unwrap();
    for path in ["ram", "file,share=on"] {
        home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{}\n", backend(path)));
        home.json(&["start", "web", "--paused"]);
        home.json(&["rm", "web", "--force"]);
    }
}

#[test]
fn test_memory_that_may_not_be_created_names_what_is_closed() {
    let home = TestHome::new();
    let mode = |path: &str, mode| fs::set_permissions(home.path(path), Permissions::from_mode(mode)).unwrap();
    fs::create_dir_all(home.path("closed/inner")).unwrap();
    let start = |path: &str| -> (Option<i32>, Value) {
        home.add(&format!(
            "name: web\naccel: tcg\nmemory: 32M\narguments: [{{object: \"memory-backend-file,id=m,size=32M,mem-path={path}\"}}]\n"
        ));
        let output = command_without_override(&home, &["start", "web"]).output().unwrap();
        home.json(&["rm", "web"]);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        (output.status.code(), error["error"].clone())
    };

    mode("closed", 0o500);
    let (missing_code, missing) = start("closed/ram,share=on");
    mode("closed/inner", 0o500);
    let (plain_code, plain) = start("closed/inner,share=on");
    mode("closed", 0o000);
    let (hidden_code, hidden) = start("closed/ram");
    mode("closed", 0o700);

    let closed = home.path("closed").display().to_string();
    let message = |error: &Value| error["message"].as_str().unwrap().to_owned();
    assert_eq!((missing_code, &missing["code"]), (Some(3), &"qemu.file-not-found".into()), "{missing}");
    assert!(
        message(&missing).ends_with(&format!("does not exist, and you may not create it in `{closed}`")),
        "{missing}"
    );
    assert_eq!((plain_code, &plain["code"]), (Some(69), &"qemu.file-refused".into()), "{plain}");
    let mount = format!("for huge pages, mount them: `sudo mount -t hugetlbfs -o mode=1777 none {closed}/inner`");
    assert_eq!(plain["hints"][1], mount.as_str(), "{plain}");
    assert_eq!((hidden_code, &hidden["code"]), (Some(69), &"qemu.file-refused".into()), "{hidden}");
    assert!(message(&hidden).ends_with(&format!("cannot be reached: `{closed}`: permission denied")), "{hidden}");
    for error in [missing, plain, hidden] {
        assert_explained(&error);
    }
}
