//! Outputs as snapshots (`insta`): text as a user sees it, with what differs between runs replaced.

use maqet_testkit::TestHome;
use regex_lite::Regex;

/// What differs between runs, and what stands for it.
const VARIABLE: [(&str, &str); 5] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
    // At the end of a line of `ls`.
    (r"(?m) [0-9a-f]{8}$", " [id]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "[time]"),
    (r"\b(pid|process)( +)\d+", "$1$2[pid]"),
    (r"\bmaqet/[0-9a-f]{12}/", "maqet/[short-id]/"),
];

/// Returns an output with the home as `[home]`, ids as `[id]`, dates as `[time]` and process ids as `[pid]`.
pub(crate) fn stable(home: &TestHome, output: &str) -> String {
    let output = output.replace(&home.root().display().to_string(), "[home]");
    VARIABLE.iter().fold(output, |output, (pattern, name)| {
        Regex::new(pattern).expect("the pattern is valid").replace_all(&output, *name).into_owned()
    })
}

/// Runs a command that fails and changes nothing, once for each format: its exit code, error code and text output.
#[track_caller]
pub(crate) fn failure(home: &TestHome, arguments: &[&str]) -> String {
    let json = home.maqet(arguments).args(["--format", "json"]).run();
    let text = home.maqet(arguments).run();

    let code = json.json_error()["error"]["code"].as_str().unwrap().to_owned();
    let exit = text.code.unwrap();
    assert_eq!(json.code, text.code, "{json}\n{text}");
    assert_ne!(exit, 0, "{text}");
    stable(home, &format!("{code}, exit code {exit}\n{}{}", text.stdout, text.stderr))
}

/// Returns a table whose columns are separated by two spaces: their widths depend on the length of the home's path.
pub(crate) fn unaligned(table: &str) -> String {
    Regex::new("  +").expect("the pattern is valid").replace_all(table, "  ").into_owned()
}
