//! `cargo xtask defences`: each defence taken out in turn, to see that the test named after its attack fails without it.
//!
//! `crates/xtask/defences/` holds a patch for each defence. It opens with header lines and goes on as `git diff` writes it:
//!
//! ```text
//! Attack: 29
//! Defence: what it is and where, in one sentence
//! Test: greffe-escrow it attack_29_
//! ```
//!
//! A test is a package, a target of it (`lib` or `bin` for its unit tests) and what the names of the tests begin with. `greffe-simulation
//! seed 67` stands for that seed of `cargo xtask simulate`. All tests have to pass on the commit as it is, and then with
//! each patch applied every one that it names has to fail: a patch that does not apply or does not compile, and a test that runs
//! into the time limit, show nothing and fail the command. What the tests said is written to `deploy/DEFENCES.md`, patch by patch.

mod patch;
mod table;
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, root};
use patch::Patch;
use table::Table;
use tests::Came;

/// Where patches are kept.
const FOLDER: &str = "crates/xtask/defences";

/// Goes through the patches whose names begin with one of the arguments, all unless one is given; of all, those that were not shown
/// yet with `--left`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let patches = Patch::all(&root().join(FOLDER))?;
    let mut table = Table::read();
    let wanted: Vec<&Patch> = match arguments {
        [] => patches.iter().collect(),
        [left] if left == "--left" => patches.iter().filter(|patch| !table.has(patch)).collect(),
        names => named(&patches, names)?,
    };
    let commit = shell::read("git", &["rev-parse", "--short", "HEAD"])?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let tree = shell::checkout("target/defences/tree", &commit)?;
    let tests = wanted.iter().flat_map(|patch| &patch.tests);
    for test in tests.collect::<BTreeSet<_>>() {
        if let Came::Failed(said) = tests::run(&tree, test)? {
            bail!("{test} fails without any patch: {said}");
        }
    }
    let mut wrong = Vec::new();
    for patch in &wanted {
        match without(&tree, patch) {
            Ok(said) => table.add(&patches, patch, &commit, &said)?,
            Err(error) => {
                let error = format!("{}: {error:#}", patch.name);
                eprintln!("defences: {error}");
                wrong.push(error);
            }
        }
    }
    ensure!(wrong.is_empty(), "defences:\n  {}", wrong.join("\n  "));
    eprintln!(
        "defences: without each of {} a test of its attack fails; it is in deploy/DEFENCES.md",
        wanted.len()
    );
    Ok(())
}

/// Those whose names begin so.
fn named<'a>(patches: &'a [Patch], names: &[String]) -> Result<Vec<&'a Patch>> {
    let begins = |patch: &Patch, name: &String| patch.name.starts_with(name.as_str());
    if let Some(unknown) = names
        .iter()
        .find(|name| !patches.iter().any(|patch| begins(patch, name)))
    {
        bail!("no file in {FOLDER} begins with {unknown}");
    }
    let wanted = patches.iter();
    Ok(wanted
        .filter(|patch| names.iter().any(|name| begins(patch, name)))
        .collect())
}

/// What a test said without the defence.
fn without(tree: &Path, patch: &Patch) -> Result<String> {
    eprintln!("defences: {} without: {}", patch.name, patch.defence);
    let file = patch.file.canonicalize()?;
    let file = file.to_string_lossy();
    shell::git(tree, &["apply", &file]).context("the patch does not apply")?;
    let came = said_by(tree, patch);
    shell::git(tree, &["checkout", "--quiet", "--", "."])?;
    // A property that failed leaves what it failed with.
    shell::git(tree, &["clean", "--quiet", "-fd"])?;
    came
}

fn said_by(tree: &Path, patch: &Patch) -> Result<String> {
    let mut first = None;
    for test in &patch.tests {
        match tests::run(tree, test)? {
            Came::Failed(said) => first = first.or(Some(said)),
            Came::Passed => bail!("{test} passes without the defence"),
        }
    }
    first.context("no test is named")
}

#[cfg(test)]
mod checks {
    use super::{BTreeSet, FOLDER, Patch};
    use crate::shell::root;

    #[test]
    fn every_patch_applies() {
        for patch in Patch::all(&root().join(FOLDER)).unwrap() {
            let file = patch.file.canonicalize().unwrap();
            crate::shell::git(&root(), &["apply", "--check", &file.to_string_lossy()])
                .unwrap_or_else(|error| panic!("{}: {error:#}", patch.name));
        }
    }

    #[test]
    fn every_test_that_is_named_is_there() {
        for patch in Patch::all(&root().join(FOLDER)).unwrap() {
            for test in patch.tests.iter().filter(|test| !test.is_seed()) {
                let name = format!("fn {}", test.filter());
                let found = crate::shell::read("git", &["grep", "-l", "-F", &name, "--", "*.rs"]);
                assert!(found.is_ok(), "{}: no test begins with {name}", patch.name);
            }
        }
    }

    #[test]
    fn names_begin_with_the_attack() {
        let mut names = BTreeSet::new();
        for patch in Patch::all(&root().join(FOLDER)).unwrap() {
            assert!(
                patch.name.starts_with(&format!("{:0>2}-", patch.attack)),
                "{} is about attack {}",
                patch.name,
                patch.attack
            );
            assert!(
                names.insert(patch.defence.clone()),
                "{} twice",
                patch.defence
            );
        }
    }
}
