//! PostgreSQL: a cluster in a temporary folder, durable as in production, with the two roles that a service knows.
//!
//! Nobody works as superuser but tests of what a superuser does: [`OWNER`] owns a database and migrates it, [`RUNTIME`] only
//! reads and writes rows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::process::{Folder, Server, free_port, run};

/// Owns every test's database; no superuser. Its password is its name.
pub const OWNER: &str = "greffe_owner";
/// May select, insert, update and delete in what [`OWNER`] makes, nothing else. Its password is its name.
pub const RUNTIME: &str = "greffe_runtime";

const START: Duration = Duration::from_secs(30);
/// Longest that sessions may outlive their postmaster.
const END: Duration = Duration::from_secs(30);

/// A cluster. It is stopped when the test process ends.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    programs: PathBuf,
    port: u16,
    server: Mutex<Option<Server>>,
    databases: AtomicU32,
}

impl Postgres {
    /// The cluster that the tests of this process share. Crash tests take one of their own, by [`Postgres::own`].
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::own).clone()
    }

    /// A cluster that nobody else uses: it may be killed.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn own() -> Arc<Self> {
        let postgres = Self::empty();
        let initdb = postgres.programs.join("initdb").display().to_string();
        let data = postgres.data();
        run(&mut unprivileged(&[
            &initdb,
            "--pgdata",
            &data,
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        postgres.start();
        for role in [OWNER, RUNTIME] {
            postgres.psql(
                "postgres",
                &format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'"),
            );
        }
        Arc::new(postgres)
    }

    fn empty() -> Self {
        let folder = Folder::new("greffe-postgres-");
        // PostgreSQL refuses to run as root.
        if root() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
                .and_then(|()| fs::create_dir(folder.join("cluster")))
                .unwrap_or_else(|error| panic!("cannot make the cluster's folder: {error}"));
            run(Command::new("chown")
                .arg("nobody:nogroup")
                .arg(folder.join("cluster")));
        } else {
            fs::create_dir(folder.join("cluster"))
                .unwrap_or_else(|error| panic!("cannot make the cluster's folder: {error}"));
        }
        Self {
            programs: programs(),
            folder,
            port: free_port(),
            server: Mutex::new(None),
            databases: AtomicU32::new(0),
        }
    }

    /// A streaming standby of this cluster, on another port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn standby(&self) -> Arc<Self> {
        let standby = Self::empty();
        let program = self.programs.join("pg_basebackup").display().to_string();
        let socket = self.folder.join("cluster").display().to_string();
        run(&mut unprivileged(&[
            &program,
            "--pgdata",
            &standby.data(),
            "--host",
            &socket,
            "--port",
            &self.port.to_string(),
            "--username=postgres",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
        ]));
        standby.start();
        Arc::new(standby)
    }

    /// The URL of the same database here, by that on the cluster which this one follows.
    pub fn at(&self, url: &str) -> String {
        let (host, name) = url.rsplit_once('/').unwrap_or((url, ""));
        let (host, _) = host.rsplit_once(':').unwrap_or((host, ""));
        format!("{host}:{}/{name}", self.port)
    }

    /// A fresh, empty database; its URL, over TCP, as [`OWNER`].
    ///
    /// # Panics
    /// When it cannot be created.
    pub async fn database(self: &Arc<Self>) -> String {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.database_blocking())
            .await
            .unwrap_or_else(|error| panic!("cannot create a database: {error}"))
    }

    /// As [`Postgres::database`], for code without a runtime.
    ///
    /// # Panics
    /// When it cannot be created.
    pub fn database_blocking(&self) -> String {
        let name = format!("test_{}", self.number());
        self.psql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"));
        self.grant(&name);
        format!("postgres://{OWNER}:{OWNER}@127.0.0.1:{}/{name}", self.port)
    }

    /// What the roles may do in a database of [`OWNER`].
    pub(crate) fn grant(&self, name: &str) {
        self.psql(
            name,
            &format!(
                "REVOKE ALL ON DATABASE {name} FROM PUBLIC;
                 GRANT CONNECT ON DATABASE {name} TO {RUNTIME};
                 GRANT USAGE ON SCHEMA public TO {RUNTIME};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
                   GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {RUNTIME};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
                   GRANT USAGE, SELECT ON SEQUENCES TO {RUNTIME}"
            ),
        );
    }

    /// One that nobody else has got: for names.
    pub(crate) fn number(&self) -> u32 {
        self.databases.fetch_add(1, Ordering::Relaxed)
    }

    /// The same database as [`RUNTIME`].
    pub fn as_runtime(url: &str) -> String {
        url.replace(
            &format!("{OWNER}:{OWNER}@"),
            &format!("{RUNTIME}:{RUNTIME}@"),
        )
    }

    /// The same database as superuser, over the unix socket: for tests of what a superuser can do.
    pub fn as_superuser(&self, url: &str) -> String {
        let name = url.rsplit('/').next().unwrap_or_default();
        format!(
            "postgres://postgres@localhost:{}/{name}?host={}",
            self.port,
            self.folder.join("cluster").display()
        )
    }

    /// Runs statements as superuser.
    ///
    /// # Panics
    /// When one fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--username=postgres"])
            .arg(format!("--host={}", self.folder.join("cluster").display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname={database}"))
            .arg("--command")
            .arg(sql))
    }

    /// What `pg_dump` writes of a database, without what differs between two runs.
    ///
    /// # Panics
    /// When it fails.
    pub fn dump(&self, database: &str, options: &[&str]) -> String {
        let dump = run(Command::new(self.programs.join("pg_dump"))
            .arg("--username=postgres")
            .arg(format!("--host={}", self.folder.join("cluster").display()))
            .arg(format!("--port={}", self.port))
            .args(options)
            .arg(database));
        // Its newest versions fence their output by a random word.
        dump.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Runs one of PostgreSQL's own programs, such as `pg_dump`.
    ///
    /// # Panics
    /// When it fails.
    pub fn tool(&self, program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) {
        run(arguments(&mut Command::new(self.programs.join(program))));
    }

    /// Its TCP port, on the loopback interface. It stays the same over [`Postgres::kill`] and [`Postgres::start`].
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id; none when it does not run.
    pub fn pid(&self) -> Option<i32> {
        self.slot().as_ref().map(Server::pid)
    }

    /// As a power cut would: SIGKILL, nothing written any more, its sessions gone with it.
    ///
    /// # Panics
    /// When a session does not end.
    pub fn kill(&self) {
        if let Some(server) = self.slot().take() {
            let sessions = children(server.pid());
            server.end("KILL");
            // Each notices by itself that the postmaster is gone, and may have answered once more before.
            let killed = Instant::now();
            while let Some(session) = sessions.iter().find(|session| runs(session)) {
                assert!(
                    killed.elapsed() < END,
                    "{} still runs {END:?} after its postmaster was killed",
                    session.display()
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Starts it again after [`Postgres::kill`]; recovered when this returns. Nothing when it runs.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&self) {
        let mut slot = self.slot();
        if slot.is_some() {
            return;
        }
        let program = self.programs.join("postgres").display().to_string();
        let ready = self.programs.join("pg_isready");
        let socket = self.folder.join("cluster").display().to_string();
        let (port, data) = (self.port.to_string(), self.data());
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={socket}"),
            "max_connections=300".to_owned(),
            "shared_buffers=64MB".to_owned(),
            "fsync=on".to_owned(),
            "log_min_messages=warning".to_owned(),
        ];
        let mut command = vec![program.as_str(), "-D", &data, "-p", &port];
        for setting in &settings {
            command.extend(["-c", setting]);
        }
        let command = with_user(&command);
        let log = self.folder.join("postgres.log");
        let up = || {
            Command::new(&ready)
                .args(["--quiet", "--host", &socket, "--port", &port])
                .status()
                .is_ok_and(|status| status.success())
        };
        // A killed postmaster's sessions take a moment to notice; until then a new one refuses the data folder.
        let mut failed = String::new();
        for _ in 0..20 {
            let server = Server::start(&command, &log, "QUIT");
            match server.try_wait("PostgreSQL", START, up) {
                Ok(()) => {
                    *slot = Some(server);
                    return;
                }
                Err(why) => failed = why,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{failed}");
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn data(&self) -> String {
        self.folder.join("cluster/data").display().to_string()
    }
}

/// The folder of the newest version's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    versions
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs
                .join("initdb")
                .exists()
                .then_some((version, programs))
        })
        .max()
        .unwrap_or_else(|| panic!("PostgreSQL is not installed; run `cargo xtask parts`"))
        .1
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The command as a user without privileges, when we are root.
fn with_user<'a>(command: &[&'a str]) -> Vec<&'a str> {
    let mut whole = Vec::new();
    if root() {
        whole.extend(["setpriv", "--reuid=nobody", "--regid=nogroup"]);
        whole.extend(["--clear-groups", "--"]);
    }
    whole.extend(command);
    whole
}

