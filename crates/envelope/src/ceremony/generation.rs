//! A node's side of key generation: signed messages in, signed messages out, no IO.

use std::collections::BTreeMap;

use frost_p256::Identifier;
use frost_p256::keys::dkg::{part1, part2, part3, round1, round2};
use greffe_types::Digest;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::conclusion::Conclusion;
use super::error::{CeremonyError, Fault};
use super::members::{
    Authentic, NodeIdentity, authenticate, channel, echo_of, encode, sign_message,
};
use super::plan::Plan;
use super::poly::PointBytes;
use super::share::{NodeShare, ShareInfo};
use crate::curve::{Point, Scalar};
use crate::label::{hash, label, lp};
use crate::mlkem::Decapsulation;
use crate::opening::PUBLIC_KEY_SIZE;
use crate::opening::hybrid::{KEM_KEY_SIZE, seal};
use crate::pb;
use crate::statement::decode_strict;

/// Bytes of a node's part of the ML-KEM seed.
const SEED_PART: usize = 64;

/// One node in one key generation. Dropping it, as any error does to what it holds, wipes its secrets.
pub struct KeyGeneration {
    plan: Plan,
    own: u16,
    rounds: [BTreeMap<u16, Authentic>; 3],
    state: State,
}

enum State {
    /// Sent commitments; waits for everybody's.
    Committed {
        secret: round1::SecretPackage,
        seed_part: Zeroizing<[u8; SEED_PART]>,
    },
    /// Sent shares; waits for its own.
    Shared {
        secret: round2::SecretPackage,
        seed_part: Zeroizing<[u8; SEED_PART]>,
        packages: BTreeMap<Identifier, round1::Package>,
        seed_commitments: BTreeMap<u16, Digest>,
        echo: Digest,
    },
    /// Has a result; waits for everybody to have the same.
    Concluded {
        share: Box<NodeShare>,
        conclusion: Conclusion,
    },
    /// Everybody has the same result.
    Agreed {
        share: Box<NodeShare>,
        conclusion: Conclusion,
    },
    /// Ended in an error.
    Aborted,
}

impl KeyGeneration {
    /// Starts, and gives the node's commitments for everybody.
    ///
    /// # Errors
    /// When the node is not part of the plan.
    pub fn start(
        plan: Plan,
        identity: &NodeIdentity,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, pb::SignedStatement), CeremonyError> {
        let own = plan
            .members
            .index_of(&identity.name)
            .ok_or(CeremonyError::NotAMember)?;
        let failed = |error| CeremonyError::Own(Fault::Package(error));
        let (secret, package) = part1(
            identifier(own).map_err(failed)?,
            plan.members.count(),
            plan.threshold,
            Bridge(rng),
        )
        .map_err(failed)?;
        let mut seed_part = Zeroizing::new([0; SEED_PART]);
        rng.fill_bytes(seed_part.as_mut());
        let payload = pb::CeremonyRound1 {
            package: package.serialize().map_err(failed)?,
            seed_commitment: seed_commitment(&plan, &identity.name, &seed_part).to_vec(),
        };
        let payload = encode(&payload).to_vec();
        let message = sign_message(identity, &plan.session, 1, "", payload);
        let mut generation = Self {
            plan,
            own,
            rounds: Default::default(),
            state: State::Committed { secret, seed_part },
        };
        generation.rounds[0].insert(own, message.clone());
        Ok((generation, message.into_raw()))
    }

    /// Takes one message in, in any order, and gives the messages to send on. A repeated message is ignored.
    ///
    /// # Errors
    /// [`CeremonyError::NotAuthentic`] and [`CeremonyError::NotOurs`] leave the ceremony as it was; every other error
    /// ends it and wipes what it held.
    pub fn receive(
        &mut self,
        identity: &NodeIdentity,
        raw: pb::SignedStatement,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        if matches!(self.state, State::Aborted) {
            return Err(CeremonyError::Aborted);
        }
        let (index, message) = authenticate(raw, &self.plan.session, &self.plan.members)?;
        let receiver = if message.round == 2 {
            identity.name.as_str()
        } else {
            ""
        };
        if !(1..=3).contains(&message.round) || message.receiver != receiver {
            return Err(CeremonyError::NotOurs);
        }
        if index == self.own {
            return Ok(Vec::new());
        }
        let round = &mut self.rounds[message.round as usize - 1];
        if let Some(other) = round.get(&index) {
            return if other.digest() == message.digest() {
                Ok(Vec::new())
            } else {
                self.state = State::Aborted;
                Err(CeremonyError::blame(&message.sender, Fault::Equivocation))
            };
        }
        round.insert(index, message);
        let outcome = self.advance(identity, rng);
        if outcome.is_err() {
            self.state = State::Aborted;
        }
        outcome
    }

