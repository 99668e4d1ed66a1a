//! Sealing and opening a message: the sender's, the recipient's and the reader's way through the derivations.

use ed25519_dalek::SigningKey;
use greffe_types::Digest;
use prost::Message as _;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::content::{self, ContentError, Kind};
use crate::derive::{Cek, Seed, SeedKeys, core};
use crate::envelope::{Envelope, EnvelopeError, Header, HeaderError, record_digest};
use crate::label::sha256;
use crate::limits::MAX_CONTENT;
use crate::padding::{PaddingError, pad, unpad};
use crate::pb;
use crate::statement::StatementError;
use crate::stream::{StreamError, open_all, seal_all};
use crate::wrap::{JournalKey, WrapError, WrapView, make_wrap};

/// Version byte in front of the seed inside MLS.
pub const SEED_VERSION: u8 = 0x01;
/// Bytes of an MLS application message's plaintext.
pub const SEED_MESSAGE: usize = 33;

/// Why a message could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The content's protobuf is longer than [`MAX_CONTENT`].
    #[error("the content is too large")]
    TooLarge,
    /// Content and header name other attachments.
    #[error("the content does not belong to the header")]
    Content,
    /// The content is none that may be made.
    #[error("the content is not one that may be sent")]
    Rules(#[from] ContentError),
    /// The journaling keys are not those of the header.
    #[error("the journaling keys are not those of the header")]
    Keys,
    /// The header.
    #[error("the header is refused")]
    Header(#[from] HeaderError),
    /// The body.
    #[error("the envelope is refused")]
    Envelope(#[from] EnvelopeError),
    /// The stream.
    #[error("the content's stream is refused")]
    Stream(#[from] StreamError),
    /// A wrap.
    #[error("a wrap could not be made")]
    Wrap(#[from] WrapError),
}

/// Why a message was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ciphertext is not the one in the body.
    #[error("the ciphertext is not the one that was signed")]
    Ciphertext,
    /// The seed is not the one that the body commits to: nothing is proved against the sender.
    #[error("the seed does not match the seed commitment")]
    SeedCommitment,
    /// The content key is not the one that the body commits to.
    #[error("the content key does not match its commitment")]
    ContentCommitment,
    /// The ciphertext does not authenticate.
    #[error("the ciphertext does not open")]
    Stream(#[from] StreamError),
    /// The padding is malformed.
    #[error("the content's padding is malformed")]
    Padding(#[from] PaddingError),
    /// The content is no deterministic protobuf.
    #[error("the content's encoding is refused")]
    Encoding(#[source] StatementError),
    /// The content contradicts the header.
    #[error("the content does not belong to the header")]
    Content,
}

/// A sealed message, ready to be persisted and sent.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The signed envelope.
    pub envelope: Envelope,
    /// One wrap for each journaling key, sorted by tenant and key id.
    pub wraps: Vec<pb::Wrap>,
    /// The content's ciphertext.
    pub ciphertext: Vec<u8>,
}

/// What recipient or reader gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The content.
    pub content: pb::Content,
    /// All of the content's bytes when its kind is a newer client's, since some of it may not be understood; else empty.
    pub unread: Vec<u8>,
    /// For the attachments.
    pub cek: Cek,
    /// For the attachments.
    pub core: Digest,
}

/// A message about to be sealed: its seed drawn, its attachments being encrypted under [`Draft::cek`].
#[derive(Debug)]
pub struct Draft {
    keys: SeedKeys,
    cek: Cek,
}

impl Draft {
    /// Starts a message. `tenant` is the device certificate's.
    pub fn new(
        seed: &Seed,
        tenant: &str,
        conversation: &greffe_types::ConversationId,
        message: &greffe_types::MessageId,
        device: &greffe_types::DeviceId,
    ) -> Self {
        let keys = SeedKeys::new(seed, &core(tenant, conversation, message, device));
        Self {
            cek: keys.cek(),
            keys,
        }
    }

    /// For [`crate::attachment`].
    pub const fn cek(&self) -> &Cek {
        &self.cek
    }

    /// For [`crate::attachment`].
    pub const fn core(&self) -> &Digest {
        self.keys.core()
    }

    /// Seals and signs. The header names conversation, message and device as the draft was started with; `keys` are those
    /// of the header, in any order.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        self,
        header: &pb::Header,
        content: &pb::Content,
        journal: &[&JournalKey],
        signer: &SigningKey,
    ) -> Result<Sealed, SealError> {
        let header = Header::build(header)?;
        content::check(content)?;
        check_content(&header, content).map_err(|()| SealError::Content)?;
        let plain = Zeroizing::new(content.encode_to_vec());
        if plain.len() as u64 > MAX_CONTENT {
            return Err(SealError::TooLarge);
        }
        let (key, commitment) = self.cek.content(&header.digest());
        let ciphertext = seal_all(&key, &Zeroizing::new(pad(&plain)))?;
        let ct = sha256(&ciphertext);
        let seed_commitment = self.keys.commitment();
        let rd = record_digest(&header.digest(), &ct, &commitment, &seed_commitment);

        let wraps = make_wraps(&self.keys, &rd, &header, journal)?;
        let references = wraps.iter().map(wrap_ref).collect::<Result<_, _>>()?;
        let body = pb::EnvelopeBody {
            header: header.bytes().to_vec(),
            ciphertext_digest: ct.to_vec(),
            ciphertext_size: ciphertext.len() as u64,
            commitment: commitment.to_vec(),
            seed_commitment: seed_commitment.to_vec(),
            wraps: references,
        };
        Ok(Sealed {
            envelope: Envelope::sign(&body, signer)?,
            wraps,
            ciphertext,
        })
    }
}

/// The recipient's way: checks the seed's commitment, then as [`open_with_cek`]. That the wraps are those of the seed is
/// [`crate::recompute`]'s to say.
///
/// # Errors
/// [`OpenError`].
pub fn open_with_seed(
    seed: &Seed,
    tenant: &str,
    envelope: &Envelope,
    ciphertext: &[u8],
) -> Result<Opened, OpenError> {
    let keys = seed_keys(seed, tenant, envelope);
    if !bool::from(
        keys.commitment()
            .as_bytes()
            .ct_eq(envelope.seed_commitment().as_bytes()),
    ) {
        return Err(OpenError::SeedCommitment);
    }
    open_with_cek(&keys.cek(), tenant, envelope, ciphertext)
}

/// The reader's way: `tenant` is the device certificate's. The commitment is compared, in constant time, before anything is
/// decrypted.
///
/// # Errors
/// [`OpenError`].
pub fn open_with_cek(
    cek: &Cek,
    tenant: &str,
    envelope: &Envelope,
    ciphertext: &[u8],
) -> Result<Opened, OpenError> {
    let header = envelope.header();
    if ciphertext.len() as u64 != envelope.body().ciphertext_size
        || sha256(ciphertext) != envelope.ciphertext_digest()
    {
        return Err(OpenError::Ciphertext);
    }
    let (key, commitment) = cek.content(&header.digest());
    let expected = envelope.commitment();
    if !bool::from(commitment.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(OpenError::ContentCommitment);
    }
    let padded = Zeroizing::new(open_all(&key, ciphertext)?);
    let plain = unpad(&padded)?;
    let content = content::decode(plain).map_err(OpenError::Encoding)?;
    let kind = check_content(header, &content).map_err(|()| OpenError::Content)?;
    let unread = if matches!(kind, Kind::Unknown(_)) {
        plain.to_vec()
    } else {
        Vec::new()
    };
    Ok(Opened {
        content,
        unread,
        cek: cek.clone(),
        core: envelope_core(tenant, envelope),
    })
}

/// The seed as MLS carries it: version byte and seed.
pub fn encode_seed(seed: &Seed) -> Zeroizing<[u8; SEED_MESSAGE]> {
    let mut bytes = Zeroizing::new([SEED_VERSION; SEED_MESSAGE]);
    bytes[1..].copy_from_slice(seed.as_bytes());
    bytes
}

/// Reads the seed of an MLS application message; none unless it is exactly 33 bytes of version 1.
pub fn decode_seed(plaintext: &[u8]) -> Option<Seed> {
    let (version, seed) = plaintext.split_first()?;
    let seed: [u8; 32] = seed.try_into().ok()?;
    (*version == SEED_VERSION).then(|| Seed::from_bytes(seed))
}

/// The core of an envelope; `tenant` is the device certificate's.
pub fn envelope_core(tenant: &str, envelope: &Envelope) -> Digest {
    let header = envelope.header();
    core(
        tenant,
        &header.conversation(),
        &header.message_id(),
        &header.device(),
    )
}

/// A seed at an envelope's place.
pub(crate) fn seed_keys(seed: &Seed, tenant: &str, envelope: &Envelope) -> SeedKeys {
    SeedKeys::new(seed, &envelope_core(tenant, envelope))
}

/// The wraps of a header's keys, sorted by tenant and key id.
pub(crate) fn make_wraps(
    keys: &SeedKeys,
    rd: &Digest,
    header: &Header,
    journal: &[&JournalKey],
) -> Result<Vec<pb::Wrap>, SealError> {
    let mut ids: Vec<Digest> = journal.iter().map(|key| *key.key_id()).collect();
    ids.sort();
    if ids != header.key_ids() {
        return Err(SealError::Keys);
    }
    let mut sorted = journal.to_vec();
    sorted.sort_by(|a, b| (a.tenant(), a.key_id()).cmp(&(b.tenant(), b.key_id())));
    let wraps = sorted.into_iter().map(|key| make_wrap(keys, rd, key));
    Ok(wraps.collect::<Result<_, _>>()?)
}

/// How the body names a wrap.
pub fn wrap_ref(wrap: &pb::Wrap) -> Result<pb::WrapRef, WrapError> {
    Ok(pb::WrapRef {
        tenant: wrap.tenant.clone(),
        key_id: wrap.key_id.clone(),
        digest: WrapView::parse(&wrap.sealed)?.digest().to_vec(),
    })
}

/// Content and header speak of the same attachments, and a text or mail is one that may be sent. Whatever else is not as it
/// should be is shown as such: what was archived is not kept from those who may read it.
fn check_content(header: &Header, content: &pb::Content) -> Result<Kind, ()> {
    let references = &header.message().attachments;
    let kind = Kind::of(content).ok_or(())?;
    let sizes = content
        .attachments
        .iter()
        .zip(references)
        .all(|(inside, outside)| {
            inside.padded_digest.len() == 32
                && inside.size <= crate::limits::MAX_ATTACHMENT
                && outside.size
                    == crate::stream::ciphertext_len(crate::padding::padded_len(inside.size))
        });
    let holds = content.attachments.len() == references.len()
        && sizes
        && (!kind.is_message() || content::check(content).is_ok());
    if holds { Ok(kind) } else { Err(()) }
}
