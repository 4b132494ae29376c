//! The log of maqet itself and the export of its spans.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use maqet_testkit::{Collector, Running, TestHome};
use serde_json::Value;

/// Returns the lines of a log in JSON.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the spans with this name that a collector received.
fn spans(collector: &Collector, name: &str) -> Vec<Value> {
    let received = collector.received();
    let spans = received.iter().flat_map(|body| {
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
        spans.unwrap_or_else(|| panic!("{body}"))
    });
    spans.filter(|span| span["name"] == name).cloned().collect()
}

#[test]
fn test_log_in_json_has_spans_with_durations() {
    let home = TestHome::new();
    let log = home.path("log");

    home.maqet(["add", "--empty", "--name", "web", "-vvv", "--log-format", "json", "--log-file"]).arg(&log).run().ok();

    let lines = lines(&log);
    let find = |message: &str, span: &str| {
        let is_last = |line: &&Value| {
            line["spans"].as_array().and_then(|spans| spans.last()).is_some_and(|last| last["name"] == span)
        };
        lines.iter().find(|line| line["message"] == message && is_last(line)).unwrap_or_else(|| panic!("{lines:?}"))
    };
    let done = find("done", "operation");
    assert_eq!((&done["level"], &done["fields"]["operation"]), (&"info".into(), &"add".into()));
    let commit = find("close", "commit");
    assert!(commit["fields"]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{commit}");
    assert_eq!(commit["spans"][0]["operation"], "add");
}

#[test]
fn test_log_as_text_has_spans_with_vvv_only() {
    let home = TestHome::new();

    let steps = home.maqet(["ls", "-vv"]).run().ok().stderr;
    let everything = home.maqet(["ls", "-vvv"]).run().ok().stderr;

    assert!(!steps.contains("operation{"), "{steps}");
    assert!(everything.contains("operation{operation=\"ls\"}: ") && everything.contains("time.busy"), "{everything}");
}

#[test]
fn test_log_of_processes_at_once_has_whole_lines_of_each() {
    let home = TestHome::new();
    let log = home.path("log");
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();

    let list = || home.maqet(["ls", "-v", "--log-format", "json", "--log-file"]).arg(&log).spawn();
    let running: Vec<Running> = (0..8).map(|_| list()).collect();
    for process in running {
        process.wait().ok();
    }

    assert_eq!(lines(&log).iter().filter(|line| line["message"] == "done").count(), 8);
}

#[test]
fn test_spans_are_exported_with_their_operation() {
    let home = TestHome::with_fault_points();
    let collector = Collector::start();
    let with = |arguments: &[&str]| home.maqet(arguments).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).run();

    with(&["add", "--empty", "--name", "web"]).ok();
    let _ = with(&["status", "wbe"]).code(3);

    let (added, commits) = (spans(&collector, "add"), spans(&collector, "commit"));
    assert_eq!((added.len(), commits.len()), (1, 1));
    assert_eq!(commits[0]["parentSpanId"], added[0]["spanId"]);
    let failed = spans(&collector, "status");
    assert_eq!(failed[0]["status"]["message"], "vm.not-found");
    assert_ne!(failed[0]["traceId"], added[0]["traceId"]);
}

#[test]
fn test_spans_with_unusable_endpoint_warn_without_its_password() {
    let home = TestHome::with_fault_points();

    let listed = home.maqet(["ls"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@collector:4318").run().ok();
    let disabled =
        home.maqet(["ls"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "x").env("OTEL_SDK_DISABLED", "true").run().ok();

    assert!(listed.stderr.starts_with("warning: no spans are exported: `OTEL_"), "{}", listed.stderr);
    assert!(!listed.stderr.contains("s3cret"), "{}", listed.stderr);
    assert_eq!(disabled.stderr, "");
}

#[test]
fn test_spans_without_collector_fail_nothing() {
    let home = TestHome::with_fault_points();
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let began = Instant::now();

    for endpoint in ["http://127.0.0.1:1".to_owned(), format!("http://{}", silent.local_addr().unwrap())] {
        let listed = home.maqet(["ls", "-v"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).run().ok();
        assert!(listed.stderr.contains("could not export the spans"), "{}", listed.stderr);
    }

    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
