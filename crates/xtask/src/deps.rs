//! `cargo xtask deps`: licences, bans, sources, known vulnerabilities and yanked versions, judged by the same deny.toml that
//! cargo-deny reads.
//!
//! cargo-deny itself takes eleven minutes to compile and its advisory database needs a network that a build machine may
//! not have; this covers every change, with a snapshot of that database.

mod advisories;
mod yanked;

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use advisories::Advisories;

use crate::shell::{read, root};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    #[serde(default)]
    advisories: Exceptions,
}

#[derive(Default, Deserialize)]
struct Exceptions {
    #[serde(default)]
    ignore: Vec<Exception>,
}

/// An advisory that does not concern us, and why.
#[derive(Deserialize)]
struct Exception {
    id: String,
    #[serde(rename = "reason")]
    _reason: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// Checks every package that a build on Linux takes in.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => check(),
        [flag, folder] if flag == "--advisories" => advisories::snapshot(folder),
        _ => {
            bail!("cargo xtask deps takes nothing, or --advisories and a checkout of the database")
        }
    }
}

fn check() -> Result<()> {
    let rules =
        std::fs::read_to_string(root().join("deny.toml")).context("deny.toml cannot be read")?;
    let rules: Deny = toml::from_str(&rules).context("deny.toml is not understood")?;
    let metadata = read(
        "cargo",
        &[
            "metadata",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ],
    )?;
    let metadata: Metadata =
        serde_json::from_slice(&metadata).context("cargo metadata is not understood")?;
    let packages: HashMap<_, _> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package))
        .collect();

    let mut failings = Vec::new();
    let advisories = Advisories::load()?;
    let shipped = shipped(&metadata);
    let mut published = BTreeSet::new();
    for id in &shipped {
        let package = packages
            .get(id)
            .context("cargo metadata names a package it does not describe")?;
        failings.extend(
            judge(&rules, &advisories, package)?
                .into_iter()
                .map(|why| format!("{} {}: {why}", package.name, package.version)),
        );
        if package.source.is_some() {
            published.insert((package.name.clone(), package.version.clone()));
        }
    }
    if !failings.is_empty() {
        bail!("dependencies refused:\n  {}", failings.join("\n  "));
    }
    yanked::refuse(&published)?;
    eprintln!(
        "deps: {} packages, all of allowed licences and sources, none banned or yanked, none with a known vulnerability up to {}",
        shipped.len(),
        advisories.newest
    );
    Ok(())
}

/// Packages reached from the workspace without passing through what only tests use.
fn shipped(metadata: &Metadata) -> BTreeSet<String> {
    let nodes: HashMap<_, _> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (&node.id, node))
        .collect();
    let mut seen = BTreeSet::new();
    let mut next: Vec<String> = metadata.workspace_members.clone();
    while let Some(id) = next.pop() {
        let Some(node) = nodes.get(&id) else { continue };
        if seen.insert(id) {
            let edges = node.deps.iter().filter(|edge| {
                edge.dep_kinds
                    .iter()
                    .any(|k| k.kind.as_deref() != Some("dev"))
            });
            next.extend(edges.map(|edge| edge.pkg.clone()));
        }
    }
    seen
}

fn judge(rules: &Deny, advisories: &Advisories, package: &Package) -> Result<Vec<String>> {
    let mut failings = Vec::new();
    for id in advisories.of(&package.name, &package.version)? {
        if !rules.advisories.ignore.iter().any(|known| known.id == id) {
            failings.push(format!(
                "known to be vulnerable: {id}; take a patched version"
            ));
        }
    }
    match (&package.license, &package.license_file) {
        (Some(license), _) if allowed(license, &rules.licenses.allow) => {}
        (Some(license), _) => failings.push(format!("licence {license} is not allowed")),
        (None, Some(file)) => failings.push(format!(
            "licence only in a file ({file}): name it in deny.toml"
        )),
        (None, None) => failings.push("no licence".to_owned()),
    }
    if let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == package.name) {
        failings.push(format!("banned: {}", ban.reason));
    }
    if let Some(source) = &package.source
        && !source.starts_with("registry+")
        && !source.starts_with("sparse+")
    {
        failings.push(format!("source {source} is not a registry"));
    }
    if package.source.is_none() {
        let wild = package
            .dependencies
            .iter()
            .filter(|d| d.req == "*" && d.path.is_none());
        failings.extend(wild.map(|d| format!("depends on any version of {}", d.name)));
    }
    Ok(failings)
}

/// Judges an SPDX expression: `OR` needs one allowed side, `AND` both; parentheses are honoured.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut position = 0;
    let verdict = either(&tokens, &mut position, allow);
    verdict && position == tokens.len()
}

fn either(tokens: &[&str], position: &mut usize, allow: &BTreeSet<String>) -> bool {
    let mut verdict = both(tokens, position, allow);
    while tokens.get(*position) == Some(&"OR") {
        *position += 1;
        let other = both(tokens, position, allow);
        verdict = verdict || other;
    }
    verdict
}

