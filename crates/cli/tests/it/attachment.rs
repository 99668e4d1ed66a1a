//! A large attachment, sent, archived, delivered and opened under an order, while no process takes more than 200 MiB of memory.
//!
//! `GREFFE_ATTACHMENT_MIB` says how large, up to 5120; what each process took at most is printed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greffe_testkit::ceph::Ceph;
use greffe_testkit::postgres::Postgres;
use greffe_types::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::stores::Stores;
use crate::support::{Ran, Up, greffe};

/// What every process keeps below, in KiB.
const MOST: u64 = 200 << 10;
/// Sizes of a run that names none, in MiB.
const FOLDER: u64 = 512;
const BUCKETS: u64 = 256;
/// Above this, the buckets are on the disk, in MiB.
const IN_MEMORY: u64 = 1024;
const MIB: usize = 1 << 20;

fn size(default: u64) -> u64 {
    std::env::var("GREFFE_ATTACHMENT_MIB").map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("GREFFE_ATTACHMENT_MIB is {text:?}: a number of MiB"))
    })
}

/// Most memory that a process has taken so far, in KiB; none when it has ended.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a command to its end; also gives the most memory it took.
fn watched(command: &mut Command) -> (Ran, u64) {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (process, ended) = (child.id(), Arc::new(AtomicBool::new(false)));
    let until = ended.clone();
    let watching = thread::spawn(move || {
        let mut most = 0;
        while !until.load(Ordering::Relaxed) {
            most = most.max(peak(process).unwrap_or(0));
            thread::sleep(Duration::from_millis(5));
        }
        most
    });
    let ran = Ran::of(child.wait_with_output().unwrap());
    ended.store(true, Ordering::Relaxed);
    (ran, watching.join().unwrap())
}

/// Writes so many MiB that do not repeat, and gives their digest.
fn make(path: &Path, mib: u64) -> Digest {
    let mut file = File::create(path).unwrap();
    let (mut hash, mut block) = (Sha256::new(), vec![0; MIB]);
    // xorshift64 (Marsaglia 2003): what matters is that no two pieces are the same.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mib {
        for word in block.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        hash.update(&block);
        file.write_all(&block).unwrap();
    }
    Digest::new(hash.finalize().into())
}

fn digest(path: &Path) -> Digest {
    let mut file = File::open(path).unwrap();
    let (mut hash, mut block) = (Sha256::new(), vec![0; MIB]);
    loop {
        let read = file.read(&mut block).unwrap();
        if read == 0 {
            return Digest::new(hash.finalize().into());
        }
        hash.update(&block[..read]);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} is no text: {value}"))
}

/// A machine, and what its processes took at most.
struct World {
    folder: PathBuf,
    up: Up,
    peaks: BTreeMap<String, u64>,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = greffe();
        command
            .args(arguments)
            .args(["--output", "json"])
            .env("GREFFE_DATA", self.path("data"));
        command
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        Ran::of(self.command(arguments).output().unwrap()).json()
    }

    /// Runs a command whose memory counts, and says how long it took.
    #[track_caller]
    fn timed(&mut self, what: &str, arguments: &[&str]) -> Value {
        let begun = Instant::now();
        let (ran, most) = watched(&mut self.command(arguments));
        println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
        let slot = self.peaks.entry(format!("client, {what}")).or_default();
        *slot = (*slot).max(most);
        ran.json()
    }

    /// Adds what the services have taken since their start.
    fn services(&mut self) {
        for entry in fs::read_dir(self.path("data/services")).unwrap() {
            let entry = entry.unwrap();
            let ready = fs::read(entry.path().join("ready.json")).unwrap();
            let ready: Value = serde_json::from_slice(&ready).unwrap();
            let process = u32::try_from(ready["pid"].as_u64().unwrap()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            self.peaks.insert(name, peak(process).unwrap());
        }
        self.peaks.insert("up".into(), peak(self.up.id()).unwrap());
    }

    fn fits(&self) {
        for (process, most) in &self.peaks {
            println!("{process}: at most {} MiB", most.div_ceil(1024));
        }
        // Everything was looked at: seven processes that serve, and three of clients.
        assert!(self.peaks.len() >= 10, "{:?}", self.peaks);
        for (process, most) in &self.peaks {
            assert!((1..MOST).contains(most), "{process} took {most} KiB");
        }
    }
}

