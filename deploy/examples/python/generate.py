#!/usr/bin/env python3
"""Generates the Python stubs of the contracts: generate.py CONTRACTS OUTPUT, such as generate.py ../../../proto stubs."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    contracts, output = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(str(path) for path in contracts.rglob("*.proto"))
    if not files:
        print(f"generate: no contracts in {contracts}", file=sys.stderr)
        return 2
    output.mkdir(parents=True, exist_ok=True)
    return protoc.main(
        ["protoc", f"--proto_path={contracts}", f"--python_out={output}", f"--grpc_python_out={output}", *files]
    )


if __name__ == "__main__":
    sys.exit(main())
