//! What is wrong is said in one line with a stable reason and the right exit code, and nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Ran, Up, files, greffe, names, run, sample, verify};

/// Runs a command with a `--data` or other path at its end.
fn with(arguments: &[&str], path: &Path) -> Ran {
    Ran::of(greffe().args(arguments).arg(path).output().unwrap())
}

/// A folder with one file of somebody else's.
fn foreign() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    folder
}

#[test]
fn a_folder_that_holds_something_else_stays_as_it_is() {
    let folder = foreign();
    let before = files(folder.path());
    with(&["demo", "--data"], folder.path()).refused_at_once(3, "DATA_FOLDER_NOT_EMPTY");
    with(&["up", "--data"], folder.path()).refused_at_once(3, "DATA_FOLDER_FOREIGN");
    assert_eq!(files(folder.path()), before);
    // a first start that did not end is said to be one
    for part in ["services", "people"] {
        fs::create_dir(folder.path().join(part)).unwrap();
    }
    with(&["up", "--data"], folder.path()).refused_at_once(3, "DATA_FOLDER_INCOMPLETE");
    assert_eq!(files(folder.path()), before);
    fs::write(
        folder.path().join("greffe.json"),
        br#"{"layout":9,"tenant":"demo","pack":"us-broker-dealer","development":true}"#,
    )
    .unwrap();
    with(&["up", "--data"], folder.path()).refused_at_once(3, "DATA_FOLDER_VERSION");
    // a file in the place of the folder
    let file = folder.path().join("notes.txt");
    with(&["demo", "--data"], &file).refused_at_once(1, "FILE_FAILED");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn what_a_command_line_gets_wrong_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for command in ["up", "demo"] {
        for (option, value, reason) in [
            ("--pack", "no-such-pack", "UNKNOWN_PACK"),
            ("--tenant", "Not A Tenant", "TENANT_NAME"),
            ("--tenant", "", "TENANT_NAME"),
            ("--contact", " ", "CONTACT"),
        ] {
            with(&[command, option, value, "--data"], &data).refused_at_once(2, reason);
        }
    }
    let unknown = with(&["up", "--pack", "no-such-pack", "--data"], &data);
    assert!(unknown.stderr.contains("us-broker-dealer"), "{unknown:?}");
    assert_eq!(run(["no-such-command"]).code, 2);
    assert_eq!(run(["demo", "--no-such-option"]).code, 2);
    assert_eq!(names(folder.path()), Vec::<String>::new());

    // as JSON, an error is one object
    let ran = with(
        &["up", "--pack", "no-such-pack", "--output", "json", "--data"],
        &data,
    );
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "UNKNOWN_PACK");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
}

#[test]
fn input_that_is_none_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = |input: &Path| {
        Ran::of(
            greffe()
                .args(["demo", "--input"])
                .arg(input)
                .arg("--data")
                .arg(&data)
                .output()
                .unwrap(),
        )
    };
    demo(&folder.path().join("missing")).refused_at_once(1, "FILE_FAILED");
    demo(foreign().path()).refused_at_once(2, "INPUT_EMPTY");
    assert!(!data.exists());
}

#[test]
fn nothing_to_verify_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let root = sample().root();
    verify(&folder.path().join("missing"), &root).refused_at_once(2, "PRODUCTION_NOT_FOUND");
    verify(&root, &root).refused_at_once(2, "PRODUCTION_NOT_FOUND");
    let empty = verify(folder.path(), &root);
    assert_eq!(empty.code, 4, "{empty:?}");
    assert!(empty.stderr.contains("PRODUCTION_INVALID"), "{empty:?}");

    let production = sample().production();
    verify(&production, &folder.path().join("missing")).refused_at_once(1, "FILE_FAILED");
    let key = fs::read_to_string(&root).unwrap();
    for wrong in [
        String::new(),
        "root".to_owned(),
        key.replace("v1", "v2"),
        key.trim_end()
            .trim_end_matches(|c: char| c.is_ascii_hexdigit())
            .to_owned(),
        format!("{key}{key}"),
        key.replace("demo", "Demo Inc"),
    ] {
        let file = folder.path().join("root.pub");
        fs::write(&file, &wrong).unwrap();
        let ran = verify(&production, &file);
        assert!(
            ran.code == 2 && ran.stderr.starts_with("greffe: ROOT_KEY: "),
            "{wrong:?}: {ran:?}"
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    // a result that cannot be written was not given
    let full = Ran::of(
        greffe()
            .arg("verify")
            .arg(&production)
            .arg("--root")
            .arg(&root)
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap(),
    );
    full.refused_at_once(1, "OUTPUT");
}

#[test]
fn a_folder_in_use_and_an_address_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    assert_eq!(up.started["tenant"], "demo");
    let everything = || -> BTreeMap<String, Vec<u8>> {
        let mut files = files(&data.join("people"));
        files.insert(
            "root.pub".to_owned(),
            fs::read(data.join("root.pub")).unwrap(),
        );
        files
    };
    let before = everything();
    with(&["up", "--data"], &data).refused_at_once(3, "DATA_FOLDER_LOCKED");
    with(&["demo", "--data"], &data).refused_at_once(3, "DATA_FOLDER_NOT_EMPTY");
    let config = data.join("services/audit/config.toml");
    with(&["serve", "audit", "--config"], &config).refused(3, "DATA_FOLDER_LOCKED");
    assert_eq!(everything(), before);
    up.stop();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |name: &str, value: &str| {
        Ran::of(
            greffe()
                .args(["serve", "audit", "--config"])
                .arg(&config)
                .env(name, value)
                .output()
                .unwrap(),
        )
    };
    let ran = serve("GREFFE__SERVICE__LISTEN", &address);
    ran.refused(1, "PORT_IN_USE");
    assert!(ran.stderr.contains(&address), "{ran:?}");
    // a folder of another service, another tenant, and settings that nobody knows
    let archive = data.join("services/archive");
    serve("GREFFE__SERVICE__DATA", archive.to_str().unwrap()).refused(3, "DATA_FOLDER_FOREIGN");
    serve("GREFFE__SERVICE__TENANT", "other").refused(1, "TLS_IDENTITY");
    serve("GREFFE__SERVICE__NO_SUCH_KEY", "1").refused(2, "SETTINGS_REFUSED");
    let missing = data.join("services/audit/missing.toml");
    with(&["serve", "audit", "--config"], &missing).refused_at_once(2, "SETTINGS_REFUSED");
    // after all that it starts as before
    Up::start(&data).stop();
}

/// No file may grow beyond a few blocks: as on a full disk, every write of a database fails.
#[test]
fn a_demonstration_without_room_says_so_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ran = Ran::of(
        Command::new("sh")
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 16; exec \"$0\" demo --data \"$1\"",
            ])
            .arg(env!("CARGO_BIN_EXE_greffe"))
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    assert!([1, 3, 5].contains(&ran.code), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let last = ran.stderr.lines().last().unwrap();
    let reason = last.split(": ").nth(1).unwrap_or_default();
    assert!(
        !reason.is_empty() && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
        "{ran:?}"
    );
    assert!(!data.exists(), "{ran:?}");
}
