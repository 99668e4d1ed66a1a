//! Devices: registration, login, key packages, certificates.

use core::time::Duration;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustError, verify_by_device};
use greffe_mls::{KeyPackageInfo, Refusal, check_key_package};
use greffe_types::{DeviceId, Digest, Millis, UserId};

use super::App;
use crate::devices;
use crate::error::RelayError;
use crate::session::{SERVICE, Session};
use crate::store::{devices as rows, key_packages};

/// How long a challenge serves.
const CHALLENGE: Duration = Duration::from_secs(60);
/// Key packages in one call.
const KEY_PACKAGES: usize = 100;
/// Unused key packages of one device.
const UNUSED: u64 = 1000;
/// Users of one claim.
const USERS: usize = 1000;
/// Certificates of one call.
const CERTS: usize = 1000;

/// A key package given out.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The user.
    pub user: String,
    /// The device's certificate.
    pub cert: pb::SignedStatement,
    /// The key package.
    pub package: Vec<u8>,
    /// Whether it stays in the directory.
    pub last_resort: bool,
}

impl App {
    /// Registers a device: certificate verified, logged, stored. The same certificate again answers the same.
    ///
    /// # Errors
    /// [`RelayError::Statement`], [`RelayError::DeviceUser`].
    pub async fn register_device(&self, raw: pb::SignedStatement) -> Result<u64, RelayError> {
        const KIND: &str = "device certificate";
        let cert = Signed::<pb::DeviceCert>::decode(raw)
            .map_err(|why| RelayError::Statement(KIND, why.into()))?;
        self.catch_up().await?;
        self.devices
            .verify(&cert, self.now())
            .map_err(|why| RelayError::Statement(KIND, why))?;
        let known = rows::cert(self.db.read(), &self.scope, &cert.digest()).await?;
        if let Some((_, index)) = known {
            return Ok(index);
        }
        let device =
            DeviceId::try_from(cert.device.as_slice()).map_err(|_| RelayError::Field("device"))?;
        let user = rows::user_of(self.db.read(), &self.scope, &device).await?;
        if user.is_some_and(|user| user != cert.user) {
            return Err(RelayError::DeviceUser);
        }
        let index = self.log_statement(cert.raw().clone()).await?;
        let row = devices::row(&cert, index)?;
        self.write("register_device", async |conn| {
            // asked again inside: two users' certificates for one device may arrive at once
            let user = rows::user_of(&mut *conn, &self.scope, &device).await?;
            if user.is_some_and(|user| user != row.user) {
                return Err(RelayError::DeviceUser);
            }
            Ok(rows::insert_cert(conn, &self.scope, &cert.digest(), &row).await?)
        })
        .await?;
        self.devices.insert(cert);
        Ok(index)
    }

    /// A challenge for a registered device.
    ///
    /// # Errors
    /// [`RelayError::CertificateUnknown`].
    pub async fn create_challenge(&self, device: &DeviceId) -> Result<[u8; 32], RelayError> {
        let user = rows::user_of(self.db.read(), &self.scope, device).await?;
        user.ok_or(RelayError::CertificateUnknown)?;
        let mut challenge = [0; 32];
        getrandom::fill(&mut challenge).map_err(|_| RelayError::Randomness)?;
        let expires = self.now().plus(CHALLENGE);
        self.write("create_challenge", async |conn| {
            Ok(rows::insert_challenge(conn, &self.scope, &challenge, device, expires).await?)
        })
        .await?;
        Ok(challenge)
    }

    /// Logs a device in, by a signed login that names a fresh challenge.
    ///
    /// # Errors
    /// [`RelayError::Login`], [`RelayError::Challenge`], and those of the certificate.
    pub async fn login(&self, raw: pb::SignedStatement) -> Result<(Vec<u8>, Session), RelayError> {
        let login =
            Signed::<pb::DeviceLogin>::decode(raw).map_err(|why| RelayError::Login(why.into()))?;
        let now = self.now();
        if login.tenant != self.scope.tenant.as_str() {
            return Err(RelayError::Login(TrustError::Mismatch("tenant")));
        }
        if login.audience != SERVICE {
            return Err(RelayError::Login(TrustError::Mismatch("audience")));
        }
        let certificate = Digest::try_from(login.device_cert.as_slice())
            .map_err(|_| RelayError::Field("device_cert"))?;
        let cert = self.devices.valid(&certificate, now).await?;
        if login.device != cert.device {
            return Err(RelayError::Login(TrustError::Mismatch("device")));
        }
        verify_by_device(&login, &cert).map_err(RelayError::Login)?;
        let device =
            DeviceId::try_from(cert.device.as_slice()).map_err(|_| RelayError::Field("device"))?;
        // only after the signature: nobody uses up another device's challenge
        let taken = self
            .write("take_challenge", async |conn| {
                let challenge = login.challenge.as_slice();
                Ok(rows::take_challenge(conn, &self.scope, challenge, &device, now).await?)
            })
            .await?;
        if !taken {
            return Err(RelayError::Challenge);
        }
        let user = UserId::new(cert.user.as_str()).map_err(|_| RelayError::Field("user"))?;
        let ends = Millis::new(cert.not_after);
        Ok(self.sessions.issue(device, user, certificate, ends, now))
    }

