//! Holds: placed at once, released by two people and after a cooling-off period.

use greffe_api::archive as api;
use greffe_policy::{HoldRelease, release_hold};
use greffe_service_kit::errors::ServiceError;
use greffe_types::ActId;

use super::super::refusal::{self, HOLD_DIFFERS, HOLD_EXISTS, HOLD_UNKNOWN, field};
use super::super::signers::{Acts, signers};
use super::{done, matter_id, open_matter, reason, retried, tenant_packs};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::holds::{self, Hold};
use crate::store::search::Filter;

/// Places a hold. It binds what its query matches from this transaction on: a disposition is decided before it or not at all.
pub(super) async fn place(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let asker = acts.only()?;
    let about: api::HoldAct = acts.about()?;
    reason(&about.reason)?;
    let query = about.query.clone().unwrap_or_default();
    let hold = Hold {
        id: hold_id(&about.hold)?,
        matter: matter_id(&about.matter)?,
        filter: Filter::parse(&query).map_err(field)?,
        query,
        reason: about.reason,
        placed_by: asker.signer.person.clone(),
        placed_at: app.now(),
        free_from: None,
    };
    app.write_and_wake("hold_place", &[News::Outbox], async |conn| {
        if let Some(append) = retried(app, conn, acts).await? {
            return Ok(append);
        }
        open_matter(app, conn, &hold.matter).await?;
        if !holds::place(conn, &app.scope, &hold).await? {
            return Err(HOLD_EXISTS.refuse().into());
        }
        done(app, conn, acts).await
    })
    .await
}

/// Releases a hold: every pack of the tenant has to permit it, and the longest cooling-off period counts.
pub(super) async fn release(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let about: api::HoldAct = acts.about()?;
    reason(&about.reason)?;
    let id = hold_id(&about.hold)?;
    let packs = tenant_packs(app)?;
    let people = signers(acts.all());
    app.write_and_wake("hold_release", &[News::Outbox], async |conn| {
        if let Some(append) = retried(app, conn, acts).await? {
            return Ok(append);
        }
        let hold = holds::get(conn, &app.scope, &id)
            .await?
            .ok_or_else(|| HOLD_UNKNOWN.refuse())?;
        let same_query = about
            .query
            .as_ref()
            .is_none_or(|query| *query == hold.query);
        if about.matter != hold.matter.as_bytes() || !same_query {
            return Err(HOLD_DIFFERS.refuse().into());
        }
        let mut free_from = app.now();
        for pack in &packs {
            let permit = release_hold(&HoldRelease {
                pack,
                hold: id,
                placed_at: hold.placed_at,
                now: app.now(),
                signers: &people,
            })
            .map_err(|error| refusal::hold(&error))?;
            free_from = free_from.max(permit.into_inner().effective_at);
        }
        holds::release(conn, &app.scope, &id, free_from).await?;
        done(app, conn, acts).await
    })
    .await
}

fn hold_id(bytes: &[u8]) -> Result<ActId, ServiceError> {
    ActId::try_from(bytes).map_err(|_| field("act.hold"))
}
