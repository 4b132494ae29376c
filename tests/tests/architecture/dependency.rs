//! Dependencies between packages point inwards, and clap stays out of the libraries.

use crate::assert_none;
use crate::workspace::{Dependency, Package, packages, text};

/// Which packages of the workspace each may depend on; a new package has to be entered here.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("maqet-domain", &[]),
    ("maqet-fault-points", &[]),
    ("maqet-application", &["maqet-domain", "maqet-fault-points"]),
    ("maqet-adapters-linux", &["maqet-domain"]),
    // The host layer is the only adapter that others may use.
    ("maqet-adapters-sqlite", &["maqet-domain", "maqet-fault-points", "maqet-adapters-linux"]),
    ("maqet-adapters-postgres", &["maqet-domain", "maqet-fault-points"]),
    ("maqet-adapters-qemu", &["maqet-domain", "maqet-fault-points", "maqet-adapters-linux"]),
    (
        "maqet",
        &[
            "maqet-domain",
            "maqet-fault-points",
            "maqet-application",
            "maqet-adapters-linux",
            "maqet-adapters-postgres",
            "maqet-adapters-sqlite",
            "maqet-adapters-qemu",
        ],
    ),
    ("maqet-cli", &["maqet"]),
    ("maqet-testkit", &["maqet-domain", "maqet-fault-points"]),
    ("maqet-fuzz", &["maqet", "maqet-adapters-qemu"]),
    ("maqet-tests", &["maqet-testkit"]),
    ("xtask", &["maqet-testkit"]),
];

/// Additional dependencies of the tests of any package; `maqet-tests` may depend on everything.
const ALLOWED_FOR_TESTS: [&str; 2] = ["maqet-domain", "maqet-testkit"];

/// Crates that do I/O or read the environment; a pure package has none of them.
const IMPURE: [&str; 13] = [
    "anstream", "close_fds", "getrandom", "libc", "mio", "nix", "process-wrap", "rand", "rusqlite", "rustix",
    "socket2", "tempfile", "xdg",
];

/// Features of tokio that open files, sockets and processes.
const IMPURE_TOKIO: [&str; 6] = ["fs", "full", "io-std", "net", "process", "signal"];

fn forbidden_edges(package: &Package, ours: &[String]) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!(
            "`{}` is new: enter here and in docs/architecture.md what it may depend on",
            package.name
        )];
    };
    let is_allowed = |dependency: &&Dependency| {
        let for_tests = dependency.kind == "dev"
            && (package.name == "maqet-tests" || ALLOWED_FOR_TESTS.contains(&dependency.name.as_str()));
        for_tests || allowed.contains(&dependency.name.as_str())
    };
    let internal = package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name));
    internal
        .filter(|dependency| !is_allowed(dependency))
        .map(|dependency| format!("`{}` depends on `{}` ({})", package.name, dependency.name, dependency.kind))
        .collect()
}

fn impure(package: &Package, tokio: bool) -> Vec<String> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == "normal");
    let is_impure = |dependency: &&Dependency| match dependency.name.as_str() {
        "tokio" => !tokio || dependency.features.iter().any(|feature| IMPURE_TOKIO.contains(&feature.as_str())),
        name => IMPURE.contains(&name),
    };
    normal
        .filter(is_impure)
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
    packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no package `{name}`"))
}

#[test]
fn test_dependencies_of_every_package_point_inwards_only() {
    let packages = packages();
    let ours: Vec<String> = packages.iter().map(|package| package.name.clone()).collect();

    let findings: Vec<String> = packages.iter().flat_map(|package| forbidden_edges(package, &ours)).collect();

    assert_none("dependencies point inwards", &findings);
}

#[test]
fn test_dependencies_of_domain_exclude_adapters_and_runtime() {
    assert_none("the domain is pure", &impure(named(&packages(), "maqet-domain"), false));
}

#[test]
fn test_dependencies_of_application_exclude_adapters() {
    assert_none("the application works through ports", &impure(named(&packages(), "maqet-application"), true));
}

#[test]
fn test_dependencies_clap_outside_of_cli_is_optional() {
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
fn test_impure_runtime_with_sockets_is_found() {
    assert_eq!(impure(&sample("x", "tokio", &["time"]), true).len(), 0);
    assert_eq!(impure(&sample("x", "tokio", &["time"]), false).len(), 1);
    assert_eq!(impure(&sample("x", "tokio", &["net"]), true).len(), 1);
    assert_eq!(impure(&sample("x", "rustix", &[]), true).len(), 1);
}

#[test]
fn test_hard_clap_needed_or_taken_by_default_is_found() {
    assert_eq!(hard_clap(&sample("x", "clap", &[])).len(), 2);
}
