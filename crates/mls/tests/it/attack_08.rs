//! Attack 8: short MACs, nested extensions, huge vectors, anything mutated: an error, never a panic, and fast.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use greffe_mls::{EXTENSION_TYPE, Event, Frame, Observer, check_key_package, limits};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::hostile::{Scene, context};
use crate::world::{NOW, Peer, World, observe, refusal, refused, talk};

/// Generous, for a machine with other things to do; the inputs are made to take minutes without the checks.
const SOON: Duration = Duration::from_secs(2);

/// Real messages of every kind, all still to be processed.
struct Corpus {
    world: World,
    bob: Peer,
    commit: Vec<u8>,
    message: Vec<u8>,
    welcome: Vec<u8>,
    key_package: Vec<u8>,
    group_info: Vec<u8>,
}

fn corpus() -> Corpus {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2), world.device(3)];
    let mut all = world.conversation(&mut peers[..2]);
    let group_info = all[0].group_info().unwrap();
    let (message, _) = all[0].seal(&[1; 32], &Default::default()).unwrap();
    all[0].persisted();
    let key_package = peers[2].key_package().bytes;
    let packages = [key_package.clone()];
    let (handshake, _) = all[0].add(&packages, NOW).unwrap();
    let [_, bob, _] = peers;
    Corpus {
        world,
        bob,
        commit: handshake.commit,
        message,
        welcome: handshake.welcome.unwrap(),
        key_package,
        group_info,
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// A vector length of up to 2^30 - 1 in four bytes, where there was something else.
    Huge(Index, u32),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let position = any::<Index>;
    prop_oneof![
        (position(), 1..=u8::MAX).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        position().prop_map(Mutation::Truncate),
        (position(), proptest::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (position(), 1_usize..40).prop_map(|(at, len)| Mutation::Remove(at, len)),
        (position(), 1_usize..200).prop_map(|(at, len)| Mutation::Repeat(at, len)),
        (position(), 1_u32 << 14..1 << 30).prop_map(|(at, len)| Mutation::Huge(at, len)),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Self::Repeat(at, len) => {
                let at = at.index(bytes.len());
                let piece = bytes[at..(at + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Huge(at, len) => {
                let at = at.index(bytes.len());
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, (len | 0x8000_0000).to_be_bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        max_shrink_iters: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn attack_08_mutated_messages_are_refused_without_a_panic(
        mutations in proptest::collection::vec(mutation(), 1..4),
    ) {
        static CORPUS: OnceLock<Corpus> = OnceLock::new();
        let corpus = CORPUS.get_or_init(corpus);
        let mutated = |original: &Vec<u8>| {
            let mut bytes = original.clone();
            mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
            (bytes != *original).then_some(bytes)
        };
        let since = Instant::now();
        let mut bob = corpus.bob.load(crate::world::ID).unwrap();
        let mut relay = Observer::start(corpus.world.trust.clone(), &corpus.group_info).unwrap();
        for original in [&corpus.commit, &corpus.message] {
            let Some(bytes) = mutated(original) else { continue };
            let _ = Frame::parse(&bytes);
            let (event, _) = bob.receive(&bytes).unwrap();
            prop_assert!(matches!(event, Event::Refused(_)), "{event:?}");
        }
        if let Some(bytes) = mutated(&corpus.commit) {
            // the observer cannot check the tags at its end, and says so
            let tags = corpus.commit.len() - 33 - 33;
            if bytes.get(..tags) != corpus.commit.get(..tags) {
                prop_assert!(relay.handshake(&bytes, NOW).is_err());
            } else {
                let _ = relay.handshake(&bytes, NOW);
            }
        }
        if let Some(bytes) = mutated(&corpus.message) {
            let _ = relay.application(&bytes);
        }
        if let Some(bytes) = mutated(&corpus.key_package) {
            prop_assert!(check_key_package(&corpus.world.trust, &bytes, NOW).is_err());
        }
        if let Some(bytes) = mutated(&corpus.group_info) {
            prop_assert!(Observer::start(corpus.world.trust.clone(), &bytes).is_err());
        }
        if let Some(bytes) = mutated(&corpus.welcome) {
            prop_assert!(corpus.bob.client.examine(&bytes, corpus.bob.database.disclosures()).is_err());
            prop_assert!(corpus.bob.client.join(&bytes, corpus.bob.database.disclosures()).is_err());
            let _ = corpus.bob.client.welcome_rows(&bytes);
        }
        // what was not mutated still goes through
        let (event, _) = bob.receive(&corpus.message).unwrap();
        prop_assert!(matches!(event, Event::Application(_)), "{event:?}");
        let (event, _) = bob.receive(&corpus.commit).unwrap();
        prop_assert!(matches!(event, Event::Commit(_)), "{event:?}");
        prop_assert!(since.elapsed() < SOON);
    }
}

#[test]
fn attack_08_a_welcome_is_mutated_where_its_reader_has_the_key_package() {
    let world = World::new();
    let (alice, mut bob) = (world.device(1), world.device(2));
    let created = alice
        .client
        .create(crate::world::ID, &world.disclosure(1), vec![], NOW);
    let (mut conversation, _) = created.unwrap();
    let packages = [bob.key_package().bytes];
    let (handshake, _) = conversation.add(&packages, NOW).unwrap();
    let welcome = handshake.welcome.unwrap();
    let keys = bob.client.welcome_rows(&welcome).unwrap();
    for position in 0..welcome.len() {
        let mut changed = welcome.clone();
        changed[position] ^= 0x41;
        let rows = bob.database.rows(&keys);
        assert!(bob.client.join(&changed, rows).is_err(), "byte {position}");
    }
    bob.join(&welcome).unwrap();
}

#[test]
fn attack_08_short_macs_are_refused() {
    let mut scene = Scene::new();
    let (handshake, _) = scene.alice.update(NOW).unwrap();
    let commit = &handshake.commit;
    let (body, membership) = commit.split_at(commit.len() - 33);
    let (body, confirmation) = body.split_at(body.len() - 33);
    assert_eq!((confirmation[0], membership[0]), (32, 32), "two tags");
    for len in [0, 1, 4, 16, 31] {
        let short = |tag: &[u8]| [&[len as u8], &tag[1..=len]].concat();
        for changed in [
            [body, confirmation, &short(membership)].concat(),
            [body, &short(confirmation), membership].concat(),
        ] {
            assert_eq!(refused(&mut scene.bob, &changed).code(), "malformed");
            let seen = scene.relay.handshake(&changed, NOW).unwrap_err();
            assert_eq!(seen.code(), "malformed");
        }
    }
    let long = [body, confirmation, &[33], &membership[1..], &[0]].concat();
    assert_eq!(refused(&mut scene.bob, &long).code(), "malformed");
    // the observer cannot check a tag of the right length; members do
    for position in [body.len() + 5, commit.len() - 5] {
        let mut wrong = commit.clone();
        wrong[position] ^= 1;
        assert_eq!(refused(&mut scene.bob, &wrong).code(), "mls");
    }
    // the tag of a group info
    let info = scene.alice.group_info().unwrap();
    let tag = info.len() - 65 - 1 - 4 - 33;
    assert_eq!(info[tag], 32);
    let short = [
        &info[..tag],
        &[16],
        &info[tag + 1..tag + 17],
        &info[tag + 33..],
    ]
    .concat();
    let trust = scene.world.trust.clone();
    let seen = Observer::start(trust, &short).unwrap_err();
    assert_eq!(seen.code(), "malformed");
}

#[test]
fn attack_08_long_lists_and_huge_vectors_are_refused_at_once() {
    let mut scene = Scene::new();
    let good = scene.context_commit(context(&scene.world.disclosure(2)));
    // where the extensions of the proposal lie: the type 7 follows the two lengths and "by value"
    let proposal = 2 + 2 + 17 + 8 + 1 + 4 + 1 + 1;
    let start = (proposal..proposal + 12)
        .find(|at| good[*at..].starts_with(&[1, 0, 7]))
        .unwrap();
    let header = &good[..proposal];
    for count in [5, 1_000, u16::MAX] {
        // all different: the library compares each one with all the others
        let list = (0..count).flat_map(|kind| [&kind.to_be_bytes()[..], &[0]].concat());
        let extensions = vector(&list.collect::<Vec<_>>());
        let proposals = vector(&[&good[start..start + 3], &extensions].concat());
        let long = [header, &proposals, &[0]].concat();
        fast(&mut scene, &long);
    }
    // extensions within extensions, proposals within proposals: the walk is not recursive
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        nested = vector(&[&EXTENSION_TYPE.to_be_bytes()[..], &vector(&nested)].concat());
    }
    let proposals = vector(&[&good[start..start + 3], &nested].concat());
    fast(&mut scene, &[header, &proposals, &[0]].concat());
    // many proposals
    let removes = vector(&[1, 0, 3, 0, 0, 0, 0].repeat(limits::PROPOSALS + 1));
    fast(&mut scene, &[header, &removes, &[0]].concat());
    // lengths that promise more than there is, at every place
    for at in 4..good.len().min(400) {
        let mut huge = good[..at].to_vec();
        huge.extend([0xbf, 0xff, 0xff, 0xff]);
        fast(&mut scene, &huge);
        huge.extend([0xff; 16]);
        fast(&mut scene, &huge);
    }
    // over the limit, whatever it is
    let mut long = good;
    long.resize(limits::HANDSHAKE + 1, 0);
    fast(&mut scene, &long);
    scene.go_on();
}

#[test]
fn attack_08_empty_and_random_input_is_refused() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let [alice, bob] = &mut all[..] else {
        panic!("two")
    };
    let mut relay = observe(&world, alice);
    for format in 0..=6_u8 {
        for len in [0, 1, 3, 4, 5, 30, 1000] {
            let bytes = [&[0, 1, 0, format], &vec![0xa5; len][..]].concat();
            for cut in [0, 1, 2, 3, 4, bytes.len()] {
                let bytes = &bytes[..cut];
                refused(bob, bytes);
                assert!(relay.handshake(bytes, NOW).is_err());
                assert!(relay.application(bytes).is_err());
                assert!(check_key_package(&world.trust, bytes, NOW).is_err());
                assert!(Observer::start(world.trust.clone(), bytes).is_err());
                refusal(peers[1].client.examine(bytes, vec![]).unwrap_err());
            }
        }
    }
    talk(alice, bob, 1);
}

/// Members and observer refuse it soon.
fn fast(scene: &mut Scene, message: &[u8]) {
    let since = Instant::now();
    refused(&mut scene.bob, message);
    scene.relay.handshake(message, NOW).unwrap_err();
    assert!(since.elapsed() < SOON);
}

/// A vector of RFC 9420 section 2.1.2.
fn vector(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len();
    let mut out = match len {
        0..64 => vec![len as u8],
        64..16_384 => (len as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (len as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    };
    out.extend(bytes);
    out
}
