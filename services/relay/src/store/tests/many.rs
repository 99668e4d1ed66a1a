//! What one statement does to many rows, and leaves of all others.

use std::collections::HashSet;

use super::*;
use conversations::{Advance, NewConversation};
use members::Sent;
use standing::{Message, Tail};

const D: ConversationId = ConversationId::new([4; 16]);
/// More than a statement takes.
const MANY: u64 = 200;

fn digest_of(n: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Digest::new(bytes)
}

fn numbered(conversation: ConversationId, sequence: u64) -> NewItem {
    let digest = digest_of(u64::from(conversation.as_bytes()[0]) << 32 | sequence);
    NewItem {
        conversation,
        digest,
        message_id: Some(MessageId::new(digest.as_bytes()[..16].try_into().unwrap())),
        ..item(sequence, 0)
    }
}

async fn fill(conn: &mut Connection, scope: &Scope, conversation: ConversationId) {
    let all: Vec<_> = (1..=MANY)
        .map(|sequence| (numbered(conversation, sequence), &b"xy"[..]))
        .collect();
    assert!(items::insert(conn, scope, &all).await.unwrap());
}

async fn create(conn: &mut Connection, scope: &Scope, conversation: ConversationId) {
    let new = NewConversation {
        conversation,
        created_by: A,
        created_at: NOW,
        origin: Digest::new([5; 32]),
        log_index: 1,
        mode: 1,
        disclosure: Digest::new([8; 32]),
        epoch: 1,
        observer: vec![1],
    };
    assert!(conversations::insert(conn, scope, &new).await.unwrap());
}

