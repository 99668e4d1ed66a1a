//! Items in the relay's order: each has to continue the chain; messages give their seeds, commits change who takes part.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use greffe_envelope::chain::ChainError;
use greffe_envelope::derive::Seed;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustState, VerifiedDisclosure};
use greffe_mls::{Committed, Frame, FrameKind, Member, Refusal, StateChange};
use greffe_types::{Digest, Millis};

use super::Taken;
use super::batch::Finished;
use super::event::{Event, reason};
use super::place::{Outcome, Place, withheld};
use super::verify::{Item, Message, Seeded, Verified, check_header};
use crate::conversation::MemberInfo;
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::LiveGuard;
use crate::store::{ConversationState, Op, OutboxKind, OutboxRow};

/// Certificates that one commit may make us fetch one by one.
const FETCHES: usize = 2_000;

/// A conversation with items to apply.
pub(crate) struct Group {
    guard: LiveGuard,
    items: VecDeque<Verified>,
    /// This device's own entries among them, as its outbox has them.
    own: HashMap<Digest, OutboxRow>,
    /// Chain heads that senders name and that are not in memory.
    heads: BTreeMap<u64, Digest>,
    outcomes: Vec<Outcome>,
    /// MLS has taken something in.
    advanced: bool,
    /// This device was removed: what deletes its keys.
    closing: Option<StateChange>,
    state: Arc<TrustState>,
}

/// What was applied; memory is ahead of the database until it is stored.
pub(crate) struct Applied {
    guard: LiveGuard,
    outcomes: Vec<Outcome>,
    change: Option<Op>,
}

impl Applied {
    pub(crate) fn into_parts(self) -> (LiveGuard, Vec<Outcome>, Option<Op>) {
        (self.guard, self.outcomes, self.change)
    }
}

/// Why applying stops before the end.
enum Stop {
    /// A certificate has to be fetched, then the same item is tried again.
    Certificate(Digest),
    /// The disclosure is not known; trust has to be refreshed, then the same item is tried again.
    Trust,
    /// The next number is missing.
    Gap { expected: u64, found: u64 },
    /// The item does not continue the chain.
    Forked(u64),
    /// The notice of the disclosure in force was not acknowledged: nothing more is opened.
    Notice,
    /// The conversation cannot go on.
    Broken,
}

impl Group {
    /// Reads what the database has to say about items before they are applied.
    pub(crate) async fn prepare(
        device: &Device,
        guard: LiveGuard,
        items: Vec<Verified>,
    ) -> Result<Self> {
        let store = &device.client().0.store;
        let mut own = HashMap::new();
        let mut heads = BTreeMap::new();
        for item in &items {
            let mine = match &item.item {
                Item::Message(message) => {
                    let seen = message.envelope.header().message().seen_seq;
                    if seen >= guard.row.joined.max(1)
                        && seen < item.sequence
                        && guard
                            .heads
                            .first_key_value()
                            .is_none_or(|(first, _)| seen < *first)
                    {
                        let id = &guard.row.conversation;
                        heads.extend(store.heads(&device.id(), id, seen, 1).await?);
                    }
                    (message.envelope.header().device() == device.id()).then_some(item.entry)
                }
                // Only some of them are ours; the outbox says which.
                Item::Commit(_) => Some(item.entry),
                Item::Void(void) => Digest::try_from(void.refused_digest.as_slice()).ok(),
                Item::Welcome(_) => None,
            };
            if let Some(digest) = mine
                && let Some(row) = store.outbox_row(&device.id(), &digest).await?
            {
                own.insert(digest, row);
            }
        }
        Ok(Self {
            guard,
            items: items.into(),
            own,
            heads,
            outcomes: Vec::new(),
            advanced: false,
            closing: None,
            state: device.client().trust()?,
        })
    }
}

