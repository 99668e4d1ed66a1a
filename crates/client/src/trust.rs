//! The tenant's trust as this client has verified it: from the pinned root, through the nodes' signatures, to the log.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use greffe_api::escrow as escrow_api;
use greffe_api::relay as relay_api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::{Applied, TrustError, TrustState, VerifiedDisclosure};
use greffe_mls::{DisclosureError, DisclosureInfo, DisclosureVerifier};
use greffe_service_kit::clock::SharedClock;
use greffe_types::{Digest, Millis, TenantId};
use tokio::sync::Mutex;

use crate::connection::{Connection, within};
use crate::currency::Currency;
use crate::error::{ClientError, Result, call, malformed, untrusted};
use crate::log::LogView;
use crate::store::{ClientStore, Op};

/// How long what relay and log said goes unasked.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// What a disclosure is called that is handed over to be looked up only.
const SUPERSEDED: &str = "superseded disclosure";
/// The bundle in force, and those before it.
const NEWEST: &str = "trust bundle";
const OLDER: &str = "older trust bundle";
/// Currency statements older than half their life are asked for again.
const CURRENCY_RENEWAL: Duration = Duration::from_secs(12 * 60 * 60);

/// What is trusted, and what makes it so. Verifies disclosures for MLS.
pub struct Trust {
    connection: Connection,
    clock: SharedClock,
    state: RwLock<Option<Arc<TrustState>>>,
    currency: Currency,
    /// One refresh at a time; the bundles that the log was seen to have.
    refreshing: Mutex<HashSet<Digest>>,
    /// When the last one succeeded.
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
        let mut logged = HashSet::new();
        for row in store.trust().await? {
            let (statement, index) = (row.statement, row.log_index);
            if row.in_log && statement.r#type == pb::TrustBundle::TYPE {
                logged.insert(sha256(&statement.statement));
            }
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
            currency: Currency::default(),
            refreshing: Mutex::new(logged),
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
    /// for; nothing may be sent on its word. `BUNDLE_NOT_LOGGED`: it does not say where the log has a new bundle.
    pub(crate) async fn refresh(&self, store: &ClientStore, log: &LogView) -> Result<()> {
        let mut logged_bundles = self.refreshing.lock().await;
        let answer = self
            .connection
            .directory()?
            .get_trust(relay_api::GetTrustRequest {})
            .await
            .map_err(call("GetTrust"))?
            .into_inner();
        let newest = answer
            .bundle
            .ok_or(ClientError::Answer("no trust bundle"))?;
        let places = answer.bundle_places.iter();
        let places: HashMap<u64, u64> = places.map(|at| (at.version, at.log_index)).collect();
        let known = self.state().ok();
        let older = answer.older_bundles.into_iter().map(|raw| (OLDER, raw));
        let newest = (NEWEST, newest);
        let (mut next, bundles) = match &known {
            // In their order: nodes that have changed meanwhile were vouched for by those before them.
            Some(known) => ((**known).clone(), older.chain([newest]).collect::<Vec<_>>()),
            None => {
                let root = self.connection.root().clone();
                let first = TrustState::new(root, newest.1.clone());
                let first = first.map_err(untrusted(NEWEST))?;
                (first, [newest].into_iter().chain(older).collect())
            }
        };
        let mut fresh = Vec::new();
        for (what, raw) in bundles {
            let bundle = Signed::<pb::TrustBundle>::decode(raw.clone()).map_err(malformed(what))?;
            let place = places.get(&bundle.version).copied();
            let applied = if what == NEWEST {
                next.apply(&raw, place.unwrap_or_default())
            } else {
                next.recall(&raw, place.unwrap_or_default())
            };
            applied.map_err(untrusted(what))?;
            if logged_bundles.contains(&bundle.digest()) {
                continue;
            }
            let known = known.as_ref();
            let known = known.and_then(|state| state.bundle_version(bundle.version));
            match place {
                Some(index) => fresh.push((what, raw, index)),
                // Believed by a version before this one, which did not ask: looked for once the relay says where.
                None if known.is_some_and(|known| known.digest() == bundle.digest()) => {}
                None => return Err(not_logged(bundle.version)),
            }
        }
        // What supersedes comes before what is superseded, which nothing makes current again.
        let statements = [
            ("journaling key record", answer.key_records),
            ("share epoch", answer.share_epochs),
            ("disclosure", answer.disclosures),
            (SUPERSEDED, answer.superseded_disclosures),
            ("retirement of a journaling key", answer.retirements),
        ];
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
        let mut ops = Vec::new();
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
            let bundles = fresh
                .iter()
                .filter(|(what, ..)| [NEWEST, OLDER].contains(what));
            logged_bundles.extend(bundles.map(|(_, raw, _)| sha256(&raw.statement)));
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
        // A node that takes the call and never answers is one that is missing.
        let limit = self.connection.patience();
        let mut asked: FuturesUnordered<_> = nodes
            .filter_map(|node| {
                let mut escrow = self.connection.escrow(&node.name).ok()?;
                let ask = async move {
                    let request = escrow_api::GetCurrencyRequest { mode };
                    let answer = escrow.get_currency(request).await;
                    let answer = answer.map_err(call("GetCurrency"))?.into_inner();
                    let statement = answer
                        .currency
                        .ok_or(ClientError::Answer("no currency statement"))?;
                    Signed::<pb::Currency>::decode(statement)
                        .map_err(malformed("currency statement"))
                };
                Some(async move { (&node.name, within(limit, "GetCurrency", ask).await) })
            })
            .collect();
        let mut failure = None;
        while let Some((node, answer)) = asked.next().await {
            let now = self.clock.now();
            let taken = answer.and_then(|statement| {
                self.currency
                    .take_in(&state, disclosure, node, statement, now)
            });
            match taken {
                Ok(()) => {}
                Err(error) => failure = Some(error),
            }
            // Enough have said so: nobody waits for the others.
            let since = now.minus(CURRENCY_RENEWAL);
            if self.check_current(&state, disclosure, now, since).is_ok() {
                return Ok(());
            }
        }
        let now = self.clock.now();
        match (
            self.check_current(&state, disclosure, now, Millis::new(0)),
            failure,
        ) {
            (Ok(()), _) => Ok(()),
            // Too few nodes answered at all: the reason of one of them says more than the count.
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(untrusted("currency of the disclosure")(error)),
        }
    }

    fn check_current(
        &self,
        state: &TrustState,
        disclosure: &VerifiedDisclosure,
        now: Millis,
        not_before: Millis,
    ) -> Result<(), TrustError> {
        let epochs = check_epochs(state, disclosure)?;
        let threshold = threshold(state, disclosure);
        self.currency
            .check(state, disclosure, &epochs, threshold, (not_before, now))
    }
}

/// A bundle that is in no log may be one that this client alone is shown, and that leaves no trace.
fn not_logged(version: u64) -> ClientError {
    ClientError::refused(
        "BUNDLE_NOT_LOGGED",
        format!(
            "the relay does not say where the log has trust bundle {version}, so it was not taken in: upgrade the relay before its clients, or have the bundle published"
        ),
    )
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
