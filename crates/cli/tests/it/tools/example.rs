//! The Python example for real: what it prints, what it does when a page, a query, a certificate or a person is wrong, and that
//! it asks again when the archive cannot be reached.

use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::Value;

use super::{World, root};
use crate::support::Ran;

/// What the example is told, with what a test changes.
struct Search<'a> {
    world: &'a World,
    address: String,
    person: &'static str,
    key: PathBuf,
    app: PathBuf,
    ca: PathBuf,
    server_name: &'static str,
    tenant: &'static str,
}

impl<'a> Search<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            address: world.address("archive"),
            person: "auditor",
            key: world.data.join("people/auditor/signing.key"),
            app: world.app(""),
            ca: world.app("ca.crt"),
            server_name: "archive",
            tenant: "demo",
        }
    }

    fn run(&self, more: &[&str]) -> Ran {
        let mut python = self.world.python();
        python.arg(root().join("deploy/examples/python/search_archive.py"));
        python.args([
            "--address",
            &self.address,
            "--server-name",
            self.server_name,
        ]);
        python.args(["--tenant", self.tenant, "--person", self.person]);
        for (name, path) in [
            ("--ca", &self.ca),
            ("--cert", &self.app.join("tls.crt")),
            ("--key", &self.app.join("tls.key")),
            ("--person-key", &self.key),
        ] {
            python.arg(name).arg(path);
        }
        Ran::of(python.args(more).output().unwrap())
    }
}

fn records(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(super) fn it_pages_through_what_an_auditor_may_see(world: &World) {
    let search = Search::new(world);
    let all = records(&search.run(&["--json", "--page-size", "3"]));
    assert!(all.len() > 6, "{all:?}");
    // Page after page gives what one page gives.
    assert_eq!(
        records(&search.run(&["--json", "--page-size", "1000"])),
        all
    );
    let numbers: Vec<u64> = all.iter().map(|r| r["record"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    // One page, and on from its token.
    let first = search.run(&["--json", "--page-size", "3", "--pages", "1"]);
    let token = first
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("more: --page-token "));
    let token = token.unwrap_or_else(|| panic!("{first:?}"));
    assert_eq!(records(&first), all[..3]);
    let rest = search.run(&["--json", "--page-size", "3", "--page-token", token]);
    assert_eq!(records(&rest), all[3..]);

    // A filter, in the form for people.
    let sender = all
        .iter()
        .find_map(|r| r["sender"].as_str().filter(|s| !s.is_empty()));
    let sender = sender.unwrap();
    let sent = search.run(&["--sender", sender]);
    let wanted = all.iter().filter(|r| r["sender"] == *sender).count();
    assert_eq!(sent.stdout.lines().count(), wanted, "{sent:?}");
    assert!(
        sent.stdout.lines().all(|line| line.contains(sender)),
        "{sent:?}"
    );
    assert_eq!(search.run(&["--until", "1999-01-01"]).stdout, "");

    // A token continues its own query only.
    refused(
        &search.run(&["--sender", sender, "--page-token", token]),
        "PAGE_TOKEN_INVALID",
    );
    refused(
        &search.run(&["--page-token", "no-token"]),
        "PAGE_TOKEN_INVALID",
    );
}

#[track_caller]
fn refused(ran: &Ran, reason: &str) {
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with(&format!("search_archive: {reason}: ")),
        "{ran:?}"
    );
    // Not asked again: it would not pass.
    assert!(!ran.stderr.contains("attempt"), "{ran:?}");
}

pub(super) fn it_says_what_was_refused_and_why(world: &World) {
    let mut search = Search::new(world);
    let size = search.run(&["--page-size", "1001"]);
    refused(&size, "FIELD_INVALID");
    assert!(size.stderr.contains("field=page_size"), "{size:?}");
    refused(&search.run(&["--conversation", "00ff"]), "FIELD_INVALID");

    search.tenant = "other";
    refused(&search.run(&[]), "TOKEN_REFUSED");
    search.tenant = "demo";
    // A person without the role, and a person with somebody else's key.
    search.person = "reader";
    refused(&search.run(&[]), "TOKEN_REFUSED");
    search.key = world.data.join("people/reader/signing.key");
    refused(&search.run(&[]), "CALLER_NOT_ALLOWED");
    // A service may not search, whatever token it holds.
    let mut service = Search::new(world);
    service.app = world.data.join("services/relay");
    refused(&service.run(&[]), "CALLER_NOT_A_PERSON");
    assert_eq!(service.run(&["--from", "yesterday"]).code, 2);
}

pub(super) fn it_does_not_talk_to_strangers(world: &World) {
    let unreachable = |search: &Search<'_>| {
        let ran = search.run(&["--attempts", "1"]);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        // gRPC itself may say something before.
        let last = ran.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("search_archive: UNAVAILABLE: "), "{ran:?}");
    };
    // A server of another name, and another authority's.
    let mut search = Search::new(world);
    search.server_name = "archive.example";
    unreachable(&search);
    let mut search = Search::new(world);
    let strangers = tempfile::tempdir().unwrap();
    certificate(strangers.path());
    search.ca = strangers.path().join("tls.crt");
    unreachable(&search);
    // A client's certificate of another authority, which the archive refuses.
    let mut search = Search::new(world);
    search.app = strangers.path().to_owned();
    unreachable(&search);
}

/// A certificate that signs itself.
fn certificate(folder: &Path) {
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=archive",
            "-addext",
            "subjectAltName=URI:spiffe://demo/app/greffe,DNS:archive",
        ])
        .args(["-days", "2", "-keyout"])
        .arg(folder.join("tls.key"))
        .arg("-out")
        .arg(folder.join("tls.crt"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

pub(super) fn it_asks_again_when_the_archive_cannot_be_reached(world: &World) {
    let archive = world.address("archive");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut search = Search::new(world);
    search.address = listener.local_addr().unwrap().to_string();
    // Two connections break off; the next leads to the archive.
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            if number < 2 {
                continue;
            }
            let server = TcpStream::connect(&archive).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || copy(&mut from, &mut to));
            }
        }
    });
    let ran = search.run(&["--json"]);
    assert!(records(&ran).len() > 6, "{ran:?}");
    assert!(
        ran.stderr.contains("attempt 1 of 5: UNAVAILABLE: "),
        "{ran:?}"
    );
}
