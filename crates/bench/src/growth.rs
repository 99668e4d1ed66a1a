//! How cost grows with what an archive holds: from a thousand records to a million, in few and in many conversations.
//!
//! What is bypassed: relay, sealing, proofs and objects of the records that are only there to be many. They are rows written
//! by the archive's own statements ([`greffe_archive::store`]) while no archive runs, of the size and shape that real ones
//! have; what is measured then goes through the running services like anybody's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use greffe_api::archive::RecordQuery;
use greffe_api::relay::SendRequest;
use greffe_archive::store::records::{NewRecord, Proof};
use greffe_archive::store::{MAIN, Scope, batches, conversations, keys, records};
use greffe_client::People;
use greffe_envelope::chain::ChainState;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::db::{Connection, Database, DbOptions, Source};
use greffe_types::{ConversationId, DeviceId, Digest, Millis, TenantId};
use prost::Message as _;

use crate::backend::{Backend, Kind};
use crate::device::{Device, seal_all};
use crate::load;
use crate::report::{Section, figure};
use crate::stats::median;
use crate::throughput::TEXT;
use crate::up::App;
use crate::{Options, narrate};

/// Records of one transaction of the filling.
const PIECE: u64 = 2_000;
/// Reads of each kind; the median is shown.
const READS: usize = 15;
/// Numbers of a signed range.
const RANGE: u64 = 10;
/// Records found on a page.
const PAGE: u32 = 50;
/// Time between two records: 3,000 a minute, so that a million are of less than six hours.
const APART: Duration = Duration::from_millis(20);

/// What is measured, in the order of the table.
const WHAT: [&str; 8] = [
    "start s",
    "archived/s",
    "first page ms",
    "of a conversation ms",
    "of a participant ms",
    "of a minute ms",
    "one record ms",
    "signed range ms",
];

/// Measures both databases.
///
/// # Errors
/// When the services do not start, or refuse.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let about = "A start of all services; messages of one sender who streams, until their receipts; a first page of 50 headers, of \
                 everything, of one conversation, of one participant, of one minute with 3,000 records; one record by its digest; a signed range of \
                 ten numbers. All by the running services over gRPC and TLS, every read logged; medians of 15 reads. The records \
                 that are only there to be many are rows written by the archive's own statements while no archive runs: relay, \
                 sealing, proofs and objects are bypassed for them.";
    let mut head = vec!["stores", "records", "conversations"];
    head.extend(WHAT);
    let mut growth = Section::new("Growth", about, &head);
    let kinds: &[Kind] = if options.quick {
        &[Kind::Embedded]
    } else {
        &[Kind::Embedded, Kind::Postgres]
    };
    for kind in kinds {
        if options.quick {
            one(options, *kind, &[300], 10, &mut growth).await?;
            continue;
        }
        let sizes: Vec<u64> = [1_000, 10_000, 100_000, 1_000_000]
            .into_iter()
            .filter(|size| *size <= options.records)
            .collect();
        one(options, *kind, &sizes, 100, &mut growth).await?;
        let many = options.records.min(100_000);
        for conversations in [10, 1_000, 10_000] {
            one(options, *kind, &[many], conversations, &mut growth).await?;
        }
    }
    Ok(vec![growth])
}

