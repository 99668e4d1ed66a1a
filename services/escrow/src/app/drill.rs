//! Drills: the node proves that it holds its share of the epoch in force, and the log has the proof before it leaves.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::PoisonError;

use greffe_api::escrow::{ProveShareRequest, ProveShareResponse};
use greffe_envelope::ceremony::prove_share;
use greffe_envelope::label::hash;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_service_kit::harden::wiping_stack;
use greffe_types::{Digest, Millis};

use super::release::{no_share, retired};
use super::share::unseal;
use super::{Node, log_id};
use crate::error::{Kind, MALFORMED, NO_SHARE_EPOCH, RATE_LIMITED, Refusal};
use crate::rng::system;
use crate::store::shares;

/// Proofs that the node gives in an hour: each is a leaf of the log.
const PER_HOUR: usize = 120;
const HOUR: Duration = Duration::from_secs(3600);

/// When proofs were given, in the last hour.
pub(super) type Given = VecDeque<Millis>;

impl Node {
    /// Proves that the node holds its share of a key.
    ///
    /// # Errors
    /// `NO_SHARE` when it does not; `KEY_RETIRED`, `NO_SHARE_EPOCH`, `NOT_CAUGHT_UP`, `RATE_LIMITED`.
    pub async fn prove_share(
        &self,
        request: ProveShareRequest,
    ) -> Result<ProveShareResponse, Refusal> {
        let malformed = |what| Refusal::malformed(MALFORMED, what);
        let key_id = Digest::try_from(request.key_id.as_slice())
            .map_err(|_| malformed("the key has to be named by its 32 bytes"))?;
        let nonce: [u8; 32] =
            request.nonce.as_slice().try_into().map_err(|_| {
                malformed("the nonce has to have 32 bytes, fresh for every question")
            })?;
        self.catch_up_to_now().await?;
        let share_epoch = {
            let trust = self.trust.read();
            if trust.retirement(&key_id).is_some() {
                return Err(retired(&key_id));
            }
            let epoch = trust.share_epoch(&key_id).ok_or_else(|| {
                Refusal::state(NO_SHARE_EPOCH, "no share epoch of this key is in force")
            })?;
            epoch.digest()
        };
        let sealed = shares::get(self.db.read(), &self.scope, &key_id, &share_epoch).await?;
        let sealed = sealed.ok_or_else(|| no_share(&key_id))?;
        self.count_proof()?;
        let (name, now) = (self.keys.name(), self.clock.now());
        let proof = wiping_stack(|| {
            let share = unseal(self.keys.seal(), &key_id, &share_epoch, &sealed)?;
            prove_share(&share, name, &nonce, now, &mut system()).map_err(Refusal::internal)
        })?;
        let proof = Signed::sign(proof, &[(name, self.keys.signing())]).into_raw();
        let id = log_id(&hash("share-proof-id", &[&proof.statement]));
        let log_index = self.log_event(id, Event::Statement(proof.clone())).await?;
        Ok(ProveShareResponse {
            proof: Some(proof),
            log_index,
        })
    }

    fn count_proof(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut given = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        while given.front().is_some_and(|at| *at <= now.minus(HOUR)) {
            given.pop_front();
        }
        if given.len() >= PER_HOUR {
            return Err(Refusal::new(
                Kind::Exhausted,
                RATE_LIMITED,
                "the node gives no more proofs in this hour: ask later",
            ));
        }
        given.push_back(now);
        Ok(())
    }
}
