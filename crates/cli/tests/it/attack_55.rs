//! A production that was changed in any way fails, and what was changed is named: by anybody, and by its own reader.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::RootKey;
use greffe_production::Report;
use greffe_types::{TenantId, from_hex, to_hex};
use prost::Message as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::support::{files, sample, verify, write_all};

type Files = BTreeMap<String, Vec<u8>>;

/// A copy of the sample's production that is changed and put right again.
struct Copy {
    folder: tempfile::TempDir,
    files: Files,
    root: RootKey,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&sample().production());
        write_all(folder.path(), &files);
        let root = RootKey::parse(&fs::read_to_string(sample().root()).unwrap()).unwrap();
        Self {
            folder,
            files,
            root,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn verify(&self) -> Report {
        greffe_production::verify(self.path(), &self.root)
    }

    /// Puts other files in the place of some, verifies, and puts them right.
    fn with(&self, changed: &Files) -> Report {
        for (path, bytes) in changed {
            fs::write(self.path().join(path), bytes).unwrap();
        }
        let report = self.verify();
        for path in changed.keys() {
            match self.files.get(path) {
                Some(bytes) => fs::write(self.path().join(path), bytes).unwrap(),
                None => fs::remove_file(self.path().join(path)).unwrap(),
            }
        }
        report
    }

    /// Makes manifest and statement anew over changed files, signed by a key.
    fn remade(&self, changed: Files, key: &SigningKey) -> Files {
        let mut all = self.files.clone();
        all.extend(changed.clone());
        let manifest = manifest(&all);
        let mut changed = changed;
        changed.insert("production.pb".to_owned(), self.signed(&manifest, key));
        changed.insert("manifest.json".to_owned(), manifest);
        changed
    }

    /// The reader's statement with another manifest, signed by a key.
    fn signed(&self, manifest: &[u8], key: &SigningKey) -> Vec<u8> {
        sign(
            pb::ProductionStatement {
                manifest: Sha256::digest(manifest).to_vec(),
                ..self.statement()
            },
            key,
        )
    }

    fn statement(&self) -> pb::ProductionStatement {
        let signed = Signed::<pb::ProductionStatement>::decode_bytes(&self.files["production.pb"]);
        signed.unwrap().message().clone()
    }
}

fn sign(statement: pb::ProductionStatement, key: &SigningKey) -> Vec<u8> {
    let reader = statement.reader.clone();
    Signed::sign(statement, &[(reader.as_str(), key)])
        .raw()
        .encode_to_vec()
}

/// The manifest's one spelling.
fn manifest(files: &Files) -> Vec<u8> {
    #[derive(Serialize)]
    struct Manifest<'a> {
        format: &'a str,
        files: BTreeMap<&'a str, File>,
    }
    #[derive(Serialize)]
    struct File {
        size: usize,
        sha256: String,
    }
    let files = files
        .iter()
        .filter(|(path, _)| !["manifest.json", "production.pb"].contains(&path.as_str()))
        .map(|(path, bytes)| {
            let sha256 = to_hex(&Sha256::digest(bytes));
            let size = bytes.len();
            (path.as_str(), File { size, sha256 })
        })
        .collect();
    let format = "greffe-production-v1";
    let mut bytes = serde_json::to_vec_pretty(&Manifest { format, files }).unwrap();
    bytes.push(b'\n');
    bytes
}

fn readers_key() -> SigningKey {
    let text = fs::read_to_string(sample().data.join("people/reader/signing.key")).unwrap();
    SigningKey::from_bytes(&from_hex::<32>(text.trim()).unwrap())
}

