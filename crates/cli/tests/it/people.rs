//! A life by commands alone: users and people work with nothing but `greffe`, and what is wrong is refused in one line.

mod history;
mod wrong;
mod zip;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Ran, Up, greffe, pid, verify};

/// A machine and what is said to it.
struct World {
    folder: tempfile::TempDir,
    _up: Up,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let up = Up::start(&folder.path().join("data"));
        Self { folder, _up: up }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Runs a command over the data folder, in text.
    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(
            greffe()
                .args(arguments)
                .env("GREFFE_DATA", self.data())
                .output()
                .unwrap(),
        )
    }

    /// Runs a command that has to succeed; gives its JSON object.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let all = [arguments, &["--output", "json"]].concat();
        self.run(&all).json()
    }

    /// A line of input for a command.
    fn with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child: Child = greffe()
            .args(arguments)
            .env("GREFFE_DATA", self.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses at once does not read it to its end.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::of(child.wait_with_output().unwrap())
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} is no text: {value}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field]
        .as_array()
        .unwrap_or_else(|| panic!("{field} is no list: {value}"))
}

/// A conversation of alice and bob with one message that has an attachment, and one without.
struct Spoken {
    conversation: String,
    first: String,
    answer: String,
}

#[test]
fn a_life_by_commands_alone() {
    let world = World::start();
    let spoken = users_speak(&world);
    let order = people_open(&world, &spoken);
    history::edited(&world);
    somebody_watches(&world, &spoken);
    auditors_verify(&world, &spoken);
    wrong::users(&world, &spoken);
    wrong::people(&world, &spoken, &order);
    files_instead_of_a_data_folder(&world);
}

fn users_speak(world: &World) -> Spoken {
    let tenant = world.json(&["tenant", "show"]);
    assert_eq!(list(&tenant, "nodes").len(), 3);
    assert_eq!(tenant["development"], true);
    for user in ["alice", "bob"] {
        world.json(&["device", "enrol", "--user", user]);
    }
    assert_eq!(list(&world.json(&["device", "list"]), "devices").len(), 2);

    let made = world.json(&["conversation", "create", "--as", "alice"]);
    let id = text(&made, "conversation").to_owned();
    let notice = world.run(&[
        "conversation",
        "notice",
        &id,
        "--as",
        "alice",
        "--language",
        "fr",
    ]);
    assert_eq!(notice.code, 0);
    assert!(notice.stdout.contains("escrow-1"), "{notice:?}");
    let early = [
        "send",
        "--as",
        "alice",
        "--conversation",
        &id,
        "--text",
        "early",
    ];
    world
        .run(&early)
        .refused_at_once(3, "NOTICE_NOT_ACKNOWLEDGED");
    let acknowledge = ["conversation", "acknowledge", &id, "--as"];
    world.json(&[&acknowledge[..], &["alice"]].concat());
    world.json(&["conversation", "invite", &id, "bob", "--as", "alice"]);

    let file = world.path("limits.csv");
    fs::write(&file, "desk,limit\nrates,5\n").unwrap();
    let mut send = vec!["send", "--as", "alice", "--conversation", &id];
    send.extend(["--text", "The limit is 5.", "--subject", "Limits"]);
    send.extend(["--attach", file.to_str().unwrap()]);
    let sent = world.json(&send);
    let first = text(&sent, "envelope").to_owned();

    // Nothing is delivered before bob was told who can read it.
    let before = world.json(&["read", "--as", "bob"]);
    assert!(list(&before, "items").is_empty(), "{before}");
    assert_eq!(list(&before, "to_acknowledge").len(), 1);
    world.json(&[&acknowledge[..], &["bob", "--language", "fr"]].concat());
    let saved = world.path("saved");
    let read = world.json(&["read", "--as", "bob", "--save", saved.to_str().unwrap()]);
    let item = &list(&read, "items")[0];
    assert_eq!(item["content"]["text"], "The limit is 5.");
    assert_eq!(item["content"]["subject"], "Limits");
    assert_eq!(item["sender"], "alice");
    assert_eq!(text(item, "digest"), first);
    let path = text(&item["content"]["attachments"][0], "saved");
    assert_eq!(fs::read(path).unwrap(), fs::read(&file).unwrap());
    assert!(list(&world.json(&["read", "--as", "bob"]), "items").is_empty());

    // Bytes that are not UTF-8, from standard input, stay as they are.
    let answer = [
        "send",
        "--as",
        "bob",
        "--conversation",
        &id,
        "--output",
        "json",
    ];
    let answer = [&answer[..], &["--reply-to", &first]].concat();
    let sent = world.with_input(&answer, b"under\xffstood").json();
    let answer = text(&sent, "envelope").to_owned();
    let whole = [
        "read",
        "--as",
        "alice",
        "--conversation",
        &id,
        "--after",
        "0",
    ];
    let read = world.json(&whole);
    let last = list(&read, "items").last().unwrap().clone();
    assert_eq!(last["content"]["text_base64"], "dW5kZXL/c3Rvb2Q=");
    assert_eq!(last["content"]["reply_to"], first.as_str());
    Spoken {
        conversation: id,
        first,
        answer,
    }
}

