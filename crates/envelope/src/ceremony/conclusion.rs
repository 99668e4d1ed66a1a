//! What a key generation arrived at, as every node and the coordinator see it, and the statements that follow from it.

use greffe_types::Digest;

use super::epoch::{ShareHolders, public_point};
use super::error::{CeremonyError, Fault};
use super::members::{Authentic, authenticate, echo_of};
use super::plan::Plan;
use super::poly::PointBytes;
use super::share::key_id;
use crate::label::hash;
use crate::opening::PUBLIC_KEY_SIZE;
use crate::pb;
use crate::statement::{Signed, decode_strict};

/// The public result of a key generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    pub(crate) public_key: [u8; PUBLIC_KEY_SIZE],
    pub(crate) verification_shares: Vec<PointBytes>,
    pub(crate) echo: Digest,
}

impl Conclusion {
    /// The coordinator's check: every node has signed the same result over the same first round.
    ///
    /// Takes messages in any order; the coordinator trusts none of them and cannot change what they say.
    ///
    /// # Errors
    /// When a message is missing, not authentic, or the results differ.
    pub fn collect(plan: &Plan, messages: &[pb::SignedStatement]) -> Result<Self, CeremonyError> {
        let count = usize::from(plan.members.count());
        let mut first: Vec<Option<Authentic>> = vec![None; count];
        let mut results: Vec<Option<Self>> = vec![None; count];
        for raw in messages {
            let (index, message) = authenticate(raw.clone(), &plan.session, &plan.members)?;
            let at = usize::from(index) - 1;
            match message.round {
                1 => put(&mut first[at], message.clone(), &message.sender)?,
                3 => {
                    let result = Self::decode(&message.payload, plan)
                        .map_err(|fault| CeremonyError::blame(&message.sender, fault))?;
                    put(&mut results[at], result, &message.sender)?;
                }
                _ => {}
            }
        }
        let missing = |at: usize| CeremonyError::Missing(plan.members.name(at as u16 + 1).into());
        let complete = |at: usize| first[at].is_some() && results[at].is_some();
        if let Some(at) = (0..count).find(|at| !complete(*at)) {
            return Err(missing(at));
        }
        let echo = echo_of(&plan.session, first.iter().flatten());
        let agreed = results[0].clone().ok_or_else(|| missing(0))?;
        for (result, (_, member)) in results.iter().flatten().zip(plan.members.iter()) {
            if result.echo != echo || *result != agreed {
                return Err(CeremonyError::Split {
                    reporter: member.name.clone(),
                });
            }
        }
        Ok(agreed)
    }

    /// Id of the key.
    pub fn key_id(&self, plan: &Plan) -> Digest {
        key_id(&plan.descriptor.tenant, &self.public_key)
    }

    /// The key record for the root and every node to sign. Notices are the texts that disclose the key.
    pub fn key_record(&self, plan: &Plan, notices: Vec<pb::NoticeRef>) -> pb::KeyRecord {
        let d = &plan.descriptor;
        let mut committee = d.nodes.clone();
        committee.sort();
        pb::KeyRecord {
            tenant: d.tenant.clone(),
            key_id: self.key_id(plan).to_vec(),
            period: d.period.clone(),
            not_before: d.not_before,
            not_after: d.not_after,
            kem: 0x0050,
            public_key: self.public_key.to_vec(),
            t_min: d.threshold,
            committee,
            notices,
            purpose: d.purpose.clone(),
            transcript: self.transcript(plan).to_vec(),
        }
    }

    /// The first share epoch, for every node to sign.
    pub fn share_epoch(&self, plan: &Plan) -> pb::ShareEpoch {
        pb::ShareEpoch {
            tenant: plan.descriptor.tenant.clone(),
            key_id: self.key_id(plan).to_vec(),
            epoch: 1,
            previous: vec![0; 32],
            threshold: plan.descriptor.threshold,
            holders: plan
                .members
                .iter()
                .zip(&self.verification_shares)
                .map(|((index, member), share)| pb::ShareHolder {
                    index: u32::from(index),
                    node: member.name.clone(),
                    verification_share: share.to_vec(),
                })
                .collect(),
        }
    }

    /// Digest of the transcript: descriptor, first round and result.
    pub fn transcript(&self, plan: &Plan) -> Digest {
        let shares = self.verification_shares.concat();
        hash(
            "keygen-transcript",
            &[
                plan.digest.as_bytes(),
                self.echo.as_bytes(),
                &self.public_key,
                &shares,
            ],
        )
    }

    /// What a node checks before it signs a key record: that it is this ceremony's, whatever its notices say.
    ///
    /// # Errors
    /// When it differs in anything else.
    pub fn check_key_record(
        &self,
        plan: &Plan,
        record: &pb::KeyRecord,
    ) -> Result<(), CeremonyError> {
        if *record == self.key_record(plan, record.notices.clone()) {
            Ok(())
        } else {
            Err(CeremonyError::Differs("key record"))
        }
    }

    /// What a node checks before it signs the first share epoch.
    ///
    /// # Errors
    /// When it differs from the ceremony's.
    pub fn check_share_epoch(
        &self,
        plan: &Plan,
        epoch: &pb::ShareEpoch,
    ) -> Result<(), CeremonyError> {
        if *epoch == self.share_epoch(plan) {
            Ok(())
        } else {
            Err(CeremonyError::Differs("share epoch"))
        }
    }

    /// That the verification shares lie on one polynomial of the right degree behind the public key.
    pub(crate) fn check_consistent(&self, plan: &Plan) -> Result<Digest, Fault> {
        let record = self.key_record(plan, Vec::new());
        let epoch = Signed::sign(self.share_epoch(plan), &[]);
        ShareHolders::check(&epoch, &record)
            .map(|holders| holders.digest())
            .map_err(Fault::Epoch)
    }

    pub(crate) fn encode(&self) -> pb::CeremonyRound3 {
        pb::CeremonyRound3 {
            public_key: self.public_key.to_vec(),
            verification_shares: self
                .verification_shares
                .iter()
                .map(|share| share.to_vec())
                .collect(),
            echo: self.echo.to_vec(),
        }
    }

    pub(crate) fn decode(payload: &[u8], plan: &Plan) -> Result<Self, Fault> {
        let round: pb::CeremonyRound3 =
            decode_strict("keygen-round-3", payload).map_err(|_| Fault::Malformed)?;
        if round.verification_shares.len() != usize::from(plan.members.count()) {
            return Err(Fault::Malformed);
        }
        public_point(&round.public_key).map_err(Fault::Epoch)?;
        let share = |bytes: &Vec<u8>| PointBytes::try_from(bytes.as_slice());
        Ok(Self {
            public_key: round
                .public_key
                .as_slice()
                .try_into()
                .map_err(|_| Fault::Malformed)?,
            verification_shares: round
                .verification_shares
                .iter()
                .map(share)
                .collect::<Result<_, _>>()
                .map_err(|_| Fault::Malformed)?,
            echo: Digest::try_from(round.echo.as_slice()).map_err(|_| Fault::Malformed)?,
        })
    }
}

/// Puts a message in its place; the same one twice is fine, another one is the sender's fault.
fn put<T: PartialEq>(place: &mut Option<T>, value: T, sender: &str) -> Result<(), CeremonyError> {
    match place {
        Some(other) if *other != value => Err(CeremonyError::blame(sender, Fault::Equivocation)),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}
