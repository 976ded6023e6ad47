"""The Kubernetes API as a handful of calls on plain dicts; every error is translated here, once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from kedge import kubeconfig
from kedge.errors import Conflict, ReleaseError, UsageError

Object = dict[str, Any]

MANAGER = "kedge"
INSTALLER = "helm"
"""Gives slots and routes away: the chart makes the first ones and leaves them to releases, also where Helm applies."""
CALL_SECONDS = 10
"""A single request to the API server."""
TRIES_SECONDS = 15.0
"""A call begins no further try after so long."""
PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers of a server that is busy or restarting. Every call here may be repeated: a write that did happen shows as
a conflict the second time."""


@dataclass(frozen=True)
class Rival:
    """Another field manager."""

    name: str
    applies: bool
    """It owns by server-side apply, so it will write again; else it wrote once."""


@dataclass(frozen=True)
class Kind:
    """A kind of object, by its place in the API."""

    prefix: str
    plural: str
    missing: str = ""
    """What to do when the server does not know the kind."""


SLOTS = Kind("apis/serving.kserve.io/v1beta1", "inferenceservices", "install KServe")
ROUTES = Kind("apis/gateway.networking.k8s.io/v1", "httproutes", "install the Gateway API")
DEPLOYMENTS = Kind("apis/apps/v1", "deployments")
SERVICES = Kind("api/v1", "services")
PODS = Kind("api/v1", "pods")
EVENTS = Kind("api/v1", "events")
MAPS = Kind("api/v1", "configmaps")
REVISIONS = Kind("apis/serving.knative.dev/v1", "revisions")


def connect() -> client.ApiClient:
    """The API of $KUBECONFIG, of ~/.kube/config, or of the pod this runs in.

    Raises:
        UsageError: none of them is there, or the kubeconfig is at fault, in kubectl's words.
    """
    fault = kubeconfig.fault()
    if fault is not None:
        raise UsageError(f"{fault}; mend the kubeconfig, or set $KUBECONFIG to another")
    settings = client.Configuration()
    settings.retries = 0  # tries are counted here
    try:
        file = os.environ.get("KUBECONFIG")
        if file or Path("~/.kube/config").expanduser().exists():
            config.load_kube_config(file, client_configuration=settings)
        else:
            config.load_incluster_config(client_configuration=settings)
    except ConfigException as exc:
        raise UsageError(f"no Kubernetes is configured: {exc}; set $KUBECONFIG, or run in a pod") from exc
    return client.ApiClient(settings)


