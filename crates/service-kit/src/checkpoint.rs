//! When a checkpoint of the log is believed: signed by the log's key and cosigned by a quorum of the bundle's witnesses.

use core::time::Duration;

use greffe_envelope::trust::Bundle;
use greffe_tlog::{
    CheckpointError, CosignerKey, Freshness, KeyError, NoteVerifier, Quorum, QuorumConfigError,
    QuorumError, SignedCheckpoint, Witnessed,
};
use greffe_types::Millis;

/// How far ahead of our clock a witness's may be.
pub const MAX_AHEAD: Duration = Duration::from_secs(60);

/// Why a checkpoint is not believed.
#[derive(Debug, thiserror::Error)]
pub enum UnwitnessedError {
    /// The bundle's log key or a witness's cannot be used.
    #[error("the trust bundle names a key that cannot be used for the log")]
    Key(#[from] KeyError),
    /// The bundle's witnesses make no quorum.
    #[error("the trust bundle's witnesses make no quorum")]
    Witnesses(#[from] QuorumConfigError),
    /// Not the log's.
    #[error("the checkpoint is not the log's")]
    Checkpoint(#[from] CheckpointError),
    /// Too few witnesses stand by it.
    #[error("the checkpoint is not witnessed")]
    Quorum(#[from] QuorumError),
}

/// The log's key as a bundle gives it.
///
/// # Errors
/// [`KeyError`].
pub fn log_verifier(bundle: &Bundle) -> Result<NoteVerifier, KeyError> {
    let log = bundle.log();
    // A key of another length than 32 bytes is not in a verified bundle.
    let key = log.key.as_slice().try_into().map_err(|_| KeyError::Point)?;
    NoteVerifier::new(&log.origin, key)
}

/// The bundle's witnesses and how many of them are needed.
///
/// # Errors
/// [`UnwitnessedError::Key`], [`UnwitnessedError::Witnesses`].
pub fn quorum(bundle: &Bundle) -> Result<Quorum, UnwitnessedError> {
    let message = bundle.message();
    let witnesses = message
        .witnesses
        .iter()
        .map(|witness| {
            let key = witness
                .key
                .as_slice()
                .try_into()
                .map_err(|_| KeyError::Point)?;
            CosignerKey::new(&witness.name, key)
        })
        .collect::<Result<Vec<_>, KeyError>>()?;
    Ok(Quorum::new(witnesses, message.cosigner_quorum as usize)?)
}

/// Believes a checkpoint, or not. Without `max_age` cosignatures of any age count: what they prove does not grow old, only
/// whether it is the newest does.
///
/// # Errors
/// [`UnwitnessedError`].
pub fn verify(
    checkpoint: &[u8],
    bundle: &Bundle,
    now: Millis,
    max_age: Option<Duration>,
) -> Result<(SignedCheckpoint, Witnessed), UnwitnessedError> {
    let signed = SignedCheckpoint::open(checkpoint, &log_verifier(bundle)?)?;
    let freshness = Freshness {
        now,
        max_age: max_age.unwrap_or_else(|| Duration::from_millis(now.get())),
        max_ahead: MAX_AHEAD,
    };
    let witnessed = quorum(bundle)?.check(&signed, &freshness)?;
    Ok((signed, witnessed))
}
