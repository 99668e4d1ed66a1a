//! The witness's rules: one history, never a step back, never a start from nothing.

use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MAX_CONSISTENCY_PROOF, MAX_NOTE, MemoryHashes, Note,
    NoteSigner, RequestError, SignedCheckpoint, StartError, Tree, TreeHead, Witness,
    WitnessRefusal, enrol, prove_consistency,
};
use greffe_types::{Digest, Millis};
use proptest::prelude::*;

const ORIGIN: &str = "greffe.example/log";
const NOW: Millis = Millis::new(1_000_000);

fn log() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[1; 32]).unwrap()
}

fn cosigner() -> Cosigner {
    Cosigner::new("escrow-1", &[2; 32]).unwrap()
}

fn fresh() -> Witness {
    let state = enrol(&log().verifier());
    Witness::start(log().verifier(), cosigner(), Some(&state)).unwrap()
}

/// A history: entries that can be told from another history's.
struct History {
    hashes: MemoryHashes,
    heads: Vec<TreeHead>,
}

impl History {
    /// Like every other up to `common` entries, then its own.
    fn new(seed: u8, common: u64, size: u64) -> Self {
        let mut tree = Tree::new();
        let mut hashes = MemoryHashes::default();
        let mut heads = vec![tree.head()];
        for index in 0..size {
            let mark = if index < common { 0 } else { seed };
            hashes.extend(tree.append_entries(&[[mark, index as u8]]));
            heads.push(tree.head());
        }
        Self { hashes, heads }
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        AddCheckpoint {
            old_size: old,
            proof: prove_consistency(old, new, &self.hashes).unwrap_or_default(),
            checkpoint: signed(&log(), self.heads[new as usize]),
        }
    }
}

fn signed(signer: &NoteSigner, head: TreeHead) -> Vec<u8> {
    let body = Checkpoint::new(ORIGIN, head, vec![]).unwrap().body();
    let mut note = Note::new(body).unwrap();
    note.sign(signer);
    note.encode()
}

fn accept(witness: &mut Witness, request: &AddCheckpoint) {
    let line = witness.add_checkpoint(request, NOW).unwrap().stored();
    let mut checkpoint = SignedCheckpoint::open(&request.checkpoint, &log().verifier()).unwrap();
    checkpoint.add(line);
    let time = cosigner().key().newest(&checkpoint).unwrap();
    assert_eq!(time, Some(NOW));
}

fn refuse(witness: &mut Witness, request: &AddCheckpoint) -> WitnessRefusal {
    let before = witness.latest();
    let refusal = witness
        .add_checkpoint(request, NOW)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(witness.latest(), before);
    refusal
}

#[test]
fn follows_one_history() {
    let history = History::new(1, 0, 40);
    let mut witness = fresh();
    accept(&mut witness, &history.request(0, 7));
    accept(&mut witness, &history.request(7, 7));
    accept(&mut witness, &history.request(7, 32));
    accept(&mut witness, &history.request(32, 40));
    assert_eq!(witness.latest(), history.heads[40]);
    assert!(witness.evidence().is_empty());

    let stored = witness.state();
    let resumed = Witness::start(log().verifier(), cosigner(), Some(&stored)).unwrap();
    assert_eq!(resumed.latest(), history.heads[40]);
    assert_eq!(resumed.state(), stored);
}

#[test]
fn refusals_and_their_statuses() {
    let history = History::new(1, 0, 40);
    let mut witness = fresh();
    accept(&mut witness, &history.request(0, 20));

    let rollback = refuse(&mut witness, &history.request(7, 19));
    assert_eq!(
        rollback,
        WitnessRefusal::Rollback {
            latest: 20,
            size: 19
        }
    );
    assert_eq!((rollback.status(), rollback.latest_size()), (409, Some(20)));

    let elsewhere = refuse(&mut witness, &history.request(0, 30));
    assert_eq!(
        elsewhere,
        WitnessRefusal::OldSizeMismatch { latest: 20, old: 0 }
    );
    assert_eq!(
        (elsewhere.status(), elsewhere.latest_size()),
        (409, Some(20))
    );

    let mut reversed = history.request(20, 30);
    reversed.old_size = 31;
    assert_eq!(refuse(&mut witness, &reversed).status(), 400);

    let mut wrong_proof = history.request(20, 30);
    wrong_proof.proof[1] = Digest::ZERO;
    assert_eq!(refuse(&mut witness, &wrong_proof).status(), 422);

    let mut forged = history.request(20, 30);
    forged.checkpoint = signed(
        &NoteSigner::new(ORIGIN, &[9; 32]).unwrap(),
        history.heads[30],
    );
    assert_eq!(refuse(&mut witness, &forged).status(), 403);

    let other_log = NoteSigner::new("other.example/log", &[1; 32]).unwrap();
    let mut foreign = history.request(20, 30);
    let body = Checkpoint::new("other.example/log", history.heads[30], vec![])
        .unwrap()
        .body();
    let mut note = Note::new(body).unwrap();
    note.sign(&other_log);
    foreign.checkpoint = note.encode();
    let unknown = refuse(&mut witness, &foreign);
    assert_eq!(unknown, WitnessRefusal::UnknownLog);
    assert_eq!((unknown.status(), unknown.latest_size()), (404, None));

    let mut garbage = history.request(20, 30);
    garbage.checkpoint.truncate(20);
    assert_eq!(refuse(&mut witness, &garbage).status(), 400);
}

