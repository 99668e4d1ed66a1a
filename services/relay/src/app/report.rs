//! Reports of a cheat: logged with what they prove.

use greffe_envelope::envelope::Envelope;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::recompute::{ReportError, verify_report};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustError, verify_by_device};
use prost::Message as _;

use super::App;
use crate::error::RelayError;
use crate::session::Session;
use crate::store::members;

impl App {
    /// Takes a report in: signed by the session's device, about an envelope of a conversation that the device is or was in.
    /// Gives its place in the log, and whether the evidence verifies against the sender.
    ///
    /// # Errors
    /// [`RelayError::Statement`], [`RelayError::NoConversation`].
    pub async fn report(
        &self,
        session: &Session,
        raw: pb::SignedStatement,
    ) -> Result<(u64, bool), RelayError> {
        let refused = |why: TrustError| RelayError::Statement("report", why);
        let report = Signed::<pb::Report>::decode(raw).map_err(|why| refused(why.into()))?;
        let reporter = self.devices.valid(&session.certificate, self.now()).await?;
        verify_by_device(&report, &reporter).map_err(refused)?;
        let named = (&report.tenant, &report.user, &report.device);
        if named != (&reporter.tenant, &reporter.user, &reporter.device) {
            return Err(refused(TrustError::Mismatch("device")));
        }
        let envelope = report
            .envelope
            .clone()
            .ok_or(RelayError::Field("envelope"))?;
        let envelope = Envelope::decode(envelope).map_err(|_| RelayError::Field("envelope"))?;
        let subject = envelope.digest();
        let header = envelope.header();
        let conversation = header.conversation();
        let stays = members::stays(
            self.db.read(),
            &self.scope,
            &session.device,
            Some(&conversation),
        );
        if stays.await?.is_empty() {
            return Err(RelayError::NoConversation);
        }
        let proves = match self.devices.find(&header.device_cert()).await? {
            None => false,
            Some(sender) => {
                let trust = self.trust.read();
                let keys: Vec<_> = header
                    .key_ids()
                    .iter()
                    .filter_map(|id| trust.key(id))
                    .collect();
                match verify_report(&report, &reporter, &sender, &keys) {
                    Ok(_) => true,
                    Err(
                        ReportError::NoEvidence
                        | ReportError::Unfounded
                        | ReportError::Envelope(_)
                        | ReportError::Trust(_)
                        | ReportError::Field(_),
                    ) => false,
                }
            }
        };
        // The report itself holds the message's seed: the log names what was reported and by whom, and nothing that opens it.
        // The signed report stays with the device, for whoever has to be shown the evidence.
        let id = sha256(&report.into_raw().encode_to_vec());
        let reason = if proves {
            "CHEAT_PROVED"
        } else {
            "CHEAT_REPORTED"
        };
        let event = pb::log_entry::Event::Refusal(pb::Refusal {
            reason: reason.to_owned(),
            operation: "relay.Report".to_owned(),
            caller: format!("device:{}", session.device),
            subject: subject.to_vec(),
        });
        let index = self.log(&id, event).await?;
        tracing::warn!(index, proves, "a cheat was reported");
        Ok((index, proves))
    }
}
