//! What can be checked of an item without the conversation's state, and what follows once MLS has given the seed. Pure, so
//! that it runs on every core.

use std::sync::Arc;

use greffe_api::relay as api;
use greffe_envelope::chain::{ChainState, handshake_digest};
use greffe_envelope::derive::Seed;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::{Opened, open_with_seed};
use greffe_envelope::pb;
use greffe_envelope::recompute::{Mismatch, recompute};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustState, VerifiedDisclosure, verify_receipt, verify_void};
use greffe_mls::Application;
use greffe_types::{ConversationId, Digest, Millis};

use super::event::reason;
use crate::certificates::Certificates;

/// An item whose receipt was verified.
pub(crate) struct Verified {
    pub(crate) conversation: ConversationId,
    pub(crate) sequence: u64,
    /// What the chain took in.
    pub(crate) entry: Digest,
    pub(crate) receipt: Signed<pb::Receipt>,
    /// The chain after it, by the receipt's own fields.
    pub(crate) chain: ChainState,
    pub(crate) item: Item,
}

/// What an item is.
pub(crate) enum Item {
    Message(Box<Message>),
    Commit(Vec<u8>),
    Void(Signed<pb::Void>),
    Welcome(api::DeliveredWelcome),
}

/// A message before MLS.
pub(crate) struct Message {
    pub(crate) envelope: Envelope,
    pub(crate) wraps: Vec<pb::Wrap>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) mls_message: Vec<u8>,
    /// The sender's certificate, and whether signature, period and revocation hold.
    pub(crate) sender: Result<Arc<Signed<pb::DeviceCert>>, &'static str>,
}

/// Why an item cannot even take its place.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The certificate has to be fetched first.
    Certificate,
    /// Nothing about it can be relied on.
    False(&'static str),
}

/// Verifies the receipt and what of the item needs no state.
pub(crate) fn verify(
    state: &TrustState,
    certificates: &Certificates,
    response: &api::ReceiveResponse,
) -> Result<Verified, Unusable> {
    use api::receive_response::Item as Wire;
    let wrong = |reason| Unusable::False(reason);
    let raw = response
        .receipt
        .clone()
        .ok_or_else(|| wrong(reason::RECEIPT))?;
    let receipt = Signed::<pb::Receipt>::decode(raw).map_err(|_| wrong(reason::RECEIPT))?;
    let chain = verify_receipt(&receipt, state.bundle()).map_err(|_| wrong(reason::RECEIPT))?;
    if receipt.conversation != response.conversation || receipt.sequence != response.sequence {
        return Err(wrong(reason::RECEIPT));
    }
    let entry =
        Digest::try_from(receipt.entry_digest.as_slice()).map_err(|_| wrong(reason::RECEIPT))?;
    let kind = receipt.kind();
    let (item, of, expected) = match response
        .item
        .as_ref()
        .ok_or_else(|| wrong(reason::RECEIPT))?
    {
        Wire::Message(message) => {
            let at = Millis::new(receipt.archived_at);
            let message = verify_message(state, certificates, message, at)?;
            let digest = message.envelope.digest();
            if message.envelope.header().conversation() != chain.conversation {
                return Err(wrong(reason::ENVELOPE));
            }
            (
                Item::Message(Box::new(message)),
                Some(digest),
                pb::EntryKind::Message,
            )
        }
        Wire::Commit(commit) => {
            let digest = handshake_digest(commit);
            (
                Item::Commit(commit.clone()),
                Some(digest),
                pb::EntryKind::Handshake,
            )
        }
        Wire::Void(raw) => {
            let void =
                Signed::<pb::Void>::decode(raw.clone()).map_err(|_| wrong(reason::RECEIPT))?;
            let digest = verify_void(&void, state.bundle()).map_err(|_| wrong(reason::RECEIPT))?;
            (Item::Void(void), Some(digest), pb::EntryKind::Void)
        }
        // The commit itself is not shown to a joiner: the receipt only says where the chain stands.
        Wire::Welcome(welcome) => (
            Item::Welcome(welcome.clone()),
            None,
            pb::EntryKind::Handshake,
        ),
        Wire::CaughtUp(_) => return Err(wrong(reason::RECEIPT)),
    };
    if kind != expected || of.is_some_and(|digest| digest != entry) {
        return Err(wrong(reason::RECEIPT));
    }
    Ok(Verified {
        conversation: chain.conversation,
        sequence: receipt.sequence,
        entry,
        receipt,
        chain,
        item,
    })
}

fn verify_message(
    state: &TrustState,
    certificates: &Certificates,
    message: &api::DeliveredMessage,
    at: Millis,
) -> Result<Message, Unusable> {
    let raw = message
        .envelope
        .clone()
        .ok_or(Unusable::False(reason::ENVELOPE))?;
    let envelope = Envelope::decode(raw).map_err(|_| Unusable::False(reason::ENVELOPE))?;
    let named = envelope.header().device_cert();
    let cert = certificates.get(&named).ok_or(Unusable::Certificate)?;
    let header = envelope.header().message();
    let sender = if certificates.check(state, &cert, at).is_err()
        || header.sender_user != cert.user
        || header.sender_device != cert.device
    {
        Err(reason::CERTIFICATE)
    } else if envelope.verify_signature(&cert.envelope_key).is_err() {
        Err(reason::ENVELOPE)
    } else {
        Ok(cert)
    };
    Ok(Message {
        envelope,
        wraps: message.wraps.clone(),
        ciphertext: message.ciphertext.clone(),
        mls_message: message.mls_message.clone(),
        sender,
    })
}

/// Header, MLS and disclosure have to say the same: an envelope cannot be moved to another message, conversation, epoch,
/// sender, mode or set of keys.
pub(crate) fn check_header(
    message: &Message,
    application: &Application,
    disclosure: &VerifiedDisclosure,
) -> Result<(), &'static str> {
    let header = message.envelope.header();
    let fields = header.message();
    if application.envelope != message.envelope.digest() {
        return Err(reason::SPLICED);
    }
    let said = disclosure.message();
    let mut keys: Vec<Digest> = disclosure.keys().iter().map(|key| *key.key_id()).collect();
    keys.sort();
    let same = fields.mls_epoch == application.epoch
        && header.device() == application.sender.device
        && header.device_cert() == application.sender.certificate
        && fields.mode == said.mode
        && fields.tenants == said.tenants
        && fields.policy_digest == said.policy_digest
        && header.key_ids() == keys;
    if same { Ok(()) } else { Err(reason::HEADER) }
}

/// A message with its seed: what is left is arithmetic.
pub(crate) struct Seeded {
    pub(crate) message: Box<Message>,
    pub(crate) seed: Seed,
    pub(crate) cert: Arc<Signed<pb::DeviceCert>>,
    pub(crate) disclosure: Arc<VerifiedDisclosure>,
}

/// Recomputes every wrap from the seed, compares the bytes, and opens the content.
pub(crate) fn open(seeded: &Seeded) -> Result<Opened, (&'static str, Option<Mismatch>)> {
    let Seeded {
        message,
        seed,
        cert,
        disclosure,
    } = seeded;
    let keys: Vec<_> = disclosure.keys().iter().collect();
    if message.wraps.len() != keys.len() {
        return Err((reason::CARRIER, None));
    }
    let envelope = &message.envelope;
    recompute(seed, &cert.tenant, envelope, &keys, &message.wraps).map_err(|found| {
        let stated = found.reason().unwrap_or(reason::CARRIER);
        (stated, Some(found))
    })?;
    open_with_seed(seed, &cert.tenant, envelope, &message.ciphertext)
        .map_err(|_| (reason::CONTENT, None))
}
