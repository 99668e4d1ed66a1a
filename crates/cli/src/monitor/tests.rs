//! A log of its own that the monitor is shown, truthful or not; everything is signed as on a real one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::{HybridSecretKey, opened_event, order_event};
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ROOT, RootKey};
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, SignedCheckpoint, Tree,
    Witness, enrol, prove_consistency,
};
use greffe_types::{Digest, Millis, TenantId};
use prost::Message as _;

use super::alarm;
use super::round::{Monitor, Outcome, Unseen};
use super::source::Source;
use super::state::State;
use super::topic::Topic;
use super::{Alarm, Line};
use crate::fail::{Failure, Result};

mod silence;

const ORIGIN: &str = "acme.example/log";
const T0: u64 = 1_000_000_000;
const MINUTE: u64 = 60_000;
const MAX_AGE: Duration = Duration::from_secs(300);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    key(seed).verifying_key().to_bytes().to_vec()
}

fn root() -> RootKey {
    RootKey::new(TenantId::new("acme").unwrap(), &public(1)).unwrap()
}

/// What the log shows.
#[derive(Clone)]
struct Shown {
    leaves: Vec<Vec<u8>>,
    origin: &'static str,
    log_key: u8,
    /// Keys of the witnesses that cosign count from here.
    witnesses: u8,
    cosigners: u8,
    cosigned_at: u64,
    /// Bytes that an entry is shown with instead of its own.
    replaced: Option<(usize, Vec<u8>)>,
    /// Entries that are handed over.
    handed: usize,
    /// What it answers instead.
    away: Option<tonic::Code>,
    /// Each note is cosigned anew, a second after the last.
    live: bool,
    /// It does not answer at all: when asked for the checkpoint, when asked for entries.
    silent: (bool, bool),
    /// Entries that its checkpoint claims, whoever has signed that.
    claims: Option<u64>,
    /// Entries come one after the other, each so much later.
    slow: u64,
}

#[derive(Clone)]
struct Log(Rc<RefCell<Shown>>, Rc<Cell<u64>>);

impl Log {
    /// With the first bundle, and witnesses 50, 51, 52.
    fn new(now: Rc<Cell<u64>>) -> Self {
        let shown = Shown {
            leaves: Vec::new(),
            origin: ORIGIN,
            log_key: 40,
            witnesses: 50,
            cosigners: 2,
            cosigned_at: T0,
            replaced: None,
            handed: usize::MAX,
            away: None,
            live: false,
            silent: (false, false),
            claims: None,
            slow: 0,
        };
        let log = Self(Rc::new(RefCell::new(shown)), now);
        log.add("relay", Event::Statement(bundle(1, &[0; 32], 40, 50, 1)));
        log
    }

    fn add(&self, by: &str, event: Event) {
        let entry = pb::LogEntry {
            tenant: "acme".into(),
            recorded_by: by.into(),
            at: T0,
            event: Some(event),
        };
        self.change(|shown| shown.leaves.push(entry.encode_to_vec()));
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.0.borrow_mut());
    }
}

impl Shown {
    fn tree(&self) -> (Tree, MemoryHashes) {
        let mut tree = Tree::new();
        let hashes = tree.append_entries(&self.leaves).into_iter().collect();
        (tree, hashes)
    }
}

