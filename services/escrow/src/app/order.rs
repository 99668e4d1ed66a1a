//! An order and its approvals, checked against the roster by this node alone.

use std::sync::OnceLock;

use greffe_envelope::opening::{HybridError, HybridPublicKey, PUBLIC_KEY_SIZE, SALT_SIZE};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_policy::{
    ApprovalRule, MAX_RECORDS, MAX_SIGNERS, Permit, QuorumError, Release, ReleaseCase,
    ReleaseError, Role, Signer, permit_release,
};
use greffe_service_kit::errors::Reason;
use greffe_types::{Digest, Millis, TimeRange};

use crate::error::{
    APPROVAL_MALFORMED, APPROVAL_RULE, APPROVAL_SIGNATURE, ORDER_MALFORMED, ORDER_READER,
    ORDER_READER_KEY, ORDER_SIGNATURE, Refusal,
};

/// Roles that may ask for an order.
const REQUESTERS: [&str; 2] = ["auditor", "requester"];
/// Records from which on a table of the reader's key costs less than it saves.
const WITH_TABLE: u64 = 64;
/// Most bytes of an order's purpose.
const MAX_PURPOSE: usize = 1000;

/// An order whose signatures, roster entries and shape hold. Whether it may be released now is [`CheckedOrder::permit`]'s
/// to say, again for every batch of records.
#[derive(Debug)]
pub struct CheckedOrder {
    released: pb::ReleasedOrder,
    order: pb::Order,
    digest: Digest,
    records_root: Digest,
    window: TimeRange,
    rule: ApprovalRule,
    approvals: Vec<Signer>,
    bundle_version: u64,
    reader: OnceLock<Result<HybridPublicKey, HybridError>>,
}

impl CheckedOrder {
    /// Checks everything that order, approvals and roster alone decide.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(
        released: &pb::ReleasedOrder,
        bundle: &Bundle,
        now: Millis,
    ) -> Result<Self, Refusal> {
        let raw = released
            .order
            .clone()
            .ok_or_else(|| malformed("there is no order"))?;
        let signed = Signed::<pb::Order>::decode(raw)
            .map_err(|error| malformed("the order does not decode").because(error))?;
        let order = signed.message().clone();
        let (records_root, window) = check_shape(&order, &released.salt, bundle)?;
        require_one_signer(&signed, &order.requester, ORDER_SIGNATURE)?;
        bundle
            .verify_person(&signed, &order.requester, &REQUESTERS, now)
            .map_err(|error| {
                Refusal::denied(
                    ORDER_SIGNATURE,
                    "the order is not one that its requester may ask for",
                )
                .because(error)
            })?;
        check_reader(&order, bundle, now)?;
        let rule = bundle.approvals();
        let rule = ApprovalRule::new(rule.minimum, &rule.required_roles, rule.bulk_threshold)
            .map_err(|error| {
                Refusal::state(
                    APPROVAL_RULE,
                    "the bundle's rule for approvals is not usable",
                )
                .because(error)
            })?;
        if released.approvals.len() > MAX_SIGNERS {
            let error = QuorumError::TooMany(released.approvals.len());
            return Err(not_released(ReleaseError::Quorum(error)));
        }
        let approvals: Vec<Signer> = released
            .approvals
            .iter()
            .map(|raw| approval(raw, &order, &signed.digest(), bundle))
            .collect::<Result<_, _>>()?;
        // Equal neighbours pass here: the same human twice has a reason of its own, which the rule gives.
        if !approvals.is_sorted_by(|a, b| a.person <= b.person) {
            return Err(Refusal::malformed(
                APPROVAL_MALFORMED,
                "the approvals are not sorted by person",
            ));
        }
        Ok(Self {
            released: released.clone(),
            digest: signed.digest(),
            order,
            records_root,
            window,
            rule,
            approvals,
            bundle_version: bundle.version(),
            reader: OnceLock::new(),
        })
    }

    /// Permits the release now: quorum, distinct people, never the requester, required roles, bulk, window.
    ///
    /// # Errors
    /// With the policy's own reason.
    pub fn permit(&self, now: Millis) -> Result<Permit<Release>, Refusal> {
        permit_release(
            &self.rule,
            &ReleaseCase {
                order: self.digest,
                requester: &self.order.requester,
                records: self.order.records_count,
                window: self.window,
                now,
                approvals: &self.approvals,
            },
        )
        .map_err(not_released)
    }

    /// The order as it came, with its approvals.
    pub const fn released(&self) -> &pb::ReleasedOrder {
        &self.released
    }

    /// The order itself.
    pub const fn message(&self) -> &pb::Order {
        &self.order
    }

    /// Whether the log shows commitments only, to the order and to what is opened under it.
    pub const fn is_sealed(&self) -> bool {
        !self.released.salt.is_empty()
    }

    /// Its digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Root of its list of records.
    pub const fn records_root(&self) -> Digest {
        self.records_root
    }

    /// How many records it covers.
    pub const fn records_count(&self) -> u64 {
        self.order.records_count
    }

    /// The reader's public key, made ready with the first answer.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn reader(&self) -> Result<&HybridPublicKey, HybridError> {
        let reader = self.reader.get_or_init(|| {
            let key = HybridPublicKey::parse(&self.order.reader_key)?;
            Ok(if self.order.records_count < WITH_TABLE {
                key
            } else {
                key.with_table()
            })
        });
        reader.as_ref().map_err(|error| *error)
    }

    /// The bundle it was judged by.
    pub const fn bundle_version(&self) -> u64 {
        self.bundle_version
    }
}

