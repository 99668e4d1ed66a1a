//! Memory of each process: at rest, at full load, at ten times that, with a large attachment on its way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::backend::{Backend, Kind};
use crate::device::{Device, seal_all};
use crate::load;
use crate::report::Section;
use crate::throughput::TEXT;
use crate::up::App;
use crate::{Options, narrate};

/// Messages on their way of each sender.
const WINDOW: usize = 256;
/// Senders that keep the services busy, as the throughput table shows.
const SENDERS: usize = 8;

/// Most memory of each process, in KiB, by name.
type Peaks = BTreeMap<String, u64>;

/// Measures every service.
///
/// # Errors
/// When the services do not start, or refuse.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let (each, mib) = if options.quick { (20, 16) } else { (600, 1024) };
    let ten = if options.quick { 2 } else { 10 };
    let heads = [
        "process".to_owned(),
        "at rest".to_owned(),
        format!("{SENDERS} senders"),
        format!("{} senders", SENDERS * ten),
        format!("{mib} MiB attachment"),
    ];
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut section = Section::new(
        "Memory",
        format!(
            "Most memory (VmHWM) of each process in MiB, SQLite and the folder, from the beginning of each column on: at rest for two \
             seconds after the start; with {SENDERS} senders who stream with {WINDOW} messages of {TEXT} bytes on their way each, \
             which is as much as the services can take; with ten times as many senders; while an attachment is sent and read by \
             the recipient. One service is one process; the clients that send and read the attachment are in their own rows."
        ),
        &heads,
    );
    let backend = Backend::start(options, Kind::Embedded, &[]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut columns = vec![peaks(&backend)?];
    let app = App::open(&backend.data()).await?;
    for senders in [SENDERS, SENDERS * ten] {
        narrate(format_args!("  {senders} senders"));
        let mut devices = Vec::new();
        for number in 0..senders {
            devices.push(Device::new(&app, u8::try_from(number)?).await?);
        }
        let mut sealed = seal_all(devices, each * SENDERS / senders.min(SENDERS * 4), TEXT).await?;
        reset(&backend)?;
        load::send(&mut sealed, WINDOW).await?;
        columns.push(peaks(&backend)?);
    }
    narrate(format_args!("  an attachment of {mib} MiB"));
    reset(&backend)?;
    let greffe = options.greffe.clone();
    let (data, folder) = (backend.data(), backend.folder().to_owned());
    let clients =
        tokio::task::spawn_blocking(move || attachment(&greffe, &data, &folder, mib)).await??;
    let mut last = peaks(&backend)?;
    last.extend(clients);
    columns.push(last);
    let names: std::collections::BTreeSet<&String> = columns.iter().flat_map(Peaks::keys).collect();
    for name in names {
        let mut row = vec![name.clone()];
        row.extend(columns.iter().map(|column| {
            column
                .get(name)
                .map_or_else(|| "-".into(), |kib| kib.div_ceil(1024).to_string())
        }));
        section.row(row);
    }
    Ok(vec![section])
}

/// Most memory of each service since the last [`reset`].
fn peaks(backend: &Backend) -> Result<Peaks> {
    let mut all = Peaks::new();
    for (name, pid) in backend.processes() {
        let kib = peak(pid).with_context(|| format!("{name} has ended"))?;
        all.insert(name, kib);
    }
    ensure!(!all.is_empty(), "no service runs");
    Ok(all)
}

/// Begins anew to look for the most memory (proc(5): 5 written to `clear_refs`).
fn reset(backend: &Backend) -> Result<()> {
    for (name, pid) in backend.processes() {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .with_context(|| format!("the most memory of {name} cannot be reset"))?;
    }
    Ok(())
}

fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Sends an attachment and reads it, by the program itself; gives the clients' memory.
fn attachment(greffe: &Path, data: &Path, folder: &Path, mib: usize) -> Result<Peaks> {
    let run = |arguments: &[&str]| greffe_command(greffe, data, arguments);
    for user in ["alice", "bob"] {
        run(&["device", "enrol", "--user", user])?;
    }
    let made = run(&["conversation", "create", "--as", "alice"])?.0;
    let id = made["conversation"].as_str().context("no conversation")?;
    run(&["conversation", "acknowledge", id, "--as", "alice"])?;
    run(&["conversation", "invite", id, "bob", "--as", "alice"])?;
    run(&["read", "--as", "bob"])?;
    run(&["conversation", "acknowledge", id, "--as", "bob"])?;
    let file = folder.join("attachment.bin");
    let mut out = File::create(&file)?;
    let mut block = vec![0; 1 << 20];
    getrandom::fill(&mut block)?;
    for number in 0..mib as u64 {
        // No two pieces are the same.
        block[..8].copy_from_slice(&number.to_le_bytes());
        out.write_all(&block)?;
    }
    let name = file.to_str().context("a path that is no text")?;
    let (_, sending) = run(&[
        "send",
        "--as",
        "alice",
        "--conversation",
        id,
        "--text",
        "See there.",
        "--attach",
        name,
    ])?;
    let read = folder.join("read");
    let save = read.to_str().context("a path that is no text")?;
    let (_, reading) = run(&["read", "--as", "bob", "--save", save])?;
    Ok(Peaks::from([
        ("client, sending".into(), sending),
        ("client, reading".into(), reading),
    ]))
}

/// Runs a command to its end; gives what it said and the most memory it took, in KiB.
fn greffe_command(greffe: &Path, data: &Path, arguments: &[&str]) -> Result<(Value, u64)> {
    let mut child = Command::new(greffe)
        .args(arguments)
        .args(["--output", "json"])
        .env("GREFFE_DATA", data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut most = 0;
    while child.try_wait()?.is_none() {
        most = most.max(peak(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "`greffe {}` failed",
        arguments.join(" ")
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let first = said.lines().next().unwrap_or("null");
    Ok((serde_json::from_str(first)?, most))
}
