//! An S3 store whose Object Lock really holds: a one-node Ceph cluster with its gateway, authenticated by cephx.
//!
//! Its data is in memory, unless [`Ceph::on_disk`] is asked for. What the gateway does not do: it ignores `If-None-Match` on
//! a PUT without a word, and wants streamed uploads without trailing checksums.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region, RequestChecksumCalculation};

pub use aws_sdk_s3 as s3;

use crate::process::{Folder, Server, free_port, run};

/// Longest that one daemon takes to start.
const START: Duration = Duration::from_secs(120);

/// Somebody who signs requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its name: what a bucket policy names as `arn:aws:iam:::user/<name>`.
    pub name: &'static str,
    /// Access key id.
    pub access_key: &'static str,
    /// Secret access key.
    pub secret_key: &'static str,
}

/// Owns the buckets it creates: an administrator's credentials.
pub const OWNER: User = User {
    name: "owner",
    access_key: "OWNEROWNEROWNEROWNER",
    secret_key: "owner-secret-owner-secret-owner-secret-0",
};

/// May do what a bucket's policy allows it, nothing else: a service's credentials.
pub const SERVICE: User = User {
    name: "service",
    access_key: "SERVICESERVICESERVIC",
    secret_key: "service-secret-service-secret-service-00",
};

/// The region that the gateway answers to.
pub const REGION: &str = "us-east-1";

/// A running cluster. It is stopped when the test process ends.
#[derive(Debug)]
pub struct Ceph {
    folder: Folder,
    port: u16,
    _monitor: Server,
    storage: Server,
    gateway: Mutex<Server>,
    buckets: AtomicU32,
}

