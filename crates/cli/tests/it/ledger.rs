//! What services changed in their databases is what the log says, act for act: nothing was done without its leaf.
//!
//! Every table of every service is named here with what its rows stand for. A table without a line fails the test, so nobody
//! adds one without saying which leaf its rows have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use greffe_api::archive as api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_tlog::batch_root;
use prost::Message as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use tokio::time::sleep;

use crate::acts;
use crate::support::{App, Up};

/// What the rows of a table stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Acts: each has a leaf, which is compared below.
    Acts,
    /// Copies of leaves that were followed, and what is computed from them.
    Followed,
    /// What follows from rows that are compared: where a record is found, what it consists of.
    Derived,
    /// What is on its way, or asked for: nothing follows from it before something else has its leaf.
    Waiting,
    /// How processes take turns.
    Turns,
}

use Rows::{Acts, Derived, Followed, Turns, Waiting};

const TABLES: [(&str, &[(&str, Rows)]); 5] = [
    (
        "relay/relay.db",
        &[
            ("statement", Acts),
            ("device_cert", Acts),
            ("conversation", Acts),
            ("acknowledgement", Acts),
            ("item", Acts),
            ("follower", Followed),
            ("member", Derived),
            ("payload", Derived),
            ("commit_extra", Derived),
            ("commit_renewal", Derived),
            ("attachment", Waiting),
            ("item_attachment", Derived),
            ("challenge", Waiting),
            ("key_package", Waiting),
            ("lease", Turns),
        ],
    ),
    (
        "archive/archive.db",
        &[
            ("records", Acts),
            ("batches", Acts),
            ("acts", Acts),
            ("matters", Acts),
            ("holds", Acts),
            ("orders", Acts),
            ("dispositions", Acts),
            ("outbox", Acts),
            ("statements", Followed),
            ("followed", Followed),
            ("certificates", Derived),
            ("conversations", Derived),
            ("member_sets", Derived),
            ("attachments", Waiting),
            ("record_attachments", Derived),
            ("record_spans", Derived),
            ("removals", Waiting),
            ("kem_uses", Derived),
            ("receipt_paths", Derived),
            ("order_records", Derived),
            ("reads", Derived),
            ("approvals", Waiting),
            ("lease", Turns),
        ],
    ),
    (
        "archive/wraps.db",
        &[
            ("wraps", Derived),
            ("mls_messages", Derived),
            ("destroyed", Derived),
            ("lease", Turns),
        ],
    ),
    (
        "escrow-1/escrow.db",
        &[
            ("opening", Acts),
            ("share", Acts),
            ("statement", Followed),
            ("tombstone", Followed),
            ("followed", Followed),
            ("tree", Followed),
            ("reshare", Waiting),
            ("destruction", Waiting),
            ("kem_use", Derived),
            ("witness", Followed),
            ("lease", Turns),
        ],
    ),
    (
        "audit/log.sqlite",
        &[("leaf", Acts), ("checkpoint", Derived), ("lease", Turns)],
    ),
];

