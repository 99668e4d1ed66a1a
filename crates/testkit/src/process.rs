//! Servers that outlive no test process: a shell watches over each, and a closed pipe is its order to end it.
//!
//! The shell's standard input is a pipe from the test process. A line on it is a signal to send to the server; its end,
//! which comes also when the test process is killed, sends the last signal. Statics are never dropped, so nothing less
//! would do.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Starts the command as a child, prints its process id, then does as its input says.
const WATCH: &str = r#"
last=$1; log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 &
pid=$!
echo "$pid"
exec >/dev/null
read -r signal || signal=$last
kill -"$signal" "$pid" 2>/dev/null
wait "$pid"
"#;

/// Removes the folder once everything in it has been told to end.
const SWEEP: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.5
    rm -rf -- "$1" 2>/dev/null && exit
done
"#;

/// A running server.
#[derive(Debug)]
pub struct Server {
    shell: Mutex<Option<Child>>,
    pid: i32,
    log: PathBuf,
}

impl Server {
    /// Starts `command` (the program first). Its output goes to `log`. When the test process ends, it is sent `last`, a
    /// signal's name without SIG.
    ///
    /// # Panics
    /// When the shell cannot be started.
    pub fn start(command: &[&str], log: &Path, last: &str) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "watch", last])
            .arg(log)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal ends the test process; that closes the pipe.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start a shell for {}: {error}", command[0]));
        let mut line = String::new();
        let output = shell.stdout.take().expect("standard output is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("{} did not start: {error}", command[0]));
        let pid = line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{} did not start", command[0]));
        Self {
            shell: Mutex::new(Some(shell)),
            pid,
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        // A dead child is a zombie until its shell has waited for it, so the signal 0 alone says nothing.
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('Z'))
        })
    }

    /// Sends a signal by its name without SIG, and waits until the server has ended.
    pub fn end(&self, signal: &str) {
        let shell = self.shell.lock().unwrap_or_else(|e| e.into_inner()).take();
        let Some(mut shell) = shell else { return };
        if let Some(mut input) = shell.stdin.take() {
            let _gone = writeln!(input, "{signal}");
        }
        let _status = shell.wait();
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// When the server ends before, or after `most`; the message holds the end of its log.
    pub fn wait(&self, what: &str, most: Duration, ready: impl FnMut() -> bool) {
        if let Err(why) = self.try_wait(what, most, ready) {
            panic!("{why}");
        }
    }

    /// As [`Server::wait`], and says what is wrong instead of panicking.
    pub(crate) fn try_wait(
        &self,
        what: &str,
        most: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let until = Instant::now() + most;
        while !ready() {
            let alive = self.alive();
            if !alive || Instant::now() > until {
                let why = if alive {
                    "is not ready in time"
                } else {
                    "has ended"
                };
                return Err(format!(
                    "{what} {why}; the end of its log:\n{}",
                    self.tail()
                ));
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("KILL");
    }
}

/// A new folder under the system's temporary one, removed some time after the test process has ended.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _sweeper: Child,
}

impl Folder {
    /// Makes it; its name begins with `prefix`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(prefix: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .unwrap_or_else(|error| panic!("cannot make a temporary folder: {error}"))
            .keep();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEP, "sweep"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start a shell: {error}"));
        Self {
            path,
            _sweeper: sweeper,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A TCP port of the loopback interface that nobody listens on just now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
        .port()
}

/// Runs a program to its end and gives what it printed.
///
/// # Panics
/// When it is missing (`install` says what to run) or fails.
pub(crate) fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}; install it with `cargo xtask parts`"));
    assert!(
        output.status.success(),
        "{name} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
