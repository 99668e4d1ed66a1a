"""Sample settings for production, read by the program that is deployed with the variables that their comments name."""

import re
import subprocess

import pytest

from image import DEPLOY, GREFFE

SAMPLES = sorted((DEPLOY / "config/production").glob("*.toml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_program_reads_it(path, tmp_path):
    text = path.read_text()
    environment = {}
    for name in ("SERVICE__DATABASE__URL", *secrets(text)):
        file = tmp_path / name
        file.write_text("postgres://greffe:canary-17@db/greffe" if name.endswith("URL") else "canary-17")
        environment[f"GREFFE__{name}_FILE"] = str(file)
    service = "escrow" if path.stem.startswith("escrow") else path.stem
    command = [GREFFE, "config", "print", service, "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "canary-17" not in done.stdout and 'mode = "production"' in done.stdout
    # What a comment names a variable for has to be given by one: the sample alone is refused.
    alone = subprocess.run(command, capture_output=True, text=True, env={})
    assert alone.returncode == 2 and "SETTINGS_REFUSED" in alone.stderr


def secrets(text: str) -> list[str]:
    """What has to come from a file, by the tables that the sample has."""
    tables = {
        "service.seal": ["SERVICE__SEAL__PIN"],
        "archive.wraps": ["ARCHIVE__WRAPS__URL"],
        "archive.objects": ["ARCHIVE__OBJECTS__ACCESS_KEY_ID", "ARCHIVE__OBJECTS__SECRET_ACCESS_KEY"],
        "archive.objects.replica": ["ARCHIVE__OBJECTS__REPLICA__ACCESS_KEY_ID", "ARCHIVE__OBJECTS__REPLICA__SECRET_ACCESS_KEY"],
    }
    return [name for table in re.findall(r"^\[([a-z0-9_.-]+)\]", text, re.M) for name in tables.get(table, [])]


def test_a_sample_for_each_service():
    assert [path.stem for path in SAMPLES] == ["archive", "audit", "escrow-1", "relay"]
    for path in SAMPLES:
        assert not re.search(r"^\s*(url|pin|secret_access_key|access_key_id)\s*=", path.read_text(), re.M)
