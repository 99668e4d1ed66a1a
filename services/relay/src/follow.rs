//! Following the audit log: statements that others publish come into force here too.

use std::sync::Arc;

use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::follow::{self, FollowState, Followed, Follower};
use greffe_service_kit::health::Condition;
use greffe_service_kit::tls::Channel;

use crate::app::App;
use crate::error::RelayError;
use crate::store::statements;

/// Follows from where this relay stopped, for as long as it is polled.
pub(crate) async fn run(app: Arc<App>, follower: Follower) {
    follow::run(follower, async |followed: Arc<Followed>| {
        take_in(&app, &followed).await
    })
    .await;
}

/// A follower at the stored place.
///
/// # Errors
/// The database's, and a stored place that cannot be one.
pub(crate) async fn follower(
    app: &App,
    audit: Channel,
    log: Condition,
) -> Result<Follower, RelayError> {
    let damaged = || RelayError::Damaged("place in the log");
    let state = match statements::followed(app.db.read(), &app.scope).await? {
        None => FollowState::default(),
        Some((size, frontier)) => FollowState::from_parts(size, &frontier).ok_or_else(damaged)?,
    };
    Follower::new(audit, app.trust.clone(), app.clock.clone(), state)
        .map(|follower| follower.with_condition(log))
        .map_err(|_| damaged())
}

/// Takes verified leaves in, then remembers the place: leaves seen twice change nothing.
async fn take_in(app: &App, followed: &Followed) -> Result<(), RelayError> {
    for (index, (_, entry)) in (followed.start..).zip(&followed.leaves) {
        if let Some(Event::Statement(statement)) = &entry.event {
            match app.found_in_log(statement, index).await {
                // Another replica has stored a different one in its place, and the root signed both.
                Err(RelayError::Conflict) => {
                    tracing::error!(
                        index,
                        "the root signed two statements for one place; the later one is ignored"
                    );
                }
                taken => taken?,
            }
        }
    }
    if followed.leaves.is_empty() {
        return Ok(());
    }
    let state = &followed.state;
    app.write("follow_log", async |conn| {
        let frontier = state.frontier_bytes();
        Ok(statements::set_followed(conn, &app.scope, state.size, &frontier).await?)
    })
    .await
}
