//! The tenant's trust as this client has verified it: from the pinned root, through the nodes' signatures, to the log.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use greffe_api::escrow as escrow_api;
use greffe_api::relay as relay_api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{
    Applied, TrustError, TrustState, VerifiedDisclosure, verify_currency,
};
use greffe_mls::{DisclosureError, DisclosureInfo, DisclosureVerifier};
use greffe_service_kit::clock::SharedClock;
use greffe_types::{Digest, Millis, TenantId};
use tokio::sync::Mutex;

use crate::connection::Connection;
use crate::error::{ClientError, Result, call, untrusted};
use crate::log::LogView;
use crate::store::{ClientStore, Op};

/// How long what relay and log said goes unasked.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// What a disclosure is called that is handed over to be looked up only.
const SUPERSEDED: &str = "superseded disclosure";
/// Currency statements older than half their life are asked for again.
const CURRENCY_RENEWAL: Duration = Duration::from_secs(12 * 60 * 60);

/// What is trusted, and what makes it so. Verifies disclosures for MLS.
pub struct Trust {
    connection: Connection,
    clock: SharedClock,
    state: RwLock<Option<Arc<TrustState>>>,
    currency: RwLock<HashMap<Digest, Vec<Signed<pb::Currency>>>>,
    /// One refresh at a time; when the last one succeeded.
    refreshing: Mutex<()>,
    refreshed: RwLock<Option<Instant>>,
}

impl Trust {
    /// From what was verified and stored before; nothing is in force when there is none.
    pub(crate) async fn open(
        connection: Connection,
        store: &ClientStore,
        clock: SharedClock,
    ) -> Result<Self> {
        let mut state: Option<TrustState> = None;
        for (statement, index) in store.trust().await? {
            match &mut state {
                None => {
                    let root = connection.root().clone();
                    let first = TrustState::new(root, statement);
                    state = Some(first.map_err(untrusted("stored trust bundle"))?);
                }
                Some(state) => {
                    // As they were taken in: one that a later one had superseded by then comes after it.
                    let applied = state.recall(&statement, index);
                    applied.map_err(untrusted("stored statement"))?;
                }
            }
        }
        Ok(Self {
            connection,
            clock,
            state: RwLock::new(state.map(Arc::new)),
            currency: RwLock::default(),
            refreshing: Mutex::new(()),
            refreshed: RwLock::new(None),
        })
    }

