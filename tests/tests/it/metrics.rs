//! `maqet metrics`: what is counted across processes, and the text for Prometheus.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use maqet_testkit::{Running, TestHome, guest};
use serde_json::Value;

/// Returns the entry of an operation or a step.
fn entry<'a>(report: &'a Value, section: &str, name: &str) -> &'a Value {
    let entries = report[section].as_array().unwrap_or_else(|| panic!("{report}"));
    entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report}"))
}

/// Returns how often an operation or a step ran, and how often it failed.
fn counts(report: &Value, section: &str, name: &str) -> (u64, u64) {
    let entry = entry(report, section, name);
    let number = |key: &str| entry[key].as_u64().unwrap_or_else(|| panic!("{entry}"));
    (number("count"), number("failures"))
}

#[test]
fn test_metrics_count_operations_steps_and_failures() {
    let home = TestHome::new();
    home.add(&format!("{}\nstorage: {{name: data, size: 4M}}\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    home.json_error(&["status", "wbe"], 3);
    home.json(&["qmp", "web", "query-version"]);

    let report = home.json(&["metrics"]);
    home.json(&["stop", "web", "--force"]);
    let stopped = home.json(&["metrics"]);

    assert_eq!(counts(&report, "operations", "add"), (1, 0));
    assert_eq!(counts(&report, "operations", "start"), (1, 0));
    assert_eq!(counts(&report, "operations", "status"), (1, 1));
    assert_eq!(counts(&report, "steps", "start.launch"), (1, 0));
    assert!(counts(&report, "steps", "qmp.command").0 >= 1, "{report}");
    let [launch, start] = [("steps", "start.launch"), ("operations", "start")]
        .map(|(section, name)| entry(&report, section, name)["total_seconds"].as_f64().unwrap());
    assert!(launch > 0.0 && launch <= start, "{launch} {start}");
    assert_eq!(report["vms"]["paused"], 1);
    assert_eq!(report["disks"][0]["virtual_bytes"], 4 << 20);
    assert!(report["directories"][0]["free_bytes"].as_u64() > Some(0));

    assert_eq!(counts(&stopped, "steps", "stop.sigkill"), (1, 0));
    let commits = |report| counts(report, "steps", "store.commit").0;
    assert!(commits(&stopped) > commits(&report), "{stopped}");
    assert_eq!(stopped["vms"]["stopped"], 1);
}

#[test]
fn test_metrics_output_is_accepted_by_promtool() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web", "--set", "storage.hdd.size=4M"]).run().ok();
    let file = home.path("maqet.prom");
    let to_file = ["metrics", "--output", file.to_str().unwrap()];

    let silent = home.maqet(to_file).run().ok();
    let shown = home.maqet(["metrics", "--format", "prometheus"]).run().ok();

    assert_eq!(silent.stdout, "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let content = fs::read_to_string(&file).unwrap();
    for line in [r#"maqet_vms{state="defined"} 1"#, r#"maqet_operation_duration_seconds_count{operation="add"} 1"#] {
        assert!(content.lines().any(|found| found == line), "{content}");
    }
    assert!(shown.stdout.contains(r#"maqet_operation_duration_seconds_count{operation="metrics"} 1"#));
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .expect("promtool is installed by `cargo xtask test`");
    let complaints = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && complaints.is_empty(), "{}", String::from_utf8_lossy(&complaints));
}

#[test]
fn test_metrics_of_many_processes_lose_no_count() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();

    let running: Vec<Running> = (0..32).map(|_| home.maqet(["status", "web"]).spawn()).collect();
    for process in running {
        process.wait().ok();
    }

    assert_eq!(counts(&home.json(&["metrics"]), "operations", "status"), (32, 0));
}

#[test]
fn test_metrics_damaged_are_started_over_by_the_next_command() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();
    fs::write(home.data().join("metrics"), "damaged").unwrap();

    let refused = home.json_error(&["metrics"], 1);
    let listed = home.maqet(["ls"]).run().ok();
    let report = home.json(&["metrics"]);

    assert_eq!(refused["code"], "metrics.file-corrupt");
    assert_eq!(listed.stderr, "");
    assert_eq!(report["started_over"], true);
    assert_eq!(report["operations"].as_array().map(Vec::len), Some(2), "{report}");
}

#[test]
fn test_metrics_without_database_have_the_counts() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();
    fs::write(home.data().join("maqet.db"), "damaged, and longer than a page".repeat(200)).unwrap();

    let report = home.json(&["metrics"]);

    assert_eq!(counts(&report, "operations", "add"), (1, 0));
    assert!(report["problem"].as_str().is_some_and(|problem| problem.contains("corrupt")), "{report}");
    let text = home.maqet(["metrics", "--format", "prometheus"]).run().ok().stdout;
    assert!(text.contains("maqet_database_up 0\n"), "{text}");
}
