//! Known vulnerabilities of crates, from a committed snapshot of the RustSec advisory database.
//!
//! The database itself is a repository that a build machine may not reach. `cargo xtask deps --advisories FOLDER` makes the snapshot
//! again from a checkout of it; how old it is stands in its first line and in what the check prints.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::shell::root;

const FILE: &str = "crates/xtask/advisories.tsv";
const HEAD: &str = "# RustSec advisories (CC0-1.0), vulnerabilities and unsoundness, newest of ";

/// The snapshot.
#[derive(Debug)]
pub(super) struct Advisories {
    entries: Vec<Advisory>,
    /// Date of the newest advisory.
    pub(super) newest: String,
}

/// A crate's versions are affected unless a patched or an unaffected range holds them.
#[derive(Debug)]
struct Advisory {
    id: String,
    package: String,
    sound: Vec<VersionReq>,
}

impl Advisories {
    /// Reads the snapshot.
    pub(super) fn load() -> Result<Self> {
        let text = fs::read_to_string(root().join(FILE))
            .with_context(|| format!("{FILE} cannot be read"))?;
        Self::parse(&text)
    }

    /// One advisory a line: id, crate, and ranges that are not affected, with `;` between.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let newest = lines.next().and_then(|line| line.strip_prefix(HEAD));
        let newest = newest.with_context(|| format!("{FILE} does not say how old it is"))?;
        let entries = lines
            .map(|line| entry(line).with_context(|| format!("{FILE} is not understood: {line}")))
            .collect::<Result<Vec<_>>>()?;
        ensure!(!entries.is_empty(), "{FILE} holds no advisory");
        Ok(Self {
            entries,
            newest: newest.to_owned(),
        })
    }

    /// Advisories that a version of a crate falls under.
    pub(super) fn of(&self, package: &str, version: &str) -> Result<Vec<&str>> {
        let version = Version::parse(version)
            .with_context(|| format!("{package} has no version: {version}"))?;
        let affected = self.entries.iter().filter(|advisory| {
            advisory.package == package && !advisory.sound.iter().any(|r| r.matches(&version))
        });
        Ok(affected.map(|advisory| advisory.id.as_str()).collect())
    }
}

fn entry(line: &str) -> Result<Advisory> {
    let mut parts = line.split('\t');
    let (Some(id), Some(package), Some(ranges), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        anyhow::bail!("three columns are needed");
    };
    let ranges = ranges.split(';').filter(|range| !range.is_empty());
    Ok(Advisory {
        id: id.to_owned(),
        package: package.to_owned(),
        sound: ranges.map(VersionReq::parse).collect::<Result<_, _>>()?,
    })
}

#[derive(Deserialize)]
struct File {
    advisory: Head,
    #[serde(default)]
    versions: Versions,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    package: String,
    date: String,
    informational: Option<String>,
    withdrawn: Option<String>,
}

#[derive(Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

/// Makes the snapshot from a checkout of the database.
pub(super) fn snapshot(folder: &str) -> Result<()> {
    let mut lines = Vec::new();
    let mut newest = String::new();
    for package in list(&Path::new(folder).join("crates"))? {
        for path in list(&package)? {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            let head = text.split("```").nth(1).unwrap_or_default();
            let head = head.strip_prefix("toml").unwrap_or(head);
            let file: File = toml::from_str(head)
                .with_context(|| format!("{} is no advisory", path.display()))?;
            newest = newest.max(file.advisory.date);
            let counts = matches!(
                file.advisory.informational.as_deref(),
                None | Some("unsound")
            );
            if counts && file.advisory.withdrawn.is_none() {
                let ranges = [file.versions.patched, file.versions.unaffected].concat();
                let ranges = ranges.join(";");
                lines.push(format!(
                    "{}\t{}\t{ranges}",
                    file.advisory.id, file.advisory.package
                ));
            }
        }
    }
    lines.sort();
    let mut text = format!("{HEAD}{newest}\n");
    for line in &lines {
        writeln!(text, "{line}")?;
    }
    Advisories::parse(&text)?;
    fs::write(root().join(FILE), text).with_context(|| format!("{FILE} cannot be written"))?;
    eprintln!("deps: {} advisories up to {newest} in {FILE}", lines.len());
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let failed = || format!("{} cannot be listed", folder.display());
    fs::read_dir(folder)
        .with_context(failed)?
        .map(|entry| Ok(entry.with_context(failed)?.path()))
        .collect()
}
