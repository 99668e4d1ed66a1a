"""The archive's JSON over HTTP from outside, by Python's own client: http_api.py DATA, the folder of a running `greffe up` that
has lived through the demonstration. Ends with "all well", or with what was not."""

import base64
import gzip
import http.client
import json
import os
import ssl
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

from google.protobuf import json_format
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "deploy/examples/python"))
from greffe_archive import Archive, Endpoint, Person  # noqa: E402

from greffe.archive.v1 import archive_pb2  # noqa: E402
from greffe.envelope.v1 import order_pb2  # noqa: E402

DATA = Path(sys.argv[1])
APP = DATA / "people/apps/greffe"
SERVICE = DATA / "services/relay"


def ready(name: str) -> tuple[str, int]:
    host, port = json.loads((DATA / "services/archive" / name).read_text())["address"].rsplit(":", 1)
    return host, int(port)


def person(name: str, tenant: str = "demo", key: str = "") -> Person:
    return Person(tenant, name, DATA / f"people/{key or name}/signing.key")


def context(certificate: Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=APP / "ca.crt")
    if certificate:
        made.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    return made


class Connection(http.client.HTTPSConnection):
    """Dials where the archive listens, and checks the name in its certificate."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname="archive")


def connection(certificate: Path | None = APP) -> Connection:
    return Connection(*ready("ready-http.json"), context=context(certificate), timeout=30)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        assert self.headers["content-type"] == "application/json", self.headers
        self.json = json.loads(self.body)

    def refused(self, status: int, code: int, reason: str, **metadata: str) -> "Answer":
        assert self.status == status, (self.status, self.body)
        assert self.json["code"] == code, self.body
        info = self.json["details"][0]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" and info["domain"] == "greffe"
        assert (info["reason"], info["metadata"]) == (reason, metadata), self.body
        assert self.json["message"], self.body
        conforms(self.json, "Status")
        return self

    def message(self, empty):
        """The answer as Google's own reader of canonical JSON takes it, and as the description says."""
        assert self.status == 200, (self.status, self.body)
        conforms(self.json, empty.DESCRIPTOR.full_name)
        return json_format.Parse(self.body, empty)


def call(
    method: str,
    path: str,
    parameters: dict | None = None,
    who: Person | None = None,
    token: bytes | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
    certificate: Path | None = APP,
    encoding: str = "",
) -> Answer:
    headers = {"content-encoding": encoding} if encoding else {}
    if who:
        token = who.token("archive")
    if token is not None:
        headers["greffe-person-bin"] = base64.b64encode(token).decode()
    if body is not None:
        headers["content-type"] = content_type
    if parameters:
        path += "?" + urlencode(parameters)
    with closing(connection(certificate)) as open_connection:
        open_connection.request(method, path, body=body, headers=headers)
        return Answer(open_connection.getresponse())


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def conforms(value: object, schema: str) -> None:
    Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": DESCRIPTION["components"]}
    ).validate(value)


DESCRIPTION = call("GET", "/openapi.json").json
auditor = person("auditor")


def the_description_is_valid_and_true() -> None:
    assert DESCRIPTION["openapi"] == "3.1.0"
    validate(DESCRIPTION, cls=OpenAPIV31SpecValidator)
    for path, methods in DESCRIPTION["paths"].items():
        for method in methods:
            there = path.replace("{", "").replace("}", "")
            answer = call(method.upper(), there, body=b"{}" if method == "post" else None)
            assert answer.status in (400, 401), (method, path, answer.body)