fn both(tokens: &[&str], position: &mut usize, allow: &BTreeSet<String>) -> bool {
    let mut verdict = one(tokens, position, allow);
    while tokens.get(*position) == Some(&"AND") {
        *position += 1;
        let other = one(tokens, position, allow);
        verdict = verdict && other;
    }
    verdict
}

fn one(tokens: &[&str], position: &mut usize, allow: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*position) else {
        return false;
    };
    *position += 1;
    if *token == "(" {
        let verdict = either(tokens, position, allow);
        let closed = tokens.get(*position) == Some(&")");
        *position += 1;
        return verdict && closed;
    }
    if tokens.get(*position) == Some(&"WITH") {
        let exception = tokens.get(*position + 1).copied().unwrap_or_default();
        *position += 2;
        return allow.contains(&format!("{token} WITH {exception}"));
    }
    allow.contains(*token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package as cargo describes one.
    fn package(name: &str, version: &str, license: Option<&str>, source: Option<&str>) -> Package {
        Package {
            id: format!("{name} {version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.map(str::to_owned),
            license_file: None,
            source: source.map(str::to_owned),
            dependencies: Vec::new(),
        }
    }

    const REGISTRY: Option<&str> = Some("registry+https://example.org/index");

    #[test]
    fn attack_62_a_vulnerable_or_unlicensed_dependency_fails() {
        let rules = std::fs::read_to_string(root().join("deny.toml")).unwrap();
        let rules: Deny = toml::from_str(&rules).unwrap();
        let advisories = Advisories::load().unwrap();
        let judged = |package: &Package| judge(&rules, &advisories, package).unwrap();
        let fails = |package: &Package, why: &str| {
            let failings = judged(package);
            assert!(failings.iter().any(|f| f.contains(why)), "{failings:?}");
        };
        // RUSTSEC-2021-0003: a buffer overflow, patched in 0.6.14 and 1.6.1.
        let smallvec = |version| package("smallvec", version, Some("MIT"), REGISTRY);
        fails(&smallvec("1.6.0"), "RUSTSEC-2021-0003");
        fails(&smallvec("0.6.13"), "RUSTSEC-2021-0003");
        assert!(judged(&smallvec("1.6.1")).is_empty());
        for license in [
            None,
            Some("GPL-3.0-only"),
            Some("MIT AND SSPL-1.0"),
            Some(""),
        ] {
            fails(&package("some", "1.0.0", license, REGISTRY), "licence");
        }
        let somewhere = Some("git+https://example.org/some");
        fails(&package("some", "1.0.0", Some("MIT"), somewhere), "source");
        fails(
            &package("openssl-sys", "0.9.1", Some("MIT"), REGISTRY),
            "banned",
        );
        assert!(judged(&package("some", "1.0.0", Some("MIT"), REGISTRY)).is_empty());
    }

    #[test]
    fn attack_62_a_yanked_dependency_fails() {
        let wanted = |version: &str| BTreeSet::from([("memchr".to_owned(), version.to_owned())]);
        let refused = yanked::refuse(&wanted("2.3.1")).unwrap_err().to_string();
        assert!(refused.contains("yanked"), "{refused}");
        yanked::refuse(&wanted("2.7.4")).unwrap();
    }

    #[test]
    fn attack_62_a_package_that_ships_is_found_however_deep() {
        let edge = |pkg: &str, kind: Option<&str>| serde_json::json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
        let metadata: Metadata = serde_json::from_value(serde_json::json!({
            "packages": [],
            "workspace_members": ["ours"],
            "resolve": { "nodes": [
                { "id": "ours", "deps": [edge("a", None), edge("tests", Some("dev"))] },
                { "id": "a", "deps": [edge("b", Some("build"))] },
                { "id": "b", "deps": [edge("c", None)] },
                { "id": "c", "deps": [] },
                { "id": "tests", "deps": [] },
            ] },
        }))
        .unwrap();
        let shipped: Vec<String> = shipped(&metadata).into_iter().collect();
        assert_eq!(shipped, ["a", "b", "c", "ours"]);
    }

    #[test]
    fn expressions_are_judged_as_spdx_says() {
        let allow: BTreeSet<String> = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
        assert!(allowed("MIT OR GPL-3.0", &allow));
        assert!(allowed("GPL-3.0/MIT", &allow));
        assert!(!allowed("MIT AND GPL-3.0", &allow));
        assert!(allowed("(MIT OR GPL-3.0) AND Apache-2.0", &allow));
        assert!(!allowed("(GPL-3.0 OR LGPL-3.0) AND MIT", &allow));
        assert!(allowed("Apache-2.0 WITH LLVM-exception", &allow));
        assert!(!allowed("GPL-3.0 WITH Classpath-exception-2.0", &allow));
        assert!(!allowed("MIT )", &allow));
        assert!(!allowed("", &allow));
    }
}
