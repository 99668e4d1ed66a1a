//! DirectoryService: trust, devices, sessions, key packages.

use greffe_api::relay as api;
use greffe_api::relay::directory_service_server::DirectoryService;
use greffe_envelope::pb;
use greffe_types::DeviceId;
use tonic::{Request, Response, Status};

use super::Rpc;
use crate::app::{Claimed, TrustView};
use crate::error::RelayError;

#[tonic::async_trait]
impl DirectoryService for Rpc {
    async fn get_trust(
        &self,
        request: Request<api::GetTrustRequest>,
    ) -> Result<Response<api::GetTrustResponse>, Status> {
        self.for_app("GetTrust", request, async |_| {
            self.app.catch_up().await?;
            Ok(trust(self.app.trust_view()))
        })
        .await
    }

    async fn publish_statement(
        &self,
        request: Request<api::PublishStatementRequest>,
    ) -> Result<Response<api::PublishStatementResponse>, Status> {
        self.for_app("PublishStatement", request, async |asked| {
            let statement = asked.statement.ok_or(RelayError::Field("statement"))?;
            let log_index = self.app.publish(statement).await?;
            Ok(api::PublishStatementResponse { log_index })
        })
        .await
    }

    async fn register_device(
        &self,
        request: Request<api::RegisterDeviceRequest>,
    ) -> Result<Response<api::RegisterDeviceResponse>, Status> {
        self.for_app("RegisterDevice", request, async |asked| {
            let cert = asked.device_cert.ok_or(RelayError::Field("device_cert"))?;
            let log_index = self.app.register_device(cert).await?;
            Ok(api::RegisterDeviceResponse { log_index })
        })
        .await
    }

    async fn create_challenge(
        &self,
        request: Request<api::CreateChallengeRequest>,
    ) -> Result<Response<api::CreateChallengeResponse>, Status> {
        self.for_app("CreateChallenge", request, async |asked| {
            let device = DeviceId::try_from(asked.device.as_slice())
                .map_err(|_| RelayError::Field("device"))?;
            let challenge = self.app.create_challenge(&device).await?.to_vec();
            Ok(api::CreateChallengeResponse { challenge })
        })
        .await
    }

    async fn login(
        &self,
        request: Request<api::LoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        self.for_app("Login", request, async |asked| {
            let login = asked.login.ok_or(RelayError::Field("login"))?;
            let (token, session) = self.app.login(login).await?;
            Ok(api::LoginResponse {
                session: token,
                expiry: session.expiry.get(),
            })
        })
        .await
    }

    async fn publish_key_packages(
        &self,
        request: Request<api::PublishKeyPackagesRequest>,
    ) -> Result<Response<api::PublishKeyPackagesResponse>, Status> {
        self.for_device("PublishKeyPackages", request, async |session, asked| {
            let (packages, last) = (asked.key_packages, asked.last_resort);
            let available = self
                .app
                .publish_key_packages(&session, packages, last)
                .await?;
            Ok(api::PublishKeyPackagesResponse {
                available: u32::try_from(available).unwrap_or(u32::MAX),
            })
        })
        .await
    }

    async fn claim_key_packages(
        &self,
        request: Request<api::ClaimKeyPackagesRequest>,
    ) -> Result<Response<api::ClaimKeyPackagesResponse>, Status> {
        self.for_device("ClaimKeyPackages", request, async |session, asked| {
            let claimed = self.app.claim_key_packages(&session, &asked.users).await?;
            Ok(api::ClaimKeyPackagesResponse {
                key_packages: claimed.into_iter().map(key_package).collect(),
            })
        })
        .await
    }

    async fn get_device_certs(
        &self,
        request: Request<api::GetDeviceCertsRequest>,
    ) -> Result<Response<api::GetDeviceCertsResponse>, Status> {
        self.for_device("GetDeviceCerts", request, async |_, asked| {
            let device_certs = self.app.device_certs(&asked.digests).await?;
            Ok(api::GetDeviceCertsResponse { device_certs })
        })
        .await
    }
}

fn trust(view: TrustView) -> api::GetTrustResponse {
    let logged = |statements: Vec<(pb::SignedStatement, u64)>| {
        statements
            .into_iter()
            .map(|(statement, log_index)| api::LoggedStatement {
                statement: Some(statement),
                log_index,
            })
            .collect()
    };
    api::GetTrustResponse {
        older_bundles: view.older_bundles,
        superseded_disclosures: logged(view.superseded),
        bundle_places: view
            .bundle_places
            .into_iter()
            .map(|(version, log_index)| api::BundlePlace { version, log_index })
            .collect(),
        bundle: Some(view.bundle),
        disclosures: logged(view.disclosures),
        key_records: logged(view.key_records),
        share_epochs: logged(view.share_epochs),
        retirements: logged(view.retirements),
    }
}

fn key_package(claimed: Claimed) -> api::ClaimedKeyPackage {
    api::ClaimedKeyPackage {
        user: claimed.user,
        device_cert: Some(claimed.cert),
        key_package: claimed.package,
        last_resort: claimed.last_resort,
    }
}