/// Applies a group, fetching on the way what commits need.
pub(crate) async fn run(device: &Device, mut group: Group, taken: &mut Taken) -> Result<Applied> {
    let id = group.guard.row.conversation;
    let (mut fetches, mut refreshed) = (0, false);
    loop {
        let here = device.clone();
        let work = device.client().compute(move || {
            let stop = group.advance(&here);
            (group, stop)
        });
        let (returned, stop) = work.await?;
        group = returned;
        match stop? {
            None => break,
            Some(Stop::Certificate(digest)) if fetches < FETCHES => {
                fetches += 1;
                let at = group.items.front().map(|item| item.receipt.archived_at);
                let fetched = device
                    .fetch_certificates(&[digest], at.map(Millis::new))
                    .await;
                let missing = || device.client().0.certificates.get(&digest).is_none();
                match fetched {
                    Ok(()) if !missing() => {}
                    Ok(()) | Err(ClientError::Trust { .. }) => {
                        group.break_off("unknown-certificate");
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(Stop::Certificate(_)) => group.break_off("unknown-certificate"),
            Some(Stop::Trust) if !refreshed => {
                refreshed = true;
                device.client().refresh_trust().await?;
                group.state = device.client().trust()?;
            }
            Some(Stop::Trust) => group.break_off("disclosure"),
            Some(Stop::Gap { expected, found }) => {
                taken.gaps.push((id, expected, found));
                break;
            }
            Some(Stop::Forked(sequence)) => {
                taken.stalled.insert(id);
                taken.events.push(Event::Refused {
                    conversation: Some(id),
                    sequence,
                    reason: "CHAIN_FORKED".to_owned(),
                });
                break;
            }
            Some(Stop::Notice | Stop::Broken) => {
                taken.stalled.insert(id);
                break;
            }
        }
    }
    // One write for all of them: its rows are as large as the group.
    let change = match &mut group.guard.mls {
        Some(mls) if group.advanced => Some(device.mls_op(&mls.received()?)?),
        Some(_) => None,
        None => {
            let closing = group.closing.as_ref().map(|change| device.mls_op(change));
            closing.transpose()?
        }
    };
    Ok(Applied {
        change,
        guard: group.guard,
        outcomes: group.outcomes,
    })
}

impl Group {
    /// Applies items until the end or until something is needed from elsewhere.
    fn advance(&mut self, device: &Device) -> Result<Option<Stop>> {
        self.guard.begin();
        while let Some(item) = self.items.front() {
            let chain = match self.guard.chain().accept(&item.receipt) {
                Ok(chain) => chain,
                Err(ChainError::Gap { expected, found }) => {
                    return Ok(Some(Stop::Gap { expected, found }));
                }
                Err(_) => return Ok(Some(Stop::Forked(item.sequence))),
            };
            if let Item::Commit(commit) = &item.item {
                let commit = commit.clone();
                match self.commit(device, &commit)? {
                    Ok(finished) => self.outcomes.push(Outcome::Done(Box::new(finished))),
                    Err(stop) => return Ok(Some(stop)),
                }
                self.items.pop_front();
                self.guard.advance(chain);
                if self.guard.mls.is_none() {
                    return Ok(None);
                }
                if self.guard.row.state == ConversationState::Broken {
                    return Ok(Some(Stop::Broken));
                }
                continue;
            }
            if !self.guard.is_shown() {
                return Ok(Some(Stop::Notice));
            }
            let Some(item) = self.items.pop_front() else {
                break;
            };
            let place = Place::of(&item);
            let outcome = match item.item {
                Item::Message(message) => self.message(device, place, message)?,
                Item::Void(void) => Outcome::Done(Box::new(self.void(device, &place, &void)?)),
                Item::Commit(_) | Item::Welcome(_) => continue,
            };
            self.outcomes.push(outcome);
            self.guard.advance(chain);
        }
        Ok(None)
    }

    fn message(&mut self, device: &Device, place: Place, message: Box<Message>) -> Result<Outcome> {
        let digest = message.envelope.digest();
        if message.envelope.header().device() == device.id() {
            return Ok(Outcome::Done(Box::new(
                self.own_message(device, &place, &message, digest)?,
            )));
        }
        let withheld = |stated| Ok(withheld(device, &place, &message, stated));
        let cert = match &message.sender {
            Ok(cert) => cert.clone(),
            Err(stated) => return withheld(stated),
        };
        let fields = message.envelope.header().message();
        let seen = fields.seen_seq;
        if seen >= place.sequence {
            return withheld(reason::FORKED);
        }
        let ours = self
            .guard
            .heads
            .get(&seen)
            .or_else(|| self.heads.get(&seen));
        // What was before this device joined it cannot judge.
        if seen >= self.guard.row.joined.max(1)
            && ours.is_none_or(|head| head.as_bytes().as_slice() != fields.seen_head)
        {
            return withheld(reason::FORKED);
        }
        let frame = Frame::parse(&message.mls_message);
        if !matches!(frame, Ok(Frame { kind: FrameKind::Application { envelope }, .. }) if envelope == digest)
        {
            return withheld(reason::SPLICED);
        }
        let disclosure = self.guard.disclosure.clone();
        let event = self.guard.member()?.receive_next(&message.mls_message)?;
        self.advanced = true;
        let greffe_mls::Event::Application(application) = event else {
            return withheld(reason::MLS);
        };
        if let Err(stated) = check_header(&message, &application, &disclosure) {
            return withheld(stated);
        }
        let seed = Seed::from_bytes(*application.seed);
        Ok(Outcome::Open(
            place,
            Box::new(Seeded {
                message,
                seed,
                cert,
                disclosure,
            }),
        ))
    }

    /// A message of this device: what it says was stored when it was sealed. Delivered again, it is none of ours any more.
    fn own_message(
        &mut self,
        device: &Device,
        place: &Place,
        message: &Message,
        digest: Digest,
    ) -> Result<Finished> {
        let mut row = place.row(device.id(), pb::EntryKind::Message);
        let fields = message.envelope.header().message();
        row.sender.clone_from(&fields.sender_user);
        row.sent_at = fields.sent_at;
        let Some(sent) = self.own.remove(&digest) else {
            row.reason = reason::NOT_OURS.to_owned();
            return Ok(Finished {
                row: Some(row),
                event: Some(Event::Withheld {
                    conversation: place.conversation,
                    sequence: place.sequence,
                    envelope: digest,
                    sender: fields.sender_user.clone(),
                    reason: reason::NOT_OURS,
                    reported: false,
                }),
                ..Default::default()
            });
        };
        row.content.clone_from(&sent.content);
        let mut ops = vec![Op::OutboxDone {
            device: device.id(),
            digest,
        }];
        let store = &device.client().0.store;
        let stored = store.open_content(&device.id(), &digest, &sent.content)?;
        let content = stored.content.as_ref();
        ops.extend(content.and_then(|content| place.about(device.id(), content)));
        Ok(Finished {
            row: Some(row),
            ops,
            event: Some(Event::Own {
                conversation: place.conversation,
                sequence: place.sequence,
                envelope: digest,
            }),
        })
    }

    fn void(
        &mut self,
        device: &Device,
        place: &Place,
        void: &Signed<pb::Void>,
    ) -> Result<Finished> {
        let refused = Digest::try_from(void.refused_digest.as_slice()).unwrap_or_default();
        let mut ops = Vec::new();
        if let Some(row) = self.own.get(&refused) {
            ops.push(Op::OutboxDone {
                device: device.id(),
                digest: refused,
            });
            if row.kind == OutboxKind::Commit
                && let Some(mls) = &mut self.guard.mls
                && mls.has_pending()
            {
                drop(mls.clear_pending()?);
                self.advanced = true;
            }
        }
        let mut row = place.row(device.id(), pb::EntryKind::Void);
        row.reason.clone_from(&void.reason);
        Ok(Finished {
            row: Some(row),
            ops,
            event: Some(Event::Void {
                conversation: place.conversation,
                sequence: place.sequence,
                refused,
                reason: void.reason.clone(),
            }),
        })
    }

    fn commit(&mut self, device: &Device, commit: &[u8]) -> Result<Result<Finished, Stop>> {
        let Some(place) = self.items.front().map(Place::of) else {
            return Ok(Err(Stop::Broken));
        };
        let event = self.guard.member()?.receive_next(commit)?;
        self.advanced = true;
        match event {
            greffe_mls::Event::Commit(committed) => {
                Ok(Ok(self.committed(device, &place, committed)?))
            }
            greffe_mls::Event::Refused(Refusal::UnknownCertificate(digest)) => {
                Ok(Err(Stop::Certificate(digest)))
            }
            greffe_mls::Event::Refused(Refusal::Disclosure(_)) => Ok(Err(Stop::Trust)),
            greffe_mls::Event::Refused(refusal) => {
                Ok(Ok(self.broken(device, &place, refusal.code())))
            }
            greffe_mls::Event::Application(_) => Ok(Ok(self.broken(device, &place, "unexpected"))),
        }
    }

    fn committed(
        &mut self,
        device: &Device,
        place: &Place,
        committed: Committed,
    ) -> Result<Finished> {
        let named = |member: &Member| MemberInfo {
            user: device
                .client()
                .0
                .certificates
                .get(&member.certificate)
                .map_or_else(String::new, |cert| cert.user.clone()),
            device: member.device,
        };
        let mut row = place.row(device.id(), pb::EntryKind::Handshake);
        row.sender = named(&committed.committer).user;
        let ops = self.own.get(&place.entry).map(|_| Op::OutboxDone {
            device: device.id(),
            digest: place.entry,
        });
        if committed.removed_self {
            self.closing = Some(self.guard.member()?.received()?);
            self.guard.row.state = ConversationState::Removed;
            self.guard.mls = None;
            return Ok(Finished {
                row: Some(row),
                ops: ops.into_iter().collect(),
                event: Some(Event::Removed {
                    conversation: place.conversation,
                    sequence: place.sequence,
                }),
            });
        }
        if let Some(info) = &committed.disclosure {
            let disclosure: Arc<VerifiedDisclosure> = self
                .state
                .disclosure(&info.digest)
                .cloned()
                .ok_or_else(|| ClientError::store("a disclosure that MLS accepted is not known"))?;
            self.guard.redisclose(disclosure);
        }
        Ok(Finished {
            row: Some(row),
            ops: ops.into_iter().collect(),
            event: Some(Event::Changed {
                conversation: place.conversation,
                sequence: place.sequence,
                epoch: committed.epoch,
                by: named(&committed.committer),
                added: committed.added.iter().map(named).collect(),
                removed: committed.removed.iter().map(named).collect(),
                disclosure: committed.disclosure.map(|info| info.digest),
            }),
        })
    }

    /// A commit that the others may have accepted was refused here: this device is out, and says so.
    fn broken(&mut self, device: &Device, place: &Place, stated: &str) -> Finished {
        self.guard.row.state = ConversationState::Broken;
        stated.clone_into(&mut self.guard.row.reason);
        let mut row = place.row(device.id(), pb::EntryKind::Handshake);
        stated.clone_into(&mut row.reason);
        Finished {
            row: Some(row),
            event: Some(Event::Refused {
                conversation: Some(place.conversation),
                sequence: place.sequence,
                reason: stated.to_owned(),
            }),
            ..Default::default()
        }
    }

    /// As [`Group::broken`] for a commit that needs what cannot be had.
    fn break_off(&mut self, stated: &str) {
        let Some(item) = self.items.pop_front() else {
            return;
        };
        self.items.clear();
        let place = Place::of(&item);
        self.guard.row.state = ConversationState::Broken;
        stated.clone_into(&mut self.guard.row.reason);
        let mut row = place.row(self.guard.row.device, pb::EntryKind::Handshake);
        stated.clone_into(&mut row.reason);
        self.outcomes.push(Outcome::Done(Box::new(Finished {
            row: Some(row),
            event: Some(Event::Refused {
                conversation: Some(place.conversation),
                sequence: place.sequence,
                reason: stated.to_owned(),
            }),
            ..Default::default()
        })));
        self.guard.advance(item.chain);
    }
}
