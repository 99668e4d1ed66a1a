//! A real collector receives what a demonstration says of itself: one trace of each message through every part, metrics and
//! logs of every service, and nothing that anybody wrote. Behind TLS it does so, too, and a caller finds its call in its own trace.

mod front;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greffe_api::audit::GetCheckpointRequest;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_service_kit::config::{PeerConfig, TlsFiles};
use greffe_service_kit::tls::{Identity, SpiffeId, connect};
use greffe_types::TenantId;
use serde_json::Value;

use self::front::Front;
use crate::no_plaintext_at_rest::{Search, sample_needles};
use crate::support::{Ran, Up, greffe, sample_file};

/// Where `cargo xtask parts` puts the collector.
fn program() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/collector-venv/lib");
    let pythons = fs::read_dir(&venv).into_iter().flatten().flatten();
    pythons
        .map(|python| python.path().join("site-packages/rotel/rotel-agent"))
        .find(|program| program.exists())
        .unwrap_or_else(|| {
            panic!(
                "no collector in {}: install it with `cargo xtask parts`",
                venv.display()
            )
        })
}

/// A collector that writes down everything it receives.
struct Collector {
    child: Child,
    port: u16,
    endpoint: String,
    written: PathBuf,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Collector {
    fn start(folder: &Path) -> Self {
        let written = folder.join("received.txt");
        let (grpc, http) = (free(), free());
        let mut command = Command::new(program());
        command.args(["start", "--exporter", "blackhole"]);
        command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")]);
        for signal in ["traces", "metrics", "logs"] {
            command.args(["--debug-log", signal]);
        }
        command.args(["--debug-log-verbosity", "detailed"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&written).unwrap())
            .stderr(File::create(folder.join("collector.txt")).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", grpc)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "no collector");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self {
            child,
            port: grpc,
            endpoint: format!("http://127.0.0.1:{grpc}"),
            written,
        }
    }

    fn received(&self) -> Vec<u8> {
        fs::read(&self.written).unwrap()
    }

    /// Waits until what it received satisfies a test; says what it was otherwise.
    fn until(&self, what: &str, found: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&self.received()).into_owned();
            if found(&text) {
                return text;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{what}: {:?}",
                traces(&text)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Spans by the trace they are of: names of all of a trace.
fn traces(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut traces: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut trace = String::new();
    for line in text.lines() {
        let Some((field, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().to_owned();
        match field.trim().trim_start_matches("-> ") {
            "Trace ID" => trace = value,
            "Name" if !trace.is_empty() => {
                _ = traces.entry(trace.clone()).or_default().insert(value);
            }
            _ => {}
        }
    }
    traces
}

#[test]
fn a_collector_receives_one_trace_of_a_message_and_nothing_that_anybody_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let mut command = greffe();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    command.env("GREFFE__SERVICE__TELEMETRY__OTLP", &collector.endpoint);
    command.env("GREFFE__SERVICE__TELEMETRY__METRICS_MS", "500");
    command.env("GREFFE__SERVICE__LOG__FILTER", "debug");
    command.args(["demo", "--output", "json", "--data"]);
    command.arg(folder.path().join("data"));
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");

    // What was handed over at the end is written down soon.
    let parts = [
        "client.send",
        "relay.send",
        "archive.ingest",
        "archive.batch",
        "audit.append",
        "relay.deliver",
    ];
    let text = collector.until("no trace has all parts", |text| {
        traces(text)
            .values()
            .any(|names| parts.iter().all(|part| names.contains(*part)))
    });
    for service in [
        "greffe", "relay", "archive", "audit", "escrow-1", "escrow-3",
    ] {
        assert!(
            text.contains(&format!("service.name: Str({service})"))
                || text.contains(&format!("service.name: {service}")),
            "{service}"
        );
    }
    for metric in [
        "greffe.rpc.duration",
        "greffe.transaction.duration",
        "greffe.certificate.not_after",
        "greffe.lease.held",
        "greffe.follower.age",
        "greffe.relay.unarchived.age",
        "greffe.relay.undelivered.age",
        "greffe.audit.unpublished.age",
        "greffe.audit.witness.age",
    ] {
        assert!(text.contains(metric), "{metric}");
    }
    assert!(text.contains("serving"), "no log record");

    let received = collector.received();
    let search = Search::new(&sample_needles());
    assert_eq!(search.find(&received), BTreeSet::new());
    // What it looks for, it finds.
    let leaked = [&received[..], &sample_file("2026-03-02.log.txt")].concat();
    assert!(!search.find(&leaked).is_empty());
}

/// A machine whose services export to `otlp`, known by `ca`.
fn up(data: &Path, otlp: &str, tls: [(&str, &Path); 3]) -> Up {
    let mut command = greffe();
    command.env("GREFFE__SERVICE__TELEMETRY__OTLP", otlp);
    for (key, path) in tls {
        command.env(format!("GREFFE__SERVICE__TELEMETRY__TLS__{key}"), path);
    }
    Up::start_with(command, data)
}

/// A file of the machine's own application.
fn app(data: &Path, name: &str) -> PathBuf {
    data.join("people/apps/greffe").join(name)
}

/// Asks the log for its checkpoint, as a program with a trace of its own.
fn asks_the_log(data: &Path, traceparent: &str) {
    let files = TlsFiles {
        cert: app(data, "tls.crt"),
        key: app(data, "tls.key"),
        ca: app(data, "ca.crt"),
    };
    let tenant = fs::read_to_string(data.join("root.pub")).unwrap();
    let tenant = TenantId::new(tenant.split(' ').nth(1).unwrap()).unwrap();
    let audit = PeerConfig::Ready(data.join("services/audit/ready.json"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let expected = SpiffeId::service(&tenant, "audit").unwrap();
        let identity = Identity::load(&files).unwrap();
        let channel = connect(&audit, &expected, &identity).await.unwrap();
        let mut request = tonic::Request::new(GetCheckpointRequest::default());
        let said = traceparent.parse().unwrap();
        request.metadata_mut().insert("traceparent", said);
        let mut client = LogServiceClient::new(channel);
        client.get_checkpoint(request).await.unwrap();
    });
}

/// Asks the archive over HTTP, without a person's token: gives the answer's status.
fn asks_the_archive(data: &Path, traceparent: &str) -> String {
    let ready = fs::read(data.join("services/archive/ready-http.json")).unwrap();
    let ready: Value = serde_json::from_slice(&ready).unwrap();
    let port = ready["address"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    let ran = Command::new("curl")
        .args(["--silent", "--show-error", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}"])
        .args(["--resolve", &format!("archive:{port}:127.0.0.1")])
        .args(["--cacert".into(), app(data, "ca.crt")])
        .args(["--cert".into(), app(data, "tls.crt")])
        .args(["--key".into(), app(data, "tls.key")])
        .args(["--header", &format!("traceparent: {traceparent}")])
        .args(["--header", "tracestate: canary=canary"])
        .arg(format!("https://archive:{port}/v1/matters"))
        .output()
        .unwrap_or_else(|error| {
            panic!("curl cannot be started ({error}): run `cargo xtask parts`")
        });
    Ran::of(ran).stdout
}

#[test]
fn a_collector_behind_tls_receives_a_call_in_its_callers_trace() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let front = Front::start(folder.path(), collector.port);
    let data = folder.path().join("data");
    let tls = [
        ("CA", &*front.ca),
        ("CERT", &*front.cert),
        ("KEY", &*front.key),
    ];
    let up = up(&data, &front.endpoint, tls);
    collector.until("no log record", |text| text.contains("serving"));
    let (over_grpc, over_http) = ("5ca1ab1e".repeat(4), "c0ffee00".repeat(4));
    asks_the_log(&data, &format!("00-{over_grpc}-{}-01", "12".repeat(8)));
    let refused = asks_the_archive(&data, &format!("00-{over_http}-{}-01", "34".repeat(8)));
    assert_eq!(refused, "401");
    // Nobody else's trace: what is malformed is ignored, and who wants nothing exported has it so.
    let (malformed, unwanted) = ("BADBAD00".repeat(4), "0ff0ff00".repeat(4));
    asks_the_log(&data, &format!("00-{malformed}-{}-01", "56".repeat(8)));
    asks_the_log(&data, &format!("00-{unwanted}-{}-00", "78".repeat(8)));
    let last = "1a57".repeat(8);
    asks_the_log(&data, &format!("00-{last}-{}-01", "9a".repeat(8)));
    let checkpoint = "greffe.audit.v1.LogService/GetCheckpoint";
    let matters = "greffe.archive.v1.ArchiveService/ListMatters";
    let text = collector.until("the calls are not in their traces", |text| {
        let traces = traces(text);
        [
            (&over_grpc, checkpoint),
            (&over_http, matters),
            (&last, checkpoint),
        ]
        .iter()
        .all(|(trace, name)| traces.get(*trace).is_some_and(|t| t.contains(*name)))
    });
    assert!(!text.contains(&unwanted), "it was not to be exported");
    assert!(!text.to_lowercase().contains(&malformed.to_lowercase()));
    assert!(!text.contains("canary"), "tracestate is kept");
    assert_eq!(front.refused(), 0);
    up.stop();
}

#[test]
fn a_collector_of_another_authority_is_told_nothing_and_nothing_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let front = Front::start(folder.path(), collector.port);
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let other = Front::start(&other, collector.port);
    let data = folder.path().join("data");
    let tls = [
        ("CA", &*other.ca),
        ("CERT", &*front.cert),
        ("KEY", &*front.key),
    ];
    let up = up(&data, &front.endpoint, tls);
    let said = || fs::read_to_string(data.join("services/audit/log.txt")).unwrap();
    let begun = Instant::now();
    while !said().contains("the collector does not take telemetry") {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", said());
        std::thread::sleep(Duration::from_millis(100));
    }
    // The service answers all the same.
    asks_the_log(
        &data,
        &format!("00-{}-{}-01", "12".repeat(16), "34".repeat(8)),
    );
    assert!(front.refused() > 0, "nobody tried");
    up.stop();
    let log = said();
    let times = log.matches("the collector does not take telemetry").count();
    assert!(times <= 2, "once for each signal: {log}");
    let received = String::from_utf8(collector.received()).unwrap();
    assert!(!received.contains("serving"), "{received}");
}
