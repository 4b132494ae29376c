//! The documentation tells today's truth: its links lead somewhere, its tables list what the code has.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::assert_none;
use crate::lexer::{Token, closing};
use crate::workspace::{RustFile, crates, files, root, rust_files, shipped, text};

/// Returns the targets of the links of a Markdown text, each with its line; code is passed over.
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

/// Returns the relative links of the document `path` that lead nowhere; `read` returns the text of a file that is there.
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

/// Resolves `..` without asking the file system.
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
fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    let firsts = rows(text, heading).into_iter().filter_map(|row| row.into_iter().next());
    firsts.filter_map(|cell| cell.split('`').nth(1).map(str::to_owned)).collect()
}

/// Returns the texts in the bodies of the functions of this name.
fn texts_in(file: &RustFile, function: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, two) in file.code.windows(2).enumerate() {
        if !(two[0].is_word("fn") && two[1].is_word(function)) {
            continue;
        }
        let after = file.code[at..].iter().position(|token| token.is_mark('{') || token.is_mark(';'));
        if let Some(begins) = after.map(|offset| at + offset).filter(|begins| file.code[*begins].is_mark('{')) {
            let body = &file.code[begins..closing(&file.code, begins)];
            found.extend(body.iter().filter_map(Token::text).map(str::to_owned));
        }
    }
    found
}

/// Returns the texts that are the values of the field `name`.
fn texts_of_field(file: &RustFile, name: &str) -> Vec<String> {
    let fields = file.code.windows(3).filter(|three| three[0].is_word(name) && three[1].is_mark(':'));
    fields.filter_map(|three| three[2].text().map(str::to_owned)).collect()
}

fn error_codes() -> BTreeSet<String> {
    let names = crates();
    let libraries = names.iter().filter(|name| *name != "xtask").flat_map(|name| shipped(name));
    let mut codes: BTreeSet<String> = libraries.flat_map(|file| texts_in(&file, "code")).collect();
    codes.extend(shipped("cli").iter().flat_map(|file| texts_of_field(file, "code")));
    codes
}

#[track_caller]
fn assert_same(what: &str, in_code: &BTreeSet<String>, in_docs: &BTreeSet<String>) {
    let missing = in_code.difference(in_docs).map(|name| format!("`{name}` is not in the docs"));
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

    assert_none("links lead somewhere", &dead);
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
        "an index names it",
        &all.filter(|path| !linked.contains(Path::new(path))).cloned().collect::<Vec<_>>(),
    );
}

#[test]
fn test_tests_that_the_architecture_page_names_exist() {
    let page = text("docs/architecture.md");
    let words = page.split('`').filter_map(|word| word.rsplit("::").next());
    let named: BTreeSet<String> = words.filter(|word| word.starts_with("test_")).map(str::to_owned).collect();
    let files = ["crates", "tests"].map(rust_files);
    let functions = files.iter().flatten().flat_map(|file| file.all.windows(2)).filter(|two| two[0].is_word("fn"));
    let there: BTreeSet<String> = functions.filter_map(|two| two[1].word().map(str::to_owned)).collect();

    assert!(!named.is_empty());
    assert_none("docs/architecture.md names tests that exist", &named.difference(&there).cloned().collect::<Vec<_>>());
}

#[test]
fn test_error_codes_of_code_and_docs_are_the_same() {
    let in_docs = first_column(&text("docs/reference/json.md"), "## Error codes");

    assert_same("docs/reference/json.md lists the error codes", &error_codes(), &in_docs);
}

#[test]
fn test_exit_codes_of_code_and_docs_are_the_same() {
    let file = RustFile::of("exit.rs", &text("crates/cli/src/exit.rs"));
    let table = file.code.iter().filter_map(Token::text).find(|text| text.contains("Exit codes:")).unwrap_or_default();
    let in_code: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .map(|(code, meaning)| format!("{code} {}", meaning.trim()))
        .collect();
    let page = rows(&text("docs/reference/exit-codes.md"), "# Exit codes");
    let in_docs: BTreeSet<String> = page.iter().map(|row| row[..2].join(" ")).collect();

    assert!(in_code.len() > 5, "the table in exit.rs was not found");
    assert_same("docs/reference/exit-codes.md lists the exit codes", &in_code, &in_docs);
}

#[test]
fn test_configuration_keys_of_code_and_docs_are_the_same() {
    let handlers = shipped("domain").into_iter().filter(|file| file.path.contains("/machine/key/"));
    let in_code: BTreeSet<String> = handlers.flat_map(|file| texts_in(&file, "key")).collect();
    let in_docs = first_column(&text("docs/reference/configuration.md"), "## Keys");

    assert_same("docs/reference/configuration.md lists the keys", &in_code, &in_docs);
}

#[test]
fn test_states_of_code_and_docs_are_the_same() {
    let domain = shipped("domain");
    let status = domain.iter().find(|file| file.path.ends_with("/vm/status.rs")).expect("the states are there");
    let in_code: BTreeSet<String> = texts_in(status, "as_str").into_iter().collect();
    let page = text("docs/reference/states.md");

    assert_same("docs/reference/states.md lists the states", &in_code, &first_column(&page, "## States"));
}

#[test]
fn test_variables_of_code_and_docs_are_the_same() {
    let files = ["maqet", "cli"].map(shipped);
    let texts = files.iter().flatten().flat_map(|file| file.code.iter().filter_map(Token::text));
    let is_variable =
        |text: &str| text.starts_with("MAQET_") && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let in_code: BTreeSet<String> = texts.filter(|text| is_variable(text)).map(str::to_owned).collect();
    let page = first_column(&text("docs/reference/files.md"), "## Settings");
    let in_docs: BTreeSet<String> = page.into_iter().filter(|name| is_variable(name)).collect();

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
fn test_texts_in_function_of_that_name_only_are_read() {
    let file = RustFile::of(
        "f",
        "trait T { fn code(&self) -> u8; } fn code() { match x { A => \"a.b\" } } fn other() { \"c\" }",
    );

    assert_eq!(texts_in(&file, "code"), ["a.b"]);
    assert_eq!(texts_of_field(&RustFile::of("f", "S { code: \"usage\".to_owned() }"), "code"), ["usage"]);
}
