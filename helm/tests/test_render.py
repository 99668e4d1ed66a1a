"""Every file of the values matrix, through Helm's linter, renderer and installer and the schemas of Kubernetes."""

import json

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

import crds
import readme
from charts import CHART, COMPONENTS, documents, manifests, names, of_kind, pods, render, values

# The oldest that Chart.yaml admits, and the newest whose schemas we have.
KUBERNETES = ("1.30", "1.37")


@pytest.mark.parametrize("name", names())
def test_lint(name):
    report = helm.lint(CHART, values(name), strict=True, namespace="greffe")
    assert report["errors"] is None or report["errors"] == [], report
    # 1 is information: the chart has no icon.
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("name", names())
def test_client_dry_run_installs(name):
    with helm.Config(storage_driver="memory") as config, helm.Chart.load(CHART) as chart:
        release = config.install(chart, "greffe", values(name), namespace="greffe", dry_run="client")
    assert "kind: StatefulSet" in json.dumps(release)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", names())
def test_manifests_are_what_kubernetes_reads(name, version):
    found = manifests(name)
    assert found
    for document in found:
        if document["apiVersion"] in crds.KINDS:
            crds.check(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", names())
def test_names_are_unique_and_labels_say_whose(name):
    seen = set()
    for document in manifests(name):
        key = (document["kind"], document["metadata"]["name"])
        assert key not in seen
        seen.add(key)
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "greffe"
        assert document["metadata"]["namespace"]


def test_the_matrix_renders_every_template():
    with helm.Chart.load(CHART) as chart:
        wanted = {template["name"] for template in chart.templates}
    wanted = {name for name in wanted if not name.rsplit("/", 1)[1].startswith("_") and not name.endswith("validate.yaml")}
    made = set()
    for name in names():
        made |= {path.removeprefix("greffe/") for path, text in render(values(name)).items() if text.strip()}
    assert wanted <= made, wanted - made


def test_a_change_of_settings_starts_pods_anew():
    given = values("production-services")
    before = {d["metadata"]["name"]: d for d in of_kind(documents(render(given)), "StatefulSet")}
    given["relay"]["settings"] = {"conversations": 7}
    after = {d["metadata"]["name"]: d for d in of_kind(documents(render(given)), "StatefulSet")}
    changed = {
        name
        for name in before
        if before[name]["spec"]["template"]["metadata"]["annotations"] != after[name]["spec"]["template"]["metadata"]["annotations"]
    }
    assert changed == {"greffe-relay"}


@pytest.mark.parametrize("name", names())
def test_replicas_stand_by_and_are_replaced_one_at_a_time(name):
    found = manifests(name)
    budgets = {d["metadata"]["name"]: d["spec"] for d in of_kind(found, "PodDisruptionBudget")}
    for document in of_kind(found, "StatefulSet"):
        spec = document["spec"]
        container = spec["template"]["spec"]["containers"][0]
        # With an autoscaler the count is its; the addresses that callers know are those of the most there may be.
        several = spec.get("replicas", 2) > 1
        assert container["livenessProbe"]["grpc"] == {"port": 7480, "service": "liveness"}
        # Of several relays and archives each serves; of the others one does, and a pod is ready to take over.
        stands_by = several and document["metadata"]["labels"]["app.kubernetes.io/component"] not in {"relay", "archive"}
        assert container["readinessProbe"]["grpc"]["service"] == ("liveness" if stands_by else "readiness")
        assert spec["podManagementPolicy"] == "Parallel"
        budget = budgets.get(document["metadata"]["name"])
        assert (budget is not None) == several
        if budget:
            assert budget["maxUnavailable"] == 1 and budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        hosts = [c for c in spec["template"]["spec"].get("topologySpreadConstraints") or []]
        assert (len(hosts) == 2) == several


def test_every_replica_of_a_service_is_known_to_its_callers():
    found = manifests("gateway")
    settings = next(d for d in of_kind(found, "ConfigMap") if d["metadata"]["name"] == "greffe-relay")["data"]["relay.toml"]
    for replica in ("greffe-audit-0", "greffe-audit-1"):
        assert f"{replica}.greffe-audit.greffe.svc.cluster.local:7400" in settings


def test_a_host_name_leads_to_one_replica_without_ending_its_tls():
    found = manifests("gateway")
    routes = of_kind(found, "TLSRoute")
    assert len(routes) == 5
    services = {d["metadata"]["name"]: d for d in of_kind(found, "Service")}
    for route in routes:
        (rule,) = route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        assert services[backend["name"]]["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == backend["name"]
    for ingress in of_kind(manifests("ingress-archive"), "Ingress"):
        assert all("secretName" not in tls for tls in ingress["spec"]["tls"])
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-passthrough"] == "true"


def test_certificates_name_the_service_as_peers_know_it():
    certificates = of_kind(manifests("production-services"), "Certificate")
    names = {c["metadata"]["name"]: c["spec"]["uris"] for c in certificates}
    assert names == {f"greffe-{name}": [f"spiffe://example-bank/service/{name}"] for name in ("relay", "archive", "audit")}
    (node,) = of_kind(manifests("production-escrow-token"), "Certificate")
    assert node["spec"]["uris"] == ["spiffe://example-bank/service/escrow-2"]


def test_secrets_are_read_from_existing_ones_only():
    found = manifests("production-services")
    wanted = {
        "StatefulSet/greffe-relay": {"greffe-trust", "relay-tls", "relay-keys", "relay-database", "greffe-collector"},
        "Job/greffe-relay-migrate": {"relay-database-owner"},
        "Job/greffe-archive-migrate": {"archive-database", "archive-wraps"},
        "StatefulSet/greffe-archive": {
            "greffe-trust", "archive-tls", "archive-keys", "archive-database", "archive-wraps", "archive-objects",
            "archive-objects-replica", "greffe-collector",
        },
    }  # fmt: skip
    mounted = {
        where: {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume} for where, _, spec in pods(found)
    }
    for where, secrets in wanted.items():
        assert mounted[where] == secrets, where


def test_a_plain_job_changes_its_name_with_what_it_runs():
    given = values("gitops-relay")
    (before,) = of_kind(documents(render(given)), "Job")
    given["image"] = {"tag": "0.2.0"}
    (after,) = of_kind(documents(render(given)), "Job")
    assert before["metadata"]["name"] != after["metadata"]["name"]
    assert not any(key.startswith("helm.sh/hook") for key in before["metadata"].get("annotations") or {})


def test_one_production_release_claims_a_namespace():
    claim = "greffe-trust-domain"
    for name in ("production-services", "production-escrow"):
        assert [d for d in of_kind(manifests(name), "ConfigMap") if d["metadata"]["name"] == claim], name
    for name in ("production-one-trust-domain", "development"):
        assert not [d for d in of_kind(manifests(name), "ConfigMap") if d["metadata"]["name"] == claim], name


def test_readme_says_what_values_say():
    assert (CHART / "README.md").read_text() == readme.text(), "run: cargo xtask helm readme"


def test_every_value_is_described_and_in_the_schema():
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    described = {path for path, _, _ in readme.rows()}
    assert set(readme.leaves(defaults)) == described
    assert readme.keys_of(defaults) == readme.keys_of_schema(schema, defaults)
    assert set(COMPONENTS) < set(defaults)


def test_notes_tell_what_to_do_next():
    notes = next(text for path, text in render(values("production-one-trust-domain")).items() if path.endswith("NOTES.txt"))
    assert "logs greffe-escrow-0 -c prepare" in notes and "singleTrustDomain" in notes and "helm test greffe" in notes
