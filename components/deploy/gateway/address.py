"""The address of a platform on Kubernetes: ``gateway:NAMESPACE?option=value&...``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

from components.errors import UsageError

SCHEME = "gateway:"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a model is served, and what a first slot and route need that no object in the namespace tells yet."""

    namespace: str
    gateway: str = ""
    """NAMESPACE/NAME of the Gateway a new route attaches to."""
    domain: str = ""
    """Ending of a new route's host, ``<model>.<namespace>.<domain>``."""
    claim: str = ""
    """Volume claim of a store that is a folder; its root holds ``bundles/``."""
    account: str = ""
    """Service account of a new slot, with the credentials of KServe's storage initializer."""


def parse(text: str) -> Address:
    """An address from its text.

    >>> parse("gateway:models?gateway=infra/public&domain=example.com").gateway
    'infra/public'

    Raises:
        UsageError: no namespace, an unknown or repeated option, a Gateway that is not NAMESPACE/NAME.
    """
    namespace, _, query = text.removeprefix(SCHEME).partition("?")
    allowed = [field.name for field in fields(Address) if field.name != "namespace"]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as exc:
        raise UsageError(f"platform {text!r}: options are name=value, joined by &: {exc}") from exc
    options = dict(pairs)
    wrong = sorted(set(options) - set(allowed))
    if not namespace or "/" in namespace or wrong or len(options) < len(pairs):
        raise UsageError(
            f"platform {text!r}: write {SCHEME}NAMESPACE?option=value, each option once of: {', '.join(allowed)}"
        )
    if options.get("gateway") and options["gateway"].count("/") != 1:
        raise UsageError(f"platform {text!r}: gateway={options['gateway']}: write NAMESPACE/NAME")
    return Address(namespace=namespace, **options)
