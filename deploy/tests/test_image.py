"""The image: built by buildah without a registry, and nothing in it that a service does not need."""

import json
import re
import subprocess
import tarfile

import pytest

from image import DEPLOY


def instructions() -> list[tuple[str, str]]:
    """Of the recipe, lines joined, comments gone."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line[0], line[1]) for line in lines]


def test_the_recipe_pulls_nothing_and_runs_nothing_as_root():
    found = instructions()
    assert [value for name, value in found if name == "FROM"] == ["scratch"]
    assert [value for name, value in found if name == "USER"] == ["65532:65532"]
    assert not {"RUN", "ADD", "ENV", "ARG", "SHELL"} & {name for name, _ in found}
    (entry,) = [value for name, value in found if name == "ENTRYPOINT"]
    assert json.loads(entry) == ["/usr/local/bin/greffe"]
    assert found.index(("USER", "65532:65532")) > max(i for i, (name, _) in enumerate(found) if name == "COPY")


def test_the_root_file_system_is_the_program_and_what_it_loads(image):
    files = {"/" + path.relative_to(image.rootfs).as_posix() for path in image.rootfs.rglob("*") if path.is_file()}
    libraries = {name for name in files if re.search(r"/(lib(c|m|gcc_s)|ld-linux[^/]*)\.so\.\d+$", name)}
    assert len(libraries) == 4, libraries
    assert files - libraries == {
        "/usr/local/bin/greffe", "/etc/ssl/certs/ca-certificates.crt", "/etc/passwd", "/etc/group",
    }  # fmt: skip
    for path in image.rootfs.rglob("*"):
        assert not path.stat().st_mode & 0o6000, f"{path} changes who runs it"
    done = subprocess.run(
        ["chroot", "--userspec=65532:65532", image.rootfs, "/usr/local/bin/greffe", "--version"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("greffe "), done


@pytest.fixture(scope="session")
def built(image, tmp_path_factory):
    """The image as an archive, by the recipe as its comment says."""
    folder = tmp_path_factory.mktemp("storage")
    archive = folder / "greffe.tar"
    store = ["buildah", "--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "vfs"]
    build = ["build", "--isolation", "chroot", "--file", DEPLOY / "Containerfile", "--tag", "greffe", image.context]
    subprocess.run([*store, *build], check=True, capture_output=True)
    subprocess.run([*store, "push", "greffe", f"oci-archive:{archive}"], check=True, capture_output=True)
    return archive


def test_the_image_is_built_here_and_runs_as_nobody(built, image):
    with tarfile.open(built) as archive:

        def blob(digest: str) -> bytes:
            return archive.extractfile("blobs/" + digest.replace(":", "/")).read()

        index = json.loads(archive.extractfile("index.json").read())
        manifest = json.loads(blob(index["manifests"][0]["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))["config"]
        names = set()
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=archive.extractfile("blobs/" + layer["digest"].replace(":", "/"))) as files:
                names |= {f"/{member.name.strip('/')}" for member in files if member.isfile()}
                assert not [member.name for member in files if member.isfile() and member.mode & 0o6002]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/local/bin/greffe"]
    assert set(config["ExposedPorts"]) == {"7400/tcp", "7443/tcp", "7480/tcp", "7490/tcp"}
    wanted = {"/" + path.relative_to(image.rootfs).as_posix() for path in image.rootfs.rglob("*") if path.is_file()}
    assert names == wanted
