//! Where a tenant's services are, and how this application proves itself to them.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greffe_api::archive::archive_service_client::ArchiveServiceClient;
use greffe_api::archive::order_service_client::OrderServiceClient;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_api::escrow::escrow_service_client::EscrowServiceClient;
use greffe_api::relay::directory_service_client::DirectoryServiceClient;
use greffe_api::relay::relay_service_client::RelayServiceClient;
use greffe_envelope::trust::RootKey;
use greffe_policy::{Pack, load_folder};
use greffe_service_kit::config::{PeerConfig, TlsFiles};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{Identity, SpiffeId, connect_lazy, renew};
use greffe_types::{DeviceId, TenantId};
use serde::Deserialize;
use tonic::Status;

use crate::error::{ClientError, Result, call};

/// Largest message taken from a service: 4 MiB of content, and some for its frame.
const MAX_MESSAGE: usize = 8 << 20;
/// Connections to the relay that a process's devices share.
const RELAY_CONNECTIONS: usize = 8;
/// How long a service is waited for unless the application says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection is made from. Relative paths are relative to the file they stand in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionConfig {
    /// The tenant.
    pub tenant: TenantId,
    /// File with the tenant root's line: all that is trusted from the outset.
    pub root_key: PathBuf,
    /// Folders of policy packs that this program does not carry itself.
    #[serde(default)]
    pub packs: Vec<PathBuf>,
    /// Certificate and key of this application.
    pub tls: TlsFiles,
    /// Where the services are: `relay`, `archive`, `audit`, `escrow-1` and so on.
    pub peers: BTreeMap<String, PeerConfig>,
}

/// Channels to a tenant's services; each connects with its first call and again after a break.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
    patience: Duration,
}

struct Inner {
    root: RootKey,
    packs: Vec<Arc<Pack>>,
    channels: BTreeMap<String, Channel>,
    /// More ways to the relay: one connection carries some hundred streams, a process may hold more devices.
    relays: Vec<Channel>,
}

