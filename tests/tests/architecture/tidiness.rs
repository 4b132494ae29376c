//! Files stay readable, tests stay honest, and none is forgotten.

use std::collections::BTreeSet;

use crate::assert_none;
use crate::lexer::Token;
use crate::path::{attributes, macros};
use crate::workspace::{Package, RustFile, files, packages, rust_files, text};

/// The longest file, in lines, with its tests.
const MOST_LINES: usize = 500;

fn too_long(file: &RustFile) -> Option<String> {
    (file.line_count > MOST_LINES).then(|| format!("{} has {} lines", file.path, file.line_count))
}

fn unfinished(file: &RustFile) -> Vec<String> {
    let found = macros(&file.all);
    let is_unfinished = |name: &str| ["todo", "unimplemented"].contains(&name);
    let unfinished = found.iter().filter(|named| is_unfinished(&named.name));
    unfinished.map(|named| format!("{}:{}: `{}!`", file.path, named.line, named.name)).collect()
}

fn skipped_tests(file: &RustFile) -> Vec<String> {
    let found = attributes(&file.all);
    let is_skip = |name: &str| ["ignore", "should_panic"].contains(&name);
    let skips = found.iter().filter(|named| is_skip(&named.name));
    skips.map(|named| format!("{}:{}: `#[{}]`", file.path, named.line, named.name)).collect()
}

/// Returns the tests that are not named `test_<subject>_<scenario>_<expected>`.
fn misnamed_tests(file: &RustFile) -> Vec<String> {
    let mut findings = Vec::new();
    for attribute in attributes(&file.all) {
        if attribute.name != "test" && !attribute.name.ends_with("::test") {
            continue;
        }
        let after = file.all.iter().skip_while(|token| token.line < attribute.line);
        // Where a macro makes the test there is no name to look at.
        let Some(name) = after.skip_while(|token| !token.is_word("fn")).nth(1).and_then(Token::word) else { continue };
        let is_well_named = name.starts_with("test_") && name.split('_').filter(|part| !part.is_empty()).count() >= 4;
        if !is_well_named {
            findings.push(format!("{}:{}: `{name}`", file.path, attribute.line));
        }
    }
    findings
}

/// Returns the names of the modules that a file keeps in files of their own.
fn declared(file: &RustFile) -> Vec<String> {
    let declarations = file.all.windows(3).filter(|three| three[0].is_word("mod") && three[2].is_mark(';'));
    declarations.filter_map(|three| three[1].word().map(str::to_owned)).collect()
}

/// Returns the files that no target of the package reaches.
fn unreached(package: &Package, present: &[RustFile]) -> Vec<String> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<String> = package.targets.iter().map(|target| target.source.clone()).collect();
    while let Some(path) = waiting.pop() {
        let Some(file) = present.iter().find(|file| file.path == path) else { continue };
        if !reached.insert(path) {
            continue;
        }
        let folder = match package.targets.iter().find(|target| target.source == file.path) {
            // The modules of a target's first file stand beside it, whatever its name is.
            Some(_) => file.path.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default(),
            None => file.module_folder(),
        };
        let modules = declared(file);
        waiting
            .extend(modules.iter().flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]));
    }
    present.iter().map(|file| file.path.clone()).filter(|path| !reached.contains(path)).collect()
}

/// Returns the Rust files of a package, those of packages within its folder left out.
fn files_of(package: &Package, all: &[Package]) -> Vec<RustFile> {
    let within: Vec<String> = all
        .iter()
        .filter(|other| other.folder.starts_with(&format!("{}/", package.folder)))
        .map(|other| format!("{}/", other.folder))
        .collect();
    let mut files = rust_files(&package.folder);
    files.retain(|file| !within.iter().any(|folder| file.path.starts_with(folder)));
    files
}

fn everything() -> Vec<RustFile> {
    let mut files = rust_files("crates");
    files.extend(rust_files("tests"));
    files
}

