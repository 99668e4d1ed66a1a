//! What a production shows of messages that were edited, retracted and reacted to: all of it, and whose it was.

use ed25519_dalek::SigningKey;
use greffe_envelope::content::Kind;
use greffe_envelope::derive::Seed;
use greffe_envelope::message::Draft;
use greffe_envelope::pb::{self, ContentKind as K};
use greffe_envelope::statement::Signed;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};
use serde_json::Value;

use super::*;
use crate::evidence::Record;

/// Who, in which conversation, what it is and says, and which item it is about, from 1.
type Line<'a> = (&'a str, u8, K, &'a str, usize);

/// Records that nobody archived: their envelopes, contents and places are what is rendered.
#[derive(Default)]
struct Talk {
    records: Vec<Record>,
    digests: Vec<Digest>,
    entries: BTreeMap<u8, Vec<Digest>>,
}

impl Talk {
    fn of(lines: &[Line<'_>]) -> Self {
        let mut talk = Self::default();
        for line in lines {
            talk.say(line);
        }
        talk
    }

    fn say(&mut self, (user, conversation, kind, text, target): &Line<'_>) {
        let number = u8::try_from(self.records.len() + 1).unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let id = ConversationId::new([*conversation; 16]);
        let (device, message) = (DeviceId::new([1; 16]), MessageId::new([number; 16]));
        let certificate = pb::DeviceCert {
            tenant: "acme".into(),
            user: (*user).into(),
            ..Default::default()
        };
        let header = pb::Header {
            tenants: vec!["acme".into()],
            conversation: id.to_vec(),
            message_id: message.to_vec(),
            mode: pb::Mode::Private.into(),
            sender_user: (*user).into(),
            sender_device: device.to_vec(),
            device_cert: vec![1; 32],
            sent_at: u64::from(number) * 1000,
            record_class: "communication".into(),
            policy_digest: vec![2; 32],
            device_counter: 1,
            previous: vec![0; 32],
            seen_head: vec![0; 32],
            ..Default::default()
        };
        let content = pb::Content {
            kind: (*kind).into(),
            text: (*text).into(),
            target: target
                .checked_sub(1)
                .map_or_else(Vec::new, |index| self.digests[index].to_vec()),
            ..Default::default()
        };
        let seed = Seed::from_bytes([number; 32]);
        let draft = Draft::new(&seed, "acme", &id, &message, &device);
        let cek = *draft.cek().as_bytes();
        let sealed = draft.seal(&header, &content, &[], &key).unwrap();
        let digest = sealed.envelope.digest();
        let entries = self.entries.entry(*conversation).or_default();
        entries.push(digest);
        let receipt = pb::Receipt {
            tenant: "acme".into(),
            conversation: id.to_vec(),
            sequence: entries.len() as u64,
            kind: pb::EntryKind::Message.into(),
            entry_digest: digest.to_vec(),
            ..Default::default()
        };
        self.digests.push(digest);
        self.records.push(Record {
            envelope: sealed.envelope.into_raw(),
            certificate: Signed::sign(certificate, &[("issuer", &key)]).into_raw(),
            receipt: Signed::sign(receipt, &[("archive", &key)]).into_raw(),
            ciphertext: sealed.ciphertext,
            key: cek.into(),
            ..Default::default()
        });
    }

    /// The files of a production in which the order opened some of the records, named from 1.
    fn files(&self, opened: impl Fn(usize) -> bool) -> (BTreeMap<String, Vec<u8>>, Version) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let ranges = self.entries.iter().map(|(conversation, digests)| {
            let range = pb::RangeStatement {
                conversation: vec![*conversation; 16],
                first: 1,
                last: digests.len() as u64,
                entries: digests
                    .iter()
                    .map(|digest| pb::RangeEntry {
                        kind: pb::EntryKind::Message.into(),
                        digest: digest.to_vec(),
                    })
                    .collect(),
                ..Default::default()
            };
            Signed::sign(range, &[("archive", &key)]).into_raw()
        });
        let order = Signed::sign(pb::Order::default(), &[("auditor", &key)]).into_raw();
        let production = Production {
            order: pb::ReleasedOrder {
                order: Some(order),
                ..Default::default()
            },
            ranges: ranges.collect(),
            ..Default::default()
        };
        let records = self.records.iter().enumerate();
        let chosen = records.filter(|(index, _)| opened(index + 1));
        let mut records: Vec<Opened> = chosen
            .map(|(_, record)| Opened::new(record).unwrap())
            .collect();
        records.sort_by_key(Opened::place);
        (all(&production, &records).unwrap(), version(&records))
    }
}

