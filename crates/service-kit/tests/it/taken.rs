//! A listener that is not free: the server says so, and what runs beside it ends with it.

use std::sync::Arc;

use greffe_policy::AccessRules;
use greffe_service_kit::config::Limits;
use greffe_service_kit::serve::{Https, ServeError, Server, TlsOnly};

use crate::world::{Authority, service};

#[tokio::test]
async fn a_port_that_is_taken_stops_what_runs_beside_the_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let identity = Authority::new().identity(&service("archive"));
    let limits = Limits::default();
    let server = Server::new(
        &identity,
        &limits,
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    );
    let stopping = server.stopping();
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready.json");
    let refused = server.run(address, &ready, core::future::pending()).await;
    assert!(matches!(refused, Err(ServeError::Listen { .. })));
    assert!(stopping.is_cancelled() && !ready.exists());
    let refused = Https::bind(&identity, &limits, address).await.err();
    assert!(matches!(refused, Some(ServeError::Listen { .. })));
}