fn unprivileged(command: &[&str]) -> Command {
    let whole = with_user(command);
    let mut command = Command::new(whole[0]);
    command.args(&whole[1..]).current_dir("/");
    command
}

/// What `/proc` has of the processes that a process has begun.
fn children(parent: i32) -> Vec<PathBuf> {
    let line = format!("PPid:\t{parent}");
    let begun_by = |path: &PathBuf| {
        fs::read_to_string(path.join("status"))
            .is_ok_and(|status| status.lines().any(|found| found == line))
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.map(|entry| entry.path()).filter(begun_by).collect()
}

/// Whether a process of `/proc` still does anything: a zombie, whose new parent has not looked yet, does not.
fn runs(process: &Path) -> bool {
    fs::read_to_string(process.join("status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_and_was_not_waited_for_does_not_run() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(runs(&process));
        child.kill().unwrap();
        let killed = Instant::now();
        while runs(&process) {
            assert!(killed.elapsed() < END);
        }
        assert!(process.exists(), "nobody has waited for it");
        child.wait().unwrap();
        assert!(!runs(&process));
    }

    #[tokio::test]
    async fn roles_may_do_what_they_are_for_and_a_killed_cluster_comes_back() {
        let postgres = Postgres::own();
        let url = postgres.database().await;
        let name = url.rsplit('/').next().unwrap();
        let psql = |url: &str, sql: &str| {
            Command::new(postgres.programs.join("psql"))
                .args([
                    "--quiet",
                    "--tuples-only",
                    "--no-align",
                    url,
                    "--command",
                    sql,
                ])
                .output()
                .unwrap()
        };
        assert!(psql(&url, "CREATE TABLE t (n int)").status.success());
        let runtime = Postgres::as_runtime(&url);
        assert!(psql(&runtime, "INSERT INTO t VALUES (7)").status.success());
        assert!(!psql(&runtime, "DROP TABLE t").status.success());
        assert!(!psql(&runtime, "CREATE TABLE u (n int)").status.success());
        assert_ne!(url, postgres.database().await);
        postgres.kill();
        assert!(!psql(&runtime, "SELECT 1").status.success());
        postgres.start();
        assert_eq!(psql(&runtime, "SELECT n FROM t").stdout, b"7\n");
        assert_eq!(postgres.psql(name, "SHOW fsync"), "on\n");
        let superuser = postgres.as_superuser(&url);
        assert_eq!(
            psql(&superuser, "SELECT current_user").stdout,
            b"postgres\n"
        );
    }
}
