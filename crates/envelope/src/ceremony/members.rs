//! Who takes part in a ceremony, and the signed messages they exchange.

use ed25519_dalek::SigningKey;
use greffe_types::{Digest, SessionId};

use super::error::CeremonyError;
use crate::label::{hash, label, push_lp};
use crate::limits::MAX_HOLDERS;
use crate::opening::HybridSecretKey;
use crate::pb;
use crate::statement::{Signed, StatementError};

/// A node's own name and keys, as the trust bundle vouches for them.
pub struct NodeIdentity {
    /// The node's name: signer of its messages.
    pub name: String,
    /// Signs its messages.
    pub signing_key: SigningKey,
    /// Opens private messages to it.
    pub channel_key: HybridSecretKey,
}

impl core::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A node as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its Ed25519 key.
    pub signing_key: Vec<u8>,
    /// Its MLKEM768-P256 key for private messages.
    pub channel_key: Vec<u8>,
}

/// The nodes of a ceremony in the order of their indices, which count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(Vec<Member>);

impl Members {
    /// Looks the named nodes up in the trust bundle.
    ///
    /// # Errors
    /// When there are fewer than 2 or more than [`MAX_HOLDERS`], a name repeats, or the bundle does not have one.
    pub fn from_bundle(names: &[String], bundle: &pb::TrustBundle) -> Result<Self, CeremonyError> {
        if !(2..=MAX_HOLDERS).contains(&names.len()) {
            return Err(CeremonyError::Field("number of nodes"));
        }
        let mut members: Vec<Member> = Vec::with_capacity(names.len());
        for name in names {
            if members.iter().any(|member| member.name == *name) {
                return Err(CeremonyError::Field("list of nodes"));
            }
            let node = bundle
                .nodes
                .iter()
                .find(|node| node.name == *name)
                .ok_or_else(|| CeremonyError::UnknownNode(name.clone()))?;
            members.push(Member {
                name: node.name.clone(),
                signing_key: node.signing_key.clone(),
                channel_key: node.channel_key.clone(),
            });
        }
        Ok(Self(members))
    }

    /// How many.
    pub fn count(&self) -> u16 {
        self.0.len() as u16
    }

    /// Name and index of each.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Member)> {
        (1..).zip(&self.0)
    }

    /// The member with an index.
    pub fn get(&self, index: u16) -> Option<&Member> {
        self.0.get(usize::from(index).checked_sub(1)?)
    }

    /// The index of a name.
    pub fn index_of(&self, name: &str) -> Option<u16> {
        self.iter()
            .find(|(_, member)| member.name == name)
            .map(|(index, _)| index)
    }

    /// The name of an index, which is one of the members'.
    pub(crate) fn name(&self, index: u16) -> &str {
        self.get(index).map_or("", |member| &member.name)
    }
}

/// A message that has been traced to its sender.
pub(crate) type Authentic = Signed<pb::CeremonyMessage>;

/// Decodes a message of a session and verifies its sender's signature; gives the sender's index among the members.
pub(crate) fn authenticate(
    raw: pb::SignedStatement,
    session: &SessionId,
    senders: &Members,
) -> Result<(u16, Authentic), CeremonyError> {
    let message = Authentic::decode(raw).map_err(CeremonyError::NotAuthentic)?;
    if message.session != session.as_bytes() {
        return Err(CeremonyError::NotOurs);
    }
    let index = senders
        .index_of(&message.sender)
        .ok_or(CeremonyError::NotOurs)?;
    let member = senders.get(index).ok_or(CeremonyError::NotOurs)?;
    message
        .verify(&member.name, &member.signing_key)
        .map_err(CeremonyError::NotAuthentic)?;
    if message.signers().count() != 1 {
        return Err(CeremonyError::NotAuthentic(StatementError::Unsorted(
            "keygen-message",
        )));
    }
    Ok((index, message))
}

/// Signs a message of a session.
pub(crate) fn sign_message(
    identity: &NodeIdentity,
    session: &SessionId,
    round: u32,
    receiver: &str,
    payload: Vec<u8>,
) -> Authentic {
    let message = pb::CeremonyMessage {
        session: session.to_vec(),
        round,
        sender: identity.name.clone(),
        receiver: receiver.to_owned(),
        payload,
    };
    Signed::sign(message, &[(&identity.name, &identity.signing_key)])
}

/// HPKE info and associated data of a private message.
pub(crate) fn channel(session: &SessionId, sender: &str, receiver: &str) -> (Vec<u8>, Vec<u8>) {
    let mut info = label("channel");
    info.extend_from_slice(session.as_bytes());
    let mut aad = Vec::new();
    push_lp(&mut aad, sender.as_bytes());
    push_lp(&mut aad, receiver.as_bytes());
    (info, aad)
}

/// Digest of all broadcast messages of a round in the order of node index: what nodes echo to one another.
pub(crate) fn echo_of<'a>(
    session: &SessionId,
    messages: impl Iterator<Item = &'a Authentic>,
) -> Digest {
    let digests: Vec<u8> = messages
        .flat_map(|message| *message.digest().as_bytes())
        .collect();
    hash("keygen-echo", &[session.as_bytes(), &digests])
}

/// Encodes a message whose bytes are wiped by the caller.
pub(crate) fn encode(message: &impl prost::Message) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(message.encode_to_vec())
}
