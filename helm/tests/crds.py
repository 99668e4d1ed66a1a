"""Shapes of the resources that are not Kubernetes's own, as far as the chart uses them."""

KINDS = {
    "cert-manager.io/v1": {
        "Certificate": {"secretName", "duration", "renewBefore", "privateKey", "usages", "uris", "dnsNames", "issuerRef"}
    },
    "gateway.networking.k8s.io/v1": {"GRPCRoute": {"parentRefs", "hostnames", "rules"}},
    "gateway.networking.k8s.io/v1alpha2": {"TLSRoute": {"parentRefs", "hostnames", "rules"}},
    "monitoring.coreos.com/v1": {"ServiceMonitor": {"selector", "jobLabel", "endpoints"}, "PrometheusRule": {"groups"}},
}


def check(document: dict) -> None:
    """Fails on a kind or a field that is not one of theirs."""
    fields = KINDS[document["apiVersion"]][document["kind"]]
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(document["spec"]) == fields, (document["kind"], set(document["spec"]) ^ fields)
    assert all(document["spec"].values()), document["kind"]