impl Connection {
    /// From a TOML file.
    ///
    /// # Errors
    /// [`ClientError::Connection`].
    pub fn load(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ClientError::connection(named(), source))?;
        let mut config: ConnectionConfig =
            toml::from_str(&text).map_err(|source| ClientError::connection(named(), source))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        for file in [
            &mut config.root_key,
            &mut config.tls.cert,
            &mut config.tls.key,
            &mut config.tls.ca,
        ] {
            *file = base.join(&*file);
        }
        for folder in &mut config.packs {
            *folder = base.join(&*folder);
        }
        for peer in config.peers.values_mut() {
            for file in peer.ready_files() {
                *file = base.join(&*file);
            }
        }
        Self::open(&config)
    }

    /// From settings. Nothing is connected yet; needs a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Connection`].
    pub fn open(config: &ConnectionConfig) -> Result<Self> {
        let text = std::fs::read_to_string(&config.root_key)
            .map_err(|source| ClientError::connection("root_key", source))?;
        let root =
            RootKey::parse(&text).map_err(|source| ClientError::connection("root_key", source))?;
        if *root.tenant() != config.tenant {
            return Err(ClientError::refused(
                "TENANT_MISMATCH",
                format!(
                    "the root key file is that of tenant {}, not of {}: name the right file",
                    root.tenant(),
                    config.tenant
                ),
            ));
        }
        let identity =
            Identity::load(&config.tls).map_err(|source| ClientError::connection("tls", source))?;
        renew::watch(&identity, &config.tls, false, renew::usable());
        let (mut channels, mut relays) = (BTreeMap::new(), Vec::new());
        for (name, peer) in &config.peers {
            let failed = |source| ClientError::connection(format!("peers.{name}"), source);
            let expected = SpiffeId::service(&config.tenant, name)
                .map_err(|source| ClientError::connection(format!("peers.{name}"), source))?;
            let channel = connect_lazy(peer, &expected, &identity).map_err(failed)?;
            channels.insert(name.clone(), channel);
            if name == "relay" {
                for _ in 1..RELAY_CONNECTIONS {
                    relays.push(connect_lazy(peer, &expected, &identity).map_err(failed)?);
                }
            }
        }
        let mut packs = embedded_packs();
        for folder in &config.packs {
            let pack =
                load_folder(folder).map_err(|source| ClientError::connection("packs", source))?;
            packs.push(Arc::new(pack));
        }
        Ok(Self::assemble(root, packs, channels, relays))
    }

    /// From a pinned root and channels that already exist, by service name.
    pub fn from_channels(
        root: RootKey,
        channels: BTreeMap<String, tonic::transport::Channel>,
    ) -> Self {
        let channels = channels
            .into_iter()
            .map(|(name, channel)| (name, channel.into()))
            .collect();
        Self::assemble(root, embedded_packs(), channels, Vec::new())
    }

    fn assemble(
        root: RootKey,
        packs: Vec<Arc<Pack>>,
        channels: BTreeMap<String, Channel>,
        mut relays: Vec<Channel>,
    ) -> Self {
        relays.extend(channels.get("relay").cloned());
        Self {
            inner: Arc::new(Inner {
                root,
                packs,
                channels,
                relays,
            }),
            patience: PATIENCE,
        }
    }

    /// Waits so long, instead of 30 seconds: calls to a service that cannot be reached or is overloaded are tried again until
    /// then, and an escrow node that has not answered by then counts as one that is missing.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a service is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        self.inner.root.tenant()
    }

    /// The pinned root.
    pub fn root(&self) -> &RootKey {
        &self.inner.root
    }

    /// The policy packs at hand.
    pub(crate) fn packs(&self) -> &[Arc<Pack>] {
        &self.inner.packs
    }

    /// Names of the services with a channel.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        self.inner.channels.keys().map(String::as_str)
    }

    fn channel(&self, name: &str) -> Result<Channel> {
        self.inner.channels.get(name).cloned().ok_or_else(|| {
            ClientError::refused(
                "PEER_NOT_CONFIGURED",
                format!("no address of {name} is configured: add peers.{name} to the connection"),
            )
        })
    }

    /// The relay's directory.
    ///
    /// # Errors
    /// When the relay is not configured.
    pub fn directory(&self) -> Result<DirectoryServiceClient<Channel>> {
        Ok(DirectoryServiceClient::new(self.channel("relay")?)
            .max_decoding_message_size(MAX_MESSAGE))
    }

    /// The relay's conversations, for a device: devices are spread over several connections.
    ///
    /// # Errors
    /// When the relay is not configured.
    pub fn relay(&self, device: &DeviceId) -> Result<RelayServiceClient<Channel>> {
        let relays = &self.inner.relays;
        let place = usize::from(device.as_bytes()[0]) % relays.len().max(1);
        let channel = relays
            .get(place)
            .cloned()
            .map_or_else(|| self.channel("relay"), Ok)?;
        Ok(RelayServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }

    /// The log.
    ///
    /// # Errors
    /// When the audit service is not configured.
    pub fn log(&self) -> Result<LogServiceClient<Channel>> {
        Ok(LogServiceClient::new(self.channel("audit")?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// The archive's records.
    ///
    /// # Errors
    /// When the archive is not configured.
    pub fn archive(&self) -> Result<ArchiveServiceClient<Channel>> {
        Ok(ArchiveServiceClient::new(self.channel("archive")?)
            .max_decoding_message_size(MAX_MESSAGE))
    }

    /// The archive's orders.
    ///
    /// # Errors
    /// When the archive is not configured.
    pub fn orders(&self) -> Result<OrderServiceClient<Channel>> {
        Ok(
            OrderServiceClient::new(self.channel("archive")?)
                .max_decoding_message_size(MAX_MESSAGE),
        )
    }

    /// An escrow node.
    ///
    /// # Errors
    /// When the node is not configured.
    pub fn escrow(&self, node: &str) -> Result<EscrowServiceClient<Channel>> {
        Ok(EscrowServiceClient::new(self.channel(node)?).max_decoding_message_size(MAX_MESSAGE))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("tenant", self.tenant())
            .finish_non_exhaustive()
    }
}

/// Waits for an answer, not for ever: a service that takes a call and never answers is one that is missing.
pub(crate) async fn within<T>(
    limit: Duration,
    operation: &'static str,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    let silent = |_| {
        let text = format!("no answer came within {} s", limit.as_secs_f32());
        Err(call(operation)(Status::deadline_exceeded(text)))
    };
    let answer = tokio::time::timeout(limit, answer).await;
    answer.unwrap_or_else(silent)
}

fn embedded_packs() -> Vec<Arc<Pack>> {
    Pack::all_embedded().iter().cloned().map(Arc::new).collect()
}
