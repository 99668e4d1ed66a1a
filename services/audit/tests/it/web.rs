//! The log as files over HTTP: what an independent reader makes of it, what is not served, and how long answers are kept.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use greffe_audit::Config;
use greffe_service_kit::config::parse;
use greffe_tlog::{CosignerKey, NoteVerifier};

use crate::world::{ORIGIN, World, checkpoint, fill, signer};

/// An answer as it comes over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    #[track_caller]
    fn refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let text = String::from_utf8_lossy(&self.body);
        assert!(
            text.starts_with(&format!("{reason}: ")) && text.ends_with('\n'),
            "{text}"
        );
        assert_eq!(self.header("cache-control"), "no-store");
    }
}

/// One request on a connection of its own.
fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        tcp,
        "{method} {path} HTTP/1.1\r\nHost: log\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status,
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

/// A world whose log is served at an address that was free a moment ago.
async fn world(entries: bool) -> (World, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut world = World::new().await;
    world.settings = format!("[audit.tiles]\nlisten = '{address}'\nentries = {entries}\n");
    (world, address)
}

/// The example that tools of others begin with.
fn read_log(address: SocketAddr, key: &str, more: &[&str]) -> (i32, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python: PathBuf = root.join("target/examples-venv/bin/python");
    assert!(
        python.exists(),
        "{} is not there: run `cargo xtask parts`",
        python.display()
    );
    let ran = Command::new(python)
        .arg("-B")
        .arg(root.join("deploy/examples/python/read_log.py"))
        .args([&format!("http://{address}"), "--key", key])
        .args(more)
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn key(world: &World) -> String {
    NoteVerifier::new(ORIGIN, &world.log_key)
        .unwrap()
        .to_string()
}

fn witness(n: u8) -> String {
    let key = signer(50 + n).verifying_key().to_bytes();
    CosignerKey::new(&format!("escrow-{n}"), &key)
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_reader_recomputes_the_whole_log() {
    let (world, address) = world(true).await;
    let running = world.start().await;
    // One leaf, a full tile, and more than one of the level above would need.
    for (from, to) in [(0, 1), (1, 256), (256, 700)] {
        fill(&world, from, to).await;
        checkpoint(&world, to).await.unwrap();
        let (one, two) = (witness(1), witness(2));
        let witnesses = [
            "--witness",
            &one,
            "--witness",
            &two,
            "--witness",
            &witness(3),
        ];
        let all = [&["--entries", "--quorum", "2"], &witnesses[..]].concat();
        let (code, said) = read_log(address, &key(&world), &all);
        assert_eq!(code, 0, "{said}");
        for what in [format!("\"size\": {to}"), format!("\"entries\": {to}")] {
            assert!(said.contains(&what), "{what}: {said}");
        }
    }
    // It is a reader that refuses: another key, a stranger as witness, a tile and a bundle with one bit changed.
    let other = NoteVerifier::new(ORIGIN, &signer(99).verifying_key().to_bytes()).unwrap();
    let (code, said) = read_log(address, &other.to_string(), &[]);
    assert_eq!((code, said.contains("has not signed")), (4, true), "{said}");
    let stranger = witness(9);
    let (code, said) = read_log(
        address,
        &key(&world),
        &["--witness", &stranger, "--quorum", "1"],
    );
    assert_eq!(
        (code, said.contains("0 of the witnesses")),
        (4, true),
        "{said}"
    );
    // All that are named have to have cosigned, unless a quorum is; nobody counts twice.
    let (code, said) = read_log(address, &key(&world), &["--witness", &stranger]);
    assert_eq!(
        (code, said.contains("0 of the witnesses")),
        (4, true),
        "{said}"
    );
    let one = witness(1);
    let twice = ["--witness", &one, "--witness", &one, "--quorum", "2"];
    let (code, said) = read_log(address, &key(&world), &twice);
    assert_eq!((code, said.contains("named twice")), (2, true), "{said}");
    let (code, said) = read_log(address, &key(&world), &["--quorum", "1"]);
    assert_eq!((code, said.contains("--witness")), (2, true), "{said}");
    for (path, says) in [
        ("tile/0/001", "does not follow"),
        ("tile/1/000.p/2", "does not follow"),
        ("tile/0/002.p/188", "checkpoint's root"),
        ("tile/entries/001", "is not the one that the tree has"),
    ] {
        let file = world.path("audit").join("log").join(path);
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        replace(&file, &bad);
        let (code, said) = read_log(address, &key(&world), &["--entries"]);
        assert_eq!((code, said.contains(says)), (4, true), "{path}: {said}");
        replace(&file, &good);
    }
    assert_eq!(read_log(address, &key(&world), &["--entries"]).0, 0);
    // A tile that is there and cannot be read is no tile that is not there: who asks is not told to give up.
    let file = world.path("audit").join("log/tile/0/001");
    std::fs::remove_file(&file).unwrap();
    ask(address, "GET", "/tile/0/001").refused(404, "TILE_NOT_FOUND");
    std::fs::create_dir(&file).unwrap();
    ask(address, "GET", "/tile/0/001").refused(500, "LOG_DAMAGED");
    running.stop().await.unwrap();
}

/// The files are there for good: another one takes the name.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_changes_may_be_kept_and_nothing_else() {
    let (world, address) = world(true).await;
    // Without witnesses there is no checkpoint, of an empty log neither.
    let silent = |down| world.nodes.iter().for_each(|node| node.down(down));
    silent(true);
    let running = world.start().await;
    let none = ask(address, "GET", "/checkpoint");
    none.refused(404, "CHECKPOINT_NOT_FOUND");
    silent(false);
    fill(&world, 0, 300).await;
    let note = checkpoint(&world, 300).await.unwrap();
    let served = ask(address, "GET", "/checkpoint");
    assert_eq!(served.status, 200);
    assert_eq!(text(&served.body)[..3], text(&note)[..3]);
    assert_eq!(served.header("cache-control"), "no-cache");
    assert_eq!(served.header("content-type"), "text/plain; charset=utf-8");
    let folder = world.path("audit").join("log");
    for path in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
    ] {
        let tile = ask(address, "GET", &format!("/{path}"));
        assert_eq!(
            (tile.status, &tile.body),
            (200, &std::fs::read(folder.join(path)).unwrap())
        );
        assert_eq!(
            tile.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(tile.header("content-type"), "application/octet-stream");
        assert_eq!(tile.header("x-content-type-options"), "nosniff");
        let head = ask(address, "HEAD", &format!("/{path}"));
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), tile.body.len().to_string());
        let refused = ask(address, "POST", &format!("/{path}"));
        refused.refused(405, "METHOD_NOT_ALLOWED");
        assert_eq!(refused.header("allow"), "GET, HEAD");
    }
    for (path, reason) in [
        ("/tile/0/002", "TILE_NOT_FOUND"),
        ("/tile/0/001", "TILE_NOT_FOUND"),
        ("/tile/0/0", "TILE_NOT_FOUND"),
        ("/tile/0/../../log.sqlite", "TILE_NOT_FOUND"),
        ("/tile/entries/%2e%2e", "TILE_NOT_FOUND"),
        ("/", "PATH_UNKNOWN"),
        ("/log.sqlite", "PATH_UNKNOWN"),
        ("/checkpoint/", "PATH_UNKNOWN"),
        ("//checkpoint", "PATH_UNKNOWN"),
    ] {
        ask(address, "GET", path).refused(404, reason);
    }
    running.stop().await.unwrap();
    // It ends with the service.
    assert!(TcpStream::connect(address).is_err());
}

