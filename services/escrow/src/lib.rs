//! An escrow node: one share of each journaling key, and the word of one witness.
//!
//! Called by the operator (key generation, resharing), by a reader's own machine (openings) and by the log (checkpoints). It sees
//! headers, wraps and orders; it must never see content, a whole key, or another node's share.
//!
//! Invariants: a share opens in one function, which takes the policy's permit ([`app`], `release.rs`), and is dealt out to new
//! shares in one other, by a descriptor of the root's that the log has (`reshare/mod.rs`); before an answer
//! the node has checked, by itself and against the log it has followed itself, everything that crates/envelope lists;
//! nothing is answered that is not counted, stored and in the log; a checkpoint is cosigned only after the witness's state
//! is on disk.

pub mod app;
pub mod config;
pub mod error;
pub mod follow;
pub mod rng;
pub mod rpc;
pub mod store;

use greffe_service_kit::db::lease::or_lost;
use std::future::Future;
use std::sync::Arc;

use greffe_api::escrow::escrow_service_server::EscrowServiceServer;
use greffe_api::escrow::witness_service_server::WitnessServiceServer;
use greffe_service_kit::boot::{Boot, StartError};

pub use config::Config;

use app::{Node, WitnessDesk};
use rpc::{Door, Escrow, Witnessing};

/// Largest message of the node's RPCs.
const MESSAGE: usize = 4 << 20;

/// Keys that a node makes in its own folder before an operator names them in the trust bundle: it signs answers, cosigns
/// checkpoints, and opens private messages of key generation.
pub const KEYS: &[(&str, &str)] = &[
    ("signing_key", "ed25519"),
    ("witness_key", "ed25519"),
    ("channel_key", "hybrid"),
];

/// Runs a node until `stop`.
///
/// # Errors
/// [`StartError`]; among them `WITNESS_STATE_LOST` when the witness's state is gone.
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let boot = Boot::start(&config.service)?;
    let secrets = boot.open_secrets()?;
    let node = Node::open(&boot, &secrets, config.escrow).await?;
    let desk = Arc::new(WitnessDesk::open(&boot, &secrets, &node).await?);
    drop(secrets);
    let follower = follow::follower(&node, boot.channel("audit")?).await?;
    let followed = node.clone();
    let following = tokio::spawn(greffe_service_kit::follow::run(follower, move |batch| {
        let node = followed.clone();
        async move { follow::apply(&node, batch).await }
    }));
    let destroying = tokio::spawn(app::destroy::run(node.clone()));
    let sweeping = tokio::spawn(app::reshare::run(node.clone()));
    let server = boot
        .server(Arc::new(Door(node.clone())))
        .add(EscrowServiceServer::new(Escrow(node.clone())).max_decoding_message_size(MESSAGE))
        .add(WitnessServiceServer::new(Witnessing(desk)).max_decoding_message_size(MESSAGE));
    let stop = or_lost(&node.db, stop);
    let outcome = server
        .run(config.service.listen, &boot.ready_file(), stop)
        .await;
    // Ended before the database closes under them.
    for task in [following, destroying, sweeping] {
        task.abort();
        let _ = task.await;
    }
    node.db.close().await?;
    outcome.map_err(StartError::from)
}