    /// The share and the result, once every node has said that it has the same; none before.
    pub fn agreed(&self) -> Option<(&NodeShare, &Conclusion)> {
        match &self.state {
            State::Agreed { share, conclusion } => Some((share, conclusion)),
            _ => None,
        }
    }

    /// What is being made.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn advance(
        &mut self,
        identity: &NodeIdentity,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let mut out = Vec::new();
        let count = usize::from(self.plan.members.count());
        loop {
            match core::mem::replace(&mut self.state, State::Aborted) {
                State::Committed { secret, seed_part } if self.rounds[0].len() == count => {
                    out.extend(self.share_out(identity, secret, seed_part, rng)?);
                }
                State::Shared {
                    secret,
                    seed_part,
                    packages,
                    seed_commitments,
                    echo,
                } if self.rounds[1].len() == count - 1 => {
                    let received = self.open_round2(identity, &seed_commitments, echo)?;
                    let message =
                        self.conclude(identity, &secret, &seed_part, &packages, echo, received)?;
                    out.push(message);
                }
                State::Concluded { share, conclusion } if self.rounds[2].len() == count => {
                    self.compare(&conclusion)?;
                    self.state = State::Agreed { share, conclusion };
                }
                other => {
                    self.state = other;
                    return Ok(out);
                }
            }
        }
    }

    /// After round 1: checks everybody's commitments and sends each node its share and this node's seed part.
    fn share_out(
        &mut self,
        identity: &NodeIdentity,
        secret: round1::SecretPackage,
        seed_part: Zeroizing<[u8; SEED_PART]>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let (packages, seed_commitments) = self.read_round1()?;
        let echo = echo_of(&self.plan.session, self.rounds[0].values());
        let (secret, shares) = part2(secret, &packages).map_err(|error| self.frost_error(error))?;
        let mut out = Vec::new();
        for (index, member) in self.plan.members.iter() {
            let own_fault = |error| CeremonyError::Own(Fault::Package(error));
            let Some(package) = shares.get(&identifier(index).map_err(own_fault)?) else {
                continue;
            };
            let mut payload = pb::CeremonyRound2 {
                package: package.serialize().map_err(own_fault)?,
                seed_part: seed_part.to_vec(),
                echo: echo.to_vec(),
            };
            let plain = encode(&payload);
            payload.package.zeroize();
            payload.seed_part.zeroize();
            let (info, aad) = channel(&self.plan.session, &identity.name, &member.name);
            let sealed = seal(&member.channel_key, &info, &aad, &plain, rng)
                .map_err(|error| CeremonyError::Own(Fault::Private(error)))?;
            let message = sign_message(identity, &self.plan.session, 2, &member.name, sealed);
            out.push(message.into_raw());
        }
        self.state = State::Shared {
            secret,
            seed_part,
            packages,
            seed_commitments,
            echo,
        };
        Ok(out)
    }

    #[allow(clippy::type_complexity)]
    fn read_round1(
        &self,
    ) -> Result<(BTreeMap<Identifier, round1::Package>, BTreeMap<u16, Digest>), CeremonyError> {
        let mut packages = BTreeMap::new();
        let mut commitments = BTreeMap::new();
        for (index, message) in self.rounds[0]
            .iter()
            .filter(|(index, _)| **index != self.own)
        {
            let blame = |fault| CeremonyError::blame(&message.sender, fault);
            let round: pb::CeremonyRound1 = decode_strict("keygen-round-1", &message.payload)
                .map_err(|_| blame(Fault::Malformed))?;
            let package = round1::Package::deserialize(&round.package)
                .map_err(|error| blame(Fault::Package(error)))?;
            if package.serialize().ok().as_ref() != Some(&round.package) {
                return Err(blame(Fault::Malformed));
            }
            let (expected, found) = (
                usize::from(self.plan.threshold),
                package.commitment().coefficients().len(),
            );
            if found != expected {
                return Err(blame(Fault::Degree { expected, found }));
            }
            let commitment = Digest::try_from(round.seed_commitment.as_slice())
                .map_err(|_| blame(Fault::Malformed))?;
            let id = identifier(*index).map_err(|error| blame(Fault::Package(error)))?;
            packages.insert(id, package);
            commitments.insert(*index, commitment);
        }
        Ok((packages, commitments))
    }

    /// Opens the private messages: shares and seed parts by sender index.
    fn open_round2(
        &self,
        identity: &NodeIdentity,
        commitments: &BTreeMap<u16, Digest>,
        echo: Digest,
    ) -> Result<Received, CeremonyError> {
        let mut received = Received::default();
        for (index, message) in &self.rounds[1] {
            let blame = |fault| CeremonyError::blame(&message.sender, fault);
            let (info, aad) = channel(&self.plan.session, &message.sender, &identity.name);
            let plain = identity
                .channel_key
                .open(&info, &aad, &message.payload)
                .map_err(|error| blame(Fault::Private(error)))?;
            let round: pb::CeremonyRound2 =
                decode_strict("keygen-round-2", &plain).map_err(|_| blame(Fault::Malformed))?;
            let package = Zeroizing::new(round.package);
            let seed = Zeroizing::new(round.seed_part);
            if round.echo != echo.as_bytes() {
                return Err(CeremonyError::Split {
                    reporter: message.sender.clone(),
                });
            }
            let package = round2::Package::deserialize(&package)
                .map_err(|error| blame(Fault::Package(error)))?;
            let mut part = Zeroizing::new([0; SEED_PART]);
            if seed.len() != SEED_PART {
                return Err(blame(Fault::Malformed));
            }
            part.copy_from_slice(&seed);
            let committed = seed_commitment(&self.plan, &message.sender, &part);
            if commitments.get(index) != Some(&committed) {
                return Err(blame(Fault::SeedPart));
            }
            let id = identifier(*index).map_err(|error| blame(Fault::Package(error)))?;
            received.packages.insert(id, package);
            received.seed_parts.insert(*index, part);
        }
        Ok(received)
    }

    /// After round 2: the node's share, the public key, and what it tells the others.
    fn conclude(
        &mut self,
        identity: &NodeIdentity,
        secret: &round2::SecretPackage,
        seed_part: &Zeroizing<[u8; SEED_PART]>,
        packages: &BTreeMap<Identifier, round1::Package>,
        echo: Digest,
        mut received: Received,
    ) -> Result<pb::SignedStatement, CeremonyError> {
        let (key, public) =
            part3(secret, packages, &received.packages).map_err(|error| self.frost_error(error))?;
        let own = |fault| CeremonyError::Own(fault);
        let failed = |error| CeremonyError::Own(Fault::Package(error));
        received.seed_parts.insert(self.own, seed_part.clone());
        let kem_seed = combine_seed(&self.plan, &received.seed_parts);
        let (_, encapsulation_key) = Decapsulation::from_seed(&kem_seed);
        let point = public.verifying_key().serialize().map_err(failed)?;
        let mut public_key = [0; PUBLIC_KEY_SIZE];
        public_key[..KEM_KEY_SIZE].copy_from_slice(&encapsulation_key);
        let point = Point::from_compressed(&point)
            .and_then(|point| point.to_uncompressed())
            .map_err(|_| own(Fault::Malformed))?;
        public_key[KEM_KEY_SIZE..].copy_from_slice(&point);
        let mut verification_shares = Vec::new();
        for (index, _) in self.plan.members.iter() {
            let share = public
                .verifying_shares()
                .get(&identifier(index).map_err(failed)?)
                .ok_or_else(|| own(Fault::Malformed))?;
            let bytes = share.serialize().map_err(failed)?;
            let bytes = PointBytes::try_from(bytes.as_slice());
            verification_shares.push(bytes.map_err(|_| own(Fault::Malformed))?);
        }
        let conclusion = Conclusion {
            public_key,
            verification_shares,
            echo,
        };
        let share_epoch = conclusion.check_consistent(&self.plan).map_err(own)?;
        let scalar = Zeroizing::new(key.signing_share().serialize());
        let scalar = Scalar::from_canonical_nonzero(&scalar)
            .map(Zeroizing::new)
            .map_err(|_| own(Fault::Malformed))?;
        let info = ShareInfo {
            tenant: self.plan.descriptor.tenant.clone(),
            share_epoch,
            index: self.own,
            threshold: self.plan.threshold,
            public_key,
            verification_shares: conclusion.verification_shares.clone(),
        };
        let share = NodeShare::new(info, scalar, kem_seed)
            .map_err(|error| own(Fault::Inconsistent(error)))?;
        let payload = encode(&conclusion.encode()).to_vec();
        let message = sign_message(identity, &self.plan.session, 3, "", payload);
        self.rounds[2].insert(self.own, message.clone());
        self.state = State::Concluded {
            share: Box::new(share),
            conclusion,
        };
        Ok(message.into_raw())
    }

    /// After round 3: everybody has arrived at the same.
    fn compare(&self, conclusion: &Conclusion) -> Result<(), CeremonyError> {
        for message in self.rounds[2].values() {
            let theirs = Conclusion::decode(&message.payload, &self.plan)
                .map_err(|fault| CeremonyError::blame(&message.sender, fault))?;
            if theirs != *conclusion {
                return Err(CeremonyError::Split {
                    reporter: message.sender.clone(),
                });
            }
        }
        Ok(())
    }

    /// Turns an error of key generation into blame when it names the culprit.
    fn frost_error(&self, error: frost_p256::Error) -> CeremonyError {
        let culprit = error.culprits().first().and_then(|culprit| {
            self.plan
                .members
                .iter()
                .find(|(index, _)| identifier(*index).as_ref() == Ok(culprit))
        });
        match culprit {
            Some((_, member)) => CeremonyError::blame(&member.name, Fault::Package(error)),
            None => CeremonyError::Own(Fault::Package(error)),
        }
    }
}

