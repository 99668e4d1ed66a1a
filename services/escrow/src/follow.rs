//! Following the log: leaves that are verified become trust, tombstones and the node's own tree, in one transaction with
//! how far it has come.

use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::collections::BTreeSet;
use std::sync::Arc;

use greffe_api::archive::DisposeAct;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Applied, Bundle};
use greffe_policy::{ACT_MAX_AGE, CLOCK_TOLERANCE, MAX_SKEW};
use greffe_service_kit::boot::StartError;
use greffe_service_kit::errors::Causes;
use greffe_service_kit::follow::{FollowState, Followed, Follower};
use greffe_service_kit::tls::Channel;
use greffe_types::{Digest, Millis, TenantId};
use prost::Message as _;

use crate::app::Node;
use crate::app::destroy::Ended;
use crate::error::Refusal;
use crate::store::{followed, statements, tombstones};

/// What a batch of leaves changes.
#[derive(Default)]
struct Changes {
    statements: Vec<(u64, pb::SignedStatement)>,
    tombstones: Vec<(u64, Digest)>,
    ended: Vec<Ended>,
}

/// A follower that goes on where the node stands.
///
/// # Errors
/// When the node's own tree cannot be read.
pub async fn follower(node: &Node, audit: Channel) -> Result<Follower, StartError> {
    let seen = node.log.seen();
    let failed = |error: Refusal| StartError::service("the followed log cannot be read", error);
    let tree = node.log.tree(seen.size).await.map_err(failed)?;
    let state = FollowState {
        size: tree.size(),
        frontier: tree.peaks().to_vec(),
    };
    Follower::new(audit, node.trust.clone(), node.clock.clone(), state)
        .map_err(|error| StartError::service("the log cannot be followed", error))
}