    /// What is in force.
    ///
    /// # Errors
    /// Before the first refresh has succeeded.
    pub fn state(&self) -> Result<Arc<TrustState>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone().ok_or_else(|| {
            ClientError::refused(
                "TRUST_UNKNOWN",
                "the tenant's trust bundle is not known yet: reach the relay and the log first",
            )
        })
    }

    /// Whether anything is in force.
    pub(crate) fn is_known(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.is_some()
    }

    /// Whether the last refresh is not long ago.
    pub(crate) fn is_fresh(&self) -> bool {
        let refreshed = self
            .refreshed
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        refreshed.is_some_and(|at| at.elapsed() < REFRESH)
    }

    /// Fetches the relay's word on the tenant's trust and takes in what is new: signed by the root, key records and share
    /// epochs by all their nodes, every statement in the log under a witnessed checkpoint. Nothing changes on an error.
    ///
    /// # Errors
    /// [`ClientError::Trust`], [`ClientError::Log`]: the relay hands over something else than root, nodes and log vouch
    /// for; nothing may be sent on its word.
    pub(crate) async fn refresh(&self, store: &ClientStore, log: &LogView) -> Result<()> {
        let _one = self.refreshing.lock().await;
        let answer = self
            .connection
            .directory()?
            .get_trust(relay_api::GetTrustRequest {})
            .await
            .map_err(call("GetTrust"))?
            .into_inner();
        let bundle = answer
            .bundle
            .ok_or(ClientError::Answer("no trust bundle"))?;
        let mut ops = Vec::new();
        let mut next = match self.state() {
            Ok(known) => {
                let applied = known.check(&bundle).map_err(untrusted("trust bundle"))?;
                let mut next = (*known).clone();
                if applied == Applied::New {
                    next.apply(&bundle, 0).map_err(untrusted("trust bundle"))?;
                    ops.push(trust_op(&bundle, 0));
                }
                next
            }
            Err(_) => {
                let root = self.connection.root().clone();
                ops.push(trust_op(&bundle, 0));
                TrustState::new(root, bundle).map_err(untrusted("trust bundle"))?
            }
        };
        for bundle in answer.older_bundles {
            let recalled = next.recall(&bundle, 0);
            if recalled.map_err(untrusted("older trust bundle"))? == Applied::New {
                ops.push(trust_op(&bundle, 0));
            }
        }
        // What supersedes comes before what is superseded, which nothing makes current again.
        let statements = [
            ("journaling key record", answer.key_records),
            ("share epoch", answer.share_epochs),
            ("disclosure", answer.disclosures),
            (SUPERSEDED, answer.superseded_disclosures),
        ];
        let mut fresh = Vec::new();
        for (what, list) in statements {
            for logged in list {
                let statement = logged
                    .statement
                    .ok_or(ClientError::Answer("a statement is missing"))?;
                // What is said to be in force must not be older than what is known; what is not said to be may.
                let applied = if what == SUPERSEDED {
                    next.recall(&statement, logged.log_index)
                } else {
                    next.apply(&statement, logged.log_index)
                };
                if applied.map_err(untrusted(what))? == Applied::New {
                    fresh.push((what, statement, logged.log_index));
                }
            }
        }
        if let Some(highest) = fresh.iter().map(|(_, _, index)| *index).max() {
            let needed = highest
                .checked_add(1)
                .ok_or(ClientError::Answer("log index"))?;
            let checkpoint = log.checkpoint(next.bundle(), needed).await?;
            for (what, statement, index) in &fresh {
                log.statement(what, &checkpoint, *index, statement).await?;
                ops.push(trust_op(statement, *index));
            }
        }
        for disclosure in next.current_disclosures() {
            check_epochs(&next, disclosure).map_err(untrusted("disclosure"))?;
        }
        if !ops.is_empty() {
            store.write(ops).await?;
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            *state = Some(Arc::new(next));
        }
        let mut refreshed = self
            .refreshed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *refreshed = Some(Instant::now());
        Ok(())
    }

    /// The disclosure in force for a mode, with its keys in their period.
    ///
    /// # Errors
    /// When the tenant offers no such mode, or a key's period is over or not begun.
    pub fn disclosure(&self, mode: pb::Mode) -> Result<Arc<VerifiedDisclosure>> {
        let state = self.state()?;
        let disclosure = state.current_disclosure(mode).ok_or_else(|| {
            ClientError::refused(
                "MODE_NOT_ALLOWED",
                format!(
                    "the tenant offers no {} conversations: choose a mode that its policy allows",
                    mode_name(mode)
                ),
            )
        })?;
        disclosure
            .check_period(self.clock.now())
            .map_err(untrusted("journaling key"))?;
        Ok(disclosure.clone())
    }

    /// Makes sure that t nodes have said, less than 24 hours ago, that a disclosure is the current one of its mode.
    ///
    /// # Errors
    /// When fewer say so.
    pub async fn ensure_current(&self, disclosure: &VerifiedDisclosure) -> Result<()> {
        let state = self.state()?;
        let now = self.clock.now();
        if self
            .check_current(&state, disclosure, now, now.minus(CURRENCY_RENEWAL))
            .is_ok()
        {
            return Ok(());
        }
        let mode = disclosure.message().mode;
        let nodes = state.bundle().message().nodes.iter();
        let asked = nodes.filter_map(|node| {
            let mut escrow = self.connection.escrow(&node.name).ok()?;
            Some(async move {
                let request = escrow_api::GetCurrencyRequest { mode };
                let answer = escrow.get_currency(request).await;
                let answer = answer.map_err(call("GetCurrency"))?.into_inner();
                let statement = answer
                    .currency
                    .ok_or(ClientError::Answer("no currency statement"))?;
                Signed::<pb::Currency>::decode(statement).map_err(untrusted("currency statement"))
            })
        });
        let answers = futures::future::join_all(asked).await;
        let mut failure = None;
        let mut statements = Vec::new();
        for answer in answers {
            match answer {
                Ok(statement) => statements.push(statement),
                Err(error) => failure = Some(error),
            }
        }
        {
            let mut currency = self
                .currency
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let kept = currency.entry(disclosure.digest()).or_default();
            kept.extend(statements);
            // A node's newest word is what counts; a handful of each is more than ever needed.
            kept.sort_by_key(|statement| core::cmp::Reverse(statement.at));
            kept.truncate(64);
        }
        let now = self.clock.now();
        match self.check_current(&state, disclosure, now, Millis::new(0)) {
            Ok(()) => Ok(()),
            // Too few nodes answered at all: the reason of one of them says more than the count.
            Err(_) if failure.is_some() => Err(failure.expect("checked")),
            Err(error) => Err(untrusted("currency of the disclosure")(error)),
        }
    }

    fn check_current(
        &self,
        state: &TrustState,
        disclosure: &VerifiedDisclosure,
        now: Millis,
        not_before: Millis,
    ) -> Result<(), TrustError> {
        let currency = self.currency.read().unwrap_or_else(PoisonError::into_inner);
        let epochs = check_epochs(state, disclosure)?;
        let same = |statement: &&Signed<pb::Currency>| {
            statement.share_epochs == epochs && statement.at >= not_before.get()
        };
        let known = currency.get(&disclosure.digest());
        let statements: Vec<_> = known.into_iter().flatten().filter(same).cloned().collect();
        verify_currency(
            &statements,
            disclosure,
            state.bundle(),
            threshold(state, disclosure),
            now,
        )
    }
}

