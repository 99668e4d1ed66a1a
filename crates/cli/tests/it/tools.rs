//! Tools of other people over a running archive: the Python example as it is copied, and clients that know reflection only.

mod example;
mod http;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Demonstration, Ran, Up};

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A part that `cargo xtask parts` installs.
fn part(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.exists(),
        "{} is not there: run `cargo xtask parts`",
        path.display()
    );
    path
}

/// A machine that has lived through the demonstration, and the example's stubs. It is only read.
struct World {
    data: PathBuf,
    stubs: tempfile::TempDir,
    _up: Up,
}

#[test]
fn tools_of_other_people_work_over_a_running_archive() {
    let world = World::start();
    reflection_is_enough_for_a_client_in_another_language(&world);
    the_linters_own_client_lists_the_methods_by_reflection(&world);
    http::it_serves_what_grpc_serves_and_refuses_what_grpc_refuses(&world);
    http::a_common_client_searches_over_both_versions_of_http(&world);
    example::it_pages_through_what_an_auditor_may_see(&world);
    example::it_says_what_was_refused_and_why(&world);
    example::it_does_not_talk_to_strangers(&world);
    example::it_asks_again_when_the_archive_cannot_be_reached(&world);
}

impl World {
    fn start() -> Self {
        let played = Demonstration::run("tools", None);
        let stubs = tempfile::tempdir().unwrap();
        let made = Command::new(part("target/examples-venv/bin/python"))
            .arg(root().join("deploy/examples/python/generate.py"))
            .args([&root().join("proto"), stubs.path()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self {
            _up: Up::start(&played.data),
            data: played.data,
            stubs,
        }
    }

    /// Python with the stubs at hand.
    fn python(&self) -> Command {
        let mut command = Command::new(part("target/examples-venv/bin/python"));
        command.arg("-B").env("PYTHONPATH", self.stubs.path());
        command
    }

    /// `host:port` of a service.
    fn address(&self, service: &str) -> String {
        let ready = self.data.join("services").join(service).join("ready.json");
        let ready: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        ready["address"].as_str().unwrap().to_owned()
    }

    /// A file of the application's.
    fn app(&self, name: &str) -> PathBuf {
        self.data.join("people/apps/greffe").join(name)
    }
}

fn reflection_is_enough_for_a_client_in_another_language(world: &World) {
    let mut python = world.python();
    python
        .arg(root().join("crates/cli/tests/python/reflection.py"))
        .arg(world.address("archive"));
    let ran = Ran::of(
        python
            .args(["ca.crt", "tls.crt", "tls.key"].map(|name| world.app(name)))
            .arg(world.data.join("people/auditor/signing.key"))
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    for service in [
        "greffe.archive.v1.ArchiveService",
        "greffe.archive.v1.OrderService",
        "grpc.health.v1.Health",
    ] {
        assert!(ran.stdout.lines().any(|line| line == service), "{ran:?}");
    }
    assert!(ran.stdout.ends_with("2 records\n"), "{ran:?}");
}

fn the_linters_own_client_lists_the_methods_by_reflection(world: &World) {
    let ran = Command::new(part("target/buf-npm/node_modules/.bin/buf"))
        .args(["curl", "--protocol", "grpc", "--list-methods"])
        .args(["--servername", "archive"])
        .args(["--cacert".into(), world.app("ca.crt")])
        .args(["--cert".into(), world.app("tls.crt")])
        .args(["--key".into(), world.app("tls.key")])
        .arg(format!("https://{}", world.address("archive")))
        .env("BUF_CACHE_DIR", root().join("target/buf-cache"))
        .output();
    let ran = Ran::of(ran.unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let method = "greffe.archive.v1.ArchiveService/SearchRecords";
    assert!(ran.stdout.lines().any(|line| line == method), "{ran:?}");
}
