//! Orders: how long opening takes, and how many partial openings a node gives a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use greffe_client::OrderRequest;
use greffe_envelope::envelope::envelope_digest;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::Digest;

use crate::backend::{Backend, Kind};
use crate::device::{Device, seal_all};
use crate::report::{Section, figure};
use crate::throughput::TEXT;
use crate::up::App;
use crate::{Options, load, narrate};

const NODE: &str = "escrow-1";
/// Who approves, in that order.
const APPROVERS: [&str; 3] = ["principal", "compliance", "second-principal"];
/// An order over more records than this takes one approval more (`bulk_threshold` of the broker-dealer's pack).
const BULK: usize = 100;

/// Measures orders of several sizes.
///
/// # Errors
/// When the services do not start, or refuse.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut section = Section::new(
        "Orders",
        "One order over so many records: asked for, approved by two people, by three when it is over more than 100, whose clients recompute the list, opened by three nodes \
         at once and combined by the reader, nodes and reader on the same cores. Openings a second of a node's own processor: \
         what one core gives when it does nothing else, every check and the reader's sealing included.",
        &[
            "records",
            "asked s",
            "approved s",
            "opened s",
            "records/s",
            "openings a second of one core of a node",
        ],
    );
    let sizes: &[usize] = if options.quick {
        &[1, 10]
    } else {
        &[1, 100, 1_000, 10_000]
    };
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    let app = App::open(&backend.data()).await?;
    let device = Device::new(&app, 1).await?;
    let count = sizes.iter().max().copied().unwrap_or(1);
    let mut sealed = seal_all(vec![device], count, TEXT).await?;
    let digests: Vec<Digest> = sealed[0]
        .1
        .iter()
        .filter_map(|request| Some(envelope_digest(&request.envelope.as_ref()?.body)))
        .collect();
    let begun = Instant::now();
    let (_, last) = load::send(&mut sealed, 256).await?;
    load::logged(&app, &last, begun).await?;
    let auditor = app.person("auditor")?;
    let matter = auditor.create_matter("Benchmark").await?;
    for size in sizes {
        narrate(format_args!("  an order over {size} records"));
        let now = SystemClock.now();
        let begun = Instant::now();
        let order = auditor
            .request_order(OrderRequest {
                matter,
                purpose: "measuring how long it takes".into(),
                records: digests[..*size].to_vec(),
                reader: "reader".into(),
                not_before: now.minus(Duration::from_secs(1)),
                expiry: now.plus(Duration::from_secs(3600)),
                seal_until: None,
            })
            .await?;
        let asked = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for approver in APPROVERS.iter().take(if *size > BULK { 3 } else { 2 }) {
            app.person(approver)?.approve_order(&order.id).await?;
        }
        let approved = begun.elapsed().as_secs_f64();
        let seconds = || BTreeMap::from_iter(backend.seconds());
        let before = seconds();
        let begun = Instant::now();
        let mut opening = app.person("reader")?.open_order(&order.id).await?;
        let opened = opening.all().await?;
        let took = begun.elapsed().as_secs_f64();
        let after = seconds();
        ensure!(
            opened.len() == *size && opened.iter().all(std::result::Result::is_ok),
            "not every record was opened"
        );
        let of = |seconds: &BTreeMap<String, f64>| seconds.get(NODE).copied().context(NODE);
        let taken = of(&after)? - of(&before)?;
        // The processor's clock ticks a hundred times a second: less says nothing.
        let rate = if taken >= 0.05 {
            figure(*size as f64 / taken)
        } else {
            "-".into()
        };
        section.row(vec![
            size.to_string(),
            figure(asked),
            figure(approved),
            figure(took),
            figure(*size as f64 / took),
            rate,
        ]);
    }
    Ok(vec![section])
}
