//! What a resharing is to do: the root's descriptor, checked against the key and the epoch that is left.

use greffe_types::{Digest, Millis, SessionId};

use crate::ceremony::epoch::{check_threshold, public_point};
use crate::ceremony::poly::{PointBytes, evaluate_commitments, lagrange};
use crate::ceremony::{CeremonyError, Fault, Members, ShareHolders};
use crate::curve::{Point, Scalar};
use crate::opening::PUBLIC_KEY_SIZE;
use crate::pb;
use crate::statement::Signed;

/// A resharing that the root has asked for, checked.
#[derive(Debug, Clone)]
pub struct ResharePlan {
    pub(crate) record: pb::KeyRecord,
    pub(crate) public_key: [u8; PUBLIC_KEY_SIZE],
    pub(crate) session: SessionId,
    pub(crate) previous: ShareHolders,
    /// Threshold of the new epoch.
    pub(crate) threshold: u16,
    /// New holders by new index.
    pub(crate) receivers: Members,
    /// Old index, name, old verification share and Lagrange coefficient of each dealer.
    pub(crate) dealers: Vec<Dealer>,
    /// Everybody who may send: dealers, then new holders who are not dealers.
    pub(crate) senders: Members,
}

/// A holder of the old epoch who deals its share out.
#[derive(Debug, Clone)]
pub(crate) struct Dealer {
    pub(crate) index: u16,
    pub(crate) name: String,
    pub(crate) verification_share: Point,
    pub(crate) weight: Scalar,
}

impl ResharePlan {
    /// Checks a descriptor: the root's signature, key, epoch, threshold (never below the key's t_min), dealers, expiry.
    ///
    /// # Errors
    /// When any of them is wrong.
    pub fn check(
        descriptor: &Signed<pb::ReshareDescriptor>,
        root_key: &[u8],
        record: &pb::KeyRecord,
        previous: &ShareHolders,
        bundle: &pb::TrustBundle,
        now: Millis,
    ) -> Result<Self, CeremonyError> {
        descriptor
            .verify("root", root_key)
            .map_err(CeremonyError::Descriptor)?;
        let d = descriptor.message();
        if d.tenant != record.tenant || d.tenant != bundle.tenant || d.tenant != previous.tenant() {
            return Err(CeremonyError::Field("tenant"));
        }
        if d.key_id != record.key_id || d.key_id != previous.key_id().as_bytes() {
            return Err(CeremonyError::Field("key"));
        }
        if d.previous != previous.digest().as_bytes() {
            return Err(CeremonyError::Field("previous epoch"));
        }
        if d.expiry <= now.get() {
            return Err(CeremonyError::Field("expiry"));
        }
        let session = SessionId::try_from(d.session.as_slice())
            .map_err(|_| CeremonyError::Field("session"))?;
        public_point(&record.public_key).map_err(CeremonyError::Threshold)?;
        let public_key = record
            .public_key
            .as_slice()
            .try_into()
            .map_err(|_| CeremonyError::Field("key"))?;
        let receivers = Members::from_bundle(&d.nodes, bundle)?;
        let threshold = check_threshold(d.threshold, record.t_min, d.nodes.len())
            .map_err(CeremonyError::Threshold)?;
        let dealers = dealers(&d.dealers, previous)?;
        let mut names: Vec<String> = dealers.iter().map(|dealer| dealer.name.clone()).collect();
        names.extend(d.nodes.iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(Self {
            record: record.clone(),
            public_key,
            session,
            previous: previous.clone(),
            threshold,
            senders: Members::from_bundle(&names, bundle)?,
            receivers,
            dealers,
        })
    }

    /// The session.
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The new holders.
    pub const fn receivers(&self) -> &Members {
        &self.receivers
    }

    /// Whether a node deals its old share out.
    pub fn is_dealer(&self, node: &str) -> bool {
        self.dealers.iter().any(|dealer| dealer.name == node)
    }

    /// The new share epoch, for all new holders and t of the old to sign.
    pub(crate) fn share_epoch(&self, verification_shares: &[PointBytes]) -> pb::ShareEpoch {
        pb::ShareEpoch {
            tenant: self.record.tenant.clone(),
            key_id: self.record.key_id.clone(),
            epoch: self.previous.epoch() + 1,
            previous: self.previous.digest().to_vec(),
            threshold: u32::from(self.threshold),
            holders: self
                .receivers
                .iter()
                .zip(verification_shares)
                .map(|((index, member), share)| pb::ShareHolder {
                    index: u32::from(index),
                    node: member.name.clone(),
                    verification_share: share.to_vec(),
                })
                .collect(),
        }
    }

    /// The new verification shares that the dealers' commitments lead to, checked to be the key's.
    pub(crate) fn verification_shares(
        &self,
        commitments: &[Vec<Point>],
    ) -> Result<(Vec<PointBytes>, Digest), Fault> {
        let mut shares = Vec::new();
        for (index, _) in self.receivers.iter() {
            let terms: Vec<(Point, Scalar)> = self
                .dealers
                .iter()
                .zip(commitments)
                .map(|(dealer, own)| (evaluate_commitments(own, index), dealer.weight))
                .collect();
            let share = Point::lincomb_vartime(&terms).to_compressed();
            shares.push(share.map_err(|_| Fault::Malformed)?);
        }
        let epoch = Signed::sign(self.share_epoch(&shares), &[]);
        let holders = ShareHolders::check(&epoch, &self.record).map_err(Fault::Epoch)?;
        Ok((shares, holders.digest()))
    }
}

/// Looks the dealers up in the old epoch: sorted, unique, at least as many as its threshold.
fn dealers(indices: &[u32], previous: &ShareHolders) -> Result<Vec<Dealer>, CeremonyError> {
    let refused = CeremonyError::Field("list of dealers");
    let sorted = indices.is_sorted_by(|a, b| a < b);
    if !sorted || indices.len() < usize::from(previous.threshold()) {
        return Err(refused);
    }
    let mut dealers = Vec::with_capacity(indices.len());
    for wanted in indices {
        let holders = previous.holders();
        let Some(holder) = holders.iter().find(|h| u32::from(h.index) == *wanted) else {
            return Err(refused);
        };
        let Ok(verification_share) = Point::from_compressed(&holder.verification_share) else {
            return Err(refused);
        };
        dealers.push(Dealer {
            index: holder.index,
            name: holder.node.clone(),
            verification_share,
            weight: Scalar::ZERO,
        });
    }
    let indices: Vec<u16> = dealers.iter().map(|dealer| dealer.index).collect();
    let weights = lagrange(&indices, 0).ok_or(refused)?;
    for (dealer, weight) in dealers.iter_mut().zip(weights) {
        dealer.weight = weight;
    }
    Ok(dealers)
}
