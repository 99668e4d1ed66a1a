//! Resharing a journaling key: drafted from what is in force, signed by the root, carried from node to node, kept in a folder as
//! a key generation is.

use std::path::Path;

use greffe_api::escrow::{AdvanceReshareRequest, AdvanceReshareResponse};
use greffe_envelope::ceremony::ShareHolders;
use greffe_envelope::pb;
use greffe_envelope::reshare::ResharePlan;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Applied, TrustState};
use greffe_types::{Digest, Millis};

use super::ceremony::{KEY_RECORD, SHARE_EPOCH};
use super::network::Network;
use super::transcript::{self, Answer, ROUNDS, Transcript, for_node, merge};
use super::{file, random};
use crate::fail::{Failure, Result, chain};

/// The share epoch that is left.
pub(crate) const PREVIOUS: &str = "share-epoch-before.bin";

/// What a resharing is to do; what is not said stays as it is in force.
pub(crate) struct Wanted<'a> {
    /// The tenant's trust.
    pub(crate) trust: &'a TrustState,
    /// The journaling key.
    pub(crate) key_id: Digest,
    /// How many answers are to open a record.
    pub(crate) threshold: Option<u32>,
    /// Who is to hold shares, in the order of the new indices.
    pub(crate) nodes: Vec<String>,
    /// Who deals.
    pub(crate) dealers: Vec<String>,
    /// First instant at which nodes take no part any more.
    pub(crate) expiry: Millis,
}

/// A descriptor to be signed, and the statements that it is judged by.
pub(crate) struct Drafted {
    /// For the root to sign.
    pub(crate) descriptor: pb::ReshareDescriptor,
    /// The key's record.
    pub(crate) record: Signed<pb::KeyRecord>,
    /// The share epoch that is left.
    pub(crate) previous: Signed<pb::ShareEpoch>,
}

/// The descriptor, for the root to sign.
pub(crate) fn descriptor(wanted: Wanted<'_>) -> Result<Drafted> {
    let (record, previous) = in_force(wanted.trust, &wanted.key_id)?;
    let bundle = wanted.trust.bundle();
    let nodes = if wanted.nodes.is_empty() {
        let nodes = bundle.message().nodes.iter();
        nodes.map(|node| node.name.clone()).collect()
    } else {
        wanted.nodes
    };
    // A node that was replaced has the name, and not the share: it has not signed the epoch with the key of the bundle in force.
    let can_deal = |holder: &&pb::ShareHolder| {
        if wanted.dealers.is_empty() {
            bundle.verify_node(&previous, &holder.node).is_ok()
        } else {
            wanted.dealers.contains(&holder.node)
        }
    };
    let dealers: Vec<&pb::ShareHolder> = previous.holders.iter().filter(can_deal).collect();
    if let Some(stranger) = wanted
        .dealers
        .iter()
        .find(|name| dealers.iter().all(|holder| holder.node != **name))
    {
        return Err(Failure::usage(
            "NO_HOLDER",
            format_args!(
                "{stranger:?} holds no share of the key to deal out: name holders of its share epoch, {}",
                names(&previous)
            ),
        ));
    }
    let descriptor = pb::ReshareDescriptor {
        tenant: record.tenant.clone(),
        session: random::<16>()?.to_vec(),
        key_id: record.key_id.clone(),
        previous: previous.digest().to_vec(),
        threshold: wanted.threshold.unwrap_or(previous.threshold),
        nodes,
        dealers: dealers.iter().map(|holder| holder.index).collect(),
        expiry: wanted.expiry.get(),
    };
    Ok(Drafted {
        descriptor,
        record,
        previous,
    })
}

fn names(epoch: &pb::ShareEpoch) -> String {
    let names: Vec<&str> = epoch.holders.iter().map(|h| h.node.as_str()).collect();
    names.join(", ")
}

/// Record and share epoch in force of a key that can be shared anew.
fn in_force(
    trust: &TrustState,
    key_id: &Digest,
) -> Result<(Signed<pb::KeyRecord>, Signed<pb::ShareEpoch>)> {
    if trust.retirement(key_id).is_some() {
        return Err(Failure::refused(
            "KEY_RETIRED",
            format_args!("the key {key_id} is retired, and its shares are destroyed"),
        ));
    }
    let (record, epoch) = trust
        .key_record(key_id)
        .zip(trust.share_epoch_statement(key_id))
        .ok_or_else(|| {
            Failure::usage(
                "KEY_UNKNOWN",
                format_args!("no disclosure names the key {key_id}: see `greffe operator nodes`"),
            )
        })?;
    Ok((record.clone(), epoch.clone()))
}

