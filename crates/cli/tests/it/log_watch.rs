//! `greffe log watch` over a real log: what it prints, that it goes on where it was, and a log that was really cut and forked.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Demonstration, Ran, Up, greffe, names, pid};

struct World {
    data: PathBuf,
    state: PathBuf,
}

impl World {
    fn watch(&self, arguments: &[&str]) -> Command {
        let mut command = greffe();
        command
            .args(["log", "watch", "--output", "json", "--state"])
            .arg(&self.state)
            .args(arguments)
            .env("GREFFE_DATA", &self.data);
        command
    }

    fn once(&self) -> Ran {
        Ran::of(self.watch(&["--once"]).output().unwrap())
    }

    /// Matters, each of which is an act in the log.
    fn matters(&self, count: usize) {
        for number in 0..count {
            let mut command = greffe();
            command
                .args(["matter", "create", &format!("Matter {number}")])
                .args(["--as", "auditor", "--output", "json"])
                .env("GREFFE_DATA", &self.data);
            Ran::of(command.output().unwrap()).json();
        }
    }

    /// Reads until so many acts of people came, or until it fails.
    fn acts(&self, count: usize) -> Ran {
        let until = Instant::now() + Duration::from_secs(60);
        let mut acts = 0;
        loop {
            let ran = Ran::of(self.watch(&["--once", "--show", "acts"]).output().unwrap());
            acts += lines(&ran).len();
            if ran.code != 0 || acts >= count {
                return ran;
            }
            assert!(Instant::now() < until, "{acts} of {count} acts came");
        }
    }
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    let ran = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(ran.success());
}

#[test]
fn it_follows_a_real_log_and_notices_when_it_is_cut_or_forked() {
    let played = Demonstration::run("log-watch", None);
    let folder = tempfile::tempdir().unwrap();
    let world = World {
        data: played.data,
        state: folder.path().join("watch"),
    };
    let up = Up::start(&world.data);
    what_happened_is_printed_once(&world);
    what_happens_is_printed_while_it_does(&world);
    up.stop();
    let copied = folder.path().join("copy");
    copy(&world.data, &copied);

    let up = Up::start(&world.data);
    world.matters(12);
    assert_eq!(world.acts(12).code, 0);
    up.stop();
    // The whole machine comes back from an old copy: log, witnesses, and what the application remembers.
    fs::remove_dir_all(&world.data).unwrap();
    copy(&copied, &world.data);
    let _up = Up::start(&world.data);
    let cut = world.once();
    alarmed(&world, &cut, "LOG_ROLLED_BACK");
    // It grows beyond what was seen, with other entries; every witness cosigns them.
    world.matters(16);
    let until = Instant::now() + Duration::from_secs(60);
    let mut last = world.once();
    while last.stderr.contains("LOG_ROLLED_BACK") && Instant::now() < until {
        last = world.once();
    }
    alarmed(&world, &last, "LOG_FORKED");
    // Who has not seen the other past has nothing to hold against it.
    let fresh = World {
        data: world.data,
        state: folder.path().join("fresh"),
    };
    assert_eq!(fresh.once().code, 0);
}

fn what_happened_is_printed_once(world: &World) {
    let ran = world.once();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let entries: Vec<Value> = lines(&ran)
        .into_iter()
        .map(|mut line| line["entry"].take())
        .collect();
    let of = |topic: &str| {
        entries
            .iter()
            .filter(|entry| entry["topic"] == topic)
            .count()
    };
    assert_eq!(of("orders"), 1, "{ran:?}");
    assert!(of("openings") > 1 && of("keys") > 2, "{ran:?}");
    assert_eq!(of("receipts") + of("devices"), 0, "{ran:?}");
    let opened = entries
        .iter()
        .find(|entry| entry["kind"] == "opened")
        .unwrap();
    let order = entries
        .iter()
        .find(|entry| entry["kind"] == "released-order")
        .unwrap();
    assert_eq!(opened["details"]["order"], order["details"]["order"]);
    assert!(opened["index"].as_u64() > order["index"].as_u64());
    let again = world.once();
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again:?}");
}

fn what_happens_is_printed_while_it_does(world: &World) {
    let mut watching = world
        .watch(&["--show", "acts", "--interval", "1s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    world.matters(1);
    let mut line = String::new();
    let mut out = BufReader::new(watching.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["entry"]["topic"], "acts");
    // Meanwhile nobody else may go on from the same folder.
    let second = world.once();
    assert_eq!((second.code, second.stdout.as_str()), (3, ""), "{second:?}");
    assert!(second.stderr.contains("WATCH_RUNNING"), "{second:?}");
    kill(pid(watching.id()), Signal::SIGTERM).unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

/// One alarm, both notes, and the exit code of what does not verify.
#[track_caller]
fn alarmed(world: &World, ran: &Ran, reason: &str) {
    assert_eq!(ran.code, 4, "{ran:?}");
    let said = lines(ran);
    assert_eq!(said.len(), 1, "{ran:?}");
    assert_eq!(said[0]["alarm"]["reason"], reason, "{ran:?}");
    let evidence = said[0]["alarm"]["evidence"].as_array().unwrap();
    assert_eq!(evidence.len(), 2, "{ran:?}");
    for path in evidence {
        let note = fs::read_to_string(path.as_str().unwrap()).unwrap();
        // The log and at least two of the three witnesses have signed both.
        assert!(
            note.lines().filter(|line| line.starts_with("— ")).count() >= 3,
            "{note}"
        );
    }
    assert!(names(&world.state.join("evidence")).len() >= 2);
    assert!(
        ran.stderr.contains(&format!("\"reason\":\"{reason}\"")),
        "{ran:?}"
    );
}
