"""Calls to a Greffe archive over gRPC: mutual TLS, a person's token, retries, and refusals with their reason.

Copy this file; it needs the packages of requirements.txt and the stubs that generate.py makes from the contracts.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from greffe.archive.v1 import archive_pb2, archive_service_pb2_grpc
from greffe.envelope.v1 import order_pb2, statement_pb2

DOMAIN = "greffe"
CLOCK_SKEW_MS = 60_000
TOKEN_LIFE_MS = 600_000


@dataclass(eq=False)
class Refusal(Exception):
    """What a service refused: the gRPC code, and the reason and facts of google.rpc.ErrorInfo."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in sorted(self.metadata.items()))
        return f"{self.reason or self.code}: {self.message}" + (f" ({facts})" if facts else "")

    @property
    def may_pass(self) -> bool:
        """Whether the same read may succeed later: the service said when, or could not be reached."""
        return self.retry_after is not None or self.code == "UNAVAILABLE"

    @classmethod
    def of(cls, error: grpc.RpcError) -> Refusal:
        """Reads the details that came with an error; one from a proxy or from this side has none."""
        refusal = cls(code=error.code().name, reason="", message=error.details() or "")
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
            elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
                refusal.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return refusal


class Person:
    """A person of the tenant's roster, with the Ed25519 key that they sign with."""

    def __init__(self, tenant: str, name: str, key_file: Path) -> None:
        self.tenant = tenant
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key_file.read_text().strip()))

    def token(self, audience: str) -> bytes:
        """A token for one service, valid for ten minutes: the metadata "greffe-person-bin" of a call."""
        now = time.time_ns() // 1_000_000
        statement = order_pb2.PersonToken(
            tenant=self.tenant,
            person=self.name,
            audience=audience,
            not_before=now - CLOCK_SKEW_MS,
            expiry=now + TOKEN_LIFE_MS,
            nonce=os.urandom(16),
        )
        return self.sign("person-token", statement).SerializeToString(deterministic=True)

    def sign(self, kind: str, message: Message) -> statement_pb2.SignedStatement:
        """Signs a statement: its exact bytes under the label of its kind."""
        statement = message.SerializeToString(deterministic=True)
        label = f"greffe/v1/{kind}".encode()
        signed = struct.pack(">I", len(label)) + label + hashlib.sha256(statement).digest()
        signature = statement_pb2.Signature(signer=self.name, algorithm=1, signature=self._key.sign(signed))
        return statement_pb2.SignedStatement(type=kind, statement=statement, signatures=[signature])


@dataclass
class Endpoint:
    """Where the archive is, and the application's certificate; `server_name` is what the archive's certificate says."""

    address: str
    server_name: str
    ca: Path
    certificate: Path
    key: Path

    def channel(self) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )
        options = [
            ("grpc.ssl_target_name_override", self.server_name),
            # While gRPC waits to connect again, calls fail at once: it has to be sooner back than our own attempts.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        return grpc.secure_channel(self.address, credentials, options)


class Archive:
    """The reads of an auditor. A read changes nothing but the log, so it may be repeated."""

    def __init__(
        self,
        endpoint: Endpoint,
        person: Person,
        attempts: int = 5,
        deadline: float = 30.0,
        narrate: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._channel = endpoint.channel()
        self._stub = archive_service_pb2_grpc.ArchiveServiceStub(self._channel)
        self._person = person
        self._attempts = attempts
        self._deadline = deadline
        self._narrate = narrate

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def search(
        self, query: archive_pb2.RecordQuery, page_size: int = 100, page_token: str = ""
    ) -> Iterator[archive_pb2.SearchRecordsResponse]:
        """Page after page of what headers say; each page is asked for when the one before was used."""
        while True:
            request = archive_pb2.SearchRecordsRequest(
                query=query, page_size=page_size, page_token=page_token
            )
            page = self._read(self._stub.SearchRecords, request)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    def _read(self, method, request):
        """One call, again while it may pass: after the delay that the service names, else twice as long each time."""
        pause = 0.2
        for attempt in range(1, self._attempts + 1):
            metadata = [("greffe-person-bin", self._person.token("archive"))]
            try:
                return method(request, metadata=metadata, timeout=self._deadline)
            except grpc.RpcError as error:
                refusal = Refusal.of(error)
                if not refusal.may_pass or attempt == self._attempts:
                    raise refusal from error
            delay = refusal.retry_after
            if delay is None:
                # Chance, so that many callers do not come back together.
                delay, pause = pause * random.uniform(0.5, 1.5), pause * 2
            self._narrate(f"attempt {attempt} of {self._attempts}: {refusal}; again in {delay:.1f} s")
            time.sleep(delay)
        raise AssertionError("at least one attempt is made")