class Api:
    """One namespace of one API server."""

    def __init__(
        self,
        namespace: str,
        connection: client.ApiClient,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.namespace = namespace
        self._connection = connection
        self._sleep = sleep
        self._monotonic = monotonic

    def get(self, kind: Kind, name: str) -> Object | None:
        """An object; None if there is none."""
        try:
            return self._call("GET", kind, name)
        except ReleaseError as exc:
            if isinstance(exc.__cause__, ApiException) and exc.__cause__.status == 404:
                return None
            raise

    def list(self, kind: Kind, **query: str) -> list[Object]:
        """Objects by selector, for example ``labelSelector="a=b"``."""
        items: list[Object] = self._call("GET", kind, query=query)["items"]
        return items

    def create(self, kind: Kind, body: Object) -> Object:
        """Make an object that must not be there yet; Conflict if it is."""
        return self._call("POST", kind, query={"fieldManager": MANAGER}, body=body)

    def token(self, account: str, audience: str) -> str:
        """A token of ten minutes of an account, NAMESPACE/NAME, made out to an audience."""
        namespace, _, name = account.partition("/")
        place = Api(namespace, self._connection, sleep=self._sleep, monotonic=self._monotonic)
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 600},
        }
        made = place.create(Kind("api/v1", f"serviceaccounts/{name}/token"), request)
        return str(made["status"]["token"])

    def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply: the fields of ``body`` become kedge's; others stay as they are.

        With ``uid`` and ``resourceVersion`` in the body it is a compare-and-swap. Fields that somebody wrote once (an
        installation, ``kubectl edit``) are taken over.

        Raises:
            Conflict: the object has another uid or resourceVersion.
            ReleaseError: another applies the same fields and would write them again, as GitOps tools do.
        """
        name, query = body["metadata"]["name"], {"fieldManager": MANAGER}
        try:
            return self._call("PATCH", kind, name, query=query, body=body)
        except Conflict as exc:
            rivals = _rivals(exc)
            contested = {field: rival for field, rival in rivals.items() if rival.applies}
            if contested:
                raise _contested(f"{kind.plural} {self.namespace}/{name}", contested) from exc
            if not rivals:
                raise
        return self._call("PATCH", kind, name, query={**query, "force": "true"}, body=body)

    def delete(self, kind: Kind, name: str) -> None:
        """Ask for an object's end; none is as good."""
        try:
            self._call("DELETE", kind, name)
        except ReleaseError as exc:
            if not isinstance(exc.__cause__, ApiException) or exc.__cause__.status != 404:
                raise

    def _call(
        self,
        verb: str,
        kind: Kind,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        ends, pause = self._monotonic() + TRIES_SECONDS, 0.25
        while True:
            try:
                return self._once(verb, kind, name, query or {}, body)
            except (ApiException, HTTPError) as exc:
                passing = not isinstance(exc, ApiException) or exc.status in PASSING
                if not passing or self._monotonic() + pause >= ends:
                    raise _translated(exc, verb, kind, f"{kind.plural} {self.namespace}/{name}".rstrip("/")) from exc
            self._sleep(pause)
            pause *= 2

    def _once(self, verb: str, kind: Kind, name: str, query: Mapping[str, str], body: Object | None) -> Object:
        path = f"/{kind.prefix}/namespaces/{self.namespace}/{kind.plural}" + (f"/{name}" if name else "")
        content = "application/apply-patch+yaml" if verb == "PATCH" else "application/json"
        answer: Object = self._connection.call_api(
            path,
            verb,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=CALL_SECONDS,
        )
        return answer


def _translated(exc: ApiException | HTTPError, verb: str, kind: Kind, what: str) -> ReleaseError:
    """The error in kedge's words. The caller chains the cause."""
    if not isinstance(exc, ApiException):
        return ReleaseError(f"{what}: the Kubernetes API does not answer: {exc}")
    said = _message(exc)
    if exc.status == 409:
        return Conflict(f"{what}: changed by another meanwhile: {said}")
    if exc.status == 401:
        return ReleaseError(f"{what}: the Kubernetes API does not know who asks: {said}; is the token expired?")
    if exc.status == 403:
        return ReleaseError(
            f"{what}: not allowed: {said}; bind this account to the chart's release Role (release.subjects)"
        )
    if exc.status == 404 and verb != "GET" and kind.missing:
        return ReleaseError(f"{what}: not there: {said}; if the server does not know {kind.plural}: {kind.missing}")
    return ReleaseError(f"{what}: the Kubernetes API answered {exc.status}: {said}")


def _rivals(exc: Conflict) -> dict[str, Rival]:
    """Who owns which of the fields that were asked for; empty when the conflict is about the object's version.

    The API server names an owner by update with its API version (``"x" using v1``), one by apply without.
    """
    try:
        status = json.loads(getattr(exc.__cause__, "body", None) or "{}")
        causes = (status.get("details") or {}).get("causes") or ()
        owned = [each for each in causes if each.get("reason") == "FieldManagerConflict"]
        found = {}
        for each in owned:
            name = str(each["message"]).partition('"')[2].partition('"')[0]
            applies = " using " not in each["message"] and name != INSTALLER
            found[str(each["field"])] = Rival(name, applies)
    except (ValueError, KeyError, AttributeError):
        return {}
    return found


def _contested(what: str, contested: Mapping[str, Rival]) -> ReleaseError:
    owners = ", ".join(sorted({rival.name for rival in contested.values()}))
    return ReleaseError(
        f"{what}: {', '.join(sorted(contested))} {'is' if len(contested) == 1 else 'are'} applied by {owners} too, "
        "which would undo a release at its next round; "
        f"take the fields out of what {owners} applies, or the whole object"
    )


def _message(exc: ApiException) -> str:
    """What the server said, from its Status object where it sent one."""
    try:
        return str(json.loads(exc.body)["message"])[:500]
    except (TypeError, ValueError, KeyError):
        return str(exc.body or exc.reason)[:500]
