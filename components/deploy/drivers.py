"""Which driver an address asks for."""

from __future__ import annotations

from pathlib import Path

from components.deploy.driver import Driver
from components.errors import UsageError


def open_driver(platform: str, model: str) -> Driver:
    """The driver of a platform: a folder is the local one.

    Raises:
        UsageError: an address of another kind.
    """
    if "://" not in platform:
        from components.deploy.local.driver import LocalDriver

        return LocalDriver(Path(platform), model)
    raise UsageError(f"platform {platform!r}: only a local platform's folder is supported; give its path")
