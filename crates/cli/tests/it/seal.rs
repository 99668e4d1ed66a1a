//! The seal key under a key of a real PKCS #11 token (SoftHSM), from preparing a service to running a whole machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Ran, Up, greffe, names};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "pin-7f3a9c";
const SECURITY_OFFICER: &str = "so-51d0";

/// A SoftHSM of its own, with the token `greffe`.
struct Hsm {
    folder: tempfile::TempDir,
}

impl Hsm {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        fs::write(
            folder.path().join("softhsm2.conf"),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                tokens.display()
            ),
        )
        .unwrap();
        fs::write(folder.path().join("pin"), PIN).unwrap();
        let hsm = Self { folder };
        hsm.token("greffe");
        hsm.key("greffe", "seal", "AES:32", &["--sensitive"]);
        hsm
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let ran = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.configuration())
            .output()
            .unwrap_or_else(|error| {
                panic!("{program} cannot be started ({error}): run `cargo xtask parts`")
            });
        assert!(ran.status.success(), "{ran:?}");
    }

    fn token(&self, label: &str) {
        self.tool(
            "softhsm2-util",
            &[
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                PIN,
                "--so-pin",
                SECURITY_OFFICER,
            ],
        );
    }

    fn key(&self, token: &str, label: &str, kind: &str, more: &[&str]) {
        self.pkcs11(
            token,
            &[&["--keygen", "--key-type", kind, "--label", label], more].concat(),
        );
    }

    fn pkcs11(&self, token: &str, arguments: &[&str]) {
        let common = ["--module", MODULE, "--token-label", token, "--login"];
        let pin = ["--pin", PIN];
        self.tool("pkcs11-tool", &[&common[..], &pin, arguments].concat());
    }

    /// A command that finds this SoftHSM and is told to use its key.
    fn greffe(&self) -> Command {
        self.set(greffe())
    }

    fn set(&self, mut command: Command) -> Command {
        command
            .env("SOFTHSM2_CONF", self.configuration())
            .env("GREFFE__SERVICE__SEAL__KIND", "pkcs11")
            .env("GREFFE__SERVICE__SEAL__MODULE", MODULE)
            .env("GREFFE__SERVICE__SEAL__TOKEN", "greffe")
            .env("GREFFE__SERVICE__SEAL__KEY", "seal")
            .env(
                "GREFFE__SERVICE__SEAL__PIN_FILE",
                self.folder.path().join("pin"),
            );
        command
    }
}

/// Settings of a log that nobody has prepared yet.
struct Service {
    folder: tempfile::TempDir,
}

impl Service {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        fs::write(
            folder.path().join("audit.toml"),
            format!(
                "[service]\ntenant = \"acme\"\nlisten = \"127.0.0.1:0\"\ndata = \"{at}/data\"\nsecrets = \"{at}/keys\"\n\
                 root_key = \"{at}/root.pub\"\nbundle = \"{at}/bundle.bin\"\n\
                 tls = {{ cert = \"{at}/tls.crt\", key = \"{at}/tls.key\", ca = \"{at}/ca.crt\" }}\n"
            ),
        )
        .unwrap();
        Self { folder }
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn arguments(&self, command: &mut Command, arguments: &[&str]) -> Ran {
        command.args(arguments).arg("--config");
        let ran = Ran::of(
            command
                .arg(self.folder.path().join("audit.toml"))
                .output()
                .unwrap(),
        );
        // Whatever happens, nobody is told the PIN.
        assert!(!ran.stdout.contains(PIN) && !ran.stderr.contains(PIN));
        ran
    }

    fn prepare(&self, mut command: Command) -> Ran {
        self.arguments(&mut command, &["serve", "audit", "--prepare", "audit"])
    }

    fn wrap(&self, mut command: Command) -> Ran {
        self.arguments(&mut command, &["seal", "wrap", "audit"])
    }
}

fn log_key(ran: &Ran) -> Value {
    ran.json()["keys"]["log_key"].clone()
}

