//! Matters and the holds that belong to them.

use greffe_api::archive as api;

use super::page::{Listing, size};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::{holds, matters};

/// A page of matters.
pub(crate) async fn list(
    app: &App,
    request: &api::ListMattersRequest,
) -> Result<api::ListMattersResponse, ArchiveError> {
    let limit = size(request.page_size)?;
    let listing = Listing {
        tenant: app.tenant(),
        list: "matters",
        query: &[],
    };
    let after = listing.after(&request.page_token)?;
    let mut tx = app.db.read().begin().await?;
    let found = matters::page(&mut tx, &app.scope, after, limit + 1).await?;
    let more = found.len() > limit as usize;
    let found = &found[..found.len().min(limit as usize)];
    let mut listed = Vec::with_capacity(found.len());
    for matter in found {
        let mut bound = Vec::new();
        for hold in holds::of_matter(&mut tx, &app.scope, matter.id()).await? {
            let records = match hold.stands(app.now()) {
                true => hold.filter.count(&mut tx, &app.scope).await?,
                false => 0,
            };
            bound.push(api::Hold {
                hold: hold.id.to_vec(),
                records,
                query: Some(hold.query),
                reason: hold.reason,
                placed_by: hold.placed_by,
                placed_at: hold.placed_at.get(),
                released_at: hold.free_from.map_or(0, greffe_types::Millis::get),
            });
        }
        listed.push(api::Matter {
            matter: matter.id().to_vec(),
            name: matter.name.clone(),
            opened_by: matter.opened_by.clone(),
            opened_at: matter.opened_at(),
            holds: bound,
        });
    }
    Ok(api::ListMattersResponse {
        next_page_token: found
            .last()
            .filter(|_| more)
            .map(|last| listing.token(last.number()))
            .unwrap_or_default(),
        matters: listed,
    })
}
