#!/usr/bin/env python3
"""Searches a Greffe archive as an auditor and prints what the headers say, one record a line.

Exit codes: 0 done, 2 not understood, 3 refused, 5 not reachable.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from greffe_archive import Archive, Endpoint, Person, Refusal

from greffe.archive.v1 import archive_pb2
from greffe.envelope.v1 import message_pb2


def instant(text: str) -> int:
    """A date or time of ISO 8601, UTC unless it says otherwise, in milliseconds since 1970."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1000)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, help="host:port of the archive")
    parser.add_argument("--server-name", default="archive", help="DNS name in the archive's certificate")
    parser.add_argument("--ca", type=Path, required=True, help="authority of the tenant's certificates, PEM")
    parser.add_argument("--cert", type=Path, required=True, help="this application's certificate, PEM")
    parser.add_argument("--key", type=Path, required=True, help="and its key")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--person", required=True, help="the auditor's name in the roster")
    parser.add_argument("--person-key", type=Path, required=True, help="the auditor's signing.key")
    parser.add_argument("--participant", default="", help="a user who takes part")
    parser.add_argument("--sender", default="", help="a user who sends")
    parser.add_argument("--conversation", type=bytes.fromhex, default=b"", help="hexadecimal")
    parser.add_argument("--record-class", default="")
    parser.add_argument("--from", dest="since", type=instant, default=0, help="such as 2026-03-01")
    parser.add_argument("--until", type=instant, default=0, help="first instant no longer wanted")
    parser.add_argument("--page-size", type=int, default=100, help="1 to 1000")
    parser.add_argument("--page-token", default="", help="goes on after an earlier page")
    parser.add_argument("--pages", type=int, default=0, help="stop after so many; 0 for all")
    parser.add_argument("--attempts", type=int, default=5, help="of each call")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args()


def line(record: archive_pb2.RecordSummary) -> str:
    archived = datetime.fromtimestamp(record.archived_at / 1000, UTC).isoformat(timespec="seconds")
    state = "disposed" if record.disposed else f"{record.holds} holds"
    who = f"{record.sender or '-'} to {', '.join(p for p in record.participants if p != record.sender) or '-'}"
    return f"{record.record:>6}  {archived}  {record.record_class}  {who}  {record.size} bytes  {state}"


def as_json(record: archive_pb2.RecordSummary) -> str:
    return json.dumps(
        {
            "record": record.record,
            "conversation": record.conversation.hex(),
            "sequence": record.sequence,
            "kind": message_pb2.EntryKind.Name(record.kind),
            "digest": record.digest.hex(),
            "sender": record.sender,
            "archived_at": record.archived_at,
            "retain_until": record.retain_until,
            "record_class": record.record_class,
            "participants": list(record.participants),
            "holds": record.holds,
            "disposed": record.disposed,
        }
    )


def run(options: argparse.Namespace) -> None:
    query = archive_pb2.RecordQuery(
        participant=options.participant,
        sender=options.sender,
        conversation=options.conversation,
        record_class=options.record_class,
        **{"from": options.since, "until": options.until},
    )
    endpoint = Endpoint(options.address, options.server_name, options.ca, options.cert, options.key)
    person = Person(options.tenant, options.person, options.person_key)
    form = as_json if options.json else line

    def narrate(text: str) -> None:
        print(text, file=sys.stderr)

    found = 0
    with Archive(endpoint, person, attempts=options.attempts, narrate=narrate) as archive:
        for number, page in enumerate(archive.search(query, options.page_size, options.page_token), 1):
            for record in page.records:
                print(form(record))
            found += len(page.records)
            if number == options.pages:
                if page.next_page_token:
                    narrate(f"more: --page-token {page.next_page_token}")
                break
    narrate(f"{found} records")


def main() -> int:
    try:
        run(arguments())
    except Refusal as refusal:
        print(f"search_archive: {refusal}", file=sys.stderr)
        return 5 if refusal.code == "UNAVAILABLE" else 3
    except (OSError, ValueError) as error:
        print(f"search_archive: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
