from __future__ import annotations

import functools

import pytest

from tests.chart.render import absent
from tests.images import sandbox


@pytest.fixture(scope="session")
def file_set(tmp_path_factory):
    """The file set of an image, installed once."""
    if not sandbox.possible():
        absent("this machine lets no process make namespaces (unshare)")
    folder = tmp_path_factory.mktemp("images")
    return functools.cache(lambda image: sandbox.install(image, folder))
