//! The documentation agrees with the code: links resolve, and tables list what the code has.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use maqet_domain::machine::{SWITCHES, Treatment};
use maqet_domain::qmp::versions::{Difference, SnapshotProblem};
use maqet_domain::vm::{HaltReason, Status, StopReason};

use crate::assert_none;
use crate::source::{Named, RustFile};
use crate::workspace::{crates, files, root, rust_files, shipped, text};

/// Returns the link targets in a Markdown text with their lines, those in code left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(content);
        let inline = content.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        found.extend(inline.map(|target| (line, target.to_owned())));
        if let Some((_, target)) = content.split_once("]: ").filter(|_| content.starts_with('[')) {
            found.push((line, target.trim().to_owned()));
        }
    }
    found
}

/// Returns the lines of a Markdown text that are not in a block of code, each with its number.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            found.push((index + 1, line));
        }
    }
    found
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Returns the anchors of a Markdown text's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text)
        .into_iter()
        .filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    headings.map(anchor).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.trim().replace(' ', "-")
}

/// Returns the broken relative links of the document `path`; `read` returns the text of an existing file.
fn dead_links(path: &str, text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut dead = Vec::new();
    for (line, target) in links(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) =
            target.split_once('#').map_or((target.as_str(), None), |(file, anchor)| (file, Some(anchor)));
        let content = if file.is_empty() { Some(text.to_owned()) } else { read(&plain(&folder.join(file))) };
        let is_alive = content
            .is_some_and(|content| anchor.is_none_or(|anchor| anchors(&content).iter().any(|known| known == anchor)));
        if !is_alive {
            dead.push(format!("{path}:{line}: {target}"));
        }
    }
    dead
}

/// Resolves `..` lexically.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => parts.push(component),
        }
    }
    parts
}

/// Returns the cells of the tables below `heading`, up to the next heading; head and rule are left out.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = prose(text).into_iter().map(|(_, line)| line).skip_while(|line| *line != heading).skip(1);
    let section = lines.take_while(|line| !line.starts_with('#'));
    let table = section.filter(|line| line.starts_with('|'));
    let cells = table.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    let rows: Vec<Vec<String>> = cells.collect();
    let is_rule = |row: &Vec<String>| row.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| "-:".contains(c)));
    let heads: BTreeSet<usize> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| is_rule(row))
        .flat_map(|(at, _)| [at.saturating_sub(1), at])
        .collect();
    rows.into_iter().enumerate().filter(|(at, _)| !heads.contains(at)).map(|(_, row)| row).collect()
}

/// Returns the first words in backticks of the first column.
pub(crate) fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    let firsts = rows(text, heading).into_iter().filter_map(|row| row.into_iter().next());
    firsts.filter_map(|cell| cell.split('`').nth(1).map(str::to_owned)).collect()
}

/// Returns the string literals outside of tests that `is_wanted`.
fn texts<'a>(files: &[&'a RustFile], is_wanted: impl Fn(&Named) -> bool) -> BTreeSet<&'a str> {
    let texts = files.iter().flat_map(|file| &file.texts).filter(|text| !text.for_tests && is_wanted(text));
    texts.map(|text| text.name.as_str()).collect()
}

/// Returns whether a literal is an error code: one in `explain`, or one given to a field or function for codes.
fn is_error_code(text: &Named) -> bool {
    text.detail == "code"
        || text.detail == "Explanation::new"
        || (is_code(&text.name) && ["code", "explain"].contains(&text.function.as_str()))
}

/// Returns whether a text has the form of an error code; in the tables of QEMU's exit messages, nothing else has it.
fn is_code(text: &str) -> bool {
    text.split_once('.').is_some_and(|(area, problem)| {
        [area, problem].iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    })
}

/// Returns the error codes in the code.
pub(crate) fn error_codes() -> BTreeSet<&'static str> {
    let names = crates();
    let files: Vec<&RustFile> = names.iter().filter(|name| *name != "xtask").flat_map(|name| shipped(name)).collect();
    let (tables, others): (Vec<&RustFile>, Vec<&RustFile>) =
        files.into_iter().partition(|file| file.path.contains("/wording/exit_messages/"));
    texts(&others, is_error_code).into_iter().chain(texts(&tables, |text| is_code(&text.name))).collect()
}

