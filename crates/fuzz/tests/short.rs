//! Every target for a short while: the published vectors, flipped, cut, doubled, spliced into each other.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]

use greffe_fuzz::{TARGETS, Target, corpus};
use greffe_service_kit::config::{ServiceConfig, Settings};

/// Inputs of each target.
const ROUNDS: u32 = 50_000;
/// Longest input.
const LONGEST: usize = 8192;

/// A generator whose numbers are the same at every run (xorshift64*): a finding is found again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap();
        usize::try_from(self.next() % limit).unwrap()
    }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(input.len());
    match numbers.below(7) {
        0 if !input.is_empty() => input[at] ^= 1 << numbers.below(8),
        1 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
        2 => input.truncate(at),
        3 => {
            let part = input[at..].to_vec();
            input.extend(part);
        }
        4 => {
            let other = &corpus[numbers.below(corpus.len())];
            let from = numbers.below(other.len());
            input.truncate(at);
            input.extend(&other[from..]);
        }
        5 => input.insert(at, u8::try_from(numbers.below(256)).unwrap()),
        _ if !input.is_empty() => drop(input.remove(at)),
        _ => {}
    }
    input.truncate(LONGEST);
}

/// A service's settings; the last line is one given over them. An error never repeats the value of a setting.
fn service_settings(bytes: &[u8]) {
    const SECRET: &str = "tulip-and-anvil";
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    let (file, flag) = text.rsplit_once('\n').unwrap_or((text, ""));
    let flags = [flag.to_owned(), format!("service.database={SECRET}")];
    let Ok(settings) = Settings::parse(file, None, "GREFFE", [], &flags) else {
        return;
    };
    if let Err(error) = settings.read::<Anything>() {
        assert!(!error.to_string().contains(SECRET));
    }
}

/// What every service has; its own table is its own.
#[derive(serde::Deserialize)]
struct Anything {
    #[expect(dead_code, reason = "that it is read is what is tried")]
    service: ServiceConfig,
}

#[test]
fn no_bytes_break_a_decoder_and_what_it_takes_it_gives_back() {
    let kinds = corpus().unwrap();
    let settings: (&str, Target) = ("service_settings", service_settings);
    for (name, target) in TARGETS.into_iter().chain([settings]) {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for seed in kinds.iter().flatten() {
            target(seed);
        }
        for round in 0..ROUNDS {
            let corpus = &kinds[numbers.below(kinds.len())];
            let mut input = corpus[numbers.below(corpus.len())].clone();
            for _ in 0..=numbers.below(4) {
                change(&mut input, corpus, &mut numbers);
            }
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(
                outcome.is_ok(),
                "{name}, round {round}: {:?}",
                input.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn vectors_reach_what_they_are_of() {
    let corpus = corpus().unwrap().concat();
    let taken = |accepts: fn(&[u8]) -> bool| corpus.iter().filter(|bytes| accepts(bytes)).count();
    use greffe_envelope::ceremony::NodeShare;
    use greffe_envelope::envelope::{Envelope, Header};
    use greffe_envelope::pb;
    use greffe_envelope::statement::Signed;
    use greffe_envelope::wrap::WrapView;
    use prost::Message as _;
    assert!(taken(|bytes| Header::decode(bytes).is_ok()) > 0, "headers");
    assert!(taken(|bytes| WrapView::parse(bytes).is_ok()) > 0, "wraps");
    let act = |bytes: &[u8]| {
        use greffe_envelope::content::{Kind, check, decode};
        decode(bytes).is_ok_and(|content| {
            check(&content).is_ok() && Kind::of(&content).is_some_and(Kind::is_act)
        })
    };
    assert!(taken(act) > 0, "edits, retractions and reactions");
    assert!(
        taken(|bytes| greffe_tlog::Note::parse(bytes).is_ok()) > 0,
        "notes"
    );
    assert!(
        taken(|bytes| NodeShare::from_bytes(bytes).is_ok()) > 0,
        "shares"
    );
    assert!(
        taken(|bytes| Signed::<pb::Receipt>::decode_bytes(bytes).is_ok()) > 0,
        "statements"
    );
    assert!(
        taken(|bytes| {
            pb::SealedEnvelope::decode(bytes).is_ok_and(|raw| Envelope::decode(raw).is_ok())
                || Envelope::decode(pb::SealedEnvelope {
                    body: bytes.to_vec(),
                    signature: vec![1; 64],
                })
                .is_ok()
        }) > 0,
        "envelopes"
    );
    assert!(
        taken(|bytes| greffe_policy::Pack::from_canonical(bytes).is_ok()) > 0,
        "packs"
    );
}