fn text(note: &[u8]) -> Vec<String> {
    let text = String::from_utf8(note.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_served_only_where_the_settings_say_so() {
    let (world, address) = world(false).await;
    let running = world.start().await;
    fill(&world, 0, 300).await;
    checkpoint(&world, 300).await.unwrap();
    for path in [
        "/tile/entries/000",
        "/tile/entries/001.p/44",
        "/tile/entries/777",
    ] {
        ask(address, "GET", path).refused(404, "ENTRIES_NOT_SERVED");
    }
    assert_eq!(ask(address, "GET", "/tile/0/000").status, 200);
    let (code, said) = read_log(address, &key(&world), &[]);
    assert_eq!((code, said.contains("\"entries\": 0")), (0, true), "{said}");
    assert_eq!(read_log(address, &key(&world), &["--entries"]).0, 4);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_open_too_many_connections_wait_and_silent_ones_are_closed() {
    let (mut world, address) = world(false).await;
    world.settings.push_str("connections = 2\n");
    let running = world.start().await;
    fill(&world, 0, 1).await;
    checkpoint(&world, 1).await.unwrap();
    // Both say nothing, so their heads run out of time and their places are free again.
    let _silent = [
        TcpStream::connect(address).unwrap(),
        TcpStream::connect(address).unwrap(),
    ];
    let begun = std::time::Instant::now();
    assert_eq!(ask(address, "GET", "/checkpoint").status, 200);
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World::new().await;
    let address = taken.local_addr().unwrap();
    world.settings = format!("[audit.tiles]\nlisten = '{address}'\n");
    let Err(error) = world.try_start().await else {
        panic!("it has started");
    };
    assert!(error.to_string().contains("audit.tiles.listen"), "{error}");
}

#[test]
fn the_port_is_off_unless_it_is_asked_for() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/audit.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let config: Config = parse(&text, None, "GREFFE_TEST", []).unwrap();
    assert_eq!(config.audit.tiles, None);
    let text = format!("{text}\n[audit.tiles]\nlisten = '0.0.0.0:7490'\n");
    let config: Config = parse(&text, None, "GREFFE_TEST", []).unwrap();
    let tiles = config.audit.tiles.unwrap();
    assert_eq!((tiles.entries, tiles.connections.get()), (false, 256));
    let text = format!("{text}connections = 0\n");
    assert!(parse::<Config>(&text, None, "GREFFE_TEST", []).is_err());
}
