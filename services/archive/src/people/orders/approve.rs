//! Approvals: each signed over the order and the list that the approver's own client counted; the last one releases.

use core::time::Duration;
use greffe_service_kit::db::Connection;

use greffe_api::archive as api;
use greffe_envelope::opening::{SALT_SIZE, order_event};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_policy::{ApprovalRule, QuorumError, ReleaseCase, ReleaseError, Signer, permit_release};
use greffe_service_kit::errors::ServiceError;
use greffe_types::{Digest, Millis, TimeRange};
use prost::Message as _;

use super::super::refusal::{
    self, ACT_IN_THE_FUTURE, APPROVAL_RULE, ORDER_NOT_YOURS, ORDER_RECORDS_DIFFER, ORDER_RELEASED,
    ORDER_UNKNOWN, ORDER_WINDOW, PACK_UNKNOWN, field, require,
};
use super::super::signers::signer;
use super::super::{Person, fresh, stored};
use super::{check_reader, decoded, status, window};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::orders::{self, Stored};
use crate::store::outbox;

/// Longest that an approval waits for the order's entry in the log; the order is released then all the same, a little later.
const PATIENCE: Duration = Duration::from_secs(15);

/// Adds an approval, and releases the order when it was the last one needed.
pub(crate) async fn approve(
    app: &App,
    person: &Person,
    request: api::ApproveOrderRequest,
) -> Result<api::ApproveOrderResponse, ArchiveError> {
    let raw = request.approval.ok_or_else(|| field("approval"))?;
    let approval = Signed::<pb::Approval>::decode(raw).map_err(refusal::statement)?;
    let (now, bundle) = (app.now(), app.bundle());
    require(
        approval.tenant == bundle.tenant().as_str(),
        "approval.tenant",
    )?;
    if approval.person != person.name {
        return Err(ORDER_NOT_YOURS.refuse().into());
    }
    if Millis::new(approval.at) > now.plus(greffe_policy::MAX_SKEW) {
        return Err(ACT_IN_THE_FUTURE.refuse().into());
    }
    let new = verified(&approval, &bundle, now)?;

    let (id, append) = app
        .write_and_wake("order_approve", &[News::Outbox], async |conn| {
            approve_in(app, conn, &approval, new, &bundle).await
        })
        .await?;
    if let Some(append) = append
        && let Ok(logged) = tokio::time::timeout(PATIENCE, app.logged(&append)).await
    {
        logged?;
    }
    let mut tx = app.db.read().begin().await?;
    let stored = super::find(app, &mut tx, &id).await?;
    Ok(api::ApproveOrderResponse {
        status: Some(status(app, &mut tx, stored).await?),
    })
}

