//! Opening records under a released order: this machine asks every node for its partial opening, verifies each, combines a
//! quorum, and decrypts. No service sees the result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::sync::Arc;

use futures::StreamExt as _;
use greffe_api::archive as api;
use greffe_api::escrow as escrow_api;
use greffe_envelope::attachment::AttachmentOpener;
use greffe_envelope::ceremony::ShareHolders;
use greffe_envelope::opening::{RecordList, order_event};
use greffe_envelope::pb;
use greffe_envelope::trust::TrustState;
use greffe_types::{Digest, OrderId};
use tonic::{Code, Status, Streaming};

use super::People;
use super::combine::{Answer, Fetched, NotOpened, OpenedRecord, combine};
use super::orders::{OrderInfo, OrderState};
use super::record::verify_record;
use crate::attachment::{open_stream, refused};
use crate::connection::within;
use crate::error::{ClientError, Result, call};
use crate::log::{Included, LogError, VerifiedCheckpoint};
use crate::receive::body;

/// Records opened together.
const CHUNK: usize = 64;
/// A node has that many times the patience of a connection for a chunk: it opens and logs each record of it.
const NODE_PATIENCE: u32 = 2;

/// An order being opened: its records come in chunks.
#[derive(Debug)]
pub struct Opening {
    people: People,
    /// The order with its approvals.
    pub info: OrderInfo,
    /// The records it is about.
    pub list: RecordList,
    /// Order, approvals and salt, as the log's leaf commits to them.
    pub released: pb::ReleasedOrder,
    /// The order's leaf, proved.
    pub leaf: Included,
    /// Leaves of the receipts' batches, proved, by index.
    pub batches: BTreeMap<u64, Included>,
    records: Streaming<api::FetchRecordsResponse>,
    holders: HashMap<Digest, Arc<ShareHolders>>,
    checkpoint: VerifiedCheckpoint,
    /// Nodes that let their time pass: not waited for again while the others are enough.
    silent: BTreeSet<String>,
}

impl People {
    /// Opens a released order of which this person is the reader: proves it in the log under a witnessed checkpoint, and
    /// begins to fetch its records.
    ///
    /// # Errors
    /// When it is not released, this person is not its reader, or the log does not bear it out.
    pub async fn open_order(&self, id: &OrderId) -> Result<Opening> {
        let (info, list) = self.order(id).await?;
        if info.state != OrderState::Released {
            return Err(ClientError::refused(
                "ORDER_NOT_RELEASED",
                format!("order {id} is not released: {}", missing(&info)),
            ));
        }
        if info.order.reader != self.person.name()
            || info.order.reader_key != self.person.reader()?.public_key()
        {
            return Err(ClientError::refused(
                "ORDER_NOT_YOURS",
                format!(
                    "order {id} is for {}, with that person's reader key",
                    info.order.reader
                ),
            ));
        }
        self.client.refresh_trust().await?;
        let state = self.client.trust()?;
        let log = self.client.log();
        let needed = info.log_index.saturating_add(1);
        let checkpoint = log.checkpoint(state.bundle(), needed).await?;
        let leaf = log.included("order", &checkpoint, info.log_index).await?;
        let released = pb::ReleasedOrder {
            order: Some(info.order.raw().clone()),
            approvals: info.approvals.clone(),
            salt: info.salt.clone(),
        };
        check_order_leaf(&leaf.entry, &released)?;
        let orders = self.orders_api()?;
        let request = api::FetchRecordsRequest { order: id.to_vec() };
        let records = self.unary("FetchRecords", request, |request| {
            let mut orders = orders.clone();
            async move { orders.fetch_records(request).await }
        });
        let records = records.await?;
        Ok(Opening {
            people: self.clone(),
            info,
            list,
            released,
            leaf,
            batches: BTreeMap::new(),
            records,
            holders: HashMap::new(),
            checkpoint,
            silent: BTreeSet::new(),
        })
    }
}

