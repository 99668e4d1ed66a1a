//! Who takes part: users with their devices, each certified by the issuer when they first speak.

use std::collections::HashMap;
use std::sync::Arc;

use core::time::Duration;
use greffe_client::{Client, ClientStore, Device};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::UserId;

use crate::connection;
use crate::fail::{Failure, Result};
use crate::layout::{Layout, private_folder};
use crate::operator::Operator;
use crate::up::APP;

/// How long a device's certificate is valid.
const CERTIFIED_FOR: Duration = Duration::from_secs(365 * 86_400);

/// Users and their devices, all held by one application.
pub(super) struct Cast {
    client: Client,
    operator: Operator,
    devices: HashMap<String, Device>,
}

impl Cast {
    /// Opens the application; nobody is enrolled yet.
    pub(super) async fn assemble(layout: &Layout) -> Result<Self> {
        let folder = layout.person("users");
        private_folder(&folder)?;
        let connection = connection::open(layout, APP)?;
        let store = ClientStore::open(&folder, connection.tenant()).await?;
        Ok(Self {
            client: Client::open(connection, store, Arc::new(SystemClock)).await?,
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
        let id = UserId::new(user).map_err(|error| {
            Failure::refused(
                "USER_NAME",
                format_args!("{user:?} is no user's name: {error}"),
            )
        })?;
        let enrolment = self
            .client
            .enrol(&id, SystemClock.now().plus(CERTIFIED_FOR))
            .await?;
        let certificate = Signed::sign(enrolment.certificate, &[(ISSUER, &self.operator.issuer)]);
        let device = self.client.register(certificate.into_raw()).await?;
        device.publish_key_packages(1).await?;
        self.devices.insert(user.to_owned(), device.clone());
        Ok(device)
    }
}
