//! Reports of cheats: signed evidence, stored before it is sent, sent until the log has it.

use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_envelope::recompute::SEED_COMMITMENT_MISMATCH;
use greffe_envelope::statement::Signed;

use super::place::Place;
use super::verify::Seeded;
use crate::device::Device;
use crate::error::Result;
use crate::store::{Op, ReportRow};

/// Signs what this device has seen of a message: with the seed, anyone can recompute it. A seed that does not match the
/// sender's commitment proves nothing and is kept back.
pub(super) fn sign(
    device: &Device,
    seeded: &Seeded,
    place: &Place,
    stated: &'static str,
) -> ReportRow {
    let seed = if stated == SEED_COMMITMENT_MISMATCH {
        Vec::new()
    } else {
        seeded.seed.as_bytes().to_vec()
    };
    let report = pb::Report {
        tenant: device.certificate().tenant.clone(),
        user: device.user().to_owned(),
        device: device.id().to_vec(),
        envelope: Some(seeded.message.envelope.raw().clone()),
        wraps: seeded.message.wraps.clone(),
        seed,
        reason: stated.to_owned(),
        at: device.client().now().get(),
    };
    let signed = Signed::sign(report, &[(&device.signer(), &device.0.key)]);
    ReportRow {
        device: device.id(),
        conversation: place.conversation,
        sequence: place.sequence,
        reason: stated.to_owned(),
        statement: signed.into_raw(),
    }
}

impl Device {
    /// Sends the reports that are not in the log yet. What cannot be sent now stays for the next time.
    pub(crate) async fn flush_reports(&self) {
        let reports = match self.client().0.store.reports(&self.id()).await {
            Ok(reports) => reports,
            Err(error) => {
                tracing::warn!(reason = error.reason(), "reports could not be read");
                return;
            }
        };
        for report in reports {
            let (sequence, stated) = (report.sequence, report.reason.clone());
            match self.report(report).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(
                        reason = error.reason(),
                        sequence,
                        stated,
                        "a report could not be sent yet"
                    );
                    if error.is_retryable() {
                        return;
                    }
                }
            }
        }
    }

    async fn report(&self, row: ReportRow) -> Result<()> {
        let relay = self.relay_client()?;
        let request = api::ReportRequest {
            report: Some(row.statement),
        };
        let answer = self.unary("Report", request, |request| {
            let mut relay = relay.clone();
            async move { relay.report(request).await }
        });
        let answer = answer.await?;
        let op = Op::Reported {
            device: self.id(),
            conversation: row.conversation,
            sequence: row.sequence,
            log_index: answer.log_index,
            proves: answer.proves,
        };
        self.client().0.store.write(vec![op]).await
    }
}
