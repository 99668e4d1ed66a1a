//! Mails and chat as they come: nothing is dropped silently, and what was archived is the input byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use greffe_api::archive::RecordQuery;
use greffe_client::OrderRequest;
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::Digest;

use crate::support::{App, Demonstration, Up, write_all};

/// A folder of mails that was played.
pub(crate) struct Mails {
    pub(crate) demo: Demonstration,
    pub(crate) input: BTreeMap<String, Vec<u8>>,
}

/// Real input that may lie beside the workspace.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    path.is_dir().then_some(path)
}

#[allow(
    clippy::print_stderr,
    reason = "a tester wants to know what was tested"
)]
fn say(what: &str, shared: bool) {
    let from = if shared { "the corpus" } else { "written here" };
    eprintln!("{what}: {from}");
}

/// A folder of mails, played once: the corpus where it is, otherwise mails of the same kinds.
pub(crate) fn mails() -> &'static Mails {
    static MAILS: OnceLock<Mails> = OnceLock::new();
    MAILS.get_or_init(|| {
        let corpus = shared("eml");
        say("mails", corpus.is_some());
        let input = match corpus {
            Some(folder) => mails_in(&folder),
            None => written(),
        };
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &input);
        fs::write(folder.path().join("LICENSE"), b"not a mail").unwrap();
        Mails {
            demo: Demonstration::run("mails", Some(folder.path())),
            input,
        }
    })
}

fn mails_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "eml"))
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn written() -> BTreeMap<String, Vec<u8>> {
    let mails: [(&str, &[u8]); 7] = [
        ("thread-1.eml", b"From: Ann <ann@desk.example>\r\nMessage-ID: <t1@desk>\r\nSubject: The quarterly figures\r\n\r\nPlease read the figures before noon.\r\nTrailing spaces   \r\n"),
        ("thread-2.eml", b"From: bob@desk.example\r\nMessage-ID: <t2@desk>\r\nIn-Reply-To: <t1@desk>\r\nSubject: Re: The quarterly figures\r\n\r\nI have read them twice already.\r\n"),
        ("latin1.eml", b"From: =?iso-8859-1?q?Andr=E9?= <andre@desk.example>\nSubject: =?iso-8859-1?q?R=E9sum=E9_du_mois?=\nContent-Type: text/plain; charset=iso-8859-1\n\nVoil\xe0 le r\xe9sum\xe9 que vous avez demand\xe9.\n"),
        ("nested.eml", b"From: ann@desk.example\r\nSubject: Forwarded as it was\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nThe whole thread is attached below.\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nFrom: eve@desk.example\r\nSubject: inside\r\n\r\nThe inner message of the forwarded mail.\r\n--x\r\nContent-Type: application/octet-stream; name=\"positions-march.bin\"\r\nContent-Disposition: attachment; filename=\"positions-march.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQFBgcICQoLDA0ODw==\r\n--x--\r\n"),
        ("no-sender.eml", b"Subject: Nobody signed this one\r\n\r\nA mail without any sender at all.\r\n"),
        ("garbage.eml", b"\x00\x01\xff\xfe no header, no end of line \x80\x81"),
        ("empty.eml", b" \r\n\r\n"),
    ];
    mails
        .map(|(name, raw)| (name.to_owned(), raw.to_vec()))
        .into()
}

