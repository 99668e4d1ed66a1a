//! Nothing that a service writes holds what people wrote, in any spelling, nor a key that opens it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use greffe_types::{from_hex, to_hex};
use mail_parser::{MessageParser, MimeHeaders as _};

use crate::mails_and_chat::mails;
use crate::support::{Demonstration, files, sample, sample_file};

/// Shortest pattern; what is shorter would be found by chance.
const SHORTEST: usize = 6;
/// Of a long text, its beginning and its end are looked for.
const LONGEST: usize = 48;

/// What must not be found, and where it comes from.
#[derive(Default)]
pub(crate) struct Needles(BTreeMap<Vec<u8>, String>);

impl Needles {
    pub(crate) fn add(&mut self, what: &str, bytes: &[u8]) {
        let distinct = bytes.iter().collect::<BTreeSet<_>>().len();
        // Rules of dashes and the like are nobody's secret, and found everywhere.
        if bytes.len() < SHORTEST || distinct < 4 {
            return;
        }
        for part in [
            &bytes[..bytes.len().min(LONGEST)],
            &bytes[bytes.len().saturating_sub(LONGEST)..],
        ] {
            self.0
                .entry(part.to_vec())
                .or_insert_with(|| what.to_owned());
        }
    }

    /// A text: as a whole, and each of its lines.
    fn add_text(&mut self, what: &str, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() >= 12 {
                self.add(what, line);
            }
        }
    }

    fn add_mail(&mut self, name: &str, raw: &[u8]) {
        self.add_text(&format!("raw line of {name}"), raw);
        let Some(mail) = MessageParser::default().parse(raw) else {
            return;
        };
        self.add(
            &format!("subject of {name}"),
            mail.subject().unwrap_or_default().as_bytes(),
        );
        let text = mail.body_text(0).unwrap_or_default();
        self.add_text(&format!("text of {name}"), text.as_bytes());
        for part in mail.attachments() {
            let attached = part.attachment_name().unwrap_or_default();
            self.add(&format!("attachment's name of {name}"), attached.as_bytes());
            self.add(&format!("attachment of {name}"), part.contents());
        }
    }
}

/// Every spelling of the needles, found by their first bytes.
pub(crate) struct Search {
    patterns: HashMap<[u8; SHORTEST], Vec<(Vec<u8>, String)>>,
}

impl Search {
    pub(crate) fn new(needles: &Needles) -> Self {
        let mut patterns: HashMap<_, Vec<_>> = HashMap::new();
        for (bytes, what) in &needles.0 {
            for (spelling, pattern) in spellings(bytes) {
                let first = *pattern.first_chunk().unwrap();
                patterns.entry(first).or_default().push((
                    pattern,
                    format!("{what}, {spelling}: {}", bytes.escape_ascii()),
                ));
            }
        }
        Self { patterns }
    }

    /// What bytes hold.
    pub(crate) fn find(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for (at, window) in bytes.windows(SHORTEST).enumerate() {
            let Some(patterns) = self.patterns.get(window) else {
                continue;
            };
            for (pattern, what) in patterns {
                if bytes[at..].starts_with(pattern) {
                    found.insert(what.as_str());
                }
            }
        }
        found
    }

    /// What files hold, with their paths.
    fn find_in(&self, files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        files
            .iter()
            .flat_map(|(path, bytes)| {
                let in_path = self.find(path.as_bytes());
                let found = self.find(bytes).into_iter().chain(in_path);
                found.map(move |what| format!("{path}: {what}"))
            })
            .collect()
    }
}

/// Plain, hexadecimal in both cases, and base64 at each of its three alignments in both alphabets, without the characters
/// that depend on what stands around.
fn spellings(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex = to_hex(bytes);
    let mut spellings = vec![
        ("plain".to_owned(), bytes.to_vec()),
        ("hex".to_owned(), hex.clone().into_bytes()),
        ("HEX".to_owned(), hex.to_uppercase().into_bytes()),
    ];
    for before in 0..3 {
        let padded = [vec![0; before], bytes.to_vec()].concat();
        let whole = padded.len() * 8 / 6;
        for (name, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
            let encoded = engine.encode(&padded).into_bytes();
            let inside = encoded[(before * 8).div_ceil(6)..whole].to_vec();
            spellings.push((format!("{name} at {before}"), inside));
        }
    }
    spellings.retain(|(_, pattern)| pattern.len() >= SHORTEST);
    spellings
}