impl Source for Log {
    async fn checkpoint(&mut self) -> Result<Vec<u8>> {
        self.change(|shown| {
            if shown.live {
                self.1.set(self.1.get() + 1000);
                shown.cosigned_at = self.1.get();
            }
        });
        let shown = self.0.borrow().clone();
        if let Some(code) = shown.away {
            let status = tonic::Status::new(code, "away\nALARM LOG_FORKED: not at all");
            return Err(Failure::status("asking", &status));
        }
        if shown.silent.0 {
            std::future::pending::<()>().await;
        }
        let log = NoteSigner::new(shown.origin, &[shown.log_key; 32]).unwrap();
        let mut head = shown.tree().0.head();
        if let Some(size) = shown.claims {
            head.size = size;
        }
        let mut note =
            Note::new(Checkpoint::new(shown.origin, head, vec![]).unwrap().body()).unwrap();
        note.sign(&log);
        let mut signed = SignedCheckpoint::open(&note.encode(), &log.verifier()).unwrap();
        for n in 0..shown.cosigners {
            let cosigner = Cosigner::new(&format!("w-{n}"), &[shown.witnesses + n; 32]).unwrap();
            let state = enrol(&log.verifier());
            let mut witness = Witness::start(log.verifier(), cosigner, Some(&state)).unwrap();
            let request = AddCheckpoint {
                old_size: 0,
                proof: vec![],
                checkpoint: note.encode(),
            };
            let now = Millis::new(shown.cosigned_at);
            signed.add(witness.add_checkpoint(&request, now).unwrap().stored());
        }
        Ok(signed.encode())
    }

    async fn entries(&mut self, start: u64, count: u32) -> Result<Vec<Vec<u8>>> {
        let shown = self.0.borrow().clone();
        if shown.silent.1 {
            std::future::pending::<()>().await;
        }
        self.1.set(self.1.get() + shown.slow);
        if shown.claims.is_some() {
            return Ok(shown.leaves[1..2].to_vec());
        }
        // Two at a time, so that there are proofs in between.
        let most = if shown.slow > 0 { 1 } else { 2 };
        let count = count.min(most) as usize;
        let leaves = shown.leaves.iter().enumerate().take(shown.handed);
        Ok(leaves
            .skip(start as usize)
            .take(count)
            .map(|(index, leaf)| match &shown.replaced {
                Some((place, bytes)) if *place == index => bytes.clone(),
                _ => leaf.clone(),
            })
            .collect())
    }

    async fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Digest>> {
        Ok(prove_consistency(old, new, &self.0.borrow().tree().1).unwrap())
    }
}

/// A bundle with two witnesses of three, approver and approver, signed by a root of this seed.
fn bundle(version: u64, previous: &[u8], log: u8, witnesses: u8, root: u8) -> pb::SignedStatement {
    let person = |name: &str, role: &str, seed: u8| pb::Person {
        name: name.into(),
        roles: vec![role.into()],
        signing_key: public(seed),
        not_after: u64::MAX >> 1,
        ..pb::Person::default()
    };
    let message = pb::TrustBundle {
        tenant: "acme".into(),
        version,
        previous: previous.to_vec(),
        issued_at: version,
        next_root: vec![9; 32],
        device_issuer: public(2),
        log: Some(pb::LogKey {
            origin: ORIGIN.into(),
            key: public(log),
        }),
        nodes: vec![pb::EscrowNode {
            index: 1,
            name: "escrow-1".into(),
            signing_key: public(10),
            witness_key: public(11),
            channel_key: HybridSecretKey::from_seed(&[12; 32]).public_key(),
            trust_domain: "test".into(),
        }],
        witnesses: (0..3)
            .map(|n| pb::Witness {
                name: format!("w-{n}"),
                key: public(witnesses + n),
            })
            .collect(),
        cosigner_quorum: 2,
        roster: vec![
            person("ann", "auditor", 20),
            person("bob", "approver", 21),
            person("cyd", "approver", 22),
        ],
        approvals: Some(pb::ApprovalRule {
            minimum: 2,
            required_roles: vec!["approver".into()],
            bulk_threshold: 100,
        }),
        ..pb::TrustBundle::default()
    };
    Signed::sign(message, &[(ROOT, &key(root))]).into_raw()
}

