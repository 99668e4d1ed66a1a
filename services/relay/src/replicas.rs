//! What replicas tell each other, and what each looks at by itself in case nobody tells it.
//!
//! Nothing here is relied on for what is right, only for how soon: a message may be lost, late, or come twice.

use core::time::Duration;
use std::sync::Arc;

use greffe_service_kit::db::wake::Wake;
use greffe_service_kit::errors::Causes;
use greffe_types::{ConversationId, DeviceId, from_hex};

use crate::app::App;
use crate::pipeline::Feed;

/// What the relay's replicas talk about.
pub(crate) const TOPIC: &str = "relay";
/// Something has a number and no receipt: for the leader.
pub(crate) const SEQUENCED: &str = "sequenced";
/// Something has its receipt.
pub(crate) const RELEASED: &str = "released";
/// A statement came into force.
pub(crate) const STATEMENT: &str = "statement";
/// And the id of a device for which something else has changed.
const DEVICE: &str = "device-";
/// And the id of a conversation that was stopped.
const STALLED: &str = "stalled-";
/// How long what nobody told us may stay unknown.
const LOOK: Duration = Duration::from_secs(1);

/// What tells the others that something has changed for a device's mailbox.
pub(crate) fn changed(device: &DeviceId) -> String {
    format!("{DEVICE}{device}")
}

/// What tells the others that a conversation was stopped.
pub(crate) fn stalled(conversation: &ConversationId) -> String {
    format!("{STALLED}{conversation}")
}

/// Hears and looks for as long as it is polled.
pub(crate) async fn run(app: Arc<App>, mut feed: Feed) {
    let mut listener = app.db.listen(TOPIC, LOOK);
    loop {
        let words = match listener.next().await {
            Wake::Heard(words) => words,
            Wake::Look => [SEQUENCED, RELEASED, STATEMENT].map(str::to_owned).into(),
        };
        let said = |what: &str| words.iter().any(|word| word == what);
        if said(SEQUENCED) {
            app.pipeline.sequenced_elsewhere();
        }
        if said(RELEASED)
            && let Err(error) = feed.advance().await
        {
            tracing::warn!(causes = %Causes(&error), "what was released elsewhere is looked for again");
        }
        if said(STATEMENT)
            && let Err(error) = app.catch_up().await
        {
            tracing::warn!(causes = %Causes(&error), "statements are looked for again");
        }
        let stopped = words.iter().filter_map(|word| word.strip_prefix(STALLED));
        for conversation in stopped.filter_map(|hex| from_hex(hex).ok()) {
            let conversation = ConversationId::new(conversation);
            app.pipeline.stalled_elsewhere(&conversation);
        }
        let devices = words.iter().filter_map(|word| word.strip_prefix(DEVICE));
        let devices: Vec<DeviceId> = devices
            .filter_map(|hex| from_hex(hex).ok().map(DeviceId::new))
            .collect();
        app.mailbox.wake(&devices);
    }
}
