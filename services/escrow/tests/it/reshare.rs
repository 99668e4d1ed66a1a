//! Resharing over the nodes: the key stays, old shares are of no use and are destroyed, and a crash anywhere leaves one of the two.

use std::time::Duration;

use greffe_api::escrow::{AdvanceReshareRequest, AdvanceReshareResponse, GetStatusRequest};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::ROOT;
use greffe_escrow::config::EscrowConfig;
use greffe_service_kit::errors::CallError;
use greffe_types::Digest;

use crate::log::now;
use crate::records::{
    Record, approved, archived, decrypt, list, open, opening, order, order_refused, reader_of,
    release, text,
};
use crate::world::{Journal, World, merge, signer};

/// What the root asks for: everybody deals, to these nodes.
fn descriptor(
    world: &World,
    journal: &Journal,
    session: u8,
    nodes: &[usize],
) -> pb::ReshareDescriptor {
    pb::ReshareDescriptor {
        tenant: "acme".into(),
        session: vec![session; 16],
        key_id: journal.key.key_id().to_vec(),
        previous: journal.epoch.digest().to_vec(),
        threshold: 2,
        nodes: nodes
            .iter()
            .map(|at| world.nodes[*at].name.clone())
            .collect(),
        dealers: journal.epoch.holders.iter().map(|h| h.index).collect(),
        expiry: now().get() + 600_000,
    }
}

fn by_root(descriptor: pb::ReshareDescriptor) -> Signed<pb::ReshareDescriptor> {
    Signed::sign(descriptor, &[(ROOT, &signer(1))])
}

async fn advance(
    world: &World,
    at: usize,
    descriptor: &Signed<pb::ReshareDescriptor>,
    round: u32,
    messages: Vec<pb::SignedStatement>,
) -> Result<AdvanceReshareResponse, String> {
    let request = AdvanceReshareRequest {
        descriptor: Some(descriptor.raw().clone()),
        round,
        messages,
    };
    match world.client(at).advance_reshare(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(CallError::from(status).reason.unwrap()),
    }
}

/// A resharing on its way among some nodes.
struct Carried {
    descriptor: Signed<pb::ReshareDescriptor>,
    nodes: Vec<usize>,
    messages: Vec<pb::SignedStatement>,
    ends: Vec<pb::SignedStatement>,
}

impl Carried {
    fn new(descriptor: pb::ReshareDescriptor, nodes: &[usize]) -> Self {
        Self {
            descriptor: by_root(descriptor),
            nodes: nodes.to_vec(),
            messages: vec![],
            ends: vec![],
        }
    }

    fn for_node(&self, world: &World, at: usize) -> Vec<pb::SignedStatement> {
        let mine = self.messages.iter().filter(|message| {
            let message = Signed::<pb::CeremonyMessage>::decode((*message).clone()).unwrap();
            message.receiver.is_empty() || message.receiver == world.nodes[at].name
        });
        mine.cloned().collect()
    }

    /// One round, at every node; every call is made twice, and gets the same bytes.
    async fn round(&mut self, world: &World, round: u32) -> Result<(), String> {
        let mut next = Vec::new();
        for at in self.nodes.clone() {
            let mine = self.for_node(world, at);
            let answer = advance(world, at, &self.descriptor, round, mine.clone()).await?;
            let again = advance(world, at, &self.descriptor, round, mine).await?;
            assert_eq!(answer, again);
            next.extend(answer.messages);
            self.ends.extend(answer.share_epoch);
        }
        self.messages = next;
        Ok(())
    }

    async fn all(mut self, world: &World) -> Signed<pb::ShareEpoch> {
        for round in 0..=3 {
            self.round(world, round).await.unwrap();
        }
        Signed::decode(merge(self.ends)).unwrap()
    }
}

/// Has the log show a share epoch; gives the journal as it is in force then.
async fn publish(world: &World, journal: &Journal, epoch: Signed<pb::ShareEpoch>) -> Journal {
    world.publish(epoch.raw().clone());
    world.caught_up().await;
    Journal {
        epoch,
        ..journal.clone()
    }
}