/// A service's database, as it left it.
async fn open(data: &Path, file: &str) -> SqliteConnection {
    let path = data.join("services").join(file);
    let url = format!("sqlite://{}?mode=ro", path.display());
    SqliteConnection::connect(&url)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

async fn rows(data: &Path, file: &str, query: &'static str) -> Vec<SqliteRow> {
    let mut database = open(data, file).await;
    sqlx::query(query)
        .fetch_all(&mut database)
        .await
        .unwrap_or_else(|error| panic!("{file}: {query}: {error}"))
}

fn bytes(row: &SqliteRow, column: &str) -> Vec<u8> {
    row.get(column)
}

fn index(row: &SqliteRow) -> u64 {
    u64::try_from(row.get::<i64, _>("log_index")).unwrap()
}

/// The leaves of a machine's log, in their order.
pub(crate) async fn leaves(data: &Path) -> Vec<(u64, pb::LogEntry)> {
    let rows = rows(
        data,
        "audit/log.sqlite",
        "SELECT idx, leaf FROM leaf ORDER BY idx",
    )
    .await;
    rows.iter()
        .map(|row| {
            let index = u64::try_from(row.get::<i64, _>("idx")).unwrap();
            let entry = pb::LogEntry::decode(bytes(row, "leaf").as_slice()).unwrap();
            (index, entry)
        })
        .collect()
}

/// The log, to look acts up in. What was looked up is noted, so that leaves of acts that nobody did are seen too.
struct Log {
    entries: BTreeMap<u64, pb::LogEntry>,
    found: BTreeSet<u64>,
}

impl Log {
    /// The event of a leaf, which has to be of that service.
    #[track_caller]
    fn event(&mut self, by: &str, index: u64) -> Event {
        let entry = self.entries.get(&index);
        let entry = entry.unwrap_or_else(|| panic!("{by}: there is no leaf {index}"));
        assert_eq!(entry.recorded_by, by, "leaf {index}");
        self.found.insert(index);
        entry.event.clone().unwrap()
    }

    /// It is this statement.
    #[track_caller]
    fn is_statement(&mut self, by: &str, index: u64, statement: &[u8]) {
        let stored = pb::SignedStatement::decode(statement).unwrap();
        assert_eq!(self.event(by, index), Event::Statement(stored));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_45_every_change_of_a_database_has_its_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let app = App::open(&data).await;
    let spoken = acts::speak(&app).await;
    for sealed in [false, true] {
        let order = acts::order(&app, &spoken.messages[..2], sealed).await;
        acts::open(&app, &order).await;
    }
    acts::people_act(&app, &spoken).await;
    everything_is_on_its_way_no_more(&data).await;
    up.stop();

    every_table_is_named(&data).await;
    let entries = leaves(&data).await;
    let count = entries.len() as u64;
    let entries: BTreeMap<u64, pb::LogEntry> = entries.into_iter().collect();
    assert_eq!(entries.len() as u64, count);
    assert!(entries.keys().copied().eq(0..count), "the log has a gap");
    let mut log = Log {
        entries,
        found: BTreeSet::new(),
    };
    relay(&data, &mut log).await;
    archive(&data, &mut log).await;
    for node in ["escrow-1", "escrow-2", "escrow-3"] {
        escrow(&data, node, &mut log).await;
    }
    // And the other way round: whatever the log says was done has been found.
    for (index, entry) in &log.entries {
        let done = !matches!(
            entry.event,
            // A read changes nothing; currency statements are for whoever asks.
            Some(Event::Access(_) | Event::Refusal(_))
        );
        let currency = matches!(&entry.event, Some(Event::Statement(s)) if s.r#type == "currency");
        assert!(
            !done || currency || log.found.contains(index),
            "leaf {index} of {} has no change: {:?}",
            entry.recorded_by,
            entry.event
        );
    }
}

/// What is in the archive's outbox gets its leaf, at the latest after a start; here it is waited for.
async fn everything_is_on_its_way_no_more(data: &Path) {
    let query =
        "SELECT count(*) AS waiting FROM outbox WHERE log_index IS NULL AND failure IS NULL";
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let waiting = rows(data, "archive/archive.db", query).await;
        let waiting: i64 = waiting[0].get("waiting");
        if waiting == 0 {
            return;
        }
        assert!(Instant::now() < until, "{waiting} entries wait for the log");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn every_table_is_named(data: &Path) {
    for (file, named) in TABLES {
        let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx%'";
        let found = rows(data, file, query).await;
        let found: BTreeSet<String> = found.iter().map(|row| row.get("name")).collect();
        let names: BTreeSet<String> = named.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, names, "{file}");
        let acts = named.iter().filter(|(_, rows)| *rows == Acts);
        for (table, _) in acts {
            let query = format!("SELECT count(*) FROM {table}");
            let mut database = open(data, file).await;
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
                .fetch_one(&mut database)
                .await
                .unwrap();
            // Nothing can be disposed of within a minute.
            assert_eq!(count > 0, *table != "dispositions", "{table}");
        }
    }
}

async fn relay(data: &Path, log: &mut Log) {
    const FILE: &str = "relay/relay.db";
    let statements = rows(data, FILE, "SELECT log_index, statement FROM statement").await;
    assert!(statements.len() >= 3, "bundle or keys are missing");
    for row in &statements {
        // Published through this relay, or read from the log.
        let index = index(row);
        let by = log.entries[&index].recorded_by.clone();
        log.is_statement(&by, index, &bytes(row, "statement"));
    }
    let certificates = rows(data, FILE, "SELECT log_index, statement FROM device_cert").await;
    assert_eq!(certificates.len(), 2);
    for row in &certificates {
        log.is_statement("relay", index(row), &bytes(row, "statement"));
    }
    let made = rows(
        data,
        FILE,
        "SELECT log_index, conversation, created_by FROM conversation",
    );
    let made = made.await;
    assert_eq!(made.len(), 1);
    for row in &made {
        let Event::Conversation(created) = log.event("relay", index(row)) else {
            panic!("no conversation");
        };
        assert_eq!(created.conversation, bytes(row, "conversation"));
        assert_eq!(created.device, bytes(row, "created_by"));
    }
    let query = "SELECT log_index, conversation, device, disclosure FROM acknowledgement";
    let acknowledged = rows(data, FILE, query).await;
    assert_eq!(acknowledged.len(), 2);
    for row in &acknowledged {
        let Event::Statement(signed) = log.event("relay", index(row)) else {
            panic!("no acknowledgement");
        };
        let said = Signed::<pb::Acknowledgement>::decode(signed).unwrap();
        assert_eq!(said.conversation, bytes(row, "conversation"));
        assert_eq!(said.device, bytes(row, "device"));
        assert_eq!(said.disclosure, bytes(row, "disclosure"));
    }
    // What has a number has a receipt, which is compared at the archive that gave it.
    let given = rows(data, FILE, "SELECT receipt FROM item ORDER BY digest").await;
    let kept = rows(
        data,
        "archive/archive.db",
        "SELECT receipt FROM records ORDER BY digest",
    );
    let kept = kept.await;
    assert_eq!(given.len(), 5);
    assert_eq!(
        given
            .iter()
            .map(|row| bytes(row, "receipt"))
            .collect::<Vec<_>>(),
        kept.iter()
            .map(|row| bytes(row, "receipt"))
            .collect::<Vec<_>>()
    );
}

async fn archive(data: &Path, log: &mut Log) {
    const FILE: &str = "archive/archive.db";
    let outbox = rows(
        data,
        FILE,
        "SELECT id, log_index, leaf, failure FROM outbox",
    )
    .await;
    let mut sent = BTreeMap::new();
    for row in &outbox {
        assert_eq!(row.get::<Option<String>, _>("failure"), None);
        let index = index(row);
        assert!(
            bytes(row, "leaf") == log.entries[&index].encode_to_vec(),
            "leaf {index} is another than the archive was told"
        );
        let event = log.event("archive", index);
        sent.insert(bytes(row, "id"), event);
    }
    let of = |id: Vec<u8>| sent.get(&id).cloned().unwrap_or_else(|| panic!("no entry"));

    // Every receipt is in a batch, and the batch is what its leaf says.
    let receipts = rows(data, FILE, "SELECT receipt FROM records ORDER BY record").await;
    let receipts: Vec<Vec<u8>> = receipts
        .iter()
        .map(|row| statement(row, "receipt"))
        .collect();
    let batches = rows(
        data,
        FILE,
        "SELECT first, count, append FROM batches ORDER BY first",
    )
    .await;
    let mut next = 1;
    for row in &batches {
        let (first, count): (i64, i64) = (row.get("first"), row.get("count"));
        assert_eq!(first, next, "a record in no batch");
        next += count;
        let from = usize::try_from(first - 1).unwrap();
        let batch = &receipts[from..from + usize::try_from(count).unwrap()];
        let Event::Receipts(leaf) = of(bytes(row, "append")) else {
            panic!("no receipts");
        };
        assert_eq!((leaf.first, leaf.count), (first as u64, count as u64));
        assert_eq!(leaf.root, batch_root(batch).as_bytes());
    }
    assert_eq!(next as usize, receipts.len() + 1, "a record in no batch");

    // Every act that somebody signed, and every row that such an act changed. Of an act that two have signed both are told to
    // the log, and the last of the two answers.
    let mut signed = BTreeMap::new();
    for event in sent.values() {
        if let Event::Statement(statement) = event {
            signed.insert(sha256(&statement.statement).to_vec(), statement.clone());
        }
    }
    let mut acts: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for row in &rows(data, FILE, "SELECT digest, append FROM acts").await {
        let statement = signed.get(&bytes(row, "digest")).expect("no leaf");
        let said = Signed::<pb::PersonAct>::decode(statement.clone()).unwrap();
        let Event::Statement(answer) = of(bytes(row, "append")) else {
            panic!("another answer");
        };
        let answer = Signed::<pb::PersonAct>::decode(answer).unwrap();
        assert_eq!((&answer.action, &answer.act), (&said.action, &said.act));
        acts.entry(said.action.clone())
            .or_default()
            .push(said.act.clone());
    }
    let matters = |acts: &BTreeMap<String, Vec<Vec<u8>>>, action: &str| -> BTreeSet<Vec<u8>> {
        let acts = acts.get(action).into_iter().flatten();
        acts.map(|act| api::MatterAct::decode(act.as_slice()).unwrap().matter)
            .collect()
    };
    let holds = |acts: &BTreeMap<String, Vec<Vec<u8>>>, action: &str| -> BTreeSet<Vec<u8>> {
        let acts = acts.get(action).into_iter().flatten();
        acts.map(|act| api::HoldAct::decode(act.as_slice()).unwrap().hold)
            .collect()
    };
    let ids = async |query: &'static str| -> BTreeSet<Vec<u8>> {
        let found = rows(data, FILE, query).await;
        found.iter().map(|row| row.get::<Vec<u8>, _>(0)).collect()
    };
    assert_eq!(
        ids("SELECT matter FROM matters").await,
        matters(&acts, "matter.create")
    );
    let closed = "SELECT matter FROM matters WHERE closed_at IS NOT NULL";
    assert_eq!(ids(closed).await, matters(&acts, "matter.close"));
    assert_eq!(
        ids("SELECT hold FROM holds").await,
        holds(&acts, "hold.place")
    );
    let released = "SELECT hold FROM holds WHERE free_from IS NOT NULL";
    assert_eq!(ids(released).await, holds(&acts, "hold.release"));
    assert_eq!(
        (acts["hold.place"].len(), acts["hold.release"].len()),
        (2, 2)
    );

    // Retention is the receipt's, or what an act made of it.
    let mut extended = BTreeMap::new();
    for act in &acts["retention.extend"] {
        let act = api::RetentionAct::decode(act.as_slice()).unwrap();
        for record in act.records {
            extended.insert(record, act.retain_until);
        }
    }
    for row in &rows(
        data,
        FILE,
        "SELECT digest, retain_until, receipt FROM records",
    )
    .await
    {
        let receipt = pb::Receipt::decode(statement(row, "receipt").as_slice()).unwrap();
        let until = u64::try_from(row.get::<i64, _>("retain_until")).unwrap();
        let said = extended.remove(&bytes(row, "digest"));
        assert_eq!(until, said.unwrap_or(receipt.retain_until));
    }
    assert!(extended.is_empty());

    // Orders that were released, in the open or under seal.
    let orders = rows(data, FILE, "SELECT digest, append, salt FROM orders").await;
    assert_eq!(orders.len(), 2);
    for row in &orders {
        match of(bytes(row, "append")) {
            Event::ReleasedOrder(released) => {
                let order = released.order.unwrap();
                assert_eq!(
                    sha256(&order.statement).as_bytes().as_slice(),
                    bytes(row, "digest")
                );
            }
            Event::SealedOrder(_) => assert_eq!(bytes(row, "salt").len(), 32),
            other => panic!("{other:?}"),
        }
    }
    // Nothing was disposed of, and no tombstone says so.
    let disposed = ids("SELECT append FROM dispositions").await;
    let tombstone = |event: &Event| matches!(event, Event::Tombstone(_));
    assert_eq!(
        disposed.len(),
        sent.values().filter(|e| tombstone(e)).count()
    );
}

/// What is signed of a stored statement.
fn statement(row: &SqliteRow, column: &str) -> Vec<u8> {
    pb::SignedStatement::decode(bytes(row, column).as_slice())
        .unwrap()
        .statement
}

async fn escrow(data: &Path, node: &str, log: &mut Log) {
    let file = format!("{node}/escrow.db");
    let query =
        "SELECT order_digest, envelope, key_id, share_epoch, answer, log_index FROM opening";
    let openings = rows(data, &file, query).await;
    assert_eq!(openings.len(), 4, "two records under two orders");
    let mut sealed = 0;
    for row in &openings {
        assert!(!bytes(row, "answer").is_empty());
        match log.event(node, index(row)) {
            Event::Opened(opened) => {
                let expected = pb::Opened {
                    order: bytes(row, "order_digest"),
                    envelope: bytes(row, "envelope"),
                    key_id: bytes(row, "key_id"),
                    share_epoch: bytes(row, "share_epoch"),
                    node: node.to_owned(),
                };
                assert_eq!(opened, expected);
            }
            Event::SealedOpened(_) => sealed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sealed, 2);
    // A share is of an epoch that is in the log.
    let shares = rows(data, &file, "SELECT share_epoch FROM share").await;
    assert_eq!(shares.len(), 1);
    for row in &shares {
        let epoch = bytes(row, "share_epoch");
        let known = log.entries.values().any(|entry| {
            matches!(&entry.event, Some(Event::Statement(statement))
                if statement.r#type == "share-epoch" && sha256(&statement.statement).as_bytes().as_slice() == epoch)
        });
        assert!(
            known,
            "{node} has a share of an epoch that is not in the log"
        );
    }
}