/// Names under which a report may speak of a file: itself, or the record it is evidence of.
fn named(report: &Report, path: &str) -> bool {
    let record = path
        .split('/')
        .find_map(|part| part.get(..6)?.parse::<usize>().ok())
        .filter(|_| !path.starts_with("evidence/bundles"))
        .map(|number| format!("record {number}"));
    report
        .findings
        .iter()
        .any(|finding| finding.item == path || Some(&finding.item) == record.as_ref())
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn attack_55_a_flipped_byte_of_any_file_is_named() {
    let copy = Copy::new();
    assert!(copy.verify().holds(), "{:?}", copy.verify());
    for (path, bytes) in &copy.files {
        let places = [0, bytes.len() / 2, bytes.len().saturating_sub(1)];
        for at in places.into_iter().filter(|at| *at < bytes.len()) {
            let changed = Files::from([(path.clone(), flipped(bytes, at))]);
            let report = copy.with(&changed);
            assert!(named(&report, path), "byte {at} of {path}: {report:?}");
        }
        for other in [
            [bytes.as_slice(), b"\n"].concat(),
            bytes[..bytes.len().saturating_sub(1)].to_vec(),
        ] {
            if other != *bytes {
                let report = copy.with(&Files::from([(path.clone(), other)]));
                assert!(named(&report, path), "longer or shorter {path}: {report:?}");
            }
        }
    }
    assert!(copy.verify().holds());
}

#[test]
fn attack_55_a_removed_or_renamed_or_added_file_is_named() {
    let copy = Copy::new();
    for (path, bytes) in &copy.files {
        let file = copy.path().join(path);
        fs::remove_file(&file).unwrap();
        let report = copy.verify();
        assert!(named(&report, path), "without {path}: {report:?}");
        let renamed = format!("{path}.bak");
        fs::write(copy.path().join(&renamed), bytes).unwrap();
        let report = copy.verify();
        assert!(
            named(&report, path) && report.findings.iter().any(|f| f.item == renamed),
            "{path} renamed: {report:?}"
        );
        fs::remove_file(copy.path().join(&renamed)).unwrap();
        fs::write(&file, bytes).unwrap();
    }
    for added in [
        "note.txt",
        ".hidden",
        "evidence/records/000001/extra.pb",
        "evidence/bundles/000009.pb",
        "messages/999999.eml",
        "attachments/000001/99-more.bin",
    ] {
        let path = copy.path().join(added);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"more").unwrap();
        let report = copy.verify();
        assert!(
            report.findings.iter().any(|f| f.item == added),
            "{added}: {report:?}"
        );
        fs::remove_file(&path).unwrap();
        if fs::read_dir(path.parent().unwrap())
            .unwrap()
            .next()
            .is_none()
        {
            fs::remove_dir(path.parent().unwrap()).unwrap();
        }
    }
    // a link to the same bytes is not the file, and an empty folder is not nothing
    let (first, bytes) = copy.files.first_key_value().unwrap();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), bytes).unwrap();
    fs::remove_file(copy.path().join(first)).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), copy.path().join(first)).unwrap();
    assert!(named(&copy.verify(), first));
    fs::remove_file(copy.path().join(first)).unwrap();
    fs::write(copy.path().join(first), bytes).unwrap();
    fs::create_dir(copy.path().join("evidence/empty")).unwrap();
    assert!(named(&copy.verify(), "evidence/empty"));
    fs::remove_dir(copy.path().join("evidence/empty")).unwrap();
    assert!(copy.verify().holds());
}