#[tokio::test]
async fn many_items_have_their_numbers_in_order_and_one_that_is_taken_is_told() {
    on_both(async |conn, scope| {
        fill(conn, scope, C).await;
        let outbox = items::outbox(&mut *conn, scope, 0, 1000).await.unwrap();
        let numbers: Vec<_> = outbox.iter().map(|row| row.sequence).collect();
        assert_eq!(numbers, (1..=MANY).collect::<Vec<_>>());
        assert!(outbox.iter().all(|row| row.payload == b"xy"));
        let more = [
            (numbered(C, MANY + 1), &b"x"[..]),
            (numbered(C, 3), &b"x"[..]),
        ];
        assert!(!items::insert(&mut *conn, scope, &more).await.unwrap());
        assert!(items::insert(&mut *conn, scope, &[]).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn every_answer_goes_to_its_own_item_and_once() {
    on_both(async |conn, scope| {
        fill(conn, scope, C).await;
        fill(conn, scope, D).await;
        let places: Vec<_> = (1..=MANY)
            .map(|n| (C, n))
            .chain([(D, 7), (D, 999)])
            .collect();
        let waiting = answers::unanswered(&mut *conn, scope, &places)
            .await
            .unwrap();
        assert_eq!(waiting.len() as u64, MANY + 1);
        assert_eq!(waiting[&(D, 7)].digest, numbered(D, 7).digest);
        assert_eq!(
            (waiting[&(C, 9)].kind, waiting[&(C, 9)].size),
            (Kind::Message, 2)
        );

        let given: Vec<_> = (1..=MANY)
            .map(|n| {
                let answer = Answer {
                    receipt: n.to_be_bytes().to_vec(),
                    void: (n == 5).then(|| vec![5]),
                    head: digest_of(n),
                    release: n,
                };
                ((C, n), answer)
            })
            .collect();
        assert_eq!(
            answers::store(&mut *conn, scope, &given).await.unwrap(),
            MANY
        );
        assert_eq!(answers::store(&mut *conn, scope, &given).await.unwrap(), 0);
        let left = answers::unanswered(&mut *conn, scope, &places)
            .await
            .unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), [&(D, 7)]);
        let mail = items::mail(&mut *conn, scope, &C, 0, 999, 1000)
            .await
            .unwrap();
        assert_eq!(mail.len() as u64, MANY);
        for (row, n) in mail.iter().zip(1_u64..) {
            assert_eq!((row.sequence, &row.receipt), (n, &n.to_be_bytes().to_vec()));
            assert_eq!(row.kind == Kind::Void, n == 5, "{n}");
            assert_eq!(row.void.is_some(), n == 5);
            let head = items::head_at(&mut *conn, scope, &C, n).await.unwrap();
            assert_eq!(head, Some(digest_of(n)));
        }
        assert!(
            items::mail(&mut *conn, scope, &D, 0, 999, 9)
                .await
                .unwrap()
                .is_empty()
        );
        let released = items::released_after(&mut *conn, scope, 198, 9)
            .await
            .unwrap();
        assert_eq!(
            released.iter().map(|r| r.place).collect::<Vec<_>>(),
            [199, 200]
        );
    })
    .await;
}

#[tokio::test]
async fn what_many_jobs_are_decided_on_is_what_each_would_find() {
    on_both(async |conn, scope| {
        for id in [C, D] {
            create(conn, scope, id).await;
        }
        fill(conn, scope, C).await;
        let digests: Vec<_> = (1..=MANY + 50).map(|n| numbered(C, n).digest).collect();
        let found = standing::sequenced(&mut *conn, scope, &digests)
            .await
            .unwrap();
        assert_eq!(found.len() as u64, MANY);
        assert_eq!(found[&digests[2]].sequence, 3);
        let ids: Vec<_> = (MANY - 1..=MANY + 50)
            .flat_map(|n| [C, D].map(|id| (id, numbered(C, n).message_id.unwrap())))
            .collect();
        let taken = standing::taken(&mut *conn, scope, &ids).await.unwrap();
        let expected = [MANY - 1, MANY].map(|n| (C, numbered(C, n).message_id.unwrap()));
        assert_eq!(
            taken,
            HashSet::from(expected),
            "an id is one of its conversation"
        );

        let unknown = ConversationId::new([9; 16]);
        let tails = standing::tails(&mut *conn, scope, &[C, D, unknown])
            .await
            .unwrap();
        assert_eq!(tails.len(), 2);
        let state = |tail: &Tail| (tail.commit_pending, tail.overrun);
        assert_eq!(
            state(&tails[&C]),
            (false, true),
            "numbers that it has not given"
        );
        assert_eq!(state(&tails[&D]), (false, false));
        assert_eq!(
            Some(&tails[&D].row),
            conversations::get(&mut *conn, scope, &D)
                .await
                .unwrap()
                .as_ref()
        );
        let commit = NewItem {
            kind: Kind::Handshake,
            message_id: None,
            ..numbered(D, 1)
        };
        assert!(
            items::insert(&mut *conn, scope, &[(commit, b"c")])
                .await
                .unwrap()
        );
        let moved = [
            Advance {
                conversation: C,
                sequence: MANY,
                released: 4,
                head: digest_of(4),
            },
            Advance {
                conversation: D,
                sequence: 1,
                released: 0,
                head: Digest::ZERO,
            },
        ];
        conversations::advance(&mut *conn, scope, &moved)
            .await
            .unwrap();
        let tails = standing::tails(&mut *conn, scope, &[C, D]).await.unwrap();
        assert_eq!(state(&tails[&C]), (false, false));
        assert_eq!(state(&tails[&D]), (true, false));
        let row = &tails[&C].row;
        assert_eq!(
            (row.sequence, row.released, row.head),
            (MANY, 4, digest_of(4))
        );
        let receipt = [((D, 1), answer())];
        answers::store(&mut *conn, scope, &receipt).await.unwrap();
        let tails = standing::tails(&mut *conn, scope, &[D]).await.unwrap();
        assert!(!tails[&D].commit_pending);
    })
    .await;
}

#[tokio::test]
async fn counters_are_those_of_the_present_stay_in_the_one_conversation() {
    on_both(async |conn, scope| {
        for row in [
            member(A, 0),
            MemberRow {
                conversation: D,
                ..member(A, 0)
            },
            member(B, 3),
        ] {
            members::insert(&mut *conn, scope, &row).await.unwrap();
        }
        members::close(&mut *conn, scope, &C, &B, 7).await.unwrap();
        members::insert(&mut *conn, scope, &member(B, 20))
            .await
            .unwrap();
        let asked = [(C, A), (C, B), (D, B)];
        let present = members::present_of(&mut *conn, scope, &asked)
            .await
            .unwrap();
        let places: Vec<_> = present
            .iter()
            .map(|m| (m.conversation, m.device, m.from_seq))
            .collect();
        assert_eq!(places, [(C, A, 0), (C, B, 20)]);
        let sent = |device, counter| Sent {
            conversation: C,
            device,
            counter,
            previous: digest_of(counter),
        };
        members::set_counters(&mut *conn, scope, &[sent(A, 5), sent(B, 6)])
            .await
            .unwrap();
        let mut counters = Vec::new();
        for (id, device) in [(C, A), (D, A), (C, B)] {
            let stays = members::stays(&mut *conn, scope, &device, Some(&id))
                .await
                .unwrap();
            counters.push(
                stays
                    .iter()
                    .map(|m| (m.counter, m.previous))
                    .collect::<Vec<_>>(),
            );
        }
        let none = (0, Digest::ZERO);
        assert_eq!(
            counters,
            [
                vec![(5, digest_of(5))],
                vec![none],
                vec![none, (6, digest_of(6))]
            ]
        );

        let disclosed = [Digest::new([8; 32]), Digest::new([7; 32])];
        acknowledgements::insert(&mut *conn, scope, &C, &A, &disclosed[0], 1)
            .await
            .unwrap();
        acknowledgements::insert(&mut *conn, scope, &D, &B, &disclosed[1], 1)
            .await
            .unwrap();
        let given = acknowledgements::given(&mut *conn, scope, &[(C, A), (C, B), (D, A)]).await;
        assert_eq!(given.unwrap(), HashSet::from([(C, A, disclosed[0])]));
    })
    .await;
}

fn message(item: &NewItem, seen: u64) -> Message<'_> {
    Message {
        envelope: &item.digest,
        conversation: &item.conversation,
        device: &item.device,
        message_id: item.message_id.as_ref().unwrap(),
        seen,
    }
}

#[tokio::test]
async fn how_the_database_stands_to_a_message_is_read_at_once() {
    each_database(async |db, scope| {
        let (two, three) = (&numbered(C, 2), &numbered(C, 3));
        let ask = async |message: &Message<'_>| {
            standing::of_message(db.read(), scope, message)
                .await
                .unwrap()
        };
        assert_eq!(ask(&message(two, 0)).await, None);
        db.run_tx("test", async |conn: &mut Connection| {
            create(conn, scope, C).await;
            Ok::<_, sqlx::Error>(())
        })
        .await
        .unwrap();
        let found = ask(&message(two, 0)).await.unwrap();
        assert!(!found.known && !found.acknowledged);
        assert_eq!(
            (found.certificate, found.taken_by, found.seen),
            (None, None, None)
        );

        db.run_tx("test", async |conn: &mut Connection| {
            members::insert(&mut *conn, scope, &member(A, 0)).await?;
            // A notice that was in force once.
            let older = Digest::new([7; 32]);
            acknowledgements::insert(&mut *conn, scope, &C, &A, &older, 1).await?;
            let items = [(numbered(C, 1), &b"x"[..]), (two.clone(), &b"x"[..])];
            assert!(items::insert(&mut *conn, scope, &items).await?);
            answers::store(&mut *conn, scope, &[((C, 1), answer())]).await
        })
        .await
        .unwrap();
        let found = ask(&message(two, 1)).await.unwrap();
        assert!(found.known && !found.acknowledged);
        assert_eq!(found.certificate, Some(Digest::new([9; 32])));
        assert_eq!(found.taken_by, Some(two.digest));
        assert_eq!(found.seen, Some(Digest::new([7; 32])));
        let found = ask(&message(three, 2)).await.unwrap();
        assert!(!found.known);
        assert_eq!((found.taken_by, found.seen), (None, None), "no receipt yet");

        db.run_tx("test", async |conn: &mut Connection| {
            let in_force = Digest::new([8; 32]);
            acknowledgements::insert(&mut *conn, scope, &C, &A, &in_force, 2).await?;
            members::close(&mut *conn, scope, &C, &A, 3).await
        })
        .await
        .unwrap();
        let found = ask(&message(three, 0)).await.unwrap();
        assert!(found.acknowledged);
        assert_eq!(found.certificate, None, "it has left");
        let row = conversations::get(db.read(), scope, &C).await.unwrap();
        assert_eq!(Some(found.conversation), row);
    })
    .await;
}
