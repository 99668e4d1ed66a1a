//! Edits, retractions and reactions by commands alone: sent, read, refused, opened under an order, produced, and verified by the
//! root's key. A production that says it is of the version that cannot show them is refused, whoever signed it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::from_hex;
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{World, list, text};
use crate::support::verify;

pub(super) fn edited(world: &World) {
    let made = world.json(&["conversation", "create", "--as", "alice"]);
    let id = text(&made, "conversation").to_owned();
    let acknowledge = ["conversation", "acknowledge", &id, "--as"];
    world.json(&[&acknowledge[..], &["alice"]].concat());
    world.json(&["conversation", "invite", &id, "bob", "--as", "alice"]);
    world.json(&["read", "--as", "bob"]);
    world.json(&[&acknowledge[..], &["bob"]].concat());
    let to = |user: &'static str, rest: &[&str]| -> Vec<String> {
        let start = ["send", "--as", user, "--conversation", &id];
        start
            .iter()
            .chain(rest)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let send = |user, rest: &[&str]| -> String {
        let words = to(user, rest);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        text(&world.json(&words), "envelope").to_owned()
    };
    let refused = |user, rest: &[&str], code, reason| {
        let words = to(user, rest);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.run(&words).refused_at_once(code, reason);
    };
    let first = send(
        "alice",
        &["--text", "The limit is 5.", "--subject", "Limits"],
    );
    let gone = send("alice", &["--text", "Never mind."]);
    send("alice", &["--edit", &first, "--text", "The limit is 6."]);
    send("alice", &["--retract", &gone]);
    send("bob", &["--react", &first, "--text", "👍"]);
    send("bob", &["--react", &first, "--text", "👀"]);
    send("bob", &["--unreact", &first, "--text", "👀"]);

    refused(
        "bob",
        &["--edit", &first, "--text", "500"],
        3,
        "NOT_THE_AUTHOR",
    );
    refused("bob", &["--retract", &first], 3, "NOT_THE_AUTHOR");
    refused(
        "alice",
        &["--edit", &gone, "--text", "x"],
        3,
        "TARGET_RETRACTED",
    );
    refused(
        "bob",
        &["--react", &"9".repeat(64), "--text", "x"],
        3,
        "TARGET_UNKNOWN",
    );
    refused(
        "bob",
        &["--react", &first, "--text", &"x".repeat(65)],
        3,
        "REACTION_TEXT",
    );
    for wrong in [
        &["--react", &first][..],
        &["--retract", &first, "--text", "x"],
        &["--edit", &first, "--retract", &first],
        &["--edit", &first, "--text", "x", "--attach", "x"],
    ] {
        let words = to("bob", wrong);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(world.run(&words).code, 2, "{wrong:?}");
    }

    let whole = ["read", "--as", "bob", "--conversation", &id, "--after", "0"];
    let read = world.json(&whole);
    let item = |digest: &str| -> &Value {
        let mut items = list(&read, "items").iter();
        items.find(|item| item["digest"] == digest).unwrap()
    };
    let history = &item(&first)["history"];
    let versions = list(history, "versions");
    assert_eq!(
        (&versions[0]["text"], &versions[1]["text"], versions.len()),
        (&"The limit is 5.".into(), &"The limit is 6.".into(), 2)
    );
    // An edit that says no subject keeps the one in force.
    assert_eq!(versions[1]["subject"], "Limits");
    assert_eq!(
        history["reactions"],
        serde_json::json!([{ "text": "👍", "by": ["bob"] }])
    );
    assert_eq!(list(history, "acts").len(), 4);
    assert_eq!(item(&gone)["content"]["text"], "Never mind.");
    assert_eq!(item(&gone)["history"]["retracted"]["sender"], "alice");
    let acts = list(&read, "items")
        .iter()
        .filter(|item| item["about"]["applied"] == true);
    assert_eq!(acts.count(), 5);

    let shown = world.run(&whole).stdout;
    assert!(
        shown.contains("[Limits] The limit is 6. (edited, 2 versions)"),
        "{shown}"
    );
    assert!(
        shown.contains("👍 bob") && !shown.contains("Never mind."),
        "{shown}"
    );
    assert!(shown.contains("* alice retracted #"), "{shown}");
    let all = world.run(&[&whole[..], &["--history"]].concat()).stdout;
    for said in [
        "version 1, #",
        "The limit is 5.",
        "Never mind.",
        "reaction-removal by bob: 👀",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
    // Keys replaced, the conversation goes on.
    world.json(&["conversation", "refresh", &id, "--as", "bob"]);
    send("bob", &["--react", &first, "--text", "🔑"]);
    opened(world, &id, &first);
}

/// An order over the whole conversation, its production, and what its own reader cannot make of it.
fn opened(world: &World, id: &str, first: &str) {
    let matter = world.json(&["matter", "create", "Limits of April", "--as", "auditor"]);
    let mut request = vec!["order", "request", "--as", "auditor", "--matter"];
    request.extend([text(&matter, "matter"), "--purpose", "The limit of April"]);
    request.extend(["--reader", "reader", "--conversation", id]);
    let order = world.json(&request);
    assert_eq!(order["records_count"], 8);
    let order = text(&order, "order").to_owned();
    for person in ["principal", "compliance"] {
        world.json(&["order", "approve", &order, "--as", person]);
    }
    let opened = world.json(&["order", "open", &order, "--as", "reader"]);
    let records = list(&opened, "records");
    let message = records.iter().find(|record| record["digest"] == first);
    let history = &message.unwrap()["history"];
    assert_eq!(list(history, "versions").len(), 2, "{opened}");
    assert_eq!(list(history, "reactions").len(), 2);

    let (folder, root) = (world.path("edited"), world.data().join("root.pub"));
    let out = folder.to_str().unwrap();
    let produce = ["produce", &order, "--as", "reader", "--out", out];
    assert_eq!(world.json(&produce)["verified"], true);
    assert_eq!(verify(&folder, &root).code, 0);
    let lines = fs::read_to_string(folder.join("messages.jsonl")).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 8);
    let message = lines.iter().find(|line| line["envelope"] == first).unwrap();
    assert_eq!(message["text"], "The limit is 5.");
    assert_eq!(message["history"]["versions"][1]["text"], "The limit is 6.");
    let gone = lines.iter().find(|line| line["text"] == "Never mind.");
    assert!(gone.unwrap()["history"]["retracted"].is_object());
    assert!(lines.iter().all(|line| line["not_applied"].is_null()));

    // The reader signs anew what is not so: no history, and the version that has none.
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"greffe-production-v2\""));
    let good: BTreeMap<_, _> = ["manifest.json", "messages.jsonl", "production.pb"]
        .map(|name| (name, fs::read(folder.join(name)).unwrap()))
        .into();
    let older = manifest.replace("greffe-production-v2", "greffe-production-v1");
    sign(world, &folder, &older);
    let ran = verify(&folder, &root);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stdout.contains("its format is not the one"), "{ran:?}");
    let without: String = lines
        .iter()
        .map(|line| {
            let mut line = line.clone();
            line.as_object_mut().unwrap().remove("history");
            format!("{line}\n")
        })
        .collect();
    let before = &good["messages.jsonl"];
    let entry = |bytes: &[u8]| {
        let digest = greffe_types::to_hex(&Sha256::digest(bytes));
        format!("\"size\": {},\n      \"sha256\": \"{digest}\"", bytes.len())
    };
    assert!(manifest.contains(&entry(before)), "{manifest}");
    let hiding = manifest.replace(&entry(before), &entry(without.as_bytes()));
    fs::write(folder.join("messages.jsonl"), &without).unwrap();
    sign(world, &folder, &hiding);
    let ran = verify(&folder, &root);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.stdout
            .contains("messages.jsonl: it is not what follows"),
        "{ran:?}"
    );
    for (name, bytes) in good {
        fs::write(folder.join(name), bytes).unwrap();
    }
    assert_eq!(verify(&folder, &root).code, 0);
}

/// Puts another manifest in place, with the reader's own signature.
fn sign(world: &World, folder: &Path, manifest: &str) {
    let path = folder.join("production.pb");
    let before = Signed::<pb::ProductionStatement>::decode_bytes(&fs::read(&path).unwrap());
    let statement = pb::ProductionStatement {
        manifest: Sha256::digest(manifest).to_vec(),
        ..before.unwrap().message().clone()
    };
    let key = fs::read_to_string(world.data().join("people/reader/signing.key")).unwrap();
    let key = SigningKey::from_bytes(&from_hex::<32>(key.trim()).unwrap());
    let reader = statement.reader.clone();
    let signed = Signed::sign(statement, &[(reader.as_str(), &key)]);
    fs::write(&path, signed.raw().encode_to_vec()).unwrap();
    fs::write(folder.join("manifest.json"), manifest).unwrap();
}