fn people_open(world: &World, spoken: &Spoken) -> String {
    let search = ["search", "--as", "auditor", "--participant", "bob"];
    let page = world.json(&[&search[..], &["--page-size", "1"]].concat());
    assert_eq!(list(&page, "records").len(), 1);
    let token = text(&page, "next_page");
    world.json(&[&search[..], &["--page-size", "1", "--page", token]].concat());
    let all = world.json(&[&search[..], &["--all"]].concat());
    let found = list(&all, "records").iter();
    let found: Vec<&str> = found.map(|record| text(record, "digest")).collect();
    assert!(found.contains(&spoken.first.as_str()) && found.contains(&spoken.answer.as_str()));

    let explained = world.json(&["policy", "explain", &spoken.first, "--as", "auditor"]);
    assert!(text(&explained, "winner").contains("17 CFR"), "{explained}");
    assert_eq!(explained["retain_until"], explained["pinned_until"]);

    let matter = world.json(&["matter", "create", "Limits of March", "--as", "auditor"]);
    let matter = text(&matter, "matter").to_owned();
    let mut place = vec!["hold", "place", "--as", "legal", "--matter", &matter];
    place.extend(["--reason", "A subpoena", "--participant", "bob"]);
    let hold = world.json(&place);
    let hold = text(&hold, "hold");
    let mut request = vec!["order", "request", "--as", "auditor", "--matter", &matter];
    request.extend(["--purpose", "The limit of March", "--reader", "reader"]);
    request.extend(["--conversation", &spoken.conversation]);
    let order = world.json(&request);
    assert_eq!(order["state"], "pending");
    assert_eq!(order["records_count"], 2);
    let order = text(&order, "order").to_owned();

    let open = ["order", "open", &order, "--as", "reader"];
    world.run(&open).refused_at_once(3, "ORDER_NOT_RELEASED");
    let approve = ["order", "approve", &order, "--as"];
    let own = world.run(&[&approve[..], &["auditor"]].concat());
    own.refused_at_once(3, "SELF_APPROVAL");
    world.json(&[&approve[..], &["principal"]].concat());
    world.run(&open).refused_at_once(3, "ORDER_NOT_RELEASED");
    let released = world.json(&[&approve[..], &["compliance"]].concat());
    assert_eq!(released["state"], "released");
    let again = world.run(&[&approve[..], &["second-principal"]].concat());
    again.refused_at_once(3, "ORDER_RELEASED");

    let saved = world.path("opened");
    let opened = world.json(&[&open[..], &["--save", saved.to_str().unwrap()]].concat());
    let records = list(&opened, "records");
    assert_eq!(records.len(), 2);
    let record = records
        .iter()
        .find(|record| record["digest"] == spoken.first.as_str());
    let record = record.unwrap();
    assert_eq!(record["content"]["text"], "The limit is 5.");
    let path = text(&record["content"]["attachments"][0], "saved");
    assert_eq!(
        fs::read(path).unwrap(),
        fs::read(world.path("limits.csv")).unwrap()
    );
    world
        .run(&["order", "open", &order, "--as", "principal"])
        .refused_at_once(3, "ORDER_NOT_YOURS");

    let openings = ["order", "openings", "--as", "auditor"];
    let logged = world.json(&[&openings[..], &[&order]].concat());
    assert_eq!(list(&logged, "openings").len(), 2 * 3, "{logged}");
    assert_eq!(
        (&logged["records_opened"], &logged["unknown"]),
        (&Value::from(2), &Value::from(0))
    );
    sealed_opening(world, spoken, &matter);

    let production = world.path("production");
    let produce = [
        "produce",
        &order,
        "--as",
        "reader",
        "--out",
        production.to_str().unwrap(),
    ];
    assert_eq!(world.json(&produce)["records"], 2);
    assert_eq!(verify(&production, &world.data().join("root.pub")).code, 0);
    world.run(&produce).refused_at_once(3, "PRODUCTION_EXISTS");
    zip::zipped(world, &order, &production);

    let mut release = vec![
        "hold", "release", hold, "--as", "legal", "--reason", "Closed",
    ];
    release.push("--second");
    let alone = world.run(&[&release[..], &["legal"]].concat());
    assert_eq!(alone.code, 3, "{alone:?}");
    let released = world.json(&[&release[..], &["records"]].concat());
    assert!(released["log_index"].as_u64().unwrap() > 0);
    let holds = world.json(&["hold", "list", "--as", "legal"]);
    assert!(
        list(&holds, "holds")[0]["released_at"].is_string(),
        "{holds}"
    );
    order
}

