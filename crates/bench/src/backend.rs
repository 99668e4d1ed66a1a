//! Where the services keep what they write: SQLite and a folder, PostgreSQL and a folder or two buckets, one process or two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use greffe_testkit::ceph::{Ceph, OWNER, REGION};
use greffe_testkit::postgres::Postgres;

use crate::Options;
use crate::up::{Up, family, processor_seconds};

/// A choice of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SQLite and a folder.
    Embedded,
    /// PostgreSQL and a folder.
    Postgres,
    /// PostgreSQL and two buckets with Object Lock; so many processes of relay, archive and audit.
    Buckets(u8),
}

impl Kind {
    /// As tables name it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Embedded => "SQLite, folder".into(),
            Self::Postgres => "PostgreSQL, folder".into(),
            Self::Buckets(1) => "PostgreSQL, two buckets".into(),
            Self::Buckets(replicas) => format!("PostgreSQL, two buckets, {replicas} replicas"),
        }
    }
}

/// A machine on fresh stores.
pub(crate) struct Backend {
    up: Option<Up>,
    options: Options,
    settings: Vec<(String, String)>,
    /// The database server, and a database on it that no service uses.
    pub(crate) postgres: Option<(Arc<Postgres>, String)>,
    /// Addresses of the services' databases, by name.
    pub(crate) urls: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
}

impl Backend {
    /// Starts one; `more` are further settings of its environment.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(
        options: &Options,
        kind: Kind,
        more: &[(String, String)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = more.to_vec();
        let (mut postgres, mut urls) = (None, Vec::new());
        if kind != Kind::Embedded {
            let server = tokio::task::spawn_blocking(Postgres::own).await?;
            for name in ["relay", "archive", "wraps", "audit"] {
                urls.push((name, server.database().await));
            }
            let file = stores(folder.path(), &urls, kind).await?;
            settings.push(("GREFFE_STORES".into(), file.display().to_string()));
            let spare = server.database().await;
            postgres = Some((server, spare));
        }
        let mut backend = Self {
            up: None,
            options: options.clone(),
            settings,
            postgres,
            urls,
            folder,
        };
        backend.begin()?;
        Ok(backend)
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for what is measured beside it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the services over what they have.
    ///
    /// # Errors
    /// When they do not start.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.up = Some(Up::start(
            &self.options.greffe,
            &self.data(),
            &self.settings,
        )?);
        Ok(())
    }

    /// Stops the services; the stores stay.
    ///
    /// # Errors
    /// When they did not end well.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.up.take().map_or(Ok(()), Up::stop)
    }

    /// Processes that serve, by name.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        self.up.as_ref().map(Up::processes).unwrap_or_default()
    }

    /// Seconds of processor taken so far, by part: each service, the database, ourselves.
    pub(crate) fn seconds(&self) -> Vec<(String, f64)> {
        let mut parts: Vec<(String, f64)> = self
            .up
            .iter()
            .flat_map(|up| up.seconds().into_iter())
            .collect();
        if let Some(pid) = self.postgres.as_ref().and_then(|(server, _)| server.pid())
            && let Ok(pid) = u32::try_from(pid)
        {
            let seconds = family(pid).into_iter().map(processor_seconds).sum();
            parts.push(("PostgreSQL".into(), seconds));
        }
        parts.push(("senders".into(), processor_seconds(std::process::id())));
        parts
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // The services first: their database goes with us.
        self.up = None;
    }
}

async fn stores(folder: &Path, urls: &[(&'static str, String)], kind: Kind) -> Result<PathBuf> {
    let replicas = match kind {
        Kind::Buckets(replicas) => replicas,
        _ => 1,
    };
    let mut text = format!("replicas = {replicas}\n\n[databases]\n");
    for (name, url) in urls {
        text.push_str(&format!("{name} = {url:?}\n"));
    }
    if matches!(kind, Kind::Buckets(_)) {
        let ceph = tokio::task::spawn_blocking(Ceph::shared).await?;
        for table in ["objects", "objects.replica"] {
            text.push_str(&format!(
                "\n[{table}]\nkind = \"s3\"\nendpoint = {:?}\nregion = {REGION:?}\nbucket = {:?}\n\
                 access_key_id = {:?}\nsecret_access_key = {:?}\npath_style = true\n",
                ceph.endpoint(),
                ceph.locking_bucket().await,
                OWNER.access_key,
                OWNER.secret_key,
            ));
        }
    }
    let file = folder.join("stores.toml");
    fs::write(&file, text)?;
    Ok(file)
}
