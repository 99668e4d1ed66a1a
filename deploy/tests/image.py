"""The image's root file system, laid out once from the program that is deployed."""

import os
import pathlib
import subprocess
import tempfile

DEPLOY = pathlib.Path(__file__).resolve().parents[1]
# Set by `cargo xtask helm`, which also builds it.
GREFFE = os.environ.get("GREFFE_BIN") or ""
assert GREFFE, "GREFFE_BIN names no program: run the checks by `cargo xtask helm`"


class Image:
    """A folder that lasts as long as this value, with the build context below it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="greffe-image-")
        self.context = pathlib.Path(self._folder.name) / "build"
        self.context.mkdir()
        self.rootfs = self.context / "rootfs"
        subprocess.run([DEPLOY / "rootfs.sh", GREFFE, self.rootfs], check=True)

    def close(self):
        """Removes it."""
        self._folder.cleanup()
