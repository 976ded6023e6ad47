"""The package that a policy names by `code`: from the team's folder into the store, and from there into a run."""

from __future__ import annotations

from kedge import code
from kedge.code import KEPT, Package
from kedge.errors import UsageError
from kedge.policy import Policy
from kedge.store import Store

_FETCHED: dict[str, Package] = {}
"""By digest what this process took from a store."""


def of(policy: Policy) -> Package | None:
    """The package of a policy; None: it names none.

    Raises:
        UsageError: a folder or wheel that is not here, or a digest that :func:`fetch` did not take from a store.
    """
    if policy.code is None:
        return None
    if not policy.code.startswith(KEPT):
        return code.read(policy.code)
    try:
        return _FETCHED[policy.code]
    except KeyError:
        raise UsageError(f"code: {policy.code}: is kept in a store, and none was asked for it") from None


def publish(store: Store, policy: Policy) -> Policy:
    """Put a policy's folder or wheel into the store, and return the policy that names it there: that is what runs."""
    if policy.code is None or policy.code.startswith(KEPT):
        return policy
    package = code.read(policy.code)
    store.put_if_absent(_key(policy.name, package.digest), package.to_zip())
    return policy.model_copy(update={"code": f"{KEPT}{package.digest}"})


def _stored_package(store: Store, model: str, digest: str) -> Package:
    try:
        return Package.from_zip(store.get(_key(model, digest)))
    except KeyError:
        raise UsageError(
            f"code: {KEPT}{digest}: store {store.url} has no such package of {model}; `kedge submit` with the "
            "policy that names its folder puts it there"
        ) from None


def fetch(store: Store, policy: Policy) -> None:
    """Take a policy's package from the store, for :func:`of`, and verify it.

    Raises:
        UsageError: the store has no such package, or an altered one.
    """
    if policy.code is None or not policy.code.startswith(KEPT) or policy.code in _FETCHED:
        return
    digest = policy.code.removeprefix(KEPT)
    package = _stored_package(store, policy.name, digest)
    if package.digest != digest:
        raise UsageError(
            f"code: {policy.code}: the store's package has digest {package.digest}: altered; put it there anew"
        )
    _FETCHED[policy.code] = package


def _key(model: str, digest: str) -> str:
    return f"code/{model}/{digest}.zip"
