//! A node's side of resharing, as dealer, as new holder, or both: signed messages in, signed messages out, no IO.

use std::collections::BTreeMap;

use greffe_types::Digest;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::plan::{Dealer, ResharePlan};
use crate::ceremony::members::{Authentic, authenticate, channel, echo_of, encode, sign_message};
use crate::ceremony::poly::{PointBytes, Polynomial, evaluate_commitments};
use crate::ceremony::{CeremonyError, Fault, NodeIdentity, NodeShare, ShareInfo};
use crate::curve::{Point, Scalar};
use crate::mlkem::Decapsulation;
use crate::opening::hybrid::{KEM_KEY_SIZE, seal};
use crate::pb;
use crate::statement::decode_strict;

/// One node in one resharing. The old share stays with the caller, to be destroyed when the new epoch is in force.
pub struct Resharing {
    plan: ResharePlan,
    /// Old share and the polynomial it is dealt out by; dealers only.
    dealing: Option<Dealing>,
    /// New index; new holders only.
    own: Option<u16>,
    rounds: [BTreeMap<u16, Authentic>; 3],
    state: State,
}

struct Dealing {
    polynomial: Polynomial,
    kem_seed: Zeroizing<[u8; 64]>,
}

enum State {
    /// Waits for every dealer's commitments.
    Committing,
    /// Waits for every dealer's private message, when it is to hold a share.
    Dealt(Dealt),
    /// Waits for every new holder's result.
    Concluded(Outcome),
    /// Everybody has the same result.
    Agreed(Outcome),
    /// Ended in an error.
    Aborted,
}

struct Dealt {
    commitments: Vec<Vec<Point>>,
    echo: Digest,
    verification_shares: Vec<PointBytes>,
    share_epoch: Digest,
}

struct Outcome {
    echo: Digest,
    verification_shares: Vec<PointBytes>,
    share: Option<Box<NodeShare>>,
}

impl Resharing {
    /// Starts. A dealer brings its share of the old epoch and gives its commitments for everybody; a new holder who is no
    /// dealer brings none and only waits.
    ///
    /// # Errors
    /// When the node has no part, or its share is not of the epoch that is left.
    pub fn start(
        plan: ResharePlan,
        identity: &NodeIdentity,
        old: Option<&NodeShare>,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Option<pb::SignedStatement>), CeremonyError> {
        let dealer = plan.dealers.iter().find(|d| d.name == identity.name);
        let own = plan.receivers.index_of(&identity.name);
        if dealer.is_none() && own.is_none() {
            return Err(CeremonyError::NotAMember);
        }
        let dealing = match dealer {
            Some(dealer) => {
                let old = old.filter(|old| fits(old, dealer, &plan));
                let old = old.ok_or(CeremonyError::Differs("old share"))?;
                Some(Dealing {
                    polynomial: Polynomial::random(old.scalar(), plan.threshold, rng),
                    kem_seed: old.kem_seed().clone(),
                })
            }
            None => None,
        };
        let mut resharing = Self {
            plan,
            dealing,
            own,
            rounds: Default::default(),
            state: State::Committing,
        };
        let message = resharing.commit(identity)?;
        Ok((resharing, message.map(Authentic::into_raw)))
    }

