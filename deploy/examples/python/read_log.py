#!/usr/bin/env python3
"""Reads a whole log over plain HTTP in the C2SP tlog-tiles layout, and believes none of it before it is recomputed.

The checkpoint has to carry the log's signature and, with --witness, those of all witnesses or of --quorum; every tile of hashes
has to follow from the level below it; the root has to be the checkpoint's; with --entries every entry has to be the one that its
hash is of.

Exit codes: 0 all holds, 2 not understood, 4 something does not hold, 5 not reachable.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import struct
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
ED25519, COSIGNATURE = 0x01, 0x04


class Wrong(Exception):
    """What was read does not hold."""


@dataclass(frozen=True)
class Key:
    """A verifier key of C2SP signed-note: NAME+HASH+BASE64, where the base64 is a type byte and an Ed25519 key."""

    name: str
    id: bytes
    kind: int
    public: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> Key:
        name, hash_, encoded = text.strip().split("+", 2)
        key = base64.b64decode(encoded, validate=True)
        id_ = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
        if id_.hex() != hash_ or len(key) != 33 or key[0] not in (ED25519, COSIGNATURE):
            raise argparse.ArgumentTypeError(f"{text!r} is no verifier key NAME+HASH+BASE64")
        return cls(name, id_, key[0], Ed25519PublicKey.from_public_bytes(key[1:]))

    def signed(self, body: str, signature: bytes) -> bool:
        message = body.encode()
        if self.kind == COSIGNATURE:
            (seconds,) = struct.unpack(">Q", signature[:8])
            message, signature = f"cosignature/v1\ntime {seconds}\n{body}".encode(), signature[8:]
        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def read_note(note: str, key: Key, witnesses: list[Key], quorum: int) -> tuple[int, bytes]:
    """Size and root of a checkpoint, once its signatures hold."""
    body, _, lines = note.partition("\n\n")
    body += "\n"
    signatures: dict[tuple[str, bytes], bytes] = {}
    for line in lines.splitlines():
        dash, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded, validate=True)
        if dash != "—":
            raise Wrong("the note has a line that is no signature")
        signatures[name, raw[:4]] = raw[4:]

    def signed(by: Key) -> bool:
        signature = signatures.get((by.name, by.id))
        return signature is not None and by.signed(body, signature)

    origin, size, root = body.splitlines()[:3]
    if origin != key.name:
        raise Wrong(f"the checkpoint is of {origin!r}, not of {key.name!r}")
    if not signed(key):
        raise Wrong("the log's key has not signed the checkpoint")
    found = sum(signed(witness) for witness in witnesses)
    if found < quorum:
        raise Wrong(f"{found} of the witnesses have cosigned the checkpoint, {quorum} are wanted")
    return int(size), base64.b64decode(root, validate=True)


class Site:
    """Where the files are. One connection; what is not there is none."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise argparse.ArgumentTypeError(f"{url!r} is no http URL")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=30)
        self.prefix = parts.path.rstrip("/")
        self.requests = 0

    def get(self, path: str) -> bytes | None:
        self.requests += 1
        self.connection.request("GET", f"{self.prefix}/{path}")
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {content.decode(errors='replace').strip()}")
        return content


def tile_path(level: str, index: int, width: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return f"tile/{level}/" + "/".join(reversed(groups)) + (f".p/{width}" if width < WIDTH else "")


def tile(site: Site, level: str, index: int, width: int) -> bytes:
    """A tile; of a partial one that a full one has replaced, the full one."""
    for path in dict.fromkeys((tile_path(level, index, width), tile_path(level, index, WIDTH))):
        content = site.get(path)
        if content is not None:
            return content
    raise Wrong(f"{tile_path(level, index, width)} is not there")


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962 over subtrees that are perfect and of one height, the last one aside."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root_of(hashes[:split]), root_of(hashes[split:]))


def read_level(site: Site, level: int, count: int) -> list[bytes]:
    hashes: list[bytes] = []
    for index in range((count + WIDTH - 1) // WIDTH):
        width = min(WIDTH, count - index * WIDTH)
        content = tile(site, str(level), index, width)
        if len(content) % 32 or len(content) < width * 32:
            raise Wrong(f"{tile_path(str(level), index, width)} has {len(content)} bytes")
        hashes += [content[at : at + 32] for at in range(0, width * 32, 32)]
    return hashes


def read_entries(site: Site, count: int) -> list[bytes]:
    entries: list[bytes] = []
    for index in range((count + WIDTH - 1) // WIDTH):
        width = min(WIDTH, count - index * WIDTH)
        content, at, found = tile(site, "entries", index, width), 0, []
        while at < len(content):
            (length,) = struct.unpack_from(">H", content, at)
            found.append(content[at + 2 : at + 2 + length])
            at += 2 + length
        if at != len(content) or len(found) < width:
            raise Wrong(f"{tile_path('entries', index, width)} is cut")
        entries += found[:width]
    return entries


def read_log(site: Site, key: Key, witnesses: list[Key], quorum: int, with_entries: bool) -> dict[str, object]:
    note = site.get("checkpoint")
    if note is None:
        raise Wrong("there is no checkpoint")
    size, root = read_note(note.decode(), key, witnesses, quorum)
    leaves = read_level(site, 0, size)
    level, hashes = 0, leaves
    while len(hashes) >= WIDTH:
        full = len(hashes) // WIDTH
        above = read_level(site, level + 1, full)
        for index, found in enumerate(above):
            if found != root_of(hashes[index * WIDTH : (index + 1) * WIDTH]):
                raise Wrong(f"tile {index} of level {level + 1} does not follow from the level below")
        level, hashes = level + 1, above
    if root_of(leaves) != root:
        raise Wrong("the tiles do not have the checkpoint's root")
    entries = read_entries(site, size) if with_entries else []
    for index, entry in enumerate(entries):
        if hashlib.sha256(b"\x00" + entry).digest() != leaves[index]:
            raise Wrong(f"entry {index} is not the one that the tree has")
    return {"size": size, "root": root.hex(), "levels": level + 1, "entries": len(entries), "requests": site.requests}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", type=Site, help="where the log's files are, such as http://audit.example:7490")
    parser.add_argument("--key", type=Key.parse, required=True, help="the log's verifier key: NAME+HASH+BASE64")
    parser.add_argument("--witness", type=Key.parse, action="append", default=[], help="a witness's; may be repeated")
    parser.add_argument("--quorum", type=int, help="how many of them have to have cosigned; all, where it is not given")
    parser.add_argument("--entries", action="store_true", help="the entries too, where the log serves them")
    wanted = parser.parse_args()
    witnesses = {witness.public.public_bytes_raw() for witness in wanted.witness}
    if len(witnesses) < len(wanted.witness):
        parser.error("a witness is named twice: one that cosigns counts once")
    quorum = len(witnesses) if wanted.quorum is None else wanted.quorum
    if not 0 <= quorum <= len(witnesses):
        parser.error(f"a quorum of {quorum} takes as many witnesses: name them with --witness")
    try:
        read = read_log(wanted.url, wanted.key, wanted.witness, quorum, wanted.entries)
    except (Wrong, ValueError, struct.error) as error:
        print(f"read_log: {error}", file=sys.stderr)
        return 4
    except (OSError, http.client.HTTPException) as error:
        print(f"read_log: {error}", file=sys.stderr)
        return 5
    print(json.dumps(read))
    return 0


if __name__ == "__main__":
    sys.exit(main())
