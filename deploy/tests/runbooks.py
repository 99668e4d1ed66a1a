"""Runbooks taken apart: which blocks are run, and which commands of ours stand in them."""

import re
import shlex

from image import DEPLOY

RUNBOOKS = sorted(path for path in (DEPLOY / "runbooks").glob("*.md") if path.name != "README.md")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """Every fenced block: its language and its lines, without what indents them."""
    found = []
    for indent, language, body in BLOCK.findall(text):
        found.append((language, re.sub(rf"^{indent}", "", body, flags=re.M)))
    return found


def script(path) -> str:
    """What is run of a runbook."""
    return "".join(body for language, body in blocks(path.read_text()) if language == "sh")


def commands(path) -> list[list[str]]:
    """Every command of ours in a runbook's blocks, as words."""
    found = []
    for _, body in blocks(path.read_text()):
        for line in body.replace("\\\n", " ").splitlines():
            for start in re.finditer(r"(?:^|[\s(;&|])greffe (?=[a-z-])", line):
                words = shlex.split(until_operator(line[start.end() :]))
                # A database, role or release of that name is no command of ours.
                if not re.search(r"\b(helm|kubectl|createdb|createuser)\b", line[: start.start()]):
                    found.append(words)
    return found


def until_operator(text: str) -> str:
    """The words of one command: up to what ends it, outside quotes."""
    quote = ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "|>&;)<":
            return text[:at]
    return text
