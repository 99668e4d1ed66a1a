//! Resharing: the node's part in passing a journaling key on to new shares, as the root has asked for and the log has.
//!
//! ```text
//! begin     the log has the descriptor, the database has that the session was begun; then the commitments leave
//! deal      private messages, then results: in memory, gone with a restart, and the shares in force are as they were
//! store     one transaction: the new share, sealed, and the new share epoch with this node's signature; then that leaves
//! move      the log has the epoch with every signature that it takes: it is in force, the old share is destroyed (follow.rs)
//! ```
//!
//! A crash anywhere leaves the old share or, once everybody has signed, both. A session holds the old share for as long as that is
//! in force and no longer: it ends with the epoch, with the key, and with its descriptor, whether anybody asks for it again or not.

mod session;

use core::time::Duration;

use greffe_api::escrow::{AdvanceReshareRequest, AdvanceReshareResponse};
use greffe_envelope::ceremony::ShareHolders;
use greffe_envelope::label::{hash, lp};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::reshare::{ResharePlan, Resharing};
use greffe_envelope::statement::Signed;
use greffe_service_kit::db::Connection;
use greffe_service_kit::harden::wiping_stack;
use greffe_types::{Digest, Millis, SessionId};
use prost::Message as _;
use std::sync::{Arc, PoisonError};

use super::keygen::check_keys;
use super::release::retired;
use super::share::{seal, unseal};
use super::{Keys, Node, log_id};
use crate::error::{NO_SHARE, NO_SHARE_EPOCH, RESHARE_DESCRIPTOR, RESHARE_MESSAGE, Refusal};
use crate::rng::system;
use crate::store::{reshares, shares};
use session::{Finished, Step, Subject, not_under_way, other_descriptor};

pub(super) use session::Sessions;

/// A descriptor of this tenant's root, and the share epoch that it leaves.
struct Wanted {
    descriptor: Signed<pb::ReshareDescriptor>,
    session: SessionId,
    key_id: Digest,
    previous: Digest,
}

impl Wanted {
    fn subject(&self) -> Subject {
        Subject {
            descriptor: self.descriptor.digest(),
            key_id: self.key_id,
            previous: self.previous,
            expiry: Millis::new(self.descriptor.expiry),
        }
    }
}

impl Node {
    /// One step of a resharing.
    ///
    /// # Errors
    /// `RESHARE_DESCRIPTOR`, `RESHARE_SESSION`, `RESHARE_MESSAGE`; `NOT_CAUGHT_UP` and `LOG_UNAVAILABLE` when the node could deal
    /// out a share that the log has left.
    pub async fn advance_reshare(
        &self,
        request: AdvanceReshareRequest,
    ) -> Result<AdvanceReshareResponse, Refusal> {
        self.sweep_reshares();
        self.catch_up_to_now().await?;
        let wanted = self.wanted(request.descriptor)?;
        let begun = reshares::get(self.db.read(), &self.scope, &wanted.session).await?;
        if let Some(begun) = &begun {
            if begun.descriptor != wanted.descriptor.digest() {
                return Err(other_descriptor());
            }
            // Whatever has come since: what was signed is signed, and these are the same bytes.
            if let (3, Some(stored)) = (request.round, &begun.share_epoch) {
                return ended(stored);
            }
        }
        let plan = self.plan(&wanted)?;
        if request.round == 0 {
            let messages = self.begin(&plan, &wanted, begun.is_some()).await?;
            return Ok(given(messages));
        }
        let (session, digest) = (wanted.session, wanted.descriptor.digest());
        let node = self.keys.identity();
        let (round, messages) = (request.round, request.messages);
        let step = wiping_stack(|| {
            self.resharing(|sessions| sessions.step(&session, &digest, round, messages, node))
        })?;
        match step {
            Step::Messages(messages) => Ok(given(messages)),
            Step::Finished(finished) => self.end(&wanted, finished).await,
        }
    }

    /// The descriptor is the root's, whatever it asks for.
    fn wanted(&self, raw: Option<pb::SignedStatement>) -> Result<Wanted, Refusal> {
        let malformed = |message| Refusal::malformed(RESHARE_DESCRIPTOR, message);
        let raw = raw.ok_or_else(|| malformed("there is no descriptor"))?;
        let descriptor = Signed::<pb::ReshareDescriptor>::decode(raw)
            .map_err(|error| malformed("the descriptor does not decode").because(error))?;
        self.trust
            .read()
            .root()
            .verify(&descriptor)
            .map_err(|error| {
                Refusal::denied(RESHARE_DESCRIPTOR, "the descriptor is not the root's")
                    .because(error)
            })?;
        Ok(Wanted {
            session: SessionId::try_from(descriptor.session.as_slice())
                .map_err(|_| malformed("the descriptor's session is malformed"))?,
            key_id: Digest::try_from(descriptor.key_id.as_slice())
                .map_err(|_| malformed("the descriptor's key is malformed"))?,
            previous: Digest::try_from(descriptor.previous.as_slice())
                .map_err(|_| malformed("the descriptor's share epoch is malformed"))?,
            descriptor,
        })
    }

