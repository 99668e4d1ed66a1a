//! Key generation among the escrow nodes: drafted, signed by the root, carried from node to node. Every answer is kept in a
//! folder before the next is asked for, so that a ceremony that was interrupted goes on where it stood.

use core::time::Duration;
use std::path::Path;

use greffe_api::escrow::{AdvanceKeygenRequest, AdvanceKeygenResponse};
use greffe_envelope::ceremony::{CeremonyError, Conclusion, Plan};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_policy::Pack;
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

use super::network::Network;
use super::transcript::{self, Answer, ROUNDS, Transcript, for_node, merge};
use super::{file, random};
use crate::fail::{Failure, Result, chain};

/// The key record, signed by every node.
pub(crate) const KEY_RECORD: &str = "key-record.bin";
/// The first share epoch, signed by every node.
pub(crate) const SHARE_EPOCH: &str = "share-epoch.bin";

/// What a key generation is to make.
pub(crate) struct Wanted<'a> {
    /// The bundle whose nodes make it.
    pub(crate) bundle: &'a pb::TrustBundle,
    /// The pack whose notices disclose the key.
    pub(crate) pack: &'a Pack,
    /// Name of the period; none for the month of `not_before`.
    pub(crate) period: Option<String>,
    /// First instant of the key.
    pub(crate) not_before: Millis,
    /// How long the key serves.
    pub(crate) serves: Duration,
    /// How many answers open a record.
    pub(crate) threshold: u32,
    /// First instant at which nodes take no part any more.
    pub(crate) expiry: Millis,
}

/// The descriptor, for the root to sign.
pub(crate) fn descriptor(wanted: Wanted<'_>) -> Result<pb::KeygenDescriptor> {
    let period = match wanted.period {
        Some(period) => period,
        None => month(wanted.not_before)?,
    };
    let notices = wanted
        .pack
        .texts()
        .notices
        .iter()
        .map(|(language, text)| pb::NoticeRef {
            language: language.clone(),
            digest: Sha256::digest(text.as_bytes()).to_vec(),
        });
    let nodes = wanted.bundle.nodes.iter();
    Ok(pb::KeygenDescriptor {
        tenant: wanted.bundle.tenant.clone(),
        session: random::<16>()?.to_vec(),
        period,
        not_before: wanted.not_before.get(),
        not_after: wanted.not_before.plus(wanted.serves).get(),
        threshold: wanted.threshold,
        nodes: nodes.map(|node| node.name.clone()).collect(),
        bundle_version: wanted.bundle.version,
        purpose: wanted.pack.purpose("en").unwrap_or("retention").to_owned(),
        expiry: wanted.expiry.get(),
        notices: notices.collect(),
    })
}

fn month(at: Millis) -> Result<String> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.get()).unwrap_or(i64::MAX))
        .map(|at| at.strftime("%Y-%m").to_string())
        .map_err(|error| {
            Failure::because(
                "CLOCK",
                "the clock stands at no usable date: set it",
                &error,
            )
        })
}

/// What the nodes made.
pub(crate) struct Made {
    /// Id of the key.
    pub(crate) key_id: Digest,
    /// How many answers open a record.
    pub(crate) threshold: u32,
    /// Signed by every node; the root signs it next.
    pub(crate) record: Signed<pb::KeyRecord>,
    /// Signed by every node.
    pub(crate) epoch: Signed<pb::ShareEpoch>,
}

/// A ceremony and what was said in it.
pub(crate) struct Ceremony {
    descriptor: Signed<pb::KeygenDescriptor>,
    said: Transcript,
}

impl Answer for AdvanceKeygenResponse {
    fn messages(self) -> Vec<pb::SignedStatement> {
        self.messages
    }
}

impl Ceremony {
    /// Begins one in a folder that has none yet, or goes on with the same one.
    pub(crate) fn begin(folder: &Path, descriptor: &pb::SignedStatement) -> Result<Self> {
        transcript::begin(folder, descriptor)?;
        Self::open(folder)
    }