#[track_caller]
fn assert_same(what: &str, in_code: &BTreeSet<&str>, in_docs: &BTreeSet<String>) {
    let in_docs: BTreeSet<&str> = in_docs.iter().map(String::as_str).collect();
    let missing = in_code.difference(&in_docs).map(|name| format!("`{name}` is not in the docs"));
    let invented = in_docs.difference(in_code).map(|name| format!("`{name}` is not in the code"));
    assert_none(what, &missing.chain(invented).collect::<Vec<_>>());
}

#[test]
fn test_links_of_every_document_lead_somewhere() {
    let read = |path: &Path| {
        let whole = root().join(path);
        whole.exists().then(|| std::fs::read_to_string(whole).unwrap_or_default())
    };

    let dead: Vec<String> = files("", "md").iter().flat_map(|path| dead_links(path, &text(path), read)).collect();

    assert_none("links resolve", &dead);
}

#[test]
fn test_indexes_of_the_docs_name_every_page() {
    let (indexes, pages): (Vec<String>, Vec<String>) =
        files("docs", "md").into_iter().partition(|path| path.ends_with("/README.md"));
    let mut linked = BTreeSet::from([PathBuf::from("docs/README.md")]);
    for index in &indexes {
        let folder = Path::new(index).parent().unwrap_or(Path::new(""));
        linked.extend(links(&text(index)).iter().map(|(_, target)| plain(&folder.join(target))));
    }

    let all = indexes.iter().chain(&pages);
    assert_none(
        "an index links to every page",
        &all.filter(|path| !linked.contains(Path::new(path))).cloned().collect::<Vec<_>>(),
    );
}

#[test]
fn test_architecture_page_named_tests_exist() {
    let page = text("docs/architecture.md");
    let words = page.split('`').filter_map(|word| word.rsplit("::").next());
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("test_")).collect();
    let files = rust_files("");
    let functions: BTreeSet<&str> = files.iter().flat_map(|file| &file.functions).map(|f| f.name.as_str()).collect();

    assert!(!named.is_empty());
    let missing = named.difference(&functions).map(|name| (*name).to_owned());
    assert_none("docs/architecture.md names tests that exist", &missing.collect::<Vec<_>>());
}

#[test]
fn test_error_codes_of_code_and_docs_are_the_same() {
    let in_docs = first_column(&text("docs/reference/json.md"), "## Error codes");

    assert_same("docs/reference/json.md lists the error codes", &error_codes(), &in_docs);
}

#[test]
fn test_exit_codes_of_code_and_docs_are_the_same() {
    let files = shipped("cli");
    let tables = texts(&files, |text| text.name.contains("Exit codes:"));
    let lines = tables.iter().flat_map(|table| table.lines()).filter_map(|line| line.trim_start().split_once(' '));
    let in_code: BTreeSet<String> = lines
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .map(|(code, meaning)| format!("{code} {}", meaning.trim()))
        .collect();
    let page = rows(&text("docs/reference/exit-codes.md"), "# Exit codes");
    let in_docs: BTreeSet<String> = page.iter().map(|row| row[..2].join(" ")).collect();

    assert!(in_code.len() > 5, "the table of exit codes was not found");
    let in_code = in_code.iter().map(String::as_str).collect();
    assert_same("docs/reference/exit-codes.md lists the exit codes", &in_code, &in_docs);
}

#[test]
fn test_configuration_keys_of_code_and_docs_are_the_same() {
    let mut files = shipped("domain");
    files.retain(|file| file.path.contains("/machine/keys"));
    let in_docs = first_column(&text("docs/reference/configuration.md"), "## Keys");

    let in_code = texts(&files, |text| text.detail == "KeySpec::new" || text.function == "key");
    assert_same("docs/reference/configuration.md lists the keys", &in_code, &in_docs);
}

#[test]
fn test_refused_switches_of_code_and_docs_are_the_same() {
    let page = text("docs/reference/configuration.md");
    let rows = rows(&page, "## Switches");
    let in_docs: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| row[0].split(", "))
        .map(|name| name.trim_matches(&['`', '-'][..]).to_owned())
        // Only some of their values are refused.
        .filter(|name| !["display", "machine", "serial"].contains(&name.as_str()))
        .collect();

    let is_refused = |treatment: &Treatment| matches!(treatment, Treatment::Refused(_) | Treatment::RefusedBeside(_));
    let in_code = SWITCHES.iter().filter(|(_, treatment)| is_refused(treatment)).map(|(name, _)| *name).collect();
    assert_same("docs/reference/configuration.md lists the refused switches", &in_code, &in_docs);
}

