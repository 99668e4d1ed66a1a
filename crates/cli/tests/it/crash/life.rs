//! A life that touches what every service writes, small enough to be lived once for each point: a device, a conversation, messages,
//! an attachment, a hold, an order and its opening. Whatever is refused on the way is asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffe_api::archive::RecordQuery;
use greffe_client::people::OrderState;
use greffe_client::{
    ClientError, Device, Event, OrderRequest, Outgoing, OutgoingAttachment, People, Source,
};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest, MatterId, OrderId, UserId};
use tokio::time::{sleep, timeout};

use super::course::Course;
use crate::load::receipts;
use crate::support::App;

/// How long anything may take to be done, a service's death included.
const PATIENCE: Duration = Duration::from_secs(45);

/// Longer than one read, so that it is more than one write.
const ATTACHED: usize = 20_000;

/// Nobody has refused it: it is still on its way.
const NOT_YET: &str = "NOT_YET";

/// Asks again until it is done.
async fn again<T>(
    course: &mut Course<'_>,
    what: &str,
    mut step: impl AsyncFnMut(u32) -> Result<T, ClientError>,
) -> T {
    let end = Instant::now() + PATIENCE;
    for attempt in 0.. {
        let held = course.is_held();
        let answer = timeout(PATIENCE, step(attempt)).await;
        match answer.unwrap_or_else(|_| panic!("{what}: no answer within {PATIENCE:?}")) {
            Ok(done) => {
                if held {
                    course.done_after_fault();
                }
                return done;
            }
            Err(error) => {
                let reason = error.reason();
                assert_ne!(
                    reason, "CALL_FAILED",
                    "{what}: no reason is given: {error:?}"
                );
                if reason != NOT_YET {
                    course.refused(reason);
                }
                assert!(Instant::now() < end, "{what} is still refused: {error:?}");
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    unreachable!("somebody has more patience than numbers")
}

/// What a person has been shown, by text.
#[derive(Default)]
struct Shown {
    messages: Vec<(String, Digest)>,
    unexpected: Vec<String>,
}

struct Someone {
    device: Device,
    shown: Shown,
    acked: BTreeMap<String, Digest>,
}

impl Someone {
    /// Takes in what has come.
    async fn receive(&mut self) -> Result<(), ClientError> {
        for event in self.device.catch_up().await? {
            match event {
                Event::Message(message) => {
                    let text = String::from_utf8(message.content.text).unwrap();
                    self.shown.messages.push((text, message.envelope));
                }
                // A message that was refused is asked for again here; creations and commits likewise.
                Event::Invited { .. }
                | Event::Own { .. }
                | Event::CaughtUp
                | Event::Changed { .. }
                | Event::NotSent { .. } => {}
                other => self.shown.unexpected.push(format!("{other:?}")),
            }
        }
        Ok(())
    }

    async fn say(
        &mut self,
        course: &mut Course<'_>,
        id: ConversationId,
        text: &str,
        file: Option<&[u8]>,
    ) -> (Digest, u64) {
        let device = self.device.clone();
        let (text, sent) = again(course, "a message", async |attempt| {
            // One that was refused may still go out: each try says something else.
            let text = format!("{text}, try {attempt}");
            let mut outgoing = Outgoing::text(id, text.clone());
            if let Some(bytes) = file {
                outgoing.attachments = vec![OutgoingAttachment {
                    name: "limits.csv".to_owned(),
                    media_type: "text/csv".to_owned(),
                    source: Source::Bytes(Arc::from(bytes)),
                }];
            }
            Ok((text, device.send(outgoing).await?))
        })
        .await;
        self.acked.insert(text, sent.envelope);
        (sent.envelope, sent.sequence)
    }
}

/// Two people who write, and those who look after what they wrote.
pub(super) struct Lives {
    app: App,
    _other: App,
    alice: Someone,
    bob: Someone,
    lived: u32,
}

impl Lives {
    pub(super) async fn begin(data: &Path) -> Self {
        let (app, other) = (App::open(data).await, App::open(data).await);
        let someone = async |app: &App, name: &str| Someone {
            device: app.device(name).await,
            shown: Shown::default(),
            acked: BTreeMap::new(),
        };
        Self {
            alice: someone(&app, "alice").await,
            bob: someone(&other, "bob").await,
            app,
            _other: other,
            lived: 0,
        }
    }

    /// Lives once.
    pub(super) async fn live(&mut self, course: &mut Course<'_>) {
        self.lived += 1;
        let (id, guest) = self.meet(course).await;
        let records = self.talk(course, id).await;
        self.part(course, id, &guest).await;
        self.examine(course, id, records).await;
    }

    /// Looks what has come, which is little.
    pub(super) async fn look(&mut self, course: &mut Course<'_>) {
        again(course, "what has come", async |_| {
            self.alice.receive().await
        })
        .await;
    }

    async fn meet(&mut self, course: &mut Course<'_>) -> (ConversationId, String) {
        let (app, lived) = (&self.app, self.lived);
        let guest = again(course, "a device", async |attempt| {
            let guest = format!("guest-{lived}-{attempt}");
            app.try_device(&guest).await.map(|_| guest)
        })
        .await;
        let bob = &mut self.bob;
        again(course, "key packages", async |_| {
            bob.device.publish_key_packages(2).await
        })
        .await;
        let alice = &mut self.alice;
        let id = again(course, "a conversation", async |_| {
            alice.device.create(pb::Mode::Journaled).await
        })
        .await;
        again(course, "alice's acknowledgement", async |_| {
            alice.receive().await?;
            alice.device.acknowledge(&id, "en").await
        })
        .await;
        let invited = [UserId::new("bob").unwrap(), UserId::new(&guest).unwrap()];
        again(course, "an invitation", async |_| {
            alice.receive().await?;
            if is_member(&alice.device, &id, "bob").await? {
                return Ok(());
            }
            alice.device.invite(&id, &invited).await.map(drop)
        })
        .await;
        again(course, "bob's acknowledgement", async |_| {
            bob.receive().await?;
            bob.device.acknowledge(&id, "en").await
        })
        .await;
        (id, guest)
    }

    /// Messages go to and fro; gives what was archived.
    async fn talk(&mut self, course: &mut Course<'_>, id: ConversationId) -> Vec<Digest> {
        let bytes = vec![b'x'; ATTACHED];
        let lived = self.lived;
        let (plain, _) = self
            .alice
            .say(course, id, &format!("alice {lived}"), None)
            .await;
        let text = format!("alice {lived} with a file");
        let (attached, sequence) = self.alice.say(course, id, &text, Some(&bytes)).await;
        let (answer, _) = self
            .bob
            .say(course, id, &format!("bob {lived}"), None)
            .await;
        let said = [self.alice.acked.clone(), self.bob.acked.clone()];
        for (to, from) in [&mut self.bob, &mut self.alice].into_iter().zip(said) {
            again(course, "what the other wrote", async |_| {
                to.receive().await?;
                let shown: BTreeSet<&String> =
                    to.shown.messages.iter().map(|(text, _)| text).collect();
                match from.keys().find(|text| !shown.contains(text)) {
                    None => Ok(()),
                    Some(text) => Err(not_yet(format!("{text} has not come"))),
                }
            })
            .await;
        }
        let bob = &self.bob.device;
        let fetched = again(course, "the attachment", async |_| {
            let mut fetched = Vec::new();
            bob.attachment(&id, sequence, 0, &mut fetched).await?;
            Ok(fetched)
        })
        .await;
        assert_eq!(fetched, bytes);
        vec![plain, attached, answer]
    }

    async fn part(&mut self, course: &mut Course<'_>, id: ConversationId, guest: &str) {
        let alice = &mut self.alice;
        let left = [UserId::new(guest).unwrap()];
        again(course, "a removal", async |_| {
            alice.receive().await?;
            if !is_member(&alice.device, &id, guest).await? {
                return Ok(());
            }
            alice.device.remove(&id, &left).await.map(drop)
        })
        .await;
    }

    /// A matter, a hold on the conversation, an order over what was said, and what its reader gets to see.
    async fn examine(&mut self, course: &mut Course<'_>, id: ConversationId, records: Vec<Digest>) {
        let person = |name: &str| self.app.person(name);
        let (auditor, legal, manager) = (person("auditor"), person("legal"), person("records"));
        let matter = again(course, "a matter", async |_| {
            auditor
                .create_matter(&format!("matter {}", self.lived))
                .await
        })
        .await;
        let query = RecordQuery {
            conversation: id.to_vec(),
            ..RecordQuery::default()
        };
        let hold = again(course, "a hold", async |_| {
            legal.place_hold(&matter, &query, "a subpoena").await
        })
        .await;
        let order = again(course, "an order", async |_| {
            let request = request(&auditor, matter, records.clone());
            Ok(auditor.request_order(request).await?.id)
        })
        .await;
        for name in ["principal", "compliance"] {
            let approver = person(name);
            again(course, "an approval", async |_| {
                approve(&approver, &order).await
            })
            .await;
        }
        let reader = person("reader");
        let opened = again(course, "the opening", async |_| {
            let mut opening = reader.open_order(&order).await?;
            let mut opened = BTreeSet::new();
            for record in opening.all().await? {
                let record = record.map_err(|not| ClientError::Refused {
                    reason: "NOT_OPENED",
                    message: format!("{not:?}"),
                })?;
                opened.insert(String::from_utf8(record.content.text).unwrap());
            }
            Ok(opened)
        })
        .await;
        let said = [&self.alice.acked, &self.bob.acked];
        let said = said.into_iter().flatten();
        let expected = said.filter(|(_, digest)| records.contains(digest));
        let expected: BTreeSet<String> = expected.map(|(text, _)| text.clone()).collect();
        assert_eq!(opened, expected);
        let release = People::hold_release(&hold, &matter, "the case is closed");
        again(course, "the release of a hold", async |_| {
            let acts = vec![
                legal.sign_act("hold.release", &release)?,
                manager.sign_act("hold.release", &release)?,
            ];
            legal.perform(acts).await
        })
        .await;
    }

    /// Everything that was said so far, held against everything that is kept: nothing acknowledged is lost, nothing came twice,
    /// numbers are dense, and the log has what the archive has.
    pub(super) async fn settle(&mut self) {
        let mut ignored = Course::quiet();
        for someone in [&mut self.alice, &mut self.bob] {
            again(&mut ignored, "the rest", async |_| someone.receive().await).await;
            assert_eq!(someone.shown.unexpected, Vec::<String>::new());
            let mut seen = BTreeSet::new();
            for (text, _) in &someone.shown.messages {
                assert!(seen.insert(text), "twice: {text}");
            }
        }
        let auditor = self.app.person("auditor");
        let records = auditor.search_all(&RecordQuery::default()).await.unwrap();
        let digests: BTreeSet<&[u8]> = records.iter().map(|r| r.digest.as_slice()).collect();
        assert_eq!(digests.len(), records.len(), "archived twice");
        dense("records", records.iter().map(|record| record.record));
        let mut conversations: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
        for record in &records {
            let numbers = conversations.entry(&record.conversation).or_default();
            numbers.push(record.sequence);
        }
        for numbers in conversations.into_values() {
            dense("a conversation", numbers);
        }
        for someone in [&self.alice, &self.bob] {
            for (text, digest) in &someone.acked {
                assert!(
                    digests.contains(digest.as_bytes().as_slice()),
                    "acknowledged, not archived: {text}"
                );
            }
            for (text, digest) in &someone.shown.messages {
                assert!(
                    digests.contains(digest.as_bytes().as_slice()),
                    "delivered, not archived: {text}"
                );
            }
        }
        for (from, to) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            let shown: BTreeMap<_, _> = to.shown.messages.iter().cloned().collect();
            for (text, digest) in &from.acked {
                assert_eq!(shown.get(text), Some(digest), "{text}");
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let logged = receipts(&self.app).await;
            if logged == records.len() as u64 {
                return;
            }
            let few = logged < records.len() as u64 && Instant::now() < end;
            assert!(
                few,
                "{logged} receipts in the log, {} records",
                records.len()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn dense(what: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut numbers: Vec<u64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    let expected: Vec<u64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "the numbers of {what}");
}

fn not_yet(message: String) -> ClientError {
    ClientError::Refused {
        reason: NOT_YET,
        message,
    }
}

async fn is_member(device: &Device, id: &ConversationId, user: &str) -> Result<bool, ClientError> {
    let members = device.conversation(id).await?.members;
    Ok(members.iter().any(|member| member.user == user))
}

fn request(auditor: &People, matter: MatterId, records: Vec<Digest>) -> OrderRequest {
    OrderRequest {
        matter,
        purpose: "an examination".to_owned(),
        records,
        reader: "reader".to_owned(),
        not_before: auditor.after(Duration::ZERO).minus(Duration::from_secs(1)),
        expiry: auditor.after(Duration::from_secs(3600)),
        seal_until: None,
    }
}

/// Approves, unless an earlier try of this person was taken though nobody heard of it.
async fn approve(approver: &People, order: &OrderId) -> Result<(), ClientError> {
    let (info, _) = approver.order(order).await?;
    let name = approver.person().name().as_bytes();
    let signed = |approval: &pb::SignedStatement| {
        let mut windows = approval.statement.windows(name.len());
        windows.any(|window| window == name)
    };
    if info.state == OrderState::Released || info.approvals.iter().any(signed) {
        return Ok(());
    }
    approver.approve_order(order).await.map(drop)
}