impl Ceph {
    /// The cluster that the tests of this process share, in memory.
    ///
    /// # Panics
    /// When Ceph is not installed or does not start.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Ceph>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("memstore")).clone()
    }

    /// A cluster of its own that keeps its data in a file of at most 32 GiB in the temporary folder.
    ///
    /// # Panics
    /// When Ceph is not installed or does not start.
    pub fn on_disk() -> Arc<Self> {
        Self::start("bluestore")
    }

    /// Where the gateway answers, `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A bucket name that no other test of this process uses; the caller creates it.
    pub fn bucket_name(&self) -> String {
        format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed))
    }

    /// A client that signs as `user`.
    pub fn client(&self, user: User) -> Client {
        let (key, secret) = (user.access_key, user.secret_key);
        Client::from_conf(
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .endpoint_url(self.endpoint())
                .region(Region::new(REGION))
                .force_path_style(true)
                .credentials_provider(Credentials::new(key, secret, None, None, "test"))
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .build(),
        )
    }

    /// Creates a bucket with versions and Object Lock, as [`OWNER`]; its name.
    ///
    /// # Panics
    /// When it cannot be created.
    pub async fn locking_bucket(&self) -> String {
        let name = self.bucket_name();
        self.client(OWNER)
            .create_bucket()
            .bucket(&name)
            .object_lock_enabled_for_bucket(true)
            .send()
            .await
            .unwrap_or_else(|error| panic!("cannot create {name}: {error:?}"));
        name
    }

    /// Process ids of the storage daemon and the gateway.
    pub fn pids(&self) -> (i32, i32) {
        (self.storage.pid(), self.gateway().pid())
    }

    /// Kills the gateway: requests find nobody.
    pub fn stop_gateway(&self) {
        self.gateway().end("KILL");
    }

    /// Starts the gateway again after [`Ceph::stop_gateway`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_gateway(&self) {
        *self.gateway() = gateway(&self.folder, self.port);
    }

    /// Starts one more gateway to the same buckets; killed when what this gives is dropped.
    ///
    /// # Panics
    /// When it does not start.
    pub fn another_gateway(&self) -> Gateway {
        let port = free_port();
        Gateway {
            server: gateway(&self.folder, port),
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }

    /// As [`Ceph::another_gateway`], over TLS with a certificate for 127.0.0.1 and its key, as PEM.
    ///
    /// # Panics
    /// When it does not start.
    pub fn tls_gateway(&self, certificate: &str, key: &str) -> Gateway {
        let port = free_port();
        let file = self.folder.join(&format!("gateway-{port}.pem"));
        fs::write(&file, format!("{certificate}{key}"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let frontend = format!(
            "ssl_endpoint=127.0.0.1:{port} ssl_certificate={}",
            file.display()
        );
        Gateway {
            server: gateway_at(&self.folder, port, &frontend),
            endpoint: format!("https://127.0.0.1:{port}"),
        }
    }

    fn gateway(&self) -> std::sync::MutexGuard<'_, Server> {
        self.gateway.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn start(store: &str) -> Arc<Self> {
        let folder = Folder::new("greffe-ceph-");
        let port = free_port();
        let address = format!(
            "[v2:127.0.0.1:{},v1:127.0.0.1:{}]",
            free_port(),
            free_port()
        );
        configure(&folder, store, &address);
        make_keys(&folder);
        let monitor = monitor(&folder, &address);
        let storage = storage(&folder);
        let gateway = gateway(&folder, port);
        for user in [OWNER, SERVICE] {
            run(ceph(&folder, "radosgw-admin")
                .args([
                    "user",
                    "create",
                    "--uid",
                    user.name,
                    "--display-name",
                    user.name,
                ])
                .args([
                    "--access-key",
                    user.access_key,
                    "--secret-key",
                    user.secret_key,
                ]));
        }
        Arc::new(Self {
            folder,
            port,
            _monitor: monitor,
            storage,
            gateway: Mutex::new(gateway),
            buckets: AtomicU32::new(0),
        })
    }
}

/// One more way to the same buckets: what it is to lose one while the other answers.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    endpoint: String,
}

impl Gateway {
    /// Where it answers.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Kills it.
    pub fn kill(&self) {
        self.server.end("KILL");
    }
}

fn configure(folder: &Folder, store: &str, monitor: &str) {
    let here = folder.path().display();
    let settings = format!(
        "[global]
fsid = {FSID}
mon host = {monitor}
keyring = {here}/keyring
run dir = {here}
admin socket = {here}/$name.$pid.asok
log file =
log to stderr = true
err to stderr = true
mon cluster log file =
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pgp num = 2
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon osd full ratio = 0.99
mon data avail crit = 1
[mon]
mon data = {here}/mon
mon osd min down reporters = 1
[osd]
osd data = {here}/osd
osd objectstore = {store}
memstore device bytes = 8589934592
bluestore block size = 34359738368
bluestore fsck on mount = false
osd memory target = 1073741824
[client]
rgw enable usage log = false
rgw enable gc threads = true
rgw run sync thread = false
rgw thread pool size = 64
"
    );
    fs::write(folder.join("ceph.conf"), settings)
        .unwrap_or_else(|error| panic!("cannot write ceph.conf: {error}"));
}

/// Any will do: the cluster talks to nobody but itself.
const FSID: &str = "9f7f5d0c-3c1e-4b9b-8a25-0d4d1ab7c301";
const OSD_UUID: &str = "1b0cf2e4-9a47-4a3e-bb0d-6a1f8c2d5e02";

/// One keyring for all, put into the monitor when it is made: no key has to be asked for afterwards.
fn make_keys(folder: &Folder) {
    let keys: [(&str, &[&str]); 4] = [
        ("mon.", &["mon", "allow *"]),
        (
            "client.admin",
            &[
                "mon", "allow *", "osd", "allow *", "mgr", "allow *", "mds", "allow *",
            ],
        ),
        ("osd.0", &["mon", "allow profile osd", "osd", "allow *"]),
        ("client.rgw", &["mon", "allow rw", "osd", "allow rwx"]),
    ];
    for (index, (name, caps)) in keys.into_iter().enumerate() {
        let mut command = Command::new("ceph-authtool");
        command.arg(folder.join("keyring"));
        if index == 0 {
            command.arg("--create-keyring");
        }
        command.args(["--gen-key", "-n", name]);
        for cap in caps.chunks(2) {
            command.arg("--cap").args(cap);
        }
        run(&mut command);
    }
}

fn monitor(folder: &Folder, address: &str) -> Server {
    let data = folder.join("mon");
    fs::create_dir(&data).unwrap_or_else(|error| panic!("cannot make {}: {error}", data.display()));
    run(Command::new("monmaptool")
        .args(["--create", "--fsid", FSID, "--addv", "a", address])
        .arg(folder.join("monmap")));
    run(ceph(folder, "ceph-mon")
        .args(["--mkfs", "-i", "a", "--monmap"])
        .arg(folder.join("monmap")));
    let server = daemon(folder, "ceph-mon", &["-i", "a"]);
    server.wait("the Ceph monitor", START, || {
        ceph(folder, "ceph")
            .args(["--connect-timeout", "2", "osd", "new", OSD_UUID])
            .output()
            .is_ok_and(|output| output.status.success())
    });
    server
}

fn storage(folder: &Folder) -> Server {
    let data = folder.join("osd");
    fs::create_dir(&data).unwrap_or_else(|error| panic!("cannot make {}: {error}", data.display()));
    run(ceph(folder, "ceph-osd").args(["--mkfs", "-i", "0", "--osd-uuid", OSD_UUID]));
    daemon(folder, "ceph-osd", &["-i", "0"])
}

fn gateway(folder: &Folder, port: u16) -> Server {
    gateway_at(folder, port, &format!("endpoint=127.0.0.1:{port}"))
}

fn gateway_at(folder: &Folder, port: u16, frontend: &str) -> Server {
    let frontend = format!("--rgw-frontends=beast {frontend}");
    let server = daemon(folder, "radosgw", &["-n", "client.rgw", &frontend]);
    server.wait("the Ceph gateway", START, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    server
}

fn daemon(folder: &Folder, program: &str, arguments: &[&str]) -> Server {
    let configuration = folder.join("ceph.conf").display().to_string();
    let mut command = vec![program, "-c", &configuration, "-f"];
    command.extend(arguments);
    Server::start(&command, &folder.join(&format!("{program}.log")), "KILL")
}

fn ceph(folder: &Folder, program: &str) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("ceph.conf"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_answers_and_knows_its_users() {
        let ceph = Ceph::shared();
        assert!(ceph.endpoint().starts_with("http://127.0.0.1:"));
        assert_ne!(ceph.bucket_name(), ceph.bucket_name());
        let users = run(super::ceph(&ceph.folder, "radosgw-admin").args(["user", "list"]));
        assert!(users.contains(OWNER.name) && users.contains(SERVICE.name));
    }
}
