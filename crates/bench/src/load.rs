//! Senders on streams: so many messages of each on their way at once, every answer timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use greffe_api::relay as api;
use greffe_types::Digest;
use tokio::sync::{Barrier, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::device::Device;
use crate::stats::percentile;
use crate::up::App;

/// How long receipts may take to be in the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(120);

/// How a load went.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Messages answered with a receipt.
    pub(crate) messages: usize,
    /// Seconds from the first message to the last receipt.
    pub(crate) seconds: f64,
    /// Seconds from the first message until every receipt was in the log; 0 when nobody looked.
    pub(crate) logged: f64,
    /// Milliseconds from a message's sending to its answer.
    pub(crate) waits: Vec<f64>,
}

impl Outcome {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Messages a second until they were in the log.
    pub(crate) fn logged_rate(&self) -> f64 {
        self.messages as f64 / self.logged
    }

    /// Milliseconds that so large a share of the messages did not exceed.
    pub(crate) fn wait(&self, share: f64) -> f64 {
        percentile(&self.waits, share)
    }
}

/// Sends what was sealed: every device on a stream of its own, at most `window` of its messages unanswered.
///
/// # Errors
/// When a message is refused or a stream breaks.
pub(crate) async fn send(
    sealed: &mut [(Device, Vec<api::SendRequest>)],
    window: usize,
) -> Result<(Outcome, Vec<Digest>)> {
    let gate = Arc::new(Barrier::new(sealed.len() + 1));
    let mut tasks = Vec::new();
    for (device, requests) in sealed {
        let requests = std::mem::take(requests);
        let (sender, receiver) = mpsc::channel(window);
        let request = device.request(ReceiverStream::new(receiver));
        let mut relay = device.relay();
        let gate = gate.clone();
        tasks.push(tokio::spawn(async move {
            gate.wait().await;
            let answers = async move {
                Ok(relay.send(request).await?.into_inner().map(|answer| {
                    let answer = answer?;
                    if answer.sequence == 0 || answer.receipt.is_none() {
                        bail!(
                            "a message was refused: {} {}",
                            answer.reason,
                            answer.message
                        );
                    }
                    Ok(answer.envelope)
                }))
            };
            stream(requests, window, sender, answers).await
        }));
    }
    gate.wait().await;
    let begun = Instant::now();
    let (mut waits, mut last) = (Vec::new(), Vec::new());
    for task in tasks {
        let (mut of_one, envelope) = task.await??;
        waits.append(&mut of_one);
        last.push(Digest::try_from(envelope.as_slice()).context("an answer for no message")?);
    }
    let outcome = Outcome {
        messages: waits.len(),
        seconds: begun.elapsed().as_secs_f64(),
        logged: 0.0,
        waits,
    };
    Ok((outcome, last))
}

/// Hands messages to a stream and times the answers, which come in order; gives the last one's id too.
pub(crate) async fn stream<T: Send + 'static>(
    messages: Vec<T>,
    window: usize,
    sender: mpsc::Sender<T>,
    answers: impl Future<Output = Result<impl futures::Stream<Item = Result<Vec<u8>>>>>,
) -> Result<(Vec<f64>, Vec<u8>)> {
    let count = messages.len();
    let room = Arc::new(Semaphore::new(window));
    let (noted, mut sent) = mpsc::channel(window);
    let sending = tokio::spawn({
        let room = room.clone();
        async move {
            for message in messages {
                let Ok(place) = room.clone().acquire_owned().await else {
                    return;
                };
                place.forget();
                if noted.send(Instant::now()).await.is_err() || sender.send(message).await.is_err()
                {
                    return;
                }
            }
        }
    });
    let answers = answers.await?;
    let mut answers = std::pin::pin!(answers);
    let (mut waits, mut last) = (Vec::with_capacity(count), Vec::new());
    while let Some(answer) = answers.next().await {
        last = answer?;
        let at = sent
            .recv()
            .await
            .context("an answer that nobody waits for")?;
        waits.push(at.elapsed().as_secs_f64() * 1000.0);
        room.add_permits(1);
    }
    if waits.len() != count {
        // It waits for room that nobody makes any more.
        sending.abort();
        bail!("{} of {count} were answered", waits.len());
    }
    sending.await?;
    Ok((waits, last))
}

/// Waits until the receipts of these messages are in the log; gives the seconds since `begun`.
///
/// # Errors
/// When that takes too long.
pub(crate) async fn logged(app: &App, envelopes: &[Digest], begun: Instant) -> Result<f64> {
    let auditor = app.person("auditor")?;
    for envelope in envelopes {
        while auditor.record(envelope).await?.receipt_proof.is_none() {
            ensure!(
                begun.elapsed() < LOGGED_WITHIN,
                "{envelope} is not in the log after {LOGGED_WITHIN:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}
