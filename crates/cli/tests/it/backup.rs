//! Backup, loss, restore: the same root and the same counts, by `greffe verify --archive`; and what it finds in damaged copies.

use std::fs;
use std::path::Path;
use std::process::Command;

use greffe_testkit::postgres::Postgres;
use serde_json::Value;

use crate::stores::Stores;
use crate::support::{Ran, Up, greffe};

/// Everything that has to be the same after a restore.
const SAME: [&str; 9] = [
    "verified",
    "records",
    "records_root",
    "conversations",
    "wraps",
    "disposed",
    "objects",
    "object_bytes",
    "receipts_logged",
];

/// `greffe verify --archive` over a running machine's settings, with a data folder of its own.
fn verify(data: &Path, archive: &Path) -> Ran {
    Ran::of(
        greffe()
            .args(["verify", "--output", "json", "--archive"])
            .arg(data.join("services/archive/config.toml"))
            .arg("--set")
            .arg(format!("service.data={}", archive.display()))
            .output()
            .unwrap(),
    )
}

fn demonstration(data: &Path, stores: Option<&Path>) {
    let mut command = greffe();
    command.args(["demo", "--keep", "--output", "json", "--data"]);
    command.arg(data);
    if let Some(file) = stores {
        command.arg("--stores").arg(file);
    }
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn same(before: &Value, after: &Value) {
    for field in SAME {
        assert_eq!(before[field], after[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_and_restored_is_the_same_archive() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let stores = Stores::new(Postgres::shared(), folder.path(), 1).await;
    demonstration(&data, Some(&stores.file));
    let up = Up::start(&data);
    let before = verify(&data, &folder.path().join("verify")).json();
    assert_eq!(before["verified"], true, "{before}");
    assert_eq!(before["records"], before["receipts_logged"], "{before}");
    assert!(before["records"].as_u64().unwrap() >= 20, "{before}");
    up.stop();

    // the databases are lost and come back from their dumps; the buckets stay, as locks have it
    stores.dump_drop_restore(folder.path());
    let up = Up::start(&data);
    let after = verify(&data, &folder.path().join("verify-again")).json();
    same(&before, &after);
    println!(
        "verified {} records and {} bytes in {} ms, root {}",
        after["records"], after["object_bytes"], after["elapsed_ms"], after["records_root"]
    );

    up.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_do_not_belong_together_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    demonstration(&data, None);
    let archive = data.join("services/archive");
    let copy = |name: &str| {
        let to = folder.path().join(name);
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([&archive, &to])
                .status()
                .unwrap()
                .success()
        );
        to
    };
    let (whole, rotted, gone, older, bare) = (
        copy("whole"),
        copy("rotted"),
        copy("gone"),
        copy("older"),
        copy("bare"),
    );
    let up = Up::start(&data);
    let before = verify(&data, &whole).json();
    assert_eq!(before["verified"], true, "{before}");

    // one byte of one object
    let object = object(&rotted);
    let mut bytes = fs::read(&object).unwrap();
    bytes[0] ^= 1;
    let mut permissions = fs::metadata(&object).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a test's own copy")]
    permissions.set_readonly(false);
    fs::set_permissions(&object, permissions).unwrap();
    fs::write(&object, bytes).unwrap();
    invalid(&verify(&data, &rotted), "its bytes are damaged");
    // an object that is not there
    fs::remove_file(self::object(&gone)).unwrap();
    invalid(&verify(&data, &gone), "it is not there");
    // the last record: the log has its receipt
    sqlite(
        &older.join("archive.db"),
        "DROP TRIGGER records_stay; DELETE FROM records WHERE record = (SELECT MAX(record) FROM records)",
    );
    invalid(&verify(&data, &older), "it was restored from an older copy");
    // a wrap
    sqlite(
        &bare.join("wraps.db"),
        "DELETE FROM wraps WHERE envelope = (SELECT MIN(envelope) FROM wraps)",
    );
    invalid(&verify(&data, &bare), "its wraps are missing");
    // what a row says, against what was signed and what the log has
    for (sql, problem) in [
        (
            "UPDATE records SET body = NULL WHERE record = MESSAGE",
            "its envelope is not there",
        ),
        (
            "UPDATE records SET content = NULL WHERE record = MESSAGE",
            "its content is not the one",
        ),
        (
            "UPDATE records SET disposal = 4 WHERE record = MESSAGE",
            "the log has no tombstone",
        ),
        (
            "DROP TRIGGER records_fixed; UPDATE records SET kind = 2 WHERE record = MESSAGE",
            "its kind is not the one of its receipt",
        ),
        (
            "DROP TRIGGER records_retention; UPDATE records SET retain_until = 1 WHERE record = MESSAGE",
            "its retention is shorter",
        ),
    ] {
        let changed = folder.path().join("changed");
        if changed.exists() {
            fs::remove_dir_all(&changed).unwrap();
        }
        // Written from the first copy, which nobody has changed.
        let status = Command::new("cp")
            .arg("-a")
            .args([&whole, &changed])
            .status();
        assert!(status.unwrap().success());
        let message = "(SELECT MIN(record) FROM records WHERE kind = 1)";
        sqlite(
            &changed.join("archive.db"),
            &sql.replace("MESSAGE", message),
        );
        invalid(&verify(&data, &changed), problem);
    }
    up.stop();

    // without the log nothing can be held against it
    let silent = verify(&data, &whole);
    assert_eq!(silent.code, 5, "{silent:?}");
}

#[track_caller]
fn invalid(ran: &Ran, problem: &str) {
    assert!(ran.stdout.contains(problem), "{ran:?}");
    assert!(ran.stderr.contains("ARCHIVE_INVALID"), "{ran:?}");
    assert_eq!(ran.code, 4, "{ran:?}");
}

fn object(archive: &Path) -> std::path::PathBuf {
    let shards = fs::read_dir(archive.join("objects")).unwrap();
    shards
        .flatten()
        .filter(|shard| shard.file_name() != "tmp")
        .flat_map(|shard| fs::read_dir(shard.path()).unwrap().flatten())
        .map(|entry| entry.path())
        .find(|path| path.extension().is_none())
        .unwrap()
}

fn sqlite(file: &Path, sql: &str) {
    let run = Command::new("python3")
        .arg("-c")
        .arg("import sqlite3,sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()")
        .arg(file)
        .arg(sql)
        .status()
        .unwrap();
    assert!(run.success());
}
