//! A production install, made by the runbook as it is written: from keys to a record that was opened, produced and verified.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use serde_json::Value;

use crate::support::{Ran, files, pid, run, verify};

/// Longest that the install may take.
const PATIENCE: Duration = Duration::from_secs(240);
const SERVICES: [&str; 6] = [
    "audit", "escrow-1", "escrow-2", "escrow-3", "archive", "relay",
];

/// The `sh` blocks of a runbook, those of one section if it is named: what is run of it.
fn blocks(runbook: &str, section: Option<&str>) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/runbooks");
    let text = fs::read_to_string(path.join(runbook)).unwrap();
    let text = match section {
        Some(title) => {
            let rest = text.split_once(&format!("\n## {title}")).unwrap().1;
            rest.split_once("\n## ").map_or(rest, |(it, _)| it)
        }
        None => &text,
    };
    let (mut blocks, mut indent) = (Vec::new(), None);
    for line in text.lines() {
        let bare = line.trim_start();
        match indent {
            None if bare == "```sh" => {
                indent = Some(line.len() - bare.len());
                blocks.push(String::new());
            }
            None => {}
            Some(_) if bare == "```" => indent = None,
            Some(indent) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
            }
        }
    }
    assert!(blocks.len() > 3, "{runbook} has nothing to run");
    blocks
}

fn bash(folder: &Path, script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_greffe")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-c", script]).current_dir(folder);
    bash.env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8");
    bash
}

/// A production install whose services run; dropping it kills them.
struct Install {
    folder: PathBuf,
    running: Child,
    _place: tempfile::TempDir,
}

impl Drop for Install {
    fn drop(&mut self) {
        // Only that all of them have ended can make this fail.
        let _ = killpg(pid(self.running.id()), Signal::SIGKILL);
        let _ = self.running.wait();
    }
}

impl Install {
    fn make() -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().to_owned();
        let script = blocks("install.md", Some("Production")).concat()
            + "echo \"$conversation\" > installed.new; mv installed.new installed; sleep infinity\n";
        let said = fs::File::create(folder.join("said")).unwrap();
        let running = bash(&folder, &script)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut install = Self {
            folder,
            running,
            _place: place,
        };
        let begun = Instant::now();
        while !install.folder.join("installed").exists() {
            let ended = install.running.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{ended:?}: {}",
                install.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        install
    }

    fn said(&self) -> String {
        let mut text = fs::read_to_string(self.folder.join("said")).unwrap();
        for service in SERVICES {
            let log = self.folder.join(format!("{service}.log"));
            text.push_str(&fs::read_to_string(log).unwrap_or_default());
        }
        text
    }

