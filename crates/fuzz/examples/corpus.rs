//! Writes what fuzzing starts from into a folder, one file an input, and prints the names of the targets, one a line.
#![allow(clippy::print_stdout, reason = "the names are the result")]

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("usage: corpus FOLDER"))?;
    std::fs::create_dir_all(&folder)?;
    for (number, input) in greffe_fuzz::corpus()?.concat().iter().enumerate() {
        std::fs::write(folder.join(format!("{number:04}")), input)?;
    }
    for (name, _) in greffe_fuzz::TARGETS {
        println!("{name}");
    }
    Ok(())
}