/// An order that ann asked for, approved by these people; its digest beside it.
fn order(id: u8, approvers: &[(&str, u8)], salt: &[u8]) -> (pb::ReleasedOrder, Vec<u8>) {
    let order = pb::Order {
        id: vec![id; 16],
        tenant: "acme".into(),
        matter: vec![1; 16],
        purpose: "a test".into(),
        records_root: vec![2; 32],
        records_count: 1,
        reader: "ann".into(),
        not_before: 0,
        expiry: T0 * 2,
        nonce: vec![id; 32],
        requester: "ann".into(),
        ..pb::Order::default()
    };
    let order = Signed::sign(order, &[("ann", &key(20))]);
    let approvals = approvers.iter().map(|(name, seed)| {
        let approval = pb::Approval {
            tenant: "acme".into(),
            order: order.digest().to_vec(),
            records_root: vec![2; 32],
            records_count: 1,
            person: (*name).into(),
            at: T0,
        };
        Signed::sign(approval, &[(name, &key(*seed))]).into_raw()
    });
    let released = pb::ReleasedOrder {
        approvals: approvals.collect(),
        order: Some(order.raw().clone()),
        salt: salt.to_vec(),
    };
    (released, order.digest().to_vec())
}

const BOTH: [(&str, u8); 2] = [("bob", 21), ("cyd", 22)];

fn opened(order: &[u8]) -> Event {
    Event::Opened(pb::Opened {
        order: order.to_vec(),
        envelope: vec![3; 32],
        key_id: vec![4; 32],
        share_epoch: vec![5; 32],
        node: "escrow-1".into(),
    })
}

fn shares(epoch: u64) -> Event {
    let epoch = pb::ShareEpoch {
        tenant: "acme".into(),
        key_id: vec![4; 32],
        epoch,
        previous: vec![0; 32],
        threshold: 1,
        holders: vec![pb::ShareHolder {
            index: 1,
            node: "escrow-1".into(),
            verification_share: vec![2; 33],
        }],
    };
    Event::Statement(Signed::sign(epoch, &[("escrow-1", &key(10))]).into_raw())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

/// A folder that monitors of a log are started over, one after the other.
struct Watched {
    log: Log,
    folder: tempfile::TempDir,
    now: Rc<Cell<u64>>,
}

/// What a monitor showed: topics of entries, alarms.
#[derive(Debug, Default)]
struct Seen {
    topics: Vec<Topic>,
    lines: Vec<String>,
    alarms: Vec<Alarm>,
    failures: Vec<String>,
    outcome: Option<Outcome>,
}

impl Seen {
    fn reasons(&self) -> Vec<&'static str> {
        self.alarms.iter().map(|alarm| alarm.reason).collect()
    }
}

impl Watched {
    fn new() -> Self {
        let now = Rc::new(Cell::new(T0));
        Self {
            log: Log::new(now.clone()),
            folder: tempfile::tempdir().unwrap(),
            now,
        }
    }

