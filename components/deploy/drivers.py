"""Which driver an address asks for."""

from __future__ import annotations

from pathlib import Path

from components.deploy.driver import Driver
from components.errors import UsageError


def open_driver(platform: str, model: str) -> Driver:
    """The driver of a platform: a folder is the local one, ``gateway:NAMESPACE`` is KServe behind the Gateway API.

    Raises:
        UsageError: an address of another kind, or no Kubernetes is configured.
    """
    if platform.startswith("gateway:"):
        return _gateway(platform, model)
    if "://" not in platform:
        from components.deploy.local.driver import LocalDriver

        return LocalDriver(Path(platform), model)
    raise UsageError(f"platform {platform!r}: give a local platform's folder, or gateway:NAMESPACE")


def _gateway(platform: str, model: str) -> Driver:
    import httpx

    from components.deploy.gateway.driver import GatewayDriver
    from components.deploy.kserve.address import parse
    from components.deploy.kserve.api import Api, connect

    address = parse(platform)
    return GatewayDriver(address, model, Api(address.namespace, connect()), http=httpx.Client(trust_env=False))