#[test]
fn a_fresh_key_is_wrapped_and_the_same_secrets_open_again() {
    let (hsm, service) = (Hsm::new(), Service::new());
    let first = log_key(&service.prepare(hsm.greffe()));
    assert_eq!(names(&service.keys()), ["seal.key.wrapped", "secrets"]);
    let wrapped = fs::read(service.keys().join("seal.key.wrapped")).unwrap();
    assert_eq!(wrapped.len(), 61);
    assert_eq!(log_key(&service.prepare(hsm.greffe())), first);
    // The wrapped key without a token, and a key that would hide it.
    service
        .prepare(greffe())
        .refused_at_once(1, "SEAL_NOT_CONFIGURED");
    fs::write(service.keys().join("seal.key"), [7; 32]).unwrap();
    fs::set_permissions(
        service.keys().join("seal.key"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    service
        .prepare(hsm.greffe())
        .refused_at_once(1, "SEAL_KEY_PLAIN");
    service
        .wrap(hsm.greffe())
        .refused_at_once(1, "SEAL_KEY_CONFLICT");
    fs::remove_file(service.keys().join("seal.key")).unwrap();
    // A lost key is not replaced while secrets lie there.
    fs::remove_file(service.keys().join("seal.key.wrapped")).unwrap();
    service
        .prepare(hsm.greffe())
        .refused_at_once(1, "SECRETS_OTHER_KEY");
}

#[test]
fn a_token_that_cannot_unwrap_is_told_from_every_other() {
    let (hsm, service) = (Hsm::new(), Service::new());
    service.prepare(hsm.greffe()).json();
    hsm.token("other");
    hsm.key("other", "seal", "AES:32", &["--sensitive"]);
    hsm.key("greffe", "short", "AES:16", &["--sensitive"]);
    hsm.key(
        "greffe",
        "loose",
        "AES:32",
        &["--sensitive", "--extractable"],
    );
    let with = |name: &str, value: &str, reason: &str| {
        let mut command = hsm.greffe();
        command.env(format!("GREFFE__SERVICE__SEAL__{name}"), value);
        if name == "PIN_FILE" {
            let pin = hsm.folder.path().join("wrong");
            fs::write(&pin, value).unwrap();
            command.env("GREFFE__SERVICE__SEAL__PIN_FILE", pin);
        }
        let refused = service.prepare(command);
        refused.refused_at_once(1, reason);
        assert!(!refused.stderr.contains("wrong-pin"), "{refused:?}");
    };
    with("PIN_FILE", "wrong-pin", "SEAL_PIN_REFUSED");
    with("TOKEN", "no-such-token", "SEAL_TOKEN_MISSING");
    with("KEY", "no-such-key", "SEAL_TOKEN_KEY_MISSING");
    with("KEY", "short", "SEAL_TOKEN_KEY_UNFIT");
    with("KEY", "loose", "SEAL_TOKEN_KEY_UNFIT");
    with("MODULE", "/usr/lib/no-such-module.so", "SEAL_MODULE");
    with("MODULE", "libsofthsm2.so", "SEAL_MODULE");
    // No module at all: a library that is none.
    with("MODULE", "/lib/x86_64-linux-gnu/libc.so.6", "SEAL_MODULE");
    with("TOKEN", "other", "SEAL_OTHER_KEY");

    let mut tenant = hsm.greffe();
    tenant
        .env("GREFFE__SERVICE__TENANT", "other")
        .env("GREFFE__SERVICE__DATA", hsm.folder.path().join("data"));
    service.prepare(tenant).refused_at_once(1, "SEAL_OTHER_KEY");
    let path = service.keys().join("seal.key.wrapped");
    let wrapped = fs::read(&path).unwrap();
    for at in [0, 1, 20, 60] {
        let mut altered = wrapped.clone();
        altered[at] ^= 1;
        fs::write(&path, altered).unwrap();
        service
            .prepare(hsm.greffe())
            .refused_at_once(1, "SEAL_OTHER_KEY");
    }
    fs::write(&path, &wrapped[..60]).unwrap();
    service
        .prepare(hsm.greffe())
        .refused_at_once(1, "SECRETS_REFUSED");
    fs::write(&path, wrapped).unwrap();
    service.prepare(hsm.greffe()).json();
    hsm.pkcs11(
        "greffe",
        &["--delete-object", "--type", "secrkey", "--label", "seal"],
    );
    service
        .prepare(hsm.greffe())
        .refused_at_once(1, "SEAL_TOKEN_KEY_MISSING");
}

#[test]
fn a_plain_key_moves_in_and_its_secrets_stay() {
    let (hsm, service) = (Hsm::new(), Service::new());
    service
        .wrap(hsm.greffe())
        .refused_at_once(1, "SECRETS_MISSING");
    let first = log_key(&service.prepare(greffe()));
    let plain = service.keys().join("seal.key");
    let key = fs::read(&plain).unwrap();
    service
        .wrap(greffe())
        .refused_at_once(1, "SEAL_NOT_CONFIGURED");
    let mut wrong = hsm.greffe();
    wrong.env("GREFFE__SERVICE__SEAL__KEY", "no-such-key");
    service
        .wrap(wrong)
        .refused_at_once(1, "SEAL_TOKEN_KEY_MISSING");
    assert_eq!(fs::read(&plain).unwrap(), key);

    assert!(
        service
            .wrap(hsm.greffe())
            .stdout
            .contains("the plain one removed")
    );
    assert_eq!(names(&service.keys()), ["seal.key.wrapped", "secrets"]);
    assert_eq!(log_key(&service.prepare(hsm.greffe())), first);
    assert!(
        service
            .wrap(hsm.greffe())
            .stdout
            .contains("wrapped already")
    );
    // Ended between the two files: the same command removes the plain one.
    fs::write(&plain, key).unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        service
            .wrap(hsm.greffe())
            .stdout
            .contains("the plain one removed")
    );
    assert!(!plain.exists());
    assert_eq!(log_key(&service.prepare(hsm.greffe())), first);
}

#[test]
fn a_folder_of_secrets_may_be_read_only_once_all_are_there() {
    const NOBODY: u32 = 65_534;
    let (hsm, service) = (Hsm::new(), Service::new());
    let root = nix::unistd::geteuid().is_root();
    let binary = hsm.folder.path().join("greffe");
    // Nobody may not reach the build's folder, and root is refused nothing.
    fs::copy(env!("CARGO_BIN_EXE_greffe"), &binary).unwrap();
    let as_nobody = |sealed: bool| {
        let mut command = Command::new(&binary);
        command.env_clear();
        if sealed {
            command = hsm.set(command);
        }
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let hand_over = |folder: &Path| {
        let listed = Command::new("find").arg(folder).output().unwrap();
        for path in String::from_utf8(listed.stdout).unwrap().lines() {
            if root {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    };
    let mode = |mode: u32| {
        for folder in [service.keys(), service.keys().join("secrets")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    for sealed in [false, true] {
        if sealed {
            assert_eq!(service.wrap(hsm.greffe()).code, 0);
        }
        let first = service.prepare(if sealed { hsm.greffe() } else { greffe() });
        hand_over(hsm.folder.path());
        hand_over(service.folder.path());
        mode(0o500);
        let again = service.prepare(as_nobody(sealed));
        assert_eq!(log_key(&again), log_key(&first));
        mode(0o700);
        let secret = service.keys().join("secrets/log_key");
        let kept = fs::read(&secret).unwrap();
        fs::remove_file(&secret).unwrap();
        mode(0o500);
        service
            .prepare(as_nobody(sealed))
            .refused_at_once(1, "SECRETS_READ_ONLY");
        mode(0o700);
        fs::write(&secret, kept).unwrap();
    }
}

#[test]
fn a_whole_machine_runs_with_every_seal_key_under_the_token() {
    let hsm = Hsm::new();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Up::start_with(hsm.greffe(), &data).stop();
    let mut sealed = 0;
    for service in fs::read_dir(data.join("services")).unwrap() {
        let service = service.unwrap().path();
        assert!(!service.join("seal.key").exists(), "{service:?}");
        assert_eq!(
            fs::read(service.join("seal.key.wrapped")).unwrap().len(),
            61
        );
        sealed += 1;
        let log = fs::read_to_string(service.join("log.txt")).unwrap();
        assert!(!log.contains(PIN), "{service:?}");
    }
    assert!(sealed >= 6, "{sealed}");
    // Shares, log key, receipt key and sessions open again, and not without the token.
    Up::start_with(hsm.greffe(), &data).stop();
    let mut without = greffe();
    without.args(["up", "--data"]).arg(&data);
    let refused = Ran::of(without.output().unwrap());
    refused.refused(5, "SERVICE_NOT_READY");
    assert!(
        refused.stderr.contains("SEAL_NOT_CONFIGURED"),
        "{refused:?}"
    );
}
