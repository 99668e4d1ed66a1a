//! The nodes' word on which disclosure is the current one: verified before it is kept, the newest of each node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{
    CURRENCY_MAX_AHEAD, TrustError, TrustState, VerifiedDisclosure, verify_currency,
};
use greffe_types::{Digest, Millis};

use crate::error::{ClientError, Result, untrusted};

/// Of each disclosure and node the newest statement.
#[derive(Default)]
pub(crate) struct Currency(RwLock<HashMap<Digest, BTreeMap<String, Signed<pb::Currency>>>>);

impl Currency {
    /// Keeps what a node says of a disclosure, in the place of what it said before. Nothing that another signed, that is of
    /// another disclosure, or that is dated in the future takes the place of an honest word.
    ///
    /// # Errors
    /// [`ClientError`]; nothing has changed then.
    pub(crate) fn take_in(
        &self,
        state: &TrustState,
        disclosure: &VerifiedDisclosure,
        node: &str,
        statement: Signed<pb::Currency>,
        now: Millis,
    ) -> Result<()> {
        let refused = untrusted("currency statement");
        state
            .bundle()
            .verify_node(&statement, node)
            .map_err(untrusted("currency statement"))?;
        if statement.disclosure != disclosure.digest().as_bytes() {
            return Err(refused(TrustError::Mismatch("disclosure")));
        }
        if statement.at > now.plus(CURRENCY_MAX_AHEAD).get() {
            return Err(ClientError::refused(
                "CLOCK_SKEW",
                format!(
                    "{node} says of the disclosure at {} ms that it is current, and it is {} ms here: set the clock that is wrong",
                    statement.at,
                    now.get()
                ),
            ));
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let words = kept.entry(disclosure.digest()).or_default();
        if words.get(node).is_none_or(|known| known.at <= statement.at) {
            words.insert(node.to_owned(), statement);
        }
        Ok(())
    }

    /// Whether `threshold` nodes have said so, of these share epochs, since an instant and less than 24 hours ago.
    ///
    /// # Errors
    /// [`TrustError::Quorum`].
    pub(crate) fn check(
        &self,
        state: &TrustState,
        disclosure: &VerifiedDisclosure,
        epochs: &[Vec<u8>],
        threshold: usize,
        (not_before, now): (Millis, Millis),
    ) -> Result<(), TrustError> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let words = kept.get(&disclosure.digest());
        let words = words.into_iter().flat_map(BTreeMap::values);
        let statements: Vec<_> = words
            .filter(|word| word.share_epochs == epochs && word.at >= not_before.get())
            .cloned()
            .collect();
        verify_currency(&statements, disclosure, state.bundle(), threshold, now)
    }
}
