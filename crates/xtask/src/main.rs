//! `cargo xtask`: the chores that every change has to pass, each a command of its own.

mod bench;
mod buf;
mod crash;
mod defences;
mod deps;
mod fuzz;
mod helm;
mod kill;
mod life;
mod mutants;
mod oracle;
mod parts;
mod shell;
mod simulate;
mod structure;
mod test;
mod vectors;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test       run every test, ours and the oracle's, after installing the parts
  parts      install the real servers and tools that the tests run against
  oracle     recompute the envelope's vectors in Python, which shares no code with ours
  vectors    make the envelope's vectors again
  buf        lint the contracts and compare them with the released ones (--release: release them)
  helm       check the chart and deploy/ (readme: write the chart's README.md)
  deps       check licences, bans, sources, advisories and yanked versions of every dependency against deny.toml
             (--advisories FOLDER: take the advisories from a checkout of the RustSec database)
  bench      measure throughput and cryptography beside limits of the same run, growth, stages and orders, for about an hour, and
             write deploy/BENCHMARKS.md; wants the parts, and openssl
             (--runs N: each figure so often, 3 unless given; --quick: show that everything runs; --records N, or names of what to
             measure: print, write nothing)
  fuzz       run the decoders of messages, log and policy under libFuzzer; wants a nightly compiler
             (--seconds N: that long each, 20 unless given; TARGET…: these alone)
  kill       kill services under load, one at random or all at once: nothing acknowledged is lost or doubled
             (--rounds N of each, 100 unless given; --seed N: the victims of an earlier run)
  simulate   run the whole system on a mock clock, a faulty network and faulty disks, from seeds; the promises are checked after
             every step, and a seed that breaks one is printed with the fewest steps that do
             (--seeds N: so many, 100000 unless given; --from N: the first; --one N: print what happens in that one)
  crash      fail every write, fsync and name of services and clients one by one, for about an hour, and write
             deploy/CRASH-POINTS.md; wants a C compiler
             (--service S, --mode M, --from N, --every N: some of them; --at-once N: so many lives side by side, 6 unless given; what
             was found is kept, and a run goes on where it stopped; --table: write what was found so far)
  defences   take each defence of crates/xtask/defences/ out in turn: a test of its attack has to fail; for an hour or two, and
             write deploy/DEFENCES.md (NAME…: the patches that begin so; --left: those it does not have yet)
  mutants    change policy, log, the checks of a node and the envelope a little, one change at a time: a test has to notice, or
             crates/xtask/mutants.tsv says why none can; for a night, and write deploy/MUTANTS.md (--at-once N: so many builds side
             by side; PACKAGE…: these alone; what was noticed is kept, and a run goes on where it stopped)
  structure  check the direction of imports, file sizes and opening lines
  help       print this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("test") => test::run(),
        Some("parts") => parts::run(),
        Some("oracle") => oracle::run(),
        Some("vectors") => vectors::run(),
        Some("buf") => buf::run(arguments.get(1..).unwrap_or_default()),
        Some("helm") => helm::run(arguments.get(1..).unwrap_or_default()),
        Some("deps") => deps::run(arguments.get(1..).unwrap_or_default()),
        Some("bench") => bench::run(arguments.get(1..).unwrap_or_default()),
        Some("fuzz") => fuzz::run(arguments.get(1..).unwrap_or_default()),
        Some("kill") => kill::run(arguments.get(1..).unwrap_or_default()),
        Some("simulate") => simulate::run(arguments.get(1..).unwrap_or_default()),
        Some("crash") => crash::run(arguments.get(1..).unwrap_or_default()),
        Some("defences") => defences::run(arguments.get(1..).unwrap_or_default()),
        Some("mutants") => mutants::run(arguments.get(1..).unwrap_or_default()),
        Some("structure") => structure::run(),
        Some("help" | "--help" | "-h") => {
            eprintln!("{HELP}");
            Ok(())
        }
        other => {
            eprintln!("xtask: no command {:?}\n\n{HELP}", other.unwrap_or(""));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
