"""What the chart refuses, and the words it does it with."""

import copy

import helm_python as helm
import pytest

from charts import render, values


def changed(base: str, path: str, value) -> dict:
    """Values of the matrix with one of them changed."""
    given = copy.deepcopy(values(base))
    *tables, last = path.split(".")
    table = given
    for key in tables:
        table = table.setdefault(key, {})
    table[last] = value
    return given


S, E, D = "production-services", "production-escrow", "development"
ANYWHERE = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]

# From values.schema.json: where, and what is wrong with it.
BY_SCHEMA = [
    (S, "tenant", "Example Bank", "at '/tenant': 'Example Bank' does not match pattern"),
    (S, "tenant", "", "at '/tenant'"),
    (S, "mode", "prod", "at '/mode': value must be one of 'production', 'development'"),
    (S, "relay.replica", 3, "at '/relay': additional properties 'replica' not allowed"),
    (S, "relay.replicas", 0, "at '/relay/replicas': minimum: got 0, want 1"),
    (S, "relay.replicas", "two", "at '/relay/replicas': got string, want integer"),
    (S, "relay.clients", [{"podSelector": {}}], "at '/relay/clients/0/podSelector': minProperties: got 0, want 1"),
    (S, "relay.clients", [{}], "at '/relay/clients/0': minProperties: got 0, want 1"),
    (S, "relay.database.url", "postgres://u:p@host/db", "at '/relay/database': additional properties 'url' not allowed"),
    (S, "relay.database.port", 70000, "at '/relay/database/port': maximum: got 70,000, want 65,535"),
    (S, "relay.settings", {"url": "postgres://u:p@host/db"}, "at '/relay/settings'"),
    (S, "relay.limits", {"conections": 1}, "at '/relay/limits': additional properties 'conections' not allowed"),
    (S, "relay.pod", {"terminationGracePeriodSeconds": 5}, "at '/relay/pod/terminationGracePeriodSeconds': minimum: got 5, want 11"),
    (S, "pod.extraVolumes", [{"name": "x", "hostPath": {"path": "/"}}], "at '/pod/extraVolumes/0': 'not' failed"),
    (S, "pod.extraEnv", [{"name": "GREFFE__SERVICE__MODE", "value": "development"}], "at '/pod/extraEnv/0/name': 'not' failed"),
    (S, "archive.objects.endpoint", "http://s3.example", "at '/archive/objects/endpoint'"),
    (S, "archive.objects.kind", "gcs", "at '/archive/objects/kind': value must be one of 'folder', 's3'"),
    (S, "audit.tiles", {"listen": "0.0.0.0:1"}, "at '/audit/tiles': additional properties 'listen' not allowed"),
    (S, "image.tag", "latest", "at '/image/tag': 'not' failed"),
    (S, "image.digest", "sha256:12", "at '/image/digest': 'sha256:12' does not match pattern"),
    (S, "telemetry.otlp", "collector:4317", "at '/telemetry/otlp': 'collector:4317' does not match pattern"),
    (S, "telemetry.otlp", "grpc://collector:4317", "at '/telemetry/otlp': 'grpc://collector:4317' does not match pattern"),
    (S, "telemetry.tls.ca", "ca.crt", "at '/telemetry/tls': additional properties 'ca' not allowed"),
    (S, "peers.escrow", [{"name": "escrow-1"}], "at '/peers/escrow/0': missing properties 'addresses', 'selectors'"),
    (S, "relay.seal", {"kind": "kms"}, "at '/relay/seal/kind': value must be one of 'file', 'pkcs11'"),
    (E, "escrow.replicas", 3, "at '/escrow': additional properties 'replicas' not allowed"),
    (E, "escrow.keys", {"existingSecret": "keys"}, "at '/escrow/keys/existingSecret': value must be ''"),
    (S, "gateway.kind", "HTTPRoute", "at '/gateway/kind': value must be one of 'TLSRoute', 'GRPCRoute'"),
    (S, "migrations.mode", "auto", "at '/migrations/mode': value must be one of 'hook', 'job', 'none', 'start'"),
    (S, "networkPolicy.dns", {"to": []}, "at '/networkPolicy/dns/to': minItems: got 0, want 1"),
]

