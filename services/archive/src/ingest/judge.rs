//! What becomes of one entry: archived, void for good, or not now. Pure: everything known is given.
//!
//! **The disclosure that a message is judged by** is that of the conversation's last commit. Before the first commit it is
//! the one that the log's ConversationCreated names. A message can overtake the log on its way here; then it is the one
//! disclosure in force that agrees with the header in tenants, mode, policy and every key. That choice gives a sender
//! nothing: the disclosure is signed by the root and logged, the header was signed to say the same, and the recipients
//! compare it with the one in their group's context. From then on it stands for the conversation.

use std::sync::Arc;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustState, VerifiedDisclosure};
use greffe_envelope::validate::{Context, validate};
use greffe_policy::Pack;
use greffe_types::Millis;

use super::entry::{Entry, Handshake, Kind, Message};
use crate::app::Packs;
use crate::store::conversations::Conversation;
use crate::store::kem_uses::KemUse;

/// What every entry of a batch is judged by.
#[derive(Clone, Copy)]
pub struct Court<'a> {
    /// What the root has vouched for.
    pub trust: &'a TrustState,
    /// Policy packs.
    pub packs: &'a Packs,
    /// The archive's clock.
    pub at: Millis,
}

/// What the databases know of one entry.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The same envelope or commit is archived under another number.
    pub duplicate: bool,
    /// Sizes of the complete attachments that the header names, in its order.
    pub attachments: Vec<Option<u64>>,
    /// ML-KEM ciphertexts of its wraps.
    pub kem: Vec<KemUse>,
    /// One of them was used before.
    pub kem_used: bool,
}

