"""Runbooks: each followed once as it is written, and no command in them that the program does not have."""

import functools
import os
import re
import shutil
import signal
import subprocess

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


@pytest.mark.parametrize("path", [path for path in RUNBOOKS if script(path)], ids=lambda path: path.stem)
def test_followed_as_written(path, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    programs.joinpath("greffe").symlink_to(GREFFE)
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    # Stops at the first step that fails, as a person would; what it left running ends with it.
    running = subprocess.Popen(
        [shutil.which("bash"), "-eux", "-c", script(path)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines = []
    try:
        # What runs in the background keeps the pipe open: wait for the shell, not for the pipe's end.
        running.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        lines.append(f"took longer than {PATIENCE} s")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                os.killpg(running.pid, number)
            except ProcessLookupError:
                pass
        lines.append(running.stdout.read())
    log = folder / "up.log"
    said = "\n".join(lines) + (log.read_text() if log.exists() else "")
    assert running.returncode == 0 and not lines[0].startswith("took longer"), said


def test_every_runbook_is_listed_and_every_link_leads_somewhere():
    listed = (DEPLOY / "runbooks/README.md").read_text()
    for path in RUNBOOKS:
        assert f"({path.name})" in listed, path.name
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), target
        assert {language for language, _ in blocks(path.read_text())} <= {"sh", "console"}, path.name
    for target in re.findall(r"\]\(([^)#]+)\)", listed):
        assert (DEPLOY / "runbooks" / target).exists(), target
