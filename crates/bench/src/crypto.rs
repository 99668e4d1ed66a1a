//! Sealing and receiving against MLS alone; attachments against OpenSSL.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use greffe_envelope::attachment::{AttachmentOpener, AttachmentSealer, PaddedHasher};
use greffe_envelope::derive::Cek;
use greffe_envelope::pb;
use greffe_types::Digest;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::Options;
use crate::backend::{Backend, Kind};
use crate::device::Device;
use crate::report::{Section, figure, ratio};
use crate::stats::median;
use crate::throughput::TEXT;
use crate::up::App;

/// Bytes given at a time, as the client does.
const PIECE: usize = 1 << 20;

/// Messages that a recipient takes in together.
const BATCH: usize = 64;

/// Measures all of it.
///
/// # Errors
/// When something does not start.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut sections = messages(options).await?;
    sections.push(attachments(options)?);
    Ok(sections)
}

/// Processor time of this thread: that others work on the machine meanwhile makes it longer, but not many times so.
#[derive(Clone, Copy)]
pub(crate) struct Spent(f64);

impl Spent {
    pub(crate) fn now() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(Self(
            seconds(usage.user_time()) + seconds(usage.system_time()),
        ))
    }

    /// Microseconds since then, of each of so many.
    pub(crate) fn micros(self, count: usize) -> Result<f64> {
        Ok((Self::now()?.0 - self.0) * 1e6 / count as f64)
    }
}

async fn messages(options: &Options) -> Result<Vec<Section>> {
    let count = if options.quick { 256 } else { 2_048 };
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    let app = App::open(&backend.data()).await?;
    let mut device = Device::new(&app, 1).await?;
    drop((app, backend));
    let mut recipient = device.recipient()?;
    let (mut sealed, mut seal_alone) = (Vec::new(), Vec::new());
    let (mut opened, mut open_alone) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let begun = Spent::now()?;
        let messages: Vec<_> = (0..count)
            .map(|_| device.seal(TEXT))
            .collect::<Result<_>>()?;
        sealed.push(begun.micros(count)?);
        let begun = Spent::now()?;
        let alone: Vec<_> = (0..count)
            .map(|_| device.mls_alone())
            .collect::<Result<_>>()?;
        seal_alone.push(begun.micros(count)?);
        let receipts: Vec<_> = messages
            .iter()
            .map(|message| recipient.receipt(message))
            .collect::<Result<_>>()?;
        let mut messages: Vec<_> = receipts.into_iter().zip(messages).collect();
        let begun = Spent::now()?;
        for batch in messages.chunks_mut(BATCH) {
            for (receipt, message) in batch {
                black_box(recipient.open(std::mem::take(receipt), message)?);
            }
            recipient.settle()?;
        }
        opened.push(begun.micros(count)?);
        let begun = Spent::now()?;
        for batch in alone.chunks(BATCH) {
            for message in batch {
                black_box(recipient.mls_alone(message)?);
            }
            recipient.settle()?;
        }
        open_alone.push(begun.micros(count)?);
    }
    let table = |title, what: &str, about: &str, whole: &[f64], alone: &[f64]| {
        let mut section = Section::new(
            title,
            format!(
                "One message of {TEXT} bytes in processor time of one core, in turns with the MLS message alone (mls-rs on AWS-LC, the same group of two). {about}"
            ),
            &["what", "microseconds", "of MLS alone"],
        );
        let (whole, alone) = (median(whole), median(alone));
        section.row(vec![what.into(), figure(whole), ratio(whole, alone)]);
        section.row(vec!["MLS alone".into(), figure(alone), "1.00".into()]);
        section
    };
    Ok(vec![
        table(
            "Sealing",
            "sealed message",
            "Content, wrap for the journal, proof of knowledge, signature and the MLS message. Storing is not in it.",
            &sealed,
            &seal_alone,
        ),
        table(
            "Receiving",
            "opened message",
            "Receipt, envelope and its signature, the MLS message, wrap and proof made again and compared, content. The MLS state is \
             made ready to be stored once for 64 messages, as the client does; storing is not in it.",
            &opened,
            &open_alone,
        ),
    ])
}

