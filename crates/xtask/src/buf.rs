//! `cargo xtask buf`: the contracts under `proto/`, linted and compared with the last released ones.
//!
//! The released contracts are the committed image `proto/released.binpb`; there is no tag to compare with, and a clone without
//! history can be checked too. `cargo xtask buf --release` replaces it, once nothing in it is broken.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

use crate::parts;
use crate::shell::root;

const RELEASED: &str = "proto/released.binpb";
/// Where changed copies are judged.
const SCRATCH: &str = "target/buf";

/// Changes that have to be refused, so that a check which sees nothing is found out: file, text, its replacement, and the
/// rule that has to say no.
const REFUSED: [(&str, &str, &str, &str); 5] = [
    (
        "archive/v1/archive.proto",
        "  // The sender; empty for any.\n  string sender = 7;\n",
        "",
        "FIELD_NO_DELETE",
    ),
    (
        "archive/v1/archive.proto",
        "  // The sender; empty for any.\n  string sender = 7;\n",
        "  // The sender; empty for any.\n  string sender = 70;\n",
        "FIELD_NO_DELETE",
    ),
    (
        "archive/v1/archive.proto",
        "  // The sender; empty for any.\n  string sender = 7;\n",
        "  // The sender; empty for any.\n  uint64 sender = 7;\n",
        "FIELD_SAME_TYPE",
    ),
    (
        "archive/v1/archive_service.proto",
        "  rpc ListMatters(ListMattersRequest) returns (ListMattersResponse);\n",
        "",
        "RPC_NO_DELETE",
    ),
    (
        "archive/v1/archive.proto",
        "  // The sender; empty for any.\n  string sender = 7;\n",
        "  string sender = 7;\n",
        "COMMENT_FIELD",
    ),
];

/// Lints, compares, and proves that both would have refused.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    parts::buf()?;
    let release = match arguments {
        [] => false,
        [flag] if flag == "--release" => true,
        _ => bail!("cargo xtask buf takes --release or nothing"),
    };
    passes("proto")?;
    let scratch = root().join(SCRATCH);
    for (file, text, replacement, rule) in REFUSED {
        copy(&scratch)?;
        let path = scratch.join("greffe").join(file);
        let before = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        ensure!(
            before.contains(text),
            "{file} does not hold {text:?}: name another change to prove that {rule} is seen"
        );
        fs::write(&path, before.replacen(text, replacement, 1))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let found = findings(SCRATCH)?;
        ensure!(
            found.contains(rule),
            "a changed copy of {file} should have been refused by {rule}, but buf says: {found:?}"
        );
    }
    fs::remove_dir_all(&scratch)
        .with_context(|| format!("{} cannot be removed", scratch.display()))?;
    if release {
        let written = buf(&[
            "build",
            "proto",
            "--exclude-source-info",
            "--output",
            RELEASED,
        ])?;
        ensure!(written.status.success(), "buf build: {}", said(&written));
        eprintln!("buf: {RELEASED} holds the contracts as they are now");
    }
    eprintln!(
        "buf: the contracts pass, break nothing that was released, and {} changed copies are refused",
        REFUSED.len()
    );
    Ok(())
}

fn passes(folder: &str) -> Result<()> {
    let found = findings(folder)?;
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "buf:\n{found}\nA new meaning gets a new field or a new package version; comments are `//` lines above"
    )
}

/// What lint and the comparison find, each with the name of its rule.
fn findings(folder: &str) -> Result<String> {
    let mut found = String::new();
    for arguments in [
        ["lint", folder, "--error-format=json", ""],
        ["breaking", folder, "--error-format=json", "--against"],
    ] {
        let arguments: Vec<&str> = match arguments {
            [.., ""] => arguments[..3].to_vec(),
            _ => [&arguments[..], &[RELEASED]].concat(),
        };
        let output = buf(&arguments)?;
        // 100: there are findings.
        ensure!(
            matches!(output.status.code(), Some(0 | 100)),
            "buf {}: {}",
            arguments.join(" "),
            said(&output)
        );
        found.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(found)
}

fn buf(arguments: &[&str]) -> Result<Output> {
    let program = root().join(parts::BUF);
    Command::new(&program)
        .args(arguments)
        .current_dir(root())
        .env("BUF_CACHE_DIR", root().join("target/buf-cache"))
        .output()
        .with_context(|| format!("{} cannot be started", program.display()))
}

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    format!("{} {}", output.status, error.trim())
}

/// A fresh copy of the contracts.
fn copy(to: &Path) -> Result<()> {
    fn tree(from: &Path, to: &Path) -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                tree(&entry.path(), &to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(())
    }
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("{} cannot be removed", to.display()))?;
    }
    tree(&root().join("proto"), to).context("the contracts cannot be copied")
}
