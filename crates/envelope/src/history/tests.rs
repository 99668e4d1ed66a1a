//! Rules of histories, one by one and over random conversations.

use proptest::prelude::*;

use super::*;

fn envelope(sequence: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    Digest::new(bytes)
}

fn content(kind: pb::ContentKind, target: u64, text: &str) -> pb::Content {
    let mut content = pb::Content {
        kind: kind.into(),
        text: text.into(),
        ..Default::default()
    };
    if target > 0 {
        content.target = envelope(target).to_vec();
    }
    content
}

/// A conversation, its items numbered as they are said.
#[derive(Default)]
struct Talk {
    history: History<&'static str>,
    last: u64,
}

impl Talk {
    fn take(&mut self, author: &'static str, content: &pb::Content) -> Option<Result<(), Why>> {
        self.last += 1;
        let said = Said {
            sequence: self.last,
            envelope: envelope(self.last),
            author,
            content,
        };
        self.history.take(&said, |_| false)
    }

    fn text(&mut self, author: &'static str) -> u64 {
        assert_eq!(
            self.take(author, &content(pb::ContentKind::Text, 0, "said")),
            None
        );
        self.last
    }

    fn act(
        &mut self,
        author: &'static str,
        kind: pb::ContentKind,
        target: u64,
        text: &str,
    ) -> Result<(), Why> {
        self.take(author, &content(kind, target, text)).unwrap()
    }

    fn message(&self, sequence: u64) -> &Message<&'static str> {
        self.history.message(&envelope(sequence)).unwrap()
    }
}

use pb::ContentKind::{Edit, Reaction, ReactionRemoval, Retraction};

#[test]
fn every_version_stays_and_the_last_is_in_force() {
    let mut talk = Talk::default();
    let first = talk.text("alice");
    let other = talk.text("bob");
    assert_eq!(talk.act("alice", Edit, first, "better"), Ok(()));
    assert_eq!(talk.act("alice", Edit, first, ""), Ok(()));
    assert_eq!(talk.message(first).versions, [1, 3, 4]);
    assert_eq!(talk.message(first).current(), 4);
    assert_eq!(talk.act("alice", Retraction, first, ""), Ok(()));
    assert_eq!(talk.message(first).retracted, Some(5));
    // Shown, not applied.
    assert_eq!(talk.act("alice", Edit, first, "again"), Err(Why::Retracted));
    assert_eq!(
        talk.act("alice", Retraction, first, ""),
        Err(Why::Retracted)
    );
    assert_eq!(talk.act("bob", Reaction, first, "+1"), Err(Why::Retracted));
    assert_eq!(talk.message(first).versions, [1, 3, 4]);
    assert_eq!(talk.message(first).acts.len(), 6);
    assert!(talk.message(other).is_plain());
}

#[test]
fn nobody_edits_or_retracts_what_another_said() {
    let mut talk = Talk::default();
    let first = talk.text("alice");
    assert_eq!(
        talk.act("bob", Edit, first, "I owe you"),
        Err(Why::NotTheAuthor)
    );
    assert_eq!(
        talk.act("bob", Retraction, first, ""),
        Err(Why::NotTheAuthor)
    );
    let message = talk.message(first);
    assert_eq!((message.current(), message.retracted), (first, None));
    assert_eq!(message.acts.len(), 2);
}

#[test]
fn a_target_is_an_earlier_message_of_this_conversation() {
    let mut talk = Talk::default();
    // The third item will be a message; the first two know its digest before it has its number.
    assert_eq!(talk.act("alice", Edit, 3, "early"), Err(Why::TargetUnknown));
    assert_eq!(
        talk.act("bob", Reaction, 3, "early"),
        Err(Why::TargetUnknown)
    );
    let message = talk.text("alice");
    assert!(talk.message(message).is_plain());
    // Another conversation's, or nobody's.
    assert_eq!(
        talk.act("alice", Retraction, 777, ""),
        Err(Why::TargetUnknown)
    );
    // An edit is no message: neither chains nor cycles.
    assert_eq!(talk.act("alice", Edit, message, "second"), Ok(()));
    let edit = talk.last;
    for kind in [Edit, Retraction] {
        assert_eq!(talk.act("alice", kind, edit, ""), Err(Why::TargetNoMessage));
    }
    assert_eq!(
        talk.act("alice", Edit, talk.last + 1, "itself"),
        Err(Why::TargetNoMessage)
    );
    // A newer kind is no message either.
    let newer = pb::Content {
        kind: 99,
        ..Default::default()
    };
    assert_eq!(talk.take("alice", &newer), None);
    let newer = talk.last;
    assert_eq!(
        talk.act("alice", Retraction, newer, ""),
        Err(Why::TargetNoMessage)
    );
    // One that is known to be there, but not what it says.
    let about = content(Edit, 500, "x");
    let said = Said {
        sequence: 600,
        envelope: envelope(600),
        author: "alice",
        content: &about,
    };
    let verdict = talk.history.take(&said, |digest| *digest == envelope(500));
    assert_eq!(verdict, Some(Err(Why::TargetNotHere)));
    assert_eq!(talk.history.strays().len(), 8);
    assert_eq!(talk.message(message).acts.len(), 1);
}