    fn evidence(&self) -> usize {
        let folder = self.folder.path().join("state/evidence");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// A fresh monitor looks so many times.
    fn look(&self, times: usize) -> Seen {
        let seen = RefCell::new(Seen::default());
        let state = State::open(&self.folder.path().join("state"), &root()).unwrap();
        let mut monitor = Monitor {
            source: self.log.clone(),
            fresh: state.fresh(Millis::new(self.now.get())).unwrap(),
            state,
            max_age: MAX_AGE,
            patience: Duration::from_millis(50),
            now: || Millis::new(self.now.get()),
            show: |line: Line| {
                let mut seen = seen.borrow_mut();
                seen.lines.push(line.text());
                match line {
                    Line::Entry(entry) => seen.topics.push(entry.topic),
                    Line::Alarm(alarm) => seen.alarms.push(alarm),
                }
                Ok(())
            },
            raised: Vec::new(),
            standing: Vec::new(),
        };
        let runtime = runtime();
        for _ in 0..times {
            let outcome = match runtime.block_on(monitor.round()) {
                Ok(outcome) => Some(outcome),
                Err(Unseen::Here(failure)) => panic!("{failure}"),
                Err(Unseen::Log(failure)) => {
                    self.now.set(self.now.get() + 4 * MINUTE);
                    monitor.unreachable(&failure).unwrap();
                    seen.borrow_mut().failures.push(failure.reason().to_owned());
                    None
                }
            };
            seen.borrow_mut().outcome = outcome;
        }
        drop(monitor);
        seen.into_inner()
    }

    /// One look that alarms once, for this reason, and reads nothing.
    #[track_caller]
    fn alarms(&self, reason: &str, ends: bool) -> Alarm {
        let seen = self.look(1);
        assert_eq!(seen.reasons(), [reason]);
        assert!(seen.topics.is_empty(), "{seen:?}");
        assert_eq!(seen.outcome == Some(Outcome::Ended), ends);
        seen.alarms.into_iter().next().unwrap()
    }
}

#[test]
fn a_truthful_log_is_read_once_and_without_alarm() {
    let watched = Watched::new();
    let (released, digest) = order(1, &BOTH, &[]);
    watched.log.add("archive", order_event(&released));
    watched.log.add("escrow-1", opened(&digest));
    watched.log.add("escrow-1", shares(1));
    watched
        .log
        .add("audit", Event::Refusal(pb::Refusal::default()));
    let seen = watched.look(2);
    assert_eq!(seen.reasons(), [""; 0]);
    assert_eq!(
        seen.topics,
        [
            Topic::Keys,
            Topic::Orders,
            Topic::Openings,
            Topic::Keys,
            Topic::Refusals
        ]
    );
    // Another process goes on from there, and knows the order.
    watched.log.add("escrow-1", opened(&digest));
    let seen = watched.look(1);
    assert_eq!(
        (seen.reasons(), seen.topics),
        (vec![], vec![Topic::Openings])
    );
    assert!(watched.look(1).topics.is_empty());
}

#[test]
fn a_fork_is_alarmed_about_with_both_notes() {
    for more in [0, 1, 5] {
        let watched = Watched::new();
        watched.log.add("escrow-1", shares(1));
        assert_eq!(watched.look(1).reasons(), [""; 0]);
        let shown = watched.log.0.borrow().clone();
        watched
            .log
            .change(|shown| shown.leaves[1] = shown.leaves[0].clone());
        for _ in 0..more {
            watched
                .log
                .add("audit", Event::Refusal(pb::Refusal::default()));
        }
        let alarm = watched.alarms(alarm::FORKED, true);
        assert_eq!(alarm.evidence.len(), 2, "{alarm:?}");
        let verifier = NoteSigner::new(ORIGIN, &[40; 32]).unwrap().verifier();
        let heads: Vec<_> = alarm
            .evidence
            .iter()
            .map(|path| SignedCheckpoint::open(&std::fs::read(path).unwrap(), &verifier).unwrap())
            .map(|signed| signed.head())
            .collect();
        assert_eq!(heads[0].size, 2);
        assert_eq!(heads[1].size, 2 + more);
        assert_ne!(heads[0], heads[1]);
        // The monitor stays with what it saw: it alarms again, and goes on with the log that it knows.
        watched.alarms(alarm::FORKED, true);
        *watched.log.0.borrow_mut() = shown;
        assert_eq!(watched.look(1).outcome, Some(Outcome::UpToDate));
    }
}

#[test]
fn a_fork_that_no_witness_cosigns_is_called_a_fork() {
    let watched = Watched::new();
    watched.log.add("escrow-1", shares(1));
    watched.look(1);
    watched.log.change(|shown| {
        shown.leaves[1] = shown.leaves[0].clone();
        shown.cosigners = 0;
    });
    watched.alarms(alarm::FORKED, true);
}

#[test]
fn a_log_that_steps_back_is_alarmed_about() {
    let watched = Watched::new();
    watched.log.add("escrow-1", shares(1));
    watched.look(1);
    watched.log.change(|shown| shown.leaves.truncate(1));
    let alarm = watched.alarms(alarm::ROLLED_BACK, true);
    assert_eq!(alarm.evidence.len(), 2);
}

#[test]
fn another_key_and_another_origin_are_not_the_log() {
    let watched = Watched::new();
    watched.look(1);
    watched.log.change(|shown| shown.log_key = 41);
    assert_eq!(watched.alarms(alarm::CHECKPOINT, true).evidence.len(), 1);
    watched.log.change(|shown| {
        shown.log_key = 40;
        shown.origin = "other.example/log";
    });
    watched.alarms(alarm::ORIGIN, true);
}

#[test]
fn witnesses_that_are_missing_and_come_back() {
    let watched = Watched::new();
    watched.log.change(|shown| shown.cosigners = 1);
    // Nothing is read before a quorum stands behind it.
    let alarm = watched.alarms(alarm::WITNESSES, false);
    assert_eq!(alarm.evidence.len(), 1);
    // Raised once while it stands, and kept once, however the note changes meanwhile.
    let before = watched.evidence();
    watched.log.change(|shown| shown.live = true);
    assert_eq!(watched.look(3).reasons(), [alarm::WITNESSES]);
    assert_eq!(watched.evidence(), before + 1);
    watched.log.change(|shown| shown.live = false);
    // Keys that are not the bundle's are no witnesses; under their names they are a forgery.
    watched
        .log
        .change(|shown| (shown.cosigners, shown.witnesses) = (2, 60));
    let reason = watched.look(1).reasons();
    assert!(
        reason == [alarm::WITNESSES] || reason == [alarm::COSIGNATURE],
        "{reason:?}"
    );
    watched.log.change(|shown| shown.witnesses = 50);
    assert_eq!(watched.look(1).topics, [Topic::Keys]);
}

#[test]
fn a_checkpoint_whose_entries_are_withheld_is_held_against_the_next() {
    for (less, reason) in [(0, alarm::FORKED), (2, alarm::ROLLED_BACK)] {
        let watched = Watched::new();
        assert_eq!(watched.look(1).reasons(), [""; 0]);
        for _ in 0..4 {
            watched
                .log
                .add("audit", Event::Refusal(pb::Refusal::default()));
        }
        watched.log.change(|shown| shown.handed = 1);
        let alarm = watched.alarms(alarm::WITHHELD, true);
        assert_eq!(alarm.evidence.len(), 1);
        watched.log.change(|shown| {
            shown.handed = usize::MAX;
            shown.leaves[4] = shown.leaves[0].clone();
            shown.leaves.truncate(5 - less);
        });
        assert_eq!(watched.alarms(reason, true).evidence.len(), 2);
    }
}

#[test]
fn names_in_the_log_write_no_lines_of_their_own() {
    let watched = Watched::new();
    let forged = "escrow-1\nALARM LOG_FORKED: not at all\u{1b}[2J\u{9b}2J";
    let Event::Opened(mut under) = opened(&[7; 32]) else {
        unreachable!()
    };
    under.node = forged.into();
    watched.log.add("escrow-1", Event::Opened(under));
    watched.log.add(
        forged,
        Event::SealedOpened(pb::SealedOpened {
            sealed_order: vec![8; 32],
            opened: vec![9; 32],
        }),
    );
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::NO_ORDER; 2]);
    let lines = seen.alarms.iter().map(Alarm::line).chain(seen.lines);
    for line in lines {
        assert_eq!(line.trim_end_matches('\n').lines().count(), 1, "{line:?}");
        let line = line.trim_end_matches('\n');
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn entries_have_to_be_those_of_the_tree() {
    let watched = Watched::new();
    for _ in 0..4 {
        watched
            .log
            .add("audit", Event::Refusal(pb::Refusal::default()));
    }
    watched
        .log
        .change(|shown| shown.replaced = Some((1, shown.leaves[0].clone())));
    watched.alarms(alarm::ENTRIES, true);
    watched
        .log
        .change(|shown| (shown.replaced, shown.handed) = (None, 4));
    let seen = watched.look(1);
    assert_eq!(
        (seen.reasons(), seen.topics.len()),
        (vec![alarm::WITHHELD], 4)
    );
    watched.log.change(|shown| shown.handed = usize::MAX);
    assert_eq!(watched.look(1).topics.len(), 1);
}

#[test]
fn an_opening_needs_an_approved_order_before_it() {
    let watched = Watched::new();
    let (released, digest) = order(1, &BOTH, &[]);
    watched.log.add("escrow-1", opened(&digest));
    watched.log.add("archive", order_event(&released));
    watched.log.add("escrow-1", opened(&digest));
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::NO_ORDER]);
    assert_eq!((seen.alarms[0].index, seen.topics.len()), (Some(1), 4));
    // An alarm about an entry is raised once: the next run goes on after it.
    assert_eq!(watched.look(1).reasons(), [""; 0]);
}

