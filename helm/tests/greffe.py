"""The program that is deployed."""

import os

# Set by `cargo xtask helm`, which also builds it.
GREFFE = os.environ.get("GREFFE_BIN") or ""
assert GREFFE, "GREFFE_BIN names no program: run the checks by `cargo xtask helm`"
