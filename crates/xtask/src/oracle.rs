//! `cargo xtask oracle`: the vectors recomputed by an implementation in another language that shares no code with ours.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell::{self, root};

const ORACLE: &str = "crates/envelope/oracle";
const VENV: &str = "target/oracle-venv";

/// Installs what the oracle needs, once for each version of its requirements, and runs it. Without Python 3 or its venv
/// module this fails: a check that is left out looks like one that passed.
pub(crate) fn run() -> Result<()> {
    let venv = root().join(VENV);
    let wanted = root().join(ORACLE).join("requirements.txt");
    let wanted =
        fs::read(&wanted).with_context(|| format!("{} cannot be read", wanted.display()))?;
    // Written last, so an installation that was cut off is begun anew.
    let stamp = venv.join("installed.txt");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        install(&venv)?;
        fs::write(&stamp, &wanted)
            .with_context(|| format!("{} cannot be written", stamp.display()))?;
    }
    let script = format!("{ORACLE}/check.py");
    shell::run(venv.join("bin/python"), &["-B", &script])
}

fn install(venv: &Path) -> Result<()> {
    shell::run("python3", &["-m", "venv", "--clear", VENV]).context(
        "the oracle needs Python 3.10 or later with its venv module (Debian: python3-venv)",
    )?;
    let requirements = format!("{ORACLE}/requirements.txt");
    shell::run(
        venv.join("bin/python"),
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            &requirements,
        ],
    )
}
