//! Real servers in the place of SQLite and folders: fresh databases and buckets, as a `--stores` file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greffe_testkit::ceph::{Ceph, OWNER, REGION};
use greffe_testkit::postgres::Postgres;

/// Databases by service, as the file names them.
const DATABASES: [&str; 4] = ["relay", "archive", "wraps", "audit"];

/// A PostgreSQL cluster and two buckets with Object Lock.
pub(crate) struct Stores {
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) file: PathBuf,
    urls: Vec<String>,
}

impl Stores {
    /// Fresh ones for one machine; the file is written into `folder`.
    pub(crate) async fn new(postgres: Arc<Postgres>, folder: &Path, replicas: u8) -> Self {
        Self::on(postgres, &Ceph::shared(), folder, replicas).await
    }

    /// As [`Stores::new`], with the buckets in a cluster of one's own.
    pub(crate) async fn on(
        postgres: Arc<Postgres>,
        ceph: &Ceph,
        folder: &Path,
        replicas: u8,
    ) -> Self {
        let mut urls = Vec::new();
        let mut text = format!("replicas = {replicas}\n\n[databases]\n");
        for name in DATABASES {
            let url = postgres.database().await;
            text.push_str(&format!("{name} = {url:?}\n"));
            urls.push(url);
        }
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
        let file = folder.join("stores.toml");
        fs::write(&file, text).unwrap();
        Self {
            postgres,
            file,
            urls,
        }
    }

    /// What a query on a service's database gives, as superuser: every tenant's rows.
    pub(crate) fn query(&self, service: &str, sql: &str) -> String {
        let index = DATABASES.iter().position(|name| *name == service).unwrap();
        let name = self.urls[index].rsplit('/').next().unwrap();
        self.postgres.psql(name, sql).trim().to_owned()
    }

    /// Dumps every database, drops it, and restores it from the dump, with the tools that come with PostgreSQL.
    pub(crate) fn dump_drop_restore(&self, folder: &Path) {
        for (service, url) in DATABASES.iter().zip(&self.urls) {
            let dump = folder.join(format!("{service}.dump"));
            // Row-level security holds for the owner too: a dump is the superuser's, as a backup role's would be.
            let admin = self.postgres.as_superuser(url);
            let name = url.rsplit('/').next().unwrap();
            self.postgres.tool("pg_dump", |command| {
                command
                    .args(["--format=custom", "--file"])
                    .arg(&dump)
                    .arg(&admin)
            });
            self.postgres
                .psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
            self.postgres.psql(
                "postgres",
                &format!(
                    "CREATE DATABASE {name} OWNER {}",
                    greffe_testkit::postgres::OWNER
                ),
            );
            self.postgres.tool("pg_restore", |command| {
                command
                    .args(["--exit-on-error", "--dbname"])
                    .arg(&admin)
                    .arg(&dump)
            });
        }
    }
}
