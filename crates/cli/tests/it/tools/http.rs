//! The archive's JSON over HTTP: a client in Python that goes through everything, and a client that everybody has.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{World, root};
use crate::support::Ran;

pub(super) fn it_serves_what_grpc_serves_and_refuses_what_grpc_refuses(world: &World) {
    let mut python = world.python();
    python.arg(root().join("crates/cli/tests/python/http_api.py"));
    let ran = Ran::of(python.arg(&world.data).output().unwrap());
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.ends_with("all well\n"), "{ran:?}");
    // A person's read and a refusal are in the log, whichever way they came.
    let log = fs::read_to_string(world.data.join("services/archive/log.txt")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

pub(super) fn a_common_client_searches_over_both_versions_of_http(world: &World) {
    let ready = world.data.join("services/archive/ready-http.json");
    let ready: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
    let address = ready["address"].as_str().unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let token = world
        .python()
        .arg(root().join("crates/cli/tests/python/person_token.py"))
        .arg(world.data.join("people/auditor/signing.key"))
        .output()
        .unwrap();
    let token = Ran::of(token).stdout;
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let ran = Command::new("curl")
            .args(["--silent", "--show-error", flag, "--write-out"])
            .arg("\n%{http_code} %{http_version}")
            .args(["--resolve", &format!("archive:{port}:127.0.0.1")])
            .args(["--cacert".into(), world.app("ca.crt")])
            .args(["--cert".into(), world.app("tls.crt")])
            .args(["--key".into(), world.app("tls.key")])
            .args(["--header", &format!("greffe-person-bin: {}", token.trim())])
            .arg(format!("https://archive:{port}/v1/records?pageSize=2"))
            .output()
            .unwrap_or_else(|error| {
                panic!("curl cannot be started ({error}): run `cargo xtask parts`")
            });
        let ran = Ran::of(ran);
        assert_eq!(ran.code, 0, "{ran:?}");
        let (body, status) = ran.stdout.rsplit_once('\n').unwrap();
        assert_eq!(status, format!("200 {version}"), "{ran:?}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["records"].as_array().unwrap().len(), 2, "{body}");
        assert_ne!(body["nextPageToken"], "", "{body}");
    }
}
