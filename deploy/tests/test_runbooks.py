"""Runbooks: each followed once as it is written, and no command in them that the program does not have."""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from image import DEPLOY, GREFFE
from runbooks import RUNBOOKS, blocks, commands, script

# Longest that one may take, seconds.
PATIENCE = 240


@functools.cache
def usage(words: tuple[str, ...]) -> str | None:
    """What the program says of a command, if it has it."""
    done = subprocess.run([GREFFE, *words, "--help"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_every_command_is_one_that_the_program_has(path):
    found = commands(path)
    assert found or "greffe" not in script(path)
    for words in found:
        if words == ["--version"]:
            continue
        command = []
        for word in words:
            if word.startswith("-") or not re.fullmatch(r"[a-z-]+", word) or usage((*command, word)) is None:
                break
            # A value that happens to be followed by --help is no command: its help is that of the command before it.
            if command and usage((*command, word)) == usage(tuple(command)):
                break
            command.append(word)
        assert command, words
        text = usage(tuple(command))
        for flag in [word for word in words if word.startswith("--")]:
            assert re.search(rf"^\s+(-\w, )?{flag}\b", text, re.M), (words, flag)


@pytest.fixture
def workplace():
    """An empty folder of somebody who is not root, with the program on the path: databases refuse to be root's."""
    with tempfile.TemporaryDirectory(prefix="greffe-runbook-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        (place / "bin").mkdir()
        shutil.copy(GREFFE, place / "bin/greffe")
        (place / "work").mkdir()
        shutil.chown(place / "work", "nobody", "nogroup")
        yield place


@pytest.mark.parametrize("path", [path for path in RUNBOOKS if script(path)], ids=lambda path: path.stem)
def test_followed_as_written(path, workplace):
    folder = workplace / "work"
    environment = {"PATH": f"{workplace / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    # Stops at the first step that fails, as a person would; what it left running ends with it.
    running = subprocess.Popen(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", shutil.which("bash"), "-eux", "-c", script(path)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=(workplace / "said").open("w"), stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        outcome = running.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        outcome = f"took longer than {PATIENCE} s"
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(running.pid, number)
                time.sleep(1)
            except ProcessLookupError:
                break
        # Servers leave the group that they were started in.
        for file in folder.glob("*/postmaster.pid"):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
    said = [workplace / "said", *sorted(folder.glob("*.log"))]
    assert outcome == 0, "\n".join(file.read_text()[-4000:] for file in said)


def test_every_runbook_is_listed_and_every_link_leads_somewhere():
    listed = (DEPLOY / "runbooks/README.md").read_text()
    for path in RUNBOOKS:
        assert f"({path.name})" in listed, path.name
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), target
        assert {language for language, _ in blocks(path.read_text())} <= {"sh", "console"}, path.name
    for target in re.findall(r"\]\(([^)#]+)\)", listed):
        assert (DEPLOY / "runbooks" / target).exists(), target
