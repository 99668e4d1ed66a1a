//! What every member and the observer demand of a commit, before it is made and before it is applied.

use mls_rs::MlsRules;
use mls_rs::group::proposal::BorrowedProposal;
use mls_rs::group::{GroupContext, Roster};
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalSource,
};

use crate::Refusal;
use crate::disclosure::Disclosures;
use crate::shape::LAST_RESORT;

/// Members add, remove and change the disclosure, in commits of their own making; nothing else.
///
/// The identity provider judges each leaf; `shape` has judged what this level does not see: the leaf of the update
/// path, capability lists, authenticated data.
#[derive(Clone)]
pub(crate) struct Rules {
    disclosures: Disclosures,
}

impl Rules {
    pub(crate) const fn new(disclosures: Disclosures) -> Self {
        Self { disclosures }
    }
}

impl MlsRules for Rules {
    type Error = Refusal;

    fn filter_proposals(
        &self,
        _direction: CommitDirection,
        source: CommitSource,
        _current_roster: &Roster<'_>,
        current_context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Refusal> {
        if matches!(source, CommitSource::NewMember(_)) {
            return Err(Refusal::NotAMember);
        }
        let current = self.disclosures.of(current_context.extensions())?;
        for info in proposals.iter_proposals() {
            if !matches!(info.source, ProposalSource::ByValue) {
                return Err(Refusal::LooseProposal);
            }
            match info.proposal {
                BorrowedProposal::Add(add) => {
                    if let Some(extension) = add.leaf_node_extensions().first() {
                        return Err(Refusal::Extension {
                            place: "leaf",
                            kind: extension.extension_type.raw_value(),
                        });
                    }
                    for extension in add.key_package_extensions().iter() {
                        let kind = extension.extension_type.raw_value();
                        if kind != LAST_RESORT {
                            return Err(Refusal::Extension {
                                place: "key package",
                                kind,
                            });
                        }
                    }
                }
                BorrowedProposal::Remove(_) => {}
                BorrowedProposal::GroupContextExtensions(extensions) => {
                    let next = self.disclosures.of(extensions)?;
                    self.disclosures.check_change(&current, &next)?;
                }
                other => return Err(Refusal::Proposal(other.proposal_type().raw_value())),
            }
        }
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _new_roster: &Roster<'_>,
        _new_context: &GroupContext,
        _proposals: &ProposalBundle,
    ) -> Result<CommitOptions, Refusal> {
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_ratchet_tree_extension(true)
            .with_single_welcome_message(true)
            .with_allow_external_commit(false))
    }

    fn encryption_options(
        &self,
        _current_roster: &Roster<'_>,
        _current_context: &GroupContext,
    ) -> Result<EncryptionOptions, Refusal> {
        // every plaintext has 33 bytes: padding would hide nothing
        Ok(EncryptionOptions::new(
            false,
            mls_rs::client_builder::PaddingMode::None,
        ))
    }

    fn custom_proposal_requires_update_path(
        &self,
        _proposal: &mls_rs::group::proposal::CustomProposal,
    ) -> bool {
        true
    }
}
