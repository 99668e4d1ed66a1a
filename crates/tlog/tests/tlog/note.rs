//! Signed notes: Go's published example, its list of malformed notes, and the `signed_note` crate.

use greffe_tlog::{Cosigner, KeyError, MAX_NOTE, Note, NoteError, NoteSigner, NoteVerifier};
use proptest::prelude::*;
use signed_note::{StandardVerifier, VerifierList};

const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SIGNER: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const PETER: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_VERIFIER: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const ENOCH: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

fn peter() -> NoteVerifier {
    VERIFIER.parse().unwrap()
}

#[test]
fn published_example() {
    let signer: NoteSigner = SIGNER.parse().unwrap();
    assert_eq!(signer.verifier(), peter());
    assert_eq!(peter().to_string(), VERIFIER);
    let mut note = Note::new(TEXT).unwrap();
    note.sign(&signer);
    note.sign(&signer);
    let encoded = format!("{TEXT}\n{PETER}").into_bytes();
    assert_eq!(note.encode(), encoded);
    assert_eq!(Note::parse(&encoded), Ok(note));
}

#[test]
fn every_mangled_key_is_refused() {
    for (text, of_verifier) in [(VERIFIER, true), (SIGNER, false)] {
        let refused = |mangled: &[u8]| {
            let Ok(mangled) = str::from_utf8(mangled) else {
                return true;
            };
            if of_verifier {
                mangled.parse::<NoteVerifier>().is_err()
            } else {
                mangled.parse::<NoteSigner>().is_err()
            }
        };
        let mut bytes = text.as_bytes().to_vec();
        for from in 0..bytes.len() {
            for to in from + 1..=bytes.len() {
                let whole = from == 0 && to == bytes.len();
                assert_eq!(refused(&bytes[from..to]), !whole);
            }
            bytes[from] += 1;
            assert!(refused(&bytes), "byte {from}");
            bytes[from] -= 1;
        }
    }
    let wrong_length = "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==";
    let wrong_type = "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(wrong_length.parse::<NoteVerifier>(), Err(KeyError::Format));
    assert_eq!(wrong_type.parse::<NoteVerifier>(), Err(KeyError::Type));
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(NoteVerifier::new("a", &identity), Err(KeyError::Point));
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{1}"] {
        assert_eq!(NoteVerifier::new(name, peter().key()), Err(KeyError::Name));
    }
}

#[test]
fn known_unknown_and_false_signatures() {
    let enoch: NoteVerifier = ENOCH_VERIFIER.parse().unwrap();
    let both = Note::parse(format!("{TEXT}\n{PETER}{ENOCH}").as_bytes()).unwrap();
    assert_eq!(both.verify(&[&peter()]), Ok(vec![&peter()]));
    assert_eq!(both.verify(&[&peter(), &enoch]), Ok(vec![&peter(), &enoch]));
    assert_eq!(both.verify(&[]), Err(NoteError::Unsigned));

    // Another key of the same name is another signer.
    let namesake = NoteSigner::new("PeterNeumann", &[7; 32])
        .unwrap()
        .verifier();
    assert_eq!(both.verify(&[&namesake]), Err(NoteError::Unsigned));

    // Peter's bytes under Enoch's name and id.
    let mut forged = Note::new(TEXT).unwrap();
    let stolen = {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let mut bytes = 0xaf0c_fe78_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(both.signatures()[0].bytes());
        format!("— EnochRoot {}", STANDARD.encode(bytes))
    };
    forged.add(greffe_tlog::NoteSignature::parse(&stolen).unwrap());
    let name = "EnochRoot".to_owned();
    assert_eq!(forged.verify(&[&enoch]), Err(NoteError::Signature { name }));
    assert_eq!(forged.verify(&[&peter()]), Err(NoteError::Unsigned));
}

