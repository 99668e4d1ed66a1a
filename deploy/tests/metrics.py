"""The metrics that services have, as deploy/METRICS.md lists them."""

from image import DEPLOY


def metrics() -> set[str]:
    """Every name that Prometheus may read, those of a histogram's parts included."""
    rows = [line.split("|") for line in (DEPLOY / "METRICS.md").read_text().splitlines() if line.startswith("| `greffe.")]
    assert len(rows) > 15
    result = set()
    for row in rows:
        name, kind = row[2].strip(" `"), row[3].strip()
        result |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return result
