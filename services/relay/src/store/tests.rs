//! Queries against a real database, one test a promise that SQL keeps.

use greffe_service_kit::db::{Connection, Database, DbOptions, Source};
use greffe_types::{MessageId, Millis};

mod many;
mod plans;

use super::*;
use answers::Answer;
use items::{Kind, NewItem};
use members::MemberRow;

const C: ConversationId = ConversationId::new([1; 16]);
const A: DeviceId = DeviceId::new([2; 16]);
const B: DeviceId = DeviceId::new([3; 16]);
const NOW: Millis = Millis::new(1_000);

/// Runs a test in a transaction, on SQLite and on PostgreSQL.
async fn on_both(test: impl AsyncFn(&mut Connection, &Scope)) {
    each_database(async |db, scope| {
        db.run_tx("test", async |conn: &mut Connection| {
            test(conn, scope).await;
            Ok::<_, sqlx::Error>(())
        })
        .await
        .unwrap();
    })
    .await;
}

/// Runs a test on SQLite and on PostgreSQL.
async fn each_database(test: impl AsyncFn(&Database, &Scope)) {
    let tenant = TenantId::new("acme").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = greffe_testkit::postgres::Postgres::shared()
        .database()
        .await;
    for source in [
        Source::File(folder.path().join("relay.db")),
        Source::postgres(&url, &tenant, "relay").unwrap(),
    ] {
        let db = Database::open(&source, &crate::app::MIGRATIONS, DbOptions::default())
            .await
            .unwrap();
        db.take_lease(&tenant, "test").await.unwrap();
        let scope = Scope {
            tenant: tenant.clone(),
        };
        test(&db, &scope).await;
        db.close().await.unwrap();
    }
}

fn item(sequence: u64, digest: u8) -> NewItem {
    NewItem {
        conversation: C,
        sequence,
        kind: Kind::Message,
        digest: Digest::new([digest; 32]),
        message_id: Some(MessageId::new([digest; 16])),
        device: A,
        certificate: Digest::new([9; 32]),
        epoch: 1,
        disclosure: Digest::new([8; 32]),
    }
}

fn member(device: DeviceId, from_seq: u64) -> MemberRow {
    MemberRow {
        conversation: C,
        device,
        user: "user".to_owned(),
        certificate: Digest::new([9; 32]),
        from_seq,
        until_seq: None,
        counter: 0,
        previous: Digest::ZERO,
        cursor: from_seq.saturating_sub(1),
    }
}

fn answer() -> Answer {
    Answer {
        receipt: vec![1],
        void: None,
        head: Digest::new([7; 32]),
        release: 1,
    }
}

#[tokio::test]
async fn a_challenge_serves_once_for_its_device_and_time() {
    on_both(async |conn, scope| {
        let expires = Millis::new(2_000);
        for challenge in [[1; 32], [2; 32]] {
            devices::insert_challenge(&mut *conn, scope, &challenge, &A, expires)
                .await
                .unwrap();
        }
        let mut take = async |challenge: [u8; 32], device, now| {
            devices::take_challenge(&mut *conn, scope, &challenge, device, now)
                .await
                .unwrap()
        };
        assert!(!take([1; 32], &B, NOW).await, "another device's");
        assert!(take([1; 32], &A, NOW).await);
        assert!(!take([1; 32], &A, NOW).await, "used");
        assert!(!take([2; 32], &A, expires).await, "run out");
        assert!(!take([3; 32], &A, NOW).await, "never given");
    })
    .await;
}

#[tokio::test]
async fn attack_16_a_key_package_is_given_once_and_never_published_again() {
    on_both(async |conn, scope| {
        let certificate = Digest::new([9; 32]);
        let package = |reference: u8, last_resort| key_packages::NewKeyPackage {
            reference: vec![reference],
            certificate,
            package: vec![reference; 3],
            last_resort,
            not_after: Millis::new(5_000),
        };
        for (reference, last_resort) in [(1, false), (2, false), (3, true)] {
            let new = package(reference, last_resort);
            assert!(
                key_packages::insert(&mut *conn, scope, &A, &new)
                    .await
                    .unwrap()
            );
        }
        let mut given = Vec::new();
        for _ in 0..3 {
            let claimed = key_packages::claim(&mut *conn, scope, &A, &certificate, &B, NOW).await;
            given.push(claimed.unwrap());
        }
        assert_eq!(given, [Some(vec![1; 3]), Some(vec![2; 3]), None]);
        let last = key_packages::last_resort(&mut *conn, scope, &A, &certificate, NOW).await;
        assert_eq!(last.unwrap(), Some(vec![3; 3]));
        key_packages::sweep(&mut *conn, scope, NOW).await.unwrap();
        let again = package(1, false);
        assert!(
            !key_packages::insert(&mut *conn, scope, &A, &again)
                .await
                .unwrap()
        );
        assert_eq!(
            key_packages::available(&mut *conn, scope, &A, NOW)
                .await
                .unwrap(),
            0
        );
    })
    .await;
}

