"""Object storage by the scheme of an address: one table for the store, tables, Delta Lake, KServe and the doctor.

Credentials are the pod's identity or come from the environment, never from an address.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kedge.errors import UsageError, cause, without_passwords


@dataclass(frozen=True)
class Cloud:
    """One kind of object storage."""

    written: str
    """How an address of it is written."""
    client: str
    """Its class in ``obstore.store``; Delta Lake has the same client inside."""
    endpoint: Mapping[str, str]
    """Variables that name another endpoint -> the client's option."""
    credentials: str
    """Where its credentials come from."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further options of the client."""


S3 = Cloud(
    "s3://bucket/prefix",
    "S3Store",
    {"AWS_ENDPOINT_URL": "aws_endpoint", "AWS_ENDPOINT": "aws_endpoint"},
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the pod's account",
    {"aws_conditional_put": "etag"},
)
GOOGLE = Cloud(
    "gs://bucket/prefix",
    "GCSStore",
    {"GOOGLE_BASE_URL": "google_base_url"},
    "GOOGLE_SERVICE_ACCOUNT_KEY, the file that GOOGLE_APPLICATION_CREDENTIALS names, or the pod's workload identity",
)
AZURE = Cloud(
    "abfss://container@account.dfs.core.windows.net/prefix",
    "AzureStore",
    {"AZURE_STORAGE_ENDPOINT": "azure_storage_endpoint"},
    "AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN, or the pod's workload or managed identity",
)
CLOUDS = {"s3": S3, "gs": GOOGLE, "az": AZURE, "abfs": AZURE, "abfss": AZURE}
"""Scheme -> what it is."""
IN_ACCOUNT = re.compile(r"([^@:]+)@([a-z0-9-]+)\.(?:dfs|blob)\.(core\.windows\.net|fabric\.microsoft\.com)")
"""A container with its account."""


@dataclass(frozen=True)
class Place:
    """An address in object storage, as its client takes it."""

    cloud: Cloud
    root: str
    """The address of the bucket or container."""
    bucket: str
    key: str
    """What is below it, without a slash at either end; empty: all."""
    config: Mapping[str, str]
    """Options of the client, without credentials."""

    @property
    def plain(self) -> bool:
        """Whether an endpoint without TLS is asked."""
        return any(value.startswith("http:") for value in self.config.values())

    @property
    def options(self) -> dict[str, str]:
        """Options of Delta Lake, without credentials."""
        return {**self.config, "allow_http": "true"} if self.plain else dict(self.config)

    def open(self, prefix: str = "") -> Any:
        """The client of ``obstore`` for this bucket, whose keys are relative to the prefix; nothing is asked yet.

        Raises:
            UsageError: the credentials of the environment are none.
        """
        from obstore import store as clients
        from obstore.exceptions import BaseError

        try:
            return getattr(clients, self.cloud.client)(
                self.bucket,
                prefix=prefix or None,
                config=dict(self.config),
                client_options={"allow_http": True} if self.plain else None,
            )
        except BaseError as exc:
            raise UsageError(f"{self.root}: {reason(self.root, exc)}") from None


def cloud_of(location: str) -> Cloud | None:
    """The object storage an address is in; None: it is a path, or of another scheme."""
    scheme, elsewhere, _ = location.partition("://")
    return CLOUDS.get(scheme) if elsewhere else None


def place_of(location: str) -> Place:
    """What an address in object storage names.

    Raises:
        UsageError: of no scheme in CLOUDS, without a bucket, with credentials, or with no account to find it in.

    >>> place = place_of("abfss://lake@bank.dfs.core.windows.net/days/")
    >>> place.bucket, place.key, place.options
    ('lake', 'days', {'azure_storage_account_name': 'bank'})
    """
    cloud = cloud_of(location)
    if cloud is None:
        known = " or ".join(each.written for each in (S3, GOOGLE, AZURE))
        raise UsageError(f"{location!r}: {location.partition(':')[0]}:// is not supported; use a folder or {known}")
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    root, config = f"{scheme}://{bucket}", dict(cloud.options)
    if cloud is AZURE:
        bucket, account = _account(location, bucket)
        config |= account
    if not bucket or "@" in bucket or ":" in bucket:
        raise UsageError(
            f"{_without_credentials(location)!r}: write {cloud.written}; credentials come from the environment"
        )
    for variable, option in cloud.endpoint.items():
        if os.environ.get(variable):
            config.setdefault(option, os.environ[variable].rstrip("/"))
    return Place(cloud, root, bucket, key.strip("/"), config)


def _account(location: str, bucket: str) -> tuple[str, dict[str, str]]:
    """The container, and the options that name its account."""
    named = IN_ACCOUNT.fullmatch(bucket)
    if named is not None:
        fabric = {"azure_use_fabric_endpoint": "true"} if named[3].startswith("fabric") else {}
        return named[1], {"azure_storage_account_name": named[2], **fabric}
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account and "@" not in bucket:
        raise UsageError(
            f"{location!r}: names no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or write {AZURE.written}"
        )
    return bucket, {"azure_storage_account_name": account or ""}


def web_address(location: str) -> str:
    """The address as KServe's storage initializer takes it, which reads ``https://`` of Azure.

    >>> web_address("abfss://kedge@bank.dfs.core.windows.net/prod/bundles")
    'https://bank.blob.core.windows.net/kedge/prod/bundles'
    """
    if cloud_of(location) is not AZURE:
        return location
    place = place_of(location)
    return f"https://{place.config['azure_storage_account_name']}.blob.core.windows.net/{place.bucket}/{place.key}"


ABSENT = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
NO_IDENTITY = re.compile(r"token request|//169\.254\.|credentials? provider|no credentials", re.IGNORECASE)
DENIED = re.compile(r"privileges|status code: 40[13]|HTTP status 403|ACCESS_DENIED|invalid access key", re.IGNORECASE)
DAMAGED = re.compile(r"kernel error:.*(json|contiguous commit|checkpoint)", re.IGNORECASE)
SILENT = re.compile(r"error sending request|HTTP error|status code: 5|curlCode|connection refused", re.IGNORECASE)


def reason(location: str, exc: Exception) -> str:
    """Why a store refused, as one clause with what to check, without keys, tokens and signatures; of a path what the
    error says first, for Delta Lake adds where in its code it was."""
    said, cloud = str(exc), cloud_of(location)
    first = _without_credentials(said.strip().partition("\n")[0])
    if DAMAGED.search(first):
        return (
            f"the table's _delta_log is damaged ({first[:200]}); restore it from a backup, or move the file away that "
            "was cut off: the table is then as before that commit"
        )
    if cloud is None:
        return cause(PermissionError(errno.EACCES, first), location) if "Permission denied" in first else first
    endpoint = " or ".join(cloud.endpoint)
    if ABSENT.search(said):
        return f"there is no such bucket or container; check the address and ${endpoint}"
    if NO_IDENTITY.search(said):
        return f"no credentials were found; give {cloud.credentials}"
    if DENIED.search(said):
        return f"access is denied; check {cloud.credentials}, and what that may do there"
    if SILENT.search(said):
        return f"it does not answer; check the network and ${endpoint}"
    return first


def _without_credentials(text: str) -> str:
    """Addresses in a text without what signs them, and without users and passwords."""
    return without_passwords(re.sub(r"(://[^\s?]*)\?\S*", r"\1", text))