#[test]
fn an_order_needs_the_approvals_that_the_rule_asks_for() {
    let wrong = [
        order(1, &BOTH[..1], &[]),
        order(2, &[("bob", 21), ("cyd", 21)], &[]),
        order(3, &[("ann", 20), ("bob", 21)], &[]),
        order(4, &[("bob", 21), ("bob", 21)], &[]),
    ];
    for (released, digest) in wrong {
        let watched = Watched::new();
        watched.log.add("archive", order_event(&released));
        watched.log.add("escrow-1", opened(&digest));
        let seen = watched.look(1);
        assert_eq!(seen.reasons(), [alarm::UNAPPROVED, alarm::NO_ORDER]);
    }
    let watched = Watched::new();
    watched
        .log
        .add("relay", order_event(&order(1, &BOTH, &[]).0));
    assert_eq!(watched.look(1).reasons(), [alarm::UNAPPROVED]);
}

#[test]
fn a_sealed_opening_names_the_leaf_of_its_order() {
    let watched = Watched::new();
    let under = |released: &pb::ReleasedOrder, order: &[u8]| {
        let Event::Opened(opened) = opened(order) else {
            unreachable!()
        };
        // The nonce is that of `order`; nobody looks into the commitment here.
        let order = pb::Order {
            nonce: vec![1; 32],
            ..pb::Order::default()
        };
        opened_event(released, &order, opened)
    };
    let (sealed, digest) = order(1, &BOTH, &[8; 32]);
    let (other, other_digest) = order(2, &BOTH, &[9; 32]);
    watched.log.add("archive", order_event(&sealed));
    watched.log.add("escrow-1", under(&sealed, &digest));
    watched.log.add("escrow-2", under(&sealed, &digest));
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    // In clear, a sealed order covers nothing; and one that is not there covers nothing at all.
    watched.log.add("escrow-1", opened(&digest));
    watched.log.add("escrow-1", under(&other, &other_digest));
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::NO_ORDER, alarm::NO_ORDER]);
    assert!(seen.alarms[1].line().contains("escrow-1"));
    // Nor does what another than the archive had logged.
    watched.log.add("relay", order_event(&other));
    watched.log.add("escrow-1", under(&other, &other_digest));
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::UNAPPROVED, alarm::NO_ORDER]);
    // Once it is shown, a late answer under it is still the same commitment.
    watched
        .log
        .add("archive", Event::ReleasedOrder(sealed.clone()));
    watched.log.add("escrow-3", under(&sealed, &digest));
    assert_eq!(watched.look(1).reasons(), [""; 0]);
}

