"""The chart as Helm itself reads it, and every file of the values matrix rendered once."""

import copy
import functools
import pathlib

import helm_python as helm
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "greffe"
MATRIX = sorted(CHART.joinpath("ci").glob("*-values.yaml"))
COMPONENTS = ("relay", "archive", "audit", "escrow")


def values(name: str) -> dict:
    """One file of the matrix."""
    return yaml.safe_load(CHART.joinpath("ci", f"{name}-values.yaml").read_text())


def render(given: dict, name: str = "greffe", namespace: str = "greffe") -> dict[str, str]:
    """What Helm makes of values, by template. Fails as `helm install` would: schema first, then the templates."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(given)
        return chart.render(given, name=name, namespace=namespace)


def documents(rendered: dict[str, str]) -> list[dict]:
    """The manifests of a render, without notes."""
    texts = (text for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
    return [document for text in texts for document in yaml.load_all(text, yaml.CSafeLoader) if document]


@functools.cache
def _rendered(name: str) -> tuple:
    namespace = "greffe-escrow-1" if name == "production-escrow" else "greffe"
    return tuple(documents(render(values(name), namespace=namespace)))


def manifests(name: str) -> list[dict]:
    """The manifests of one file of the matrix, a copy that may be changed."""
    return copy.deepcopy(list(_rendered(name)))


def names() -> list[str]:
    """Every file of the matrix, by its name."""
    return [path.name.removesuffix("-values.yaml") for path in MATRIX]


def of_kind(found: list[dict], kind: str) -> list[dict]:
    """Those of one kind."""
    return [document for document in found if document["kind"] == kind]


def pods(found: list[dict]) -> list[tuple[str, dict, dict]]:
    """Every pod that the manifests lead to: where it is, its metadata, its spec."""
    result = []
    for document in found:
        where = f"{document['kind']}/{document['metadata'].get('name')}"
        if document["kind"] == "Pod":
            result.append((where, document["metadata"], document["spec"]))
        elif document["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            template = document["spec"]["template"]
            result.append((where, template["metadata"], template["spec"]))
    return result
