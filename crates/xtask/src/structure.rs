//! `cargo xtask structure`: the direction of imports, the size of files, their opening lines.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::life;
use crate::shell::{read, root};

/// Crates that may never see these: they take time, randomness and bytes as parameters.
const PURE: [&str; 7] = [
    "types",
    "envelope",
    "tlog",
    "mls",
    "policy",
    "production",
    "models",
];
const IMPURE: [&str; 5] = ["tokio", "tonic", "sqlx", "hyper", "reqwest"];
const MOST_LINES: usize = 800;

/// Fails with every finding at once.
pub(crate) fn run() -> Result<()> {
    let mut findings = Vec::new();
    pure_manifests(&mut findings)?;
    services_apart(&mut findings)?;
    life::check(&mut findings)?;
    let files = read("git", &["ls-files", "*.rs"])?;
    for file in String::from_utf8_lossy(&files).lines() {
        let path = root().join(file);
        if path.exists() {
            source_file(file, &path, &mut findings)?;
        }
    }
    if findings.is_empty() {
        eprintln!("structure: imports run one way, files are small and say what they are for");
        return Ok(());
    }
    bail!("structure:\n  {}", findings.join("\n  "))
}

fn pure_manifests(findings: &mut Vec<String>) -> Result<()> {
    for name in PURE {
        for dependency in dependencies(&root().join("crates").join(name))? {
            if IMPURE.contains(&dependency.as_str()) {
                findings.push(format!(
                    "crates/{name} depends on {dependency}: it has to stay pure"
                ));
            }
        }
    }
    Ok(())
}

fn services_apart(findings: &mut Vec<String>) -> Result<()> {
    let services = ["relay", "archive", "escrow", "audit"];
    for name in services {
        let folder = root().join("services").join(name);
        if !folder.exists() {
            continue;
        }
        for dependency in dependencies(&folder)? {
            if services
                .iter()
                .any(|other| dependency == format!("greffe-{other}"))
            {
                findings.push(format!(
                    "services/{name} imports {dependency}: services speak gRPC only"
                ));
            }
        }
    }
    Ok(())
}

/// Names in `[dependencies]` of a package.
fn dependencies(folder: &Path) -> Result<Vec<String>> {
    let manifest: PathBuf = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .with_context(|| format!("{} cannot be read", manifest.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not TOML", manifest.display()))?;
    let names = table.get("dependencies").and_then(toml::Value::as_table);
    Ok(names
        .map(|names| names.keys().cloned().collect())
        .unwrap_or_default())
}

fn source_file(name: &str, path: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let lines = text.lines().count();
    if lines > MOST_LINES {
        findings.push(format!(
            "{name} has {lines} lines, {MOST_LINES} are the most"
        ));
    }
    if name.contains("/src/") && !text.starts_with("//!") {
        findings.push(format!(
            "{name} does not open with a line that says what it is for"
        ));
    }
    let pure = PURE
        .iter()
        .any(|pure| name.starts_with(&format!("crates/{pure}/src/")));
    if pure && (text.contains("SystemTime::now") || text.contains("Instant::now")) {
        findings.push(format!(
            "{name} reads the clock: time is a parameter in pure crates"
        ));
    }
    Ok(())
}