/// Two nodes open a record, by the share epoch of a journal.
async fn opens(world: &World, journal: &Journal, record: &Record, nodes: [usize; 2]) {
    let list = list(std::slice::from_ref(record));
    let order = release(world, approved(order(&list), &["ann", "bob"]));
    let mut answers = Vec::new();
    for at in nodes {
        let answer = open(world, at, &order, vec![opening(&list, record)]).await;
        let answer = answer.unwrap().remove(0);
        assert_eq!(answer.reason, "", "node {at}: {}", answer.message);
        answers.push((at, answer.answer));
    }
    let (order, reader) = reader_of(&order);
    let plain = decrypt(world, journal, &order, record, &answers, &reader);
    assert_eq!(plain, text(1));
}

/// Share epochs of the shares that a node holds, the one in force first.
async fn held(world: &World, at: usize) -> Vec<(Digest, bool)> {
    let status = world.client(at).get_status(GetStatusRequest {}).await;
    let keys = status.unwrap().into_inner().keys.into_iter();
    let mut held: Vec<_> = keys
        .map(|key| {
            let epoch = Digest::try_from(key.share_epoch.as_slice()).unwrap();
            (epoch, key.active)
        })
        .collect();
    held.sort_by_key(|(_, active)| !active);
    held
}

/// Waits until a node has said in the log that it has destroyed its share of an epoch.
pub(crate) async fn destroyed(world: &World, at: usize, epoch: &Digest, cause: &Digest) {
    let node = &world.nodes[at];
    for _ in 0..500 {
        let said = world.log.entries().into_iter().any(|entry| {
            let Some(Event::Statement(statement)) = entry.event else {
                return false;
            };
            if statement.r#type != pb::ShareDestruction::TYPE || entry.recorded_by != node.name {
                return false;
            }
            let word = Signed::<pb::ShareDestruction>::decode(statement).unwrap();
            word.verify(&node.name, &node.keys.signing_key).unwrap();
            assert_eq!(word.node, node.name);
            word.share_epoch == epoch.as_bytes() && word.cause == cause.as_bytes()
        });
        if said {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} has not said that it destroyed {epoch}", node.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_refreshed_taken_from_a_node_and_given_back() {
    let (world, first) = World::with_key().await;
    let records = archived(&world, &first, &[1]);
    world.caught_up().await;
    let everybody = [0, 1, 2];
    let refresh = Carried::new(descriptor(&world, &first, 1, &everybody), &everybody);
    let epoch = refresh.all(&world).await;
    // Agreed on, and of no use before the log has it.
    for at in everybody {
        let old = first.epoch.digest();
        assert_eq!(
            held(&world, at).await,
            [(old, true), (epoch.digest(), false)]
        );
    }
    opens(&world, &first, &records[0], [0, 1]).await;
    // The log has who took part, and in what, before the epoch.
    for node in &world.nodes {
        let began = world.log.entries().into_iter().any(|entry| {
            matches!(entry.event, Some(Event::Statement(statement))
                if statement.r#type == pb::ReshareDescriptor::TYPE && entry.recorded_by == node.name)
        });
        assert!(began, "{}", node.name);
    }
    let second = publish(&world, &first, epoch).await;
    for at in everybody {
        assert_eq!(held(&world, at).await, [(second.epoch.digest(), true)]);
        destroyed(&world, at, &first.epoch.digest(), &second.epoch.digest()).await;
    }
    opens(&world, &second, &records[0], [1, 2]).await;
    // Two nodes are left; what the third one had is destroyed.
    let fewer = Carried::new(descriptor(&world, &second, 2, &[1, 0]), &everybody);
    let third = publish(&world, &second, fewer.all(&world).await).await;
    assert_eq!(held(&world, 2).await, []);
    opens(&world, &third, &records[0], [0, 1]).await;
    // A node that has no share is given one, as a new node is.
    let more = Carried::new(descriptor(&world, &third, 3, &everybody), &everybody);
    let fourth = publish(&world, &third, more.all(&world).await).await;
    assert_eq!(fourth.epoch.epoch, 4);
    opens(&world, &fourth, &records[0], [0, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_29_a_lowered_threshold_or_another_epoch_is_refused_by_every_node() {
    let (world, journal) = World::with_key().await;
    let everybody = [0, 1, 2];
    let good = descriptor(&world, &journal, 1, &everybody);
    let with = |change: fn(&mut pb::ReshareDescriptor)| {
        let mut bad = good.clone();
        change(&mut bad);
        by_root(bad)
    };
    let stranger = Signed::sign(good.clone(), &[(ROOT, &signer(200))]);
    let bad = [
        (stranger, "RESHARE_DESCRIPTOR"),
        (with(|d| d.threshold = 1), "RESHARE_DESCRIPTOR"),
        (with(|d| d.threshold = 4), "RESHARE_DESCRIPTOR"),
        (with(|d| d.previous = vec![0; 32]), "RESHARE_DESCRIPTOR"),
        (with(|d| d.key_id[0] ^= 1), "NO_SHARE_EPOCH"),
        (with(|d| d.tenant = "other".into()), "RESHARE_DESCRIPTOR"),
        (with(|d| d.dealers = vec![1]), "RESHARE_DESCRIPTOR"),
        (with(|d| d.dealers = vec![1, 4]), "RESHARE_DESCRIPTOR"),
        (with(|d| d.expiry = now().get()), "RESHARE_DESCRIPTOR"),
        (
            with(|d| d.nodes.push("escrow-9".into())),
            "RESHARE_DESCRIPTOR",
        ),
        (
            // Nothing for this node to do.
            with(|d| {
                d.nodes.remove(0);
                d.dealers.remove(0);
            }),
            "RESHARE_DESCRIPTOR",
        ),
    ];
    for (at, (descriptor, reason)) in bad.into_iter().enumerate() {
        let refused = advance(&world, 0, &descriptor, 0, vec![]).await;
        assert_eq!(refused, Err(reason.to_owned()), "case {at}");
    }
    let before = world.log.size();
    let good_one = by_root(good.clone());
    let missing = advance(&world, 0, &good_one, 1, vec![]).await;
    assert_eq!(missing, Err("RESHARE_SESSION".to_owned()));
    advance(&world, 0, &good_one, 0, vec![]).await.unwrap();
    // One session has one descriptor.
    let other = with(|d| d.nodes.swap(1, 2));
    let refused = advance(&world, 0, &other, 0, vec![]).await;
    assert_eq!(refused, Err("RESHARE_SESSION".to_owned()));
    // Without the log nobody deals.
    world.log.deaf(true);
    let unlogged = by_root(descriptor(&world, &journal, 9, &everybody));
    let refused = advance(&world, 0, &unlogged, 0, vec![]).await;
    assert_eq!(refused, Err("LOG_UNAVAILABLE".to_owned()));
    world.log.deaf(false);
    assert!(world.log.size() > before);
    // What was dealt out of an epoch that was left meanwhile is of no use, and nothing of it is stored.
    let mut late = Carried::new(descriptor(&world, &journal, 2, &everybody), &everybody);
    for round in 0..=2 {
        late.round(&world, round).await.unwrap();
    }
    let other = Carried::new(descriptor(&world, &journal, 3, &everybody), &everybody);
    let next = publish(&world, &journal, other.all(&world).await).await;
    assert_eq!(
        late.round(&world, 3).await,
        Err("RESHARE_DESCRIPTOR".to_owned())
    );
    for at in everybody {
        assert_eq!(held(&world, at).await, [(next.epoch.digest(), true)]);
    }
}

/// As many resharings as a node takes on at once.
const AT_ONCE: u8 = 32;

/// What nobody has ended is given up with the epoch whose shares it deals out: the node keeps no share that it says is destroyed, and
/// takes on as many new ones as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resharings_that_nobody_ends_go_with_the_shares_they_deal_out() {
    let (world, first) = World::with_key().await;
    let everybody = [0, 1, 2];
    for session in 0..AT_ONCE - 1 {
        let wanted = by_root(descriptor(&world, &first, 100 + session, &everybody));
        advance(&world, 0, &wanted, 0, vec![]).await.unwrap();
    }
    let refresh = Carried::new(descriptor(&world, &first, 1, &everybody), &everybody);
    let epoch = refresh.all(&world).await;
    let another = by_root(descriptor(&world, &first, 2, &everybody));
    advance(&world, 0, &another, 0, vec![]).await.unwrap();
    let too_many = by_root(descriptor(&world, &first, 3, &everybody));
    let refused = advance(&world, 0, &too_many, 0, vec![]).await;
    assert_eq!(refused, Err("RESHARE_SESSION".to_owned()));
    let second = publish(&world, &first, epoch).await;
    destroyed(&world, 0, &first.epoch.digest(), &second.epoch.digest()).await;
    for session in 0..AT_ONCE {
        let wanted = by_root(descriptor(&world, &second, 200 + session, &everybody));
        let begun = advance(&world, 0, &wanted, 0, vec![]).await;
        assert!(begun.is_ok(), "{session}: {begun:?}");
    }
}

/// The log takes its time over a descriptor, and other shares come into force meanwhile: the node deals out nothing of what it has
/// destroyed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_resharing_begins_on_shares_that_went_while_it_was_being_logged() {
    let world = World::with(EscrowConfig {
        log_wait_ms: 30_000,
        ..EscrowConfig::default()
    })
    .await;
    let first = world.make_key().await;
    let everybody = [0, 1, 2];
    let refresh = Carried::new(descriptor(&world, &first, 1, &everybody), &everybody);
    let epoch = refresh.all(&world).await;
    let late = by_root(descriptor(&world, &first, 2, &everybody));
    let name = world.nodes[0].name.clone();
    world.log.silent_to(Some(&name));
    let meanwhile = async {
        let logged = || {
            world.log.entries().into_iter().any(|entry| {
                entry.recorded_by == name
                    && entry.event == Some(Event::Statement(late.raw().clone()))
            })
        };
        while !logged() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let second = publish(&world, &first, epoch).await;
        assert_eq!(held(&world, 0).await, [(second.epoch.digest(), true)]);
        world.log.silent_to(None);
    };
    let (begun, ()) = tokio::join!(advance(&world, 0, &late, 0, vec![]), meanwhile);
    assert_eq!(begun, Err("RESHARE_DESCRIPTOR".to_owned()));
    // Nor did it remember having begun.
    let again = advance(&world, 0, &late, 0, vec![]).await;
    assert_eq!(again, Err("RESHARE_DESCRIPTOR".to_owned()));
}

/// A node crashes after each step. Whatever was reached, records open by the old epoch until the log has the new one, and by that
/// one then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_30_a_crash_at_any_step_leaves_old_or_new_shares() {
    let (mut world, first) = World::with_key().await;
    let records = archived(&world, &first, &[1]);
    world.caught_up().await;
    let everybody = [0, 1, 2];
    for crash in 0..=2 {
        let wanted = descriptor(&world, &first, 10 + crash as u8, &everybody);
        let mut carried = Carried::new(wanted, &everybody);
        for round in 0..=crash {
            carried.round(&world, round).await.unwrap();
        }
        world.stop(0).await;
        world.start(0).await;
        world.caught_up().await;
        // It tells no second story, and the others end without it.
        let over = Err("RESHARE_SESSION".to_owned());
        assert_eq!(carried.round(&world, crash + 1).await, over);
        let again = advance(&world, 0, &carried.descriptor, 0, vec![]).await;
        assert_eq!(again.map(drop), Err("RESHARE_SESSION".to_owned()));
        opens(&world, &first, &records[0], [0, 1 + crash as usize % 2]).await;
    }
    // After the end it answers as before.
    let wanted = descriptor(&world, &first, 20, &everybody);
    let mut ended = Carried::new(wanted, &everybody);
    for round in 0..=2 {
        ended.round(&world, round).await.unwrap();
    }
    let results = ended.for_node(&world, 0);
    ended.round(&world, 3).await.unwrap();
    world.stop(0).await;
    world.start(0).await;
    world.caught_up().await;
    let again = advance(&world, 0, &ended.descriptor, 3, results.clone()).await;
    assert_eq!(again.unwrap().share_epoch.unwrap(), ended.ends[0]);
    opens(&world, &first, &records[0], [0, 2]).await;
    let given_up = Signed::<pb::ShareEpoch>::decode(merge(ended.ends.clone())).unwrap();
    // Another attempt comes into force instead, while a node is down.
    let other = Carried::new(descriptor(&world, &first, 21, &everybody), &everybody);
    let epoch = other.all(&world).await;
    world.stop(0).await;
    let index = world.publish(epoch.raw().clone());
    world.start(0).await;
    world.caught_up().await;
    assert!(world.log.size() > index);
    let second = Journal {
        epoch,
        ..first.clone()
    };
    opens(&world, &second, &records[0], [0, 1]).await;
    for at in everybody {
        assert_eq!(held(&world, at).await, [(second.epoch.digest(), true)]);
        for left in [first.epoch.digest(), given_up.digest()] {
            destroyed(&world, at, &left, &second.epoch.digest()).await;
        }
    }
    // The same bytes for whoever has lost them, also now.
    let again = advance(&world, 0, &ended.descriptor, 3, results).await;
    assert_eq!(again.unwrap().share_epoch.unwrap(), ended.ends[0]);
}

/// A node that comes back from a copy of before the resharing has an old share, and uses it for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_31_a_node_restored_from_before_a_resharing_deals_and_opens_nothing() {
    let (mut world, first) = World::with_key().await;
    if world.nodes[0].store.is_some() {
        return; // A server's copies are the server's.
    }
    let records = archived(&world, &first, &[1]);
    world.caught_up().await;
    let database = world.nodes[0].folder.join("escrow.db");
    world.stop(0).await;
    let copy = std::fs::read(&database).unwrap();
    world.start(0).await;
    let everybody = [0, 1, 2];
    let refresh = Carried::new(descriptor(&world, &first, 1, &everybody), &everybody);
    let second = publish(&world, &first, refresh.all(&world).await).await;
    destroyed(&world, 0, &first.epoch.digest(), &second.epoch.digest()).await;
    world.stop(0).await;
    std::fs::write(&database, copy).unwrap();
    world.log.hide_from(Some(0));
    world.start(0).await;
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann", "bob"]));
    assert_eq!(order_refused(&world, &order).await, "NOT_CAUGHT_UP");
    let replayed = by_root(descriptor(&world, &first, 2, &everybody));
    let refused = advance(&world, 0, &replayed, 0, vec![]).await;
    assert_eq!(refused, Err("NOT_CAUGHT_UP".to_owned()));
    world.log.hide_from(None);
    world.caught_up().await;
    let refused = advance(&world, 0, &replayed, 0, vec![]).await;
    assert_eq!(refused, Err("RESHARE_DESCRIPTOR".to_owned()));
    assert_eq!(held(&world, 0).await, []);
    let answer = open(&world, 0, &order, vec![opening(&list, &records[0])]).await;
    assert_eq!(answer.unwrap()[0].reason, "NO_SHARE");
    opens(&world, &second, &records[0], [1, 2]).await;
    // It is given a share again by those that have one.
    let mut wanted = descriptor(&world, &second, 3, &everybody);
    wanted.dealers = vec![2, 3];
    let third = Carried::new(wanted, &everybody).all(&world).await;
    let third = publish(&world, &second, third).await;
    opens(&world, &third, &records[0], [0, 1]).await;
}