    /// What it asks for holds: it leaves the share epoch in force, asks no lower threshold than the key allows, is not over, and
    /// the bundle in force has everybody, this node with the keys that it really holds.
    fn plan(&self, wanted: &Wanted) -> Result<ResharePlan, Refusal> {
        let trust = self.trust.read();
        if trust.retirement(&wanted.key_id).is_some() {
            return Err(retired(&wanted.key_id));
        }
        let (record, epoch) = trust
            .key_record(&wanted.key_id)
            .zip(trust.share_epoch_statement(&wanted.key_id))
            .ok_or_else(|| {
                Refusal::state(
                    NO_SHARE_EPOCH,
                    format!("no share epoch of the key {} is in force", wanted.key_id),
                )
            })?;
        let holders = ShareHolders::check(epoch, record.message()).map_err(|error| {
            Refusal::denied(
                RESHARE_DESCRIPTOR,
                "the shares in force cannot be dealt out",
            )
            .because(error)
        })?;
        let bundle = trust.bundle();
        let plan = ResharePlan::check(
            &wanted.descriptor,
            trust.root().as_bytes(),
            record.message(),
            &holders,
            bundle.message(),
            self.clock.now(),
        )
        .map_err(|error| {
            Refusal::denied(RESHARE_DESCRIPTOR, "the descriptor is refused").because(error)
        })?;
        let node = self.keys.identity();
        let known = bundle.node(&node.name).map_err(|error| {
            Refusal::denied(RESHARE_DESCRIPTOR, "the bundle does not have this node").because(error)
        })?;
        check_keys(known, node)?;
        if plan.is_dealer(&node.name) || plan.receivers().index_of(&node.name).is_some() {
            Ok(plan)
        } else {
            Err(Refusal::denied(
                RESHARE_DESCRIPTOR,
                "the descriptor gives this node no part",
            ))
        }
    }

    async fn begin(
        &self,
        plan: &ResharePlan,
        wanted: &Wanted,
        begun: bool,
    ) -> Result<Vec<pb::SignedStatement>, Refusal> {
        let (session, digest) = (wanted.session, wanted.descriptor.digest());
        let started = || self.resharing(|sessions| sessions.started(&session, &digest));
        if let Some(sent) = started()? {
            return Ok(sent);
        }
        if begun {
            return Err(not_under_way());
        }
        // Before the log is told of something that comes to nothing.
        self.old_share(plan, wanted).await?;
        let event = Event::Statement(wanted.descriptor.raw().clone());
        let name = lp(self.keys.name().as_bytes());
        let id = log_id(&hash("reshare-id", &[digest.as_bytes(), &name]));
        self.log_event(id, event).await?;
        // The log may have taken its time, and have brought other shares into force or the end of the key meanwhile. From here to the
        // end nothing does: it is planned again, on the share that is there now.
        let _one = self.changing.lock().await;
        if let Some(sent) = started()? {
            return Ok(sent);
        }
        let plan = self.plan(wanted)?;
        let sealed = self.old_share(&plan, wanted).await?;
        let (resharing, first) =
            wiping_stack(|| start(plan, &self.keys, wanted, sealed.as_deref()))?;
        // A session has one story: whoever asks after a restart gets no second polynomial.
        let (scope, now) = (&self.scope, self.clock.now());
        let fresh = self
            .db
            .run_tx("reshare_begin", async |tx: &mut Connection| {
                Ok::<_, Refusal>(reshares::begin(tx, scope, &session, &digest, now).await?)
            })
            .await?;
        if !fresh {
            return Err(not_under_way());
        }
        self.resharing(|sessions| {
            sessions.keep(session, wanted.subject(), resharing, first.clone());
        });
        Ok(first)
    }