#[test]
fn shares_that_change_are_alarmed_about() {
    let watched = Watched::new();
    watched.log.add("relay", shares(1));
    watched.log.add("relay", shares(1));
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    watched.log.add("relay", shares(2));
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::SHARES]);
    assert_eq!(
        seen.alarms[0].failure().exit(),
        std::process::ExitCode::from(6)
    );
}

#[test]
fn a_bundle_changes_the_keys_only_if_the_root_has_signed_it_and_the_nodes_agree() {
    let watched = Watched::new();
    watched.look(1);
    let first = bundle(1, &[0; 32], 40, 50, 1);
    let digest = greffe_envelope::label::sha256(&first.statement);
    let next = |root| Event::Statement(bundle(2, digest.as_bytes(), 40, 60, root));
    // Somebody else's bundle names other witnesses, and these cosign: they are none.
    watched.log.add("relay", next(99));
    watched.log.change(|shown| shown.witnesses = 60);
    let reasons = watched.look(1).reasons();
    assert!(
        reasons == [alarm::COSIGNATURE] || reasons == [alarm::WITNESSES],
        "{reasons:?}"
    );
    watched.log.change(|shown| shown.witnesses = 50);
    assert_eq!(watched.look(1).reasons(), [alarm::BUNDLE]);
    // Nor does the root alone bring in others, before there is any key.
    watched.log.add("relay", next(1));
    assert_eq!(watched.look(1).reasons(), [alarm::BUNDLE]);
    let alone = bundle(2, digest.as_bytes(), 40, 60, 1);
    let mut agreed = Signed::<pb::TrustBundle>::decode(alone).unwrap();
    agreed.add_signature("escrow-1", &key(10));
    let agreed = Event::Statement(agreed.into_raw());
    watched.log.add("relay", agreed);
    watched.log.change(|shown| shown.witnesses = 60);
    let seen = watched.look(1);
    assert_eq!((seen.reasons(), seen.topics), (vec![], vec![Topic::Keys]));
    // From here on the old witnesses are none, also after a restart.
    watched.log.change(|shown| shown.witnesses = 50);
    assert_eq!(watched.look(1).outcome, Some(Outcome::UpToDate));
    assert!(!watched.look(1).reasons().is_empty());
}

