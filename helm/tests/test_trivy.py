"""The scanner's own word on every manifest of the matrix and on the image's recipe, offline."""

import json
import pathlib
import subprocess
import sys

import yaml

from charts import ROOT, manifests, names

# Findings that are none, each with the only words it may come with.
EXCEPTIONS = {
    # Paths of mounted files: `key` and `root_key` are where a key is, never one.
    "KSV-01010": ('{"key ", "root_key "}', '{"root_key "}', '{"key "}'),
    # `token` of [service.seal] is the label of a PKCS #11 token.
    "KSV-0109": ('{"token "}',),
    # Which registry is trusted is the installer's choice: image.repository.
    "KSV-0125": ("uses an image from an untrusted registry",),
}
SERIOUS = ("MEDIUM", "HIGH", "CRITICAL")


def scan(folder: pathlib.Path) -> list[str]:
    trivy = pathlib.Path(sys.executable).parent / "trivy"
    offline = ["--skip-check-update", "--skip-version-check", "--disable-telemetry", "--quiet", "--cache-dir", str(folder / ".cache")]
    done = subprocess.run([trivy, "config", *offline, "--format", "json", folder], capture_output=True, text=True, check=True)
    results = json.loads(done.stdout).get("Results") or []
    assert results, "trivy scanned nothing"
    return [
        f"{result['Target']}: {one['ID']} {one['Message']}"
        for result in results
        for one in result.get("Misconfigurations") or []
        if one["Severity"] in SERIOUS and not any(words in one["Message"] for words in EXCEPTIONS.get(one["ID"], ()))
    ]


def test_no_manifest_has_a_finding(tmp_path):
    for name in names():
        tmp_path.joinpath(f"{name}.yaml").write_text(yaml.safe_dump_all(manifests(name)))
    assert scan(tmp_path) == []


def test_a_spoiled_manifest_has_one(tmp_path):
    found = manifests("production-services")
    for document in found:
        if document["kind"] == "StatefulSet":
            document["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    tmp_path.joinpath("spoiled.yaml").write_text(yaml.safe_dump_all(found))
    assert any("KSV-0017" in one or "privileged" in one for one in scan(tmp_path))


def test_the_images_recipe_has_no_finding(tmp_path):
    tmp_path.joinpath("Containerfile").write_text((ROOT / "deploy/Containerfile").read_text())
    assert scan(tmp_path) == []