# From the templates: what fits no schema.
BY_TEMPLATE = [
    (S, "trust.existingSecret", "", "trust.existingSecret is empty: name the Secret"),
    (S, "networkPolicy.enabled", False, "networkPolicy.enabled is false in production"),
    (S, "relay.clients", ANYWHERE, '"cidr":"0.0.0.0/0" means everybody'),
    (S, "archive.objects.to", [{"ipBlock": {"cidr": "::/0"}}], '"cidr":"::/0" means everybody'),
    (S, "telemetry.to", [], "telemetry.to is empty"),
    (S, "telemetry.tls.existingSecret", "", "telemetry.tls.existingSecret is empty: name the Secret with the authorities"),
    (S, "telemetry.otlp", "http://collector.telemetry:4317", "telemetry would go in the clear"),
    (S, "telemetry.tls.keyKey", "", "telemetry.tls.certKey and telemetry.tls.keyKey go together"),
    (S, "relay.tls.existingSecret", "", "relay.tls.existingSecret is empty: name the Secret with tls.crt"),
    (S, "relay.database.existingSecret", "", "relay.replicas is more than one without relay.database.existingSecret"),
    (S, "relay.database.to", [], "relay.database.to is empty: say where the database is"),
    (S, "relay.keys.existingSecret", "", "each replica would make keys of its own"),
    (S, "relay.tls.keyInDataFolder", True, "relay.tls.keyInDataFolder goes with keys on the volume"),
    (S, "archive.wraps.database.existingSecret", "", "wraps stand in a database of their own"),
    (S, "archive.wraps.database.existingSecret", "archive-database", "a backup of one would keep what the other destroys"),
    (S, "archive.objects.kind", "folder", "replicas share a bucket (kind s3)"),
    (S, "archive.objects.bucket", "", "archive.objects.bucket is empty, which s3 needs"),
    (S, "archive.objects.replica.existingSecret", "", "archive.objects.replica.existingSecret is empty, which s3 needs"),
    (S, "archive.objects.to", [], "archive.objects.to is empty"),
    (S, "peers.escrow", [], "peers.escrow is empty: the audit log needs its witnesses"),
    (S, "audit.enabled", False, "peers.audit.addresses is empty: relay calls audit, which is not part of this release"),
    (S, "certManager.issuerRef.name", "", "certManager.issuerRef.name is empty"),
    (S, "relay.seal", {"kind": "pkcs11"}, "relay.seal.pin.existingSecret is empty: name the Secret with the token's PIN"),
    (S, "escrow", {"enabled": True, "name": "escrow-1", "tls": {"existingSecret": "x"}}, "an escrow node and other services are in one release"),
    (E, "relay", {"enabled": True, "replicas": 1, "tls": {"existingSecret": "x"}}, "an escrow node and other services are in one release"),
    (E, "escrow.name", "", "escrow.name is empty"),
    (E, "escrow.persistence", {"enabled": False}, "escrow.persistence.enabled is false without escrow.keys.existingSecret"),
    (D, "relay.enabled", False, None),
    ("gateway", "gateway.kind", "GRPCRoute", "gateway.kind GRPCRoute ends mutual TLS at the gateway"),
    ("gateway", "gateway.hostnames", {"relay": ["relay.example"]}, "gateway.hostnames.relay has 1 names for 3 replicas"),
    ("gateway", "gateway.parentRefs", [], "gateway.parentRefs is empty"),
    ("ingress-archive", "ingress.hostnames", {"relay": ["relay.example"]}, "names hosts of a service that is not enabled"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "path", "value", "words"), BY_SCHEMA)
def test_the_schema_refuses(base, path, value, words):
    with pytest.raises(helm.HelmValuesError) as refused:
        render(changed(base, path, value))
    assert words in str(refused.value)


@pytest.mark.parametrize(("base", "path", "value", "words"), BY_TEMPLATE)
def test_the_templates_refuse(base, path, value, words):
    if words is None:
        assert render(changed(base, path, value))
        return
    with pytest.raises(helm.HelmRenderError) as refused:
        render(changed(base, path, value))
    assert words in str(refused.value)


def test_everything_wrong_is_told_at_once():
    given = changed(S, "trust.existingSecret", "")
    given["relay"]["tls"]["existingSecret"] = ""
    with pytest.raises(helm.HelmRenderError) as refused:
        render(given)
    assert str(refused.value).count("\n  - ") == 2


def test_the_value_that_admits_one_trust_domain_admits_it():
    given = values("production-one-trust-domain")
    assert render(given)
    given["escrow"]["singleTrustDomain"] = False
    with pytest.raises(helm.HelmRenderError, match="trust domain of its own"):
        render(given)