#[tokio::test]
async fn a_number_a_digest_a_message_id_and_an_epochs_commit_are_taken_once() {
    on_both(async |conn, scope| {
        let mut insert = async |new: &NewItem| {
            items::insert(&mut *conn, scope, &[(new.clone(), b"x")])
                .await
                .unwrap()
        };
        assert!(insert(&item(1, 1)).await);
        assert!(!insert(&item(1, 2)).await, "number");
        assert!(!insert(&item(2, 1)).await, "digest");
        let mut same_id = item(2, 2);
        same_id.message_id = Some(MessageId::new([1; 16]));
        assert!(!insert(&same_id).await, "message id");
        let commit = |sequence, digest| NewItem {
            kind: Kind::Handshake,
            message_id: None,
            ..item(sequence, digest)
        };
        assert!(insert(&commit(2, 3)).await);
        assert!(!insert(&commit(3, 4)).await, "the epoch's commit");
        assert!(
            insert(&NewItem {
                epoch: 2,
                ..commit(3, 4)
            })
            .await
        );
    })
    .await;
}

#[tokio::test]
async fn the_outbox_is_what_has_no_receipt_in_the_order_of_sequencing() {
    on_both(async |conn, scope| {
        for sequence in 1..=3 {
            let new = item(sequence, sequence as u8);
            assert!(
                items::insert(&mut *conn, scope, &[(new, &[sequence as u8])])
                    .await
                    .unwrap()
            );
        }
        let waiting = items::backlog(&mut *conn, scope).await.unwrap();
        assert_eq!((waiting.items, waiting.bytes), (3, 3));
        assert_eq!(waiting.ids.1 - waiting.ids.0, 2);
        let second = [((C, 2), answer())];
        let stored = answers::store(&mut *conn, scope, &second).await.unwrap();
        assert_eq!(stored, 1);
        let again = answers::store(&mut *conn, scope, &second).await.unwrap();
        assert_eq!(again, 0);
        let outbox = items::outbox(&mut *conn, scope, 0, 10).await.unwrap();
        assert_eq!(
            outbox.iter().map(|row| row.sequence).collect::<Vec<_>>(),
            [1, 3]
        );
        assert_eq!(
            items::outbox(&mut *conn, scope, outbox[0].id, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        let mail = items::mail(&mut *conn, scope, &C, 0, 9, 10).await.unwrap();
        assert_eq!(mail.iter().map(|row| row.sequence).collect::<Vec<_>>(), [2]);
        assert_eq!(mail[0].payload.as_deref(), Some(&[2][..]));
        let head = items::head_at(&mut *conn, scope, &C, 2).await.unwrap();
        assert_eq!(head, Some(Digest::new([7; 32])));
        assert_eq!(
            items::head_at(&mut *conn, scope, &C, 3).await.unwrap(),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn a_refused_commit_leaves_no_trace_among_the_members_and_frees_its_epoch() {
    on_both(async |conn, scope| {
        members::insert(&mut *conn, scope, &member(A, 0))
            .await
            .unwrap();
        let before = members::present(&mut *conn, scope, &C).await.unwrap();
        let commit = NewItem {
            kind: Kind::Handshake,
            message_id: None,
            ..item(5, 5)
        };
        assert!(
            items::insert(&mut *conn, scope, &[(commit.clone(), b"x")])
                .await
                .unwrap()
        );
        members::insert(&mut *conn, scope, &member(B, 5))
            .await
            .unwrap();
        members::close(&mut *conn, scope, &C, &A, 5).await.unwrap();
        let at_5 = members::at(&mut *conn, scope, &C, 5).await.unwrap();
        assert_eq!(
            at_5.len(),
            2,
            "who is added and who is removed both take part in the commit"
        );
        let void = Answer {
            void: Some(vec![2]),
            release: 2,
            ..answer()
        };
        let stored = answers::store(&mut *conn, scope, &[((C, 5), void)])
            .await
            .unwrap();
        assert_eq!(stored, 1);
        members::undo(&mut *conn, scope, &C, 5).await.unwrap();
        assert_eq!(
            members::present(&mut *conn, scope, &C).await.unwrap(),
            before
        );
        let next = NewItem {
            sequence: 6,
            digest: Digest::new([6; 32]),
            ..commit
        };
        assert!(
            items::insert(&mut *conn, scope, &[(next, b"x")])
                .await
                .unwrap()
        );
    })
    .await;
}

#[tokio::test]
async fn cursors_only_move_forward_and_not_past_the_end_of_a_stay() {
    on_both(async |conn, scope| {
        members::insert(&mut *conn, scope, &member(A, 0))
            .await
            .unwrap();
        members::insert(&mut *conn, scope, &member(B, 3))
            .await
            .unwrap();
        members::close(&mut *conn, scope, &C, &B, 7).await.unwrap();
        members::insert(&mut *conn, scope, &member(B, 20))
            .await
            .unwrap();
        let mut ack = async |device, sequence| {
            members::set_cursor(&mut *conn, scope, &C, device, sequence)
                .await
                .unwrap();
            let stays = members::stays(&mut *conn, scope, device, Some(&C))
                .await
                .unwrap();
            let least = members::taken_in_by_all(&mut *conn, scope, &C)
                .await
                .unwrap();
            (
                stays.iter().map(|stay| stay.cursor).collect::<Vec<_>>(),
                least,
            )
        };
        assert_eq!(ack(&B, 3).await, (vec![3, 19], Some(0)));
        assert_eq!(ack(&A, 6).await, (vec![6], Some(3)));
        assert_eq!(ack(&A, 5).await, (vec![6], Some(3)));
        assert_eq!(ack(&B, 21).await, (vec![7, 21], Some(6)));
        assert_eq!(ack(&A, 40).await, (vec![40], Some(21)));
    })
    .await;
}