/// Items that were refused, each with a reason.
fn refused(demo: &Demonstration) -> BTreeSet<String> {
    let refusals = demo.summary["refusals"].as_array().unwrap();
    let refused: BTreeSet<String> = refusals
        .iter()
        .map(|refusal| {
            let reason = refusal["reason"].as_str().unwrap();
            assert!(
                !reason.is_empty() && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{refusal}"
            );
            refusal["item"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(refused.len(), refusals.len());
    assert_eq!(refused.len() as u64, demo.number("refused"));
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mail_is_archived_as_it_came_or_refused_with_a_reason() {
    let Mails { demo, input } = mails();
    let refused = refused(demo);
    let sent = demo.number("messages_sent");
    assert_eq!(sent + refused.len() as u64, input.len() as u64);
    assert_eq!(demo.number("messages_archived"), sent);
    assert!(refused.iter().all(|item| input.contains_key(item)));

    // the kept folder starts again, and an order over everything gives back every raw mail
    let up = Up::start(&demo.data);
    let app = App::open(&demo.data).await;
    let auditor = app.person("auditor");
    let found = auditor.search_all(&RecordQuery::default()).await.unwrap();
    let messages: Vec<Digest> = found
        .iter()
        .filter(|record| record.kind() == pb::EntryKind::Message)
        .map(|record| Digest::try_from(record.digest.as_slice()).unwrap())
        .collect();
    assert_eq!(messages.len() as u64, sent);
    let matter = auditor.create_matter("Everything").await.unwrap();
    let now = SystemClock.now();
    let mut raw = Vec::new();
    // fewer than the packs call many
    for records in messages.chunks(45) {
        let order = auditor
            .request_order(OrderRequest {
                matter,
                purpose: "every mail".to_owned(),
                records: records.to_vec(),
                reader: "reader".to_owned(),
                not_before: now.minus(Duration::from_secs(1)),
                expiry: now.plus(Duration::from_secs(600)),
                seal_until: None,
            })
            .await
            .unwrap();
        for approver in ["principal", "compliance"] {
            app.person(approver).approve_order(&order.id).await.unwrap();
        }
        let mut opening = app.person("reader").open_order(&order.id).await.unwrap();
        for record in opening.all().await.unwrap() {
            let record = record.unwrap();
            let mut bytes = Vec::new();
            opening.attachment(&record, 0, &mut bytes).await.unwrap();
            raw.push(bytes);
        }
    }
    up.stop();
    let mut expected: Vec<Vec<u8>> = input
        .iter()
        .filter(|(name, _)| !refused.contains(*name))
        .map(|(_, raw)| raw.clone())
        .collect();
    raw.sort();
    expected.sort();
    assert!(raw == expected, "the archive gives back other mails");
}

#[test]
fn a_day_of_chat_reaches_everybody_who_has_spoken() {
    const LINES: usize = 150;
    let corpus = shared("irc-ubuntu").map(|folder| {
        let days = fs::read_dir(folder).unwrap().map(|day| day.unwrap().path());
        let days = days.filter(|path| path.to_string_lossy().ends_with(".log.txt"));
        days.min_by_key(|path| fs::metadata(path).unwrap().len())
            .unwrap()
    });
    say("chat", corpus.is_some());
    let (name, log) = match corpus {
        Some(day) => (
            day.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read(day).unwrap(),
        ),
        None => {
            let mut log = b"=== ann [a@b] has joined #desk\n".to_vec();
            for n in 0..LINES {
                let nick = ["ann", "bob", "eve", "o'neil", "[w]"][n * n % 7 % 5];
                log.extend(format!("[09:{:02}] <{nick}> ", n % 60).bytes());
                log.extend(
                    [
                        b"line \xe9\xff ".as_slice(),
                        n.to_string().as_bytes(),
                        b"  \n",
                    ]
                    .concat(),
                );
            }
            log.extend(b"[10:00] <ann> \n[10:00] <bob>\n");
            ("2026-03-04.log.txt".to_owned(), log)
        }
    };
    let lines: Vec<&[u8]> = log
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"===") || line.get(8) == Some(&b'<'))
        .take(LINES)
        .collect();
    let (mut members, mut sent, mut delivered) = (BTreeSet::new(), 0, 0);
    for line in lines.iter().filter(|line| !line.starts_with(b"===")) {
        let end = line.iter().position(|byte| *byte == b'>').unwrap();
        members.insert(&line[9..end]);
        sent += 1;
        delivered += members.len() as u64 - 1;
    }
    assert!(sent >= 50 && members.len() >= 4);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join(name);
    let mut log = lines.join(&b'\n');
    log.push(b'\n');
    fs::write(&input, log).unwrap();
    let demo = Demonstration::run("chat", Some(&input));
    assert_eq!(refused(&demo), BTreeSet::new());
    for (field, expected) in [
        ("users", members.len() as u64),
        ("conversations", 1),
        ("messages_sent", sent),
        ("messages_archived", sent),
        ("messages_delivered", delivered),
        ("wraps_recomputed", delivered),
        ("receipts_verified", sent + delivered),
    ] {
        assert_eq!(demo.number(field), expected, "{field}");
    }
}
