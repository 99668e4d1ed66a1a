//! Journaling key records and share epochs: nobody alone can publish a key, no node can be left out silently.

use greffe_types::Digest;

use super::{Bundle, RootKey, TrustError, require};
use crate::curve::{Point, Scalar};
use crate::limits::MAX_HOLDERS;
use crate::pb;
use crate::statement::Signed;
use crate::wrap::JournalKey;

/// A share epoch that was verified.
#[derive(Clone, Debug)]
pub struct VerifiedEpoch {
    digest: Digest,
    message: pb::ShareEpoch,
    points: Vec<Point>,
}

impl VerifiedEpoch {
    /// SHA-256 of the statement's bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its fields.
    pub const fn message(&self) -> &pb::ShareEpoch {
        &self.message
    }

    /// How many answers open a record.
    pub const fn threshold(&self) -> usize {
        self.message.threshold as usize
    }

    /// Index, node and verification share of every holder.
    pub fn holders(&self) -> impl Iterator<Item = (u32, &str, Point)> {
        let holders = self.message.holders.iter().zip(&self.points);
        holders.map(|(holder, point)| (holder.index, holder.node.as_str(), *point))
    }
}

/// Verifies a journaling key record: signed by the root **and** by every node of the committee that made the key, its id
/// recomputed. Nodes that have left are found in older bundles, so several may be given, each verified by the caller.
///
/// # Errors
/// [`TrustError`].
pub fn verify_key_record(
    record: &Signed<pb::KeyRecord>,
    root: &RootKey,
    bundles: &[&Bundle],
) -> Result<JournalKey, TrustError> {
    root.verify(record)?;
    if record.tenant != root.tenant().as_str() {
        return Err(TrustError::Mismatch("tenant"));
    }
    require(record.not_before < record.not_after, "not_before")?;
    require(!record.period.is_empty(), "period")?;
    require(record.transcript.len() == 32, "transcript")?;
    require(
        !record.notices.is_empty() && record.notices.iter().all(|n| n.digest.len() == 32),
        "notices",
    )?;
    let committee = &record.committee;
    let t_min = record.t_min as usize;
    require(
        !committee.is_empty() && committee.is_sorted_by(|a, b| a < b),
        "committee",
    )?;
    require((1..=committee.len()).contains(&t_min), "t_min")?;
    // One node alone could read everything: only a development identity may have that.
    let development = bundles.iter().any(|bundle| bundle.message().development);
    require(t_min >= 2 || development, "t_min")?;
    for node in committee {
        verify_by_node(record, node, bundles)?;
    }
    Ok(JournalKey::from_record(record)?)
}

/// Verifies a share epoch: signed by all of its holders and by `threshold` holders of the epoch before; its verification
/// shares lie on one polynomial of degree exactly threshold - 1 whose constant term is the P-256 half of the key.
///
/// `previous` is the epoch before, none for the first.
///
/// # Errors
/// [`TrustError`].
pub fn verify_share_epoch(
    epoch: &Signed<pb::ShareEpoch>,
    record: &pb::KeyRecord,
    key: &JournalKey,
    previous: Option<&VerifiedEpoch>,
    bundles: &[&Bundle],
) -> Result<VerifiedEpoch, TrustError> {
    if epoch.tenant != record.tenant
        || epoch.key_id != record.key_id
        || epoch.key_id != key.key_id().as_bytes()
    {
        return Err(TrustError::Mismatch("journaling key"));
    }
    let (number, digest) = previous.map_or((0, Digest::ZERO), |p| (p.message.epoch, p.digest));
    if Some(epoch.epoch) != number.checked_add(1) || epoch.previous != digest.as_bytes() {
        return Err(TrustError::Version {
            known: number,
            found: epoch.epoch,
        });
    }
    require(epoch.threshold >= record.t_min.max(1), "threshold")?;
    let holders = &epoch.holders;
    require(
        (epoch.threshold as usize..=MAX_HOLDERS).contains(&holders.len())
            && holders
                .iter()
                .zip(1..)
                .all(|(holder, index)| holder.index == index),
        "holders",
    )?;
    for (i, holder) in holders.iter().enumerate() {
        require(
            holders[..i].iter().all(|other| other.node != holder.node),
            "holders.node",
        )?;
        verify_by_node(epoch, &holder.node, bundles)?;
    }
    if let Some(previous) = previous {
        let signed = previous.message.holders.iter();
        let found = signed
            .filter(|holder| verify_by_node(epoch, &holder.node, bundles).is_ok())
            .count();
        if found < previous.threshold() {
            return Err(TrustError::Quorum {
                needed: previous.threshold(),
                found,
            });
        }
    }
    let points = check_polynomial(epoch, key.point())?;
    Ok(VerifiedEpoch {
        digest: epoch.digest(),
        message: epoch.message().clone(),
        points,
    })
}

/// The verification shares, when they are consistent.
fn check_polynomial(epoch: &pb::ShareEpoch, constant: Point) -> Result<Vec<Point>, TrustError> {
    let points = epoch
        .holders
        .iter()
        .map(|holder| Point::from_compressed(&holder.verification_share))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TrustError::Field("holders.verification_share"))?;
    let indices: Vec<u32> = epoch.holders.iter().map(|holder| holder.index).collect();
    let t = epoch.threshold as usize;
    let (base, basis) = (&points[..t], &indices[..t]);
    let at = |x: u32| interpolate(base, basis, x);
    let on_one_polynomial = at(0) == constant
        && points[t..]
            .iter()
            .zip(&indices[t..])
            .all(|(point, index)| at(*index) == *point);
    // The leading coefficient: were it zero, fewer answers than the threshold would do.
    let leading: Vec<_> = base
        .iter()
        .zip(basis)
        .map(|(point, i)| (*point, weight(basis, *i, None)))
        .collect();
    if !on_one_polynomial || Point::lincomb_vartime(&leading).is_identity() {
        return Err(TrustError::Shares);
    }
    Ok(points)
}

/// The value at `x` of the polynomial through the points, in the exponent.
fn interpolate(points: &[Point], indices: &[u32], x: u32) -> Point {
    let terms: Vec<_> = points
        .iter()
        .zip(indices)
        .map(|(point, i)| (*point, weight(indices, *i, Some(x))))
        .collect();
    Point::lincomb_vartime(&terms)
}

/// `prod (x - j) / prod (i - j)` over the other indices; without `x` the numerator is one.
fn weight(indices: &[u32], i: u32, x: Option<u32>) -> Scalar {
    let of = |n: u32| Scalar::from_u64(n.into());
    let (mut up, mut down) = (Scalar::ONE, Scalar::ONE);
    for j in indices.iter().filter(|j| **j != i) {
        if let Some(x) = x {
            up = up * (of(x) - of(*j));
        }
        down = down * (of(i) - of(*j));
    }
    up * down.invert().expect("indices are different and small")
}

/// Whether a node's key in any of the bundles verifies.
fn verify_by_node<M: crate::statement::Statement>(
    signed: &Signed<M>,
    node: &str,
    bundles: &[&Bundle],
) -> Result<(), TrustError> {
    let mut last = TrustError::Unknown("node", node.to_owned());
    for bundle in bundles {
        match bundle.verify_node(signed, node) {
            Ok(()) => return Ok(()),
            Err(TrustError::Unknown(..)) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
