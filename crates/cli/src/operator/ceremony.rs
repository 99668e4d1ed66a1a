//! Key generation among the escrow nodes: drafted, signed by the root, carried from node to node. Every answer is kept in a
//! folder before the next is asked for, so that a ceremony that was interrupted goes on where it stood.

use core::time::Duration;
use std::path::{Path, PathBuf};

use greffe_api::escrow::{AdvanceKeygenRequest, AdvanceKeygenResponse};
use greffe_envelope::ceremony::{CeremonyError, Conclusion, Plan};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::Bundle;
use greffe_policy::Pack;
use greffe_types::{Digest, Millis};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::network::Network;
use super::{file, random};
use crate::fail::{Failure, Result, chain};
use crate::layout::{private_folder, write_whole};

/// Rounds of messages; after the last the nodes sign the result.
pub(crate) const ROUNDS: u32 = 3;
/// The descriptor that the root signed.
const DESCRIPTOR: &str = "descriptor.bin";
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

/// A ceremony and the folder of what was said in it. Nothing in it is secret: what nodes tell one another in confidence is
/// encrypted to their own keys.
pub(crate) struct Ceremony {
    folder: PathBuf,
    descriptor: Signed<pb::KeygenDescriptor>,
}

impl Ceremony {
    /// Begins one in a folder that has none yet, or goes on with the same one.
    pub(crate) fn begin(folder: &Path, descriptor: &pb::SignedStatement) -> Result<Self> {
        private_folder(folder)?;
        let path = folder.join(DESCRIPTOR);
        if path.exists() {
            let known = Self::open(folder)?;
            if known.descriptor.raw() != descriptor {
                return Err(Failure::refused(
                    "CEREMONY_OTHER",
                    format_args!(
                        "{} is the folder of another ceremony: name a new one, or go on without a descriptor",
                        folder.display()
                    ),
                ));
            }
            return Ok(known);
        }
        file::write(&path, descriptor)?;
        Self::open(folder)
    }

    /// One that was begun.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(DESCRIPTOR);
        if !path.is_file() {
            return Err(Failure::usage(
                "CEREMONY_NOT_FOUND",
                format_args!(
                    "no ceremony was begun in {}: name the signed descriptor with `greffe operator ceremony start`",
                    folder.display()
                ),
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            descriptor: file::read_as(&path)?,
        })
    }

    /// What is to be made.
    pub(crate) fn descriptor(&self) -> &pb::KeygenDescriptor {
        self.descriptor.message()
    }

    /// How many rounds every node has answered, and who has answered in the next one.
    pub(crate) fn progress(&self) -> (u32, Vec<String>) {
        let nodes = &self.descriptor().nodes;
        for round in 0..=ROUNDS {
            let answered = |node: &&String| self.answer_file(round, node).is_file();
            let answered: Vec<String> = nodes.iter().filter(answered).cloned().collect();
            if answered.len() < nodes.len() {
                return (round, answered);
            }
        }
        (ROUNDS + 1, Vec::new())
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
            Some(before) => self.messages(before)?,
            None => Vec::new(),
        };
        for node in &self.descriptor().nodes {
            let path = self.answer_file(round, node);
            if path.is_file() {
                continue;
            }
            let request = AdvanceKeygenRequest {
                descriptor: Some(self.descriptor.raw().clone()),
                round,
                messages: for_node(&messages, node)?,
            };
            let answer = network.advance(node, request).await?;
            write_whole(&path, &answer.encode_to_vec())?;
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
            transcript.extend(self.messages(round)?);
        }
        let last = self.answers(ROUNDS)?;
        let agreed = Conclusion::collect(&plan, &transcript).map_err(failed)?;
        let record = merge::<pb::KeyRecord>(last.iter().map(|a| a.key_record.as_ref()))?;
        agreed
            .check_key_record(&plan, record.message())
            .map_err(failed)?;
        let epoch = merge::<pb::ShareEpoch>(last.iter().map(|a| a.share_epoch.as_ref()))?;
        agreed
            .check_share_epoch(&plan, epoch.message())
            .map_err(failed)?;
        file::write(&self.folder.join(KEY_RECORD), record.raw())?;
        file::write(&self.folder.join(SHARE_EPOCH), epoch.raw())?;
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

    fn answer_file(&self, round: u32, node: &str) -> PathBuf {
        self.folder.join(format!("round-{round}-{node}.bin"))
    }

    fn answers(&self, round: u32) -> Result<Vec<AdvanceKeygenResponse>> {
        let nodes = self.descriptor().nodes.iter();
        let read = |node: &String| {
            let path = self.answer_file(round, node);
            let bytes = std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
            AdvanceKeygenResponse::decode(bytes.as_slice()).map_err(|error| {
                Failure::because(
                    "CEREMONY",
                    format_args!("{} is damaged", path.display()),
                    &error,
                )
            })
        };
        nodes.map(read).collect()
    }

    fn messages(&self, round: u32) -> Result<Vec<pb::SignedStatement>> {
        let answers = self.answers(round)?.into_iter();
        Ok(answers.flat_map(|answer| answer.messages).collect())
    }
}

/// Broadcasts and what is addressed to the node, sorted by sender.
fn for_node(messages: &[pb::SignedStatement], node: &str) -> Result<Vec<pb::SignedStatement>> {
    let mut chosen = Vec::with_capacity(messages.len());
    for message in messages {
        let inner = pb::CeremonyMessage::decode(message.statement.as_slice()).map_err(|error| {
            Failure::because("CEREMONY", "a node sent no ceremony message", &error)
        })?;
        if inner.receiver.is_empty() || inner.receiver == node {
            chosen.push((inner.sender, message.clone()));
        }
    }
    chosen.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(chosen.into_iter().map(|(_, message)| message).collect())
}

/// One statement that every node has signed alone, with all of the signatures.
fn merge<'a, M: Statement + Clone>(
    copies: impl Iterator<Item = Option<&'a pb::SignedStatement>>,
) -> Result<Signed<M>> {
    let differ = || {
        Failure::refused(
            "CEREMONY",
            format_args!(
                "the nodes did not all sign the same {}: begin a new ceremony",
                M::TYPE
            ),
        )
    };
    let mut merged: Option<pb::SignedStatement> = None;
    for copy in copies {
        let copy = copy.ok_or_else(differ)?;
        match &mut merged {
            None => merged = Some(copy.clone()),
            Some(merged) if merged.statement == copy.statement => {
                merged.signatures.extend(copy.signatures.iter().cloned());
            }
            Some(_) => return Err(differ()),
        }
    }
    let mut merged = merged.ok_or_else(differ)?;
    merged.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    Signed::decode(merged)
        .map_err(|error| Failure::because("CEREMONY", "a node's statement is refused", &error))
}
