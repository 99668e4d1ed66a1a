"""Escrow nodes are installed one a trust domain: what a production install sees of the namespace it goes into.

Helm itself renders against an API server that knows one kind of object, which is all that the chart asks a cluster for.
"""

import contextlib
import http.server
import json
import threading

import helm_python as helm
import pytest

from charts import CHART, values

REFUSED = "an escrow node has a namespace of its own"


@contextlib.contextmanager
def cluster(sets: list[tuple[str, str, str]]):
    """An API server with StatefulSets: (release, chart's name, component). Gives what Helm connects with, and what was asked."""
    asked = []
    items = [
        {
            "metadata": {
                "name": f"{release}-{component}",
                "namespace": "greffe",
                "labels": {
                    "app.kubernetes.io/instance": release,
                    "app.kubernetes.io/name": name,
                    "app.kubernetes.io/component": component,
                },
            }
        }
        for release, name, component in sets
    ]
    resource = {"name": "statefulsets", "singularName": "statefulset", "namespaced": True, "kind": "StatefulSet", "verbs": ["get", "list"]}
    answers = {
        "/apis/apps/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [resource]},
        "/apis/apps/v1/namespaces/greffe/statefulsets": {"kind": "StatefulSetList", "apiVersion": "apps/v1", "items": items},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            asked.append(path)
            body = json.dumps(answers.get(path, {"kind": "Status", "apiVersion": "v1", "code": 404})).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with helm.Config(kube_apiserver=f"http://127.0.0.1:{server.server_port}", namespace="greffe", storage_driver="memory") as config:
            yield config, asked
    finally:
        server.shutdown()
        server.server_close()


def install(name: str, sets, release: str = "greffe", **changes) -> dict[str, str]:
    given = values(name)
    for path, value in changes.items():
        table, key = path.split("__")
        given[table][key] = value
    with cluster(sets) as (config, asked), helm.Chart.load(CHART) as chart:
        rendered = config.render(chart, given, name=release, namespace="greffe")
        # Who admits it is not asked about it.
        assert bool(changes) != ("/apis/apps/v1/namespaces/greffe/statefulsets" in asked)
        return rendered


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        # A second node beside the first.
        ("production-escrow", [("node-2", "greffe", "escrow")]),
        # A node beside the services, and the services beside a node.
        ("production-escrow", [("bank", "greffe", "archive")]),
        ("production-services", [("node-1", "greffe", "escrow")]),
    ],
)
def test_a_second_trust_domain_in_a_namespace_is_refused(name, sets):
    with pytest.raises(helm.HelmError, match=REFUSED):
        install(name, sets)


def test_the_value_that_admits_it_admits_it():
    assert install("production-escrow", [("node-2", "greffe", "escrow")], escrow__singleTrustDomain=True)


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("production-escrow", []),
        # Its own upgrade, and what is none of ours.
        ("production-escrow", [("greffe", "greffe", "escrow")]),
        ("production-escrow", [("postgres", "postgresql", "primary")]),
        # Another tenant's services beside these.
        ("production-services", [("other", "greffe", "relay")]),
    ],
)
def test_what_keeps_the_domains_apart_is_installed(name, sets):
    assert install(name, sets)