#[test]
fn reactions_are_each_members_own_and_bounded() {
    let mut talk = Talk::default();
    let first = talk.text("alice");
    assert_eq!(talk.act("bob", Reaction, first, "+1"), Ok(()));
    assert_eq!(talk.act("carol", Reaction, first, "+1"), Ok(()));
    assert_eq!(talk.act("bob", Reaction, first, "+1"), Err(Why::Repeated));
    assert_eq!(
        talk.act("alice", ReactionRemoval, first, "+1"),
        Err(Why::NothingToRemove)
    );
    assert_eq!(talk.act("bob", ReactionRemoval, first, "+1"), Ok(()));
    let standing = &talk.message(first).reactions["+1"];
    assert_eq!(standing.keys().collect::<Vec<_>>(), [&"carol"]);
    // As many as anybody likes are kept, but no more than so many stand.
    for number in 0..100 {
        let expected = if number < MAX_STANDING {
            Ok(())
        } else {
            Err(Why::TooMany)
        };
        let text = format!("r{number}");
        assert_eq!(talk.act("bob", Reaction, first, &text), expected);
    }
    assert_eq!(talk.message(first).reactions.len(), MAX_STANDING + 1);
    assert_eq!(talk.act("bob", ReactionRemoval, first, "r3"), Ok(()));
    assert_eq!(talk.act("bob", Reaction, first, "r99"), Ok(()));
    assert_eq!(talk.message(first).acts.len(), 107);
}

#[test]
fn what_no_honest_client_makes_is_kept_without_effect() {
    let mut talk = Talk::default();
    let first = talk.text("alice");
    let long = "x".repeat(65);
    for text in ["", "a\nb", &long] {
        assert_eq!(talk.act("bob", Reaction, first, text), Err(Why::Malformed));
    }
    assert_eq!(
        talk.act("alice", Retraction, first, "because"),
        Err(Why::Malformed)
    );
    assert_eq!(talk.act("alice", Edit, 0, "no target"), Err(Why::Malformed));
    assert_eq!(talk.message(first).acts.len(), 4);
    assert_eq!(talk.history.strays().len(), 1);
}

proptest! {
    /// Whatever is said, every item is a message, or stands with one, or is a stray: once each. What is in force was
    /// said by those who may, and no order of acts brings back what was retracted.
    #[test]
    fn nothing_is_lost(
        items in prop::collection::vec((0..3_usize, 0..8_i32, 0..60_u64, 0..20_u8), 1..60)
    ) {
        let authors = ["alice", "bob", "carol"];
        let mut talk = Talk::default();
        let mut said = Vec::new();
        for (author, kind, target, text) in items {
            let content = pb::Content {
                kind,
                text: format!("r{text}").into_bytes(),
                target: if kind < 3 || target == 0 { Vec::new() } else { envelope(target).to_vec() },
                ..Default::default()
            };
            talk.take(authors[author], &content);
            said.push((authors[author], content));
        }
        let by = |sequence: u64| said[usize::try_from(sequence).unwrap() - 1].0;
        let of = |sequence: u64| &said[usize::try_from(sequence).unwrap() - 1].1;
        let history = &talk.history;
        let mut seen: Vec<u64> = history.strays().iter().map(|act| act.sequence).collect();
        for message in history.messages() {
            seen.push(message.sequence);
            seen.extend(message.acts.iter().map(|act| act.sequence));
            prop_assert!(message.acts.is_sorted_by(|a, b| a.sequence < b.sequence));
            prop_assert!(message.versions.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(message.versions[0], message.sequence);
            let end = message.retracted.unwrap_or(u64::MAX);
            for version in message.versions.iter().chain(&message.retracted) {
                prop_assert_eq!(by(*version), message.author);
                prop_assert!(*version <= end);
            }
            for (text, who) in &message.reactions {
                prop_assert!(!who.is_empty());
                for (author, sequence) in who {
                    prop_assert_eq!(by(*sequence), *author);
                    prop_assert_eq!(&of(*sequence).text, text.as_bytes());
                    prop_assert!(*sequence < end);
                }
            }
            for author in authors {
                let standing = message.reactions.values().filter(|who| who.contains_key(author));
                prop_assert!(standing.count() <= MAX_STANDING);
            }
            for act in &message.acts {
                prop_assert!(act.sequence > message.sequence);
                prop_assert!(act.verdict.is_err() || act.sequence <= end);
            }
        }
        seen.sort_unstable();
        let others: Vec<u64> = (1..=talk.last).filter(|n| seen.binary_search(n).is_err()).collect();
        // What is neither is of a kind that says nothing, or that is not known.
        prop_assert!(others.iter().all(|n| matches!(of(*n).kind, 0 | 7)));
        seen.dedup();
        prop_assert_eq!(seen.len() + others.len(), said.len());
    }
}
