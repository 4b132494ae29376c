//! No cycles between the top-level modules of a crate.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Named, RustFile};
use crate::workspace::{crates, shipped};

/// Which top-level module uses which other one, and the places where it does.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Modules that every other one uses and that use every other one: the application's `App`, which hands out their
/// contexts, and its `Error`, which holds their errors.
const HUBS: [(&str, &str); 2] = [("application", "app"), ("application", "error")];

/// Returns the uses between the top-level modules of a crate; the root, which re-exports, is not one of them.
fn uses(files: &[&RustFile]) -> Graph {
    let modules: BTreeSet<String> = files.iter().filter_map(|file| file.module().into_iter().next()).collect();
    let roots = files.iter().filter(|file| file.module().is_empty());
    let exported: Vec<Vec<&str>> = roots.flat_map(|root| &root.paths).map(segments).collect();

    let mut graph = Graph::new();
    for file in files {
        let Some(from) = file.module().into_iter().next() else { continue };
        for path in file.paths.iter().filter(|path| !path.for_tests && path.name.starts_with("crate::")) {
            let name = segments(path)[0];
            // A name that is not a module is one that the root takes from a module.
            let re_exports = exported.iter().filter(|export| name == "*" || export.last() == Some(&name));
            let to = if modules.contains(name) { vec![name] } else { re_exports.map(|export| export[0]).collect() };
            for to in to.into_iter().filter(|to| *to != from && modules.contains(*to)) {
                let places = graph.entry(from.clone()).or_default().entry(to.to_owned()).or_default();
                places.insert(format!("{}:{}", file.path, path.line));
            }
        }
    }
    graph
}

/// Returns the segments of a path without `crate`.
fn segments(path: &Named) -> Vec<&str> {
    path.name.strip_prefix("crate::").unwrap_or(&path.name).split("::").collect()
}

/// Returns the modules that `from` uses, be it through others.
fn reached<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(module) = waiting.pop() {
        let next = graph.get(module).into_iter().flat_map(BTreeMap::keys);
        waiting.extend(next.map(String::as_str).filter(|to| reached.insert(*to)));
    }
    reached
}

/// Returns each set of modules that use each other, with the uses that connect them.
fn cycles(graph: &Graph) -> Vec<String> {
    let mut components = BTreeSet::new();
    for module in graph.keys() {
        let mut component = reached(graph, module);
        component.retain(|other| reached(graph, other).contains(module.as_str()));
        if !component.is_empty() {
            components.insert(component);
        }
    }
    components.into_iter().map(|component| describe(graph, &component)).collect()
}

/// Removes modules from a graph.
fn without(mut graph: Graph, modules: &[&str]) -> Graph {
    graph.retain(|from, uses| {
        uses.retain(|to, _| !modules.contains(&to.as_str()));
        !modules.contains(&from.as_str())
    });
    graph
}

fn describe(graph: &Graph, component: &BTreeSet<&str>) -> String {
    let is_part = |module: &str| component.contains(module);
    let mut lines = vec![format!("cycle of {}", component.iter().copied().collect::<Vec<_>>().join(", "))];
    for (from, uses) in graph.iter().filter(|(from, _)| is_part(from)) {
        for (to, places) in uses.iter().filter(|(to, _)| is_part(to)) {
            let first = places.first().map(String::as_str).unwrap_or_default();
            let more = if places.len() > 1 { format!(" and {} more", places.len() - 1) } else { String::new() };
            lines.push(format!("{from} -> {to}: {first}{more}"));
        }
    }
    lines.join("\n    ")
}

#[test]
fn test_modules_of_a_crate_do_not_use_each_other_in_cycles() {
    let mut findings = Vec::new();
    for name in crates() {
        let hubs = HUBS.iter().filter(|(of, _)| *of == name).map(|(_, module)| *module);
        let graph = without(uses(&shipped(&name)), &hubs.collect::<Vec<_>>());
        findings.extend(cycles(&graph).into_iter().map(|cycle| format!("crate `{name}`: {cycle}")));
    }

    crate::assert_none("top-level modules do not use each other in cycles", &findings);
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let files: Vec<RustFile> =
        files.iter().map(|(path, text)| RustFile::new(&format!("crates/x/src/{path}"), text)).collect();
    assert_eq!(cycles(&uses(&files.iter().collect::<Vec<_>>())), expected);
}

#[test]
fn test_cycles_of_imports_and_inline_paths_are_found() {
    check(
        &[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/deep.rs", "use crate::b::B;"),
            ("b.rs", "fn f() { crate::c::g(); vec![super::c::h()] }"),
            ("c.rs", "use crate::a;"),
        ],
        &["cycle of a, b, c\n    a -> b: crates/x/src/a/deep.rs:1\n    b -> c: crates/x/src/b.rs:1\n    \
           c -> a: crates/x/src/c.rs:1"],
    );
}

#[test]
fn test_cycles_through_a_re_export_of_the_root_are_found() {
    check(
        &[("lib.rs", "pub use a::A;"), ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::A;")],
        &["cycle of a, b\n    a -> b: crates/x/src/a.rs:1\n    b -> a: crates/x/src/b.rs:1"],
    );
}

#[test]
fn test_cycles_within_module_tests_and_root_are_ignored() {
    check(
        &[
            ("lib.rs", "use a::A; pub(crate) struct R;"),
            ("a.rs", "mod d; use crate::R; use crate::b::B;"),
            ("a/d.rs", "use super::A; use crate::a::E;"),
            ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ],
        &[],
    );
}

#[test]
fn test_cycles_through_a_hub_are_accepted_and_others_are_not() {
    let files =
        [("app.rs", "use crate::b::B; use crate::c::C;"), ("b.rs", "use crate::app;"), ("c.rs", "use crate::b;")];
    let files = files.map(|(path, text)| RustFile::new(&format!("crates/x/src/{path}"), text));
    let graph = uses(&files.each_ref());

    assert_eq!(cycles(&graph).len(), 1);
    assert_eq!(cycles(&without(graph, &["app"])).len(), 0);
}
