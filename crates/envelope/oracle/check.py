"""Recomputes every vector in ../vectors without any of the Rust code, then shows that each check can fail.

Usage: check.py [VECTORS [CONTRACTS]]. Needs no network once requirements.txt is installed. Exit 0 when all holds.
"""

import copy
import json
import pathlib
import sys

from checks import FILES, STATEMENTS, Checker, Failed
from cryptography.exceptions import InvalidTag
from proto import Schema

HERE = pathlib.Path(__file__).resolve().parent


def leaves(value, where=()):
    """Every string, number and truth value in a vector, with the way to it; words that only describe aside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "about":
                yield from leaves(inner, where + (key,))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, where + (index,))
    elif value is not None:
        yield where, value


def flipped(value, seed):
    """The value with one bit changed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value | 1 << value.bit_length()
    try:
        data = bytearray.fromhex(value)
    except ValueError:
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    if not data:
        return "00"
    at = seed % len(data)
    data[at] ^= 1 << seed % 8
    return data.hex()


def changed(case, where, seed):
    case = copy.deepcopy(case)
    holder = case
    for step in where[:-1]:
        holder = holder[step]
    holder[where[-1]] = flipped(holder[where[-1]], seed)
    return case


def decides(file, case, where):
    """Whether a leaf has to matter: of a signature that is refused anyway only the verdict does."""
    return file != "ed25519.json" or case["accepted"] or where == ("accepted",)


def main():
    vectors = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "vectors"
    contracts = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE.parents[2] / "proto/greffe/envelope/v1"
    found = {file.name for file in vectors.iterdir()}
    if found != set(FILES):
        sys.exit(f"oracle: other files than expected: {sorted(found ^ set(FILES))}")
    checker, flips = Checker(Schema(contracts)), 0
    types = set()
    for file, check in FILES.items():
        cases = json.loads((vectors / file).read_text("utf-8"))["cases"]
        if not cases:
            sys.exit(f"oracle: {file} holds no vector")
        for number, case in enumerate(cases):
            types.add(case.get("type"))
            try:
                check(checker, case)
            except (Failed, InvalidTag, ValueError, KeyError) as error:
                sys.exit(f"oracle: {file}, vector {number}: {error!r}")
            for where, _ in leaves(case):
                if not decides(file, case, where):
                    continue
                flips += 1
                try:
                    check(Checker(checker.schema), changed(case, where, flips))
                except (Failed, InvalidTag, ValueError):
                    continue
                sys.exit(f"oracle: {file}, vector {number}: nothing notices a changed bit in {where}")
    if missing := set(STATEMENTS) - types:
        sys.exit(f"oracle: no vector for statements of type {sorted(missing)}")
    print(f"{checker.count + flips} checks passed: {checker.count} values recomputed, {flips} changed bits noticed")


if __name__ == "__main__":
    main()
