//! The archive's half of a key's retirement: nothing that the key opens is left, and nothing comes any more.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_policy::{CLOCK_TOLERANCE, MAX_SKEW};
use greffe_types::{Digest, Millis};

use super::refusal::{KEY_IN_PERIOD, KEY_IN_USE, KEY_UNKNOWN, field};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::wraps;

/// How long after a key's period it is waited: an archive beside this one may still write what it took in before the end.
const SETTLED: Duration = Duration::from_secs(3600);

/// Says so, if it is so.
pub(super) async fn confirm(
    app: &App,
    request: &api::ConfirmKeyUnusedRequest,
) -> Result<api::ConfirmKeyUnusedResponse, ArchiveError> {
    let key_id = Digest::try_from(request.key_id.as_slice()).map_err(|_| field("key_id"))?;
    let now = app.now();
    let record = app.trust.read().key_record(&key_id).cloned();
    let record = record.ok_or_else(|| KEY_UNKNOWN.refuse())?;
    let end = Millis::new(record.not_after);
    if now < end.plus(SETTLED).plus(MAX_SKEW).plus(CLOCK_TOLERANCE) {
        return Err(KEY_IN_PERIOD.refuse().into());
    }
    if wraps::is_used(app.wraps.read(), &app.scope, &key_id).await? {
        return Err(KEY_IN_USE.refuse().into());
    }
    let bundle = app.bundle();
    let name = app.receipts.name(&bundle, now)?;
    let unused = pb::KeyUnused {
        tenant: record.tenant.clone(),
        key_id: key_id.to_vec(),
        key_record: record.digest().to_vec(),
        at: now.get(),
    };
    Ok(api::ConfirmKeyUnusedResponse {
        unused: Some(app.receipts.sign(name, unused).into_raw()),
    })
}
