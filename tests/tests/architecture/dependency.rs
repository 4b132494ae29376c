//! Dependencies point inwards only, and the command line stays out of the library.

use crate::assert_none;
use crate::workspace::{Dependency, Package, packages, text};

/// What each package may depend on among ours; a package that is not here may not be there either.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("maqet-domain", &[]),
    ("maqet-application", &["maqet-domain"]),
    ("maqet-adapters-linux", &["maqet-domain"]),
    // The layer of the host, which the other adapters build on; besides that they do not know each other.
    ("maqet-adapters-sqlite", &["maqet-domain", "maqet-adapters-linux"]),
    ("maqet-adapters-qemu", &["maqet-domain", "maqet-adapters-linux"]),
    (
        "maqet",
        &["maqet-domain", "maqet-application", "maqet-adapters-linux", "maqet-adapters-sqlite", "maqet-adapters-qemu"],
    ),
    ("maqet-cli", &["maqet"]),
    ("maqet-testkit", &["maqet-domain"]),
    ("maqet-tests", &["maqet-testkit"]),
    ("xtask", &["maqet-testkit"]),
];

/// What tests of any package may use besides; the package `maqet-tests` is all tests and may use everything.
const ALLOWED_FOR_TESTS: [&str; 2] = ["maqet-domain", "maqet-testkit"];

/// Crates that reach the world; a package that is to be pure has none of them.
const WORLDLY: [&str; 13] = [
    "anstream",
    "close_fds",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "process-wrap",
    "rand",
    "rusqlite",
    "rustix",
    "socket2",
    "tempfile",
    "xdg",
];

/// Features of tokio that open files, sockets and processes.
const WORLDLY_TOKIO: [&str; 6] = ["fs", "full", "io-std", "net", "process", "signal"];

fn forbidden_edges(package: &Package, ours: &[String]) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("`{}` is new: say here and in docs/architecture.md what it may depend on", package.name)];
    };
    let is_allowed = |dependency: &&Dependency| {
        let for_tests = dependency.kind == "dev"
            && (package.name == "maqet-tests" || ALLOWED_FOR_TESTS.contains(&dependency.name.as_str()));
        for_tests || allowed.contains(&dependency.name.as_str())
    };
    let from_store = package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name));
    from_store
        .filter(|dependency| !is_allowed(dependency))
        .map(|dependency| format!("`{}` depends on `{}` ({})", package.name, dependency.name, dependency.kind))
        .collect()
}

fn worldly(package: &Package, tokio: bool) -> Vec<String> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == "normal");
    let is_worldly = |dependency: &&Dependency| match dependency.name.as_str() {
        "tokio" => !tokio || dependency.features.iter().any(|feature| WORLDLY_TOKIO.contains(&feature.as_str())),
        name => WORLDLY.contains(&name),
    };
    normal
        .filter(is_worldly)
        .map(|dependency| format!("`{}` depends on `{}` {:?}", package.name, dependency.name, dependency.features))
        .collect()
}

fn hard_clap(package: &Package) -> Vec<String> {
    let needs = package
        .dependencies
        .iter()
        .any(|dependency| dependency.name == "clap" && dependency.kind == "normal" && !dependency.is_optional);
    let by_default = package.features.get("default").into_iter().flatten().any(|feature| feature.contains("clap"));
    let findings = [(needs, "needs clap"), (by_default, "takes clap by default")];
    findings.iter().filter(|(is, _)| *is).map(|(_, what)| format!("`{}` {what}", package.name)).collect()
}

fn named<'a>(packages: &'a [Package], name: &str) -> &'a Package {
    packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("there is no package `{name}`"))
}

#[test]
fn test_dependencies_of_every_package_point_inwards_only() {
    let packages = packages();
    let ours: Vec<String> = packages.iter().map(|package| package.name.clone()).collect();

    let findings: Vec<String> = packages.iter().flat_map(|package| forbidden_edges(package, &ours)).collect();

    assert_none("dependencies point inwards only", &findings);
}

#[test]
fn test_dependencies_of_the_domain_reach_no_world_and_no_runtime() {
    assert_none("the domain is pure", &worldly(named(&packages(), "maqet-domain"), false));
}

#[test]
fn test_dependencies_of_the_application_reach_the_world_through_ports_only() {
    assert_none("the application works through ports", &worldly(named(&packages(), "maqet-application"), true));
}

#[test]
fn test_dependencies_clap_is_optional_outside_of_the_command_line() {
    let packages = packages();
    let others = packages.iter().filter(|package| !["maqet-cli", "xtask"].contains(&package.name.as_str()));

    assert_none("clap is optional", &others.flat_map(hard_clap).collect::<Vec<_>>());
}

#[test]
fn test_manifest_every_package_takes_the_lints_of_the_workspace() {
    let inherits =
        |package: &&Package| text(&format!("{}/Cargo.toml", package.folder)).contains("[lints]\nworkspace = true");
    let packages = packages();
    let findings: Vec<String> =
        packages.iter().filter(|package| !inherits(package)).map(|package| package.name.clone()).collect();

    assert_none("every package inherits `[workspace.lints]`, with `unsafe_code = \"forbid\"`", &findings);
}

fn sample(name: &str, dependency: &str, features: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        folder: String::new(),
        dependencies: vec![Dependency {
            name: dependency.to_owned(),
            kind: "normal".to_owned(),
            is_optional: false,
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
        }],
        features: [("default".to_owned(), vec!["dep:clap".to_owned()])].into(),
        targets: Vec::new(),
    }
}

#[test]
fn test_forbidden_edges_outward_dependency_is_found() {
    let ours = ["maqet-adapters-qemu".to_owned(), "maqet-application".to_owned()];

    assert_eq!(forbidden_edges(&sample("maqet-application", "maqet-adapters-qemu", &[]), &ours).len(), 1);
    assert_eq!(forbidden_edges(&sample("maqet-adapters-qemu", "maqet-application", &[]), &ours).len(), 1);
    assert_eq!(forbidden_edges(&sample("maqet-new", "serde", &[]), &ours).len(), 1);
    assert_eq!(forbidden_edges(&sample("maqet", "maqet-application", &[]), &ours).len(), 0);
}

#[test]
fn test_worldly_runtime_with_sockets_is_found() {
    assert_eq!(worldly(&sample("x", "tokio", &["time"]), true).len(), 0);
    assert_eq!(worldly(&sample("x", "tokio", &["time"]), false).len(), 1);
    assert_eq!(worldly(&sample("x", "tokio", &["net"]), true).len(), 1);
    assert_eq!(worldly(&sample("x", "rustix", &[]), true).len(), 1);
}

#[test]
fn test_hard_clap_needed_or_taken_by_default_is_found() {
    assert_eq!(hard_clap(&sample("x", "clap", &[])).len(), 2);
}
