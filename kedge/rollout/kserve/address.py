"""The address of a platform on Kubernetes: ``gateway:NAMESPACE?option=value&...`` or ``knative:NAMESPACE?...``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from kedge.clouds import web_address
from kedge.errors import UsageError

OPTIONS = {
    "gateway": ("gateway", "section", "domain", "host", "claim", "account", "slots"),
    "knative": ("claim", "account", "slots"),
}
"""What may follow the namespace, by scheme."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a model is served, and what a first slot and route need that no object in the namespace tells yet."""

    namespace: str
    gateway: str = ""
    """NAMESPACE/NAME of the Gateway a new route attaches to."""
    section: str = ""
    """Its listener that a new route attaches to; empty: each that lets it."""
    domain: str = ""
    """Ending of a new route's host, ``<model>.<namespace>.<domain>``."""
    host: str = ""
    """A new route's host, instead of one by domain; or ``MODEL:HOST,...`` for some of the models."""
    claim: str = ""
    """Volume claim of a store that is a folder; its root holds ``bundles/``."""
    account: str = ""
    """Service account of a new slot, with the credentials of KServe's storage initializer."""
    slots: str = ""
    """ConfigMap in the namespace whose ``predictor.json`` says what every slot is, but for the bundle: replicas,
    account, placement, security context. Without it a candidate is what its champion is."""

    def host_of(self, model: str) -> str:
        """The host of a model's new route; empty: the address does not say."""
        if ":" not in self.host:
            return self.host or self._by_domain(model)
        named = dict(each.split(":", 1) for each in self.host.split(",") if ":" in each)
        return named.get(model) or self._by_domain(model)

    def _by_domain(self, model: str) -> str:
        return f"{model}.{self.namespace}.{self.domain}" if self.domain else ""


def parse(text: str) -> Address:
    """An address from its text, whose scheme is one of OPTIONS.

    >>> parse("gateway:models?gateway=infra/public&domain=example.com").gateway
    'infra/public'

    Raises:
        UsageError: no namespace, an unknown or repeated option, a Gateway that is not NAMESPACE/NAME.
    """
    scheme, _, rest = text.partition(":")
    namespace, _, query = rest.partition("?")
    allowed = OPTIONS[scheme]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as exc:
        raise UsageError(f"platform {text!r}: options are name=value, joined by &: {exc}") from exc
    options = dict(pairs)
    if not namespace or "/" in namespace or not set(options) <= set(allowed) or len(options) < len(pairs):
        raise UsageError(
            f"platform {text!r}: write {scheme}:NAMESPACE?option=value, each option once of: {', '.join(allowed)}"
        )
    if options.get("gateway") and options["gateway"].count("/") != 1:
        raise UsageError(f"platform {text!r}: gateway={options['gateway']}: write NAMESPACE/NAME")
    return Address(namespace=namespace, **options)


def storage(address: Address, model: str, bundle: str, uri: str) -> str:
    """Where KServe finds a bundle.

    Raises:
        UsageError: the store is a folder, and the address does not say which volume claim holds it.
    """
    if address.claim:
        return f"pvc://{address.claim}/bundles/{model}/{bundle}"
    if "://" not in uri or uri.startswith("file:"):
        raise UsageError(f"bundle at {uri}: slots cannot read a folder; add claim=NAME of its volume to the platform")
    return web_address(uri)
