//! Everything that can be measured, measured on very little: the report has every table, and every figure is one.

#![cfg(test)]

use std::path::Path;
use std::process::Command;

#[test]
fn everything_can_be_measured() {
    let bench = Path::new(env!("CARGO_BIN_EXE_greffe-bench"));
    let greffe = bench.with_file_name("greffe");
    assert!(
        greffe.exists(),
        "{} is not there: build it with `cargo build --release`",
        greffe.display()
    );
    let output = Command::new(bench).arg("--quick").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report = String::from_utf8(output.stdout).unwrap();
    for title in [
        "Throughput",
        "Limits of the same run",
        "Processor by part",
        "Bytes a message",
        "Where the time goes: spans",
        "Where the time goes: transactions",
        "Memory",
        "Log",
        "Growth",
        "Orders",
        "Productions",
        "Sealing",
        "Receiving",
        "Attachments",
        "Sizes of groups",
    ] {
        let table = report.split(&format!("## {title}\n")).nth(1);
        let table = table.unwrap_or_else(|| panic!("no {title}: {report}"));
        let table = table.split("\n## ").next().unwrap_or_default();
        let mut rows = table.lines().filter(|line| line.starts_with('|'));
        let columns = rows.next().unwrap().matches('|').count();
        let rows: Vec<&str> = rows.skip(1).collect();
        assert!(!rows.is_empty(), "{title} is empty");
        for row in rows {
            assert_eq!(row.matches('|').count(), columns, "{row}");
            assert!(!row.contains("NaN") && !row.contains("inf"), "{row}");
        }
    }
    let refused = Command::new(bench).arg("everything").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("throughput"), "{said}");
}