async fn one(
    options: &Options,
    kind: Kind,
    sizes: &[u64],
    conversations: u64,
    growth: &mut Section,
) -> Result<()> {
    let mut backend = Backend::start(options, kind, &[]).await?;
    let app = App::open(&backend.data()).await?;
    let tenant = app.client.connection().tenant().clone();
    let mut device = Some(Device::new(&app, 1).await?);
    let most = sizes.iter().max().copied().unwrap_or_default();
    let most = u32::try_from(most).context("so many records")?;
    let mut filling = Filling {
        tenant,
        conversations,
        heads: BTreeMap::new(),
        begins: SystemClock.now().minus(APART * most),
    };
    let messages = if options.quick { 50 } else { 1_000 };
    drop(app);
    for size in sizes {
        let ready = device.take().context("a device")?;
        let sealed = seal_all(vec![ready], messages, TEXT).await?;
        let like = sealed[0].1.first().cloned().context("a message")?;
        backend.end()?;
        let begun = Instant::now();
        let sample = filling.fill(&backend, *size, &like).await?;
        narrate(format_args!(
            "  {}, {size} records in {conversations} conversations: filled in {:.0} s",
            kind.name(),
            begun.elapsed().as_secs_f64()
        ));
        let begun = Instant::now();
        backend.begin()?;
        let mut figures = vec![begun.elapsed().as_secs_f64()];
        let app = App::open(&backend.data()).await?;
        let mut sealed = sealed;
        sealed[0].0.reconnect(&app).await?;
        let (outcome, _) = load::send(&mut sealed, 256).await?;
        figures.push(outcome.rate());
        figures.extend(reads(&app.person("auditor")?, &sample).await?);
        let mut row = vec![kind.name(), size.to_string(), conversations.to_string()];
        row.extend(figures.into_iter().map(figure));
        growth.row(row);
        device = sealed.into_iter().next().map(|(device, _)| device);
    }
    Ok(())
}

/// Some of what was filled in, to be asked for.
struct Sample {
    conversation: ConversationId,
    participant: String,
    /// Its highest number.
    highest: u64,
    /// Time of the last record that was filled in.
    last: Millis,
    records: Vec<Digest>,
}

