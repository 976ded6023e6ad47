"""Which driver an address asks for."""

from __future__ import annotations

from pathlib import Path

from kedge.errors import UsageError
from kedge.rollout.driver import Driver


def open_driver(platform: str, model: str) -> Driver:
    """The driver of a platform.

    A folder is the local one; ``gateway:NAMESPACE`` is KServe in Standard mode behind the Gateway API,
    ``knative:NAMESPACE`` KServe in Knative mode.

    Raises:
        UsageError: an address of another kind, or no Kubernetes is configured.
    """
    if platform.startswith(("gateway:", "knative:")):
        return _kserve(platform, model)
    if "://" not in platform:
        from kedge.rollout.local.driver import LocalDriver

        return LocalDriver(Path(platform), model)
    raise UsageError(f"platform {platform!r}: give a local platform's folder, gateway:NAMESPACE or knative:NAMESPACE")


def _kserve(platform: str, model: str) -> Driver:
    import httpx

    from kedge.rollout.gateway.driver import GatewayDriver
    from kedge.rollout.knative.driver import KnativeDriver
    from kedge.rollout.kserve.address import parse
    from kedge.rollout.kserve.api import Api, connect

    made = KnativeDriver if platform.startswith("knative:") else GatewayDriver
    address = parse(platform)
    return made(address, model, Api(address.namespace, connect()), http=httpx.Client(trust_env=False))
