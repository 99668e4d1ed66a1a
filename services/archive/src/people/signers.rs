//! Acts as people signed them: signatures against the current roster, one act for all, each nonce once.

use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, decode_strict};
use greffe_envelope::trust::Bundle;
use greffe_policy::{ACT_MAX_AGE, MAX_SIGNERS, MAX_SKEW, Role, Signer};
use greffe_service_kit::errors::ServiceError;
use greffe_types::{ActId, Millis, TimeRange};

use super::refusal::{
    self, ACT_IN_THE_FUTURE, ACT_NOT_YOURS, ACT_STALE, ACTS_COUNT, ACTS_DIFFER, require,
};

/// One person's act.
#[derive(Debug, Clone)]
pub(crate) struct SignedAct {
    /// The statement.
    pub(crate) signed: Signed<pb::PersonAct>,
    /// Its nonce.
    pub(crate) nonce: ActId,
    /// Who signed it, as the roster knows them.
    pub(crate) signer: Signer,
}

/// What several people have signed alike.
#[derive(Debug, Clone)]
pub(crate) struct Acts {
    /// The asking person's first; never empty.
    people: Vec<SignedAct>,
}

impl Acts {
    /// Verifies the acts of a request.
    ///
    /// # Errors
    /// A refusal when one of them is not validly signed by a person who may act now, when they differ, or when the caller is
    /// none of the signers.
    pub(crate) fn verify(
        raw: Vec<pb::SignedStatement>,
        bundle: &Bundle,
        caller: &str,
        now: Millis,
    ) -> Result<Self, ServiceError> {
        if raw.is_empty() || raw.len() > MAX_SIGNERS {
            return Err(ACTS_COUNT.refuse());
        }
        let people = raw
            .into_iter()
            .map(|raw| verify_one(raw, bundle, now))
            .collect::<Result<Vec<_>, _>>()?;
        let first = &people[0].signed;
        if people
            .iter()
            .any(|act| act.signed.action != first.action || act.signed.act != first.act)
        {
            return Err(ACTS_DIFFER.refuse());
        }
        if !people.iter().any(|act| act.signed.person == caller) {
            return Err(ACT_NOT_YOURS.refuse());
        }
        Ok(Self { people })
    }

    /// Which act, such as `hold.place`.
    pub(crate) fn action(&self) -> &str {
        &self.people[0].signed.action
    }

    /// What it is about, decoded strictly.
    pub(crate) fn about<M: prost::Message + Default>(&self) -> Result<M, ServiceError> {
        decode_strict("act", &self.people[0].signed.act).map_err(refusal::statement)
    }

    /// The person who asks.
    pub(crate) fn asker(&self) -> &SignedAct {
        &self.people[0]
    }

    /// The person who asks, when nobody else may sign.
    pub(crate) fn only(&self) -> Result<&SignedAct, ServiceError> {
        match self.people.as_slice() {
            [one] => Ok(one),
            _ => Err(ACTS_COUNT.refuse()),
        }
    }

    /// Everybody, the asking person first.
    pub(crate) fn all(&self) -> &[SignedAct] {
        &self.people
    }

    /// Everybody but the asking person.
    pub(crate) fn others(&self) -> &[SignedAct] {
        &self.people[1..]
    }
}

/// Signers of some acts, as decisions want them.
pub(crate) fn signers(acts: &[SignedAct]) -> Vec<Signer> {
    acts.iter().map(|act| act.signer.clone()).collect()
}

fn verify_one(
    raw: pb::SignedStatement,
    bundle: &Bundle,
    now: Millis,
) -> Result<SignedAct, ServiceError> {
    let signed = Signed::<pb::PersonAct>::decode(raw).map_err(refusal::statement)?;
    require(signed.tenant == bundle.tenant().as_str(), "acts.tenant")?;
    let nonce =
        ActId::try_from(signed.nonce.as_slice()).map_err(|_| refusal::field("acts.nonce"))?;
    let person = bundle
        .verify_person(&signed, &signed.person, &[], now)
        .map_err(refusal::trust)?;
    let at = Millis::new(signed.at);
    if at > now.plus(MAX_SKEW) {
        return Err(ACT_IN_THE_FUTURE.refuse());
    }
    if at < now.minus(ACT_MAX_AGE) {
        return Err(ACT_STALE.refuse());
    }
    let signer = signer(person, at)?;
    Ok(SignedAct {
        signed,
        nonce,
        signer,
    })
}

/// A person of the roster who signed something at an instant, as decisions want them.
pub(crate) fn signer(person: &pb::Person, at: Millis) -> Result<Signer, ServiceError> {
    let valid = TimeRange::new(
        Millis::new(person.not_before),
        Millis::new(person.not_after),
    )
    .ok_or_else(|| refusal::field("roster"))?;
    Ok(Signer {
        person: person.name.clone(),
        roles: roles(person),
        valid,
        revoked: person.revoked,
        at,
    })
}

/// A person's roles. The bundle's own check lets no other role in; one that were not known would permit nothing.
pub(crate) fn roles(person: &pb::Person) -> Vec<Role> {
    person
        .roles
        .iter()
        .filter_map(|role| role.parse().ok())
        .collect()
}