/// Milliseconds of each read.
async fn reads(auditor: &People, sample: &Sample) -> Result<Vec<f64>> {
    let queries = [
        RecordQuery::default(),
        RecordQuery {
            conversation: sample.conversation.to_vec(),
            ..Default::default()
        },
        RecordQuery {
            participant: sample.participant.clone(),
            ..Default::default()
        },
        RecordQuery {
            from: sample.last.minus(Duration::from_secs(60)).get(),
            until: sample.last.get(),
            ..Default::default()
        },
    ];
    let mut figures = Vec::new();
    for query in &queries {
        let mut times = Vec::new();
        for _ in 0..READS {
            let begun = Instant::now();
            let page = auditor.search(query, PAGE, None).await?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            ensure!(!page.items.is_empty(), "a search that finds nothing");
        }
        figures.push(median(&times));
    }
    let mut times = Vec::new();
    for digest in &sample.records {
        let begun = Instant::now();
        auditor.record(digest).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    figures.push(median(&times));
    let mut times = Vec::new();
    for _ in 0..READS {
        let begun = Instant::now();
        auditor
            .range(
                &sample.conversation,
                sample.highest.saturating_sub(RANGE - 1).max(1),
                sample.highest,
            )
            .await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    figures.push(median(&times));
    Ok(figures)
}

/// Rows in the place of records that nobody sent.
struct Filling {
    tenant: TenantId,
    conversations: u64,
    /// The chain of each conversation.
    heads: BTreeMap<u64, ChainState>,
    /// Time of the first: the last one of the largest size is of now.
    begins: Millis,
}

fn id(what: &str, number: u64) -> [u8; 32] {
    *sha256(format!("{what} {number}").as_bytes()).as_bytes()
}

fn conversation(number: u64) -> Result<ConversationId> {
    let bytes = id("conversation", number);
    ConversationId::try_from(&bytes[..16]).context("an id")
}

impl Filling {
    /// Brings the archive to `size` records.
    async fn fill(&mut self, backend: &Backend, size: u64, like: &SendRequest) -> Result<Sample> {
        let source = match backend.urls.iter().find(|(name, _)| *name == "archive") {
            Some((_, url)) => Source::postgres(url, &self.tenant, "bench")?,
            None => Source::File(backend.data().join("services/archive/archive.db")),
        };
        let database = Database::open(&source, &MAIN, DbOptions::default()).await?;
        let scope = Scope {
            tenant: self.tenant.clone(),
        };
        let first = keys::last(database.read(), &scope).await? + 1;
        let mut next = first;
        while next <= size {
            let until = (next + PIECE).min(size + 1);
            let heads = &mut self.heads;
            let (conversations, begins) = (self.conversations, self.begins);
            database
                .run_tx("fill", async |conn: &mut Connection| {
                    let mut rows = Vec::new();
                    for record in next..until {
                        let place = record % conversations;
                        let start = conversation(place)
                            .map_err(|error| sqlx::Error::Decode(error.into()))?;
                        let chain = heads
                            .entry(place)
                            .or_insert_with(|| ChainState::start(start));
                        let at = begins.plus(APART * u32::try_from(record).unwrap_or(u32::MAX));
                        rows.push(row(&scope.tenant, record, place, chain, at, like));
                    }
                    let rows: Vec<_> = rows.iter().collect();
                    records::insert(conn, &scope, &rows).await
                })
                .await?;
            next = until;
        }
        let heads = self.heads.clone();
        database
            .run_tx("fill", async |conn: &mut Connection| {
                for (place, chain) in heads {
                    let row = conversations::Conversation {
                        chain,
                        disclosure: None,
                        relay_fence: 0,
                    };
                    conversations::save(conn, &scope, &[row]).await?;
                    let members = [
                        (format!("member-{place}"), DeviceId::new([1; 16])),
                        ("everybody".to_owned(), DeviceId::new([2; 16])),
                    ];
                    let set = Digest::new(id("members", place));
                    records::keep_member_set(conn, &scope, &set, &members).await?;
                }
                // Nobody sends these to the log: they count as sent.
                let append = id("append", first);
                let append = append.first_chunk::<16>().copied().unwrap_or_default();
                if next > first {
                    batches::insert(conn, &scope, first, next - first, &append).await?;
                }
                Ok::<_, sqlx::Error>(())
            })
            .await?;
        database.close().await?;
        let of_one = 7 % self.conversations;
        Ok(Sample {
            conversation: conversation(of_one)?,
            participant: format!("member-{of_one}"),
            last: self
                .begins
                .plus(APART * u32::try_from(size).unwrap_or(u32::MAX)),
            highest: self.heads.get(&of_one).context("a conversation")?.sequence,
            records: (1..=READS as u64)
                .map(|n| {
                    Digest::new(id(
                        "record",
                        (n * size / (READS as u64 + 1)).max(first.min(size)),
                    ))
                })
                .collect(),
        })
    }
}

/// A record at the end of a chain, which it moves on.
fn row(
    tenant: &TenantId,
    record: u64,
    place: u64,
    chain: &mut ChainState,
    at: Millis,
    like: &SendRequest,
) -> NewRecord {
    let digest = Digest::new(id("record", record));
    let previous = chain.head;
    *chain = chain.next(&digest);
    let retain_until = at.plus(Duration::from_secs(7 * 365 * 86_400));
    let receipt = pb::Receipt {
        tenant: tenant.to_string(),
        conversation: chain.conversation.to_vec(),
        sequence: chain.sequence,
        kind: pb::EntryKind::Message.into(),
        entry_digest: digest.to_vec(),
        previous_head: previous.to_vec(),
        head: chain.head.to_vec(),
        archived_at: at.get(),
        retain_until: retain_until.get(),
        bundle_version: 1,
    };
    NewRecord {
        record,
        conversation: chain.conversation,
        sequence: chain.sequence,
        kind: pb::EntryKind::Message,
        digest,
        refused: None,
        sender: format!("member-{place}"),
        sent_at: at.get(),
        archived_at: at,
        retain_until,
        mode: pb::Mode::Journaled.into(),
        record_class: "communication".into(),
        policy_digest: None,
        size: like.ciphertext.len() as u64,
        member_set: Digest::new(id("members", place)),
        content: Digest::new(id("content", record)),
        envelope: like.envelope.clone(),
        certificate: None,
        // Nobody's signature, as long as a real one.
        receipt: pb::SignedStatement {
            r#type: "receipt".into(),
            statement: receipt.encode_to_vec(),
            signatures: vec![pb::Signature {
                signer: "receipts".into(),
                algorithm: 1,
                signature: vec![1; 64],
            }],
        },
        void: None,
        proof: Proof::Verified,
    }
}