/// What the nodes made.
pub(crate) struct Made {
    /// The new share epoch, signed by everybody who took part.
    pub(crate) epoch: Signed<pb::ShareEpoch>,
}

/// A resharing and what was said in it.
pub(crate) struct Resharing {
    descriptor: Signed<pb::ReshareDescriptor>,
    record: Signed<pb::KeyRecord>,
    previous: Signed<pb::ShareEpoch>,
    said: Transcript,
}

impl Answer for AdvanceReshareResponse {
    fn messages(self) -> Vec<pb::SignedStatement> {
        self.messages
    }
}

impl Resharing {
    /// Begins one in a folder that has none yet, or goes on with the same one.
    pub(crate) fn begin(
        folder: &Path,
        descriptor: &pb::SignedStatement,
        trust: &TrustState,
    ) -> Result<Self> {
        let asked = decode(descriptor.clone())?;
        transcript::begin(folder, descriptor)?;
        if !folder.join(PREVIOUS).is_file() {
            let key_id = Digest::try_from(asked.key_id.as_slice()).map_err(|_| other_epoch())?;
            let (record, previous) = in_force(trust, &key_id)?;
            if asked.previous != previous.digest().as_bytes() {
                return Err(other_epoch());
            }
            file::write(&folder.join(KEY_RECORD), record.raw())?;
            file::write(&folder.join(PREVIOUS), previous.raw())?;
        }
        Self::open(folder)
    }

    /// One that was begun.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let descriptor = decode(transcript::descriptor(folder)?)?;
        let record = file::read_as::<pb::KeyRecord>(&folder.join(KEY_RECORD))?;
        let previous = file::read_as::<pb::ShareEpoch>(&folder.join(PREVIOUS))?;
        let dealers = previous.holders.iter();
        let dealers = dealers.filter(|holder| descriptor.dealers.contains(&holder.index));
        let mut nodes: Vec<String> = dealers.map(|holder| holder.node.clone()).collect();
        let others = descriptor.nodes.iter();
        let others: Vec<String> = others.filter(|n| !nodes.contains(n)).cloned().collect();
        nodes.extend(others);
        Ok(Self {
            said: Transcript::new(folder, nodes),
            descriptor,
            record,
            previous,
        })
    }

    /// What is asked for.
    pub(crate) fn descriptor(&self) -> &pb::ReshareDescriptor {
        self.descriptor.message()
    }

    /// Number of the share epoch that is left.
    pub(crate) fn leaves(&self) -> u64 {
        self.previous.epoch
    }

    /// Everybody who takes part: dealers, then new holders who are none.
    pub(crate) fn nodes(&self) -> &[String] {
        self.said.nodes()
    }

    /// How many rounds every node has answered, and who has answered in the next one.
    pub(crate) fn progress(&self) -> (u32, Vec<String>) {
        self.said.progress()
    }

    /// Carries the next round to every node that has not answered it.
    pub(crate) async fn step(
        &self,
        network: &Network,
        trust: &TrustState,
        now: Millis,
    ) -> Result<()> {
        let (round, _) = self.progress();
        if round > ROUNDS {
            return Ok(());
        }
        // A descriptor that does not hold is refused here, and not by a node after others have begun.
        self.check(trust, now)?;
        let messages = match round.checked_sub(1) {
            Some(before) => self.said.messages::<AdvanceReshareResponse>(before)?,
            None => Vec::new(),
        };
        for node in self.said.nodes() {
            if self.said.has(round, node) {
                continue;
            }
            let request = AdvanceReshareRequest {
                descriptor: Some(self.descriptor.raw().clone()),
                round,
                messages: for_node(&messages, node)?,
            };
            let answer = network.reshare(node, request).await?;
            self.said.keep(round, node, &answer)?;
        }
        Ok(())
    }

    /// Carries what is left of a whole resharing.
    pub(crate) async fn run(
        &self,
        network: &Network,
        trust: &TrustState,
        now: Millis,
    ) -> Result<Made> {
        while self.progress().0 <= ROUNDS {
            self.step(network, trust, now).await?;
        }
        self.conclude(trust)
    }

    /// The result, once every node has answered every round: written beside the answers when the log will take it.
    pub(crate) fn conclude(&self, trust: &TrustState) -> Result<Made> {
        let last = self.said.answers::<AdvanceReshareResponse>(ROUNDS)?;
        let epoch = merge::<pb::ShareEpoch>(last.iter().map(|a| a.share_epoch.as_ref()))?;
        match trust.check(epoch.raw()) {
            Ok(Applied::New | Applied::Known) => {}
            Ok(Applied::Other) => return Err(other_epoch()),
            Err(error) => {
                return Err(Failure::because(
                    "CEREMONY",
                    "the share epoch that the nodes signed does not hold, draft a new resharing",
                    &error,
                ));
            }
        }
        file::write(&self.said.folder().join(SHARE_EPOCH), epoch.raw())?;
        Ok(Made { epoch })
    }

    fn check(&self, trust: &TrustState, now: Millis) -> Result<()> {
        if self.descriptor().expiry <= now.get() {
            return Err(Failure::refused(
                "CEREMONY_EXPIRED",
                "nodes take no part in this resharing any more: draft a new one, and have the root sign it",
            ));
        }
        let key_id = Digest::try_from(self.descriptor().key_id.as_slice());
        let in_force = key_id.ok().and_then(|key| trust.share_epoch(&key));
        if in_force.is_none_or(|epoch| epoch.digest() != self.previous.digest()) {
            return Err(other_epoch());
        }
        plan(
            &self.descriptor,
            trust.root().as_bytes(),
            &self.record,
            &self.previous,
            trust.bundle().message(),
            now,
        )
    }
}