fn malformed(message: &'static str) -> Refusal {
    Refusal::malformed(ORDER_MALFORMED, message)
}

/// Everything that needs the order alone.
fn check_shape(
    order: &pb::Order,
    salt: &[u8],
    bundle: &Bundle,
) -> Result<(Digest, TimeRange), Refusal> {
    if order.tenant != bundle.tenant().as_str() {
        return Err(malformed("the order is of another tenant"));
    }
    if order.id.len() != 16 || order.matter.len() != 16 || order.nonce.len() != 32 {
        return Err(malformed("the order's id, matter or nonce is malformed"));
    }
    if !(1..=MAX_PURPOSE).contains(&order.purpose.len()) {
        return Err(malformed("the order's purpose has 1 to 1000 bytes"));
    }
    if !(1..=MAX_RECORDS).contains(&order.records_count) {
        return Err(malformed("an order covers 1 to 10000 records"));
    }
    if order.reader_key.len() != PUBLIC_KEY_SIZE {
        return Err(malformed("the reader's key is malformed"));
    }
    let sealed = order.seal_until > 0;
    if salt.len() != if sealed { SALT_SIZE } else { 0 } {
        return Err(malformed("a sealed order, and no other, has a salt"));
    }
    let root = Digest::try_from(order.records_root.as_slice())
        .map_err(|_| malformed("the order's root is malformed"))?;
    let window = TimeRange::new(Millis::new(order.not_before), Millis::new(order.expiry))
        .ok_or_else(|| malformed("the order never stands"))?;
    Ok((root, window))
}

/// The reader is one of the roster, with exactly the roster's key: nobody can have an answer sealed to another.
fn check_reader(order: &pb::Order, bundle: &Bundle, now: Millis) -> Result<(), Refusal> {
    let reader = bundle.person(&order.reader, now).map_err(|error| {
        Refusal::denied(ORDER_READER, "the reader is not on the roster").because(error)
    })?;
    if !reader.roles.iter().any(|role| role == "reader") {
        return Err(Refusal::denied(
            ORDER_READER,
            "the person named is no reader",
        ));
    }
    if reader.reader_key != order.reader_key {
        return Err(Refusal::denied(
            ORDER_READER_KEY,
            "the reader's key is not the roster's",
        ));
    }
    Ok(())
}

/// An approval of this very order, signed by the person it names. Whether that person may approve is the policy's to say:
/// the roster's entry goes with it.
fn approval(
    raw: &pb::SignedStatement,
    order: &pb::Order,
    digest: &Digest,
    bundle: &Bundle,
) -> Result<Signer, Refusal> {
    let bad = |message: &'static str| Refusal::malformed(APPROVAL_MALFORMED, message);
    let signed = Signed::<pb::Approval>::decode(raw.clone())
        .map_err(|error| bad("an approval does not decode").because(error))?;
    if signed.tenant != order.tenant || signed.order != digest.as_bytes() {
        return Err(bad("an approval is of another order"));
    }
    if signed.records_root != order.records_root || signed.records_count != order.records_count {
        return Err(bad("an approver has counted other records"));
    }
    require_one_signer(&signed, &signed.person, APPROVAL_SIGNATURE)?;
    let unknown = || Refusal::denied(APPROVAL_SIGNATURE, "an approver is not on the roster");
    let person = bundle
        .message()
        .roster
        .iter()
        .find(|person| person.name == signed.person)
        .ok_or_else(unknown)?;
    signed
        .verify(&person.name, &person.signing_key)
        .map_err(|error| {
            Refusal::denied(
                APPROVAL_SIGNATURE,
                "an approval is not signed by its person",
            )
            .because(error)
        })?;
    let valid = TimeRange::new(
        Millis::new(person.not_before),
        Millis::new(person.not_after),
    )
    .ok_or_else(unknown)?;
    Ok(Signer {
        person: person.name.clone(),
        // The bundle's own check refuses roles that do not exist.
        roles: person
            .roles
            .iter()
            .filter_map(|role| role.parse::<Role>().ok())
            .collect(),
        valid,
        revoked: person.revoked,
        at: Millis::new(signed.at),
    })
}

/// One signature and no more: what stands beside a statement in the log has to be what was checked.
fn require_one_signer<M: greffe_envelope::statement::Statement>(
    signed: &Signed<M>,
    name: &str,
    reason: Reason,
) -> Result<(), Refusal> {
    if signed.signers().eq([name]) {
        Ok(())
    } else {
        Err(Refusal::denied(
            reason,
            "a statement is signed by exactly the person it names",
        ))
    }
}

/// The policy's reason, as it travels.
fn not_released(error: ReleaseError) -> Refusal {
    let reason = Reason::new(error.reason());
    Refusal::denied(reason, "the order may not be released").because(error)
}
