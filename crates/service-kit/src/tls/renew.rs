//! Certificates that change while the process runs: the files are read again, and what is good is used from then on.

use core::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::TlsError;
use super::identity::{Identity, Pem, Weakly};
use crate::config::TlsFiles;
use crate::errors::Causes;
use crate::simulation;
use crate::telemetry::metrics;

/// How often the files are read.
pub const EVERY: Duration = Duration::from_secs(2);

/// What is new has to be accepted by this, too.
pub type Admit = Box<dyn Fn(&Identity) -> Result<(), Box<dyn std::error::Error>> + Send + Sync>;

/// Anything that peers would take now.
pub fn usable() -> Admit {
    Box::new(|new| Ok(new.verify(UnixTime::now())?))
}

/// Reads the files of an identity every few seconds, and at SIGHUP if that is wanted, until nobody uses the identity any
/// more. Handshakes that begin after a change use what is new; what is not usable is refused with a line in the log, and the
/// old one kept. Needs a tokio runtime.
pub fn watch(identity: &Identity, files: &TlsFiles, at_hangup: bool, admit: Admit) {
    if simulation::is_on() {
        return;
    }
    let watched = Watched {
        identity: identity.downgrade(),
        files: files.clone(),
        admit,
        seen: Pem::read(files).ok(),
        changing: None,
    };
    let hangup = at_hangup
        .then(|| signal(SignalKind::hangup()))
        .and_then(|signal| {
            signal
                .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be caught"))
                .ok()
        });
    tokio::spawn(watched.run(hangup));
}

struct Watched {
    identity: Weakly,
    files: TlsFiles,
    admit: Admit,
    /// What was taken or refused last.
    seen: Option<Pem>,
    /// What was found once: three files do not change in one step, so it is looked at when it is found twice.
    changing: Option<Pem>,
}

impl Watched {
    async fn run(mut self, mut hangup: Option<Signal>) {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = hung_up(&mut hangup) => true,
            };
            let Some(identity) = self.identity.upgrade() else {
                return;
            };
            self.look(&identity, asked);
        }
    }

    fn look(&mut self, identity: &Identity, asked: bool) {
        // A file that is away for a moment is being replaced.
        let Ok(found) = Pem::read(&self.files) else {
            if asked {
                refused("they cannot be read");
            }
            return;
        };
        if !asked && self.seen.as_ref() == Some(&found) {
            self.changing = None;
            return;
        }
        if !asked && self.changing.as_ref() != Some(&found) {
            self.changing = Some(found);
            return;
        }
        self.changing = None;
        match self.take(identity, &found) {
            Ok(()) => {
                let not_after = identity.not_after();
                metrics::CERTIFICATE_NOT_AFTER.set(not_after.try_into().unwrap_or(0));
                metrics::CERTIFICATE_RELOADS.add_for("taken", 1);
                tracing::info!(not_after, "new TLS files are in use");
            }
            Err(error) => refused(&Causes(&*error).to_string()),
        }
        self.seen = Some(found);
    }

    fn take(&self, identity: &Identity, found: &Pem) -> Result<(), Box<dyn std::error::Error>> {
        let new = found.identity()?;
        (self.admit)(&new)?;
        identity
            .replace(&new)
            .map_err(|error: TlsError| error.into())
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            let _ = signal.recv().await;
        }
        None => core::future::pending().await,
    }
}

fn refused(causes: &str) {
    metrics::CERTIFICATE_RELOADS.add_for("refused", 1);
    tracing::error!(
        causes,
        "the new TLS files are refused, the old ones stay in use"
    );
}