#[test]
fn attack_55_swapped_and_reordered_parts_are_named() {
    let copy = Copy::new();
    let swap = |pairs: &[(String, String)]| -> Files {
        pairs
            .iter()
            .flat_map(|(a, b)| {
                [
                    (a.clone(), copy.files[b].clone()),
                    (b.clone(), copy.files[a].clone()),
                ]
            })
            .collect()
    };
    let message = |n: usize| format!("messages/{n:06}.eml");
    let report = copy.with(&swap(&[(message(1), message(2))]));
    assert!(
        named(&report, &message(1)) && named(&report, &message(2)),
        "{report:?}"
    );

    // two records of one conversation: those of the chat, which have no attachments
    let attached = |n: usize| {
        let prefix = format!("attachments/{n:06}/");
        copy.files.keys().any(|path| path.starts_with(&prefix))
    };
    let plain: Vec<String> = (1..10)
        .filter(|n| !attached(*n))
        .map(|n| format!("evidence/records/{n:06}/"))
        .collect();
    let evidence: Vec<(String, String)> = copy
        .files
        .keys()
        .filter_map(|path| path.strip_prefix(&plain[0]))
        .map(|file| (format!("{}{file}", plain[0]), format!("{}{file}", plain[1])))
        .collect();
    assert_eq!(evidence.len(), 8);
    let swapped = swap(&evidence);
    let report = copy.with(&swapped);
    assert!(named(&report, &evidence[0].0), "{report:?}");
    for key in [readers_key(), SigningKey::from_bytes(&[7; 32])] {
        // the reader may sign whatever they like: the order of the evidence follows from the evidence
        let report = copy.with(&copy.remade(swapped.clone(), &key));
        assert!(
            report.findings.iter().any(|f| f.item == "evidence/records"),
            "{report:?}"
        );
    }
    for pair in &evidence {
        // one part alone: it fits neither record
        let report = copy.with(&copy.remade(swap(core::slice::from_ref(pair)), &readers_key()));
        let same = copy.files[&pair.0] == copy.files[&pair.1];
        assert!(
            same || named(&report, &pair.0) || named(&report, &pair.1),
            "{pair:?}: {report:?}"
        );
    }

    let lines = String::from_utf8(copy.files["messages.jsonl"].clone()).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.reverse();
    let reordered = Files::from([(
        "messages.jsonl".to_owned(),
        (lines.join("\n") + "\n").into_bytes(),
    )]);
    let report = copy.with(&copy.remade(reordered, &readers_key()));
    assert!(named(&report, "messages.jsonl"), "{report:?}");
    assert!(copy.verify().holds());
}

#[test]
fn attack_55_a_manifest_made_anew_does_not_help() {
    let copy = Copy::new();
    let stranger = SigningKey::from_bytes(&[7; 32]);
    // nothing changed, and still: a stranger's signature is not the reader's, the reader's is
    let report = copy.with(&copy.remade(Files::new(), &stranger));
    assert!(named(&report, "production.pb"), "{report:?}");
    let report = copy.with(&copy.remade(Files::new(), &readers_key()));
    assert!(report.holds(), "{report:?}");

    for (path, bytes) in &copy.files {
        if ["manifest.json", "production.pb"].contains(&path.as_str()) || bytes.is_empty() {
            continue;
        }
        let changed = Files::from([(path.clone(), flipped(bytes, bytes.len() / 2))]);
        // the reader: everything that they did not make themselves is signed by others or follows from it
        let remade = copy.remade(changed.clone(), &readers_key());
        let report = copy.with(&remade);
        assert!(!report.holds(), "{path} changed by the reader");
        if !path.starts_with("evidence/") || path.starts_with("evidence/records/") {
            assert!(named(&report, path), "{path}: {report:?}");
        }
        // anybody else, with the old statement
        let mut without = remade;
        without.remove("production.pb");
        let report = copy.with(&without);
        // without a bundle nobody knows the reader's key: then the bundle is what is named
        let item = if path.starts_with("evidence/bundles/") {
            path
        } else {
            "manifest.json"
        };
        assert!(named(&report, item), "{path}: {report:?}");
    }
    assert!(copy.verify().holds());
}

#[test]
fn attack_55_a_statement_about_something_else_is_named() {
    let copy = Copy::new();
    let right = copy.statement();
    let other = |change: &dyn Fn(&mut pb::ProductionStatement)| {
        let mut statement = right.clone();
        change(&mut statement);
        let bytes = sign(statement, &readers_key());
        let report = copy.with(&Files::from([("production.pb".to_owned(), bytes)]));
        assert!(named(&report, "production.pb"), "{report:?}");
    };
    other(&|s| s.order[0] ^= 1);
    other(&|s| s.records += 1);
    other(&|s| "other".clone_into(&mut s.tenant));
    other(&|s| "auditor".clone_into(&mut s.reader));
    other(&|s| "nobody".clone_into(&mut s.reader));
    assert!(copy.verify().holds());
}

