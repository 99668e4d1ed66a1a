//! The health port: what it says at each moment of a process's life, and that it serves nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use greffe_api::audit::GetTileRequest;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_service_kit::boot::Boot;
use greffe_service_kit::config::HealthConfig;
use greffe_service_kit::health::Phase;
use greffe_service_kit::serve::TlsOnly;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::boot::settings;
use crate::world::{Authority, bundle, root, service};

/// One request over HTTP/1.1: status and body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// HTTP/2 with prior knowledge, as gRPC without TLS.
async fn plain(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// gRPC health of a service: 1 serving, 2 not; 0 for one that is not known.
async fn grpc(address: SocketAddr, service: &str) -> i32 {
    let mut client = HealthClient::new(plain(address).await);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    client
        .check(request)
        .await
        .map_or(0, |answer| answer.into_inner().status)
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_said_only_while_there_is_somebody_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.issue(&service("relay"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    write("ca.crt", authority.pem.as_bytes());
    write("root.pub", format!("{}\n", root()).as_bytes());
    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    let mut config = settings(folder.path());
    config.health = Some(HealthConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
    });

    let boot = Boot::start(&config).unwrap();
    let at = boot.health_address().unwrap();
    assert_eq!(ask(at, "GET", "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(
        ask(at, "GET", "/readyz").await,
        (503, "starting\n".to_owned())
    );
    boot.health.enter(Phase::Standby);
    assert_eq!(
        ask(at, "GET", "/readyz").await,
        (503, "standby\n".to_owned())
    );
    assert_eq!(ask(at, "GET", "/livez").await.0, 200);
    assert_eq!((grpc(at, "").await, grpc(at, "readiness").await), (2, 2));
    assert_eq!(
        (grpc(at, "liveness").await, grpc(at, "greffe.relay").await),
        (1, 0)
    );

    let database = boot.health.condition("database");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = boot.server(Arc::new(TlsOnly));
    let ready_file = boot.ready_file();
    let file = ready_file.clone();
    let serving = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        server
            .run("127.0.0.1:0".parse().unwrap(), &file, shutdown)
            .await
    });
    while !ready_file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while boot.health.phase() != Phase::Serving {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        ask(at, "GET", "/readyz").await,
        (503, "database: not yet\n".to_owned())
    );
    database.hold();
    assert_eq!(ask(at, "GET", "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!((grpc(at, "").await, grpc(at, "readiness").await), (1, 1));

    let (status, metrics) = ask(at, "GET", "/metrics").await;
    assert_eq!(status, 200);
    let not_after = metrics
        .lines()
        .find(|line| line.starts_with("greffe_certificate_not_after_seconds"))
        .unwrap_or_else(|| panic!("{metrics}"));
    let value: f64 = not_after.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((value - 4_102_444_800.0).abs() < 1.0, "{not_after}");
    // Counters begin at zero: an alert sees their first step.
    for counter in [
        "greffe_archive_scrub_failed_total",
        "greffe_certificate_reloads_total",
    ] {
        let zero = |line: &str| line.starts_with(counter) && line.ends_with(" 0");
        assert!(metrics.lines().any(zero), "{counter}: {metrics}");
    }
    assert!(metrics.contains("service_name=\"relay\""), "{metrics}");
    assert!(metrics.contains("greffe_tenant=\"acme\""), "{metrics}");

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(
        ask(at, "GET", "/readyz").await,
        (503, "draining\n".to_owned())
    );
    assert_eq!(ask(at, "GET", "/livez").await.0, 200);
    boot.health.stuck("a test says so");
    assert_eq!(ask(at, "GET", "/livez").await.0, 503);
    assert_eq!(grpc(at, "liveness").await, 2);
    drop(boot);
    // The task that listens ends when the runtime comes to it.
    while TcpStream::connect(at).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Attack 35: no port serves what no list names. Everything that the plaintext port answers stands here; whatever else is
/// asked for, a call of the main port among it, does not exist there.
#[tokio::test(flavor = "multi_thread")]
async fn attack_35_the_plaintext_port_serves_its_list_and_nothing_else() {
    const SERVED: [&str; 3] = ["/livez", "/readyz", "/metrics"];
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.issue(&service("archive"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    write("ca.crt", authority.pem.as_bytes());
    write("root.pub", format!("{}\n", root()).as_bytes());
    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    let mut config = settings(folder.path());
    config.health = Some(HealthConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
    });
    let boot = Boot::start(&config).unwrap();
    let at = boot.health_address().unwrap();
    for path in SERVED {
        assert_ne!(ask(at, "GET", path).await.0, 404, "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            assert_eq!(ask(at, method, path).await.0, 405, "{method} {path}");
        }
    }
    let mut others: Vec<String> = [
        "/",
        "/health",
        "/healthz",
        "/metrics/",
        "/livez/x",
        "//livez",
        "/debug/pprof",
        "/v1/records",
        "/../metrics",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ]
    .map(str::to_owned)
    .to_vec();
    others.extend(greffe_api::rpcs().into_iter().map(|rpc| rpc.path));
    assert!(others.len() > 40);
    for path in &others {
        for method in ["GET", "POST"] {
            assert_eq!(ask(at, method, path).await.0, 404, "{method} {path}");
        }
    }
    let mut log = LogServiceClient::new(plain(at).await);
    let refused = log.get_tile(GetTileRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused:?}");
}
