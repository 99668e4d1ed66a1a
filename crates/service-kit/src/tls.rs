//! Mutual TLS 1.3 with a hybrid key exchange, between peers known by SPIFFE ids.
//!
//! Both sides present a certificate of the tenant's authorities with exactly one URI name, `spiffe://TENANT/service/NAME` or
//! `spiffe://TENANT/app/NAME`. Host names play no part: a caller says which id it expects to reach. Every handshake is a
//! full one (no tickets), so that an expired certificate stops working with the connection that carries it.

mod channel;
mod connect;
mod identity;
mod named;
mod place;
pub mod renew;
mod spiffe;
mod verify;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ServerConfig, version};

pub use channel::Channel;
pub(crate) use connect::check_peer;
pub use connect::{ConnectError, connect, connect_lazy};
pub use identity::{Identity, TlsError};
pub(crate) use named::{named_config, named_connector};
pub use spiffe::{PeerKind, SpiffeError, SpiffeId};
pub(crate) use verify::certified_id;

use verify::{ExpectedServer, TenantClients};

/// How the common name of a development authority begins; `mode = "production"` refuses it.
pub const DEVELOPMENT_AUTHORITY: &str = "Greffe development TLS authority";

const ALPN: &[u8] = b"h2";

/// Who makes a call, as the handshake proved it. Every request carries it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// From the certificate.
    pub id: SpiffeId,
}

/// aws-lc with the hybrid group first; the classical ones stay for peers that a proxy or policy keeps from it.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// What a server of this identity accepts: clients of its own tenant, with a certificate. It follows the identity when that
/// is replaced.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Refused)?
        .with_client_cert_verifier(Arc::new(TenantClients::new(identity)))
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// What a client of this identity accepts: the one server it means to reach. It follows the identity when that is replaced.
pub fn client_config(
    identity: &Identity,
    expected: &SpiffeId,
) -> Result<Arc<ClientConfig>, TlsError> {
    let server = ExpectedServer::new(identity, expected.clone());
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server))
        .with_client_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