    /// Runs a command; paths are relative to the folder of all machines.
    fn run(&self, words: &str) -> Ran {
        // What a machine's users have unless they were told better: others may read what they write.
        let mut command = bash(&self.folder, &format!("umask 022; greffe {words}"));
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    fn desk(&self, words: &str) -> Value {
        self.run(&format!(
            "{words} --connection desk/connection.toml --output json"
        ))
        .json()
    }

    fn user(&self, words: &str) -> Value {
        self.desk(&format!("{words} --identity desk/users"))
    }

    fn person(&self, name: &str, words: &str) -> Value {
        self.desk(&format!("{words} --as {name} --identity people/{name}"))
    }

    /// Opens everything that was said in a conversation, under an order with its approvals; gives what the production says.
    fn open(&self, conversation: &str, out: &str) -> String {
        let matter = self.person("ada", "matter create 'Limits of March'");
        let order = self.person(
            "ada",
            &format!(
                "order request --matter {} --purpose Review --reader eve --conversation {conversation}",
                matter["matter"].as_str().unwrap()
            ),
        );
        let order = order["order"].as_str().unwrap().to_owned();
        self.person("rita", &format!("order approve {order}"));
        self.person("carl", &format!("order approve {order}"));
        self.person("eve", &format!("produce {order} --out {out}"));
        let verified = verify(&self.folder.join(out), &self.folder.join("root/root.pub"));
        assert_eq!(verified.code, 0, "{verified:?}");
        private(&self.folder.join(out));
        fs::read_to_string(self.folder.join(out).join("messages.jsonl")).unwrap()
    }

    /// Rotates the period by the runbook: all of it but what it prepares on a development machine.
    fn rotate(&self, conversation: &str) {
        let prepared = format!(
            "conversation={conversation}\n\
             reader=eve; root=root; connection=desk/connection.toml; cp operator/bundle.bin .\n\
             speak=\"--identity desk/users --connection $connection\"\n\
             field() {{ sed \"s/.*\\\"$1\\\": *\\\"\\([^\\\"]*\\)\\\".*/\\1/\"; }}\n\
             as() {{\n\
               case $1 in auditor) set ada ;; principal) set rita ;; compliance) set carl ;; reader) set eve ;; records) set mark ;; esac\n\
               echo \"--as $1 --connection $connection --identity people/$1\"\n\
             }}\n"
        );
        let steps = blocks("rotate-the-journaling-period.md", None);
        let script = prepared + &steps[1..].concat();
        let done = bash(&self.folder, &script)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let done = Ran::of(done);
        assert_eq!(
            done.code,
            0,
            "{}\n{}\n{}",
            done.stdout,
            done.stderr,
            self.said()
        );
    }
}

/// Nobody but its owner reads what is in a folder.
fn private(folder: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    for (path, _) in files(folder) {
        let path = folder.join(path);
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }
}

#[test]
fn a_production_install_is_finished_from_the_command_line() {
    let install = Install::make();
    let conversation = fs::read_to_string(install.folder.join("installed")).unwrap();
    let conversation = conversation.trim();

    // Nothing of it is a development identity, and no private key of people is in any service's folder.
    let tenant = install.desk("tenant show");
    assert_eq!(tenant["development"], false);
    assert_eq!(tenant["bundle"]["version"], 1);
    for key in ["root/root.key", "root/next-root.key", "issuer/issuer.key"] {
        let secret = fs::read(install.folder.join(key)).unwrap();
        let secret = secret.trim_ascii();
        for service in SERVICES.into_iter().chain(["operator", "desk"]) {
            for (path, bytes) in files(&install.folder.join(service)) {
                let found = bytes.windows(secret.len()).any(|part| part == secret);
                assert!(!found, "{key} is in {service}/{path}");
            }
        }
    }

    install.user("read --as bob");
    install.user(&format!("conversation acknowledge {conversation} --as bob"));
    let read = install.run("read --as bob --identity desk/users --connection desk/connection.toml");
    assert!(read.stdout.contains("The limit is 5."), "{read:?}");
    let opened = install.open(conversation, "first");
    assert!(opened.contains("The limit is 5."), "{opened}");

    // The period is rotated, and what was said before and after it is opened under one order.
    let send = "send --as alice --text 'said in the old period' --conversation";
    install.user(&format!("{send} {conversation}"));
    install.rotate(conversation);
    let tenant = install.desk("tenant show");
    let serial = |mode: &Value| mode["serial"].as_u64();
    let modes = tenant["modes"].as_array().unwrap();
    assert!(modes.iter().all(|mode| serial(mode) == Some(2)), "{tenant}");

    wrong_inputs(&install);
}

/// One line each, with a stable reason and what to do.
fn wrong_inputs(install: &Install) {
    let refused = |words: &str, code: i32, reason: &str| {
        install.run(words).refused(code, reason);
    };
    let sign = "operator sign root/bundle.toml --out out.bin --key";
    // Another key, another tenant, what was not compared.
    refused(
        &format!("{sign} issuer/issuer.key --root root/root.pub"),
        3,
        "KEY_MISMATCH",
    );
    // What others may read, and what is no key.
    let no_key = format!("{sign} people/ada/person.toml --root root/root.pub");
    let person = install.folder.join("people/ada/person.toml");
    let mode = |mode| fs::set_permissions(&person, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    refused(&no_key, 3, "KEY_FILE_OPEN");
    mode(0o600);
    refused(&no_key, 3, "KEY_FILE_INVALID");
    install.run("operator init other --tenant other --part root --part issuer");
    refused(&format!("{sign} other/root.key"), 3, "WRONG_TENANT");
    let digest = "0".repeat(64);
    refused(
        &format!("{sign} root/root.key --digest {digest}"),
        3,
        "DIGEST_MISMATCH",
    );
    assert!(!install.folder.join("out.bin").exists());
    // A version that was before, one that skips, and a draft that says what it must not.
    let edit = "operator bundle edit root/bundle.bin --root root/root.pub --revoke-person mark --out next.toml";
    assert_eq!(install.run(edit).code, 0);
    let next = fs::read_to_string(install.folder.join("next.toml")).unwrap();
    let draft = |name: &str, from: &str, to: &str| {
        assert!(next.contains(from), "{from}");
        let path = install.folder.join(name);
        fs::write(path, next.replacen(from, to, 1)).unwrap();
    };
    let sign = |draft: &str| {
        format!("operator sign {draft} --key root/root.key --bundle root/bundle.bin --out out.bin")
    };
    draft("skips.toml", "version = 2", "version = 3");
    refused(&sign("skips.toml"), 3, "BUNDLE_VERSION");
    refused(&sign("root/bundle.toml"), 3, "BUNDLE_VERSION");
    draft("tenant.toml", "tenant = \"acme\"", "tenant = \"other\"");
    refused(&sign("tenant.toml"), 3, "WRONG_TENANT");
    draft("dev.toml", "development = false", "development = true");
    refused(&sign("dev.toml"), 3, "BUNDLE_DEVELOPMENT");
    draft("typo.toml", "contact", "kontakt");
    refused(&sign("typo.toml"), 2, "DRAFT_MALFORMED");
    let unusable = [
        ("minimum = ", "minimum = 0 # "),
        ("minimum = ", "minimum = 1 # "),
        ("cosigner_quorum = ", "cosigner_quorum = 0 # "),
        ("contact = ", "contact = \"\" # "),
    ];
    for (from, to) in unusable {
        draft("zero.toml", from, to);
        refused(&sign("zero.toml"), 3, "STATEMENT_REFUSED");
    }
    // A request is certified as what was asked for on this side, whatever it asks for itself.
    let certify = "operator certify operator/archive.json --tenant acme --authority authority --out out.crt --name";
    refused(&format!("{certify} app/desk"), 3, "NAME_MISMATCH");
    refused(&format!("{certify} archive"), 2, "CERTIFY_NAME");
    assert!(!install.folder.join("out.crt").exists());
    // A node of another tenant, and a certificate that is revoked already.
    let prepared = fs::read_to_string(install.folder.join("operator/escrow-3.json")).unwrap();
    let other = prepared.replace("spiffe://acme/", "spiffe://other/");
    fs::write(install.folder.join("other.json"), other).unwrap();
    let edit = "operator bundle edit root/bundle.bin --root root/root.pub --out twice.toml";
    refused(&format!("{edit} --node other.json"), 3, "WRONG_TENANT");
    let revoke = format!("--revoke-certificate {}", "7".repeat(64));
    refused(
        &format!("{edit} {revoke} {revoke}"),
        3,
        "CERTIFICATE_REVOKED",
    );
    // Nodes change with their operators' agreement and a day's notice only.
    let edit = "operator bundle edit root/bundle.bin --root root/root.pub --remove-node escrow-3 --out fewer.toml";
    assert_eq!(install.run(edit).code, 0);
    refused(&sign("fewer.toml"), 2, "THRESHOLD_MISSING");
    let sign_nodes = |draft: &str| sign(draft) + " --threshold 2";
    refused(&sign_nodes("fewer.toml"), 3, "NODES_NOT_AGREED");
    let agree = |draft: &str, node: &str, out: &str| {
        format!("operator countersign {draft} --config {node}/config.toml --out {out}")
    };
    assert_eq!(
        install
            .run(&agree("fewer.toml", "escrow-1", "one.bin"))
            .code,
        0
    );
    refused(&sign_nodes("one.bin"), 3, "NODES_NOT_AGREED");
    assert_eq!(
        install.run(&agree("one.bin", "escrow-2", "two.bin")).code,
        0
    );
    refused(&sign_nodes("two.bin"), 3, "NODE_CHANGE_TOO_EARLY");
    let all = sign("two.bin") + " --threshold 3";
    refused(&all, 3, "NODES_NOT_AGREED");
    let old = edit.replace("fewer.toml", "old.toml --issued-at 2001-01-01");
    assert_eq!(install.run(&old).code, 0);
    refused(&agree("old.toml", "escrow-1", "out.bin"), 3, "DRAFT_DATE");
    assert!(!install.folder.join("out.bin").exists());
    // Not signed, not whole, not of this root.
    let publish = |file: &str| format!("operator publish {file} --connection desk/connection.toml");
    refused(&publish("next.toml"), 4, "NOT_SIGNED_BY_ROOT");
    let mut bytes = fs::read(install.folder.join("root/bundle.bin")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(install.folder.join("spoilt.bin"), bytes).unwrap();
    refused(&publish("spoilt.bin"), 4, "NOT_SIGNED_BY_ROOT");
    fs::write(install.folder.join("spoilt.bin"), b"?").unwrap();
    refused(&publish("spoilt.bin"), 2, "STATEMENT_FILE");
    // A ceremony that has run out, and one with a node missing, which goes on when the node is back.
    let new = "operator ceremony new --root root/root.pub --bundle root/bundle.bin --pack us-broker-dealer";
    assert_eq!(
        install
            .run(&format!("{new} --within 1s --out late.bin"))
            .code,
        0
    );
    std::thread::sleep(Duration::from_secs(1));
    refused(&sign("late.bin"), 3, "CEREMONY_EXPIRED");
    assert_eq!(install.run(&format!("{new} --out next.bin")).code, 0);
    let signed = sign("next.bin").replace("out.bin", "next.signed.bin");
    assert_eq!(install.run(&signed).code, 0);
    let start = "operator ceremony start next.signed.bin --state second --connection";
    let connection = install.folder.join("desk/connection.toml");
    let all = fs::read_to_string(&connection).unwrap();
    let nobody = all.replace("escrow-3/data/ready.json", "escrow-9/data/ready.json");
    fs::write(install.folder.join("desk/without.toml"), nobody).unwrap();
    let without = install.run(&format!("{start} desk/without.toml"));
    assert_eq!(without.code, 5, "{without:?}");
    let status = install.run("operator ceremony status --state second --output json");
    let status = status.json();
    assert_eq!(status["answered"], 0);
    assert_eq!(status["ahead"], serde_json::json!(["escrow-1", "escrow-2"]));
    let made = install.desk("operator ceremony start next.signed.bin --state second");
    assert_eq!(made["made"]["key"].as_str().unwrap().len(), 64);
    let again = install.desk("operator ceremony start next.signed.bin --state second");
    assert_eq!(again["made"], made["made"]);
    // The root's signature is not the nodes': neither brings a key into force alone.
    refused(&publish("second/key-record.bin"), 4, "NOT_SIGNED_BY_ROOT");
    let help = run(["operator", "--help"]);
    assert!(help.stdout.contains("publish"), "{help:?}");
}
