//! The relay: MLS delivery service and journaling gate.
//!
//! It sees routing headers and ciphertext; never content, content keys or journaling shares. A message is acknowledged to
//! its sender and delivered to its recipients only with the archive's receipt.

pub mod app;
pub mod attachments;
pub mod auth;
pub mod config;
pub mod devices;
pub mod disclosures;
pub mod error;
mod follow;
mod jobs;
pub mod mailbox;
pub mod pipeline;
mod replicas;
pub mod rpc;
pub mod session;
pub mod store;

use greffe_service_kit::db::lease::or_lost;
use std::future::Future;
use std::sync::Arc;

use greffe_api::relay::directory_service_server::DirectoryServiceServer;
use greffe_api::relay::relay_service_server::RelayServiceServer;
use greffe_service_kit::boot::{Boot, Leadership, StartError};

pub use config::Config;

use app::App;
use auth::DeviceSessions;
use rpc::Rpc;

/// Largest message of the relay's RPCs: a commit with its Welcome and tree.
const MESSAGE: usize = 4 << 20;

/// Keys that the service makes in its own folder, none of which the trust bundle names: the secret of its sessions, which
/// every replica of the relay holds and nobody else.
pub const KEYS: &[(&str, &str)] = &[(app::SESSION, "secret")];

/// Runs the relay until `stop`.
///
/// # Errors
/// [`StartError`].
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let boot = Boot::start(&config.service)?;
    let (app, leadership) = App::open(&boot, config.relay).await?;
    let rpc = Rpc::new(app.clone());
    let server = boot
        .server(Arc::new(DeviceSessions::new(app.clone())))
        .add(DirectoryServiceServer::new(rpc.clone()).max_decoding_message_size(MESSAGE))
        .add(
            RelayServiceServer::new(rpc)
                .max_decoding_message_size(MESSAGE)
                .max_encoding_message_size(MESSAGE),
        );
    let stopping = server.stopping();
    let follower = follow::follower(&app, boot.channel("audit")?, boot.health.condition("log"))
        .await
        .map_err(|error| StartError::service("the log cannot be followed", error))?;
    let feed = app
        .pipeline
        .feed()
        .await
        .map_err(|error| StartError::service("the order of release cannot be read", error))?;
    let following = tokio::spawn(follow::run(app.clone(), follower));
    let hearing = tokio::spawn(replicas::run(app.clone(), feed));
    let measuring = tokio::spawn(jobs::measure(app.clone()));
    let leading = tokio::spawn(lead(app.clone(), leadership));
    let stop = or_lost(&app.db, stop);
    let outcome = server
        .run(config.service.listen, &boot.ready_file(), stop)
        .await;
    stopping.cancel();
    for task in [following, hearing, measuring, leading] {
        task.abort();
    }
    app.mailbox.stop().await;
    app.pipeline.stop().await;
    app.db.close().await?;
    outcome.map_err(StartError::from)
}

/// What one replica does for all, from when it leads.
async fn lead(app: Arc<App>, leadership: Leadership) {
    let lease = leadership.gained().await;
    app.lead(&lease).await;
    jobs::run(app).await;
}
