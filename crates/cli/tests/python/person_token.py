"""Prints an auditor's token for the archive as a header carries it: person_token.py SIGNING_KEY."""

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "deploy/examples/python"))
from greffe_archive import Person  # noqa: E402

print(base64.b64encode(Person("demo", "auditor", Path(sys.argv[1])).token("archive")).decode())
