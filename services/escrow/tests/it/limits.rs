//! As many openings as a node takes on, and no more.

use std::time::Duration;

use greffe_api::escrow::OpenRequest;
use greffe_escrow::config::EscrowConfig;
use greffe_service_kit::errors::CallError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_18_one_caller_does_not_take_every_opening() {
    let world = World::with(EscrowConfig {
        openings: 3,
        openings_per_caller: 2,
        ..EscrowConfig::default()
    })
    .await;
    let mut client = world.client(0);
    let mut open = async || {
        let (sender, requests) = mpsc::channel::<OpenRequest>(1);
        let answer = client.open(ReceiverStream::new(requests)).await;
        answer
            .map(|answer| (sender, answer.into_inner()))
            .map_err(CallError::from)
    };
    let (one, two) = (open().await.unwrap(), open().await.unwrap());
    let refused = open().await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.reason.as_deref(), Some("TOO_MANY_OPENINGS"));
    assert!(refused.retry_after.is_some());
    assert_eq!(refused.metadata["whose"], "caller");
    // One that has ended makes room.
    drop(one);
    let mut tries = 0;
    while let Err(refused) = open().await {
        assert_eq!(refused.reason.as_deref(), Some("TOO_MANY_OPENINGS"));
        tries += 1;
        assert!(tries < 100, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(two);
}