    /// What a dealer deals out, sealed: its share of the epoch that is left.
    async fn old_share(
        &self,
        plan: &ResharePlan,
        wanted: &Wanted,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        if !plan.is_dealer(self.keys.name()) {
            return Ok(None);
        }
        let (key_id, previous) = (&wanted.key_id, &wanted.previous);
        let sealed = shares::get(self.db.read(), &self.scope, key_id, previous).await?;
        let missing = || {
            Refusal::state(
                NO_SHARE,
                format!(
                    "the node holds no share of the key {key_id} in the epoch in force: name other dealers"
                ),
            )
        };
        sealed.ok_or_else(missing).map(Some)
    }

    /// Gives up the resharings that are over, whatever ended them: called for every step and every change of what is in force, and
    /// by [`run`] when nobody calls.
    pub(crate) fn sweep_reshares(&self) {
        let (now, trust) = (self.clock.now(), self.trust.read());
        self.resharing(|sessions| {
            sessions.sweep(now, |key_id| {
                let alive = trust.retirement(key_id).is_none();
                let epoch = alive.then(|| trust.share_epoch(key_id)).flatten()?;
                Some(epoch.digest())
            });
        });
    }

    /// Everybody has agreed: the share is stored, then the epoch is signed. The old share stays.
    async fn end(
        &self,
        wanted: &Wanted,
        finished: Box<Finished>,
    ) -> Result<AdvanceReshareResponse, Refusal> {
        let signer = [(self.keys.name(), self.keys.signing())];
        let epoch = Signed::sign(finished.epoch.clone(), &signer);
        let sealed = match &finished.share {
            Some(share) => Some((
                share.index(),
                wiping_stack(|| seal(self.keys.seal(), share))?,
            )),
            None => None,
        };
        drop(finished);
        let (scope, session, key_id) = (&self.scope, &wanted.session, &wanted.key_id);
        let (digest, bytes) = (epoch.digest(), epoch.raw().encode_to_vec());
        let (previous, now) = (wanted.previous, self.clock.now());
        // Not while another epoch comes into force, or the key is retired: a share that nothing would destroy any more must not be stored.
        let one = self.changing.lock().await;
        if self.trust.read().retirement(key_id).is_some() {
            return Err(retired(key_id));
        }
        let in_force = self.trust.read().share_epoch(key_id).map(|e| e.digest());
        if in_force != Some(previous) {
            return Err(Refusal::denied(
                RESHARE_DESCRIPTOR,
                "another share epoch has come into force meanwhile",
            ));
        }
        self.db
            .run_tx("reshare_share", async |tx: &mut Connection| {
                if let Some((index, sealed)) = &sealed {
                    shares::insert(tx, scope, key_id, &digest, *index, sealed, now).await?;
                }
                Ok::<_, Refusal>(reshares::end(tx, scope, session, &bytes).await?)
            })
            .await?;
        drop(one);
        self.resharing(|sessions| sessions.forget(session));
        tracing::info!(%key_id, share_epoch = %digest, "the new shares are agreed on; the log will bring them into force");
        Ok(AdvanceReshareResponse {
            messages: Vec::new(),
            share_epoch: Some(epoch.into_raw()),
        })
    }

    /// As for key generations.
    fn resharing<T>(&self, work: impl FnOnce(&mut Sessions) -> T) -> T {
        work(&mut self.reshares.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How often it is looked for resharings that are over while nothing else is done.
const SWEEP: Duration = Duration::from_secs(60);

/// Gives up resharings and key generations that nobody ended in time, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        node.sweep_reshares();
        node.sweep_keygens();
    }
}

/// Begins with the share, which is in memory from here on: in the session alone.
fn start(
    plan: ResharePlan,
    keys: &Keys,
    wanted: &Wanted,
    sealed: Option<&[u8]>,
) -> Result<(Box<Resharing>, Vec<pb::SignedStatement>), Refusal> {
    let old = sealed
        .map(|sealed| unseal(keys.seal(), &wanted.key_id, &wanted.previous, sealed))
        .transpose()?;
    let (resharing, first) = Resharing::start(plan, keys.identity(), old.as_ref(), &mut system())
        .map_err(|error| {
        Refusal::denied(RESHARE_MESSAGE, "the resharing cannot be begun").because(error)
    })?;
    Ok((Box::new(resharing), first.into_iter().collect()))
}

fn given(messages: Vec<pb::SignedStatement>) -> AdvanceReshareResponse {
    AdvanceReshareResponse {
        messages,
        share_epoch: None,
    }
}

fn ended(stored: &[u8]) -> Result<AdvanceReshareResponse, Refusal> {
    let epoch = pb::SignedStatement::decode(stored).map_err(Refusal::internal)?;
    Ok(AdvanceReshareResponse {
        messages: Vec::new(),
        share_epoch: Some(epoch),
    })
}
