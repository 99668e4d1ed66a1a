//! Searches by the indexes give what looking at every record gives, page after page, whatever the clocks said.

use std::collections::{BTreeMap, BTreeSet};

use greffe_api::archive::RecordQuery;
use greffe_archive::store::records::{self, NewRecord, Proof};
use greffe_archive::store::search::Filter;
use greffe_archive::store::{MAIN, Scope, months};
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_service_kit::db::{Connection, Database, DbOptions, Source, Writers};
use greffe_testkit::store::Store;
use greffe_types::{ConversationId, DeviceId, Digest, Millis};

use crate::people::query;
use crate::world::{NOW, tenant};

const RECORDS: u64 = 6_000;
const SETS: u64 = 300;
const HOUR: u64 = 3_600_000;

/// Numbers that look like nothing, the same in every run.
struct Lots(u64);

impl Lots {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What is searched for.
struct Filed {
    record: u64,
    set: u64,
    conversation: u64,
    sender: String,
    sent_at: u64,
    archived_at: u64,
    class: &'static str,
}

fn members(set: u64) -> Vec<String> {
    let mut members = vec!["everybody".to_owned(), format!("user-{}", set % 20)];
    if set % 100 == 99 {
        members.push("rare".to_owned());
    }
    members
}

fn filed(lots: &mut Lots) -> Vec<Filed> {
    (1..=RECORDS)
        .map(|record| {
            // Once in a while the archive's clock is an hour back, and a sender's is anywhere.
            let back = if lots.below(500) == 0 { HOUR } else { 0 };
            let archived_at = NOW.get() + record * 1_000 - back;
            let sent_at = match lots.below(50) {
                0 => archived_at + lots.below(48) * HOUR,
                1 => 0,
                2 if record == 777 || lots.below(20) == 0 => u64::MAX,
                _ => archived_at - lots.below(30_000),
            };
            // Some sets have their first record late.
            let set = lots.below(SETS) % (1 + record / 10);
            Filed {
                record,
                set,
                conversation: set % 40,
                sender: match lots.below(10) {
                    0 => "guest".to_owned(),
                    _ => members(set)[1].clone(),
                },
                sent_at,
                archived_at,
                class: if lots.below(200) == 0 {
                    "rare"
                } else {
                    "communication"
                },
            }
        })
        .collect()
}

fn conversation(number: u64) -> ConversationId {
    ConversationId::new([number as u8; 16])
}

fn set_digest(number: u64) -> Digest {
    sha256(format!("set {number}").as_bytes())
}

fn row(one: &Filed) -> NewRecord {
    let digest = sha256(format!("record {}", one.record).as_bytes());
    NewRecord {
        record: one.record,
        conversation: conversation(one.conversation),
        sequence: one.record,
        kind: pb::EntryKind::Message,
        digest,
        refused: None,
        sender: one.sender.clone(),
        sent_at: one.sent_at,
        archived_at: Millis::new(one.archived_at),
        retain_until: NOW,
        mode: pb::Mode::Journaled.into(),
        record_class: one.class.to_owned(),
        policy_digest: None,
        size: 1,
        member_set: set_digest(one.set),
        content: digest,
        envelope: None,
        certificate: None,
        receipt: pb::SignedStatement::default(),
        void: None,
        proof: Proof::Verified,
    }
}

/// A database with these records and nothing else.
async fn filled(store: Option<&Store>, folder: &std::path::Path, filed: &[Filed]) -> Database {
    let source = match store {
        Some(store) => {
            let owner = Source::postgres(store.url(), &tenant(), "archive").unwrap();
            Database::migrate(&owner, &MAIN, false).await.unwrap();
            Source::postgres(&store.runtime_url(), &tenant(), "archive").unwrap()
        }
        None => Source::File(folder.join("archive.db")),
    };
    let options = DbOptions {
        migrate: store.is_none(),
        writers: Writers::Any,
        ..DbOptions::default()
    };
    let db = Database::open(&source, &MAIN, options).await.unwrap();
    let scope = Scope { tenant: tenant() };
    db.run_tx("fill", async |conn: &mut Connection| {
        if store.is_some() {
            months::ensure(conn, NOW, 2).await?;
        }
        for set in 0..SETS {
            let members = members(set);
            let devices = members.into_iter().zip(1..);
            let devices: Vec<_> = devices
                .map(|(user, n)| (user, DeviceId::new([n; 16])))
                .collect();
            records::keep_member_set(conn, &scope, &set_digest(set), &devices).await?;
        }
        let rows: Vec<_> = filed.iter().map(row).collect();
        let rows: Vec<_> = rows.iter().collect();
        records::insert(conn, &scope, &rows).await
    })
    .await
    .unwrap();
    db
}

/// Every record that a query matches, by looking at each.
fn looked(filed: &[Filed], query: &RecordQuery) -> Vec<u64> {
    let any = |wanted: &str, holds: bool| wanted.is_empty() || holds;
    filed
        .iter()
        .filter(|one| {
            let user = &query.participant;
            any(user, one.sender == *user || members(one.set).contains(user))
                && any(&query.sender, one.sender == query.sender)
                && any(&query.record_class, one.class == query.record_class)
                && (query.conversation.is_empty()
                    || query.conversation == conversation(one.conversation).to_vec())
                && (query.from == 0 || one.archived_at.max(one.sent_at) >= query.from)
                && (query.until == 0 || one.archived_at < query.until)
        })
        .map(|one| one.record)
        .collect()
}

async fn searched(db: &Database, query: &RecordQuery, limit: u32) -> Vec<u64> {
    let filter = Filter::parse(query).unwrap();
    let scope = Scope { tenant: tenant() };
    let mut found = Vec::new();
    loop {
        let mut tx = db.read().begin().await.unwrap();
        let after = found.last().copied().unwrap_or(0);
        let page = filter.page(&mut tx, &scope, after, limit).await.unwrap();
        let whole = page.len() == limit as usize;
        found.extend(page.iter().map(|summary| summary.record));
        if !whole {
            return found;
        }
    }
}

fn queries() -> BTreeMap<String, RecordQuery> {
    let at = |seconds: u64| NOW.get() + seconds * 1_000;
    let times = [
        (0, 0),
        (at(5_900), 0),
        (at(1_000), at(1_060)),
        (0, at(300)),
        (at(RECORDS + 30 * 3_600), 0),
        (at(400 * 86_400), 0),
    ];
    let who = ["", "everybody", "user-7", "guest", "rare", "nobody"];
    let mut queries = BTreeMap::new();
    for (from, until) in times {
        for participant in who {
            for class in ["", "rare"] {
                let wanted = query(|q| {
                    q.from = from;
                    q.until = until;
                    q.participant = participant.to_owned();
                    q.record_class = class.to_owned();
                });
                queries.insert(format!("{participant:?} {class:?} {from} {until}"), wanted);
            }
        }
        queries.insert(
            format!("a conversation {from} {until}"),
            query(|q| {
                q.from = from;
                q.until = until;
                q.conversation = conversation(7).to_vec();
            }),
        );
    }
    queries
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_looking_at_every_record_finds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::chosen().await;
    let filed = filed(&mut Lots(11));
    let db = filled(store.as_ref(), folder.path(), &filed).await;
    let mut sizes = BTreeSet::new();
    for (name, query) in queries() {
        let expected = looked(&filed, &query);
        assert_eq!(searched(&db, &query, 101).await, expected, "{name}");
        sizes.insert(expected.len());
    }
    // Nothing, everything, and much between.
    assert!(sizes.contains(&0) && sizes.contains(&(RECORDS as usize)) && sizes.len() > 12);
    db.close().await.unwrap();
}