#[test]
fn malformed_notes() {
    let unpadded = PETER.replace("AM=", "AM");
    let loose_bits = PETER.replace("AM=", "AN=");
    let short = "— PeterNeumann x08goQ==\n";
    let short = short.replace("goQ==", "gow==");
    for bytes in [
        TEXT.to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}\n{}", PETER.trim_end()),
        format!("\u{1}{TEXT}\n{PETER}"),
        format!("{}\r\n\n{PETER}", TEXT.trim_end()),
        format!("{TEXT}\n{}", PETER.replace("PeterNeumann", "Bad Name")),
        format!("{TEXT}\n{}", PETER.replace("PeterNeumann", "Bad+Name")),
        format!("{TEXT}\n{}", PETER.replace('—', "-")),
        format!("{TEXT}\n{}", PETER.replace("— ", "—  ")),
        format!("{TEXT}\n{PETER}Unexpected line.\n"),
        format!("{TEXT}\n{PETER}\n"),
        format!("{TEXT}\n{unpadded}"),
        format!("{TEXT}\n{loose_bits}"),
        format!("{TEXT}\n{short}"),
        format!("{TEXT}\n{}", PETER.repeat(101)),
        format!("{}\n\n{PETER}", "a".repeat(MAX_NOTE)),
    ] {
        assert!(Note::parse(bytes.as_bytes()).is_err(), "{bytes:.300}");
    }
    let not_utf8 = [b"\xff", format!("{TEXT}\n{PETER}").as_bytes()].concat();
    assert_eq!(Note::parse(&not_utf8), Err(NoteError::Text));
    assert!(Note::parse(format!("{TEXT}\n{}", PETER.repeat(100)).as_bytes()).is_ok());
    assert_eq!(Note::new("no newline"), Err(NoteError::Text));

    // A text may have blank lines of its own: the last one separates.
    let signer: NoteSigner = SIGNER.parse().unwrap();
    let mut spaced = Note::new("one\n\ntwo\n").unwrap();
    spaced.sign(&signer);
    assert_eq!(Note::parse(&spaced.encode()), Ok(spaced));
}

#[test]
fn the_longest_note_counts_its_signatures() {
    let signatures = format!("\n{PETER}").len();
    let of = |length: usize| format!("{}\n\n{PETER}", "a".repeat(length - signatures - 1));
    assert!(Note::parse(of(MAX_NOTE).as_bytes()).is_ok());
    for length in [MAX_NOTE + 1, MAX_NOTE + 2] {
        let refused = Note::parse(of(length).as_bytes());
        assert_eq!(refused, Err(NoteError::TooLong));
    }
    let text = format!("{}\n", "a".repeat(MAX_NOTE - 1));
    assert!(Note::new(text.clone()).is_ok());
    assert_eq!(Note::new(format!("a{text}")), Err(NoteError::TooLong));
}

/// Whoever reads a log of what happened can tell the keys apart.
#[test]
fn public_keys_are_shown_and_secret_keys_are_not() {
    let signer: NoteSigner = SIGNER.parse().unwrap();
    assert_eq!(format!("{signer:?}"), format!("NoteSigner({VERIFIER})"));
    let verifier = signer.verifier();
    assert_eq!(format!("{verifier:?}"), format!("NoteVerifier({VERIFIER})"));
    let cosigner = Cosigner::new("w1", &[7; 32]).unwrap();
    let key = cosigner.key();
    assert_eq!(format!("{cosigner:?}"), format!("Cosigner({key})"));
    assert_eq!(format!("{key:?}"), format!("CosignerKey({key})"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_other_implementation_agrees(
        text in "([ -~é\n]{0,80}\n){1,4}",
        seed in any::<[u8; 32]>(),
        name in "[a-z./]{1,20}",
        flipped in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let signer = NoteSigner::new(&name, &seed).unwrap();
        let mut note = Note::new(text).unwrap();
        note.sign(&signer);
        let verifier = signer.verifier();
        let theirs = || {
            let verifier = StandardVerifier::new(&verifier.to_string()).unwrap();
            VerifierList::new(vec![Box::new(verifier)])
        };
        let mut bytes = note.encode();
        let parsed = signed_note::Note::from_bytes(&bytes).unwrap();
        prop_assert!(parsed.verify(&theirs()).is_ok());
        prop_assert_eq!(note.verify(&[&verifier]).unwrap().len(), 1);

        let place = flipped.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let ours = Note::parse(&bytes);
        let other = signed_note::Note::from_bytes(&bytes);
        prop_assert_eq!(ours.is_ok(), other.is_ok());
        if let (Ok(ours), Ok(other)) = (ours, other) {
            prop_assert_eq!(ours.text().as_bytes(), other.text());
            prop_assert!(ours.verify(&[&verifier]).is_err());
            prop_assert!(other.verify(&theirs()).is_err());
        }
    }

    #[test]
    fn anything_parses_or_not_as_there(bytes in "(— [a-z]{1,3} [A-Za-z0-9+/]{0,8}={0,2}\n?|[ -~\n]{0,8}|\n){0,9}") {
        let ours = Note::parse(bytes.as_bytes());
        let theirs = signed_note::Note::from_bytes(bytes.as_bytes());
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
    }
}
