//! What a file and an environment give together, and what is refused.

use serde::Deserialize;

use super::*;
use crate::errors::Causes;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    service: ServiceConfig,
    #[serde(default)]
    relay: Relay,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Relay {
    token: String,
    batch: u32,
    names: Vec<String>,
}

const TEXT: &str = r#"
[service]
tenant = "acme"
listen = "127.0.0.1:0"
data = "/var/lib/greffe"
root_key = "root.pub"
bundle = "bundle.bin"
tls = { cert = "cert.pem", key = "key.pem", ca = "ca.pem" }
peers.archive = { address = "127.0.0.1:7002" }
peers.escrow-1 = { ready = "escrow-1/ready.json" }
"#;

fn with(variables: &[(&str, &str)]) -> Result<Whole, ConfigError> {
    parse(
        TEXT,
        None,
        "GREFFE_RELAY",
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

#[test]
fn a_file_is_enough() {
    let settings = with(&[]).unwrap();
    assert_eq!(settings.service.tenant.as_str(), "acme");
    assert_eq!(settings.service.listen.port(), 0);
    assert_eq!(settings.service.limits, Limits::default());
    assert_eq!(
        *settings.service.peer("archive").unwrap(),
        PeerConfig::Address("127.0.0.1:7002".to_owned())
    );
    assert_eq!(
        *settings.service.peer("escrow-1").unwrap(),
        PeerConfig::Ready("escrow-1/ready.json".into())
    );
    let missing = settings.service.peer("audit").unwrap_err();
    assert_eq!(missing.to_string(), "service.peers.audit is missing");
}

#[test]
fn the_environment_comes_over_it() {
    let settings = with(&[
        ("GREFFE_RELAY__SERVICE__TENANT", "7"),
        ("GREFFE_RELAY__SERVICE__LIMITS__CALLS", "9"),
        ("GREFFE_RELAY__RELAY__BATCH", "64"),
        ("GREFFE_RELAY__RELAY__TOKEN", "plain words"),
        ("GREFFE_RELAY__RELAY__NAMES", r#"["a", "b"]"#),
        ("GREFFE_RELAYS__RELAY__BATCH", "1"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(settings.service.tenant.as_str(), "7");
    assert_eq!(settings.service.limits.calls, 9);
    assert_eq!(settings.relay.batch, 64);
    assert_eq!(settings.relay.token, "plain words");
    assert_eq!(settings.relay.names, ["a", "b"]);
}

#[test]
fn a_secret_comes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "12345\n").unwrap();
    let path = path.to_str().unwrap();
    let settings = with(&[("GREFFE_RELAY__RELAY__TOKEN_FILE", path)]).unwrap();
    assert_eq!(settings.relay.token, "12345");
    let twice = with(&[
        ("GREFFE_RELAY__RELAY__TOKEN_FILE", path),
        ("GREFFE_RELAY__RELAY__TOKEN", "x"),
    ])
    .unwrap_err();
    assert!(twice.to_string().contains("another variable"), "{twice}");
    let gone = with(&[("GREFFE_RELAY__RELAY__TOKEN_FILE", "/nowhere/token")]).unwrap_err();
    assert_eq!(gone.to_string(), "/nowhere/token cannot be read");
}

#[test]
fn what_nothing_reads_is_refused_and_named() {
    for (variable, word) in [
        ("GREFFE_RELAY__SERVICE__LISTENN", "listenn"),
        ("GREFFE_RELAY__RELAYY__BATCH", "relayy"),
        ("GREFFE_RELAY__SERVICE__LIMITS__CALL", "call"),
        ("GREFFE_RELAY__SERVICE__TENANT__X", "below a setting"),
        ("GREFFE_RELAY__SERVICE____X", "empty key"),
    ] {
        let error = with(&[(variable, "1")]).unwrap_err();
        let said = Causes(&error).to_string();
        assert!(said.contains(word), "{variable}: {said}");
    }
    let unknown = parse::<Whole>(
        &format!("{TEXT}\nport = 1"),
        Some(Path::new("relay.toml")),
        "X",
        [],
    )
    .unwrap_err();
    let said = Causes(&unknown).to_string();
    assert!(
        said.contains("relay.toml") && said.contains("port"),
        "{said}"
    );
}

#[test]
fn bad_values_are_named() {
    for (from, to, word) in [
        ("\"acme\"", "\"Acme\"", "tenant"),
        ("127.0.0.1:0", "localhost", "socket address"),
        ("[service]", "[service", "not TOML"),
        ("{ address", "{ ready = \"r\", address", "peers"),
        ("{ address", "{ adress", "adress"),
    ] {
        let error = parse::<Whole>(&TEXT.replace(from, to), None, "X", []).unwrap_err();
        let said = Causes(&error).to_string();
        assert!(said.contains(word), "{to}: {said}");
    }
}

#[test]
fn the_root_key_is_the_served_tenants() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = with(&[]).unwrap().service;
    service.root_key = folder.path().join("root.pub");
    // The base point of the curve: a usable key that nobody has.
    let key = format!("58{}", "66".repeat(31));
    std::fs::write(&service.root_key, format!("greffe-root-v1 acme {key}\n")).unwrap();
    assert_eq!(service.root().unwrap().tenant().as_str(), "acme");
    std::fs::write(&service.root_key, format!("greffe-root-v1 other {key}\n")).unwrap();
    assert!(matches!(
        service.root(),
        Err(ConfigError::RootTenant { .. })
    ));
    std::fs::write(&service.root_key, key).unwrap();
    assert!(matches!(service.root(), Err(ConfigError::RootKey { .. })));
}

#[test]
fn a_flag_beats_the_environment_and_the_file() {
    let variables = [("GREFFE_RELAY__RELAY__BATCH".to_owned(), "2".to_owned())];
    let text = format!("{TEXT}[relay]\nbatch = 1\nnames = ['file']\n");
    let over = |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Settings::parse(&text, None, "GREFFE_RELAY", variables.clone(), &flags)
    };
    let settings = over(&["relay.batch=3", "service.limits.calls=7"]).unwrap();
    let whole: Whole = settings.read().unwrap();
    assert_eq!((whole.relay.batch, whole.service.limits.calls), (3, 7));
    assert_eq!(settings.source(&["relay", "batch"]), Source::Flag);
    assert_eq!(settings.source(&["relay", "names"]), Source::File);
    assert_eq!(settings.source(&["relay", "token"]), Source::Default);
    assert_eq!(
        settings.source(&["service", "limits", "calls"]),
        Source::Flag
    );
    assert_eq!(
        settings.source(&["service", "limits", "streams"]),
        Source::Default
    );
    let settings = over(&[]).unwrap();
    assert_eq!(
        settings.source(&["relay", "batch"]),
        Source::Variable("GREFFE_RELAY__RELAY__BATCH".to_owned())
    );
    for (flags, word) in [
        (&["relay.batch"][..], "has no value"),
        (&["relay..batch=1"], "empty key"),
        (&["relay.batch=1", "relay.batch=2"], "given twice"),
        (&["service.tenant.x=1"], "below a setting"),
    ] {
        let error = over(flags).err().unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_tables_of_a_deployment_are_read() {
    let text = format!(
        "{TEXT}peers.relay = {{ addresses = ['a:1', 'b:1'] }}\npeers.desk = {{ readies = ['x', 'y'] }}\n\
         mode = 'production'\nsecrets = '/etc/greffe/secrets'\n\
         [service.health]\nlisten = '0.0.0.0:7480'\n\
         [service.database]\nurl = 'postgres://u:canary@h/d'\n\
         [service.telemetry]\notlp = 'http://collector:4317'\n\
         [service.seal]\nkind = 'pkcs11'\nmodule = '/m.so'\ntoken = 'greffe'\nkey = 'seal'\npin = 'canary'\n"
    );
    let service = parse::<Whole>(&text, None, "X", []).unwrap().service;
    assert_eq!(service.mode, Mode::Production);
    assert_eq!(service.secrets(), Path::new("/etc/greffe/secrets"));
    assert_eq!(
        *service.peer("relay").unwrap(),
        PeerConfig::Addresses(vec!["a:1".into(), "b:1".into()])
    );
    let url = service.database.as_ref().unwrap().url.expose();
    assert_eq!(url, "postgres://u:canary@h/d");
    // Shown, they are not there.
    let shown = format!("{service:?} {}", toml::to_string(&service).unwrap());
    assert!(
        !shown.contains("canary") && shown.contains("(hidden)"),
        "{shown}"
    );
    for (from, to, word) in [
        ("['a:1', 'b:1']", "[]", "at least one"),
        ("'pkcs11'", "'tpm'", "tpm"),
        ("token =", "tokken =", "tokken"),
        ("'production'", "'prod'", "prod"),
    ] {
        let error = parse::<Whole>(&text.replace(from, to), None, "X", []).unwrap_err();
        let said = Causes(&error).to_string();
        assert!(
            said.contains(word) && !said.contains("canary"),
            "{to}: {said}"
        );
    }
}

#[test]
fn no_error_repeats_a_secret() {
    let text = format!("{TEXT}database.url = 'postgres://u:canary@h/d'\n");
    for wrong in [
        text.replace("canary@h/d'", "canary@h/d"),
        text.replace("'postgres", "''postgres"),
    ] {
        let said = Causes(&parse::<Whole>(&wrong, None, "X", []).unwrap_err()).to_string();
        assert!(
            said.contains("line 11") && !said.contains("canary"),
            "{said}"
        );
    }
    // A PIN of digits reads as a number where a variable gives it.
    let variables = [("X__SERVICE__DATABASE__URL".to_owned(), "123456".to_owned())];
    let said = Causes(&parse::<Whole>(TEXT, None, "X", variables).unwrap_err()).to_string();
    assert!(
        said.contains("a secret is text") && !said.contains("123456"),
        "{said}"
    );
}
