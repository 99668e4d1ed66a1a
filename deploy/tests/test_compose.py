"""compose.yaml: what it promises, and its containers run as they are written, from the image, in mount namespaces."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import yaml

from image import DEPLOY, GREFFE
from metrics import metrics

NAMES = ("audit", "escrow-1", "escrow-2", "escrow-3", "archive", "relay")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
# A network of this test's own on the loopback interface.
NET = f"127.{64 + os.getpid() // 250 % 128}.{os.getpid() % 250}"


def filled(text: str, variables: dict[str, str]) -> str:
    """Compose's own substitution: ${NAME}, ${NAME:-default}, ${NAME:?why}."""

    def one(match):
        name, kind, rest = match[1], match[2], match[3]
        value = variables.get(name, "")
        assert value or kind == ":-", f"{name} is not set: {rest}"
        return value or rest

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", one, text)


def test_every_service_is_closed():
    assert set(SERVICES) == set(NAMES)
    folders = []
    for name, service in SERVICES.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
        assert "GREFFE_UID" in service["user"] and "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert writable == [f"${{GREFFE_DATA}}/services/{name}:/var/lib/greffe/{name}"]
        folders += writable
        values = service["environment"].values()
        assert not any("password" in str(value).lower() or "://" in str(value) for value in values)
    assert len(set(folders)) == len(folders), "no two services share a folder"
    ports = [port for service in SERVICES.values() for port in service["ports"]]
    assert len(set(ports)) == len(ports) == 12
    assert COMPOSE["networks"]["greffe"] == {"internal": True}


class Containers:
    """The services of compose.yaml over a data folder, each with the mounts, user and variables that it says."""

    def __init__(self, image, data: pathlib.Path, folder: pathlib.Path):
        self.folder, self.data, self.running = folder, data, {}
        for number, name in enumerate(NAMES, 1):
            root = folder / name
            subprocess.run(["cp", "-al", image.rootfs, root], check=True)
            hosts = "".join(f"{NET}.{n} {other}\n" for n, other in enumerate(NAMES, 1))
            (root / "etc/hosts").write_text(hosts)
            self.start(name, root, f"{NET}.{number}")

    def start(self, name: str, root: pathlib.Path, address: str):
        service = SERVICES[name]
        variables = {"GREFFE_DATA": str(self.data), "GREFFE_UID": "65532", "GREFFE_GID": "65532"}
        script = [f"mount --bind {root} {root}"]
        for volume in [*service["volumes"], "/proc:/proc", "/dev:/dev"]:
            source, target = filled(volume, variables).removesuffix(":ro").split(":")
            source = (DEPLOY / source).resolve()
            at = root / target.lstrip("/")
            if source.is_dir():
                at.mkdir(parents=True, exist_ok=True)
            else:
                at.parent.mkdir(parents=True, exist_ok=True)
                at.touch()
            script.append(f"mount --bind {source} {at}")
            if volume.endswith(":ro"):
                script.append(f"mount -o remount,ro,bind {at}")
        script += [f"mount -t tmpfs tmpfs {root}/{path.lstrip('/')}" for path in service["tmpfs"]]
        # Read-only, as the file says: what is mounted on it keeps its own mode.
        script.append(f"mount -o remount,ro,bind {root}")
        user = filled(service["user"], variables)
        script.append(f'exec chroot --userspec={user} {root} /usr/local/bin/greffe "$@"')
        environment = {key: filled(value, variables) for key, value in service["environment"].items()}
        # One network namespace for all: each container has an address where compose gives it a network interface.
        environment |= {"GREFFE__SERVICE__LISTEN": f"{address}:7400", "GREFFE__SERVICE__HEALTH__LISTEN": f"{address}:7480"}
        log = (self.folder / f"{name}.log").open("wb")
        self.running[name] = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(script), "sh", *service["command"]],
            env=environment | {"PATH": os.environ["PATH"]}, stdout=log, stderr=log,
        )  # fmt: skip

    def stop(self) -> dict[str, int]:
        """SIGTERM to each; how each ended."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        ended = {}
        for name, process in self.running.items():
            try:
                ended[name] = process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                ended[name] = process.wait()
        return ended

    def logs(self) -> str:
        """The end of what each said."""
        return "\n".join(f"== {name}\n{(self.folder / f'{name}.log').read_text()[-1500:]}" for name in NAMES)


def test_the_containers_run_as_written(image, tmp_path):
    assert os.geteuid() == 0, "mount namespaces need root"
    data = tmp_path / "greffe-data"
    up = subprocess.Popen([GREFFE, "up", "--data", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = up.stdout.readline()
    assert "is up" in first, first
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=60) == 0
    subprocess.run(["chown", "-R", "65532:65532", data / "services"], check=True)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    data.chmod(0o755)
    (data / "services").chmod(0o755)

    # The sample connection file, with the addresses that published ports lead to.
    text = (DEPLOY / "config/connection.toml").read_text()
    for number, name in enumerate(NAMES, 1):
        published = SERVICES[name]["ports"][0].split(":")[1]
        assert f'[peers.{name}]\naddress = "127.0.0.1:{published}"' in text
        text = text.replace(f"127.0.0.1:{published}", f"{NET}.{number}:7400")
    connection = data / "people/apps/greffe/compose.toml"
    connection.write_text(text)

    def greffe(*arguments: str) -> dict:
        command = [GREFFE, *arguments, "--data", data, "--connection", connection, "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + containers.logs()
        return json.loads(done.stdout)

    containers = Containers(image, data, tmp_path)
    try:
        wait_for(connection, data, containers)
        for user in ("alice", "bob"):
            greffe("device", "enrol", "--user", user)
        conversation = greffe("conversation", "create", "--as", "alice")["conversation"]
        greffe("conversation", "acknowledge", conversation, "--as", "alice")
        greffe("conversation", "invite", conversation, "bob", "--as", "alice")
        greffe("send", "--as", "alice", "--conversation", conversation, "--text", "through containers")
        greffe("read", "--as", "bob")
        greffe("conversation", "acknowledge", conversation, "--as", "bob")
        items = greffe("read", "--as", "bob")["items"]
        for number in range(1, len(NAMES) + 1):
            say_that_they_serve(f"http://{NET}.{number}:7480")
        assert [item["content"]["text"] for item in items] == ["through containers"]
    finally:
        ended = containers.stop()
    assert set(ended.values()) == {0}, (ended, containers.logs())


def say_that_they_serve(health: str):
    """The plaintext port, as the kubelet and Prometheus read it."""
    for page in ("livez", "readyz"):
        with urllib.request.urlopen(f"{health}/{page}", timeout=5) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(f"{health}/metrics", timeout=5) as answer:
        shown = set(re.findall(r"^greffe_\w+", answer.read().decode(), re.M))
    assert "greffe_rpc_duration_seconds_count" in shown
    assert shown <= metrics(), shown - metrics()


def wait_for(connection, data, containers):
    """Until the log's newest checkpoint is to be had, which takes the log and its witnesses."""
    command = [GREFFE, "log", "checkpoint", "--data", data, "--connection", connection]
    until = time.monotonic() + 60
    while subprocess.run(command, capture_output=True).returncode != 0:
        dead = [name for name, process in containers.running.items() if process.poll() is not None]
        assert time.monotonic() < until and not dead, (dead, containers.logs())
        time.sleep(0.5)