#[test]
fn test_files_of_the_crates_stay_readable() {
    let files: Vec<RustFile> = rust_files("crates").into_iter().filter(|file| file.path.contains("/src/")).collect();

    assert_none("a file has 500 lines at most", &files.iter().filter_map(too_long).collect::<Vec<_>>());
}

#[test]
fn test_macros_that_mark_unfinished_work_are_nowhere() {
    assert_none("nothing is left to do", &everything().iter().flat_map(unfinished).collect::<Vec<_>>());
}

#[test]
fn test_tests_are_neither_ignored_nor_expected_to_panic() {
    assert_none("every test runs and asserts", &everything().iter().flat_map(skipped_tests).collect::<Vec<_>>());
}

#[test]
fn test_tests_are_named_by_subject_scenario_and_expectation() {
    assert_none("tests say what they test", &everything().iter().flat_map(misnamed_tests).collect::<Vec<_>>());
}

#[test]
fn test_files_are_all_reached_by_a_target() {
    let packages = packages();

    let findings: Vec<String> =
        packages.iter().flat_map(|package| unreached(package, &files_of(package, &packages))).collect();

    assert_none("no file, and so no test, is forgotten", &findings);
}

#[test]
fn test_targets_with_tests_are_all_run() {
    let packages = packages();
    let targets = packages.iter().flat_map(|package| &package.targets);
    let silent = targets.filter(|target| target.kind == "test" && !target.is_tested);

    assert_none("`cargo test` runs every suite", &silent.map(|target| target.source.clone()).collect::<Vec<_>>());
}

#[test]
fn test_manifests_are_all_packages_of_the_workspace() {
    let known: Vec<String> = packages().into_iter().map(|package| format!("{}/Cargo.toml", package.folder)).collect();
    let present = [files("crates", "toml"), files("tests", "toml")].concat();
    let manifests = present.into_iter().filter(|path| path.ends_with("Cargo.toml") && text(path).contains("[package]"));

    assert_none("no package is forgotten", &manifests.filter(|path| !known.contains(path)).collect::<Vec<_>>());
}

#[test]
fn test_too_long_file_is_found() {
    assert!(too_long(&RustFile::of("f", &"\n".repeat(501))).is_some());
    assert!(too_long(&RustFile::of("f", &"\n".repeat(500))).is_none());
}

#[test]
fn test_unfinished_work_also_in_tests_is_found() {
    assert_eq!(unfinished(&RustFile::of("f", "#[cfg(test)] mod tests { fn f() { todo!() } }")), ["f:1: `todo!`"]);
}

#[test]
fn test_skipped_tests_with_a_reason_are_found_too() {
    let file = RustFile::of("f", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n// #[should_panic]");

    assert_eq!(skipped_tests(&file), ["f:2: `#[ignore]`"]);
}

#[test]
fn test_misnamed_tests_too_short_or_other_prefix_are_found() {
    let file = RustFile::of(
        "f",
        "#[test]\nfn it_works() {}\n#[tokio::test]\nasync fn test_two_parts() {}\n#[test]\nfn test_a_b_c() {}",
    );

    assert_eq!(misnamed_tests(&file), ["f:1: `it_works`", "f:3: `test_two_parts`"]);
}

#[test]
fn test_unreached_file_without_a_declaration_is_found() {
    let target = crate::workspace::Target { source: "t/a.rs".to_owned(), kind: "test".to_owned(), is_tested: true };
    let package = Package {
        name: "t".to_owned(),
        folder: "t".to_owned(),
        dependencies: Vec::new(),
        features: std::collections::BTreeMap::new(),
        targets: vec![target],
    };
    let present = [("t/a.rs", "mod b;"), ("t/b.rs", "mod c;"), ("t/b/c.rs", ""), ("t/d.rs", "")]
        .map(|(path, text)| RustFile::of(path, text));

    assert_eq!(unreached(&package, &present), ["t/d.rs"]);
}
