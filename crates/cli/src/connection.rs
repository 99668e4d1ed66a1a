//! How `greffe` and other applications on this machine reach the services: the client library's connection file.

use greffe_client::Connection;
use greffe_types::TenantId;

use crate::fail::{Failure, Result};
use crate::layout::{Layout, SERVICES, write as write_file};
use crate::up::Stores;

/// Writes an application's connection file; its paths are relative, so that the data folder can be moved.
pub(crate) fn write(layout: &Layout, app: &str, tenant: &TenantId) -> Result<()> {
    let mut table = toml::Table::new();
    table.insert("tenant".into(), tenant.as_str().into());
    table.insert("root_key".into(), "../../../root.pub".into());
    let mut tls = toml::Table::new();
    for (name, file) in [("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt")] {
        tls.insert(name.into(), file.into());
    }
    table.insert("tls".into(), tls.into());
    let stores = Stores::of(layout, None, false)?;
    let mut peers = toml::Table::new();
    for service in SERVICES {
        let mut at = toml::Table::new();
        let ready = |process| format!("../../../services/{process}/ready.json");
        match stores.processes_of(service).as_slice() {
            [only] => at.insert("ready".into(), ready(only).into()),
            several => {
                let files: Vec<String> = several.iter().map(ready).collect();
                at.insert("readies".into(), files.into())
            }
        };
        peers.insert(service.into(), at.into());
    }
    table.insert("peers".into(), peers.into());
    let text = toml::to_string(&table).map_err(|error| {
        Failure::because("SETTINGS", "the connection file cannot be written", &error)
    })?;
    write_file(&layout.connection(app), text.as_bytes())
}

/// Opens an application's connection.
pub(crate) fn open(layout: &Layout, app: &str) -> Result<Connection> {
    Connection::load(&layout.connection(app)).map_err(Failure::from)
}