impl Opening {
    /// The next records; empty when there are no more.
    ///
    /// # Errors
    /// When the archive or too many nodes cannot be reached. What concerns one record alone is said in its place.
    pub async fn next_chunk(&mut self) -> Result<Vec<Result<OpenedRecord, NotOpened>>> {
        let state = self.people.client.trust()?;
        let (mut fetched, mut failed) = (Vec::new(), Vec::new());
        while fetched.len() + failed.len() < CHUNK {
            let Some(part) = self.records.next().await else {
                break;
            };
            let part = part.map_err(call("FetchRecords"))?.part;
            let Some(api::fetch_records_response::Part::Record(given)) = part else {
                return Err(ClientError::Answer("no record"));
            };
            match self.fetched(&state, given) {
                Ok(one) => match self.prove_batch(&one.record.receipt_proof).await {
                    Ok(()) => fetched.push(one),
                    Err(error) => failed.push(NotOpened::new(one.digest, error)),
                },
                Err(not_opened) => failed.push(not_opened),
            }
        }
        if fetched.is_empty() {
            return Ok(failed.into_iter().map(Err).collect());
        }
        self.renew_checkpoint(&state).await?;
        let answers = self.ask_nodes(&state, &fetched).await?;
        let mut results: Vec<Result<OpenedRecord, NotOpened>> =
            failed.into_iter().map(Err).collect();
        let mut jobs = Vec::new();
        for one in fetched {
            let key_id = Digest::try_from(one.wrap.key_id.as_slice()).unwrap_or_default();
            let given = answers.get(&one.digest).cloned().unwrap_or_default();
            match self.holders(&state, &key_id) {
                Ok(holders) => jobs.push((one, holders, given)),
                Err(error) => results.push(Err(NotOpened::new(one.digest, error))),
            }
        }
        let person = self.people.person.clone();
        let order = self.info.order.digest();
        let opened = self
            .people
            .client
            .compute_all(jobs, move |(one, holders, given)| {
                combine(&state, &person, order, one, &holders, given)
            });
        results.extend(opened.await?);
        Ok(results)
    }

    /// All of them, for orders that fit in memory.
    ///
    /// # Errors
    /// As [`Opening::next_chunk`].
    pub async fn all(&mut self) -> Result<Vec<Result<OpenedRecord, NotOpened>>> {
        let mut all = Vec::new();
        loop {
            let chunk = self.next_chunk().await?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend(chunk);
        }
    }