/// Under a sealed order the log tells nobody what was opened, but whoever has the order.
fn sealed_opening(world: &World, spoken: &Spoken, matter: &str) {
    let before = world.json(&["log", "checkpoint"])["size"].to_string();
    // Looked at first, as one does before one asks.
    world.json(&[
        "search",
        "--as",
        "auditor",
        "--conversation",
        &spoken.conversation,
    ]);
    let mut request = vec!["order", "request", "--as", "auditor", "--matter", matter];
    request.extend(["--purpose", "Not to be known yet", "--reader", "reader"]);
    request.extend(["--record", &spoken.first, "--seal-until", "2099-01-01"]);
    let order = world.json(&request);
    let order = text(&order, "order").to_owned();
    for person in ["principal", "compliance"] {
        world.json(&["order", "approve", &order, "--as", person]);
    }
    let begun = world.json(&["order", "status", &order, "--as", "auditor"]);
    let opened = world.json(&["order", "open", &order, "--as", "reader"]);
    assert_eq!(list(&opened, "records").len(), 1);
    assert!(begun["log_index"].as_u64().unwrap() > 0, "{begun}");
    let entries = ["log", "list", "--start", &before, "--count", "1000"];
    let of_kind = |entries: &Value, kind: &str| {
        let entries = list(entries, "entries").iter();
        entries.filter(|entry| entry["kind"] == kind).count()
    };
    // A node answers once the log has its entry; the next checkpoint shows it.
    let end = Instant::now() + Duration::from_secs(30);
    let entries = loop {
        let entries = world.json(&entries);
        if of_kind(&entries, "sealed-opened") >= 3 || Instant::now() > end {
            break entries;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let opened = ["sealed-opened", "opened"].map(|kind| of_kind(&entries, kind));
    assert_eq!(opened, [3, 0], "{entries}");
    for hidden in [&spoken.first, &spoken.conversation, &order] {
        assert!(!entries.to_string().contains(hidden.as_str()), "{entries}");
    }
    // Who oversees reads sees what the log hides.
    let reads = world.json(&["log", "reads", "--as", "compliance", "--all"]);
    let read = |person: &str, action: &str, of: &str, subject: &str| {
        let mut reads = list(&reads, "reads").iter();
        reads.any(|read| {
            read["person"] == person
                && read["action"] == action
                && read["of"] == of
                && text(read, "subject").contains(subject)
        })
    };
    assert!(
        read("auditor", "search", "query", &spoken.conversation),
        "{reads}"
    );
    assert!(read("auditor", "get", "record", ""), "{reads}");
    assert!(read("reader", "fetch", "order", &order), "{reads}");
    let logged = world.json(&["order", "openings", &order, "--as", "auditor"]);
    let openings = list(&logged, "openings");
    assert_eq!(openings.len(), 3, "{logged}");
    for opening in openings {
        assert_eq!(opening["record"], spoken.first.as_str());
        assert_eq!(opening["sealed"], true);
    }
}

/// What comes is printed as it comes, and nobody else uses the device meanwhile.
fn somebody_watches(world: &World, spoken: &Spoken) {
    let mut watching = greffe()
        .args(["watch", "--as", "bob", "--output", "json"])
        .env("GREFFE_DATA", world.data())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let to = ["--conversation", &spoken.conversation, "--text", "Look up."];
    let sent = world.json(&[&["send", "--as", "alice"], &to[..]].concat());
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let seen = lines
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find(|item| item["digest"] == sent["envelope"]);
    assert_eq!(seen.unwrap()["content"]["text"], "Look up.");
    world
        .run(&["read", "--as", "bob"])
        .refused_at_once(3, "DEVICE_IN_USE");
    kill(pid(watching.id()), Signal::SIGINT).unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

fn auditors_verify(world: &World, spoken: &Spoken) {
    let checkpoint = world.json(&["log", "checkpoint"]);
    let size = checkpoint["size"].as_u64().unwrap();
    assert!(list(&checkpoint, "signed_by").len() > 2, "{checkpoint}");
    let newest = world.json(&["log", "list", "--count", "5"]);
    assert_eq!(list(&newest, "entries").len(), 5);
    let entry = world.json(&["log", "entry", "0"]);
    assert_eq!(entry["details"]["type"], "trust-bundle");
    assert!(!list(&entry, "path").is_empty());
    let beyond = (size + 1000).to_string();
    world
        .run(&["log", "entry", &beyond])
        .refused_at_once(3, "ENTRY_UNKNOWN");
    let tenant = world.json(&["tenant", "show"]);
    let disclosure = text(&tenant["modes"][0], "disclosure");
    for (key, name) in [("verifier", "demo"), ("witness_verifiers", "escrow-1+")] {
        assert!(tenant["log"][key].to_string().contains(name), "{tenant}");
    }
    let logged = world.json(&["log", "statement", disclosure]);
    assert_eq!(logged["index"], tenant["modes"][0]["log_index"]);
    world
        .run(&["log", "statement", &spoken.first])
        .refused_at_once(3, "STATEMENT_UNKNOWN");
}

/// An auditor who has a connection file and a key folder, and nothing else.
fn files_instead_of_a_data_folder(world: &World) {
    let keys = world.path("auditor-keys");
    fs::create_dir(&keys).unwrap();
    let from = world.data().join("people/auditor/signing.key");
    fs::copy(from, keys.join("signing.key")).unwrap();
    let connection = world.data().join("people/apps/greffe/connection.toml");
    let run = |connection: &Path| {
        let mut command = greffe();
        command.args([
            "search",
            "--as",
            "auditor",
            "--output",
            "json",
            "--connection",
        ]);
        command.arg(connection).arg("--identity").arg(&keys);
        command.current_dir(world.folder.path());
        Ran::of(command.output().unwrap())
    };
    assert!(list(&run(&connection).json(), "records").len() > 2);
    let absent = run(&world.path("absent.toml"));
    assert!(
        absent.code == 2 && absent.stderr.contains("CONNECTION_NOT_FOUND"),
        "{absent:?}"
    );
    let nothing = greffe()
        .args(["read", "--as", "bob", "--data"])
        .arg(world.path("empty"))
        .output();
    Ran::of(nothing.unwrap()).refused_at_once(2, "DATA_FOLDER_NOT_FOUND");
}
