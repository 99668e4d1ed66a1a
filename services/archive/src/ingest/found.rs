//! What the databases know of a batch's new entries: asked once for all of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use greffe_types::Digest;

use super::entry::{Entry, Kind, Message};
use super::judge::Known;
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::kem_uses::{self, KemUse};
use crate::store::{attachments, keys};

/// Answers for every entry that was asked for.
pub(super) struct Found {
    /// Envelopes and commits that are archived.
    archived: HashSet<Digest>,
    /// Complete attachments.
    sizes: HashMap<Digest, u64>,
    /// ML-KEM ciphertexts that were used.
    used: HashSet<KemUse>,
}

impl Found {
    /// Asks for entries whose numbers have no record.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn of<'a>(
        app: &App,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<Self, ArchiveError> {
        let (mut subjects, mut attached) = (BTreeSet::new(), BTreeSet::new());
        let mut uses = HashSet::new();
        for entry in entries {
            subjects.insert(entry.subject);
            if let Kind::Message(message) = &entry.kind {
                attached.extend(attachments_of(message).flatten());
                uses.extend(uses_of(message));
            }
        }
        let subjects: Vec<Digest> = subjects.into_iter().collect();
        let attached: Vec<Digest> = attached.into_iter().collect();
        let (mut db, scope) = (app.db.read().acquire().await?, &app.scope);
        Ok(Self {
            archived: keys::known(&mut db, scope, &subjects).await?,
            sizes: attachments::sizes(&mut db, scope, &attached).await?,
            used: kem_uses::used(&mut db, scope, &uses).await?,
        })
    }

    /// What was found of one of them.
    pub(super) fn known(&self, entry: &Entry) -> Known {
        let mut known = Known {
            duplicate: self.archived.contains(&entry.subject),
            ..Known::default()
        };
        if let Kind::Message(message) = &entry.kind {
            known.attachments = attachments_of(message)
                .map(|attachment| self.sizes.get(&attachment?).copied())
                .collect();
            known.kem = uses_of(message).collect();
            known.kem_used = known.kem.iter().any(|used| self.used.contains(used));
        }
        known
    }
}

/// The attachments that a message's header names, in its order; none for what is no name.
fn attachments_of(message: &Message) -> impl Iterator<Item = Option<Digest>> {
    let named = message.envelope.header().message().attachments.iter();
    named.map(|named| Digest::try_from(named.digest.as_slice()).ok())
}

/// What has to be unique of a message's wraps; a malformed wrap is refused by its own rule.
fn uses_of(message: &Message) -> impl Iterator<Item = KemUse> {
    message.wraps.iter().filter_map(|wrap| {
        let view = greffe_envelope::wrap::WrapView::parse(&wrap.sealed).ok()?;
        Some(KemUse {
            key_tenant: wrap.tenant.clone(),
            key_id: wrap.key_id.clone(),
            ciphertext: view.mlkem_digest(),
        })
    })
}
