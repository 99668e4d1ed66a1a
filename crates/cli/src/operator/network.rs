//! The services that an operator's commands reach. This side only carries what root and nodes have signed.

use core::time::Duration;

use greffe_api::escrow::{
    ActivateRequest, AdvanceKeygenRequest, AdvanceKeygenResponse, AdvanceReshareRequest,
    AdvanceReshareResponse, GetStatusRequest, GetStatusResponse, ProveShareRequest,
    ProveShareResponse,
};
use greffe_api::relay::{GetTrustRequest, PublishStatementRequest};
use greffe_client::Connection;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, RootKey, TrustError, TrustState};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::fail::{Failure, Result, chain};

/// How long a node may take to see in the log what was published.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);

/// How long one answer may take: a node that hangs is one that is missing.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Waits for an answer, not for ever.
async fn within<T>(
    call: impl Future<Output = core::result::Result<tonic::Response<T>, Status>>,
) -> core::result::Result<T, Status> {
    let answer = timeout(ANSWER_WITHIN, call).await;
    answer
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer came in time")))
        .map(tonic::Response::into_inner)
}

/// Relay and escrow nodes of a tenant.
pub(crate) struct Network(Connection);

impl Network {
    /// Over a connection.
    pub(crate) const fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// The pinned root.
    pub(crate) fn root(&self) -> &RootKey {
        self.0.root()
    }

    /// The bundle that the relay says is in force, under the pinned root.
    pub(crate) async fn bundle(&self) -> Result<Bundle> {
        let answer = self.0.directory()?.get_trust(GetTrustRequest {}).await;
        let answer = answer.map_err(|status| Failure::status("asking the relay", &status))?;
        let raw = answer.into_inner().bundle.unwrap_or_default();
        let refused = |why: String| {
            Failure::unverified(
                "NOT_TRUSTED",
                format_args!(
                    "the relay's trust bundle is not this root's ({why}): see that the connection names the right root and relay"
                ),
            )
        };
        let signed =
            Signed::<pb::TrustBundle>::decode(raw).map_err(|error| refused(chain(&error)))?;
        Bundle::verify(signed, self.root()).map_err(|error| refused(chain(&error)))
    }

    /// What the relay says is in force, every statement of it verified under the pinned root. Whether the log has it all is the
    /// nodes' to see: what is drafted from this is refused by them when it is not.
    pub(crate) async fn trust(&self) -> Result<TrustState> {
        let answer = self.0.directory()?.get_trust(GetTrustRequest {}).await;
        let answer = answer
            .map_err(|status| Failure::status("asking the relay", &status))?
            .into_inner();
        let refused = |error: TrustError| {
            Failure::unverified(
                "NOT_TRUSTED",
                format_args!(
                    "what the relay says is in force does not hold ({}): see that the connection names the right root and relay",
                    chain(&error)
                ),
            )
        };
        let bundle = answer.bundle.unwrap_or_default();
        let mut trust = TrustState::new(self.root().clone(), bundle).map_err(refused)?;
        for older in &answer.older_bundles {
            trust.recall(older, 0).map_err(refused)?;
        }
        // What supersedes comes before what is superseded.
        let statements = [
            answer.key_records,
            answer.share_epochs,
            answer.disclosures,
            answer.superseded_disclosures,
            answer.retirements,
        ];
        for logged in statements.into_iter().flatten() {
            let statement = logged.statement.unwrap_or_default();
            trust
                .recall(&statement, logged.log_index)
                .map_err(refused)?;
        }
        Ok(trust)
    }

    /// Has a statement logged and brought into force; gives its place in the log.
    pub(crate) async fn publish(&self, statement: &pb::SignedStatement) -> Result<u64> {
        let request = PublishStatementRequest {
            statement: Some(statement.clone()),
        };
        let answer = self.0.directory()?.publish_statement(request).await;
        answer
            .map(|answer| answer.into_inner().log_index)
            .map_err(|status| {
                Failure::status(format_args!("publishing the {}", statement.r#type), &status)
            })
    }

    /// Waits until every node has found a statement in the log; gives those that have not, each with why.
    pub(crate) async fn activate(
        &self,
        statement: &pb::SignedStatement,
        log_index: u64,
        bundle: &pb::TrustBundle,
    ) -> Vec<(String, Failure)> {
        let until = Instant::now() + ACTIVE_WITHIN;
        let nodes = bundle.nodes.iter().map(|node| async move {
            let outcome = self.activate_at(&node.name, statement, log_index, until);
            Some((node.name.clone(), outcome.await.err()?))
        });
        let outcomes = futures::future::join_all(nodes).await;
        outcomes.into_iter().flatten().collect()
    }

    async fn activate_at(
        &self,
        node: &str,
        statement: &pb::SignedStatement,
        log_index: u64,
        until: Instant,
    ) -> Result<()> {
        loop {
            let request = ActivateRequest {
                statement: Some(statement.clone()),
                log_index,
            };
            let Err(status) = within(self.0.escrow(node)?.activate(request)).await else {
                return Ok(());
            };
            // A node that is not there at all is not waited for: it follows the log when it is back.
            let absent = matches!(
                status.code(),
                tonic::Code::Unavailable | tonic::Code::DeadlineExceeded
            );
            if absent || Instant::now() > until {
                return Err(Failure::status(
                    format_args!("{node} does not activate the {}", statement.r#type),
                    &status,
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// One step of a key generation at one node.
    pub(crate) async fn advance(
        &self,
        node: &str,
        request: AdvanceKeygenRequest,
    ) -> Result<AdvanceKeygenResponse> {
        let round = request.round;
        let answer = within(self.0.escrow(node)?.advance_keygen(request)).await;
        answer.map_err(|status| {
            Failure::status(
                format_args!("key generation, round {round}, at {node}"),
                &status,
            )
        })
    }

    /// One step of a resharing at one node.
    pub(crate) async fn reshare(
        &self,
        node: &str,
        request: AdvanceReshareRequest,
    ) -> Result<AdvanceReshareResponse> {
        let round = request.round;
        let answer = within(self.0.escrow(node)?.advance_reshare(request)).await;
        answer.map_err(|status| {
            Failure::status(format_args!("resharing, round {round}, at {node}"), &status)
        })
    }

    /// Has a node prove that it holds its share.
    pub(crate) async fn prove_share(
        &self,
        node: &str,
        request: ProveShareRequest,
    ) -> Result<ProveShareResponse> {
        let answer = within(self.0.escrow(node)?.prove_share(request)).await;
        answer.map_err(|status| Failure::status(format_args!("{node} proves nothing"), &status))
    }

    /// How a node stands.
    pub(crate) async fn status(&self, node: &str) -> Result<GetStatusResponse> {
        let answer = within(self.0.escrow(node)?.get_status(GetStatusRequest {})).await;
        answer.map_err(|status| Failure::status(format_args!("asking {node}"), &status))
    }
}