    /// One that was begun.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let descriptor = Signed::<pb::KeygenDescriptor>::decode(transcript::descriptor(folder)?)
            .map_err(|error| {
                Failure::usage(
                    "STATEMENT_FILE",
                    format_args!(
                        "the descriptor is none of a key generation: {}",
                        chain(&error)
                    ),
                )
            })?;
        Ok(Self {
            said: Transcript::new(folder, descriptor.nodes.clone()),
            descriptor,
        })
    }

    /// What is to be made.
    pub(crate) fn descriptor(&self) -> &pb::KeygenDescriptor {
        self.descriptor.message()
    }

    /// How many rounds every node has answered, and who has answered in the next one.
    pub(crate) fn progress(&self) -> (u32, Vec<String>) {
        self.said.progress()
    }

    /// Carries the next round to every node that has not answered it.
    pub(crate) async fn step(&self, network: &Network, bundle: &Bundle, now: Millis) -> Result<()> {
        // A descriptor that does not hold is refused here, and not by a node after others have begun.
        self.plan(network, bundle, now)?;
        let (round, _) = self.progress();
        if round > ROUNDS {
            return Ok(());
        }
        let messages = match round.checked_sub(1) {
            Some(before) => self.said.messages::<AdvanceKeygenResponse>(before)?,
            None => Vec::new(),
        };
        for node in &self.descriptor().nodes {
            if self.said.has(round, node) {
                continue;
            }
            let request = AdvanceKeygenRequest {
                descriptor: Some(self.descriptor.raw().clone()),
                round,
                messages: for_node(&messages, node)?,
            };
            let answer = network.advance(node, request).await?;
            self.said.keep(round, node, &answer)?;
        }
        Ok(())
    }

    /// Carries what is left of a whole ceremony; every node ends with the same public result, signed.
    pub(crate) async fn run(
        &self,
        network: &Network,
        bundle: &Bundle,
        now: Millis,
    ) -> Result<Made> {
        while self.progress().0 <= ROUNDS {
            self.step(network, bundle, now).await?;
        }
        self.conclude(network, bundle, now)
    }

    /// The result, once every node has answered every round: written beside the answers.
    pub(crate) fn conclude(&self, network: &Network, bundle: &Bundle, now: Millis) -> Result<Made> {
        let failed = |error: CeremonyError| {
            Failure::because("CEREMONY", "the key generation failed", &error)
        };
        let plan = self.plan(network, bundle, now)?;
        let mut transcript = Vec::new();
        for round in 0..ROUNDS {
            transcript.extend(self.said.messages::<AdvanceKeygenResponse>(round)?);
        }
        let last = self.said.answers::<AdvanceKeygenResponse>(ROUNDS)?;
        let agreed = Conclusion::collect(&plan, &transcript).map_err(failed)?;
        let record = merge::<pb::KeyRecord>(last.iter().map(|a| a.key_record.as_ref()))?;
        agreed
            .check_key_record(&plan, record.message())
            .map_err(failed)?;
        let epoch = merge::<pb::ShareEpoch>(last.iter().map(|a| a.share_epoch.as_ref()))?;
        agreed
            .check_share_epoch(&plan, epoch.message())
            .map_err(failed)?;
        file::write(&self.said.folder().join(KEY_RECORD), record.raw())?;
        file::write(&self.said.folder().join(SHARE_EPOCH), epoch.raw())?;
        Ok(Made {
            key_id: agreed.key_id(&plan),
            threshold: u32::from(plan.threshold()),
            record,
            epoch,
        })
    }

    fn plan(&self, network: &Network, bundle: &Bundle, now: Millis) -> Result<Plan> {
        let descriptor = self.descriptor();
        if descriptor.expiry <= now.get() {
            return Err(Failure::refused(
                "CEREMONY_EXPIRED",
                "nodes take no part in this ceremony any more: draft a new one, and have the root sign it",
            ));
        }
        if descriptor.bundle_version != bundle.version() {
            return Err(Failure::refused(
                "CEREMONY_OTHER_BUNDLE",
                format_args!(
                    "the ceremony is for trust bundle {}, and version {} is in force: draft a new one, and have the root sign it",
                    descriptor.bundle_version,
                    bundle.version()
                ),
            ));
        }
        let root = network.root().as_bytes();
        Plan::check(&self.descriptor, root, bundle.message(), now).map_err(|error| {
            Failure::refused(
                "CEREMONY_DESCRIPTOR",
                format_args!(
                    "the descriptor does not hold ({}): have it drafted anew and signed by this tenant's root",
                    chain(&error)
                ),
            )
        })
    }
}
