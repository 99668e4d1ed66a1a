//! What one caller may have, over real connections: calls, streams, bytes of requests, connections; and nothing unpacked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use greffe_api::audit::audit_service_client::AuditServiceClient;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_api::audit::{AppendRequest, FollowRequest, FollowResponse, GetCheckpointRequest};
use greffe_envelope::pb::LogEntry;
use greffe_service_kit::config::Limits;
use greffe_service_kit::errors::CallError;
use greffe_service_kit::serve::{TOO_MANY_BYTES, TOO_MANY_CALLS, TOO_MANY_STREAMS};
use greffe_service_kit::tls::{Channel, connect};
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::{Code, Status, Streaming};
use tower::ServiceExt as _;

use crate::access::{Notes, channel, start};
use crate::world::{Authority, Running, app, service};

struct World {
    authority: Authority,
    running: Running,
}

impl World {
    async fn with(limits: Limits) -> Self {
        let authority = Authority::new();
        let running = start(&authority, Arc::new(Notes::default()), &limits).await;
        Self { authority, running }
    }

    async fn app(&self, name: &str) -> Channel {
        channel(&self.authority, &self.running, &app(name)).await
    }

    async fn relay(&self) -> Channel {
        channel(&self.authority, &self.running, &service("relay")).await
    }
}

/// A call that stays unanswered for as long as any may.
fn slow(channel: &Channel) -> JoinHandle<Result<(), CallError>> {
    let mut client = LogServiceClient::new(channel.clone());
    tokio::spawn(async move {
        let request = GetCheckpointRequest {
            minimum_size: 77,
            ..GetCheckpointRequest::default()
        };
        let answer = client.get_checkpoint(request).await;
        answer.map(drop).map_err(CallError::from)
    })
}

async fn quick(channel: &Channel) -> Result<(), CallError> {
    let mut client = LogServiceClient::new(channel.clone());
    let answer = client.get_checkpoint(GetCheckpointRequest::default()).await;
    answer.map(drop).map_err(CallError::from)
}

async fn follow(channel: &Channel) -> Result<Streaming<FollowResponse>, CallError> {
    let mut client = LogServiceClient::new(channel.clone());
    let answer = client.follow(FollowRequest::default()).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(CallError::from)
}