/// Everything that people wrote in the sample.
pub(crate) fn sample_needles() -> Needles {
    let mut needles = Needles::default();
    for line in sample_file("2026-03-02.log.txt").split(|byte| *byte == b'\n') {
        let text = line
            .windows(2)
            .position(|two| two == b"> ")
            .map(|at| &line[at + 2..])
            .filter(|_| !line.starts_with(b"==="));
        if let Some(text) = text {
            needles.add_text("text", text);
        }
    }
    needles.add("text", b"is looking at the overnight gaps");
    for name in ["limit-change.eml", "limit-change-answer.eml"] {
        needles.add_mail(name, &sample_file(name));
    }
    needles.add("attachment's name", b"message.eml");
    needles
}

/// Keys that open what the production holds, and those of everybody who acts.
fn keys(demo: &Demonstration) -> Needles {
    let mut keys = Needles::default();
    let mut count = 0;
    for folder in [
        demo.production().join("evidence/records"),
        demo.data.join("people"),
    ] {
        for (path, bytes) in files(&folder) {
            if !path.ends_with(".key") || path.starts_with("apps/") {
                continue;
            }
            let text = String::from_utf8_lossy(&bytes);
            count += 1;
            if let Ok(raw) = from_hex::<32>(text.trim()) {
                keys.add(&path, &raw);
            } else if text.starts_with("-----BEGIN") {
                // PKCS #8: what kind of key it is, then the key; behind it stands the public one, which everybody has.
                let line = text.lines().nth(1).unwrap();
                keys.add(&path, &STANDARD_NO_PAD.decode(line).unwrap()[16..48]);
            } else {
                keys.add(&path, &bytes);
            }
        }
    }
    assert!(count >= 15, "{count} keys");
    keys
}

fn check(demo: &Demonstration, needles: &Needles, in_production: usize) {
    let services = files(&demo.data.join("services"));
    for name in [
        "relay/log.txt",
        "relay/relay.db",
        "archive/archive.db",
        "audit/log/checkpoint",
        "escrow-1/escrow.db",
    ] {
        assert!(services.contains_key(name), "{name}");
    }
    let search = Search::new(needles);
    assert_eq!(search.find_in(&services), Vec::<String>::new());
    assert_eq!(
        files(&demo.temporary).keys().collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    // the same search finds what was opened where it belongs
    let found = search.find_in(&files(&demo.production()));
    assert!(found.len() >= in_production, "{} found", found.len());
    // and each needle in each spelling, wherever it stands
    for (bytes, what) in &needles.0 {
        for (spelling, pattern) in spellings(bytes) {
            let canary = [b"\x00 some log line \xff".as_slice(), &pattern, b" more"].concat();
            assert!(!search.find(&canary).is_empty(), "{what}, {spelling}");
        }
        for before in 0..3 {
            let text = [&b"xyz"[..before], bytes, b"rest"].concat();
            let canary = STANDARD_NO_PAD.encode(text);
            assert!(!search.find(canary.as_bytes()).is_empty(), "{what}");
        }
    }

    let keys = keys(demo);
    let search = Search::new(&keys);
    assert_eq!(search.find_in(&services), Vec::<String>::new());
    assert!(!search.find_in(&files(&demo.production())).is_empty());
    assert!(!search.find_in(&files(&demo.data.join("people"))).is_empty());
}

#[test]
fn no_service_of_the_sample_holds_text_name_or_key() {
    let demo = sample();
    check(demo, &sample_needles(), 20);
    // what services may know is found where they keep it: the search does read databases
    let mut known = Needles::default();
    known.add("user", b"camille.renard@banque.example");
    let search = Search::new(&known);
    let found = search.find(&fs::read(demo.data.join("services/relay/relay.db")).unwrap());
    assert!(!found.is_empty());
}

#[test]
fn no_service_of_a_folder_of_mails_holds_text_name_or_key() {
    let mails = mails();
    let mut needles = Needles::default();
    for (name, raw) in &mails.input {
        needles.add_mail(name, raw);
    }
    check(&mails.demo, &needles, 10);
}
