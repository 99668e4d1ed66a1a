//! The settings of each service of one machine, written anew at every start since the folder may have been moved.

use std::path::Path;

use greffe_service_kit::config::TlsFiles;
use greffe_types::TenantId;

use crate::fail::{Failure, Result};
use crate::layout::{Layout, NODES, private_folder, write_private};

use super::stores::{Stores, service_of};

/// Writes every service's `config.toml`.
pub(super) fn write_all(layout: &Layout, tenant: &TenantId, stores: &Stores) -> Result<()> {
    for process in stores.processes() {
        let folder = layout.service(process);
        private_folder(&folder)?;
        write_private(
            &folder.join("config.toml"),
            settings(layout, tenant, stores, process)?.as_bytes(),
        )?;
    }
    Ok(())
}

/// The files of a TLS identity in a folder.
pub(crate) fn tls_files(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        ca: folder.join("ca.crt"),
    }
}

fn settings(
    layout: &Layout,
    tenant: &TenantId,
    stores: &Stores,
    process: &'static str,
) -> Result<String> {
    let service = service_of(process);
    // Both processes of a service are one identity: its keys and secrets lie in the first one's folder.
    let folder = layout.service(service);
    let tls = tls_files(&folder);
    let mut table = toml::Table::new();
    let mut common = toml::Table::new();
    common.insert("tenant".into(), tenant.as_str().into());
    common.insert("listen".into(), "127.0.0.1:0".into());
    common.insert("data".into(), path(&layout.service(process))?);
    common.insert("secrets".into(), path(&folder)?);
    common.insert("root_key".into(), path(&layout.root_key())?);
    common.insert("bundle".into(), path(&folder.join("bundle.bin"))?);
    let mut files = toml::Table::new();
    files.insert("cert".into(), path(&tls.cert)?);
    files.insert("key".into(), path(&tls.key)?);
    files.insert("ca".into(), path(&tls.ca)?);
    common.insert("tls".into(), files.into());
    let mut peers = toml::Table::new();
    for peer in peers_of(service) {
        let mut at = toml::Table::new();
        match stores.processes_of(peer).as_slice() {
            [only] => at.insert("ready".into(), path(&layout.ready(only))?),
            several => {
                let files = several.iter().map(|process| path(&layout.ready(process)));
                at.insert("readies".into(), files.collect::<Result<Vec<_>>>()?.into())
            }
        };
        peers.insert((*peer).to_owned(), at.into());
    }
    common.insert("peers".into(), peers.into());
    if let Some(url) = stores.databases.get(service) {
        common.insert("database".into(), database(url).into());
    }
    table.insert("service".into(), common.into());
    if service == "archive" {
        let mut archive = toml::Table::new();
        if let Some(url) = stores.databases.get("wraps") {
            archive.insert("wraps".into(), database(url).into());
        }
        if let Some(objects) = &stores.objects {
            archive.insert("objects".into(), objects.clone().into());
        }
        // Its address is in `ready-http.json`.
        let http = toml::Table::from_iter([("listen".to_owned(), "127.0.0.1:0".into())]);
        archive.insert("http".into(), http.into());
        table.insert("archive".into(), archive.into());
    }
    toml::to_string(&table)
        .map_err(|error| Failure::because("SETTINGS", "the settings cannot be written", &error))
}

fn database(url: &str) -> toml::Table {
    let mut table = toml::Table::new();
    table.insert("url".into(), url.into());
    table
}

/// Whom a service calls.
fn peers_of(service: &str) -> &'static [&'static str] {
    match service {
        "audit" => &NODES,
        "relay" => &["audit", "archive"],
        _ => &["audit"],
    }
}

fn path(path: &Path) -> Result<toml::Value> {
    path.to_str().map(toml::Value::from).ok_or_else(|| {
        Failure::usage(
            "PATH_NOT_UTF8",
            format_args!("{} is not UTF-8: name another folder", path.display()),
        )
    })
}
