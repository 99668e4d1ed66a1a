//! Tokens, searches, records, ranges: who may read what, and what the log says of it.

use greffe_api::archive as api;
use greffe_api::archive::archive_service_client::ArchiveServiceClient;
use greffe_archive::store::search::Filter;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_range;
use greffe_service_kit::errors::CallError;
use prost::Message as _;
use tonic::{Code, Request};

use crate::people::{by, listed_read, query, token, with_token};
use crate::support::{Archive, World, receipt_of, refusal};
use crate::world::{END, NOW, Talk, device};

/// Two conversations: five entries of alice's with bob, two messages of carol's with bob.
async fn two_talks(archive: &Archive) -> Vec<pb::SignedStatement> {
    let mut first = Talk::new(1);
    let mut second = Talk::new(2);
    second.members = vec![device("carol", 3), device("bob", 2)];
    let mut requests = vec![first.handshake()];
    requests.extend((0..3).map(|n| first.message(&format!("{n}"))));
    requests.push(first.message_with("kept longer", |h| h.record_class = "blotter".into()));
    requests.extend((0..2).map(|n| second.message(&format!("{n}"))));
    let answers = archive.send(requests).await.unwrap();
    answers
        .iter()
        .map(|answer| receipt_of(answer).into_raw())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_filter_and_page_and_are_logged() {
    let world = World::new().await;
    let archive = world.start().await;
    two_talks(&archive).await;
    let numbers = |found: Vec<api::RecordSummary>| -> Vec<u64> {
        found.into_iter().map(|summary| summary.record).collect()
    };
    let everything = archive.search(&world, query(|_| ())).await;
    assert_eq!(everything[1].participants, ["alice", "bob"]);
    assert_eq!(everything[1].sender, "alice");
    assert_eq!(numbers(everything), [1, 2, 3, 4, 5, 6, 7]);
    for (wanted, query) in [
        (vec![6, 7], query(|q| q.sender = "carol".into())),
        (vec![6, 7], query(|q| q.participant = "carol".into())),
        (
            vec![1, 2, 3, 4, 5],
            query(|q| q.participant = "alice".into()),
        ),
        (
            vec![1, 2, 3, 4, 5, 6, 7],
            query(|q| q.participant = "bob".into()),
        ),
        (vec![6, 7], query(|q| q.conversation = vec![2; 16])),
        (vec![5], query(|q| q.record_class = "blotter".into())),
        (vec![], query(|q| q.from = NOW.get() + 1)),
        (vec![], query(|q| q.until = NOW.get())),
        (vec![], query(|q| q.mode = pb::Mode::Supervised.into())),
        (
            vec![2, 3, 4],
            query(|q| {
                q.sender = "alice".into();
                q.record_class = "communication".into();
                q.mode = pb::Mode::Journaled.into();
                q.from = NOW.get();
                q.until = NOW.get() + 1;
            }),
        ),
    ] {
        assert_eq!(
            numbers(archive.search(&world, query.clone()).await),
            wanted,
            "{query:?}"
        );
    }

    let mut page = api::SearchRecordsRequest {
        query: Some(query(|q| q.participant = "bob".into())),
        page_size: 3,
        page_token: String::new(),
    };
    let mut paged = Vec::new();
    loop {
        let request = by(&world, "ann", page.clone());
        let answer = archive.records().search_records(request).await.unwrap();
        let answer = answer.into_inner();
        paged.push(numbers(answer.records));
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
        let mut other = page.clone();
        other.query = Some(query(|q| q.participant = "alice".into()));
        let refused = archive
            .records()
            .search_records(by(&world, "ann", other))
            .await
            .unwrap_err();
        assert_eq!(refusal(refused).1, "PAGE_TOKEN_INVALID");
    }
    assert_eq!(paged, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);

    let search = |event: &Event| matches!(event, Event::Access(a) if a.person == "ann" && a.action == "search" && a.count == 1);
    world.log.wait_for(search).await;
    let refused = |event: &Event| matches!(event, Event::Refusal(r) if r.reason == "PAGE_TOKEN_INVALID" && r.caller == "person:ann");
    world.log.wait_for(refused).await;
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_one_person_does_not_take_every_search() {
    let world = World::new().await;
    let archive = world.start().await;
    let search = async |who: &str| {
        let asked = by(&world, who, api::SearchRecordsRequest::default());
        let answer = archive.records().search_records(asked).await;
        answer.map(drop).map_err(CallError::from)
    };
    // As if so many were being looked for at this moment.
    let held = archive.app.searches.take("ann", 4).unwrap();
    let refused = search("ann").await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.reason.as_deref(), Some("TOO_MANY_SEARCHES"));
    assert!(refused.retry_after.is_some());
    assert_eq!(refused.metadata["whose"], "caller");
    drop(held);
    search("ann").await.unwrap();
    assert_eq!(archive.app.searches.given(), (0, 0));
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_with_its_way_into_the_log() {
    let world = World::new().await;
    let archive = world.start().await;
    let receipts = two_talks(&archive).await;
    let digest = archive.search(&world, query(|_| ())).await[1]
        .digest
        .clone();
    let request = api::GetRecordRequest {
        digest: digest.clone(),
    };
    let record = loop {
        let request = by(&world, "fay", request.clone());
        let record = archive.records().get_record(request).await.unwrap();
        let record = record.into_inner();
        if record.receipt_proof.is_some() {
            break record;
        }
    };
    assert_eq!(record.receipt.as_ref(), Some(&receipts[1]));
    assert!(record.envelope.is_some() && record.device_cert.is_some());
    let read = |event: &Event| matches!(event, Event::Access(a) if a.person == "fay" && a.action == "get" && a.subject.len() == 32);
    let (index, _) = world.log.wait_for(read).await;
    assert_eq!(listed_read(&world, &archive, index).await.subject, digest);

    let unknown = api::GetRecordRequest {
        digest: vec![1; 32],
    };
    let refused = archive
        .records()
        .get_record(by(&world, "bea", unknown))
        .await
        .unwrap_err();
    assert_eq!(refusal(refused), (Code::NotFound, "RECORD_UNKNOWN".into()));
    let logged = |event: &Event| matches!(event, Event::Refusal(r) if r.reason == "RECORD_UNKNOWN" && r.subject.len() == 32);
    let (index, _) = world.log.wait_for(logged).await;
    assert_eq!(listed_read(&world, &archive, index).await.subject, [1; 32]);
    archive.stop().await;
}

/// Whoever may read the log does not see who is looked into before an order; whoever oversees reads sees all of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_commits_to_what_was_read_and_shows_it_to_nobody() {
    let world = World::new().await;
    let archive = world.start().await;
    two_talks(&archive).await;
    let about_bob = query(|q| q.conversation = vec![1; 16]);
    let digest = archive.search(&world, about_bob.clone()).await[1]
        .digest
        .clone();
    let get = api::GetRecordRequest {
        digest: digest.clone(),
    };
    for _ in 0..2 {
        let get = by(&world, "ann", get.clone());
        archive.records().get_record(get).await.unwrap();
    }
    let range = api::GetRangeRequest {
        conversation: vec![1; 16],
        first: 0,
        last: 0,
    };
    archive
        .records()
        .get_range(by(&world, "ann", range))
        .await
        .unwrap();
    let range = |event: &Event| matches!(event, Event::Access(a) if a.action == "range");
    let (last, _) = world.log.wait_for(range).await;
    let newest = listed_read(&world, &archive, last).await;
    assert_eq!(newest.subject, [1; 16]);

    let list = async |token: String| {
        let request = api::ListReadsRequest {
            page_size: 3,
            page_token: token,
        };
        let mut records = archive.records();
        let answer = records.list_reads(by(&world, "ann", request)).await;
        answer.unwrap().into_inner()
    };
    let first = list(String::new()).await;
    let second = list(first.next_page_token).await;
    assert_eq!((first.reads.len(), second.reads.len()), (3, 1));
    assert_eq!(second.next_page_token, "");
    let reads: Vec<_> = first.reads.into_iter().chain(second.reads).collect();
    let subjects: Vec<_> = reads.iter().map(|read| read.subject.clone()).collect();
    let asked = about_bob.encode_to_vec();
    assert_eq!(
        subjects,
        [asked, digest.clone(), digest.clone(), vec![1; 16]]
    );
    for read in &reads {
        let leaf = pb::LogEntry::decode(read.leaf.as_slice()).unwrap();
        let Some(Event::Access(access)) = leaf.event else {
            panic!("no read: {leaf:?}");
        };
        let salt = read.salt.as_slice().try_into().unwrap();
        let commitment = greffe_envelope::read::read_subject(salt, &read.subject);
        assert_eq!(access.subject, commitment.as_bytes());
        for hidden in [digest.as_slice(), &[1; 16]] {
            let shown = read.leaf.windows(hidden.len()).any(|bytes| bytes == hidden);
            assert!(!shown, "the log shows what was read");
        }
    }
    // Twice the same is not recognised as the same.
    assert_ne!(reads[1].leaf, reads[2].leaf);
    assert_ne!(reads[1].salt, reads[2].salt);

    let request = by(&world, "fay", api::ListReadsRequest::default());
    let refused = archive.records().list_reads(request).await.unwrap_err();
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_prove_that_nothing_is_missing() {
    let world = World::new().await;
    let archive = world.start().await;
    two_talks(&archive).await;
    let bundle = world.verified_bundle();
    let range = async |first, last| {
        let request = api::GetRangeRequest {
            conversation: vec![1; 16],
            first,
            last,
        };
        let request = by(&world, "ann", request);
        let answer = archive
            .records()
            .get_range(request)
            .await
            .map_err(refusal)?;
        let range = answer.into_inner().range.unwrap();
        Ok::<_, (Code, String)>(Signed::<pb::RangeStatement>::decode(range).unwrap())
    };
    let whole = range(0, 0).await.unwrap();
    assert_eq!(verify_range(&whole, &bundle).unwrap().sequence, 5);
    assert!(whole.complete && whole.entries.len() == 5);
    let part = range(2, 4).await.unwrap();
    assert_eq!(verify_range(&part, &bundle).unwrap().sequence, 4);
    assert!(!part.complete && part.entries[..] == whole.entries[1..4]);
    for (first, last) in [(4, 3), (1, 6), (6, 0)] {
        let refused = range(first, last).await.unwrap_err();
        assert_eq!(refused, (Code::OutOfRange, "RANGE_INVALID".into()));
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_with_a_token_of_their_own_is_let_in() {
    let world = World::new().await;
    let archive = world.start().await;
    let search = api::SearchRecordsRequest::default;
    let call = async |request: Request<api::SearchRecordsRequest>| {
        let answer = archive.records().search_records(request).await;
        refusal(answer.unwrap_err()).1
    };
    assert_eq!(call(Request::new(search())).await, "TOKEN_MISSING");
    let wrong = |change: fn(&mut pb::PersonToken)| {
        let mut token = token(&world, "ann");
        change(&mut token);
        with_token(search(), token, "ann")
    };
    for request in [
        wrong(|t| t.tenant = "other".into()),
        wrong(|t| t.audience = "relay".into()),
        wrong(|t| t.expiry = t.not_before + 15 * 60_000 + 1),
        wrong(|t| t.expiry = t.not_before),
        wrong(|t| (t.not_before, t.expiry) = (t.not_before - 60_000, t.not_before)),
        wrong(|t| (t.not_before, t.expiry) = (t.not_before + 400_000, t.expiry + 400_000)),
        wrong(|t| t.nonce.clear()),
        wrong(|t| t.person = "zoe".into()),
        // Somebody else's signature in ann's name.
        with_token(search(), token(&world, "ann"), "bea"),
    ] {
        assert_eq!(call(request).await, "TOKEN_REFUSED");
    }
    for person in ["hal", "bea", "fay"] {
        let refused = call(by(&world, person, search())).await;
        assert_eq!(refused, "CALLER_NOT_ALLOWED");
    }
    // A service is not a person, whatever token it carries.
    let refused = ArchiveServiceClient::new(archive.relay.clone())
        .search_records(by(&world, "ann", search()))
        .await
        .unwrap_err();
    assert_eq!(refusal(refused).1, "CALLER_NOT_A_PERSON");
    let logged = |event: &Event| matches!(event, Event::Refusal(r) if r.reason == "CALLER_NOT_ALLOWED" && r.caller == "person:hal");
    world.log.wait_for(logged).await;

    // The same token again, within its window.
    for _ in 0..2 {
        let request = by(&world, "ann", search());
        archive.records().search_records(request).await.unwrap();
    }
    archive.stop().await;
}

/// Searches and holds ask one condition of SQL; here it is held against its words, for every combination.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_what_its_words_say() {
    let world = World::new().await;
    let archive = world.start().await;
    let receipts = two_talks(&archive).await;
    let everything = archive.search(&world, query(|_| ())).await;
    assert_eq!(everything.len(), receipts.len());
    let now = NOW.get();
    let app = &archive.app;
    let mut conn = app.db.read().acquire().await.unwrap();
    let (users, talks, classes) = (
        ["", "alice", "bob", "carol"],
        [vec![], vec![1; 16], vec![2; 16]],
        ["", "blotter", "handshake"],
    );
    let times = [(0, 0), (now, now + 1), (now + 1, 0), (0, now)];
    let mut combinations = 0;
    for sender in users {
        for participant in users {
            for conversation in &talks {
                for record_class in classes {
                    for (mode, (from, until)) in (0..3).flat_map(|m| times.map(|t| (m, t))) {
                        let query = api::RecordQuery {
                            participant: participant.into(),
                            conversation: conversation.clone(),
                            from,
                            until,
                            mode,
                            record_class: record_class.into(),
                            sender: sender.into(),
                        };
                        let any = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
                        let expected = everything.iter().filter(|r| {
                            let takes_part = participant.is_empty()
                                || r.sender == participant
                                || r.participants.iter().any(|p| p == participant);
                            any(sender, &r.sender)
                                && any(record_class, &r.record_class)
                                && takes_part
                                && (conversation.is_empty() || *conversation == r.conversation)
                                && (mode == 0 || mode == r.mode)
                                && (r.sent_at >= from || r.archived_at >= from)
                                && (until == 0 || r.archived_at < until)
                        });
                        let expected: Vec<u64> = expected.map(|r| r.record).collect();
                        let filter = Filter::parse(&query).unwrap();
                        let span = (1, u64::MAX);
                        let found = filter.matching(&mut conn, &app.scope, span, (0, END)).await;
                        assert_eq!(found.unwrap(), expected, "{query:?}");
                        let count = filter.count(&mut conn, &app.scope).await.unwrap();
                        assert_eq!(count, expected.len() as u64);
                        combinations += 1;
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 4 * 4 * 3 * 3 * 3 * 4);
    drop(conn);
    archive.stop().await;
}
