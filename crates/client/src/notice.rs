//! What members are told: the pack's notice with the facts of bundle and share epochs, the same bytes for whoever renders it.

use std::sync::Arc;

use greffe_envelope::pb;
use greffe_envelope::trust::{Bundle, TrustState, VerifiedDisclosure, VerifiedEpoch};
use greffe_policy::{Holder, Mode, Notice, NoticeValues, Pack};
use greffe_types::{Digest, TenantId};

use crate::error::{ClientError, Result};

/// The facts of a notice: whoever signs a disclosure renders it from these, and so does every member.
#[derive(Debug, Clone)]
pub struct NoticeFacts {
    tenant: TenantId,
    mode: Mode,
    key_fingerprints: Vec<Digest>,
    holders: Vec<Holder>,
    threshold: u32,
    contact: String,
}

impl NoticeFacts {
    /// From the bundle in force and the share epochs of the disclosure's keys, in the order of its key records.
    ///
    /// # Errors
    /// For a mode that is unspecified, an epoch without key id, or a holder that the bundle does not know.
    pub fn new(
        bundle: &Bundle,
        mode: pb::Mode,
        epochs: &[&pb::ShareEpoch],
        contact: &str,
    ) -> Result<Self> {
        let mode = Mode::try_from(mode as i32)
            .map_err(|_| ClientError::refused("MODE_NOT_ALLOWED", "a mode has to be named"))?;
        let mut holders: Vec<Holder> = Vec::new();
        for holder in epochs.iter().flat_map(|epoch| &epoch.holders) {
            if holders.iter().any(|known| known.name == holder.node) {
                continue;
            }
            let node = bundle
                .node(&holder.node)
                .map_err(crate::error::untrusted("holder of a share"))?;
            holders.push(Holder {
                name: node.name.clone(),
                trust_domain: node.trust_domain.clone(),
            });
        }
        Ok(Self {
            tenant: bundle.tenant().clone(),
            mode,
            key_fingerprints: epochs
                .iter()
                .map(|epoch| Digest::try_from(epoch.key_id.as_slice()))
                .collect::<Result<_, _>>()
                .map_err(|_| ClientError::Answer("a share epoch without key id"))?,
            holders,
            threshold: epochs
                .iter()
                .map(|epoch| epoch.threshold)
                .min()
                .unwrap_or(0),
            contact: contact.to_owned(),
        })
    }

    /// Of a disclosure that was verified, as a bundle of its time or of another has them.
    ///
    /// # Errors
    /// As [`NoticeFacts::new`].
    pub fn of(
        state: &TrustState,
        bundle: &Bundle,
        disclosure: &VerifiedDisclosure,
    ) -> Result<Self> {
        let keys = disclosure.keys().iter();
        let epochs: Vec<&pb::ShareEpoch> = keys
            .filter_map(|key| state.share_epoch(key.key_id()))
            .map(VerifiedEpoch::message)
            .collect();
        let mode = disclosure.message().mode();
        Self::new(bundle, mode, &epochs, &bundle.message().contact)
    }

    /// The notice in a language.
    ///
    /// # Errors
    /// [`ClientError::Notice`].
    pub fn render(&self, pack: &Pack, language: &str) -> Result<Notice> {
        Ok(pack.notice(
            language,
            &NoticeValues {
                tenant: &self.tenant,
                mode: self.mode,
                key_fingerprints: &self.key_fingerprints,
                holders: &self.holders,
                threshold: self.threshold,
                contact: &self.contact,
            },
        )?)
    }

    /// In every language of the pack, as a disclosure names them.
    ///
    /// # Errors
    /// [`ClientError::Notice`].
    pub fn references(&self, pack: &Pack) -> Result<Vec<pb::NoticeRef>> {
        let languages = pack.languages().iter();
        languages
            .map(|language| {
                Ok(pb::NoticeRef {
                    language: language.clone(),
                    digest: self.render(pack, language)?.digest().to_vec(),
                })
            })
            .collect()
    }
}

/// The notice of a disclosure in a language: rendered here, and the one that the root signed. Contact, trust domains and
/// holders are those of the bundle that was in force when it was signed, whichever that is: a notice made from another is
/// another text, and its digest says so.
///
/// # Errors
/// When the disclosure offers none in that language, or what is rendered here is another text: then nothing may be
/// acknowledged.
pub fn notice_of(
    state: &TrustState,
    disclosure: &VerifiedDisclosure,
    pack: &Pack,
    language: &str,
) -> Result<Notice> {
    let named = disclosure
        .message()
        .notices
        .iter()
        .find(|named| named.language == language);
    let Some(named) = named else {
        return Err(ClientError::refused(
            "NOTICE_LANGUAGE",
            format!("the disclosure offers no notice in {language:?}: choose another language"),
        ));
    };
    let older: Vec<_> = state.older_bundles().collect();
    let newest_first = core::iter::once(state.bundle()).chain(older.into_iter().rev());
    // Said when there is no text at all to compare.
    let (mut failure, mut compared) = (None, false);
    for bundle in newest_first {
        let facts = NoticeFacts::of(state, bundle, disclosure);
        match facts.and_then(|facts| facts.render(pack, language)) {
            Ok(notice) if named.digest == notice.digest().as_bytes() => return Ok(notice),
            Ok(_) => compared = true,
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.filter(|_| !compared).unwrap_or_else(|| {
        ClientError::refused(
            "NOTICE_MISMATCH",
            "the notice made here is not the one that the tenant's root signed, under whichever trust bundle: the policy \
             pack, contact or share holders differ; nothing was acknowledged",
        )
    }))
}

/// The pack that a disclosure names, by id and digest.
///
/// # Errors
/// When neither this program nor the connection's folders have it.
pub(crate) fn pack_of(packs: &[Arc<Pack>], disclosure: &pb::Disclosure) -> Result<Arc<Pack>> {
    let wanted = |pack: &&Arc<Pack>| {
        pack.id() == disclosure.policy_id
            && pack.digest().as_bytes().as_slice() == disclosure.policy_digest
    };
    packs.iter().find(wanted).cloned().ok_or_else(|| {
        ClientError::refused(
            "PACK_UNKNOWN",
            format!(
                "the policy pack {:?} of the disclosure is not at hand with that digest: add its folder to the connection",
                disclosure.policy_id
            ),
        )
    })
}