fn life(folder: &Path, mib: u64, stores: Option<&Stores>) {
    let mut command = greffe();
    if let Some(stores) = stores {
        command.env("GREFFE_STORES", &stores.file);
    }
    let mut world = World {
        folder: folder.to_owned(),
        up: Up::start_with(command, &folder.join("data")),
        peaks: BTreeMap::new(),
    };
    for user in ["alice", "bob"] {
        world.json(&["device", "enrol", "--user", user]);
    }
    let made = world.json(&["conversation", "create", "--as", "alice"]);
    let id = text(&made, "conversation").to_owned();
    world.json(&["conversation", "acknowledge", &id, "--as", "alice"]);
    world.json(&["conversation", "invite", &id, "bob", "--as", "alice"]);
    world.json(&["read", "--as", "bob"]);
    world.json(&["conversation", "acknowledge", &id, "--as", "bob"]);

    let file = world.path("evidence.bin");
    let original = make(&file, mib);
    let attach = ["--text", "See there.", "--attach", file.to_str().unwrap()];
    let send = ["send", "--as", "alice", "--conversation", &id];
    world.timed("send", &[&send[..], &attach[..]].concat());
    fs::remove_file(&file).unwrap();

    let saved = |value: &Value| {
        let path = PathBuf::from(text(&value["content"]["attachments"][0], "saved"));
        assert_eq!(digest(&path), original, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().len(), mib << 20);
        fs::remove_file(&path).unwrap();
    };
    let received = world.path("received");
    let read = ["read", "--as", "bob", "--save", received.to_str().unwrap()];
    let read = world.timed("read", &read);
    saved(&read["items"][0]);

    let matter = world.json(&["matter", "create", "Evidence", "--as", "auditor"]);
    let mut request = vec!["order", "request", "--as", "auditor", "--reader", "reader"];
    request.extend(["--matter", text(&matter, "matter"), "--purpose", "Evidence"]);
    request.extend(["--conversation", &id]);
    let order = world.json(&request);
    let order = text(&order, "order");
    for approver in ["principal", "compliance"] {
        world.json(&["order", "approve", order, "--as", approver]);
    }
    let opened = world.path("opened");
    let open = ["order", "open", order, "--as", "reader", "--save"];
    let open = world.timed("open", &[&open[..], &[opened.to_str().unwrap()]].concat());
    saved(&open["records"][0]);
    world.services();
    world.fits();
    let World { up, .. } = world;
    up.stop();
}

#[test]
fn a_large_attachment_passes_through_the_folder_store_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    life(folder.path(), size(FOLDER), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_attachment_passes_through_buckets_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mib = size(BUCKETS);
    let (postgres, ceph) = tokio::task::spawn_blocking(move || {
        let ceph = if mib > IN_MEMORY {
            Ceph::on_disk()
        } else {
            Ceph::shared()
        };
        (Postgres::shared(), ceph)
    })
    .await
    .unwrap();
    let stores = Stores::on(postgres, &ceph, folder.path(), 1).await;
    let path = folder.path().to_owned();
    tokio::task::spawn_blocking(move || life(&path, mib, Some(&stores)))
        .await
        .unwrap();
}

/// One byte more than fits is refused before anything is read.
#[test]
fn an_attachment_over_five_gib_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk.img");
    File::create(&file).unwrap().set_len((5 << 30) + 1).unwrap();
    let world = World {
        folder: folder.path().to_owned(),
        up: Up::start(&folder.path().join("data")),
        peaks: BTreeMap::new(),
    };
    world.json(&["device", "enrol", "--user", "alice"]);
    let made = world.json(&["conversation", "create", "--as", "alice"]);
    let id = text(&made, "conversation");
    world.json(&["conversation", "acknowledge", id, "--as", "alice"]);
    let begun = Instant::now();
    let mut send = vec!["send", "--as", "alice", "--conversation", id, "--text", ""];
    send.extend(["--attach", file.to_str().unwrap()]);
    let refused = Ran::of(world.command(&send).output().unwrap());
    assert_eq!((refused.code, refused.stdout.as_str()), (3, ""));
    let said: Value = serde_json::from_str(refused.stderr.trim()).unwrap();
    assert_eq!(said["error"]["reason"], "ATTACHMENT_TOO_LARGE");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
