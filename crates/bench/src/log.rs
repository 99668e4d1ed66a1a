//! Entries of the log a second, against hashing and one fsync a batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_service_kit::append::{Appended, Appender};
use greffe_service_kit::config;
use greffe_service_kit::tls::{Identity, SpiffeId, connect};
use tokio::sync::Semaphore;

use crate::backend::{Backend, Kind};
use crate::device::random;
use crate::limits::disk;
use crate::report::{Section, figure, ratio};
use crate::stats::median;
use crate::up::App;
use crate::{Options, narrate};

/// Entries on their way at once: as many as one batch of the limit.
const WINDOW: usize = 512;

/// Measures the log on SQLite and on PostgreSQL.
///
/// # Errors
/// When the services do not start, or refuse.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut section = Section::new(
        "Log",
        format!(
            "Entries a second, {WINDOW} on their way, by the appender that the services use, over gRPC and mutual TLS. \"Appended\" \
             counts until the last index is known: the entry is on the disk. \"Cosigned\" counts until a checkpoint with the \
             quorum's cosignatures covers all of them. Witnesses, relay and archive follow the log meanwhile, on the same \
             cores. The limit is the same leaves hashed, and appended to one file with one fdatasync for every {WINDOW}."
        ),
        &[
            "stores",
            "appended/s",
            "cosigned/s",
            "hashed and synced/s",
            "appended of it",
            "cosigned of it",
        ],
    );
    let (kinds, count): (&[Kind], _) = if options.quick {
        (&[Kind::Embedded], 500)
    } else {
        (&[Kind::Embedded, Kind::Postgres], 20_000)
    };
    for kind in kinds {
        narrate(format_args!("  {}", kind.name()));
        let backend = Backend::start(options, *kind, &[]).await?;
        let app = App::open(&backend.data()).await?;
        let appender = appender(&backend).await?;
        let (mut appended, mut cosigned, mut limit) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.runs {
            let begun = Instant::now();
            let last = fill(&appender, count).await?;
            appended.push(count as f64 / begun.elapsed().as_secs_f64());
            let bundle = app.client.trust()?;
            let log = app.client.log();
            log.checkpoint(bundle.bundle(), last.index + 1).await?;
            cosigned.push(count as f64 / begun.elapsed().as_secs_f64());
            let folder = backend.folder().to_owned();
            limit.push(
                tokio::task::spawn_blocking(move || disk::log(&folder, &last.leaf, count))
                    .await??,
            );
        }
        let limit = median(&limit);
        section.row(vec![
            kind.name(),
            figure(median(&appended)),
            figure(median(&cosigned)),
            figure(limit),
            ratio(median(&appended), limit),
            ratio(median(&cosigned), limit),
        ]);
    }
    Ok(vec![section])
}

/// An appender as the archive has it, with the archive's own certificate.
async fn appender(backend: &Backend) -> Result<Appender> {
    let file = backend.data().join("services/archive/config.toml");
    let settings =
        config::load::<greffe_archive::Config>(Some(&file), "NOTHING_OF_THE_ENVIRONMENT")
            .with_context(|| format!("{} cannot be read", file.display()))?
            .service;
    let identity = Identity::load(&settings.tls)?;
    let expected = SpiffeId::service(&settings.tenant, "audit")?;
    let channel = connect(settings.peer("audit")?, &expected, &identity).await?;
    Ok(Appender::new(channel, &settings.tenant))
}

/// Appends so many entries and gives the one with the highest index.
async fn fill(appender: &Appender, count: usize) -> Result<Appended> {
    let room = Arc::new(Semaphore::new(WINDOW));
    let mut tasks = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let place = room.clone().acquire_owned().await?;
        let appender = appender.clone();
        let id = random::<16>()?;
        tasks.push(tokio::spawn(async move {
            let _place = place;
            // What an auditor's reading of a record leaves.
            let entry = Event::Access(pb::Access {
                person: "auditor".into(),
                action: "get".into(),
                count: number,
                subject: vec![7; 32],
            });
            appender.append_event(id, entry).await
        }));
    }
    let mut last: Option<Appended> = None;
    for task in tasks {
        let appended = tokio::time::timeout(Duration::from_secs(120), task)
            .await
            .context("the log took more than two minutes")???;
        if last.as_ref().is_none_or(|one| one.index < appended.index) {
            last = Some(appended);
        }
    }
    last.context("nothing was appended")
}
