//! Creation, views, acknowledgements, reports.

use greffe_api::relay as api;
use greffe_envelope::derive::Seed;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::Draft;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::wrap::JournalKey;
use greffe_types::{ConversationId, Digest, MessageId};
use prost::Message as _;
use tonic::Status;

use crate::support::{Device, Member, Talk, World, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_12_a_conversation_is_created_once_and_its_id_serves_no_other_group() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    let mut bob = world.device("bob", 2).await;
    let group = alice.group(5);
    let (id, info) = (group.id(), group.group_info().unwrap());
    let created = alice.create_with(&id, info.clone()).await.unwrap();
    assert_eq!(created.mode(), pb::Mode::Journaled);
    assert_eq!((created.epoch, created.sequence), (0, 0));
    assert_eq!(
        created.disclosure,
        world.tenant.disclosure.digest().to_vec()
    );
    assert_eq!(created.members.len(), 1);
    assert!(!created.members[0].acknowledged);
    let logged = world.audit.events().len();
    assert_eq!(alice.create_with(&id, info.clone()).await.unwrap(), created);
    assert_eq!(world.audit.events().len(), logged, "one leaf");
    let is_creation = |event: &&Event| matches!(event, Event::Conversation(_));
    assert_eq!(world.audit.events().iter().filter(is_creation).count(), 1);

    // the same id for another group, by its own creator and by somebody else
    let other = bob.group(5);
    let refused = bob.create_with(&id, other.group_info().unwrap()).await;
    assert_eq!(reason(refused), "CONVERSATION_TAKEN");
    world.audit.refusal("CONVERSATION_TAKEN").await;
    // somebody else's group info, under whatever id
    let elsewhere = ConversationId::new([6; 16]);
    let refused = bob.create_with(&elsewhere, info.clone()).await;
    assert_eq!(reason(refused), "FIELD_MALFORMED");
    let stolen = alice.group(7);
    let refused = bob
        .create_with(&stolen.id(), stolen.group_info().unwrap())
        .await;
    assert_eq!(reason(refused), "CREATOR_NOT_ALONE");
    // a retry by somebody who is not in it says nothing of it
    let refused = bob.create_with(&id, info).await;
    assert_eq!(reason(refused), "CONVERSATION_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_starts_with_the_current_disclosure_only() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    let outdated = alice.group(5);
    // logged, but not published through this relay: it is taken in from the log
    let next = world.tenant.next_disclosure(2);
    world.publish(next.raw().clone()).await.unwrap();
    let refused = alice
        .create_with(&outdated.id(), outdated.group_info().unwrap())
        .await;
    assert_eq!(reason(refused), "GROUP_INFO_REFUSED");
    world.audit.refusal("GROUP_INFO_REFUSED").await;

    // the root may sign what it likes: the pack has no private mode, and supervision waits for its desk
    for (mode, expected) in [
        (pb::Mode::Private, "MODE_NOT_ALLOWED"),
        (pb::Mode::Supervised, "SUPERVISION_UNAVAILABLE"),
    ] {
        let disclosure = world.tenant.disclosure_of(mode);
        world.publish(disclosure.raw().clone()).await.unwrap();
        alice.extension = disclosure.raw().encode_to_vec();
        let group = alice.group(40 + mode as u8);
        let info = group.group_info().unwrap();
        let refused = alice.create_with(&group.id(), info).await;
        assert_eq!(reason(refused), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_see_a_conversation_and_others_do_not() {
    let mut world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut carol = world.device("carol", 9).await;
    let view = members[1].view().await.unwrap();
    assert_eq!((view.epoch, view.sequence), (1, 1));
    let seen: Vec<_> = view
        .members
        .iter()
        .map(|m| (m.user.as_str(), m.acknowledged))
        .collect();
    assert_eq!(seen, [("alice", true), ("bob", true)]);
    let request = carol.request(api::GetConversationRequest {
        conversation: view.conversation.clone(),
    });
    let refused = carol.relay.get_conversation(request).await;
    assert_eq!(reason(refused), "CONVERSATION_UNKNOWN");

    // pages: alice is in three, bob in one
    let device = &mut members[0].device;
    for number in [6, 7] {
        let group = device.group(number);
        let info = group.group_info().unwrap();
        device.create_with(&group.id(), info).await.unwrap();
    }
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = device.request(api::ListConversationsRequest {
            page_size: 2,
            page_token,
        });
        let page = device.relay.list_conversations(request).await.unwrap();
        let page = page.into_inner();
        found.extend(page.conversations.into_iter().map(|c| c.conversation[0]));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [5, 6, 7]);
    let request = device.request(api::ListConversationsRequest {
        page_size: 0,
        page_token: "garbage".into(),
    });
    let refused = device.relay.list_conversations(request).await;
    assert_eq!(reason(refused), "FIELD_MALFORMED");

    // and after a restart everything is as it was
    world.restart().await;
    let channel = world.channel("desk");
    let bob = &mut members[1];
    bob.device.relay = api::relay_service_client::RelayServiceClient::new(channel);
    assert_eq!(bob.view().await.unwrap(), view);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_is_the_devices_own_and_of_the_notice_shown() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await.create(5).await.unwrap();
    let mut bob = world.device("bob", 2).await.create(6).await.unwrap();
    let disclosure = world.tenant.disclosure.digest();
    let good = alice.acknowledgement(&disclosure);
    // another notice, another signer, another conversation, a disclosure that is none
    let mut other = good.clone();
    other.notice = vec![1; 32];
    let signed = alice.device.sign(other).into_raw();
    assert_eq!(
        reason(alice.acknowledge_with(signed).await),
        "STATEMENT_REFUSED"
    );
    let signed = bob.device.sign(good.clone()).into_raw();
    assert_eq!(
        reason(alice.acknowledge_with(signed).await),
        "STATEMENT_REFUSED"
    );
    let signed = alice.device.sign(good.clone()).into_raw();
    assert_eq!(
        reason(bob.acknowledge_with(signed.clone()).await),
        "CONVERSATION_UNKNOWN"
    );
    let unknown = alice.acknowledgement(&Digest::new([3; 32]));
    let unknown = alice.device.sign(unknown).into_raw();
    assert_eq!(
        reason(alice.acknowledge_with(unknown).await),
        "DISCLOSURE_NOT_IN_FORCE"
    );
    assert!(!alice.view().await.unwrap().members[0].acknowledged);

    let index = alice.acknowledge_with(signed.clone()).await.unwrap();
    assert_eq!(
        world.audit.events()[index as usize],
        Event::Statement(signed.clone())
    );
    assert_eq!(alice.acknowledge_with(signed).await.unwrap(), index);
    assert!(alice.view().await.unwrap().members[0].acknowledged);
}

/// A message of alice's sealed with a known seed, its one wrap's digest changed and signed again when she cheats.
fn sealed(world: &World, alice: &mut Member, seed: [u8; 32], cheats: bool) -> pb::SealedEnvelope {
    let request = Talk::new().seal(world, alice, "hello", |_| {});
    let body = pb::EnvelopeBody::decode(request.envelope.unwrap().body.as_slice()).unwrap();
    let header = pb::Header::decode(body.header.as_slice()).unwrap();
    let content = pb::Content {
        kind: pb::ContentKind::Text.into(),
        ..pb::Content::default()
    };
    let message = MessageId::try_from(header.message_id.as_slice()).unwrap();
    let key = JournalKey::from_record(world.tenant.record.message()).unwrap();
    let draft = Draft::new(
        &Seed::from_bytes(seed),
        "acme",
        &alice.id(),
        &message,
        &alice.device.id,
    );
    let signer = &alice.device.envelope_key;
    let sealed = draft.seal(&header, &content, &[&key], signer).unwrap();
    let mut body = sealed.envelope.body().clone();
    if cheats {
        body.wraps[0].digest = vec![9; 32];
    }
    Envelope::sign(&body, signer).unwrap().into_raw()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_66_a_report_is_logged_and_proves_only_what_anybody_can_recompute() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let seed = [7; 32];
    let message = |envelope, seed: &[u8], device: &Device| pb::Report {
        tenant: "acme".into(),
        user: device.user.clone(),
        device: device.id.to_vec(),
        envelope: Some(envelope),
        wraps: vec![],
        seed: seed.to_vec(),
        reason: "wrap-mismatch".into(),
        at: 1,
    };
    let report = async |bob: &mut Member, signed: Signed<pb::Report>| {
        let request = bob.device.request(api::ReportRequest {
            report: Some(signed.into_raw()),
        });
        let answer = bob.device.relay.report(request).await?;
        Ok::<_, Status>(answer.into_inner())
    };
    for (cheats, claimed, proves) in [
        (true, seed, true),
        // a faultless envelope, and a seed that the reporter has made up
        (false, seed, false),
        (true, [8; 32], false),
    ] {
        let envelope = sealed(&world, &mut alice, seed, cheats);
        let digest = Envelope::decode(envelope.clone()).unwrap().digest();
        let signed = bob.device.sign(message(envelope, &claimed, &bob.device));
        let subject = digest.to_vec();
        let answer = report(&mut bob, signed).await.unwrap();
        assert_eq!(answer.proves, proves, "{cheats} {claimed:?}");
        // the log names what was reported and by whom, and never the seed that would open it
        let Event::Refusal(logged) = world.audit.events()[answer.log_index as usize].clone() else {
            panic!("a report is logged as a refusal");
        };
        let reason = if proves {
            "CHEAT_PROVED"
        } else {
            "CHEAT_REPORTED"
        };
        assert_eq!(logged.reason, reason);
        assert_eq!(logged.subject, subject);
        let leaf = logged.encode_to_vec();
        assert!(!leaf.windows(32).any(|window| window == claimed));
    }
    // in another's name, and by somebody who is not in the conversation
    let envelope = sealed(&world, &mut alice, seed, true);
    let forged = bob
        .device
        .sign(message(envelope.clone(), &seed, &alice.device));
    let refused = report(&mut bob, forged).await;
    assert_eq!(reason(refused), "STATEMENT_REFUSED");
    let mut carol = world.device("carol", 9).await.create(6).await.unwrap();
    let signed = carol.device.sign(message(envelope, &seed, &carol.device));
    let refused = report(&mut carol, signed).await;
    assert_eq!(reason(refused), "CONVERSATION_UNKNOWN");
}