#[test]
fn attack_37_two_roots_for_one_size() {
    let (ours, fork) = (History::new(1, 5, 40), History::new(2, 5, 40));
    let mut witness = fresh();
    accept(&mut witness, &ours.request(0, 20));

    // Whatever old size comes with it, the second root is refused and kept with the log's two signatures.
    for request in [
        fork.request(20, 20),
        fork.request(0, 20),
        fork.request(5, 20),
    ] {
        let refusal = refuse(&mut witness, &request);
        assert_eq!(refusal, WitnessRefusal::Conflict { size: 20 });
        assert_eq!((refusal.status(), refusal.latest_size()), (409, Some(20)));
    }
    let stored = witness.state();
    let witness = Witness::start(log().verifier(), cosigner(), Some(&stored)).unwrap();
    let [conflict] = witness.evidence() else {
        panic!("one conflict is kept once");
    };
    for (checkpoint, head) in [
        (&conflict.cosigned, ours.heads[20]),
        (&conflict.offered, fork.heads[20]),
    ] {
        let convincing = SignedCheckpoint::open(&checkpoint.encode(), &log().verifier()).unwrap();
        assert_eq!(convincing.head(), head);
    }
    assert_eq!(witness.latest(), ours.heads[20]);
}

#[test]
fn attack_37_a_fork_at_a_larger_size_has_no_proof() {
    let (ours, fork) = (History::new(1, 5, 40), History::new(2, 5, 40));
    let mut witness = fresh();
    accept(&mut witness, &ours.request(0, 20));
    for size in 21..=40 {
        assert_eq!(refuse(&mut witness, &fork.request(20, size)).status(), 422);
    }
    // The common beginning proves nothing about what came after.
    let mut from_common = fork.request(5, 30);
    from_common.old_size = 20;
    assert_eq!(refuse(&mut witness, &from_common).status(), 422);
}

#[test]
fn a_decision_that_was_not_stored_never_happened() {
    let history = History::new(1, 0, 40);
    let mut witness = fresh();
    drop(
        witness
            .add_checkpoint(&history.request(0, 20), NOW)
            .unwrap(),
    );
    assert_eq!(witness.latest(), TreeHead::empty());
    let pending = witness
        .add_checkpoint(&history.request(0, 10), NOW)
        .unwrap();
    let stored = pending.state();
    let _ = pending.stored();
    assert_eq!(witness.state(), stored);
}

#[test]
fn evidence_is_bounded() {
    let mut witness = fresh();
    accept(&mut witness, &History::new(0, 0, 3).request(0, 3));
    for seed in 1..40 {
        let refusal = refuse(&mut witness, &History::new(seed, 0, 3).request(3, 3));
        assert_eq!(refusal, WitnessRefusal::Conflict { size: 3 });
    }
    assert_eq!(witness.evidence().len(), greffe_tlog::MAX_EVIDENCE);
    let stored = witness.state();
    assert!(Witness::start(log().verifier(), cosigner(), Some(&stored)).is_ok());
}

