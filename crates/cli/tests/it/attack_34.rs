//! What a crash, a debugger or a panic shows of a node that releases, and of every other process: neither a share nor what was
//! said.
//!
//! Where the tests run as root they look into every process whatever it does, and shares have to be gone from there; and they
//! start processes of a user that has no rights, so that what keeps that user out is seen.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greffe_envelope::ceremony::NodeShare;
use greffe_envelope::sealbox::Place;
use greffe_service_kit::secrets::Keystore;
use greffe_types::{TenantId, to_hex};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use zeroize::Zeroizing;

use crate::acts::{self, SAID};
use crate::served::{SERVICES, Served};
use crate::support::{App, Up, pid};

/// A user without any rights, on every Linux.
const NOBODY: u32 = 65534;

/// Most of a mapping that is looked at in one piece.
const PIECE: usize = 16 << 20;

/// What is searched for, and what it is.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Which of them are in what a process can write: heap, stacks, what it has of its own.
    fn find(&self, process: u32) -> io::Result<Vec<String>> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
        let mut memory = File::open(format!("/proc/{process}/mem"))?;
        let longest = self.0.iter().map(|(_, needle)| needle.len()).max();
        let mut found = Vec::new();
        let mut looked_at = 0;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else {
                continue;
            };
            let (from, to) = range.split_once('-').unwrap();
            let from = u64::from_str_radix(from, 16).unwrap();
            let to = u64::from_str_radix(to, 16).unwrap();
            if !rights.starts_with("rw") {
                continue;
            }
            let mut at = from;
            while at < to {
                let length = (to - at).min(PIECE as u64);
                let mut piece = vec![0; usize::try_from(length).unwrap()];
                let read = memory
                    .seek(SeekFrom::Start(at))
                    .and_then(|_| memory.read(&mut piece));
                // A guard page, or one that went meanwhile.
                let Ok(read @ 1..) = read else { break };
                looked_at += read;
                for (what, needle) in &self.0 {
                    if contains(&piece[..read], needle) && !found.contains(what) {
                        found.push(what.clone());
                    }
                }
                // What lies over the edge of two pieces is in the second one whole.
                let step = read.saturating_sub(longest.unwrap_or(0)).max(1);
                at += if at + read as u64 >= to { read } else { step } as u64;
            }
        }
        assert!(looked_at > 1 << 20, "process {process} was not looked into");
        Ok(found)
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// A node's share, as its folder has it for whoever holds the folder's key.
async fn share(data: &Path, node: &str) -> (Zeroizing<Vec<u8>>, Vec<u8>) {
    let folder = data.join("services").join(node);
    let url = format!("sqlite://{}?mode=ro", folder.join("escrow.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SELECT key_id, share_epoch, sealed FROM share")
        .fetch_one(&mut database)
        .await
        .unwrap();
    let [key_id, epoch, sealed] = [0, 1, 2].map(|column| row.get::<Vec<u8>, _>(column));
    let row = [key_id, epoch.clone()].concat();
    let tenant = tenant(data);
    let secrets = Keystore::new(&folder, &tenant, None).open().unwrap();
    let place = Place {
        table: "share",
        row: &row,
        column: "sealed",
    };
    (secrets.seal_key().open(&place, &sealed).unwrap(), epoch)
}

fn tenant(data: &Path) -> TenantId {
    let root = fs::read_to_string(data.join("root.pub")).unwrap();
    TenantId::new(root.split_whitespace().nth(1).unwrap()).unwrap()
}

/// The parts of a share that open something: the scalar as it is stored, as a machine with the lowest byte first has it, and
/// the seed of the journaling key's ML-KEM half, whose second part stands at the end of the expanded key too.
fn secret_parts(node: &str, share: &[u8], epoch: &[u8]) -> Vec<(String, Vec<u8>)> {
    // Epoch, index and threshold stand before them.
    let at = share.windows(32).position(|window| window == epoch);
    let at = at.unwrap() + 32 + 4;
    let scalar = share[at..at + 32].to_vec();
    let seed = share[at + 32..at + 96].to_vec();
    let rejection = seed[32..].to_vec();
    let mut reversed = scalar.clone();
    reversed.reverse();
    let what = |part: &str| format!("{part} of {node}");
    vec![
        (what("scalar"), scalar),
        (what("scalar, lowest byte first"), reversed),
        (what("seed"), seed),
        (what("end of the expanded key"), rejection),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_34_memory_after_a_release_holds_no_share_and_never_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let served = Served::start(&data, &[]);
    let app = App::open(&data).await;
    let spoken = acts::speak(&app).await;
    let order = acts::order(&app, &spoken.messages, false).await;
    acts::open(&app, &order).await;
    for service in SERVICES {
        let mut needles = vec![("what was said".to_owned(), SAID.as_bytes().to_vec())];
        if service.starts_with("escrow") {
            let (plain, epoch) = share(&data, service).await;
            needles.extend(secret_parts(service, &plain, &epoch));
        }
        let looked = Needles(needles).find(served.pid(service));
        if Uid::effective().is_root() {
            assert_eq!(looked.unwrap(), Vec::<String>::new(), "{service}");
        } else {
            let refused = looked.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{service}");
        }
    }
    // The same search finds what is there.
    let here = format!("{SAID} {}", std::process::id());
    let mine = Needles(vec![("here".to_owned(), here.clone().into_bytes())]);
    assert_eq!(mine.find(std::process::id()).unwrap(), ["here"]);
    drop(here);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_34_a_panic_with_a_share_at_hand_does_not_tell_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Up::start(&data).stop();
    let (plain, epoch) = share(&data, "escrow-1").await;
    let share = NodeShare::from_bytes(&plain).unwrap();
    let panicked = std::panic::catch_unwind(|| panic!("{share:?} {share:#?}")).unwrap_err();
    let said = panicked.downcast::<String>().unwrap();
    assert!(said.contains("NodeShare"), "{said}");
    for (what, part) in secret_parts("escrow-1", &plain, &epoch) {
        let numbers: Vec<String> = part.iter().map(u8::to_string).collect();
        for form in [
            to_hex(&part[..8]),
            to_hex(&part[..8]).to_uppercase(),
            numbers[..8].join(", "),
        ] {
            assert!(!said.contains(&form), "{what}: {said}");
        }
    }
}

/// Processes of a user without rights, or, where the tests have no other, of their own.
struct Somebody {
    uid: Option<u32>,
    program: PathBuf,
}

impl Somebody {
    fn new(folder: &Path) -> Self {
        let uid = Uid::effective().is_root().then_some(NOBODY);
        // Where the program was built may be nobody else's to enter.
        let program = folder.join("greffe");
        fs::copy(env!("CARGO_BIN_EXE_greffe"), &program).unwrap();
        Self { uid, program }
    }

    /// A command as that user, which may leave a core behind if it does not refuse to.
    fn command(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"])
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Whether that user reads from another process's memory.
    fn looks_into(&self, folder: &Path, process: u32) -> bool {
        let file = format!("/proc/{process}/mem");
        let environment = format!("/proc/{process}/environ");
        let opened = |path: &str| {
            let test = "exec 3<\"$1\"";
            let status = self
                .command(folder, &["sh", "-c", test, "sh", path])
                .status();
            status.unwrap().success()
        };
        let both = (opened(&file), opened(&environment));
        assert_eq!(both.0, both.1);
        both.0
    }

    fn owns(&self, folder: &Path) {
        if let Some(uid) = self.uid {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    self.owns(&path);
                }
                chown(&path, Some(uid), Some(uid)).unwrap();
            }
            chown(folder, Some(uid), Some(uid)).unwrap();
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends it as a failed assertion of the allocator would, and says whether it left a core.
fn dumps(child: &mut Child) -> bool {
    kill(pid(child.id()), Signal::SIGABRT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
    status.core_dumped()
}

#[test]
fn attack_34_no_core_dump_and_no_look_into_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Up::start(&data).stop();
    let somebody = Somebody::new(folder.path());
    somebody.owns(folder.path());
    let program = somebody.program.to_str().unwrap();

    // Any other program of that user: it is looked into, and leaves a core where the system writes cores.
    let mut other = somebody
        .command(folder.path(), &["sleep", "60"])
        .spawn()
        .unwrap();
    let name = format!("/proc/{}/comm", other.id());
    until("the other program runs", || {
        fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
    });
    assert!(somebody.looks_into(folder.path(), other.id()));
    let cores = dumps(&mut other);
    if !cores {
        println!("this system writes no cores: only the limit is looked at");
    }

    for (kind, service) in [
        ("escrow", "escrow-1"),
        ("archive", "archive"),
        ("relay", "relay"),
        ("audit", "audit"),
    ] {
        let config = data.join("services").join(service).join("config.toml");
        let words = [program, "serve", kind, "--config", config.to_str().unwrap()];
        let mut child = somebody.command(folder.path(), &words).spawn().unwrap();
        let limits = format!("/proc/{}/limits", child.id());
        until(&format!("{service} gives up its core dumps"), || {
            let limits = fs::read_to_string(&limits).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core"));
            core.unwrap()
                .split_whitespace()
                .skip(4)
                .take(2)
                .eq(["0", "0"])
        });
        until(&format!("{service} keeps others out"), || {
            !somebody.looks_into(folder.path(), child.id())
        });
        assert!(!dumps(&mut child), "{service} left a core");
    }
}
