//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Processor, memory, kernel and compilers, in one line each.
pub(crate) fn describe() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<f64>().ok())
        .map_or_else(
            || memory.clone(),
            |kib| format!("{:.0} GiB", kib / 1048576.0),
        );
    vec![
        (
            "processor".into(),
            format!(
                "{cores} cores, {}",
                field(&read("/proc/cpuinfo"), "model name")
            ),
        ),
        ("memory".into(), gib),
        (
            "kernel".into(),
            read("/proc/sys/kernel/osrelease").trim().into(),
        ),
        ("compiler".into(), first_line("rustc", &["--version"])),
        ("OpenSSL".into(), first_line("openssl", &["version"])),
    ]
}

/// Date, revision, runs and load, as of now.
pub(crate) fn when(revision: &str, runs: u32) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let date = jiff::Zoned::now().strftime("%Y-%m-%d");
    format!("{date}, revision {revision}, runs: {runs}, load when it began: {load}.")
}

/// The first line that a program prints; what it lacks when it cannot be run.
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "not installed".to_owned())
}

/// Bytes of every file below a folder.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size_of(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}
