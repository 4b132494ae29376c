//! Checks licenses, sources and versions of dependencies against [`policy`].

mod policy;
mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use self::policy::{POLICY, Policy};
use crate::failure::{Failure, OrFailure};
use crate::workspace::Workspace;
use crate::{Result, program};

/// What `cargo metadata` prints, as far as it is checked.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    /// `None` for the packages of this workspace.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// Fails if a dependency violates the policy, and lists every violation.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut packages = BTreeMap::new();
    for target in POLICY.targets {
        let arguments = ["metadata", "--format-version=1", "--locked", "--all-features", "--filter-platform", target];
        let metadata = program::output(&mut workspace.cargo(arguments))?;
        packages.extend(used(&metadata)?.into_iter().map(|package| (package.id.clone(), package)));
    }
    let violations = violations(&POLICY, &packages.into_values().collect::<Vec<_>>());
    if violations.is_empty() {
        return Ok(());
    }
    Err(Failure::new("dependencies violate the policy")
        .because(violations.join("\n    "))
        .hint("the policy and its reasons are in crates/xtask/src/dependencies/policy.rs"))
}

/// Returns the packages that are used on the target.
fn used(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).or_failure(|| "cannot read the output of `cargo metadata`".to_owned())?;
    let ids: BTreeSet<String> = metadata.resolve.nodes.into_iter().map(|node| node.id).collect();
    Ok(metadata.packages.into_iter().filter(|package| ids.contains(&package.id)).collect())
}

fn violations(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut violations: Vec<String> = packages.iter().flat_map(|package| package_violations(policy, package)).collect();
    let is_used = |name: &str| packages.iter().any(|package| package.name == name);
    let unused = policy.exceptions.iter().filter(|exception| !is_used(exception.package));
    violations.extend(unused.map(|exception| format!("the exception for `{}` is unused", exception.package)));
    violations
}

fn package_violations(policy: &Policy, package: &Package) -> Vec<String> {
    let name = &package.name;
    let mut violations = Vec::new();
    if let Some(ban) = policy.bans.iter().find(|ban| ban.package == name) {
        violations.push(format!("`{name}` is banned: {}", ban.reason));
    }
    if let Some(source) = package.source.as_ref().filter(|source| *source != policy.registry) {
        violations.push(format!("`{name}` does not come from crates.io, but from {source}"));
    }
    let wildcards = package.dependencies.iter().filter(|dependency| dependency.req == "*" && dependency.path.is_none());
    violations.extend(wildcards.map(|dependency| format!("`{name}` accepts any version of `{}`", dependency.name)));
    if let Some(problem) = licence_violation(policy, package) {
        violations.push(problem);
    }
    violations
}

fn licence_violation(policy: &Policy, package: &Package) -> Option<String> {
    let name = &package.name;
    let Some(expression) = &package.license else { return Some(format!("`{name}` declares no licence")) };
    let is_exception = |licence: &str| {
        policy.exceptions.iter().any(|exception| exception.package == name && exception.licence == licence)
    };
    match spdx::is_satisfied(expression, |licence| policy.licences.contains(&licence) || is_exception(licence)) {
        Some(true) => None,
        Some(false) => Some(format!("the licence of `{name}` is not accepted: {expression}")),
        None => Some(format!("the licence of `{name}` is not a valid SPDX expression: {expression}")),
    }
}

#[cfg(test)]
mod tests {
    use super::policy::{Ban, Exception};
    use super::*;

    const REGISTRY: &str = "registry+https://example.org/index";

    const SAMPLE: Policy = Policy {
        targets: &[],
        registry: REGISTRY,
        licences: &["MIT"],
        exceptions: &[],
        bans: &[Ban { package: "bad", reason: "it is bad" }],
    };

    fn package(name: &str, license: Option<&str>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            license: license.map(str::to_owned),
            source: Some(REGISTRY.to_owned()),
            dependencies: Vec::new(),
        }
    }

    fn needing(name: &str, req: &str, path: Option<&str>) -> Package {
        let dependency = Dependency { name: "b".to_owned(), req: req.to_owned(), path: path.map(str::to_owned) };
        Package { dependencies: vec![dependency], ..package(name, Some("MIT")) }
    }

    #[track_caller]
    fn check(package: Package, expected: &[&str]) {
        assert_eq!(violations(&SAMPLE, &[package]), expected);
    }

    #[test]
    fn test_violations_licence_missing_refused_or_invalid_is_found() {
        check(package("a", Some("MIT OR GPL-3.0-only")), &[]);
        check(package("a", None), &["`a` declares no licence"]);
        check(package("a", Some("GPL-3.0-only")), &["the licence of `a` is not accepted: GPL-3.0-only"]);
        check(package("a", Some("MIT and Zlib")), &["the licence of `a` is not a valid SPDX expression: MIT and Zlib"]);
    }

    #[test]
    fn test_violations_exception_unused_or_foreign_is_found() {
        let exceptions = &[Exception { package: "a", licence: "Zlib" }];
        let policy = Policy { exceptions, ..SAMPLE };

        assert!(violations(&policy, &[package("a", Some("Zlib"))]).is_empty());
        assert_eq!(
            violations(&policy, &[package("b", Some("Zlib"))]),
            ["the licence of `b` is not accepted: Zlib", "the exception for `a` is unused"]
        );
    }

    #[test]
    fn test_violations_banned_package_is_found() {
        check(package("bad", Some("MIT")), &["`bad` is banned: it is bad"]);
    }

    #[test]
    fn test_violations_other_source_is_found() {
        let from_git = Package { source: Some("git+https://x".to_owned()), ..package("a", Some("MIT")) };

        check(from_git, &["`a` does not come from crates.io, but from git+https://x"]);
        check(Package { source: None, ..package("ours", Some("MIT")) }, &[]);
    }

    #[test]
    fn test_violations_wildcard_version_without_path_is_found() {
        check(needing("a", "*", None), &["`a` accepts any version of `b`"]);
        check(needing("a", "*", Some("/b")), &[]);
        check(needing("a", "^1", None), &[]);
    }

    #[test]
    fn test_used_package_of_another_target_is_omitted() {
        let metadata = r#"{"packages": [{"id": "a", "name": "a", "license": "MIT", "source": null, "dependencies": []},
            {"id": "b", "name": "b", "license": "X", "source": null, "dependencies": []}],
            "resolve": {"nodes": [{"id": "a"}]}}"#;

        let names: Vec<String> = used(metadata).unwrap().into_iter().map(|package| package.name).collect();

        assert_eq!(names, ["a"]);
    }
}
