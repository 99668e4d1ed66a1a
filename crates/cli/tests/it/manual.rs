//! Completions and the manual, each read by what reads it on a machine: bash, and groff as `man` calls it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Ran, greffe, names, run};

/// Every command, as the help texts name them: `greffe`, `greffe order`, `greffe order request` and so on.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let help = help(&path);
        let below = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            // A description that goes on in the next line is indented further.
            .filter_map(|line| {
                line.strip_prefix("  ")
                    .filter(|rest| !rest.starts_with(' '))
            })
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        for name in below {
            open.push([&path[..], &[name.to_owned()]].concat());
        }
        found.push(path);
    }
    found
}

fn help(path: &[String]) -> String {
    let mut command = greffe();
    let ran = Ran::of(command.args(path).arg("--help").output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout
}

/// What bash offers for the last of some words.
fn offered(script: &Path, words: &[&str]) -> BTreeSet<String> {
    let ask = r#"
        source "$1" || exit 1
        shift
        [[ $(complete -p greffe) =~ -F\ ([^ ]+) ]] || exit 2
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "${BASH_REMATCH[1]}" greffe "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", ask, "bash"]);
    let ran = Ran::of(bash.arg(script).args(words).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    ran.stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("greffe");
    let ran = run(["completions", "bash"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    fs::write(&script, &ran.stdout).unwrap();
    assert_eq!(
        offered(&script, &["greffe", "prod"]),
        BTreeSet::from(["produce".to_owned()])
    );
    let below = offered(&script, &["greffe", "log", ""]);
    for name in ["checkpoint", "entry", "list", "statement"] {
        assert!(below.contains(name), "{below:?}");
    }
    let long = offered(&script, &["greffe", "order", "request", "--rec"]);
    assert!(
        !long.is_empty() && long.iter().all(|name| name.starts_with("--rec")),
        "{long:?}"
    );
    assert_eq!(
        offered(&script, &["greffe", "serve", "arch"]),
        BTreeSet::from(["archive".to_owned()])
    );
}

#[test]
fn every_shell_has_a_script_that_knows_every_command() {
    let named: BTreeSet<String> = commands().into_iter().flatten().collect();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(["completions", shell, "--output", "json"]).json();
        assert_eq!(said["shell"], shell);
        let script = said["script"].as_str().unwrap();
        for name in &named {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
    }
    run(["completions", "tcsh"]).refused_at_once(2, "ARGUMENTS");
}

#[test]
fn every_command_has_a_page_that_renders_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let man = greffe();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"umask 022 && exec "$0" "$@""#])
        .arg(man.get_program())
        .args(["man", "--output", "json", "--out"])
        .arg(&pages);
    let said = Ran::of(shell.output().unwrap()).json();
    let commands = commands();
    assert!(commands.len() > 40, "{}", commands.len());
    let mut expected: Vec<String> = commands
        .iter()
        .map(|path| {
            format!(
                "{}.1",
                [&["greffe".to_owned()], &path[..]].concat().join("-")
            )
        })
        .collect();
    expected.sort();
    assert_eq!(names(&pages), expected);
    assert_eq!(said["pages"].as_array().unwrap().len(), expected.len());
    for (path, page) in commands.iter().map(|path| {
        let name = [&["greffe".to_owned()], &path[..]].concat().join("-");
        (path, pages.join(format!("{name}.1")))
    }) {
        // Everybody reads them.
        let mode = fs::metadata(&page).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{}", page.display());
        let text = rendered(&page);
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES"] {
            assert!(
                text.lines().any(|line| line == heading),
                "{}",
                page.display()
            );
        }
        // The help text breaks long lines, the page does not.
        for line in examples(&help(path)) {
            assert!(
                text.lines().any(|found| found.trim().starts_with(&line)),
                "{}: {line}",
                page.display()
            );
        }
    }
}

/// The lines of a help text that show the command at work.
fn examples(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Example"))
        .map(str::trim)
        .filter(|line| line.starts_with("greffe "))
        .map(str::to_owned)
        .collect()
}

/// A page as a terminal shows it, wide enough for every example to stay on its line.
fn rendered(page: &Path) -> String {
    let ran = Command::new("groff")
        .args(["-man", "-Tascii", "-ww", "-P-cbou", "-rLL=300n"])
        .arg(page)
        .output()
        .unwrap_or_else(|error| panic!("groff cannot be run: {error}; run `cargo xtask parts`"));
    let ran = Ran::of(ran);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, ""),
        "{}",
        page.display()
    );
    ran.stdout
}
