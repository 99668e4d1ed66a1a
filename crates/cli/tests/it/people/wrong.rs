//! Commands that are refused: each with one line, a stable reason and its exit code, and everything stays as it was.

use greffe_envelope::limits::MAX_CONTENT;

use super::{Spoken, World, list};

/// What users get wrong; nothing changes by it.
pub(super) fn users(world: &World, spoken: &Spoken) {
    let id = &spoken.conversation;
    let show = ["conversation", "show", id, "--as", "alice"];
    let before = world.json(&show);
    let to = ["--conversation", id, "--text", "x"];
    world
        .run(&[&["send", "--as", "carol"], &to[..]].concat())
        .refused_at_once(3, "USER_UNKNOWN");
    world
        .run(&["conversation", "invite", id, "nobody", "--as", "alice"])
        .refused_at_once(3, "USER_UNKNOWN");
    world
        .run(&["conversation", "remove", id, "nobody", "--as", "alice"])
        .refused_at_once(3, "USER_NOT_A_MEMBER");
    world
        .run(&[
            "conversation",
            "create",
            "--as",
            "alice",
            "--mode",
            "supervised",
        ])
        .refused_at_once(3, "MODE_NOT_ALLOWED");
    world
        .run(&[
            "conversation",
            "create",
            "--as",
            "alice",
            "--mode",
            "secret",
        ])
        .refused_at_once(2, "ARGUMENTS");
    world
        .run(&[
            "conversation",
            "notice",
            id,
            "--as",
            "alice",
            "--language",
            "xx",
        ])
        .refused(3, "NOTICE_LANGUAGE");
    let unknown = "00".repeat(16);
    world
        .run(&["conversation", "show", &unknown, "--as", "alice"])
        .refused_at_once(3, "CONVERSATION_UNKNOWN");
    world
        .run(&[
            "send",
            "--as",
            "alice",
            "--conversation",
            &unknown,
            "--text",
            "x",
        ])
        .refused_at_once(3, "CONVERSATION_UNKNOWN");
    world
        .run(&[
            "send",
            "--as",
            "alice",
            "--conversation",
            "xyz",
            "--text",
            "x",
        ])
        .refused_at_once(2, "ARGUMENTS");
    let large = vec![b'x'; usize::try_from(MAX_CONTENT).unwrap() + 1];
    let large = world.with_input(&["send", "--as", "alice", "--conversation", id], &large);
    large.refused_at_once(3, "MESSAGE_TOO_LARGE");
    let absent = world.path("absent.pdf");
    let attach = ["--attach", absent.to_str().unwrap()];
    world
        .run(&[&["send", "--as", "alice"], &to[..], &attach].concat())
        .refused_at_once(1, "FILE_FAILED");
    world
        .run(&[&["send", "--as", "alice", "--class", "gossip"], &to[..]].concat())
        .refused_at_once(3, "RECORD_CLASS_UNKNOWN");
    world
        .run(&["device", "enrol", "--user", " "])
        .refused_at_once(3, "USER_NAME");
    let key = world.data().join("people/auditor/signing.key");
    let foreign = [
        "device",
        "enrol",
        "--user",
        "mallory",
        "--issuer",
        key.to_str().unwrap(),
    ];
    world.run(&foreign).refused(3, "ISSUER_MISMATCH");

    assert_eq!(world.json(&show), before);
    assert_eq!(list(&world.json(&["device", "list"]), "devices").len(), 2);
    assert!(
        list(&world.json(&["read", "--as", "bob"]), "items")
            .iter()
            .all(|item| item["sender"] != "alice")
    );
}

/// What people get wrong.
pub(super) fn people(world: &World, spoken: &Spoken, order: &str) {
    let unknown = "00".repeat(16);
    world
        .run(&["search", "--as", "nobody"])
        .refused_at_once(3, "PERSON_UNKNOWN");
    world
        .run(&["search", "--as", "../operator"])
        .refused_at_once(3, "PERSON_UNKNOWN");
    world
        .run(&["search", "--as", "principal"])
        .refused_at_once(3, "CALLER_NOT_ALLOWED");
    let keys = world.data().join("people/legal");
    let others = [
        "search",
        "--as",
        "auditor",
        "--identity",
        keys.to_str().unwrap(),
    ];
    world.run(&others).refused_at_once(3, "PERSON_KEY_MISMATCH");
    world
        .run(&["search", "--as", "auditor", "--page", "zz"])
        .refused_at_once(3, "PAGE_TOKEN_INVALID");
    world
        .run(&["search", "--as", "auditor", "--from", "yesterday"])
        .refused_at_once(2, "ARGUMENTS");
    world
        .run(&["matter", "close", &unknown, "--as", "auditor"])
        .refused_at_once(3, "MATTER_UNKNOWN");
    let hold = [
        "hold", "place", "--as", "legal", "--matter", &unknown, "--reason", "x",
    ];
    world.run(&hold).refused_at_once(2, "HOLD_SCOPE");
    world
        .run(&[&hold[..], &["--everything"]].concat())
        .refused_at_once(3, "MATTER_UNKNOWN");
    let release = [
        "hold", "release", &unknown, "--as", "legal", "--second", "records", "--reason", "x",
    ];
    world.run(&release).refused_at_once(3, "HOLD_UNKNOWN");
    world
        .run(&["order", "status", &unknown, "--as", "auditor"])
        .refused_at_once(3, "ORDER_UNKNOWN");
    let request = [
        "order",
        "request",
        "--as",
        "auditor",
        "--matter",
        &unknown,
        "--purpose",
        "x",
        "--reader",
    ];
    let reader = [&request[..], &["reader"]].concat();
    world.run(&reader).refused_at_once(2, "ORDER_SCOPE");
    world
        .run(&[&reader[..], &["--record", &spoken.first]].concat())
        .refused_at_once(3, "MATTER_UNKNOWN");
    world
        .run(&[&request[..], &["legal", "--record", &spoken.first]].concat())
        .refused_at_once(3, "READER_UNKNOWN");
    world
        .run(&[&reader[..], &["--sender", "nobody"]].concat())
        .refused_at_once(3, "ORDER_EMPTY");
    let status = world.json(&["order", "status", order, "--as", "reader"]);
    assert_eq!(status["state"], "released");
    assert_eq!(
        list(&world.json(&["order", "list", "--as", "auditor"]), "orders").len(),
        3
    );
    world
        .run(&["policy", "explain", &"00".repeat(32), "--as", "auditor"])
        .refused_at_once(3, "RECORD_UNKNOWN");
    world
        .run(&["policy", "lint", world.folder.path().to_str().unwrap()])
        .refused_at_once(4, "POLICY_INVALID");
    world
        .run(&["policy", "show", "none"])
        .refused_at_once(2, "UNKNOWN_PACK");
}
