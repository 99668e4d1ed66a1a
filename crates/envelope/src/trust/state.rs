//! What one tenant's pinned root has vouched for so far: statements taken in, in the order in which the log has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greffe_types::{Digest, Millis};

use super::{
    Bundle, RootKey, Trust, TrustError, VerifiedDisclosure, VerifiedEpoch, verify_device_cert,
    verify_disclosure, verify_key_record, verify_key_retirement, verify_share_epoch,
};
use crate::pb;
use crate::statement::{Signed, Statement as _};
use crate::wrap::JournalKey;

/// What a statement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is in force from now on.
    New,
    /// The same bytes were taken in before.
    Known,
    /// Not a kind that this state keeps.
    Other,
}

/// A key record with the key it publishes.
#[derive(Debug, Clone)]
struct Record {
    signed: Signed<pb::KeyRecord>,
    key: JournalKey,
}

/// A share epoch with the statement it was verified from.
#[derive(Debug, Clone)]
struct Epoch {
    signed: Signed<pb::ShareEpoch>,
    verified: VerifiedEpoch,
}

/// Everything a verified statement adds.
#[derive(Debug)]
enum Change {
    Bundle(Arc<Bundle>),
    Record(Box<Record>),
    Epoch(Box<Epoch>),
    Disclosure(Arc<VerifiedDisclosure>),
    Retirement(Digest, Box<Signed<pb::KeyRetirement>>),
}

/// A line of disclosures: later ones of the same mode and standing order supersede earlier ones.
type Line = (i32, Vec<u8>);

/// A tenant's trust as a service, node or client has come to know it. Only verified statements get in, and none goes back:
/// a lower version, serial or epoch is refused, an equal one only passes with identical bytes.
#[derive(Debug, Clone)]
pub struct TrustState {
    root: RootKey,
    bundle: Arc<Bundle>,
    bundles: BTreeMap<u64, Arc<Bundle>>,
    records: HashMap<Digest, Record>,
    epochs: HashMap<Digest, Epoch>,
    /// Share epochs that later ones took the place of, by key, in their order.
    past_epochs: HashMap<Digest, Vec<Signed<pb::ShareEpoch>>>,
    retirements: HashMap<Digest, Signed<pb::KeyRetirement>>,
    disclosures: HashMap<Digest, Arc<VerifiedDisclosure>>,
    current: HashMap<Line, Arc<VerifiedDisclosure>>,
    indices: HashMap<Digest, u64>,
}