    /// Publishes key packages of the session's device; gives how many are unused now. Those published before change
    /// nothing.
    ///
    /// # Errors
    /// [`RelayError::KeyPackage`], [`RelayError::KeyPackageDevice`].
    pub async fn publish_key_packages(
        &self,
        session: &Session,
        packages: Vec<Vec<u8>>,
        last_resort: Vec<u8>,
    ) -> Result<u64, RelayError> {
        if packages.len() > KEY_PACKAGES {
            return Err(RelayError::TooMany {
                what: "key packages",
                limit: KEY_PACKAGES,
            });
        }
        let (now, once) = (self.now(), packages.len());
        let mut all = packages;
        if !last_resort.is_empty() {
            all.push(last_resort);
        }
        let trust = self.mls.clone();
        let checked = greffe_service_kit::blocking(move || {
            let check = |(index, bytes): (usize, Vec<u8>)| {
                let info = check_key_package(&trust, &bytes, now).map_err(|why| (index, why))?;
                Ok((info, bytes))
            };
            all.into_iter()
                .enumerate()
                .map(check)
                .collect::<Result<Vec<_>, (usize, Refusal)>>()
        })
        .await
        .map_err(|_| RelayError::Damaged("a task stopped"))?;
        let checked = match checked {
            Ok(checked) => checked,
            Err((index, why)) => {
                let why = self.devices.confirm(why).await?;
                return Err(RelayError::KeyPackage { index, why });
            }
        };
        let cert = self.devices.valid(&session.certificate, now).await?;
        let rows = checked
            .into_iter()
            .enumerate()
            .map(|(index, (info, bytes))| {
                let KeyPackageInfo { member, .. } = &info;
                if member.device != session.device || member.certificate != session.certificate {
                    return Err(RelayError::KeyPackageDevice(index));
                }
                if info.last_resort != (index >= once) {
                    return Err(RelayError::Field("last_resort"));
                }
                Ok(key_packages::NewKeyPackage {
                    reference: info.reference,
                    certificate: session.certificate,
                    package: bytes,
                    last_resort: info.last_resort,
                    not_after: info.not_after.min(Millis::new(cert.not_after)),
                })
            })
            .collect::<Result<Vec<_>, RelayError>>()?;
        self.write("publish_key_packages", async |conn| {
            for row in &rows {
                key_packages::insert(conn, &self.scope, &session.device, row).await?;
                if row.last_resort {
                    let reference = &row.reference;
                    key_packages::retire_last_resorts(
                        conn,
                        &self.scope,
                        &session.device,
                        reference,
                    )
                    .await?;
                }
            }
            let available =
                key_packages::available(&mut *conn, &self.scope, &session.device, now).await?;
            if available > UNUSED {
                return Err(RelayError::TooMany {
                    what: "unused key packages of a device",
                    limit: 1000,
                });
            }
            Ok(available)
        })
        .await
    }

    /// Gives out one key package of each valid device of the users, the session's own device excepted. A device that has
    /// none is left out.
    ///
    /// # Errors
    /// [`RelayError::TooMany`].
    pub async fn claim_key_packages(
        &self,
        session: &Session,
        users: &[String],
    ) -> Result<Vec<Claimed>, RelayError> {
        if users.len() > USERS {
            return Err(RelayError::TooMany {
                what: "users",
                limit: USERS,
            });
        }
        let now = self.now();
        let mut wanted = Vec::new();
        for user in users {
            for bytes in rows::certs_of_user(self.db.read(), &self.scope, user).await? {
                let cert = Signed::<pb::DeviceCert>::decode_bytes(&bytes)
                    .map_err(|_| RelayError::Damaged("device certificate"))?;
                let device = DeviceId::try_from(cert.device.as_slice())
                    .map_err(|_| RelayError::Damaged("device"))?;
                if device != session.device && self.devices.verify(&cert, now).is_ok() {
                    wanted.push((device, cert));
                }
            }
        }
        self.write("claim_key_packages", async |conn| {
            let mut claimed = Vec::with_capacity(wanted.len());
            for (device, cert) in &wanted {
                let digest = cert.digest();
                let once =
                    key_packages::claim(conn, &self.scope, device, &digest, &session.device, now)
                        .await?;
                let (package, last_resort) = match once {
                    Some(package) => (Some(package), false),
                    None => {
                        let last = key_packages::last_resort(
                            &mut *conn,
                            &self.scope,
                            device,
                            &digest,
                            now,
                        );
                        (last.await?, true)
                    }
                };
                let Some(package) = package else { continue };
                claimed.push(Claimed {
                    user: cert.user.clone(),
                    cert: cert.raw().clone(),
                    package,
                    last_resort,
                });
            }
            Ok(claimed)
        })
        .await
    }

    /// Registered certificates by digest, in the order asked for.
    ///
    /// # Errors
    /// [`RelayError::CertificateUnknown`] when one of them is not registered.
    pub async fn device_certs(
        &self,
        digests: &[Vec<u8>],
    ) -> Result<Vec<pb::SignedStatement>, RelayError> {
        if digests.len() > CERTS {
            return Err(RelayError::TooMany {
                what: "certificates",
                limit: CERTS,
            });
        }
        let mut certs = Vec::with_capacity(digests.len());
        for digest in digests {
            let digest =
                Digest::try_from(digest.as_slice()).map_err(|_| RelayError::Field("digests"))?;
            let cert = self.devices.find(&digest).await?;
            let cert = cert.ok_or(RelayError::CertificateUnknown)?;
            certs.push(cert.raw().clone());
        }
        Ok(certs)
    }

    /// Forgets challenges and key packages that no longer serve.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep_directory(&self) -> Result<u64, RelayError> {
        let now = self.now();
        self.write("sweep_directory", async |conn| {
            Ok(rows::sweep_challenges(conn, &self.scope, now).await?
                + key_packages::sweep(conn, &self.scope, now).await?)
        })
        .await
    }
}
