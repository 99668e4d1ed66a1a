"""README.md of the chart, made from the comments of values.yaml; `python readme.py` writes it."""

import json
import re

import yaml

from charts import CHART

HEAD = """# greffe

Installs relay, archive and audit of one tenant, or one escrow node, on Kubernetes.

A production release with an escrow node is that node and nothing else, in a namespace (better: cluster, account, operator) of
its own. `escrow.singleTrustDomain` admits another layout, and says what it gives up.

- **Replicas**: every relay serves, and one of them, the leader, carries messages to the archive and releases them. Every archive
  serves, and its leader writes to the log, scrubs and disposes. Of audit one is active, the others stand by and open no port for
  callers. Callers know every replica's address. A relay or an archive is Ready when it serves, another pod when it runs and can
  take over, so rollouts, `helm --wait` and evictions replace one pod at a time and always find a successor. Whether a pod serves is what its gRPC health service `readiness` says, and the metrics.
- **Autoscaling** is off. It is for the relay, whose checks and proofs take most of its time and are shared by its replicas; numbers
  are given by one transaction after the other. More archives share what people read; more logs
  add standbys, not throughput.
- **TLS** is mutual and ends at the service. Gateways and Ingresses pass it through, one host name a replica.
- **Secrets** are existing ones, by name. The chart makes none.
- **Network**: everything is closed but the flows of the architecture. `clients`, `database.to` and the like say who is meant.

The sets of values in `ci/` are tested and serve as examples. Runbooks are in `deploy/runbooks`.

## Values

| key | default | what it is |
|---|---|---|
"""


def rows() -> list[tuple[str, str, str]]:
    """Path, default and description of every value that has a description."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    defaults = yaml.safe_load("\n".join(lines))
    result, path, said = [], [], None
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("# -- "):
            said = stripped.removeprefix("# -- ")
        elif stripped.startswith("#") and said is not None:
            said += " " + stripped.lstrip("# ")
        elif key := re.match(r"( *)([A-Za-z0-9]+):", line):
            depth = len(key[1]) // 2
            path = path[:depth] + [key[2]]
            if said is not None:
                value = defaults
                for part in path:
                    value = value[part]
                result.append((".".join(path), json.dumps(value), said))
                said = None
    return result


def leaves(value: dict, path: tuple = ()) -> list[str]:
    """Paths of values: what is described is not looked into."""
    described = {row for row, _, _ in rows()}
    result = []
    for key, inner in value.items():
        here = path + (key,)
        if ".".join(here) in described or not isinstance(inner, dict) or not inner:
            result.append(".".join(here))
        else:
            result += leaves(inner, here)
    return result


def keys_of(value: dict, path: tuple = ()) -> set[str]:
    """Every path of the defaults."""
    result = set()
    for key, inner in value.items():
        here = path + (key,)
        result.add(".".join(here))
        if isinstance(inner, dict):
            result |= keys_of(inner, here)
    return result


def keys_of_schema(schema: dict, defaults: dict) -> set[str]:
    """Every path that the schema names, as deep as the defaults go."""

    def walk(node: dict, given, path: tuple) -> set[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] | {k: v for k, v in node.items() if k != "$ref"}
        if not isinstance(given, dict) or "properties" not in node:
            # A table of the user's own keys: what the defaults hold is all there is to compare.
            return {".".join(path + (key,)) for key in given} if isinstance(given, dict) else set()
        result = set()
        for key, inner in node["properties"].items():
            if not path and key == "global":
                continue
            # Of a table that is empty by default (`pod` of a service), what it may hold is its user's choice.
            if given or not path:
                result.add(".".join(path + (key,)))
                result |= walk(inner, given.get(key), path + (key,))
        return result

    return walk(schema, defaults, ())


def text() -> str:
    """The whole file."""
    table = "".join(f"| `{path}` | `{default}` | {said} |\n" for path, default, said in rows())
    return HEAD + table


if __name__ == "__main__":
    (CHART / "README.md").write_text(text())
