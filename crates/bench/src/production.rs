//! Writing a production, against decrypting the same and writing it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use greffe_envelope::attachment::open_attachment;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::open_with_cek;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_production::{Producer, Production, Record};
use greffe_service_kit::clock::{Clock as _, SystemClock};
use zeroize::Zeroizing;

use crate::backend::{Backend, Kind};
use crate::device::{Device, random};
use crate::report::{Section, figure, ratio};
use crate::stats::median;
use crate::throughput::TEXT;
use crate::up::App;
use crate::{Options, narrate};

/// A record and its attachment's ciphertext.
type Sealed = (Record, Vec<u8>);

/// Measures productions of short messages and of large attachments.
///
/// # Errors
/// When something does not start, or a file cannot be written.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut section = Section::new(
        "Productions",
        "Records that an order opened, made into a production: each checked against its envelope, shown in every form, with \
         its evidence and the signed manifest, durable before it has its name. MB/s are of text and attachments. The limit: the \
         same ciphertexts decrypted and written, one file for each text and attachment, each file made durable. A production has an \
         attachment twice, as a file and in base64 within its message, and hashes both: 2.4 bytes are written for each of the limit's.",
        &[
            "records",
            "plaintext MB",
            "what",
            "seconds",
            "records/s",
            "MB/s",
            "of the limit",
        ],
    );
    let sets: &[(usize, usize)] = if options.quick {
        &[(20, 0), (2, 1 << 20)]
    } else {
        &[(2_000, 0), (32, 8 << 20)]
    };
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    let app = App::open(&backend.data()).await?;
    for (number, (count, attached)) in (0..).zip(sets) {
        narrate(format_args!(
            "  {count} records, {attached} bytes attached to each"
        ));
        let device = Device::new(&app, number).await?;
        let tenant = app.client.connection().tenant().to_string();
        let folder = backend.folder().to_owned();
        let (count, attached, runs) = (*count, *attached, options.runs);
        let rows = tokio::task::spawn_blocking(move || {
            let sealed = records(device, count, attached)?;
            one(&folder, &tenant, &sealed, count * (TEXT + attached), runs)
        });
        for row in rows.await?? {
            section.row(row);
        }
    }
    Ok(vec![section])
}

/// What a reader has after an order was opened, but for the log's proofs, which a production only copies.
fn records(mut device: Device, count: usize, attached: usize) -> Result<Vec<Sealed>> {
    let mut recipient = device.recipient()?;
    let mut data = vec![0; attached];
    getrandom::fill(&mut data)?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let attachment = (attached > 0).then_some(data.as_slice());
        let (sent, ciphertext) = device.seal_with(TEXT, attachment)?;
        let receipt = recipient.receipt(&sent)?;
        let opened = recipient.open(receipt.clone(), &sent)?;
        let record = Record {
            envelope: sent.envelope.context("no envelope")?,
            certificate: device.signed_certificate.clone(),
            receipt,
            ciphertext: sent.ciphertext,
            key: Zeroizing::new(*opened.cek.as_bytes()),
            attachments: attachment.map(<[u8]>::to_vec).into_iter().collect(),
            ..Record::default()
        };
        all.push((record, ciphertext));
    }
    recipient.settle()?;
    Ok(all)
}

fn one(
    folder: &Path,
    tenant: &str,
    sealed: &[Sealed],
    bytes: usize,
    runs: u32,
) -> Result<Vec<Vec<String>>> {
    let key = SigningKey::from_bytes(&random()?);
    let (mut to_folder, mut to_zip, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    let order = pb::Order {
        tenant: tenant.to_owned(),
        id: random::<16>()?.to_vec(),
        purpose: "measuring how long it takes".into(),
        reader: "reader".into(),
        ..Default::default()
    };
    let order = pb::ReleasedOrder {
        order: Some(Signed::sign(order, &[("auditor", &key)]).into_raw()),
        ..Default::default()
    };
    let production = || Production {
        order: order.clone(),
        records: sealed.iter().map(|(record, _)| record.clone()).collect(),
        ..Production::default()
    };
    let producer = Producer {
        name: "reader",
        key: &key,
        at: SystemClock.now(),
    };
    for _ in 0..runs {
        let (path, given) = (folder.join("production"), production());
        let begun = Instant::now();
        greffe_production::write(&path, given, producer)?;
        to_folder.push(begun.elapsed().as_secs_f64());
        fs::remove_dir_all(&path)?;

        let (path, given) = (folder.join("production.zip"), production());
        let begun = Instant::now();
        greffe_production::write_zip(&path, given, producer)?;
        to_zip.push(begun.elapsed().as_secs_f64());
        fs::remove_file(&path)?;

        let path = folder.join("plain");
        let begun = Instant::now();
        decrypt(&path, tenant, sealed)?;
        limit.push(begun.elapsed().as_secs_f64());
        fs::remove_dir_all(&path)?;
    }
    let limit = median(&limit);
    let row = |what: &str, seconds: f64| {
        vec![
            sealed.len().to_string(),
            figure(bytes as f64 / 1e6),
            what.into(),
            figure(seconds),
            figure(sealed.len() as f64 / seconds),
            figure(bytes as f64 / 1e6 / seconds),
            ratio(limit, seconds),
        ]
    };
    Ok(vec![
        row("folder", median(&to_folder)),
        row("zip", median(&to_zip)),
        row("decrypted and written", limit),
    ])
}

/// The limit.
fn decrypt(folder: &Path, tenant: &str, sealed: &[Sealed]) -> Result<()> {
    fs::create_dir(folder)?;
    let put = |name: String, bytes: &[u8]| {
        let mut file = File::create(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    for (number, (record, ciphertext)) in sealed.iter().enumerate() {
        let envelope = Envelope::decode(record.envelope.clone())?;
        let cek = greffe_envelope::derive::Cek::from_bytes(*record.key);
        let opened = open_with_cek(&cek, tenant, &envelope, &record.ciphertext)?;
        put(format!("{number}.txt"), &opened.content.text)?;
        let references = &envelope.header().message().attachments;
        if let (Some(inside), Some(reference)) =
            (opened.content.attachments.first(), references.first())
        {
            let plain = open_attachment(&cek, &opened.core, 0, inside, reference, ciphertext)?;
            put(format!("{number}.bin"), &plain)?;
        }
    }
    File::open(folder)?.sync_all()?;
    Ok(())
}