fn lines(files: &BTreeMap<String, Vec<u8>>) -> Vec<Value> {
    let text = core::str::from_utf8(&files[layout::MESSAGES]).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'a>(files: &'a BTreeMap<String, Vec<u8>>, path: &str) -> &'a str {
    core::str::from_utf8(&files[path]).unwrap()
}

const EDITED: &[Line<'_>] = &[
    ("alice", 1, K::Text, "The limit is <5>.", 0),
    ("bob", 1, K::Reaction, "👍", 1),
    ("bob", 1, K::Edit, "The limit is 500.", 1),
    ("alice", 1, K::Edit, "The limit is 6.", 1),
    ("bob", 1, K::Text, "Never mind.", 0),
    ("bob", 1, K::Retraction, "", 5),
    ("bob", 1, K::Edit, "I said nothing.", 5),
    // Of another conversation, where nobody can edit what was said here.
    ("alice", 2, K::Edit, "The limit is 7.", 1),
];

#[test]
fn every_version_and_reaction_stands_by_its_message_and_is_a_record_of_its_own() {
    let talk = Talk::of(EDITED);
    let (files, version) = talk.files(|_| true);
    assert_eq!(version, Version::V2);
    assert!(text(&files, layout::FORMAT).contains("version 2"));
    let lines = lines(&files);
    assert_eq!(lines.len(), EDITED.len());
    let first = &lines[0];
    assert_eq!(
        (&first["kind"], &first["text"]),
        (&"text".into(), &"The limit is <5>.".into())
    );
    let history = &first["history"];
    let texts = |field: &str| -> Vec<&str> {
        let list = history[field].as_array().unwrap().iter();
        list.map(|one| one["text"].as_str().unwrap()).collect()
    };
    assert_eq!(texts("versions"), ["The limit is <5>.", "The limit is 6."]);
    assert_eq!(
        texts("acts"),
        ["👍", "The limit is 500.", "The limit is 6."]
    );
    assert_eq!(history["retracted"], Value::Null);
    assert_eq!(history["reactions"][0]["by"][0], "bob");
    let verdicts = |history: &Value| -> Vec<(bool, Value)> {
        let list = history["acts"].as_array().unwrap().iter();
        list.map(|act| {
            (
                act["applied"].as_bool().unwrap(),
                act["not_applied"].clone(),
            )
        })
        .collect()
    };
    assert_eq!(
        verdicts(history),
        [
            (true, Value::Null),
            (false, "NOT_THE_AUTHOR".into()),
            (true, Value::Null)
        ]
    );
    let forged = &lines[2];
    assert_eq!(
        (
            &forged["kind"],
            &forged["target_number"],
            &forged["not_applied"]
        ),
        (&"edit".into(), &1.into(), &"NOT_THE_AUTHOR".into())
    );
    // Taken back, and here word for word.
    let gone = &lines[4];
    assert_eq!(gone["text"], "Never mind.");
    assert_eq!(gone["history"]["retracted"]["number"], 6);
    assert_eq!(
        verdicts(&gone["history"])[1],
        (false, "TARGET_RETRACTED".into())
    );
    assert_eq!(lines[6]["not_applied"], "TARGET_RETRACTED");
    let elsewhere = &lines[7];
    assert_eq!(
        (&elsewhere["not_applied"], &elsewhere["target_number"]),
        (&"TARGET_UNKNOWN".into(), &Value::Null)
    );

    // The page and the mails say the same, and obey nothing of what was said.
    let page = text(&files, layout::INDEX);
    for shown in [
        "edited, 2 versions",
        "<em>retracted</em>",
        "👍 bob",
        "The limit is &lt;5&gt;.",
        "The limit is 6.",
        "edit, no effect: NOT_THE_AUTHOR",
        "edit of a message that is not here, no effect: TARGET_UNKNOWN",
        "Never mind.",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let mail = text(&files, "messages/000001.eml");
    for said in [
        "X-Greffe-History: messages/000002.eml reaction\r\n",
        "X-Greffe-History: messages/000003.eml edit, no effect: NOT_THE_AUTHOR\r\n",
        "X-Greffe-History: messages/000004.eml edit\r\n",
    ] {
        assert!(mail.contains(said), "{said}: {mail}");
    }
    let mail = text(&files, "messages/000004.eml");
    for said in [
        "X-Greffe-Kind: edit\r\n".to_owned(),
        "X-Greffe-Effect: applied\r\n".to_owned(),
        format!("In-Reply-To: <{}@greffe.invalid>\r\n", talk.digests[0]),
    ] {
        assert!(mail.contains(&said), "{said}: {mail}");
    }
}

#[test]
fn what_the_order_left_out_is_said() {
    let talk = Talk::of(EDITED);
    // The edits without the message: whose it was, nobody can tell from here.
    let (files, version) = talk.files(|number| number == 3 || number == 4);
    assert_eq!(version, Version::V2);
    for line in lines(&files) {
        assert_eq!(line["not_applied"], "TARGET_NOT_HERE", "{line}");
        assert_eq!(line["target_number"], Value::Null);
        assert_eq!(line["target"], talk.digests[0].to_string().as_str());
    }
}

#[test]
fn what_version_1_can_show_is_of_version_1_byte_for_byte() {
    let talk = Talk::of(&[
        ("alice", 1, K::Text, "The limit is 5.", 0),
        ("bob", 1, K::Mail, "Noted.", 0),
    ]);
    let (files, version) = talk.files(|_| true);
    assert_eq!(version, Version::V1);
    assert!(text(&files, layout::FORMAT).contains("version 1"));
    for name in [
        "kind_number",
        "content_base64",
        "target",
        "applied",
        "history",
    ] {
        assert!(lines(&files).iter().all(|line| line.get(name).is_none()));
    }
    // As written before there was a version 2.
    let envelope = talk.digests[1];
    let line = text(&files, layout::MESSAGES).lines().nth(1).unwrap();
    let device = "01".repeat(16);
    assert_eq!(
        line,
        format!(
            "{{\"number\":2,\"envelope\":\"{envelope}\",\"conversation\":\"{}\",\"sequence\":2,\"mode\":\"private\",\
             \"record_class\":\"communication\",\"classification\":\"\",\"sender\":\"bob\",\"sender_device\":\"{device}\",\
             \"unknown_sender\":false,\"sent_at\":\"1970-01-01T00:00:02.000Z\",\"archived_at\":\"1970-01-01T00:00:00.000Z\",\
             \"retain_until\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"mail\",\"subject\":\"\",\"text\":\"Noted.\",\
             \"text_base64\":null,\"reply_to\":null,\"attachments\":[],\"eml\":\"messages/000002.eml\"}}",
            "01".repeat(16)
        )
    );
}

#[test]
fn a_kind_that_is_not_known_is_shown_with_all_of_its_bytes() {
    let mut talk = Talk::of(&[("alice", 1, K::Text, "The limit is 5.", 0)]);
    let opened = Opened::new(&talk.records[0]).unwrap();
    // Sealed by hand, since no client of this version makes it: kind 99, a text, and a field that is not known.
    let bytes = [8, 99, 18, 2, b'h', b'i', 122, 1, b'?'];
    let seed = Seed::from_bytes([1; 32]);
    let header = opened.envelope.header();
    let core = greffe_envelope::derive::core(
        "acme",
        &header.conversation(),
        &header.message_id(),
        &header.device(),
    );
    let keys = greffe_envelope::derive::SeedKeys::new(&seed, &core);
    let (key, commitment) = keys.cek().content(&header.digest());
    let padded = greffe_envelope::padding::pad(&bytes);
    let ciphertext = greffe_envelope::stream::seal_all(&key, &padded).unwrap();
    let body = pb::EnvelopeBody {
        ciphertext_digest: crate::manifest::sha256(&ciphertext).to_vec(),
        ciphertext_size: ciphertext.len() as u64,
        commitment: commitment.to_vec(),
        ..opened.envelope.body().clone()
    };
    let signer = SigningKey::from_bytes(&[7; 32]);
    let envelope = greffe_envelope::envelope::Envelope::sign(&body, &signer).unwrap();
    let receipt = pb::Receipt {
        entry_digest: envelope.digest().to_vec(),
        ..opened.receipt.message().clone()
    };
    talk.records[0].receipt = Signed::sign(receipt, &[("archive", &signer)]).into_raw();
    talk.records[0].envelope = envelope.into_raw();
    talk.records[0].ciphertext = ciphertext;
    let opened = Opened::new(&talk.records[0]).unwrap();
    assert_eq!(opened.kind(), Kind::Unknown(99));
    let (files, version) = talk.files(|_| true);
    assert_eq!(version, Version::V2);
    let line = &lines(&files)[0];
    assert_eq!(
        (&line["kind"], &line["kind_number"], &line["text"]),
        (&"unknown".into(), &99.into(), &"hi".into())
    );
    assert_eq!(line["content_base64"], "CGMSAmhpegE/");
    assert!(text(&files, layout::INDEX).contains("of kind 99, which this version does not know"));
    assert!(text(&files, "messages/000001.eml").contains("X-Greffe-Kind: unknown 99\r\n"));
}
