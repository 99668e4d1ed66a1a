//! What the root discloses to members: one statement for each mode that the pack allows and this version serves.

use greffe_client::notice::NoticeFacts;
use greffe_envelope::pb;
use greffe_envelope::trust::Bundle;
use greffe_policy::{Mode, Pack};

use crate::fail::Result;

/// What is disclosed.
pub(crate) struct Disclosed<'a> {
    /// The bundle in force.
    pub(crate) bundle: &'a Bundle,
    /// The pack in force.
    pub(crate) pack: &'a Pack,
    /// Record of the journaling key, signed by root and nodes.
    pub(crate) record: &'a pb::SignedStatement,
    /// Its share epoch.
    pub(crate) epoch: &'a pb::ShareEpoch,
    /// Serial: one more than that of the disclosures in force.
    pub(crate) serial: u64,
}

/// The disclosures, for the root to sign.
pub(crate) fn disclosures(disclosed: &Disclosed<'_>) -> Result<Vec<pb::Disclosure>> {
    let modes = [
        (Mode::Journaled, pb::Mode::Journaled),
        (Mode::Private, pb::Mode::Private),
    ];
    let allowed = modes
        .into_iter()
        .filter(|(mode, _)| disclosed.pack.allows(*mode));
    allowed
        .map(|(_, mode)| disclosure(disclosed, mode))
        .collect()
}

fn disclosure(disclosed: &Disclosed<'_>, mode: pb::Mode) -> Result<pb::Disclosure> {
    let (bundle, pack) = (disclosed.bundle, disclosed.pack);
    let journaled = mode != pb::Mode::Private;
    let epochs: Vec<&pb::ShareEpoch> = journaled.then_some(disclosed.epoch).into_iter().collect();
    let facts = NoticeFacts::new(bundle, mode, &epochs, &bundle.message().contact)?;
    Ok(pb::Disclosure {
        tenants: vec![bundle.tenant().to_string()],
        mode: mode.into(),
        key_records: journaled
            .then(|| disclosed.record.clone())
            .into_iter()
            .collect(),
        policy_id: pack.id().to_owned(),
        policy_digest: pack.digest().to_vec(),
        notices: facts.references(pack)?,
        serial: disclosed.serial,
        standing_order: Vec::new(),
    })
}
