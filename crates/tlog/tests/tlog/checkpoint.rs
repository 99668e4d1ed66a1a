//! Checkpoints and quorums of cosignatures.

use core::time::Duration;

use greffe_tlog::{
    AddCheckpoint, Checkpoint, CheckpointError, Cosigner, CosignerKey, Freshness, Note, NoteError,
    NoteSigner, Quorum, QuorumConfigError, QuorumError, SignedCheckpoint, TreeHead, Witness, enrol,
};
use greffe_types::{Digest, Millis};
use proptest::prelude::*;

const ORIGIN: &str = "greffe.example/log";

/// The example of C2SP tlog-cosignature.
const COSIGNED_EXAMPLE: &str = "example.com/behind-the-sofa\n\
20852163\n\
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
\n\
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

fn log() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[1; 32]).unwrap()
}

fn head(size: u64) -> TreeHead {
    TreeHead {
        size,
        root: Digest::new([9; 32]),
    }
}

fn signed(signer: &NoteSigner, body: &str) -> Vec<u8> {
    let mut note = Note::new(body).unwrap();
    note.sign(signer);
    note.encode()
}

fn checkpoint(size: u64) -> SignedCheckpoint {
    let body = Checkpoint::new(ORIGIN, head(size), vec![]).unwrap().body();
    SignedCheckpoint::open(&signed(&log(), &body), &log().verifier()).unwrap()
}

/// Has a fresh witness of that name cosign at some second.
fn cosign(checkpoint: &mut SignedCheckpoint, number: u8, seconds: u64) {
    let mut other = checkpoint.clone();
    let log = log().verifier();
    let first = enrol(&log);
    let mut witness = Witness::start(log, cosigner(number), Some(&first)).unwrap();
    let request = AddCheckpoint {
        old_size: 0,
        proof: vec![],
        checkpoint: other.encode(),
    };
    let now = Millis::new(seconds * 1000 + 999);
    let line = witness.add_checkpoint(&request, now).unwrap().stored();
    other.add(line);
    *checkpoint = other;
}

fn cosigner(number: u8) -> Cosigner {
    Cosigner::new(&format!("witness-{number}"), &[number; 32]).unwrap()
}

fn quorum(required: usize) -> Quorum {
    Quorum::new((2..5).map(|n| cosigner(n).key()).collect(), required).unwrap()
}

fn at(seconds: u64) -> Freshness {
    Freshness {
        now: Millis::new(seconds * 1000),
        max_age: Duration::from_secs(300),
        max_ahead: Duration::from_secs(10),
    }
}

#[test]
fn published_cosigned_checkpoint() {
    let note = Note::parse(COSIGNED_EXAMPLE.as_bytes()).unwrap();
    let checkpoint = Checkpoint::parse_body(note.text()).unwrap();
    assert_eq!(checkpoint.origin(), "example.com/behind-the-sofa");
    assert_eq!(checkpoint.head().size, 20_852_163);
    assert_eq!(checkpoint.body(), note.text());
    let line = &note.signatures()[1];
    assert_eq!(
        (line.name(), line.id()),
        ("witness.example.com/w1", 0x8d66_cf3f)
    );
    assert_eq!(line.bytes().len(), 8 + 64);
    assert_eq!(line.bytes()[..8], 1_679_315_147_u64.to_be_bytes());
    assert_eq!(note.encode(), COSIGNED_EXAMPLE.as_bytes());
}

/// A witness's key as transparency-dev/formats prints it in its tests.
#[test]
fn published_cosigner_key() {
    let text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    let key: CosignerKey = text.parse().unwrap();
    assert_eq!(
        (key.name(), key.to_string().as_str()),
        ("remora.n621.de", text)
    );
}