impl core::fmt::Debug for KeyGeneration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let state = match &self.state {
            State::Committed { .. } => "committed",
            State::Shared { .. } => "shared",
            State::Concluded { .. } => "concluded",
            State::Agreed { .. } => "agreed",
            State::Aborted => "aborted",
        };
        f.debug_struct("KeyGeneration")
            .field("session", &self.plan.session)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// What the others sent in private.
#[derive(Default)]
struct Received {
    packages: BTreeMap<Identifier, round2::Package>,
    seed_parts: BTreeMap<u16, Zeroizing<[u8; SEED_PART]>>,
}

/// SHA-256 of LP("greffe/v1/seed-part") ‖ session ‖ LP(node) ‖ part.
fn seed_commitment(plan: &Plan, node: &str, part: &[u8; SEED_PART]) -> Digest {
    hash(
        "seed-part",
        &[plan.session.as_bytes(), &lp(node.as_bytes()), part],
    )
}

/// SHAKE256 of LP("greffe/v1/kem-seed") ‖ session ‖ all parts in the order of node index, 64 bytes.
fn combine_seed(
    plan: &Plan,
    parts: &BTreeMap<u16, Zeroizing<[u8; SEED_PART]>>,
) -> Zeroizing<[u8; 64]> {
    use shake::{ExtendableOutput as _, Update as _, XofReader as _};
    let mut xof = shake::Shake256::default();
    xof.update(&label("kem-seed"));
    xof.update(plan.session.as_bytes());
    for part in parts.values() {
        xof.update(part.as_ref());
    }
    let mut seed = Zeroizing::new([0; 64]);
    xof.finalize_xof().read(seed.as_mut());
    seed
}

fn identifier(index: u16) -> Result<Identifier, frost_p256::Error> {
    Identifier::try_from(index)
}

/// Lends a generator of today's `rand_core` to key generation, which wants the one before.
struct Bridge<'a, R>(&'a mut R);

impl<R: CryptoRng> frost_p256::rand_core::RngCore for Bridge<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), frost_p256::rand_core::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl<R: CryptoRng> frost_p256::rand_core::CryptoRng for Bridge<'_, R> {}