impl TrustState {
    /// Starts from the pinned root and the first bundle, as a file or a peer hands it over.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(root: RootKey, bundle: pb::SignedStatement) -> Result<Self, TrustError> {
        let bundle = Arc::new(Bundle::verify(Signed::decode(bundle)?, &root)?);
        Ok(Self {
            root,
            bundles: BTreeMap::from([(bundle.version(), bundle.clone())]),
            bundle,
            records: HashMap::new(),
            epochs: HashMap::new(),
            past_epochs: HashMap::new(),
            retirements: HashMap::new(),
            disclosures: HashMap::new(),
            current: HashMap::new(),
            indices: HashMap::new(),
        })
    }

    /// Verifies a statement and takes it in. `log_index` is the leaf that the caller has found it in.
    ///
    /// # Errors
    /// [`TrustError`]; nothing has changed then.
    pub fn apply(
        &mut self,
        statement: &pb::SignedStatement,
        log_index: u64,
    ) -> Result<Applied, TrustError> {
        let digest = crate::label::sha256(&statement.statement);
        let Some((applied, change)) = self.examine(statement)? else {
            return Ok(Applied::Other);
        };
        self.indices.entry(digest).or_insert(log_index);
        match change {
            None => {}
            Some(Change::Bundle(bundle)) => {
                self.bundles.insert(bundle.version(), bundle.clone());
                self.bundle = bundle;
            }
            Some(Change::Record(record)) => {
                self.records.insert(*record.key.key_id(), *record);
            }
            Some(Change::Epoch(epoch)) => {
                if let Ok(key) = Digest::try_from(epoch.signed.key_id.as_slice()) {
                    let past = self.epochs.insert(key, *epoch);
                    let all = self.past_epochs.entry(key).or_default();
                    all.extend(past.map(|past| past.signed));
                }
            }
            Some(Change::Disclosure(disclosure)) => {
                self.disclosures.insert(digest, disclosure.clone());
                self.current.insert(line(disclosure.message()), disclosure);
            }
            Some(Change::Retirement(key_id, retirement)) => {
                self.retirements.insert(key_id, *retirement);
            }
        }
        Ok(applied)
    }

    /// Verifies a bundle or disclosure that a later one has superseded and takes it in to be looked up: records that were made
    /// under it stay readable. What is in force does not change, and nothing becomes current by this. What is not superseded
    /// here is taken in as [`TrustState::apply`] does.
    ///
    /// # Errors
    /// [`TrustError`]; nothing has changed then.
    pub fn recall(
        &mut self,
        statement: &pb::SignedStatement,
        log_index: u64,
    ) -> Result<Applied, TrustError> {
        let digest = crate::label::sha256(&statement.statement);
        match statement.r#type.as_str() {
            pb::TrustBundle::TYPE => {
                let past = Bundle::verify(Signed::decode(statement.clone())?, &self.root)?;
                if past.version() >= self.bundle.version() {
                    return self.apply(statement, log_index);
                }
                self.check_past(&past)?;
                if self.bundles.contains_key(&past.version()) {
                    self.indices.entry(digest).or_insert(log_index);
                    return Ok(Applied::Known);
                }
                self.bundles.insert(past.version(), Arc::new(past));
            }
            pb::Disclosure::TYPE => {
                let past = self.verified_disclosure(statement)?;
                let later = |current: &Arc<VerifiedDisclosure>| {
                    current.message().serial > past.message().serial
                };
                let superseded = self.current.get(&line(past.message())).is_some_and(later);
                if !superseded {
                    return self.apply(statement, log_index);
                }
                if self.disclosures.contains_key(&digest) {
                    return Ok(Applied::Known);
                }
                self.check_logged(&past)?;
                self.disclosures.insert(digest, Arc::new(past));
            }
            _ => return self.apply(statement, log_index),
        }
        self.indices.entry(digest).or_insert(log_index);
        Ok(Applied::New)
    }

    /// One bundle a version, and the one after it names it.
    fn check_past(&self, past: &Bundle) -> Result<(), TrustError> {
        let other = TrustError::Version {
            known: self.bundle.version(),
            found: past.version(),
        };
        let same = self.bundles.get(&past.version());
        if same.is_some_and(|known| known.digest() != past.digest()) {
            return Err(other);
        }
        let next = self.bundles.get(&(past.version() + 1));
        if next.is_some_and(|next| next.message().previous != past.digest().as_bytes()) {
            return Err(other);
        }
        Ok(())
    }

    /// Says what [`TrustState::apply`] would do, and changes nothing.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn check(&self, statement: &pb::SignedStatement) -> Result<Applied, TrustError> {
        Ok(self
            .examine(statement)?
            .map_or(Applied::Other, |(applied, _)| applied))
    }

    /// None for a kind that is not kept.
    fn examine(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<Option<(Applied, Option<Change>)>, TrustError> {
        match statement.r#type.as_str() {
            pb::TrustBundle::TYPE => self.examine_bundle(statement),
            pb::KeyRecord::TYPE => self.examine_record(statement),
            pb::ShareEpoch::TYPE => self.examine_epoch(statement),
            pb::Disclosure::TYPE => self.examine_disclosure(statement),
            pb::KeyRetirement::TYPE => self.examine_retirement(statement),
            _ => return Ok(None),
        }
        .map(|change| match change {
            None => Some((Applied::Known, None)),
            change => Some((Applied::New, change)),
        })
    }

    fn examine_bundle(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<Option<Change>, TrustError> {
        let next = Bundle::verify(Signed::decode(statement.clone())?, &self.root)?;
        if let Some(known) = self.bundles.get(&next.version())
            && known.digest() == next.digest()
        {
            return Ok(None);
        }
        self.bundle.check_successor(&next, self.threshold())?;
        Ok(Some(Change::Bundle(Arc::new(next))))
    }

    fn examine_record(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<Option<Change>, TrustError> {
        let signed = Signed::<pb::KeyRecord>::decode(statement.clone())?;
        let key = verify_key_record(&signed, &self.root, &self.all_bundles())?;
        match self.records.get(key.key_id()) {
            Some(known) if known.signed.digest() == signed.digest() => Ok(None),
            // A key has one record: its period, committee and threshold cannot be rewritten.
            Some(_) => Err(TrustError::Mismatch("key record")),
            None => Ok(Some(Change::Record(Box::new(Record { signed, key })))),
        }
    }

    fn examine_epoch(&self, statement: &pb::SignedStatement) -> Result<Option<Change>, TrustError> {
        let signed = Signed::<pb::ShareEpoch>::decode(statement.clone())?;
        let key_id =
            Digest::try_from(signed.key_id.as_slice()).map_err(|_| TrustError::Field("key_id"))?;
        let previous = self.epochs.get(&key_id);
        // One that a later one has taken the place of, too: whoever reads all statements again meets it again.
        if self.indices.contains_key(&signed.digest()) {
            return Ok(None);
        }
        let record = self.known_record(&key_id)?;
        self.check_not_retired(&key_id)?;
        let verified = verify_share_epoch(
            &signed,
            record.signed.message(),
            &record.key,
            previous.map(|epoch| &epoch.verified),
            &self.all_bundles(),
        )?;
        Ok(Some(Change::Epoch(Box::new(Epoch { signed, verified }))))
    }

    fn examine_disclosure(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<Option<Change>, TrustError> {
        let verified = self.verified_disclosure(statement)?;
        if self.disclosures.contains_key(&verified.digest()) {
            return Ok(None);
        }
        if let Some(current) = self.current.get(&line(verified.message())) {
            verified.check_follows(current.message(), &current.digest())?;
        }
        self.check_logged(&verified)?;
        for key in verified.keys() {
            self.check_not_retired(key.key_id())?;
        }
        Ok(Some(Change::Disclosure(Arc::new(verified))))
    }

    /// A key is retired once, for ever, and only when nobody is told any more that it is used.
    fn examine_retirement(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<Option<Change>, TrustError> {
        let signed = Signed::<pb::KeyRetirement>::decode(statement.clone())?;
        let key_id =
            Digest::try_from(signed.key_id.as_slice()).map_err(|_| TrustError::Field("key_id"))?;
        if let Some(known) = self.retirements.get(&key_id) {
            return if known.digest() == signed.digest() {
                Ok(None)
            } else {
                Err(TrustError::Retired(key_id))
            };
        }
        let record = &self.known_record(&key_id)?.signed;
        verify_key_retirement(&signed, record, &self.root, &self.all_bundles())?;
        let named = |disclosure: &Arc<VerifiedDisclosure>| {
            let mut keys = disclosure.keys().iter();
            keys.any(|key| *key.key_id() == key_id)
        };
        if self.current.values().any(named) {
            return Err(TrustError::InUse(key_id));
        }
        Ok(Some(Change::Retirement(key_id, Box::new(signed))))
    }

    fn known_record(&self, key_id: &Digest) -> Result<&Record, TrustError> {
        let known = self.records.get(key_id);
        known.ok_or_else(|| TrustError::Unknown("journaling key", key_id.to_string()))
    }

    fn check_not_retired(&self, key_id: &Digest) -> Result<(), TrustError> {
        if self.retirements.contains_key(key_id) {
            Err(TrustError::Retired(*key_id))
        } else {
            Ok(())
        }
    }

    fn verified_disclosure(
        &self,
        statement: &pb::SignedStatement,
    ) -> Result<VerifiedDisclosure, TrustError> {
        let older = self.all_bundles();
        let trust = Trust {
            root: &self.root,
            bundle: &self.bundle,
            older: &older,
        };
        verify_disclosure(Signed::decode(statement.clone())?, &[trust])
    }

    /// What it discloses has to be what the log disclosed before it.
    fn check_logged(&self, disclosure: &VerifiedDisclosure) -> Result<(), TrustError> {
        for record in disclosure.records() {
            let known = Digest::try_from(record.key_id.as_slice())
                .ok()
                .and_then(|id| self.records.get(&id));
            if known.is_none_or(|known| known.signed.digest() != record.digest()) {
                return Err(TrustError::Unknown(
                    "journaling key record",
                    record.digest().to_string(),
                ));
            }
        }
        Ok(())
    }

    /// How many of the present nodes have to agree when nodes, log or witnesses change: the highest threshold of any key they
    /// hold, and a majority also before there is a key. The root alone could else have prepared a log of its own for it.
    fn threshold(&self) -> usize {
        let thresholds = self.epochs.values().map(|epoch| epoch.verified.threshold());
        let majority = self.bundle.message().nodes.len() / 2 + 1;
        thresholds.max().unwrap_or(0).max(majority)
    }

    fn all_bundles(&self) -> Vec<&Bundle> {
        self.bundles.values().rev().map(Arc::as_ref).collect()
    }

    /// The pinned root.
    pub const fn root(&self) -> &RootKey {
        &self.root
    }

    /// The bundle in force.
    pub const fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// A bundle by its version.
    pub fn bundle_version(&self, version: u64) -> Option<&Arc<Bundle>> {
        self.bundles.get(&version)
    }

    /// A disclosure by the digest of its statement, in force or superseded.
    pub fn disclosure(&self, digest: &Digest) -> Option<&Arc<VerifiedDisclosure>> {
        self.disclosures.get(digest)
    }

    /// The disclosure in force for a mode without standing order.
    pub fn current_disclosure(&self, mode: pb::Mode) -> Option<&Arc<VerifiedDisclosure>> {
        self.current.get(&(mode as i32, Vec::new()))
    }

    /// Every disclosure in force.
    pub fn current_disclosures(&self) -> impl Iterator<Item = &Arc<VerifiedDisclosure>> {
        self.current.values()
    }

    /// Every disclosure taken in, in no order.
    pub fn disclosures(&self) -> impl Iterator<Item = &Arc<VerifiedDisclosure>> {
        self.disclosures.values()
    }

    /// Every bundle taken in but the one in force, by version.
    pub fn older_bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        let version = self.bundle.version();
        self.bundles
            .values()
            .filter(move |bundle| bundle.version() != version)
    }

    /// Ids of every journaling key taken in, in no order.
    pub fn key_ids(&self) -> impl Iterator<Item = &Digest> {
        self.records.keys()
    }

    /// A journaling key.
    pub fn key(&self, key_id: &Digest) -> Option<&JournalKey> {
        self.records.get(key_id).map(|record| &record.key)
    }

    /// A journaling key's record.
    pub fn key_record(&self, key_id: &Digest) -> Option<&Signed<pb::KeyRecord>> {
        self.records.get(key_id).map(|record| &record.signed)
    }

    /// The share epoch in force for a journaling key.
    pub fn share_epoch(&self, key_id: &Digest) -> Option<&VerifiedEpoch> {
        self.epochs.get(key_id).map(|epoch| &epoch.verified)
    }

    /// The statement of the share epoch in force for a journaling key.
    pub fn share_epoch_statement(&self, key_id: &Digest) -> Option<&Signed<pb::ShareEpoch>> {
        self.epochs.get(key_id).map(|epoch| &epoch.signed)
    }

    /// Every share epoch of a journaling key in its order, the one in force last: whoever begins anew needs all of them.
    pub fn share_epoch_statements(
        &self,
        key_id: &Digest,
    ) -> impl Iterator<Item = &Signed<pb::ShareEpoch>> {
        let past = self.past_epochs.get(key_id).into_iter().flatten();
        past.chain(self.share_epoch_statement(key_id))
    }

    /// The retirement of a journaling key, if it is retired.
    pub fn retirement(&self, key_id: &Digest) -> Option<&Signed<pb::KeyRetirement>> {
        self.retirements.get(key_id)
    }

    /// Every retirement, in no order.
    pub fn retirements(&self) -> impl Iterator<Item = &Signed<pb::KeyRetirement>> {
        self.retirements.values()
    }

    /// Where the log has a statement that was taken in, by the digest of its bytes.
    pub fn log_index(&self, statement: &Digest) -> Option<u64> {
        self.indices.get(statement).copied()
    }

    /// A device certificate: the issuer's signature, its period and that it is not revoked, by the bundle in force.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify_device_cert(
        &self,
        cert: &Signed<pb::DeviceCert>,
        at: Millis,
    ) -> Result<(), TrustError> {
        verify_device_cert(cert, &self.bundle, at)
    }
}

fn line(disclosure: &pb::Disclosure) -> Line {
    (disclosure.mode, disclosure.standing_order.clone())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{World, signer};
    use super::*;

    fn state(world: &World) -> TrustState {
        TrustState::new(world.root.clone(), world.bundle.signed().raw().clone()).unwrap()
    }

    #[test]
    fn statements_are_taken_in_once_and_in_order() {
        let world = World::new();
        let mut state = state(&world);
        let disclosure = world.disclosure.raw();
        // The key record is not in the log yet.
        assert!(state.apply(disclosure, 1).is_err());
        assert_eq!(state.apply(world.record.raw(), 2).unwrap(), Applied::New);
        assert_eq!(state.apply(world.record.raw(), 9).unwrap(), Applied::Known);
        assert_eq!(state.check(disclosure).unwrap(), Applied::New);
        assert_eq!(state.apply(disclosure, 3).unwrap(), Applied::New);
        assert_eq!(state.log_index(&world.record.digest()), Some(2));
        let current = state.current_disclosure(world.disclosure.mode()).unwrap();
        assert_eq!(current.digest(), world.disclosure.digest());
        assert_eq!(state.apply(world.cert.raw(), 4).unwrap(), Applied::Other);
    }

    #[test]
    fn attack_68_a_second_disclosure_of_one_serial_is_not_taken_in() {
        let world = World::new();
        let mut state = state(&world);
        state.apply(world.record.raw(), 1).unwrap();
        state.apply(world.disclosure.raw(), 2).unwrap();
        let mut other = world.disclosure.message().clone();
        other.policy_id.push('x');
        let other = Signed::sign(other, &[("root", &world.root_key)]);
        assert!(matches!(
            state.apply(other.raw(), 3),
            Err(TrustError::Version { .. })
        ));
        let forged = Signed::sign(world.disclosure.message().clone(), &[("root", &signer(77))]);
        assert!(state.apply(forged.raw(), 3).is_err());
    }

    #[test]
    fn what_is_superseded_is_recalled_without_becoming_current() {
        let world = World::new();
        let by_root = [("root", &world.root_key)];
        let mut second = world.disclosure.message().clone();
        second.serial += 1;
        let second = Signed::sign(second, &by_root);
        let mut next = world.bundle.message().clone();
        next.version += 1;
        next.previous = world.bundle.digest().to_vec();
        next.contact.push('!');
        let next = Signed::sign(next, &by_root);

        // A client that comes late: it knows the newest of everything first.
        let mut late = TrustState::new(world.root.clone(), next.raw().clone()).unwrap();
        late.apply(world.record.raw(), 2).unwrap();
        late.apply(second.raw(), 4).unwrap();
        assert!(late.apply(world.disclosure.raw(), 3).is_err());
        assert!(late.apply(world.bundle.signed().raw(), 0).is_err());
        let recalled = late.recall(world.disclosure.raw(), 3).unwrap();
        assert_eq!(recalled, Applied::New);
        let recalled = late.recall(world.bundle.signed().raw(), 0).unwrap();
        assert_eq!(recalled, Applied::New);
        assert!(late.disclosure(&world.disclosure.digest()).is_some());
        let mode = world.disclosure.mode();
        let current = late.current_disclosure(mode).unwrap();
        assert_eq!(current.digest(), second.digest());
        assert_eq!(late.bundle().version(), 2);
        assert_eq!(late.older_bundles().count(), 1);

        // Neither another past, nor somebody else's, nor one whose key the log has not shown.
        let mut other = world.bundle.message().clone();
        other.contact.push('?');
        let other = Signed::sign(other, &by_root);
        assert!(late.recall(other.raw(), 0).is_err());
        let forged = Signed::sign(world.disclosure.message().clone(), &[("root", &signer(77))]);
        assert!(late.recall(forged.raw(), 3).is_err());
        let mut bare = TrustState::new(world.root.clone(), next.raw().clone()).unwrap();
        assert!(bare.recall(world.disclosure.raw(), 3).is_err());
        // With nothing that supersedes it, it is judged as any other.
        bare.apply(world.record.raw(), 2).unwrap();
        bare.recall(second.raw(), 4).unwrap();
        assert!(bare.current_disclosure(mode).is_some());
    }

    /// Whoever could change them before the first key would have a log of their own for it, which nobody else sees.
    #[test]
    fn before_the_first_key_too_the_root_alone_brings_in_neither_log_nor_nodes() {
        let world = World::new();
        let changes: [fn(&mut pb::TrustBundle); 3] = [
            |b| b.log.as_mut().unwrap().key = signer(77).verifying_key().to_bytes().to_vec(),
            |b| b.cosigner_quorum -= 1,
            |b| b.nodes.truncate(2),
        ];
        for change in changes {
            let mut state = state(&world);
            let mut next = world.bundle.message().clone();
            next.version += 1;
            next.previous = world.bundle.digest().to_vec();
            change(&mut next);
            let mut next = Signed::sign(next, &[("root", &world.root_key)]);
            for (found, name, key) in [(0, "escrow-1", 10), (1, "escrow-3", 12)] {
                let refused = state.apply(next.raw(), 1);
                assert!(
                    matches!(refused, Err(TrustError::Quorum { needed: 2, found: f }) if f == found),
                    "{refused:?}"
                );
                next.add_signature(name, &signer(key));
            }
            assert_eq!(state.apply(next.raw(), 1).unwrap(), Applied::New);
        }
    }
}
