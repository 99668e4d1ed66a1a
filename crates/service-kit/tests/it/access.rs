//! The rule of every RPC in front of its handler, deadlines, and the drain.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_api::audit::audit_service_server::AuditServiceServer;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_api::audit::log_service_server::LogServiceServer;
use greffe_api::audit::{FollowRequest, GetCheckpointRequest};
use greffe_policy::{AccessRules, Caller, CallerKind};
use greffe_service_kit::config::Limits;
use greffe_service_kit::errors::{CallError, ServiceError};
use greffe_service_kit::serve::{
    Authenticator, CALL_TOO_LONG, CALLER_NOT_ALLOWED, SERVICE_STOPPING, Server, TOO_MANY_CALLS,
    UNKNOWN_METHOD, tls_caller,
};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{Caller as Peer, SpiffeId, connect};
use http::HeaderMap;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::Code;

use crate::log::Log;
use crate::world::{Authority, Running, app, run, service};

/// By certificate, remembering what was refused.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<String>>, Mutex<Vec<HeaderMap>>);

#[tonic::async_trait]
impl Authenticator for Notes {
    async fn authenticate(
        &self,
        _: &str,
        _: &[CallerKind],
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Caller, ServiceError> {
        self.1.lock().unwrap().push(headers.clone());
        Ok(tls_caller(peer))
    }

    fn refused(&self, method: &str, caller: &str, reason: &str) {
        let mut notes = self.0.lock().unwrap();
        notes.push(format!("{method} {caller} {reason}"));
    }
}

pub(crate) async fn start(authority: &Authority, notes: Arc<Notes>, limits: &Limits) -> Running {
    let log = Log::new();
    let identity = authority.identity(&service("audit"));
    let server = Server::new(&identity, limits, AccessRules::embedded(), notes)
        .add(LogServiceServer::new(log.clone()))
        .add(AuditServiceServer::new(log));
    run(server).await
}

pub(crate) async fn channel(authority: &Authority, running: &Running, id: &SpiffeId) -> Channel {
    connect(&running.peer(), &service("audit"), &authority.identity(id))
        .await
        .unwrap()
}

async fn call(channel: Channel, path: &'static str) -> Result<(), CallError> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(tonic::Request::new(()), path, codec)
        .await
        .map(|_| ())
        .map_err(CallError::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reaches_its_handler_only_when_its_rule_names_the_caller() {
    let authority = Authority::new();
    let notes = Arc::new(Notes::default());
    let running = start(&authority, notes.clone(), &Limits::default()).await;
    let desk = channel(&authority, &running, &app("desk")).await;

    let answer = LogServiceClient::new(desk.clone())
        .get_checkpoint(GetCheckpointRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.into_inner().checkpoint, b"app:desk");

    let append = "/greffe.audit.v1.AuditService/Append";
    let refused = call(desk.clone(), append).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    assert!(refused.is(CALLER_NOT_ALLOWED), "{refused}");

    let nothing = "/greffe.audit.v1.AuditService/Erase";
    let unknown = call(desk.clone(), nothing).await.unwrap_err();
    assert_eq!(unknown.code, Code::Unimplemented);
    assert!(unknown.is(UNKNOWN_METHOD), "{unknown}");

    // A rule, but not a service of this process.
    let relay = channel(&authority, &running, &service("relay")).await;
    let elsewhere = call(relay, "/greffe.archive.v1.IngestService/Ingest").await;
    assert_eq!(elsewhere.unwrap_err().code, Code::Unimplemented);

    assert_eq!(
        *notes.0.lock().unwrap(),
        [
            format!("{append} app:desk CALLER_NOT_ALLOWED"),
            format!("{nothing} spiffe://acme/app/desk UNKNOWN_METHOD"),
        ]
    );

    // Reflection shows every client of the tenant the contract.
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(desk);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::FileContainingSymbol(
                "greffe.audit.v1.LogService".into(),
            ),
        ),
    };
    let mut answers = reflection
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().is_some());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_bounded_in_time_and_number() {
    let authority = Authority::new();
    let limits = Limits {
        calls: 1,
        deadline_ms: 300,
        ..Limits::default()
    };
    let running = start(&authority, Arc::new(Notes::default()), &limits).await;
    let desk = channel(&authority, &running, &app("desk")).await;
    let slow = tokio::spawn({
        let mut client = LogServiceClient::new(desk.clone());
        async move {
            let request = GetCheckpointRequest {
                minimum_size: 77,
                ..GetCheckpointRequest::default()
            };
            client
                .get_checkpoint(request)
                .await
                .map_err(CallError::from)
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut client = LogServiceClient::new(desk);
    let crowded = client
        .get_checkpoint(GetCheckpointRequest::default())
        .await
        .map_err(CallError::from)
        .unwrap_err();
    assert!(crowded.is(TOO_MANY_CALLS) && crowded.is_retryable());
    let late = slow.await.unwrap().unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
    assert!(late.is(CALL_TOO_LONG), "{late}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_a_stopping_server_ends_streams_at_once() {
    let authority = Authority::new();
    let limits = Limits {
        drain_ms: 3_000,
        deadline_ms: 500,
        ..Limits::default()
    };
    let running = start(&authority, Arc::new(Notes::default()), &limits).await;
    let desk = channel(&authority, &running, &app("desk")).await;
    let mut client = LogServiceClient::new(desk);
    let mut stream = client
        .follow(FollowRequest::default())
        .await
        .unwrap()
        .into_inner();
    let begun = std::time::Instant::now();
    let (ended, ()) = tokio::join!(stream.message(), running.stop());
    let ended = CallError::from(ended.unwrap_err());
    assert!(ended.is(SERVICE_STOPPING) && ended.is_retryable());
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "a follower does not hold the drain"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_a_stopping_server_answers_the_calls_that_are_under_way() {
    let authority = Authority::new();
    let limits = Limits {
        drain_ms: 10_000,
        deadline_ms: 2_000,
        ..Limits::default()
    };
    let running = start(&authority, Arc::new(Notes::default()), &limits).await;
    let desk = channel(&authority, &running, &app("desk")).await;
    // Answered after two seconds, by the server itself.
    let mut client = LogServiceClient::new(desk);
    let slow = tokio::spawn(async move {
        let request = GetCheckpointRequest {
            minimum_size: 77,
            ..GetCheckpointRequest::default()
        };
        client.get_checkpoint(request).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop().await;
    let answer = CallError::from(slow.await.unwrap().unwrap_err());
    assert!(answer.is(CALL_TOO_LONG), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_a_span_tells_its_peer_of_which_trace_it_is() {
    let authority = Authority::new();
    let notes = Arc::new(Notes::default());
    let running = start(&authority, notes.clone(), &Limits::default()).await;
    let desk = channel(&authority, &running, &app("desk")).await;
    let asks = async |desk: &Channel| {
        let mut client = LogServiceClient::new(desk.clone());
        client
            .get_checkpoint(GetCheckpointRequest::default())
            .await
            .unwrap();
    };
    asks(&desk).await;
    let span = SpanContext::new(
        TraceId::from_bytes([1; 16]),
        SpanId::from_bytes([2; 8]),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let within = opentelemetry::Context::new().with_remote_span_context(span);
    asks(&desk).with_context(within).await;
    let said: Vec<Option<String>> = notes
        .1
        .lock()
        .unwrap()
        .iter()
        .map(|headers| {
            let said = headers.get("traceparent");
            said.map(|said| said.to_str().unwrap().to_owned())
        })
        .collect();
    let trace = format!("00-{}-{}-01", "01".repeat(16), "02".repeat(8));
    assert_eq!(said, [None, Some(trace)]);
}