/// The signed bytes and the key id, put together here by hand from the specification.
#[test]
fn cosignature_structure() {
    use ed25519_dalek::{Signature, VerifyingKey};
    use sha2::Digest as _;
    let mut checkpoint = checkpoint(7);
    cosign(&mut checkpoint, 2, 1_679_315_147);
    let line = checkpoint.note().signatures().last().unwrap();
    let key = cosigner(2).key();
    let mut id = b"witness-2\n\x04".to_vec();
    id.extend_from_slice(key.key());
    assert_eq!(line.id().to_be_bytes(), sha2::Sha256::digest(&id)[..4]);
    let (time, signature) = line.bytes().split_at(8);
    assert_eq!(time, [0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb]);
    let message = format!(
        "cosignature/v1\ntime 1679315147\n{}",
        checkpoint.note().text()
    );
    let verifying = VerifyingKey::from_bytes(key.key()).unwrap();
    let signature = Signature::from_slice(signature).unwrap();
    assert!(
        verifying
            .verify_strict(message.as_bytes(), &signature)
            .is_ok()
    );
    assert_eq!(key.to_string().parse::<CosignerKey>(), Ok(key));
}

#[test]
fn bodies_have_one_spelling() {
    let root = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    let good = format!("{ORIGIN}\n7\n{root}\nabc\n");
    let parsed = Checkpoint::parse_body(&good).unwrap();
    assert_eq!(parsed.extensions(), ["abc"]);
    assert_eq!((parsed.head(), parsed.body()), (head(7), good));
    for bad in [
        String::new(),
        format!("{ORIGIN}\n7\n"),
        format!("{ORIGIN}\n7\n{root}"),
        format!("\n7\n{root}\n"),
        format!("{ORIGIN}\n07\n{root}\n"),
        format!("{ORIGIN}\n+7\n{root}\n"),
        format!("{ORIGIN}\n-7\n{root}\n"),
        format!("{ORIGIN}\n\n{root}\n"),
        format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
        format!("{ORIGIN}\n7\n{}\n", &root[..40]),
        format!("{ORIGIN}\n7\n{}\n", root.replace('=', "")),
        format!("{ORIGIN}\n7\n{}\n", root.replace("k=", "l=")),
        format!("{ORIGIN}\n7\n{root}\n\n"),
        format!("{ORIGIN}\n7\n{root}\nabc\n\ndef\n"),
    ] {
        assert_eq!(
            Checkpoint::parse_body(&bad),
            Err(CheckpointError::Text),
            "{bad}"
        );
        assert!(
            tlog_tiles::Checkpoint::from_bytes(bad.as_bytes()).is_err() || bad.contains("\n\n")
        );
    }
    assert_eq!(
        Checkpoint::new(ORIGIN, head(0), vec![]),
        Err(CheckpointError::EmptyRoot)
    );
    assert!(Checkpoint::new(ORIGIN, TreeHead::empty(), vec![]).is_ok());
}