#[track_caller]
fn is_busy(refused: &CallError, reason: greffe_service_kit::errors::Reason, whose: &str) {
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert!(refused.is(reason), "{refused}");
    assert!(refused.retry_after.is_some(), "{refused}");
    assert_eq!(refused.metadata["whose"], whose, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_a_caller_has_its_share_of_the_calls_and_leaves_the_others() {
    let world = World::with(Limits {
        calls: 4,
        calls_per_caller: 2,
        deadline_ms: 3_000,
        ..Limits::default()
    })
    .await;
    let (greedy, other) = (world.app("greedy").await, world.app("other").await);
    // Over one connection or two: the name counts.
    let again = world.app("greedy").await;
    let held = [slow(&greedy), slow(&again)];
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_busy(&quick(&greedy).await.unwrap_err(), TOO_MANY_CALLS, "caller");
    quick(&other).await.unwrap();
    let more = [slow(&other), slow(&other)];
    tokio::time::sleep(Duration::from_millis(300)).await;
    let third = world.app("third").await;
    is_busy(&quick(&third).await.unwrap_err(), TOO_MANY_CALLS, "process");
    for call in held.into_iter().chain(more) {
        call.await.unwrap().unwrap_err();
    }
    quick(&greedy).await.unwrap();
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_a_caller_has_its_share_of_the_streams_and_a_service_half_of_all() {
    let world = World::with(Limits {
        open_streams: 6,
        streams_per_caller: 2,
        ..Limits::default()
    })
    .await;
    let greedy = world.app("greedy").await;
    let mut held = vec![
        follow(&greedy).await.unwrap(),
        follow(&greedy).await.unwrap(),
    ];
    is_busy(
        &follow(&greedy).await.unwrap_err(),
        TOO_MANY_STREAMS,
        "caller",
    );
    let relay = world.relay().await;
    for _ in 0..3 {
        held.push(follow(&relay).await.unwrap());
    }
    is_busy(
        &follow(&relay).await.unwrap_err(),
        TOO_MANY_STREAMS,
        "caller",
    );
    // One that has ended makes room for another.
    drop(held.swap_remove(0));
    let mut tries = 0;
    while let Err(error) = follow(&greedy).await.map(|stream| held.push(stream)) {
        is_busy(&error, TOO_MANY_STREAMS, "caller");
        tries += 1;
        assert!(tries < 100, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(held);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_messages_that_never_end_fill_no_memory() {
    let world = World::with(Limits {
        request_bytes: 16 << 20,
        request_bytes_per_caller: 8 << 20,
        deadline_ms: 2_000,
        ..Limits::default()
    })
    .await;
    let relay = world.relay().await;
    // Each announces three megabytes and sends a few bytes of them.
    let mut part = vec![0];
    part.extend(3_000_000_u32.to_be_bytes());
    part.extend([7; 100]);
    let mut held = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..4 {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<_, Status>>(1);
        let frame = http_body::Frame::data(Bytes::from(part.clone()));
        sender.send(Ok(frame)).await.unwrap();
        let body = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let body = Body::new(http_body_util::StreamBody::new(body));
        let answer = relay.clone().oneshot(append(body)).await.unwrap();
        held.push(sender);
        ended.push(tokio::spawn(outcome(answer)));
    }
    // Two fit into what a caller, which here is half of it all, may have; the others are told at once.
    let begun = std::time::Instant::now();
    let (mut full, mut late) = (0, 0);
    for one in ended {
        let status = CallError::from(one.await.unwrap());
        if status.is(TOO_MANY_BYTES) {
            is_busy(&status, TOO_MANY_BYTES, "caller");
            assert!(
                begun.elapsed() < Duration::from_secs(1) || late > 0,
                "{status}"
            );
            full += 1;
        } else {
            assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
            late += 1;
        }
    }
    assert_eq!((full, late), (2, 2));
    // Everything was given back: one as large as what was refused is taken.
    let mut client = AuditServiceClient::new(relay);
    let request = AppendRequest {
        id: vec![0; 3_000_000],
        entry: Some(LogEntry::default()),
        ..AppendRequest::default()
    };
    let answer = client.append(futures::stream::iter([request])).await;
    let answer = answer.unwrap().into_inner().message().await.unwrap();
    assert_eq!(answer.unwrap().error.unwrap().reason, "ENTRY_UNTYPED");
    drop(held);
    world.running.stop().await;
}

fn append(body: Body) -> Request<Body> {
    request("/greffe.audit.v1.AuditService/Append", body)
}

fn request(path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// The status that an answer ends with.
async fn outcome(answer: http::Response<Body>) -> Status {
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let trailers = answer.into_body().collect().await.unwrap();
    let trailers = trailers.trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_one_peer_does_not_take_every_connection() {
    let world = World::with(Limits {
        connections: 4,
        connections_per_peer: 2,
        ..Limits::default()
    })
    .await;
    let held = [world.app("greedy").await, world.app("greedy").await];
    for channel in &held {
        quick(channel).await.unwrap();
    }
    // Closed before anything is asked on it: the channel that was to use it says so.
    let third = tokio::time::timeout(Duration::from_secs(3), async {
        let peer = world.running.peer();
        let identity = world.authority.identity(&app("greedy"));
        let third = connect(&peer, &service("audit"), &identity).await;
        quick(&third.map_err(|_| CallError::from(Status::unavailable("closed")))?).await
    })
    .await;
    assert!(!matches!(third, Ok(Ok(()))), "a third connection");
    quick(&world.app("other").await).await.unwrap();
    for channel in &held {
        quick(channel).await.unwrap();
    }
    drop(held);
    world.running.stop().await;
}

/// gzip of a megabyte of zeros; as a message of gRPC, and as the encoding of one that is not said to be compressed.
#[tokio::test(flavor = "multi_thread")]
async fn attack_60_compressed_messages_are_refused_and_none_is_unpacked() {
    let world = World::with(Limits::default()).await;
    let desk = world.app("desk").await;
    let path = "/greffe.audit.v1.LogService/GetCheckpoint";
    let gzip = bomb();
    for (encoding, flag, expected) in [
        (Some("gzip"), 1, Code::Unimplemented),
        (Some("deflate"), 1, Code::Unimplemented),
        (Some("zstd"), 1, Code::Unimplemented),
        (None, 1, Code::Internal),
    ] {
        let mut message = vec![flag];
        message.extend(u32::try_from(gzip.len()).unwrap().to_be_bytes());
        message.extend(&gzip);
        let mut call = request(path, Body::new(Full::new(Bytes::from(message))));
        if let Some(encoding) = encoding {
            call.headers_mut()
                .insert("grpc-encoding", encoding.parse().unwrap());
        }
        let answer = desk.clone().oneshot(call).await.unwrap();
        assert_eq!(outcome(answer).await.code(), expected, "{encoding:?}");
    }
    // Nor is an answer compressed for who asks for that.
    let mut call = request(path, Body::new(Full::new(Bytes::from_static(&[0; 5]))));
    call.headers_mut()
        .insert("grpc-accept-encoding", "gzip".parse().unwrap());
    let answer = desk.clone().oneshot(call).await.unwrap();
    assert_eq!(answer.headers().get("grpc-encoding"), None);
    world.running.stop().await;
}

/// A gzip stream (RFC 1952) of stored blocks; what it holds does not matter to who does not unpack it.
fn bomb() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // One fixed-Huffman block: a zero, then matches of length 258 and distance 1, each five bits and eight.
    bytes.extend([0x63, 0x60]);
    bytes.extend([0x18, 0x05].repeat(500));
    bytes
}
