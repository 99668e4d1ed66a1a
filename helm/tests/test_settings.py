"""The rendered settings, read by the program that is deployed, with the variables that the pods are given."""

import os
import pathlib
import subprocess

import pytest

from charts import COMPONENTS, manifests, names, of_kind, pods
from greffe import GREFFE


def settings(found: list[dict], name: str) -> str:
    """What a volume of settings holds."""
    return next(d for d in of_kind(found, "ConfigMap") if d["metadata"]["name"] == name)["data"]


def runs() -> list[tuple[str, str]]:
    """Every pod of the matrix that runs the program."""
    return [(name, where) for name in names() for where, _, _ in pods(manifests(name))]


@pytest.mark.parametrize(("name", "where"), runs())
def test_the_program_reads_what_the_chart_renders(name, where, tmp_path):
    found = manifests(name)
    spec = next(spec for at, _, spec in pods(found) if at == where)
    volume = next(v for v in spec["volumes"] if v["name"] == "settings")
    texts = settings(found, volume["configMap"]["name"])
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        # serve SERVICE, migrate SERVICE, config check SERVICE
        service = next(word for word in container["args"] if word in COMPONENTS)
        config = pathlib.PurePath(container["args"][container["args"].index("--config") + 1])
        assert config.parent.as_posix() == "/etc/greffe/settings"
        text = tmp_path / config.name
        text.write_text(texts[config.name])
        environment = {"PATH": os.environ["PATH"]}
        mounts = {mount["name"]: pathlib.PurePath(mount["mountPath"]) for mount in container["volumeMounts"]}
        for variable in container.get("env") or []:
            if not variable["name"].startswith("GREFFE__"):
                continue
            file = pathlib.PurePath(variable["value"])
            secret = next(v for v in spec["volumes"] if mounts.get(v["name"]) == file.parent)["secret"]
            # The file that the variable names is one that the volume projects.
            assert file.name in [item["path"] for item in secret["items"]]
            given = tmp_path / variable["name"]
            given.write_text("postgres://greffe:canary-17@db/greffe" if file.name == "url" else "canary-17")
            environment[variable["name"]] = str(given)
        command = [GREFFE, "config", "print", service, "--config", text]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert "canary-17" not in done.stdout + done.stderr
        assert f"[{service}" in done.stdout and 'mode = "' in done.stdout
        for variable in environment:
            if variable.startswith("GREFFE__"):
                assert variable in done.stdout, "printed with where it came from"


def test_every_command_that_a_pod_runs_is_one_that_the_program_has():
    ran = {
        tuple(word for word in container["args"][:2] if word not in COMPONENTS)
        for name in names()
        for _, _, spec in pods(manifests(name))
        for container in (spec.get("initContainers") or []) + spec["containers"]
    }
    assert ran == {("serve",), ("migrate",), ("config", "check"), ("config", "print")}
    for command in ran:
        done = subprocess.run([GREFFE, *command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "--config" in done.stdout, (command, done.stderr)


def test_a_setting_that_the_program_does_not_know_is_seen(tmp_path):
    text = settings(manifests("development"), "trial-relay")["relay.toml"]
    config = tmp_path / "relay.toml"
    config.write_text(text.replace("[service.health]", "[service.helth]"))
    done = subprocess.run([GREFFE, "config", "print", "relay", "--config", config], capture_output=True, text=True)
    assert done.returncode != 0 and "helth" in done.stderr
