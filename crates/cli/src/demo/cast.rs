//! Who takes part: users with their devices, each certified by the issuer when they first speak.

use std::collections::HashMap;

use greffe_client::{Client, Device};

use crate::connection;
use crate::enrol::{USERS, enrol, open_client, user_id};
use crate::fail::Result;
use crate::layout::Layout;
use crate::operator::Operator;
use crate::up::APP;

/// Users and their devices, all held by one application.
pub(super) struct Cast {
    client: Client,
    operator: Operator,
    devices: HashMap<String, Device>,
}

impl Cast {
    /// Opens the application; nobody is enrolled yet.
    pub(super) async fn assemble(layout: &Layout) -> Result<Self> {
        let connection = connection::open(layout, APP)?;
        Ok(Self {
            client: open_client(connection, &layout.person(USERS)).await?,
            operator: Operator::load(&layout.operator())?,
            devices: HashMap::new(),
        })
    }

    /// The application's client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Everybody's devices.
    pub(super) fn devices(&self) -> Vec<Device> {
        self.devices.values().cloned().collect()
    }

    /// A user's device; enrolled now when they have none.
    pub(super) async fn device(&mut self, user: &str) -> Result<Device> {
        if let Some(device) = self.devices.get(user) {
            return Ok(device.clone());
        }
        let device = enrol(&self.client, &self.operator.issuer, &user_id(user)?, 1).await?;
        self.devices.insert(user.to_owned(), device.clone());
        Ok(device)
    }
}
