//! Users' devices, all held by one application: its client, and certifying a new device with the issuer's key.

use core::time::Duration;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use greffe_client::{Client, ClientStore, Connection, Device};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::UserId;

use crate::fail::{Failure, Result};
use crate::layout::private_folder;

/// Name of the folder of all users' devices, among those of people.
pub(crate) const USERS: &str = "users";
/// How long a device's certificate is valid.
const CERTIFIED_FOR: Duration = Duration::from_secs(365 * 86_400);

/// Opens a client whose memory is in a folder.
pub(crate) async fn open_client(
    connection: Connection,
    folder: &std::path::Path,
) -> Result<Client> {
    private_folder(folder)?;
    let store = ClientStore::open(folder, connection.tenant()).await?;
    Ok(Client::open(connection, store, Arc::new(SystemClock)).await?)
}

/// A name as the directory has it.
pub(crate) fn user_id(name: &str) -> Result<UserId> {
    UserId::new(name).map_err(|error| {
        Failure::refused(
            "USER_NAME",
            format_args!("{name:?} is no user's name: {error}"),
        )
    })
}

/// Makes a device for a user, certifies it, and lets others invite it `packages` times before its last resort is used.
pub(crate) async fn enrol(
    client: &Client,
    issuer: &SigningKey,
    user: &UserId,
    packages: usize,
) -> Result<Device> {
    // Before anything is stored: a certificate by somebody else would leave a device behind that nobody can use.
    if client.trust()?.bundle().message().device_issuer != issuer.verifying_key().to_bytes() {
        return Err(Failure::refused(
            "ISSUER_MISMATCH",
            "this is not the key of the tenant's device issuer: name the issuer's key file",
        ));
    }
    let until = SystemClock.now().plus(CERTIFIED_FOR);
    let enrolment = client.enrol(user, until).await?;
    let certificate = Signed::sign(enrolment.certificate, &[(ISSUER, issuer)]);
    let device = client.register(certificate.into_raw()).await?;
    device.publish_key_packages(packages).await?;
    Ok(device)
}