/// What is still missing, in words.
pub(super) async fn missing(
    app: &App,
    conn: &mut Connection,
    order: &Stored,
) -> Result<String, ArchiveError> {
    let bundle = app.bundle();
    let message = decoded(order)?;
    let case = Case::new(&message, &bundle, app.now())?;
    let (signers, _) = standing(app, conn, &case, order, &bundle).await?;
    Ok(match case.permit(&signers) {
        Ok(()) => "any of the approvals once more: they suffice by the present roster".to_owned(),
        Err(ReleaseError::Quorum(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}

/// The order's id, and the append to wait for once the approvals suffice.
type Approved = (Vec<u8>, Option<[u8; 16]>);

async fn approve_in(
    app: &App,
    conn: &mut Connection,
    approval: &Signed<pb::Approval>,
    new: Signer,
    bundle: &Bundle,
) -> Result<Approved, ArchiveError> {
    let now = app.now();
    let filed = orders::by_digest(conn, &app.scope, &approval.order)
        .await?
        .ok_or_else(|| ORDER_UNKNOWN.refuse())?;
    let order = decoded(&filed)?;
    let statement = approval.raw().encode_to_vec();
    let before = orders::approvals(conn, &app.scope, &filed.id).await?;
    let again = match before.iter().find(|(name, _)| *name == new.person) {
        Some((_, known)) if *known != statement => {
            return Err(refusal::quorum(&QuorumError::Twice(new.person)).into());
        }
        known => known.is_some(),
    };
    if let Some(append) = filed.append.clone().filter(|_| again) {
        return Ok((filed.id, append.try_into().ok()));
    }
    if order.expiry <= now.get() {
        return Err(ORDER_WINDOW.refuse().into());
    }
    if filed.append.is_some() {
        return Err(ORDER_RELEASED.refuse().into());
    }
    let same_list = approval.records_root == order.records_root
        && approval.records_count == order.records_count;
    if !same_list {
        return Err(ORDER_RECORDS_DIFFER.refuse().into());
    }
    check_reader(&order, bundle, now)?;
    let case = Case::new(&order, bundle, now)?;
    case.check_packs(app, conn, &filed).await?;
    case.counts(&new).map_err(|e| refusal::release(&e))?;
    let person = &approval.person;
    orders::approve(conn, &app.scope, &filed.id, person, &statement).await?;
    let (signers, outdated) = standing(app, conn, &case, &filed, bundle).await?;
    let append = match case.permit(&signers) {
        Ok(()) => {
            for person in outdated {
                orders::withdraw(conn, &app.scope, &filed.id, &person).await?;
            }
            Some(release(app, conn, &filed, &order).await?)
        }
        Err(error) if waits(&error) => None,
        Err(error) => return Err(refusal::release(&error).into()),
    };
    Ok((filed.id, append))
}

/// Writes the order's leaf: the order and every approval that stands, or a salted commitment to them while it is sealed.
async fn release(
    app: &App,
    conn: &mut Connection,
    filed: &Stored,
    order: &Signed<pb::Order>,
) -> Result<[u8; 16], ArchiveError> {
    // As the nodes demand it: an order with a seal has a salt, also when the seal has run out by now.
    let sealed = order.seal_until > 0;
    let salt: Option<[u8; SALT_SIZE]> = if sealed { Some(fresh()?) } else { None };
    let approvals = orders::approvals(conn, &app.scope, &filed.id).await?;
    let released = pb::ReleasedOrder {
        order: Some(order.raw().clone()),
        approvals: approvals
            .iter()
            .map(|(_, statement)| stored(statement))
            .collect::<Result<_, _>>()?,
        salt: salt.map(Vec::from).unwrap_or_default(),
    };
    let append = outbox::append_id("released-order", &[&filed.digest]);
    let event = order_event(&released);
    let expiry = Millis::new(order.expiry);
    outbox::put(conn, &app.scope, &append, event, Some(expiry)).await?;
    orders::release(
        conn,
        &app.scope,
        &filed.id,
        &append,
        salt.as_ref().map(<[u8; SALT_SIZE]>::as_slice),
    )
    .await?;
    Ok(append)
}

/// An order and the rule it has to meet.
struct Case<'a> {
    rule: ApprovalRule,
    digest: Digest,
    order: &'a pb::Order,
    window: TimeRange,
    now: Millis,
}

impl<'a> Case<'a> {
    fn new(
        order: &'a Signed<pb::Order>,
        bundle: &Bundle,
        now: Millis,
    ) -> Result<Self, ServiceError> {
        let rule = bundle.approvals();
        let rule = ApprovalRule::new(rule.minimum, &rule.required_roles, rule.bulk_threshold)
            .map_err(|error| APPROVAL_RULE.refuse().because(error))?;
        let window = window(order)?;
        Ok(Self {
            rule,
            digest: order.digest(),
            order: order.message(),
            window,
            // An order may be approved before its window opens: until then the nodes do not answer.
            now: now.max(window.not_before()),
        })
    }

    /// The bundle's rule decides; it may not ask for less than a pack that one of the records is kept by.
    async fn check_packs(
        &self,
        app: &App,
        conn: &mut Connection,
        filed: &Stored,
    ) -> Result<(), ArchiveError> {
        for digest in orders::packs(conn, &app.scope, &filed.id).await? {
            let pack = app
                .packs
                .get(&digest)
                .ok_or_else(|| PACK_UNKNOWN.refuse())?;
            if !self.rule.is_at_least(pack.approval()) {
                return Err(APPROVAL_RULE.refuse().with("pack", pack.id()).into());
            }
        }
        Ok(())
    }

    fn permit(&self, signers: &[Signer]) -> Result<(), ReleaseError> {
        permit_release(
            &self.rule,
            &ReleaseCase {
                order: self.digest,
                requester: &self.order.requester,
                records: self.order.records_count,
                window: self.window,
                now: self.now,
                approvals: signers,
            },
        )
        .map(drop)
    }

    /// Whether one approval counts at all: the others may be missing, but nothing may be wrong with it.
    fn counts(&self, signer: &Signer) -> Result<(), ReleaseError> {
        match self.permit(core::slice::from_ref(signer)) {
            Err(error) if !waits(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether further approvals can mend it.
const fn waits(error: &ReleaseError) -> bool {
    matches!(
        error,
        ReleaseError::Quorum(QuorumError::TooFew { .. } | QuorumError::MissingRole(_))
    )
}

/// The stored approvals that still count, and the people whose approval no longer does: revoked since, or out of role.
async fn standing(
    app: &App,
    conn: &mut Connection,
    case: &Case<'_>,
    order: &Stored,
    bundle: &Bundle,
) -> Result<(Vec<Signer>, Vec<String>), ArchiveError> {
    let (mut signers, mut outdated) = (Vec::new(), Vec::new());
    for (person, statement) in orders::approvals(conn, &app.scope, &order.id).await? {
        let approval = Signed::<pb::Approval>::decode(stored(&statement)?)
            .map_err(|_| ArchiveError::Damaged("a stored approval"))?;
        match verified(&approval, bundle, app.now()) {
            Ok(signer) if case.counts(&signer).is_ok() => signers.push(signer),
            _ => outdated.push(person),
        }
    }
    Ok((signers, outdated))
}

/// The approver, when the current roster bears the signature out.
fn verified(
    approval: &Signed<pb::Approval>,
    bundle: &Bundle,
    now: Millis,
) -> Result<Signer, ServiceError> {
    let person = bundle
        .verify_person(approval, &approval.person, &[], now)
        .map_err(refusal::trust)?;
    signer(person, Millis::new(approval.at))
}