#[test]
fn attack_42_witness_state_lost() {
    let start = |stored: Option<&[u8]>| {
        Witness::start(log().verifier(), cosigner(), stored).map(|witness| witness.latest())
    };
    assert_eq!(start(None), Err(StartError::Lost));
    assert_eq!(start(Some(&[])), Err(StartError::Damaged));

    let (ours, fork) = (History::new(1, 0, 9), History::new(2, 0, 9));
    let mut witness = fresh();
    accept(&mut witness, &ours.request(0, 9));
    let _ = refuse(&mut witness, &fork.request(9, 9));
    let stored = witness.state();
    assert_eq!(start(Some(&stored)), Ok(ours.heads[9]));
    for length in 0..stored.len() {
        assert_eq!(start(Some(&stored[..length])), Err(StartError::Damaged));
    }
    for bit in 0..stored.len() * 8 {
        let mut altered = stored.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(start(Some(&altered)), Err(StartError::Damaged), "bit {bit}");
    }

    let other = NoteSigner::new("other.example/log", &[1; 32])
        .unwrap()
        .verifier();
    let foreign = Witness::start(other, cosigner(), Some(&stored)).unwrap_err();
    assert_eq!(foreign, StartError::Foreign);
    let rekeyed = NoteSigner::new(ORIGIN, &[3; 32]).unwrap().verifier();
    let foreign = Witness::start(rekeyed, cosigner(), Some(&stored)).unwrap_err();
    assert_eq!(foreign, StartError::Foreign);
}

/// The request example of C2SP tlog-witness.
#[test]
fn published_request() {
    let body = "old 20852014\n\
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
\n\
example.com/behind-the-sofa\n\
20852163\n\
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
\n\
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    assert_eq!((request.old_size, request.proof.len()), (20_852_014, 4));
    assert!(Note::parse(&request.checkpoint).is_ok());
    assert_eq!(request.encode(), body.as_bytes());

    for bad in [
        body.replace("old 20852014", "old 020852014"),
        body.replace("old 20852014", "old  20852014"),
        body.replace("old 20852014", "new 20852014"),
        body.replace("old 20852014\n", ""),
        body.replace("kaw=", "kax="),
        body.replace("kaw=", "kaw"),
        body.replacen("\n\n", "\n", 2),
        format!(
            "old 5\n{}\nx",
            "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n".repeat(64)
        ),
    ] {
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn requests_are_bounded() {
    let longest = AddCheckpoint {
        old_size: u64::MAX,
        proof: vec![Digest::ZERO; MAX_CONSISTENCY_PROOF],
        checkpoint: vec![b'x'; MAX_NOTE],
    };
    assert_eq!(AddCheckpoint::parse(&longest.encode()), Ok(longest.clone()));
    let mut longer = longest;
    longer.proof.push(Digest::ZERO);
    assert_eq!(AddCheckpoint::parse(&longer.encode()), Err(RequestError));

    // Nothing else bounds what follows the empty line before it is read as a note.
    let limit = MAX_NOTE + 64 * 45;
    for length in limit - 1..=limit + 2 {
        let mut body = b"old 5\n\n".to_vec();
        body.resize(length, b'x');
        assert_eq!(AddCheckpoint::parse(&body).is_ok(), length <= limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever two histories a log shows in whatever order, the witness's cosigned heads lie on one of them.
    #[test]
    fn cosigned_heads_lie_on_one_history(
        common in 0_u64..20,
        asks in proptest::collection::vec((any::<bool>(), 0_u64..30, 0_u64..30, any::<bool>()), 1..40),
    ) {
        let histories = [History::new(1, common, 30), History::new(2, common, 30)];
        let mut witness = fresh();
        let mut cosigned = vec![];
        for (which, old, new, honest_old) in asks {
            let history = &histories[usize::from(which)];
            let old = if honest_old { witness.latest().size } else { old };
            let before = witness.latest();
            if let Ok(pending) = witness.add_checkpoint(&history.request(old, new), NOW) {
                let _ = pending.stored();
                prop_assert!(witness.latest().size >= before.size);
                cosigned.push(witness.latest());
            }
        }
        let on = |history: &History| cosigned.iter().all(|head| history.heads[head.size as usize] == *head);
        prop_assert!(on(&histories[0]) || on(&histories[1]));
    }

    #[test]
    fn requests_round_trip(old in any::<u64>(), proof in proptest::collection::vec(any::<[u8; 32]>(), 0..63), size in 1_u64..99) {
        let head = TreeHead { size, root: Digest::ZERO };
        let request = AddCheckpoint {
            old_size: old,
            proof: proof.into_iter().map(Digest::new).collect(),
            checkpoint: signed(&log(), head),
        };
        prop_assert_eq!(AddCheckpoint::parse(&request.encode()), Ok(request));
    }
}
