//! `greffe demo` keeps its contract: every number follows from the input, and what stays verifies anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Ran, files, greffe, names, run, sample, sample_file, verify};

/// Who speaks in each line of the sample's chat, read as the file's form says.
fn chat() -> Vec<String> {
    let log = sample_file("2026-03-02.log.txt");
    let log = String::from_utf8_lossy(&log).into_owned();
    log.lines()
        .filter(|line| !line.starts_with("==="))
        .map(|line| {
            let rest = &line["[00:00] ".len()..];
            let nick = rest
                .strip_prefix('<')
                .and_then(|rest| rest.split_once('>'))
                .or_else(|| rest.strip_prefix(" * ")?.split_once(' '))
                .unwrap_or_else(|| panic!("{line:?}"));
            nick.0.to_owned()
        })
        .collect()
}

/// Deliveries when everybody joins with their first message.
fn deliveries(senders: &[String]) -> u64 {
    let mut members = BTreeSet::new();
    senders
        .iter()
        .map(|sender| {
            members.insert(sender);
            members.len() as u64 - 1
        })
        .sum()
}

#[test]
fn every_field_of_the_contract_is_there_and_right() {
    let demo = sample();
    let chat = chat();
    let mails = ["camille.renard@banque.example", "compliance@banque.example"].map(str::to_owned);
    let sent = chat.len() as u64 + 2;
    let users: BTreeSet<&String> = chat.iter().chain(&mails).collect();
    let delivered = deliveries(&chat) + deliveries(&mails);
    let opened = demo.number("records_opened");
    for (field, expected) in [
        ("users", users.len() as u64),
        ("conversations", 2),
        ("messages_sent", sent),
        ("messages_archived", sent),
        ("messages_delivered", delivered),
        ("receipts_verified", sent + delivered),
        ("wraps_recomputed", delivered),
        ("refused", 0),
        ("orders", 1),
        ("approvals", 2),
    ] {
        assert_eq!(
            demo.number(field),
            expected,
            "{field} of {:#}",
            demo.summary
        );
    }
    assert!(opened >= 6 && demo.number("elapsed_ms") > 0);
    assert_eq!(demo.summary["refusals"], serde_json::json!([]));
    for (field, path) in [
        ("production", demo.production()),
        ("tenant_root", demo.root()),
        ("data", demo.data.clone()),
    ] {
        let said = Path::new(demo.summary[field].as_str().unwrap());
        assert!(said.is_absolute() && said.exists(), "{field}");
        assert_eq!(said, path);
    }
    for service in [
        "relay", "archive", "audit", "escrow-1", "escrow-2", "escrow-3",
    ] {
        assert!(
            demo.data.join("services").join(service).is_dir(),
            "{service}"
        );
    }
    for person in [
        "operator",
        "users",
        "auditor",
        "principal",
        "compliance",
        "reader",
    ] {
        assert!(demo.data.join("people").join(person).is_dir(), "{person}");
    }
    // origin, size, root, then the log's line and those of at least two witnesses
    let checkpoint = demo.summary["checkpoint"].as_str().unwrap();
    let lines: Vec<&str> = checkpoint.lines().collect();
    assert_eq!(lines[1], demo.number("log_size").to_string());
    assert!(
        lines.iter().filter(|line| line.starts_with('—')).count() >= 3,
        "{checkpoint}"
    );
    assert!(demo.number("log_size") > opened);
    // a line of the production for each record that was opened, with the bytes of the input
    let lines = fs::read_to_string(demo.production().join("messages.jsonl")).unwrap();
    assert_eq!(lines.lines().count() as u64, opened);
    let attached = files(&demo.production().join("attachments"));
    let raw = sample_file("limit-change.eml");
    assert!(attached.values().any(|bytes| *bytes == raw));
    assert_eq!(names(&demo.temporary), Vec::<String>::new());
}

#[test]
fn what_stays_verifies_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("2026-03-03.log.txt");
    fs::write(
        &input,
        b"=== b joined\n[09:00] <a> good morning\n[09:01] <b> \xff\xfe\nnot a line\n[09:02] <a>\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let ran = Ran::of(
        greffe()
            .args(["demo", "--output", "json", "--input"])
            .arg(&input)
            .arg("--data")
            .arg(&data)
            .output()
            .unwrap(),
    );
    let summary = ran.json();
    assert_eq!(summary["messages_sent"], 3);
    assert_eq!(summary["messages_delivered"], 2);
    assert_eq!(summary["refused"], 1);
    assert_eq!(
        summary["refusals"],
        serde_json::json!([{"item": "2026-03-03.log.txt:4", "reason": "LINE_NOT_A_MESSAGE"}])
    );
    assert_eq!(names(&data), ["production", "root.pub"]);

    let verified = verify(&data.join("production"), &data.join("root.pub"));
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(
        verified.stdout.starts_with("verified: 3 records"),
        "{verified:?}"
    );
    let moved = folder.path().join("else where");
    fs::rename(data.join("production"), &moved).unwrap();
    let report = Ran::of(
        greffe()
            .args(["verify", "--output", "json", "--root"])
            .arg(data.join("root.pub"))
            .arg(&moved)
            .output()
            .unwrap(),
    )
    .json();
    assert_eq!(report["verified"], true);
    assert_eq!(report["records"], 3);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["files"], files(&moved).len());
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let child = greffe()
        .args(["demo", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = data.join("services/relay/ready.json");
    for _ in 0..600 {
        if ready.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(ready.exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    Ran::of(child.wait_with_output().unwrap()).refused(1, "INTERRUPTED");
    assert!(!data.exists());
}

/// Commands that a help page lists.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_has_an_example_for_every_command() {
    let help = run(["--help"]);
    assert!(
        help.stdout.contains("Examples:") && help.stdout.contains("Exit codes:"),
        "{help:?}"
    );
    let mut waiting: Vec<Vec<String>> = commands(&help.stdout)
        .into_iter()
        .map(|c| vec![c])
        .collect();
    assert!(waiting.len() >= 4, "{help:?}");
    while let Some(command) = waiting.pop() {
        let help = run(command.iter().map(String::as_str).chain(["--help"]));
        let below = commands(&help.stdout);
        assert!(
            !below.is_empty() || help.stdout.contains("Example"),
            "{command:?}: {help:?}"
        );
        for name in below {
            waiting.push([command.clone(), vec![name]].concat());
        }
    }
}