#[test]
fn what_is_no_entry_is_alarmed_about_and_passed_over() {
    let watched = Watched::new();
    // Field 99 is none of an entry's.
    let mut odd = watched.log.0.borrow().leaves[0].clone();
    odd.extend([0x98, 0x06, 0x01]);
    assert!(pb::LogEntry::decode(&*odd).is_ok());
    watched.log.change(|shown| shown.leaves.push(odd));
    watched.log.add("escrow-1", shares(1));
    let seen = watched.look(1);
    assert_eq!(seen.reasons(), [alarm::MALFORMED]);
    assert_eq!((seen.alarms[0].index, seen.topics.len()), (Some(1), 2));
}

#[test]
fn a_log_without_a_bundle_of_the_root_is_not_judged() {
    let watched = Watched::new();
    watched.log.change(|shown| shown.leaves.clear());
    watched
        .log
        .add("relay", Event::Statement(bundle(1, &[0; 32], 40, 50, 99)));
    let state = State::open(&watched.folder.path().join("state"), &root()).unwrap();
    let mut monitor = Monitor {
        source: watched.log,
        state,
        max_age: Duration::from_secs(300),
        patience: Duration::from_secs(30),
        now: || Millis::new(T0),
        show: |_: Line| panic!("nothing is to be shown"),
        raised: Vec::new(),
        standing: Vec::new(),
        fresh: Millis::new(T0),
    };
    let unseen = runtime().block_on(monitor.round()).unwrap_err();
    let Unseen::Here(failure) = unseen else {
        panic!("{unseen:?}");
    };
    assert_eq!(failure.reason(), "TRUST_UNKNOWN");
}

#[test]
fn a_state_that_cannot_be_gone_on_from_is_refused() {
    let watched = Watched::new();
    watched.look(1);
    let folder = watched.folder.path().join("state");
    let held = State::open(&folder, &root()).unwrap();
    assert_eq!(
        State::open(&folder, &root()).unwrap_err().reason(),
        "WATCH_RUNNING"
    );
    drop(held);
    let other = RootKey::new(TenantId::new("acme").unwrap(), &public(3)).unwrap();
    assert_eq!(
        State::open(&folder, &other).unwrap_err().reason(),
        "WATCH_STATE"
    );
    let path = folder.join("watch.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"size\":1", "\"size\":3"),
        ("\"size\":1", "\"size\":2"),
        ("{", "["),
    ] {
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let refused = State::open(&folder, &root()).unwrap_err();
        assert_eq!(refused.reason(), "WATCH_STATE", "{to}");
    }
}