#[test]
fn attack_55_evidence_taken_away_by_the_reader_is_missed() {
    let copy = Copy::new();
    let key = readers_key();
    let fails = |path: &str, bytes: Vec<u8>| {
        let report = copy.with(&copy.remade(Files::from([(path.to_owned(), bytes)]), &key));
        assert!(named(&report, path), "{path}: {report:?}");
    };
    // cosignatures: with one less, and with less than the quorum
    let checkpoint = String::from_utf8(copy.files["evidence/checkpoint.txt"].clone()).unwrap();
    let lines: Vec<&str> = checkpoint.lines().collect();
    let signatures = lines.iter().filter(|line| line.starts_with('—')).count();
    for left in 1..signatures {
        let kept = lines[..lines.len() - signatures + left].join("\n") + "\n";
        let report = copy.with(&copy.remade(
            Files::from([("evidence/checkpoint.txt".to_owned(), kept.into_bytes())]),
            &key,
        ));
        let quorum = left > 2;
        let item = if quorum {
            "custody.json"
        } else {
            "evidence/checkpoint.txt"
        };
        assert!(named(&report, item), "{left} signatures: {report:?}");
    }
    // approvals
    let order = pb::ReleasedOrder::decode(copy.files["evidence/order.pb"].as_slice()).unwrap();
    assert_eq!(order.approvals.len(), 2);
    for left in [0, 1] {
        let mut less = order.clone();
        less.approvals.remove(left);
        let report = copy.with(&copy.remade(
            Files::from([("evidence/order.pb".to_owned(), less.encode_to_vec())]),
            &key,
        ));
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.item.starts_with("evidence/order")),
            "{report:?}"
        );
    }
    // an empty file in the place of each part
    for path in copy.files.keys().filter(|path| {
        path.starts_with("evidence/bundles/") || path.starts_with("evidence/ranges/")
    }) {
        fails(path, Vec::new());
    }
    // no bundle, no disclosure, no range, no record at all
    for prefix in [
        "evidence/bundles/",
        "evidence/disclosures/",
        "evidence/ranges/",
        "evidence/records/000001/",
    ] {
        let mut left = copy.files.clone();
        left.retain(|path, _| !path.starts_with(prefix));
        let manifest = manifest(&left);
        left.insert("production.pb".to_owned(), copy.signed(&manifest, &key));
        left.insert("manifest.json".to_owned(), manifest);
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &left);
        let report = greffe_production::verify(folder.path(), &copy.root);
        assert!(!report.holds(), "without {prefix}");
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.item.starts_with("evidence/") || f.item.starts_with("record ")),
            "{report:?}"
        );
    }
}

#[test]
fn attack_55_another_root_fails_every_production() {
    let copy = Copy::new();
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
    for tenant in ["demo", "other"] {
        let root = RootKey::new(TenantId::new(tenant).unwrap(), stranger.as_bytes()).unwrap();
        let report = greffe_production::verify(copy.path(), &root);
        assert!(named(&report, "evidence/bundles/000001.pb"), "{report:?}");
    }
    let renamed = RootKey::new(TenantId::new("other").unwrap(), copy.root.as_bytes()).unwrap();
    assert!(!greffe_production::verify(copy.path(), &renamed).holds());
}

#[test]
fn attack_55_the_command_says_so() {
    let copy = Copy::new();
    let root = sample().root();
    assert_eq!(verify(copy.path(), &root).code, 0);
    let item = "messages/000002.eml";
    fs::write(
        copy.path().join(item),
        flipped(&copy.files[item], copy.files[item].len() / 2),
    )
    .unwrap();
    let ran = verify(copy.path(), &root);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stdout.contains(&format!("{item}: ")), "{ran:?}");
    assert!(ran.stderr.starts_with("greffe: PRODUCTION_INVALID: ") && ran.stderr.contains(item));
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");

    fs::remove_file(copy.path().join(item)).unwrap();
    assert_eq!(verify(copy.path(), &root).code, 4);
    let other = copy.path().with_extension("root");
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let stranger = RootKey::new(TenantId::new("demo").unwrap(), stranger.as_bytes()).unwrap();
    fs::write(&other, format!("{stranger}\n")).unwrap();
    let ran = verify(&sample().production(), &other);
    fs::remove_file(&other).unwrap();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stdout.contains("evidence/bundles/000001.pb"), "{ran:?}");
}