/// Takes verified leaves in. Called again with the same ones after a failure.
///
/// # Errors
/// The database's.
pub async fn apply(node: &Node, batch: Arc<Followed>) -> Result<(), Refusal> {
    let before = node.log.seen();
    let after = followed::Followed {
        size: batch.state.size,
        head: batch.size,
        checkpoint: batch.checkpoint.clone(),
        witnessed_at: batch.witnessed_at,
    };
    // Stored by an attempt whose end was not seen.
    let fresh = before.size <= batch.start;
    let changes = if fresh {
        take_in(node, &batch)
    } else {
        Changes::default()
    };
    let mut tree = node.log.tree(before.size).await?;
    let nodes = if fresh {
        let leaves: Vec<&[u8]> = batch
            .leaves
            .iter()
            .map(|(bytes, _)| bytes.as_slice())
            .collect();
        tree.append_entries(&leaves)
    } else {
        Vec::new()
    };
    let scope = &node.scope;
    let one = node.changing.lock().await;
    // Before the node signs that a share is destroyed: none may be left with a resharing that somebody gave up.
    node.sweep_reshares();
    let destroyed = node
        .db
        .run_tx("follow", async |tx: &mut Connection| {
            followed::add_nodes(tx, scope, &nodes).await?;
            for (index, statement) in &changes.statements {
                let digest = sha256(&statement.statement);
                let bytes = statement.encode_to_vec();
                statements::insert(tx, scope, *index, &statement.r#type, &digest, &bytes).await?;
            }
            for (index, envelope) in &changes.tombstones {
                tombstones::insert(tx, scope, envelope, *index).await?;
            }
            let mut destroyed = 0;
            for ended in &changes.ended {
                destroyed += node.destroy(tx, ended).await?;
            }
            followed::set(tx, scope, &after).await?;
            Ok::<_, Refusal>(destroyed)
        })
        .await?;
    drop(one);
    if destroyed > 0 {
        node.has_destroyed();
    }
    node.moved_on(after);
    Ok(())
}

/// Brings the node's trust up to date; says what has to be stored. What is not validly signed changes nothing.
fn take_in(node: &Node, batch: &Followed) -> Changes {
    let mut changes = Changes::default();
    for (index, (_, entry)) in (batch.start..).zip(&batch.leaves) {
        match &entry.event {
            // A node that came after a bundle starts from a newer one than the log does: what was in force before it is
            // remembered, since older keys and records are judged by it.
            Some(Event::Statement(statement)) => {
                let taken = node.trust.write().recall(statement, index);
                match taken {
                    Ok(Applied::New | Applied::Known) => {
                        tracing::info!(index, kind = statement.r#type, "a statement is in force");
                        changes
                            .ended
                            .extend(Ended::by(statement, &node.trust.read()));
                        changes.statements.push((index, statement.clone()));
                    }
                    Ok(Applied::Other) => {}
                    Err(error) => {
                        let causes = Causes(&error);
                        tracing::warn!(index, kind = statement.r#type, %causes, "a statement of the log is not trusted");
                    }
                }
            }
            Some(Event::Tombstone(tombstone)) if !is_decided(node, entry, tombstone) => {
                tracing::warn!(
                    index,
                    "a tombstone without the people who decide is ignored"
                );
            }
            Some(Event::Tombstone(tombstone)) => {
                match Digest::try_from(tombstone.envelope.as_slice()) {
                    Ok(envelope) => changes.tombstones.push((index, envelope)),
                    Err(error) => tracing::warn!(index, %error, "a tombstone names no record"),
                }
            }
            _ => {}
        }
    }
    changes
}

/// How many different people a disposition takes: one who asks, and two who approve.
const DECIDERS: usize = 3;

/// How much later than decided a tombstone may be written, and than dated a bundle put in force: the archive may be interrupted for
/// long between its wraps and its tombstone, and a change of the nodes is announced before it counts.
const DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether people of the roster decided on this very record's disposition. A tombstone closes a record for ever, so whoever
/// else can write to the log must not be able to close one.
///
/// They signed under the roster of their day, and the log may have moved on before the archive could write the tombstone: it
/// counts what one bundle that this node knows let them sign together. What the archive was entitled to destroy is destroyed; a
/// node that did not know it as such would open it again from a copy of its wrap.
fn is_decided(node: &Node, entry: &pb::LogEntry, tombstone: &pb::Tombstone) -> bool {
    let trust = node.trust.read();
    let logged = Millis::new(entry.at);
    let act = |raw| decided_act(raw, trust.root().tenant(), logged, &tombstone.envelope);
    let Some(acts) = tombstone.acts.iter().map(act).collect::<Option<Vec<_>>>() else {
        return false;
    };
    // By version, the one in force last.
    let bundles: Vec<&Bundle> = trust
        .older_bundles()
        .chain([trust.bundle()])
        .map(Arc::as_ref)
        .collect();
    entry.recorded_by == "archive"
        && bundles.iter().enumerate().any(|(n, bundle)| {
            let next = bundles.get(n + 1);
            let end = next.map(|next| Millis::new(next.message().issued_at).plus(DELAY));
            acts.iter()
                .all(|act| end.is_none_or(|end| act.at < end.get()))
                && are_deciders(bundle, &acts, logged)
        })
}

/// A disposition of this record, signed when it could have led to this entry: when it was is its signer's own word, and nobody
/// who has left may date an act back to their day for ever.
fn decided_act(
    raw: &pb::SignedStatement,
    tenant: &TenantId,
    logged: Millis,
    record: &[u8],
) -> Option<Signed<pb::PersonAct>> {
    let act = Signed::<pb::PersonAct>::decode(raw.clone()).ok()?;
    let dispose = DisposeAct::decode(act.act.as_slice()).ok()?;
    let at = Millis::new(act.at);
    // The archive allows for a signer's clock by its own, which may be ahead of the log's.
    let latest = logged.plus(MAX_SKEW).plus(CLOCK_TOLERANCE);
    let earliest = logged.minus(ACT_MAX_AGE).minus(DELAY);
    let in_time = (earliest..=latest).contains(&at);
    let names_it =
        act.action == "record.dispose" && act.tenant == tenant.as_str() && dispose.record == record;
    (in_time && names_it).then_some(act)
}

/// Whether one roster has enough people among those who signed. They may act by their own time, as the archive judges approvals,
/// or by the log's, as it judges who asks: a signer's slow clock must not keep a node from what the archive has accepted. Three
/// people have to be three keys as well.
fn are_deciders(bundle: &Bundle, acts: &[Signed<pb::PersonAct>], logged: Millis) -> bool {
    let signer = |act: &Signed<pb::PersonAct>| {
        [Millis::new(act.at), logged].into_iter().find_map(|at| {
            let person = bundle.verify_person(act, &act.person, &[], at).ok()?;
            Some((person.name.clone(), person.signing_key.clone()))
        })
    };
    let signers: Option<Vec<_>> = acts.iter().map(signer).collect();
    signers.is_some_and(|signers| {
        let (people, keys): (BTreeSet<_>, BTreeSet<_>) = signers.into_iter().unzip();
        people.len() >= DECIDERS && keys.len() >= DECIDERS
    })
}