#[test]
fn attack_23_checkpoint_that_the_log_did_not_sign() {
    let body = checkpoint(7).checkpoint().body();
    let verifier = log().verifier();
    let stranger = NoteSigner::new(ORIGIN, &[3; 32]).unwrap();
    assert_eq!(
        SignedCheckpoint::open(&signed(&stranger, &body), &verifier),
        Err(CheckpointError::Note(NoteError::Unsigned))
    );
    // The log's key under the name of another log.
    let elsewhere = NoteSigner::new("other.example/log", &[1; 32]).unwrap();
    assert_eq!(
        SignedCheckpoint::open(&signed(&elsewhere, &body), &elsewhere.verifier()),
        Err(CheckpointError::Origin)
    );
    // A witness's cosignature in place of the log's signature.
    let mut cosigned = checkpoint(7);
    cosign(&mut cosigned, 2, 100);
    let text = String::from_utf8(cosigned.encode()).unwrap();
    let without: String = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with(&format!("— {ORIGIN}")))
        .collect();
    assert_eq!(
        SignedCheckpoint::open(without.as_bytes(), &verifier),
        Err(CheckpointError::Note(NoteError::Unsigned))
    );
    // Any bit flipped.
    let genuine = checkpoint(7).encode();
    for bit in 0..genuine.len() * 8 {
        let mut forged = genuine.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(
            SignedCheckpoint::open(&forged, &verifier).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn attack_23_unwitnessed_or_old_checkpoint() {
    let mut signed = checkpoint(7);
    assert_eq!(
        quorum(1).check(&signed, &at(1000)),
        Err(QuorumError::NotReached {
            required: 1,
            recent: 0,
            old: 0,
            ahead: 0
        })
    );
    cosign(&mut signed, 2, 1000);
    cosign(&mut signed, 3, 800);
    cosign(&mut signed, 9, 1000);
    let witnessed = quorum(2).check(&signed, &at(1000)).unwrap();
    assert_eq!(witnessed.head(), head(7));
    assert_eq!(witnessed.as_of(), Millis::new(800_000));
    assert_eq!(witnessed.by(), ["witness-2", "witness-3"]);
    assert!(quorum(2).check(&signed, &at(1100)).is_ok());
    // One grows too old; a clock far behind sees one ahead; a stranger's cosignature never counts.
    let count = |recent, old, ahead, required| {
        Err(QuorumError::NotReached {
            required,
            recent,
            old,
            ahead,
        })
    };
    assert_eq!(quorum(2).check(&signed, &at(1101)), count(1, 1, 0, 2));
    assert_eq!(quorum(2).check(&signed, &at(989)), count(1, 0, 1, 2));
    assert!(quorum(2).check(&signed, &at(990)).is_ok());
    assert_eq!(quorum(3).check(&signed, &at(1000)), count(2, 0, 0, 3));
    // Cosigned again later, the newest counts.
    cosign(&mut signed, 3, 1300);
    assert_eq!(
        quorum(2).check(&signed, &at(1300)).unwrap().as_of(),
        Millis::new(1_000_000)
    );
}

#[test]
fn attack_23_cosignature_moved_to_another_checkpoint_or_time() {
    let mut seven = checkpoint(7);
    cosign(&mut seven, 2, 1000);
    let line = seven.note().signatures().last().unwrap().clone();
    let mut eight = checkpoint(8);
    eight.add(line.clone());
    let name = "witness-2".to_owned();
    let refused = Err(QuorumError::False(NoteError::Signature { name }));
    assert_eq!(quorum(1).check(&eight, &at(1000)), refused);
    // Every bit of the time and the signature counts.
    let genuine = String::from_utf8(seven.encode()).unwrap();
    for bit in 0..line.bytes().len() * 8 {
        let mut bytes = line.id().to_be_bytes().to_vec();
        bytes.extend_from_slice(line.bytes());
        bytes[4 + bit / 8] ^= 1 << (bit % 8);
        let forged = {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            genuine.replace(&line.to_string(), &format!("— witness-2 {encoded}"))
        };
        let forged = SignedCheckpoint::open(forged.as_bytes(), &log().verifier()).unwrap();
        assert_eq!(quorum(1).check(&forged, &at(1000)), refused, "bit {bit}");
    }
}

#[test]
fn one_witness_is_not_two() {
    let twice = Cosigner::new("alias", &[2; 32]).unwrap().key();
    let namesake = Cosigner::new("witness-2", &[8; 32]).unwrap().key();
    for second in [twice, namesake] {
        let name = second.name().to_owned();
        assert_eq!(
            Quorum::new(vec![cosigner(2).key(), second], 2),
            Err(QuorumConfigError::Repeated { name })
        );
    }
    for required in [0, 2] {
        assert!(Quorum::new(vec![cosigner(2).key()], required).is_err());
    }
    for required in 1..=3 {
        assert_eq!(quorum(required).required(), required);
    }
}

proptest! {
    #[test]
    fn bodies_agree_with_the_other_implementation(
        origin in "[ -~é]{1,30}",
        size in 1_u64..,
        root in any::<[u8; 32]>(),
        extensions in proptest::collection::vec("[ -~é]{1,20}", 0..4),
    ) {
        let head = TreeHead { size, root: Digest::new(root) };
        let body = Checkpoint::new(&origin, head, extensions.clone()).unwrap().body();
        let theirs = tlog_tiles::Checkpoint::from_bytes(body.as_bytes()).unwrap();
        prop_assert_eq!(theirs.to_bytes(), body.as_bytes());
        prop_assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (origin.as_str(), size, root));
        let ours = Checkpoint::parse_body(&body).unwrap();
        prop_assert_eq!(ours.extensions(), extensions);
    }
}