def searching_gives_what_grpc_gives() -> None:
    host, port = ready("ready.json")
    endpoint = Endpoint(f"{host}:{port}", "archive", APP / "ca.crt", APP / "tls.crt", APP / "tls.key")
    with Archive(endpoint, auditor) as archive:
        wanted = [record for page in archive.search(archive_pb2.RecordQuery()) for record in page.records]
    found, token, pages = [], "", 0
    while True:
        parameters = {"pageSize": 5, "pageToken": token}
        page = call("GET", "/v1/records", parameters, auditor).message(archive_pb2.SearchRecordsResponse())
        found.extend(page.records)
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
        first = token
    assert found == wanted and pages == -(-len(wanted) // 5) > 2, (len(found), len(wanted), pages)

    bobs = next(record.sender for record in wanted if record.sender)
    parameters = {"query.sender": bobs, "query.until": str(2**64 - 1), "query.mode": "MODE_JOURNALED"}
    page = call("GET", "/v1/records", parameters, auditor).message(archive_pb2.SearchRecordsResponse())
    assert page.records and {record.sender for record in page.records} == {bobs}
    # A token continues its own query only.
    other = parameters | {"pageToken": first}
    call("GET", "/v1/records", other, auditor).refused(400, 3, "PAGE_TOKEN_INVALID")
    call("GET", "/v1/records", {"pageToken": "x"}, auditor).refused(400, 3, "PAGE_TOKEN_INVALID")

    message = next(record for record in wanted if record.record_class == "communication")
    path = "/v1/records/" + text(message.digest)
    record = call("GET", path, who=auditor).message(archive_pb2.GetRecordResponse())
    assert record.summary == message and record.receipt.type == "receipt"
    # Base64 as it stands in an answer is taken too, once it is escaped.
    path = "/v1/records/" + quote(base64.b64encode(message.digest).decode(), safe="")
    assert call("GET", path, who=auditor).message(archive_pb2.GetRecordResponse()) == record
    path = f"/v1/conversations/{text(message.conversation)}/range"
    signed = call("GET", path, {"last": 1}, auditor).message(archive_pb2.GetRangeResponse())
    assert signed.range.type == "range"


def orders_and_matters_are_listed_and_an_act_is_done() -> None:
    orders = call("GET", "/v1/orders", who=auditor).message(archive_pb2.ListOrdersResponse()).orders
    assert len(orders) == 1 and orders[0].state == archive_pb2.ORDER_STATE_RELEASED
    order = order_pb2.Order.FromString(orders[0].order.statement)
    whole = call("GET", "/v1/orders/" + text(order.id), who=auditor)
    assert len(whole.message(archive_pb2.GetOrderResponse()).records) == order.records_count

    matter = archive_pb2.MatterAct(matter=os.urandom(16), name="opened over HTTP")
    legal = person("legal")
    statement = order_pb2.PersonAct(
        tenant="demo",
        person="legal",
        action="matter.create",
        act=matter.SerializeToString(deterministic=True),
        at=time.time_ns() // 1_000_000,
        nonce=os.urandom(16),
    )
    act = archive_pb2.ActRequest(acts=[legal.sign("person-act", statement)])
    body = json_format.MessageToJson(act).encode()
    done = call("POST", "/v1/acts", who=legal, body=body)
    index = done.message(archive_pb2.ActResponse()).log_index
    # The same act again is the same entry of the log; carried by another person it is refused.
    again = call("POST", "/v1/acts", who=legal, body=body, content_type="Application/JSON; charset=utf-8")
    assert again.message(archive_pb2.ActResponse()).log_index == index
    call("POST", "/v1/acts", who=auditor, body=body).refused(403, 7, "ACT_NOT_YOURS")
    matters = call("GET", "/v1/matters", who=legal).message(archive_pb2.ListMattersResponse()).matters
    assert matter.matter in [found.matter for found in matters]
    approval = archive_pb2.ApproveOrderRequest(approval=act.acts[0])
    body = json_format.MessageToJson(approval).encode()
    assert call("POST", "/v1/approvals", who=person("principal"), body=body).status == 403


def nobody_gets_in_who_does_not_over_grpc() -> None:
    try:
        call("GET", "/v1/records", who=auditor, certificate=None)
        raise AssertionError("a caller without a certificate was answered")
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        pass
    search = ("GET", "/v1/records")
    call(*search).refused(401, 16, "TOKEN_MISSING")
    for wrong in (b"", b"no token", auditor.token("audit"), auditor.token("archive") + b"\0"):
        call(*search, token=wrong).refused(401, 16, "TOKEN_REFUSED")
    call(*search, who=person("auditor", tenant="other")).refused(401, 16, "TOKEN_REFUSED")
    call(*search, who=person("auditor", key="reader")).refused(401, 16, "TOKEN_REFUSED")
    call(*search, who=person("reader")).refused(403, 7, "CALLER_NOT_ALLOWED")
    call(*search, who=auditor, certificate=SERVICE).refused(401, 16, "CALLER_NOT_A_PERSON")
    # The path decides the rule: matters are not for readers, records of orders are not served here at all.
    call("GET", "/v1/matters", who=person("reader")).refused(403, 7, "CALLER_NOT_ALLOWED")
    call("GET", "/greffe.archive.v1.IngestService/GetConversationState").refused(404, 5, "PATH_UNKNOWN")


def what_is_wrong_is_said() -> None:
    for path in ("/", "/v1", "/v1/records/", "/v1/orders/a/b", "/openapi.json/", "/v1/%2e%2e/records"):
        call("GET", path, who=auditor).refused(404, 5, "PATH_UNKNOWN")
    for method, path, allow in (
        ("DELETE", "/v1/records", "GET"),
        ("PUT", "/v1/orders", "GET, POST"),
        ("GET", "/v1/acts", "POST"),
        ("POST", "/openapi.json", "GET"),
    ):
        answer = call(method, path, who=auditor).refused(405, 12, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == allow, answer.headers
    call("GET", "/v1/records", {"pageSize": 1001}, auditor).refused(400, 3, "FIELD_INVALID", field="page_size")
    for parameters in ({"sender": "bob"}, {"query.mode": "LOUD"}, {"pageSize": "x"}, {"query.conversation": "!"}):
        call("GET", "/v1/records", parameters, auditor).refused(400, 3, "REQUEST_MALFORMED")
    twice = "/v1/records?pageSize=1&pageSize=2"
    call("GET", twice, who=auditor).refused(400, 3, "REQUEST_MALFORMED")
    call("GET", "/v1/records/" + text(bytes(32)), who=auditor).refused(404, 5, "RECORD_UNKNOWN")
    call("GET", "/v1/records/AAAA", who=auditor).refused(400, 3, "FIELD_INVALID", field="digest")
    legal = person("legal")
    for body in (b"", b"{", b"[]", b'{"act": []}', b'{"acts": [{"statement": 7}]}', b"\xff", b"[" * 100_000):
        call("POST", "/v1/acts", who=legal, body=body).refused(400, 3, "REQUEST_MALFORMED")
    call("POST", "/v1/acts", who=legal, body=b"{}").refused(400, 3, "ACTS_COUNT")
    call("POST", "/v1/acts", who=legal, body=b"{}", content_type="text/plain").refused(400, 3, "CONTENT_TYPE")
    large = b'{"acts": "' + b"a" * (4 << 20) + b'"}'
    call("POST", "/v1/acts", who=legal, body=large).refused(400, 3, "BODY_REFUSED")


def peak() -> int:
    """KiB that the archive has had in memory at most."""
    process = json.loads((DATA / "services/archive/ready.json").read_text())["pid"]
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def attack_60_what_becomes_larger_or_slower_than_it_came_is_refused() -> None:
    legal = person("legal")
    before, begun = peak(), time.monotonic()
    bomb = gzip.compress(b'{"acts": [' + b" " * (4 << 20) + b"]}")
    assert len(bomb) < 8_000, len(bomb)
    for encoding in ("gzip", "br", "gzip, gzip"):
        act = call("POST", "/v1/acts", who=legal, body=bomb, encoding=encoding)
        act.refused(400, 3, "CONTENT_ENCODING")
    call("POST", "/v1/acts", who=legal, body=bomb).refused(400, 3, "REQUEST_MALFORMED")
    call("POST", "/v1/acts", who=legal, body=b"{}", encoding="identity").refused(400, 3, "ACTS_COUNT")
    # What is deep, and what is as many small things as a body has room for.
    for deep in (b"[" * 4_000_000, b'{"acts":' * 400_000, b'{"acts":[' + b"[" * 4_000_000):
        call("POST", "/v1/acts", who=legal, body=deep).refused(400, 3, "REQUEST_MALFORMED")
    many = b'{"acts":[' + b"{}," * 1_390_000 + b"{}]}"
    assert call("POST", "/v1/acts", who=legal, body=many).status == 400
    # No pattern is one here: everything is compared as it stands.
    for pattern in ("(a+)+$", ".*", "%" * 1000, "(?R)", "a" * 10_000):
        found = call("GET", "/v1/records", {"query.participant": pattern}, auditor)
        assert found.status == 400 or not found.json.get("records"), (pattern, found.body)
    assert time.monotonic() - begun < 30, "it took its time"
    assert peak() - before < 1 << 20, "it took more than a GiB"


def one_connection_takes_many_calls() -> None:
    with closing(connection()) as kept:
        for _ in range(20):
            token = base64.b64encode(auditor.token("archive")).decode()
            kept.request("GET", "/v1/records?pageSize=1", headers={"greffe-person-bin": token})
            response = kept.getresponse()
            assert response.status == 200 and response.headers["cache-control"] == "no-store"
            response.read()


for check in (
    the_description_is_valid_and_true,
    searching_gives_what_grpc_gives,
    orders_and_matters_are_listed_and_an_act_is_done,
    nobody_gets_in_who_does_not_over_grpc,
    what_is_wrong_is_said,
    attack_60_what_becomes_larger_or_slower_than_it_came_is_refused,
    one_connection_takes_many_calls,
):
    check()
    print(check.__name__)
print("all well")
