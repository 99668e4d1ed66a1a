//! A real collector receives what a demonstration says of itself: one trace of each message through every part, metrics and
//! logs of every service, and nothing that anybody wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::no_plaintext_at_rest::{Search, sample_needles};
use crate::support::{Ran, greffe, sample_file};

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
            endpoint: format!("http://127.0.0.1:{grpc}"),
            written,
        }
    }

    fn received(&self) -> Vec<u8> {
        fs::read(&self.written).unwrap()
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
    let begun = Instant::now();
    let text = loop {
        let text = String::from_utf8_lossy(&collector.received()).into_owned();
        let whole = traces(&text)
            .values()
            .any(|names| parts.iter().all(|part| names.contains(*part)));
        if whole {
            break text;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no trace has all parts: {:?}",
            traces(&text)
        );
        std::thread::sleep(Duration::from_millis(200));
    };
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
