//! Sealing against MLS alone; attachments against OpenSSL.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use greffe_envelope::attachment::{AttachmentOpener, AttachmentSealer, PaddedHasher};
use greffe_envelope::derive::Cek;
use greffe_envelope::pb;
use greffe_types::Digest;

use crate::Options;
use crate::backend::{Backend, Kind};
use crate::device::Device;
use crate::report::{Section, figure, ratio};
use crate::stats::median;
use crate::throughput::TEXT;
use crate::up::App;

/// Bytes given at a time, as the client does.
const PIECE: usize = 1 << 20;

/// Measures both.
///
/// # Errors
/// When something does not start.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    Ok(vec![sealing(options).await?, attachments(options)?])
}

async fn sealing(options: &Options) -> Result<Section> {
    let count = if options.quick { 100 } else { 2_000 };
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    let app = App::open(&backend.data()).await?;
    let mut device = Device::new(&app, 1).await?;
    drop((app, backend));
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let begun = Instant::now();
        for _ in 0..count {
            black_box(device.seal(TEXT)?);
        }
        whole.push(begun.elapsed().as_secs_f64() * 1e6 / count as f64);
        let begun = Instant::now();
        for _ in 0..count {
            black_box(device.mls_alone()?);
        }
        alone.push(begun.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    let mut section = Section::new(
        "Sealing",
        format!(
            "One message of {TEXT} bytes on one core: content, wrap for the journal, proof of knowledge, signature and the MLS \
             message, in turns with the MLS message alone (mls-rs on AWS-LC, the same group). Storing is not in it."
        ),
        &["what", "microseconds", "of MLS alone"],
    );
    let (whole, alone) = (median(&whole), median(&alone));
    section.row(vec![
        "sealed message".into(),
        figure(whole),
        ratio(whole, alone),
    ]);
    section.row(vec!["MLS alone".into(), figure(alone), "1.00".into()]);
    Ok(section)
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
        let mut sealed = Vec::with_capacity(size + size / 8);
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
