"""What several tests of this folder use."""

import pytest

from image import Image


@pytest.fixture(scope="session")
def image():
    built = Image()
    yield built
    built.close()