#[test]
fn test_states_of_code_and_docs_are_the_same() {
    let in_code = Status::NAMES.iter().copied().collect();
    let in_docs = first_column(&text("docs/reference/states.md"), "## States");

    assert_same("docs/reference/states.md lists the states", &in_code, &in_docs);
}

#[test]
fn test_reasons_of_code_and_docs_are_the_same() {
    let page = text("docs/reference/states.md");
    let (_, reasons) = page.split_once("## Reasons").expect("the page has this section");
    let (ended, halted) = reasons.split_once("does not run although").expect("the section has two tables");
    let column = |text: &str| first_column(&format!("# Table\n{text}"), "# Table");

    let in_code = StopReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_same("docs/reference/states.md lists the reasons of an end", &in_code, &column(ended));
    let in_code = HaltReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_same("docs/reference/states.md lists the reasons of a halt", &in_code, &column(halted));
}

#[test]
fn test_qemu_differences_of_code_and_docs_are_the_same() {
    let page = text("docs/reference/qemu-versions.md");
    let in_docs = rows(&page, "## Differences").into_iter().map(|row| row[..2].join(" ")).collect();

    let in_code: Vec<String> = Difference::ALL.iter().map(|one| format!("`{one}` {}", one.seen_in())).collect();
    let in_code = in_code.iter().map(String::as_str).collect();
    assert_same("docs/reference/qemu-versions.md lists the differences", &in_code, &in_docs);
    let in_docs = first_column(&page, "## Problems with snapshots");
    let in_code: Vec<String> = SnapshotProblem::ALL.iter().map(ToString::to_string).collect();
    let in_code = in_code.iter().map(String::as_str).collect();
    assert_same("docs/reference/qemu-versions.md lists the problems with snapshots", &in_code, &in_docs);
}

#[test]
fn test_variables_of_code_and_docs_are_the_same() {
    let is_variable =
        |text: &str| text.starts_with("MAQET_") && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let files = ["maqet", "cli"].map(shipped).concat();
    let mut in_docs = first_column(&text("docs/reference/files.md"), "## Settings");
    in_docs.retain(|name| is_variable(name));

    let in_code = texts(&files, |text| is_variable(&text.name));
    assert_same("docs/reference/files.md lists the variables", &in_code, &in_docs);
}

#[test]
fn test_dead_links_missing_file_and_missing_anchor_are_found() {
    let read = |path: &Path| (path == Path::new("docs/b.md")).then(|| "# One `two`, three\n".to_owned());
    let page = "[a](b.md) [b](../docs/b.md#one-two-three) [c](https://x/y.md)\n[d](no.md) [e](b.md#no) `[f](no.md)`\n\
                ```\n[g](no.md)\n```\n[h]: no.md\n";

    let dead = dead_links("docs/a.md", page, read);

    assert_eq!(dead, ["docs/a.md:2: no.md", "docs/a.md:2: b.md#no", "docs/a.md:6: no.md"]);
}

#[test]
fn test_first_column_rows_of_the_section_only_are_read() {
    let page = "## A\n| code | x |\n| --- | --- |\n| `a.b` | 1 |\n\ntext\n| `c` or `d` | 2 |\n## B\n| `e` | 3 |\n";

    assert_eq!(first_column(page, "## A"), ["a.b".to_owned(), "c".to_owned()].into());
}

#[test]
fn test_error_codes_in_each_form_are_read() {
    let file = RustFile::new(
        "f",
        "fn explain() { match x { A => usage(\"a.b-c\").hint(\"d e.f\"), B => Explanation::new(\"g.h\", Fault::Host) } }
        fn f() { S { code: \"usage.i\".to_owned(), d: \"j.k\" } } #[cfg(test)] fn explain() { \"l.m\" }",
    );

    assert_eq!(texts(&[&file], is_error_code), ["a.b-c", "g.h", "usage.i"].into());
}