    /// Takes one message in, in any order, and gives the messages to send on. A repeated message is ignored.
    ///
    /// # Errors
    /// [`CeremonyError::NotAuthentic`] and [`CeremonyError::NotOurs`] leave the resharing as it was; every other error
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
        let (sender, message) = authenticate(raw, &self.plan.session, &self.plan.senders)?;
        if message.sender == identity.name {
            return Ok(Vec::new());
        }
        let belongs = match message.round {
            1 => message.receiver.is_empty() && self.plan.is_dealer(&message.sender),
            2 => {
                message.receiver == identity.name
                    && self.own.is_some()
                    && self.plan.is_dealer(&message.sender)
            }
            3 => {
                message.receiver.is_empty()
                    && self.plan.receivers.index_of(&message.sender).is_some()
            }
            _ => false,
        };
        if !belongs {
            return Err(CeremonyError::NotOurs);
        }
        let round = &mut self.rounds[message.round as usize - 1];
        if let Some(other) = round.get(&sender) {
            return if other.digest() == message.digest() {
                Ok(Vec::new())
            } else {
                self.abort();
                Err(CeremonyError::blame(&message.sender, Fault::Equivocation))
            };
        }
        round.insert(sender, message);
        self.go_on(identity, rng)
    }

    /// The new share epoch to sign, and the new share of a node that holds one, once every new holder has said that it has
    /// the same; none before.
    pub fn agreed(&self) -> Option<(pb::ShareEpoch, Option<&NodeShare>)> {
        match &self.state {
            State::Agreed(outcome) => Some((
                self.plan.share_epoch(&outcome.verification_shares),
                outcome.share.as_deref(),
            )),
            _ => None,
        }
    }

    /// What is being done.
    pub const fn plan(&self) -> &ResharePlan {
        &self.plan
    }

    fn go_on(
        &mut self,
        identity: &NodeIdentity,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let outcome = self.advance(identity, rng);
        if outcome.is_err() {
            self.abort();
        }
        outcome
    }

    fn abort(&mut self) {
        self.state = State::Aborted;
        self.dealing = None;
    }

    /// A dealer's commitments, kept as if they had been received.
    fn commit(&mut self, identity: &NodeIdentity) -> Result<Option<Authentic>, CeremonyError> {
        let Some(dealing) = &self.dealing else {
            return Ok(None);
        };
        let commitments = dealing
            .polynomial
            .commitments()
            .iter()
            .map(|point| point.to_compressed().map(|bytes| bytes.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| CeremonyError::Own(Fault::Malformed))?;
        let payload = encode(&pb::ReshareRound1 { commitments }).to_vec();
        let message = sign_message(identity, &self.plan.session, 1, "", payload);
        if let Some(sender) = self.plan.senders.index_of(&identity.name) {
            self.rounds[0].insert(sender, message.clone());
        }
        Ok(Some(message))
    }

    fn advance(
        &mut self,
        identity: &NodeIdentity,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let mut out = Vec::new();
        let dealers = self.plan.dealers.len();
        let from_others = dealers - usize::from(self.plan.is_dealer(&identity.name));
        loop {
            match core::mem::replace(&mut self.state, State::Aborted) {
                State::Committing if self.rounds[0].len() == dealers => {
                    let dealt = self.read_commitments()?;
                    out.extend(self.deal(identity, &dealt, rng)?);
                    self.state = State::Dealt(dealt);
                }
                State::Dealt(dealt) if self.own.is_none() => {
                    self.dealing = None;
                    self.state = State::Concluded(Outcome {
                        echo: dealt.echo,
                        verification_shares: dealt.verification_shares,
                        share: None,
                    });
                }
                State::Dealt(dealt) if self.rounds[1].len() == from_others => {
                    let share = self.take_share(identity, &dealt)?;
                    let outcome = Outcome {
                        echo: dealt.echo,
                        verification_shares: dealt.verification_shares,
                        share: Some(Box::new(share)),
                    };
                    out.push(self.announce(identity, &outcome));
                    self.dealing = None;
                    self.state = State::Concluded(outcome);
                }
                State::Concluded(outcome)
                    if self.rounds[2].len() == usize::from(self.plan.receivers.count()) =>
                {
                    self.compare(&outcome)?;
                    self.state = State::Agreed(outcome);
                }
                other => {
                    self.state = other;
                    return Ok(out);
                }
            }
        }
    }

    /// After round 1: every dealer has committed to a polynomial of the agreed degree whose constant term is its old share.
    fn read_commitments(&self) -> Result<Dealt, CeremonyError> {
        let mut commitments = Vec::new();
        for (message, dealer) in self.by_dealer(0) {
            let blame = |fault| CeremonyError::blame(&dealer.name, fault);
            let round: pb::ReshareRound1 = decode_strict("reshare-round-1", &message.payload)
                .map_err(|_| blame(Fault::Malformed))?;
            let (expected, found) = (usize::from(self.plan.threshold), round.commitments.len());
            if expected != found {
                return Err(blame(Fault::Degree { expected, found }));
            }
            let points: Vec<Point> = round
                .commitments
                .iter()
                .map(|bytes| Point::from_compressed(bytes))
                .collect::<Result<_, _>>()
                .map_err(|_| blame(Fault::Malformed))?;
            if points[0] != dealer.verification_share {
                return Err(blame(Fault::ConstantTerm));
            }
            commitments.push(points);
        }
        let echo = echo_of(
            &self.plan.session,
            self.by_dealer(0).map(|(message, _)| message),
        );
        let (verification_shares, share_epoch) = self
            .plan
            .verification_shares(&commitments)
            .map_err(CeremonyError::Own)?;
        Ok(Dealt {
            commitments,
            echo,
            verification_shares,
            share_epoch,
        })
    }

    /// Messages of a round in the order of the dealers.
    fn by_dealer(&self, round: usize) -> impl Iterator<Item = (&Authentic, &Dealer)> {
        self.plan.dealers.iter().filter_map(move |dealer| {
            let sender = self.plan.senders.index_of(&dealer.name)?;
            Some((self.rounds[round].get(&sender)?, dealer))
        })
    }

    /// A dealer's private messages to the new holders.
    fn deal(
        &self,
        identity: &NodeIdentity,
        dealt: &Dealt,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let Some(dealing) = &self.dealing else {
            return Ok(Vec::new());
        };
        let mut out = Vec::new();
        for (index, member) in self.plan.receivers.iter() {
            if member.name == identity.name {
                continue;
            }
            let mut payload = pb::ReshareRound2 {
                share: dealing.polynomial.at(index).to_bytes().to_vec(),
                kem_seed: dealing.kem_seed.to_vec(),
                echo: dealt.echo.to_vec(),
            };
            let plain = encode(&payload);
            payload.share.zeroize();
            payload.kem_seed.zeroize();
            let (info, aad) = channel(&self.plan.session, &identity.name, &member.name);
            let sealed = seal(&member.channel_key, &info, &aad, &plain, rng)
                .map_err(|error| CeremonyError::Own(Fault::Private(error)))?;
            let message = sign_message(identity, &self.plan.session, 2, &member.name, sealed);
            out.push(message.into_raw());
        }
        Ok(out)
    }

    /// After round 2: the new share, every part of which lies on its dealer's polynomial.
    fn take_share(
        &self,
        identity: &NodeIdentity,
        dealt: &Dealt,
    ) -> Result<NodeShare, CeremonyError> {
        let own = self.own.ok_or(CeremonyError::NotAMember)?;
        let mut scalar = Zeroizing::new(Scalar::ZERO);
        let mut kem_seed = None;
        for (dealer, commitments) in self.plan.dealers.iter().zip(&dealt.commitments) {
            let (part, seed) = self.part_of(dealer, identity, own, dealt)?;
            let blame = |fault| CeremonyError::blame(&dealer.name, fault);
            if Point::mul_base(&part) != evaluate_commitments(commitments, own) {
                return Err(blame(Fault::Share));
            }
            if Decapsulation::from_seed(&seed).1[..] != self.plan.public_key[..KEM_KEY_SIZE] {
                return Err(blame(Fault::Seed));
            }
            *scalar = *scalar + *part * dealer.weight;
            kem_seed = Some(seed);
        }
        let info = ShareInfo {
            tenant: self.plan.record.tenant.clone(),
            share_epoch: dealt.share_epoch,
            index: own,
            threshold: self.plan.threshold,
            public_key: self.plan.public_key,
            verification_shares: dealt.verification_shares.clone(),
        };
        let kem_seed = kem_seed.ok_or(CeremonyError::Own(Fault::Seed))?;
        NodeShare::new(info, scalar, kem_seed)
            .map_err(|error| CeremonyError::Own(Fault::Inconsistent(error)))
    }

    /// What one dealer gave this node: its own part needs no message.
    fn part_of(
        &self,
        dealer: &Dealer,
        identity: &NodeIdentity,
        own: u16,
        dealt: &Dealt,
    ) -> Result<(Zeroizing<Scalar>, Zeroizing<[u8; 64]>), CeremonyError> {
        if let Some(dealing) = self
            .dealing
            .as_ref()
            .filter(|_| dealer.name == identity.name)
        {
            return Ok((dealing.polynomial.at(own), dealing.kem_seed.clone()));
        }
        let blame = |fault| CeremonyError::blame(&dealer.name, fault);
        let message = self
            .plan
            .senders
            .index_of(&dealer.name)
            .and_then(|sender| self.rounds[1].get(&sender))
            .ok_or_else(|| CeremonyError::Missing(dealer.name.clone()))?;
        let (info, aad) = channel(&self.plan.session, &dealer.name, &identity.name);
        let plain = identity
            .channel_key
            .open(&info, &aad, &message.payload)
            .map_err(|error| blame(Fault::Private(error)))?;
        let round: pb::ReshareRound2 =
            decode_strict("reshare-round-2", &plain).map_err(|_| blame(Fault::Malformed))?;
        let share = Zeroizing::new(round.share);
        let seed = Zeroizing::new(round.kem_seed);
        if round.echo != dealt.echo.as_bytes() {
            return Err(CeremonyError::Split {
                reporter: dealer.name.clone(),
            });
        }
        let share = Scalar::from_canonical(&share)
            .map(Zeroizing::new)
            .map_err(|_| blame(Fault::Malformed))?;
        let mut kem_seed = Zeroizing::new([0; 64]);
        if seed.len() != kem_seed.len() {
            return Err(blame(Fault::Malformed));
        }
        kem_seed.copy_from_slice(&seed);
        Ok((share, kem_seed))
    }

    /// A new holder's result, kept as if it had been received.
    fn announce(&mut self, identity: &NodeIdentity, outcome: &Outcome) -> pb::SignedStatement {
        let payload = encode(&self.result(outcome)).to_vec();
        let message = sign_message(identity, &self.plan.session, 3, "", payload);
        if let Some(sender) = self.plan.senders.index_of(&identity.name) {
            self.rounds[2].insert(sender, message.clone());
        }
        message.into_raw()
    }

    fn result(&self, outcome: &Outcome) -> pb::CeremonyRound3 {
        pb::CeremonyRound3 {
            public_key: self.plan.public_key.to_vec(),
            verification_shares: outcome
                .verification_shares
                .iter()
                .map(|share| share.to_vec())
                .collect(),
            echo: outcome.echo.to_vec(),
        }
    }

    fn compare(&self, outcome: &Outcome) -> Result<(), CeremonyError> {
        let expected = encode(&self.result(outcome));
        let differs = self.rounds[2]
            .values()
            .find(|message| message.payload != *expected);
        match differs {
            Some(message) => Err(CeremonyError::Split {
                reporter: message.sender.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl core::fmt::Debug for Resharing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Resharing")
            .field("session", &self.plan.session)
            .finish_non_exhaustive()
    }
}

/// Whether a node's old share is the one it is to deal out.
fn fits(old: &NodeShare, dealer: &Dealer, plan: &ResharePlan) -> bool {
    old.share_epoch() == plan.previous.digest()
        && old.index() == dealer.index
        && old.public_key() == &plan.public_key
        && Point::from_compressed(&old.verification_share()) == Ok(dealer.verification_share)
}
