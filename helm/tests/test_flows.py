"""Every flow of the architecture is allowed by the rendered NetworkPolicies, and nothing else.

The world: the services' release in one namespace, one escrow node's in another, what they need around them, and strangers.
"""

import pytest

from charts import manifests, of_kind, pods
from flows import Party, allowed

SERVICES, NODE = "production-services", "production-escrow"
PORTS = [(7400, "TCP"), (7443, "TCP"), (7480, "TCP"), (7490, "TCP"), (5432, "TCP"), (443, "TCP"), (9000, "TCP"), (4317, "TCP"), (53, "UDP"), (53, "TCP"), (22, "TCP"), (6443, "TCP")]
RELEASED = {SERVICES: "greffe", NODE: "greffe-escrow-1"}


def own() -> list[Party]:
    """The pods of both releases, by what they are."""
    result = []
    for release, namespace in RELEASED.items():
        for _, metadata, _ in pods(manifests(release)):
            labels = metadata["labels"]
            result.append(Party.pod(labels["app.kubernetes.io/component"], namespace, labels))
    return result


OTHERS = [
    Party.pod("app", "desk", {"app": "desk"}, greffe__clients="true"),
    Party.pod("auditor", "auditors", {"app": "browser"}),
    Party.pod("dns", "kube-system", {"k8s-app": "kube-dns"}),
    Party.pod("prometheus", "monitoring", {"app": "prometheus"}),
    Party.pod("collector", "telemetry", {"app": "collector"}),
    Party.pod("relay-db", "postgres", {"cluster": "relay"}),
    Party("archive-db", ip="198.51.100.10"),
    Party("wraps-db", ip="198.51.100.11"),
    Party("audit-db", ip="198.51.100.12"),
    Party("s3", ip="198.51.100.40"),
    Party("s3-replica", ip="203.0.113.40"),
    Party("escrow-2", ip="198.51.100.2"),
    Party("escrow-3", ip="198.51.100.3"),
    # Whom nobody has business with.
    Party.pod("stranger", "elsewhere", {"app": "web"}),
    Party.pod("neighbour", "greffe", {"app": "web"}),
    Party.pod("node-neighbour", "greffe-escrow-1", {"app": "web"}),
    Party.pod("other-db", "postgres", {"cluster": "other"}),
    Party.pod("apiserver", "kube-system", {"component": "kube-apiserver"}),
    Party("internet", ip="192.0.2.77"),
    Party("metadata", ip="169.254.169.254"),
]

TABLE = """
app         relay archive audit escrow                    7400/TCP
auditor     archive                                       7443/TCP
auditor     audit                                         7490/TCP
relay       archive audit                                 7400/TCP
archive     audit                                         7400/TCP
audit       escrow escrow-2 escrow-3                      7400/TCP
escrow escrow-2 escrow-3  audit                           7400/TCP
relay       relay-db                                      5432/TCP
archive     archive-db wraps-db                           5432/TCP
audit       audit-db                                      5432/TCP
relay-migrate    relay-db                                 5432/TCP
archive-migrate  archive-db wraps-db                      5432/TCP
audit-migrate    audit-db                                 5432/TCP
archive     s3                                            443/TCP
archive     s3-replica                                    9000/TCP
relay archive audit  collector                            4317/TCP
prometheus  relay archive audit escrow                    7480/TCP
relay archive audit escrow relay-migrate archive-migrate audit-migrate  dns  53/UDP
relay archive audit escrow relay-migrate archive-migrate audit-migrate  dns  53/TCP
"""


def expected() -> set[tuple[str, str, str]]:
    """The table, a line at a time: callers, two spaces or more, called, two spaces or more, port."""
    result = set()
    for line in TABLE.strip().splitlines():
        sources, targets, port = [part.split() for part in line.replace("  ", "\t").split("\t") if part.strip()]
        result |= {(source, target, port[0]) for source in sources for target in targets}
    return result


def policies() -> list[dict]:
    return [policy for release in RELEASED for policy in of_kind(manifests(release), "NetworkPolicy")]


def computed(given: list[dict]) -> set[tuple[str, str, str]]:
    """Connections with one of our pods at one end."""
    ours = {party.name for party in own()}
    return {flow for flow in allowed(given, own() + OTHERS, PORTS) if flow[0] in ours or flow[1] in ours}


def test_every_flow_of_the_architecture_and_nothing_else():
    found = computed(policies())
    assert found - expected() == set(), "allowed without need"
    assert expected() - found == set(), "needed and cut off"


def test_our_pods_are_the_ones_that_the_table_names():
    assert {party.name for party in own()} == {
        "relay", "archive", "audit", "escrow", "relay-migrate", "archive-migrate", "audit-migrate",
        "relay-test", "archive-test", "audit-test", "escrow-test",
    }  # fmt: skip


@pytest.mark.parametrize("name", [policy["metadata"]["name"] for policy in policies()])
def test_each_policy_is_needed(name):
    """Without any one of them the table no longer holds, or (the default) a pod that nobody names stands open."""
    rest = [policy for policy in policies() if policy["metadata"]["name"] != name]
    if name.endswith("default-deny"):
        pod = Party.pod("forgotten", "greffe", {"app.kubernetes.io/name": "greffe", "app.kubernetes.io/instance": "greffe"})
        node = Party("forgotten", "greffe-escrow-1", pod.namespace_labels, pod.labels)
        internet = Party("internet", ip="192.0.2.77")
        for some in (pod, node):
            assert not allowed(policies(), [some, internet], [(443, "TCP")])
        assert any(allowed(rest, [some, internet], [(443, "TCP")]) for some in (pod, node))
    else:
        assert computed(rest) != expected()


def test_the_evaluator_knows_the_rules_that_are_easily_misread():
    deny = {"metadata": {"namespace": "a"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    a, b = Party.pod("a", "a", {"x": "1"}), Party.pod("b", "b", {"x": "1"})
    assert not allowed([deny], [b, a], [(1, "TCP")]) - {("a", "b", "1/TCP")}
    # A pod selector alone means the policy's own namespace.
    rule = {"from": [{"podSelector": {"matchLabels": {"x": "1"}}}]}
    only = deny | {"spec": deny["spec"] | {"ingress": [rule]}}
    assert ("b", "a", "1/TCP") not in allowed([only], [a, b], [(1, "TCP")])
    # Two entries of a list are either, two keys of one entry both.
    either = {"from": [{"namespaceSelector": {"matchLabels": {"y": "2"}}}, {"podSelector": {}}]}
    both = {"from": [{"namespaceSelector": {"matchLabels": {"y": "2"}}, "podSelector": {"matchLabels": {"x": "2"}}}]}
    c = Party.pod("c", "c", {"x": "1"}, y="2")
    for rule, may in ((either, True), (both, False)):
        some = deny | {"spec": deny["spec"] | {"ingress": [rule]}}
        assert (("c", "a", "1/TCP") in allowed([some], [a, c], [(1, "TCP")])) == may
    # An empty list of peers is everybody; a block is never a pod.
    open_to_all = deny | {"spec": deny["spec"] | {"ingress": [{"from": []}]}}
    assert ("c", "a", "1/TCP") in allowed([open_to_all], [a, c], [(1, "TCP")])
    block = deny | {"spec": deny["spec"] | {"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}}]}]}}
    inside, less = Party("in", ip="192.0.2.1"), Party("less", ip="192.0.2.7")
    assert allowed([block], [a, inside, less], [(1, "TCP")]) >= {("in", "a", "1/TCP")}
    assert ("less", "a", "1/TCP") not in allowed([block], [a, inside, less], [(1, "TCP")])