    /// Fetches an attachment of an opened record and writes its data; as [`crate::Device::attachment`], only the end says
    /// that it was whole.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attachment(
        &self,
        opened: &OpenedRecord,
        index: u32,
        out: &mut (impl Write + Send),
    ) -> Result<u64> {
        let absent =
            || ClientError::refused("ATTACHMENT_UNKNOWN", "the record has no such attachment");
        let place = index as usize;
        let inside = opened.content.attachments.get(place).ok_or_else(absent)?;
        let header = opened.record.envelope.header().message();
        let outside = header.attachments.get(place).ok_or_else(absent)?;
        let opener = AttachmentOpener::new(&opened.cek, &opened.core, index, inside, outside)
            .map_err(refused(&inside.name))?;
        let request = api::FetchAttachmentRequest {
            order: self.info.id.to_vec(),
            record: opened.digest.to_vec(),
            digest: outside.digest.clone(),
        };
        let orders = self.people.orders_api()?;
        let stream = self.people.unary("FetchAttachment", request, |request| {
            let mut orders = orders.clone();
            async move { orders.fetch_attachment(request).await }
        });
        let stream = stream.await?;
        let pieces = stream.map(|piece| Ok(piece.map_err(call("FetchAttachment"))?.chunk));
        open_stream(opener, &inside.name, pieces, out).await
    }

    fn fetched(&self, state: &TrustState, given: api::FetchedRecord) -> Result<Fetched, NotOpened> {
        let record = given.record.unwrap_or_default();
        let summary = record.summary.clone().unwrap_or_default();
        let digest = Digest::try_from(summary.digest.as_slice()).unwrap_or_default();
        let fail = |error| NotOpened::new(digest, error);
        let (index, path) = self
            .list
            .path(&digest)
            .ok_or_else(|| fail(ClientError::Answer("a record outside the order")))?;
        if summary.disposed {
            return Err(fail(ClientError::refused(
                "RECORD_DISPOSED",
                "the record was disposed of: its key is destroyed",
            )));
        }
        let record = verify_record(state, &digest, record).map_err(&fail)?;
        let tenant = state.root().tenant().as_str();
        let wrap = given
            .wraps
            .iter()
            .find(|wrap| wrap.tenant == tenant)
            .cloned()
            .ok_or_else(|| {
                fail(ClientError::Answer(
                    "a record without a wrap for this tenant",
                ))
            })?;
        let key_id = Digest::try_from(wrap.key_id.as_slice());
        if key_id.is_ok_and(|key_id| state.retirement(&key_id).is_some()) {
            return Err(fail(ClientError::refused(
                "KEY_RETIRED",
                "the journaling key that it is sealed to is retired, and every share of it destroyed: nothing opens it",
            )));
        }
        let same = given.wraps.len() == record.envelope.body().wraps.len()
            && given
                .wraps
                .iter()
                .zip(&record.envelope.body().wraps)
                .all(|(wrap, named)| {
                    greffe_envelope::message::wrap_ref(wrap).is_ok_and(|found| found == *named)
                });
        if !same {
            return Err(fail(ClientError::Answer("wraps that are not those signed")));
        }
        let request = pb::OpeningRecord {
            envelope: Some(record.envelope.raw().clone()),
            wrap: Some(wrap.clone()),
            device_cert: Some(record.cert.raw().clone()),
            receipt: Some(record.receipt.raw().clone()),
            index,
            path: path.iter().map(Digest::to_vec).collect(),
            receipt_proof: Some(record.receipt_proof.clone()),
        };
        Ok(Fetched {
            digest,
            record,
            wrap,
            wraps: given.wraps,
            ciphertext: given.ciphertext,
            request,
        })
    }

    /// The batch's entry stands in the log where the archive says; each entry is asked for once.
    async fn prove_batch(&mut self, proof: &pb::ReceiptProof) -> Result<()> {
        let wrong = || ClientError::Log {
            what: "receipt",
            source: LogError::Leaf,
        };
        if let Some(known) = self.batches.get(&proof.log_index) {
            return if known.leaf == proof.log_entry {
                Ok(())
            } else {
                Err(wrong())
            };
        }
        let client = &self.people.client;
        if proof.log_index >= self.checkpoint.head.size {
            let bundle = client.trust()?.bundle().clone();
            let needed = proof.log_index.saturating_add(1);
            self.checkpoint = client.log().checkpoint(&bundle, needed).await?;
        }
        let log = client.log();
        let included = log
            .included("receipt", &self.checkpoint, proof.log_index)
            .await?;
        if included.leaf != proof.log_entry {
            return Err(wrong());
        }
        self.batches.insert(proof.log_index, included);
        Ok(())
    }

    /// Nodes want a checkpoint under five minutes old; a long opening outlives one.
    async fn renew_checkpoint(&mut self, state: &TrustState) -> Result<()> {
        let client = &self.people.client;
        let limit = crate::log::MAX_AGE / 2;
        if self.leaf.checkpoint.as_of.plus(limit) < client.now() {
            let needed = self.info.log_index.saturating_add(1);
            let log = client.log();
            self.checkpoint = log.checkpoint(state.bundle(), needed).await?;
            let index = self.info.log_index;
            self.leaf = log.included("order", &self.checkpoint, index).await?;
            check_order_leaf(&self.leaf.entry, &self.released)?;
        }
        Ok(())
    }

    /// Asks every node at once; gives each record's answers by node. One that takes the call and never answers costs its
    /// time once: the others are a quorum without it.
    async fn ask_nodes(
        &mut self,
        state: &TrustState,
        fetched: &[Fetched],
    ) -> Result<HashMap<Digest, Vec<(String, Answer)>>> {
        let order = escrow_api::OpenOrder {
            released: Some(self.released.clone()),
            log_index: self.info.log_index,
            leaf: self.leaf.leaf.clone(),
            path: self.leaf.path.iter().map(Digest::to_vec).collect(),
            checkpoint: self.leaf.checkpoint.bytes.clone(),
        };
        let nodes = &state.bundle().message().nodes;
        let needed = fetched.iter().filter_map(|one| {
            let key_id = Digest::try_from(one.wrap.key_id.as_slice()).ok()?;
            Some(state.share_epoch(&key_id)?.threshold())
        });
        let needed = needed.max().unwrap_or(nodes.len());
        let silent = nodes.iter().filter(|node| self.silent.contains(&node.name));
        if nodes.len() - silent.count() < needed {
            self.silent.clear();
        }
        let limit = self.people.client.connection().patience() * NODE_PATIENCE;
        let (this, silent) = (&*self, &self.silent);
        let asked = nodes.iter().map(|node| {
            let order = order.clone();
            async move {
                let answers = if silent.contains(&node.name) {
                    let status = Status::deadline_exceeded("it let its time pass before");
                    Err(call("Open")(status))
                } else {
                    within(
                        limit,
                        "Open",
                        this.ask_with_patience(&node.name, &order, fetched),
                    )
                    .await
                };
                (node.name.clone(), answers)
            }
        });
        let mut all: HashMap<Digest, Vec<(String, Answer)>> = HashMap::new();
        let answered = futures::future::join_all(asked).await;
        for (node, answers) in answered {
            if let Err(ClientError::Call { source, .. }) = &answers
                && source.code == Code::DeadlineExceeded
            {
                self.silent.insert(node.clone());
            }
            match answers {
                Ok(mut answers) => {
                    for one in fetched {
                        let silent = || Err("NO_ANSWER".to_owned());
                        let answer = answers.remove(&one.digest).unwrap_or_else(silent);
                        all.entry(one.digest)
                            .or_default()
                            .push((node.clone(), answer));
                    }
                }
                // The others may still make a quorum; each record says that this one did not answer.
                Err(error) => {
                    tracing::warn!(node, reason = error.reason(), %error, "a node did not answer");
                    for one in fetched {
                        let reason = Err(error.reason().to_owned());
                        all.entry(one.digest)
                            .or_default()
                            .push((node.clone(), reason));
                    }
                }
            }
        }
        Ok(all)
    }

    /// A node that has too much to do at the moment says when to come back. One that is not there is not waited for: the
    /// others may be a quorum.
    async fn ask_with_patience(
        &self,
        node: &str,
        order: &escrow_api::OpenOrder,
        fetched: &[Fetched],
    ) -> Result<HashMap<Digest, Answer>> {
        let mut pause = self.people.client.pause();
        loop {
            match self.ask_node(node, order.clone(), fetched).await {
                Err(error) if is_busy(&error) => pause.after(error).await?,
                answered => return answered,
            }
        }
    }

    async fn ask_node(
        &self,
        node: &str,
        order: escrow_api::OpenOrder,
        fetched: &[Fetched],
    ) -> Result<HashMap<Digest, Answer>> {
        use escrow_api::open_request::Part;
        let mut escrow = self.people.client.connection().escrow(node)?;
        let (sender, outgoing) = body(fetched.len() + 1);
        let records = fetched.iter().map(|one| Part::Record(one.request.clone()));
        for part in core::iter::once(Part::Order(order)).chain(records) {
            // There is room for all of them.
            let _ = sender
                .send(escrow_api::OpenRequest { part: Some(part) })
                .await;
        }
        drop(sender);
        // The order's signatures are what counts there, and the answer is sealed to the reader's key.
        let answer = escrow.open(outgoing).await.map_err(call("Open"))?;
        let mut stream = answer.into_inner();
        let mut answers = HashMap::new();
        while let Some(response) = stream.next().await {
            let response = response.map_err(call("Open"))?;
            let Ok(digest) = Digest::try_from(response.envelope.as_slice()) else {
                return Err(ClientError::Answer("an answer for no record"));
            };
            let answer = if response.reason.is_empty() {
                Ok(response.answer)
            } else {
                Err(response.reason)
            };
            answers.insert(digest, answer);
        }
        Ok(answers)
    }

    fn holders(&mut self, state: &TrustState, key_id: &Digest) -> Result<Arc<ShareHolders>> {
        if let Some(known) = self.holders.get(key_id) {
            return Ok(known.clone());
        }
        let unknown = || {
            ClientError::refused(
                "KEY_UNKNOWN",
                format!("the journaling key {key_id} is not in force for this client"),
            )
        };
        // Both were verified when they were taken in.
        let record = state.key_record(key_id).ok_or_else(unknown)?;
        let epoch = state.share_epoch_statement(key_id).ok_or_else(unknown)?;
        let holders = ShareHolders::check(epoch, record.message())
            .map_err(|_| ClientError::Answer("a share epoch"))?;
        let holders = Arc::new(holders);
        self.holders.insert(*key_id, holders.clone());
        Ok(holders)
    }
}

/// Whether a service is there, and has said when to come back.
fn is_busy(error: &ClientError) -> bool {
    matches!(error, ClientError::Call { source, .. }
        if source.code == Code::ResourceExhausted && source.retry_after.is_some())
}

/// The leaf is this order's: in words, or as a commitment when it is sealed.
pub(super) fn check_order_leaf(entry: &pb::LogEntry, released: &pb::ReleasedOrder) -> Result<()> {
    if entry.event == Some(order_event(released)) {
        Ok(())
    } else {
        Err(ClientError::Log {
            what: "order",
            source: LogError::Leaf,
        })
    }
}

fn missing(info: &OrderInfo) -> &str {
    if info.missing.is_empty() {
        "its time has run out"
    } else {
        &info.missing
    }
}
