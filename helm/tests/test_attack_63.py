"""Attack 63: root user, writable root file system, open egress, embedded credential in the rendered chart."""

import pytest

from charts import manifests, names, of_kind, pods
from hardening import findings

BASE = "production-services"


@pytest.mark.parametrize("name", names())
def test_attack_63_no_file_of_the_matrix_renders_anything_unsafe(name):
    found = findings(manifests(name))
    # A trial may do without policies, and nothing else.
    if name == "development":
        assert not of_kind(manifests(name), "NetworkPolicy")
        found = [finding for finding in found if not finding.endswith("is open, no policy selects it")]
    assert found == []


def as_root(spec):
    spec["containers"][0]["securityContext"]["runAsUser"] = 0


def maybe_root(spec):
    spec["containers"][0]["securityContext"]["runAsNonRoot"] = False


def no_context(spec):
    del spec["containers"][0]["securityContext"]


def root_in_an_init_container(spec):
    spec["initContainers"] = [{"name": "setup", "image": "x:1", "securityContext": {"runAsUser": 0}}]


def writable(spec):
    spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def capable(spec):
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]


def privileged(spec):
    spec["containers"][0]["securityContext"]["privileged"] = True


def escalating(spec):
    del spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"]


def unconfined(spec):
    spec["securityContext"].pop("seccompProfile")
    spec["containers"][0]["securityContext"]["seccompProfile"] = {"type": "Unconfined"}


def of_the_host(spec):
    spec["hostNetwork"] = True


def on_the_host(spec):
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def with_token(spec):
    spec["automountServiceAccountToken"] = True


def password_in_the_environment(spec):
    spec["containers"][0]["env"] = [{"name": "GREFFE__SERVICE__DATABASE__URL", "value": "postgres://host/db"}]


def key_in_the_arguments(spec):
    spec["containers"][0]["args"] = ["serve", "--set", "service.database.url=postgres://greffe:hunter2@host/db"]


SPOILS = [
    (as_root, "runs as root"),
    (maybe_root, "may run as root"),
    (no_context, "can write its root file system"),
    (root_in_an_init_container, "container setup runs as root"),
    (writable, "can write its root file system"),
    (capable, "keeps capabilities"),
    (privileged, "is privileged"),
    (escalating, "may gain privileges"),
    (unconfined, "has no seccomp profile"),
    (of_the_host, "hostNetwork is set"),
    (on_the_host, "hostPath"),
    (with_token, "a ServiceAccount token is mounted"),
    (password_in_the_environment, "GREFFE__SERVICE__DATABASE__URL holds a value"),
    (key_in_the_arguments, "a URL with a password"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILS, ids=lambda value: getattr(value, "__name__", None))
def test_attack_63_a_pod_that_is_spoiled_is_found(spoil, words):
    for index, (where, _, _) in enumerate(pods(manifests(BASE))):
        found = manifests(BASE)
        spoil(pods(found)[index][2])
        told = [finding for finding in findings(found) if finding.startswith(where)]
        assert any(words in finding for finding in told), (where, told)


def policy(found, name):
    return next(d for d in of_kind(found, "NetworkPolicy") if d["metadata"]["name"] == name)


def no_default_deny(found):
    for document in of_kind(found, "NetworkPolicy"):
        document["spec"]["policyTypes"] = ["Ingress"]


def to_everybody(found):
    policy(found, "greffe-archive")["spec"]["egress"].append({"ports": [{"port": 443}]})


def to_every_address(found):
    rule = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}
    policy(found, "greffe-archive")["spec"]["egress"].append(rule)


def to_every_namespace(found):
    policy(found, "greffe-relay")["spec"]["egress"][0]["to"] = [{"namespaceSelector": {}}]


def on_every_port(found):
    del policy(found, "greffe-relay")["spec"]["egress"][1]["ports"]


def from_everybody(found):
    policy(found, "greffe-audit")["spec"]["ingress"].append({"ports": [{"port": 7400}]})


def a_secret(found):
    found.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "greffe"}, "stringData": {"url": "x"}})


def password_in_the_settings(found):
    settings = next(d for d in of_kind(found, "ConfigMap") if "archive.toml" in (d.get("data") or {}))
    settings["data"]["archive.toml"] += 'secret_access_key = "wJalrXUtnFEMI"\n'


def key_in_an_annotation(found):
    found[0]["metadata"]["annotations"] = {"note": "-----BEGIN EC PRIVATE KEY-----"}


def rights(found):
    found.append({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "greffe"}})


WHOLE = [
    (no_default_deny, "Egress is open"),
    (to_everybody, "egress is open to everybody"),
    (to_every_address, "egress is open to everybody"),
    (to_every_namespace, "egress is open to everybody"),
    (on_every_port, "open on every port"),
    (from_everybody, "ingress is open to everybody"),
    (a_secret, "the chart makes no Secret"),
    (password_in_the_settings, "a secret setting"),
    (key_in_an_annotation, "a private key"),
    (rights, "no service asks the cluster for anything"),
]


@pytest.mark.parametrize(("spoil", "words"), WHOLE, ids=lambda value: getattr(value, "__name__", None))
def test_attack_63_a_chart_that_is_spoiled_is_found(spoil, words):
    found = manifests(BASE)
    spoil(found)
    assert any(words in finding for finding in findings(found)), findings(found)
