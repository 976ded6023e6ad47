"""What the doctor asks Kubernetes, and what it may be told instead of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kedge.errors import KedgeError, UserError


class UnreachableError(KedgeError):
    """The API server does not answer, or refuses to know the caller."""


class KubeconfigError(UserError):
    """The kubeconfig names what is not there."""


class DeniedError(KedgeError):
    """The caller may not ask this; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A ServiceAccount.

    >>> Account(namespace="ml", name="kedge-monitor").user
    'system:serviceaccount:ml:kedge-monitor'
    """

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """Its name as Kubernetes grants rights to it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        """The groups it belongs to."""
        return ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]


@dataclass(frozen=True, kw_only=True)
class Right:
    """One thing to do with one kind, or with one object of it."""

    verb: str
    group: str
    resource: str
    name: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}".rstrip(".")
        return f"{self.verb} {kind}/{self.name}" if self.name else f"{self.verb} {kind}"


class Cluster(Protocol):
    """What the doctor asks Kubernetes. All but ``version`` raise DeniedError where the caller may not ask."""

    namespace: str
    address: str

    def version(self) -> tuple[str, str | None]:
        """Kubernetes' version and the server's time; raises UnreachableError."""

    def kinds(self, group: str) -> set[str]:
        """``version/kind`` of a group that the API serves; empty if it has none of it."""

    def everywhere(self, group: str, version: str, plural: str, *, name: str = "") -> list[Mapping[str, Any]]:
        """All objects of a kind that belongs to no namespace, or of any namespace; ``name``: only those called so."""

    def within(
        self, namespace: str, group: str, version: str, plural: str, *, labels: str = ""
    ) -> list[Mapping[str, Any]]:
        """A namespace's objects of a kind, as the API gives them; ``labels``: only those with ``name=value``."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap; None if it is not there or may not be read."""

    def may(self, right: Right, namespace: str, account: Account | None = None) -> bool:
        """Whether the caller, or an account, has a right in a namespace; "": to what belongs to none."""

    def pods(self) -> list[Mapping[str, Any]]:
        """The namespace's pods, as the API gives them."""

    def cron_jobs(self) -> list[Mapping[str, Any]]:
        """The namespace's CronJobs, as the API gives them."""