/// The judgement.
#[derive(Debug)]
pub enum Verdict {
    /// It is archived.
    Archive(Accepted),
    /// It never will be.
    Void(&'static str),
    /// Not now: the relay tries again.
    Retry(&'static str),
}

/// How an entry is archived.
#[derive(Debug)]
pub struct Accepted {
    /// The disclosure in force after it.
    pub disclosure: Arc<VerifiedDisclosure>,
    /// Pinned end of retention.
    pub retain_until: Millis,
}

/// Nothing known of the disclosure, yet.
pub const DISCLOSURE_UNKNOWN: &str = "DISCLOSURE_UNKNOWN";
/// The bundle names a pack that this archive was not given.
pub const POLICY_PACK_MISSING: &str = "POLICY_PACK_MISSING";

impl Court<'_> {
    /// Judges an entry that is next in its conversation.
    pub fn judge(&self, entry: &Entry, known: &Known, conversation: &Conversation) -> Verdict {
        if known.duplicate {
            return Verdict::Void("DUPLICATE_ENTRY");
        }
        let judged = match &entry.kind {
            Kind::Malformed(reason) => Err(Verdict::Void(reason)),
            Kind::Message(message) => self.message(entry, message, known, conversation),
            Kind::Handshake(handshake) => self.handshake(handshake, conversation),
        };
        match judged {
            Ok(accepted) => Verdict::Archive(accepted),
            Err(verdict) => verdict,
        }
    }

    fn message(
        &self,
        entry: &Entry,
        message: &Message,
        known: &Known,
        conversation: &Conversation,
    ) -> Result<Accepted, Verdict> {
        let header = message.envelope.header().message();
        let disclosure = self
            .in_force(conversation, header)
            .ok_or(Verdict::Retry(DISCLOSURE_UNKNOWN))?;
        let bundle = self.trust.bundle();
        let pack = self.packs.get(&disclosure.message().policy_digest);
        if pack.is_none() && bundle.has_pack(&disclosure.message().policy_digest) {
            return Err(Verdict::Retry(POLICY_PACK_MISSING));
        }
        let context = Context {
            bundle,
            disclosure: &disclosure,
            cert: &message.cert,
            conversation: entry.conversation,
            carrier: message.carrier,
            record_class: &|class| pack.is_some_and(|pack| pack.class(class).is_ok()),
            at: self.at,
        };
        validate(
            &message.envelope,
            &message.wraps,
            &message.ciphertext,
            &context,
        )
        .map_err(|invalid| Verdict::Void(invalid.reason()))?;
        for (named, size) in header.attachments.iter().zip(&known.attachments) {
            match size {
                None => return Err(Verdict::Retry("ATTACHMENT_MISSING")),
                Some(size) if *size != named.size => {
                    return Err(Verdict::Void("ATTACHMENT_SIZE_MISMATCH"));
                }
                Some(_) => {}
            }
        }
        if known.kem_used {
            return Err(Verdict::Void("KEM_CIPHERTEXT_REUSED"));
        }
        let pack = pack.ok_or(Verdict::Retry(POLICY_PACK_MISSING))?;
        let retain_until = pack
            .retain_until(&header.record_class, self.at)
            .map_err(|error| Verdict::Void(error.reason()))?;
        Ok(Accepted {
            disclosure,
            retain_until,
        })
    }

    fn handshake(
        &self,
        handshake: &Handshake,
        conversation: &Conversation,
    ) -> Result<Accepted, Verdict> {
        let disclosure = self.logged(&handshake.disclosure)?;
        if let Some(before) = conversation
            .disclosure
            .and_then(|digest| self.trust.disclosure(&digest))
            && disclosure
                .check_follows(before.message(), &before.digest())
                .is_err()
        {
            return Err(Verdict::Void("DISCLOSURE_WEAKENED"));
        }
        let pack = self
            .packs
            .get(&disclosure.message().policy_digest)
            .ok_or(Verdict::Retry(POLICY_PACK_MISSING))?;
        let retain_until = longest(pack, self.at).ok_or(Verdict::Void("DATE_OUT_OF_RANGE"))?;
        Ok(Accepted {
            disclosure,
            retain_until,
        })
    }

    /// A disclosure that the log has. One that the root signed may still be on its way here.
    fn logged(&self, signed: &Signed<pb::Disclosure>) -> Result<Arc<VerifiedDisclosure>, Verdict> {
        if let Some(known) = self.trust.disclosure(&signed.digest()) {
            return Ok(known.clone());
        }
        match self.trust.root().verify(signed) {
            Ok(()) => Err(Verdict::Retry(DISCLOSURE_UNKNOWN)),
            Err(_) => Err(Verdict::Void("DISCLOSURE_INVALID")),
        }
    }

    /// See the module's documentation.
    fn in_force(
        &self,
        conversation: &Conversation,
        header: &pb::Header,
    ) -> Option<Arc<VerifiedDisclosure>> {
        if let Some(digest) = conversation.disclosure {
            return self.trust.disclosure(&digest).cloned();
        }
        let agrees = |disclosure: &&Arc<VerifiedDisclosure>| {
            let said = disclosure.message();
            let mut keys: Vec<&Vec<u8>> = disclosure.records().iter().map(|r| &r.key_id).collect();
            keys.sort();
            said.tenants == header.tenants
                && said.mode == header.mode
                && said.policy_digest == header.policy_digest
                && keys.into_iter().eq(&header.key_ids)
        };
        self.trust.current_disclosures().find(agrees).cloned()
    }

    /// Until when the void in a conversation is kept: as long as anything of its pack, or of every pack in force while the
    /// conversation's is not known.
    pub fn void_retention(&self, conversation: &Conversation) -> Option<Millis> {
        let disclosure = conversation
            .disclosure
            .and_then(|digest| self.trust.disclosure(&digest));
        match disclosure {
            Some(disclosure) => {
                let pack = self.packs.get(&disclosure.message().policy_digest)?;
                longest(pack, self.at)
            }
            None => {
                let named = self.trust.bundle().message().packs.iter();
                let packs = named.filter_map(|named| self.packs.get(&named.digest));
                packs.filter_map(|pack| longest(pack, self.at)).max()
            }
        }
    }
}

/// A commit shows who could read every message after it, and a void that nothing is missing, whatever the messages'
/// classes: both are kept as long as the class that is kept longest.
fn longest(pack: &Pack, at: Millis) -> Option<Millis> {
    let classes = pack.classes().iter();
    classes
        .filter_map(|class| pack.retain_until(class.name(), at).ok())
        .max()
}
