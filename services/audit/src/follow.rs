//! Following: every published leaf from an index on, then what comes, at the follower's own pace.

use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;
use greffe_api::audit::FollowResponse;
use greffe_service_kit::errors::ServiceError;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::app::{App, damaged};
use crate::state::{LOG_BEHIND_CHECKPOINT, Published, State};

/// Most leaves in one message.
const MOST_LEAVES: u64 = 1000;

/// One follower: where it stands, and the checkpoint that it is being brought to.
struct Follower {
    app: App,
    state: watch::Receiver<State>,
    next: u64,
    target: Option<Arc<Published>>,
}

/// Answers one follower. Nothing is read for it before it has taken what came before, so a slow one costs nobody else.
pub(crate) fn follow(
    app: App,
    start: u64,
) -> Result<impl Stream<Item = Result<FollowResponse, Status>> + Send + 'static, ServiceError> {
    let mut state = app.state.clone();
    let size = state.borrow_and_update().size();
    if start > size {
        return Err(ServiceError::new(
            Code::FailedPrecondition,
            LOG_BEHIND_CHECKPOINT,
            "the follower knows more leaves than are published here: was this log restored from an old copy?",
        )
        .with("size", size));
    }
    state.mark_changed();
    let follower = Follower {
        app,
        state,
        next: start,
        target: None,
    };
    Ok(try_unfold(follower, |mut follower| async move {
        let response = follower.next().await.map_err(Status::from)?;
        Ok(response.map(|response| (response, follower)))
    }))
}

impl Follower {
    /// All leaves up to one checkpoint come with that one; then the newest is taken. None when the log ends.
    async fn next(&mut self) -> Result<Option<FollowResponse>, ServiceError> {
        let target = match self.target.take() {
            Some(target) => target,
            None => match self.newer().await {
                Some(target) => target,
                None => return Ok(None),
            },
        };
        let size = target.head().size;
        let count = (size - self.next).min(MOST_LEAVES);
        let leaves = self.app.entries(self.next, count).await?;
        if leaves.is_empty() && count > 0 {
            return Err(damaged());
        }
        let response = FollowResponse {
            start: self.next,
            checkpoint: target.checkpoint.encode(),
            leaves: leaves.into_iter().map(|leaf| leaf.bytes).collect(),
        };
        self.next += response.leaves.len() as u64;
        if self.next < size {
            self.target = Some(target);
        }
        Ok(Some(response))
    }

    /// Waits for something published that this follower has not seen.
    async fn newer(&mut self) -> Option<Arc<Published>> {
        loop {
            self.state.changed().await.ok()?;
            if let Some(published) = self.state.borrow_and_update().published.clone() {
                return Some(published);
            }
        }
    }
}
