//! `greffe completions` and `greffe man`: what shells and manuals know of the command, made from what it understands itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde::Serialize;

use crate::args::Arguments;
use crate::fail::{Failure, Result};
use crate::output::{Output, print};
use crate::save::Saving;

/// `greffe completions`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe completions bash > /etc/bash_completion.d/greffe\n  greffe completions zsh > \"${fpath[1]}/_greffe\"\n  greffe completions fish > ~/.config/fish/completions/greffe.fish"
)]
pub(crate) struct CompletionsArguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// `greffe man`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe man --out /usr/local/share/man/man1\n  man greffe-order-request"
)]
pub(crate) struct ManArguments {
    /// Folder for the pages, one a command; it is made when it is not there, and pages that are there are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

#[derive(Serialize)]
struct Pages {
    folder: String,
    pages: Vec<String>,
}

/// Prints a shell's script.
pub(crate) fn completions(arguments: &CompletionsArguments, output: Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "greffe",
        &mut script,
    );
    let script = Script {
        shell: arguments.shell.to_string(),
        script: String::from_utf8_lossy(&script).into_owned(),
    };
    print(output, &script, |script| script.script.clone())
}

/// Writes the pages.
pub(crate) fn man(arguments: &ManArguments, output: Output) -> Result<()> {
    let folder = &arguments.out;
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("make", folder, &error))?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    write(&command, folder, &mut pages)?;
    let pages = Pages {
        folder: folder.display().to_string(),
        pages,
    };
    print(output, &pages, |pages| {
        format!("{} pages in {}\n", pages.pages.len(), pages.folder)
    })
}

/// The pages of a command and of all below it.
fn write(command: &Command, folder: &Path, pages: &mut Vec<String>) -> Result<()> {
    // Some of the examples are the whole of this page's last section: clap_mangen would fill them into one paragraph.
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(""))
        .source(concat!("greffe ", env!("CARGO_PKG_VERSION")))
        .manual("Greffe");
    let name = man.get_filename();
    let path = folder.join(&name);
    let mut page = Vec::new();
    let written = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ]
    .into_iter()
    .try_for_each(|section| section(&man, &mut page))
    .and_then(|()| match command.has_subcommands() {
        true => man.render_subcommands_section(&mut page),
        false => Ok(()),
    })
    .and_then(|()| match examples {
        Some(examples) => as_it_is(&examples).to_writer(&mut page),
        None => Ok(()),
    });
    // For everybody who works on this machine.
    let mut saving = Saving::create(&path, 0o644)?;
    written
        .and_then(|()| saving.write_all(&page))
        .map_err(|error| Failure::io("write", &path, &error))?;
    saving.finish()?;
    pages.push(name);
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write(below, folder, pages))
}

/// Lines that stay lines.
fn as_it_is(text: &str) -> Roff {
    let text = match text.split_once('\n') {
        Some(("Example:" | "Examples:", rest)) => rest,
        _ => text,
    };
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}