/// Whether a descriptor that the root has signed holds, as every node judges it.
pub(crate) fn plan(
    descriptor: &Signed<pb::ReshareDescriptor>,
    root: &[u8],
    record: &Signed<pb::KeyRecord>,
    previous: &Signed<pb::ShareEpoch>,
    bundle: &pb::TrustBundle,
    now: Millis,
) -> Result<()> {
    let refused = |why: String| {
        Failure::refused(
            "CEREMONY_DESCRIPTOR",
            format_args!(
                "the descriptor does not hold ({why}): have it drafted anew from what is in force, and signed by this tenant's root"
            ),
        )
    };
    let holders =
        ShareHolders::check(previous, record.message()).map_err(|e| refused(chain(&e)))?;
    ResharePlan::check(descriptor, root, record.message(), &holders, bundle, now)
        .map(drop)
        .map_err(|error| refused(chain(&error)))
}

fn decode(raw: pb::SignedStatement) -> Result<Signed<pb::ReshareDescriptor>> {
    Signed::decode(raw).map_err(|error| {
        Failure::usage(
            "STATEMENT_FILE",
            format_args!("the descriptor is none of a resharing: {}", chain(&error)),
        )
    })
}

fn other_epoch() -> Failure {
    Failure::refused(
        "CEREMONY_OTHER_EPOCH",
        "the share epoch that this resharing was drafted for is not in force any more: draft a new one, and have the root sign it",
    )
}

/// The key that was named, or the only one that could be meant.
pub(crate) fn choose(trust: &TrustState, named: Option<Digest>) -> Result<Digest> {
    if let Some(named) = named {
        return Ok(named);
    }
    let usable = |key: &&Digest| {
        trust.retirement(key).is_none() && trust.share_epoch_statement(key).is_some()
    };
    let mut keys: Vec<&Digest> = trust.key_ids().filter(usable).collect();
    keys.sort_by_key(|key| trust.key_record(key).map(|record| record.not_before));
    match keys.as_slice() {
        [key] => Ok(**key),
        [] => Err(Failure::refused(
            "KEY_UNKNOWN",
            "no journaling key with shares is disclosed: make one first, as deploy/runbooks/install.md says",
        )),
        several => {
            let named = several.iter().map(|key| {
                let period = trust.key_record(key).map_or("", |record| &record.period);
                format!("{key} (period {period})")
            });
            Err(Failure::usage(
                "KEY_AMBIGUOUS",
                format_args!(
                    "there are {} journaling keys: name one with --key: {}",
                    several.len(),
                    named.collect::<Vec<_>>().join(", ")
                ),
            ))
        }
    }
}