fn attachments(options: &Options) -> Result<Section> {
    let size = if options.quick {
        16 << 20
    } else {
        256 << 20_usize
    };
    let seconds = if options.quick { "1" } else { "3" };
    let data = vec![7_u8; size];
    let (mut first, mut second, mut opened) = (Vec::new(), Vec::new(), Vec::new());
    let (mut aes, mut sha) = (Vec::new(), Vec::new());
    let rate = |begun: Instant| size as f64 / begun.elapsed().as_secs_f64() / 1e9;
    let cek = Cek::from_bytes([1; 32]);
    for _ in 0..options.runs {
        let begun = Instant::now();
        let mut hasher = PaddedHasher::new(size as u64)?;
        for piece in data.chunks(PIECE) {
            hasher.update(piece)?;
        }
        let padded = hasher.finish()?;
        first.push(rate(begun));
        // Written once, so that the kernel's pages are not what is measured.
        let mut sealed = vec![1; size + size / 8];
        sealed.clear();
        let begun = Instant::now();
        let mut sealer =
            AttachmentSealer::new(&cek, &Digest::ZERO, 0, &padded, size as u64, &mut sealed)?;
        for piece in data.chunks(PIECE) {
            sealer.update(piece, &mut sealed)?;
        }
        let header = sealer.finish(&mut sealed)?;
        second.push(rate(begun));
        let content = pb::ContentAttachment {
            size: size as u64,
            padded_digest: padded.to_vec(),
            ..Default::default()
        };
        let begun = Instant::now();
        let mut opener = AttachmentOpener::new(&cek, &Digest::ZERO, 0, &content, &header)?;
        let mut plain = Vec::with_capacity(2 * PIECE);
        for piece in sealed.chunks(PIECE) {
            plain.clear();
            opener.update(piece, &mut plain)?;
        }
        opener.finish(&mut plain)?;
        opened.push(rate(begun));
        aes.push(openssl("aes-256-gcm", seconds)?);
        sha.push(openssl("sha256", seconds)?);
    }
    let mut section = Section::new(
        "Attachments",
        "GB/s of one core. The first pass hashes what the key depends on; the second hashes it again, encrypts, and hashes the \
         ciphertext; opening hashes both and decrypts. Hence the limit is not AES alone: the last column holds each against \
         OpenSSL's own AES-256-GCM and SHA-256 (`openssl speed`, 64 KiB pieces) doing the same passes one after the other.",
        &[
            "what",
            "GB/s",
            "of AES-256-GCM alone",
            "of the same passes by OpenSSL",
        ],
    );
    let (aes, sha) = (median(&aes), median(&sha));
    let rows = [
        ("first pass", median(&first), sha),
        (
            "second pass",
            median(&second),
            1.0 / (1.0 / aes + 2.0 / sha),
        ),
        ("opening", median(&opened), 1.0 / (1.0 / aes + 2.0 / sha)),
        ("OpenSSL AES-256-GCM", aes, aes),
        ("OpenSSL SHA-256", sha, sha),
    ];
    for (what, value, limit) in rows {
        section.row(vec![
            what.into(),
            figure(value),
            ratio(value, aes),
            ratio(value, limit),
        ]);
    }
    Ok(section)
}

/// GB/s of one core over pieces of 64 KiB, as `openssl speed` finds.
fn openssl(algorithm: &str, seconds: &str) -> Result<f64> {
    let output = Command::new("openssl")
        .args([
            "speed", "-elapsed", "-mr", "-seconds", seconds, "-bytes", "65536", "-evp", algorithm,
        ])
        .output()
        .context("openssl cannot be started: install it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `+F:22:AES-256-GCM:5368709120.00`: bytes a second.
    let rate = text
        .lines()
        .filter(|line| line.starts_with("+F:"))
        .find_map(|line| line.rsplit(':').next()?.parse::<f64>().ok())
        .with_context(|| format!("openssl speed said nothing of {algorithm}"))?;
    Ok(rate / 1e9)
}
