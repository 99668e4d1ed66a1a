//! Runs the binary, and keeps one demonstration of the sample for every test that only reads it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_client::{Client, ClientError, ClientStore, Connection, Device, People, Person};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{UserId, from_hex};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The binary, without settings of the environment it is tested in.
pub(crate) fn greffe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greffe"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GREFFE") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a run ended with.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one JSON object on standard output.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stdout.trim_end().lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// It was refused: exit code, stable reason, and one line that says it last.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, reason: &str) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let said = self.stderr.lines().filter(|line| line.contains(reason));
        assert_eq!(said.count(), 1, "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("greffe: {reason}: ")) && last.len() > reason.len() + 30,
            "{self:?}"
        );
        self
    }

    /// As [`Ran::refused`], with nothing but that line on standard error.
    #[track_caller]
    pub(crate) fn refused_at_once(&self, code: i32, reason: &str) {
        self.refused(code, reason);
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }
}

/// Runs the binary to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    Ran::of(greffe().args(arguments).output().unwrap())
}

/// `greffe verify`.
pub(crate) fn verify(production: &Path, root: &Path) -> Ran {
    run([
        OsStr::new("verify"),
        production.as_os_str(),
        OsStr::new("--root"),
        root.as_os_str(),
    ])
}

/// A demonstration that was kept.
pub(crate) struct Demonstration {
    pub(crate) summary: Value,
    pub(crate) data: PathBuf,
    /// Where the run's temporary files would be.
    pub(crate) temporary: PathBuf,
}

impl Demonstration {
    /// Runs one in a folder of the build's own; what an earlier run left there is removed first.
    pub(crate) fn run(name: &str, input: Option<&Path>) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let (data, temporary) = (folder.join("data"), folder.join("temporary"));
        fs::create_dir_all(&temporary).unwrap();
        let mut command = greffe();
        command.args(["demo", "--keep", "--output", "json", "--data"]);
        command.arg(&data).env("TMPDIR", &temporary);
        if let Some(input) = input {
            command.arg("--input").arg(input);
        }
        let summary = Ran::of(command.output().unwrap()).json();
        Self {
            summary,
            data,
            temporary,
        }
    }

    pub(crate) fn production(&self) -> PathBuf {
        self.data.join("production")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.data.join("root.pub")
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.summary[field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field} is no number: {}", self.summary))
    }
}

/// The sample, played once. Nobody may change it.
pub(crate) fn sample() -> &'static Demonstration {
    static SAMPLE: OnceLock<Demonstration> = OnceLock::new();
    SAMPLE.get_or_init(|| Demonstration::run("sample", None))
}

/// The sample's input.
pub(crate) fn sample_file(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("sample")
            .join(name),
    )
    .unwrap()
}

/// Every file below a folder, by its path with `/` between the parts.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && !prefix.is_empty() => return,
            Err(error) => panic!("{}: {error}", folder.display()),
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{path}/"), files);
                continue;
            }
            match fs::read(entry.path()) {
                Ok(bytes) => drop(files.insert(path, bytes)),
                // A service that runs there has removed it since, or given it its name.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("{path}: {error}"),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    found
}

/// Writes files below a new folder.
pub(crate) fn write_all(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A running `greffe up`; dropping it stops it.
pub(crate) struct Up {
    child: Child,
    /// What it said once it was up.
    pub(crate) started: Value,
}

impl Up {
    /// Starts one and waits until everything runs.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(greffe(), data)
    }

    /// As [`Up::start`], with a command that has settings of its own.
    pub(crate) fn start_with(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .args(["up", "--output", "json", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let started = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("`greffe up` did not start: {line:?}: {error}"));
        Self { child, started }
    }

    /// Stops it as an operator does, and says how it ended.
    pub(crate) fn stop(mut self) {
        self.terminate();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of one that was killed.
    pub(crate) fn gone(mut self) {
        assert_eq!(self.child.wait().unwrap().code(), None);
    }

    fn terminate(&self) {
        // Only that it has ended already can make this fail.
        let _ = kill(pid(self.child.id()), Signal::SIGTERM);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.child.wait();
    }
}

/// A process id.
pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap())
}

/// Somebody's application on a running machine.
pub(crate) struct App {
    pub(crate) client: Client,
    people: PathBuf,
    _store: tempfile::TempDir,
}

impl App {
    pub(crate) async fn open(data: &Path) -> Self {
        let connection =
            Connection::load(&data.join("people/apps/greffe/connection.toml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = ClientStore::open(folder.path(), connection.tenant())
            .await
            .unwrap();
        Self {
            client: Client::open(connection, store, Arc::new(SystemClock))
                .await
                .unwrap(),
            people: data.join("people"),
            _store: folder,
        }
    }

    pub(crate) fn person(&self, name: &str) -> People {
        let person = Person::load(&self.people.join(name), name).unwrap();
        People::new(&self.client, person)
    }

    /// A user's device, certified by the tenant's issuer.
    pub(crate) async fn device(&self, user: &str) -> Device {
        self.try_device(user).await.unwrap()
    }

    /// As [`App::device`], where somebody may refuse.
    pub(crate) async fn try_device(&self, user: &str) -> Result<Device, ClientError> {
        let issuer = fs::read_to_string(self.people.join("operator/issuer.key")).unwrap();
        let issuer = SigningKey::from_bytes(&from_hex::<32>(issuer.trim()).unwrap());
        let until = SystemClock.now().plus(Duration::from_secs(86_400));
        let enrolment = self
            .client
            .enrol(&UserId::new(user).unwrap(), until)
            .await?;
        let certificate = Signed::sign(enrolment.certificate, &[(ISSUER, &issuer)]);
        let device = self.client.register(certificate.into_raw()).await?;
        device.publish_key_packages(1).await?;
        Ok(device)
    }
}
