//! Whether the registry has taken a version back: asked of cargo itself, which selects no yanked version without a lock file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::root;

const SCRATCH: &str = "target/deps-yanked";

/// Has cargo select exactly these versions anew. It fails at the first that is yanked, and says which.
pub(super) fn refuse(packages: &BTreeSet<(String, String)>) -> Result<()> {
    let scratch = root().join(SCRATCH);
    if scratch.exists() {
        fs::remove_dir_all(&scratch).context("the scratch package cannot be removed")?;
    }
    fs::create_dir_all(scratch.join("src")).context("the scratch package cannot be made")?;
    let mut manifest = String::from(
        "[package]\nname = \"pinned\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n",
    );
    for (number, (name, version)) in packages.iter().enumerate() {
        writeln!(
            manifest,
            "p{number} = {{ package = \"{name}\", version = \"={version}\", default-features = false }}"
        )?;
    }
    fs::write(scratch.join("Cargo.toml"), manifest)
        .and_then(|()| fs::write(scratch.join("src/lib.rs"), "//! Nothing.\n"))
        .context("the scratch package cannot be written")?;
    let output = Command::new("cargo")
        .args(["generate-lockfile", "--quiet"])
        .current_dir(&scratch)
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "the registry gives a version of the lock file to nobody any more, or cannot be reached:\n{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::remove_dir_all(&scratch).context("the scratch package cannot be removed")
}