/// Every key of a disclosure has a verified record and a verified share epoch; gives the epochs' digests in the order of
/// the key records, as currency statements have them. The root alone cannot bring a key into force: this is where it fails.
fn check_epochs(
    state: &TrustState,
    disclosure: &VerifiedDisclosure,
) -> Result<Vec<Vec<u8>>, TrustError> {
    let keys = disclosure.keys().iter();
    keys.map(|key| {
        let epoch = state.share_epoch(key.key_id());
        epoch
            .map(|epoch| epoch.digest().to_vec())
            .ok_or_else(|| TrustError::Unknown("share epoch of key", key.key_id().to_string()))
    })
    .collect()
}

/// How many nodes have to agree: the highest threshold of the disclosure's keys; for private ones a majority.
fn threshold(state: &TrustState, disclosure: &VerifiedDisclosure) -> usize {
    let keys = disclosure.keys().iter();
    keys.filter_map(|key| state.share_epoch(key.key_id()))
        .map(greffe_envelope::trust::VerifiedEpoch::threshold)
        .max()
        .unwrap_or_else(|| state.bundle().message().nodes.len() / 2 + 1)
}

impl DisclosureVerifier for Trust {
    fn verify(&self, extension: &[u8]) -> Result<DisclosureInfo, DisclosureError> {
        let refused = |reason: &str| DisclosureError::new(reason);
        let signed = Signed::<pb::Disclosure>::decode_bytes(extension)
            .map_err(|_| refused("DISCLOSURE_MALFORMED"))?;
        let state = self.state().map_err(|_| refused("TRUST_UNKNOWN"))?;
        let known = state
            .disclosure(&signed.digest())
            .ok_or_else(|| refused("DISCLOSURE_UNKNOWN"))?;
        if known.signed().raw() != signed.raw() {
            return Err(refused("DISCLOSURE_SIGNATURE"));
        }
        check_epochs(&state, known).map_err(|_| refused("SHARE_EPOCH_UNKNOWN"))?;
        info(known).ok_or_else(|| refused("DISCLOSURE_MALFORMED"))
    }

    fn verify_current(&self, disclosure: &DisclosureInfo) -> Result<(), DisclosureError> {
        let refused = |reason: &str| DisclosureError::new(reason);
        let state = self.state().map_err(|_| refused("TRUST_UNKNOWN"))?;
        let known = state
            .disclosure(&disclosure.digest)
            .ok_or_else(|| refused("DISCLOSURE_UNKNOWN"))?;
        self.check_current(&state, known, self.clock.now(), Millis::new(0))
            .map_err(|_| refused("DISCLOSURE_NOT_CURRENT"))
    }
}

impl core::fmt::Debug for Trust {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trust")
            .field("known", &self.is_known())
            .finish_non_exhaustive()
    }
}

/// What MLS wants to know of a disclosure.
fn info(disclosure: &VerifiedDisclosure) -> Option<DisclosureInfo> {
    let message = disclosure.message();
    let mut key_ids: Vec<Digest> = disclosure.keys().iter().map(|key| *key.key_id()).collect();
    key_ids.sort();
    let tenants = message.tenants.iter();
    Some(DisclosureInfo {
        mode: message.mode(),
        serial: message.serial,
        tenants: tenants
            .map(|tenant| TenantId::new(tenant.as_str()).ok())
            .collect::<Option<_>>()?,
        digest: disclosure.digest(),
        key_ids,
        policy_digest: Digest::try_from(message.policy_digest.as_slice()).ok()?,
        standing_order: <[u8; 16]>::try_from(message.standing_order.as_slice()).ok(),
    })
}

fn trust_op(statement: &pb::SignedStatement, log_index: u64) -> Op {
    Op::Trust {
        digest: sha256(&statement.statement),
        log_index,
        statement: statement.clone(),
    }
}

/// A mode as people call it.
pub fn mode_name(mode: pb::Mode) -> &'static str {
    match mode {
        pb::Mode::Unspecified => "unspecified",
        pb::Mode::Private => "private",
        pb::Mode::Journaled => "journaled",
        pb::Mode::Supervised => "supervised",
    }
}
