//! Files stay readable, tests run and say what they test, and no file is left out of the build.

use std::collections::BTreeSet;

use crate::source::{Named, RustFile};
use crate::workspace::{Package, files, packages, rust_files, shipped, text};
use crate::{assert_none, found};

/// The longest file, in lines, with its tests.
const MAX_LINES: usize = 500;

/// How many methods the blocks of `impl App` may have in all: it runs operations and hands out contexts.
const MAX_APP_METHODS: usize = 29;

/// The longest name of a test, in characters.
const MAX_TEST_NAME: usize = 64;

fn too_long(file: &RustFile) -> Option<String> {
    (file.line_count > MAX_LINES).then(|| format!("{} has {} lines", file.path, file.line_count))
}

/// Returns the methods of a type, outside of tests and without those of its traits.
fn methods_of(name: &str, files: &[&RustFile]) -> Vec<String> {
    let of = |file: &RustFile| {
        let methods = file.methods.iter().filter(|method| method.detail == name && !method.for_tests);
        methods.map(|method| found(file, method)).collect::<Vec<_>>()
    };
    files.iter().flat_map(|file| of(file)).collect()
}

fn unfinished(file: &RustFile) -> Vec<String> {
    let is_unfinished = |named: &&Named| ["todo", "unimplemented"].contains(&named.name.as_str());
    file.macros.iter().filter(is_unfinished).map(|named| found(file, named)).collect()
}

fn skipped_tests(file: &RustFile) -> Vec<String> {
    let is_skip = |named: &&Named| ["ignore", "should_panic"].contains(&named.name.as_str());
    file.attributes.iter().filter(is_skip).map(|named| found(file, named)).collect()
}

/// Returns the tests that are not named `test_<subject>_<scenario>_<expected>`, or with too many characters.
fn misnamed_tests(file: &RustFile) -> Vec<String> {
    let tests = file.functions.iter().filter(|function| function.detail == "test");
    let is_well_named = |name: &str| {
        let parts = name.split('_').filter(|part| !part.is_empty()).count();
        name.starts_with("test_") && parts >= 4 && name.len() <= MAX_TEST_NAME
    };
    tests.filter(|test| !is_well_named(&test.name)).map(|test| found(file, test)).collect()
}

/// Returns the files that no target of the package reaches.
fn unreached(package: &Package, present: &[&RustFile]) -> Vec<String> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<String> = package.targets.iter().map(|target| target.source.clone()).collect();
    while let Some(path) = waiting.pop() {
        let Some(file) = present.iter().find(|file| file.path == path) else { continue };
        if !reached.insert(path) {
            continue;
        }
        let folder = match package.targets.iter().find(|target| target.source == file.path) {
            // Modules of a target's root file are beside it, whatever its name is.
            Some(_) => file.path.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default(),
            None => file.module_folder(),
        };
        let names = file.modules.iter().map(|module| &module.name);
        waiting.extend(names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]));
    }
    present.iter().map(|file| file.path.clone()).filter(|path| !reached.contains(path)).collect()
}

/// Returns the Rust files of a package, those of packages within its folder left out.
fn files_of(package: &Package, all: &[Package]) -> Vec<&'static RustFile> {
    let within: Vec<String> = all
        .iter()
        .filter(|other| other.folder.starts_with(&format!("{}/", package.folder)))
        .map(|other| format!("{}/", other.folder))
        .collect();
    let mut files = rust_files(&package.folder);
    files.retain(|file| !within.iter().any(|folder| file.path.starts_with(folder)));
    files
}

#[test]
fn test_files_of_code_and_tests_stay_readable() {
    let files = rust_files("").into_iter();

    assert_none("a file has at most 500 lines", &files.filter_map(too_long).collect::<Vec<_>>());
}

#[test]
fn test_app_leaves_its_work_to_contexts() {
    let methods = methods_of("App", &shipped("application"));

    assert!(methods.len() <= MAX_APP_METHODS, "`impl App` has {} methods:\n{}", methods.len(), methods.join("\n"));
}

#[test]
fn test_macros_of_unfinished_work_are_nowhere() {
    assert_none("no unfinished code", &rust_files("").into_iter().flat_map(unfinished).collect::<Vec<_>>());
}

#[test]
fn test_tests_are_neither_ignored_nor_expected_to_panic() {
    assert_none("every test runs and asserts", &rust_files("").into_iter().flat_map(skipped_tests).collect::<Vec<_>>());
}

#[test]
fn test_tests_are_named_by_subject_scenario_and_expectation() {
    assert_none(
        "tests are named `test_<subject>_<scenario>_<expected>`, with at most 64 characters",
        &rust_files("").into_iter().flat_map(misnamed_tests).collect::<Vec<_>>(),
    );
}

#[test]
fn test_files_are_all_reached_by_a_target() {
    let packages = packages();

    let findings: Vec<String> =
        packages.iter().flat_map(|package| unreached(package, &files_of(package, &packages))).collect();

    assert_none("every file is part of a target", &findings);
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

    assert_none(
        "every manifest belongs to the workspace",
        &manifests.filter(|path| !known.contains(path)).collect::<Vec<_>>(),
    );
}

#[test]
fn test_too_long_file_is_found() {
    assert!(too_long(&RustFile::new("f", &"\n".repeat(501))).is_some());
    assert!(too_long(&RustFile::new("f", &"\n".repeat(500))).is_none());
}

#[test]
fn test_methods_of_a_type_in_several_blocks_are_found() {
    let file = RustFile::new(
        "f",
        "impl App { fn a(&self) {} const B: u8 = 1; }\nimpl crate::app::App { pub async fn c() {} }\n\
         impl Other { fn d() {} }\nimpl Clone for App { fn clone(&self) {} }\n#[cfg(test)] impl App { fn e() {} }",
    );

    assert_eq!(methods_of("App", &[&file]), ["f:1: `a`", "f:2: `c`"]);
}

#[test]
fn test_unfinished_work_also_in_tests_is_found() {
    assert_eq!(unfinished(&RustFile::new("f", "#[cfg(test)] mod tests { fn f() { todo!() } }")), ["f:1: `todo`"]);
}

#[test]
fn test_skipped_tests_with_a_reason_are_found_too() {
    let file = RustFile::new("f", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n// #[should_panic]");

    assert_eq!(skipped_tests(&file), ["f:2: `ignore`"]);
}

#[test]
fn test_misnamed_tests_too_short_or_other_prefix_are_found() {
    let file = RustFile::new(
        "f",
        "#[test]\nfn it_works() {}\n#[tokio::test]\nasync fn test_two_parts() {}\n#[test]\nfn test_a_b_c() {}",
    );

    assert_eq!(misnamed_tests(&file), ["f:2: `it_works`", "f:4: `test_two_parts`"]);
}

#[test]
fn test_misnamed_tests_too_long_are_found() {
    let test = |length: usize| format!("#[test]\nfn {:a<length$}() {{}}\n", "test_a_b_");
    let file = RustFile::new("f", &[test(64), test(65)].concat());

    assert_eq!(misnamed_tests(&file), [format!("f:4: `{:a<65}`", "test_a_b_")]);
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
        .map(|(path, text)| RustFile::new(path, text));

    assert_eq!(unreached(&package, &present.each_ref()), ["t/d.rs"]);
}
