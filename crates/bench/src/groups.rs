//! What a conversation's size costs: messages and commits in groups of two to a thousand.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

use crate::backend::{Backend, Kind};
use crate::crypto::Spent;
use crate::device::Device;
use crate::report::{Section, figure};
use crate::stats::median;
use crate::throughput::TEXT;
use crate::up::App;
use crate::{Options, narrate};

/// Commits of which the median is shown.
const COMMITS: usize = 5;

/// Measures groups of several sizes.
///
/// # Errors
/// When something does not start, or MLS refuses.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut section = Section::new(
        "Sizes of groups",
        format!(
            "Time of one core and bytes, in a conversation of so many devices: a message of {TEXT} bytes, sealed and received as in \
             the tables of sealing and receiving; the first commit after everybody was added by one, and the later commits of the \
             same device (median of {COMMITS}): as long as the others have committed nothing, each encrypts a new secret to every \
             member by itself; both as one member takes them in. Bytes are those of the MLS message alone: nothing else of a message depends on the group."
        ),
        &[
            "devices",
            "seal us",
            "receive us",
            "message bytes",
            "first commit us",
            "first commit bytes",
            "later commit us",
            "later commit bytes",
            "commit taken in us",
            "welcome bytes",
        ],
    );
    let (sizes, messages): (&[usize], _) = if options.quick {
        (&[2, 10], 16)
    } else {
        (&[2, 10, 100, 1_000], 512)
    };
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    let app = App::open(&backend.data()).await?;
    for (number, size) in (0..).zip(sizes) {
        narrate(format_args!("  a group of {size}"));
        let device = Device::new(&app, number).await?;
        section.row(one(device, *size, messages)?);
    }
    Ok(vec![section])
}

fn one(mut device: Device, size: usize, messages: usize) -> Result<Vec<String>> {
    let (mut recipient, welcome) = device.crowd(size - 1)?;
    let commit = |device: &mut Device, recipient: &mut crate::device::Recipient| {
        let begun = Instant::now();
        let handshake = device.commit()?;
        let made = begun.elapsed().as_secs_f64() * 1e6;
        let begun = Instant::now();
        recipient.commit(&handshake)?;
        let taken = begun.elapsed().as_secs_f64() * 1e6;
        Ok::<_, anyhow::Error>((made, handshake.len(), taken))
    };
    let (first, first_bytes, _) = commit(&mut device, &mut recipient)?;
    let (mut later, mut taken, mut later_bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..COMMITS {
        let (made, bytes, received) = commit(&mut device, &mut recipient)?;
        later.push(made);
        taken.push(received);
        later_bytes = bytes;
    }
    let begun = Spent::now()?;
    let sealed: Vec<_> = (0..messages)
        .map(|_| device.seal(TEXT))
        .collect::<Result<_>>()?;
    let seal = begun.micros(messages)?;
    let receipts: Vec<_> = sealed
        .iter()
        .map(|message| recipient.receipt(message))
        .collect::<Result<_>>()?;
    let begun = Spent::now()?;
    for (receipt, message) in receipts.into_iter().zip(&sealed) {
        black_box(recipient.open(receipt, message)?);
    }
    recipient.settle()?;
    let receive = begun.micros(messages)?;
    let bytes = sealed
        .first()
        .map_or(0, |message| message.mls_message.len());
    Ok(vec![
        size.to_string(),
        figure(seal),
        figure(receive),
        bytes.to_string(),
        figure(first),
        first_bytes.to_string(),
        figure(median(&later)),
        later_bytes.to_string(),
        figure(median(&taken)),
        welcome.to_string(),
    ])
}
