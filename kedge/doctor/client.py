"""Kubernetes as the doctor asks it, with the official client."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from kedge import kubeconfig
from kedge.doctor.api import Account, Cluster, DeniedError, KubeconfigError, Right, UnreachableError
from kedge.errors import KedgeError, UsageError

Result = TypeVar("Result")
IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubernetesCluster:
    """The cluster of the kubeconfig, or the one this pod runs in."""

    def __init__(self, namespace: str | None = None) -> None:
        """Find the cluster; nothing is asked yet.

        Raises:
            UsageError: there is neither a kubeconfig nor a service account.
            KubeconfigError: the kubeconfig is at fault, in kubectl's words.
        """
        fault = kubeconfig.fault()
        if fault is not None:
            raise KubeconfigError(fault)
        try:
            config.load_kube_config()
        except config.ConfigException:
            _load_own_account()
        self.namespace = namespace or _current()
        settings = client.Configuration.get_default_copy()
        settings.retries = False  # an address that is wrong stays wrong
        self.address = str(settings.host)
        self._api = client.ApiClient(settings)

    def version(self) -> tuple[str, str | None]:
        """Kubernetes' version, and the time by the API server's clock as HTTP has it.

        Raises:
            UnreachableError: nothing answers, or nobody who knows the caller.
        """
        try:
            answer = self._answer("/version")
        except ApiException as exc:
            raise UnreachableError(f"{exc.status} {exc.reason}") from exc
        except (HTTPError, OSError) as exc:
            raise UnreachableError(str(exc)) from exc
        return str(json.loads(answer.data)["gitVersion"]), answer.headers.get("date")

    def kinds(self, group: str) -> set[str]:
        """``version/kind`` of a group that the API serves; empty if it has none of it."""
        try:
            versions = self._get(f"/apis/{group}")["versions"]
        except ApiException as exc:
            if exc.status == 404:
                return set()
            raise
        return {
            f"{each['version']}/{kind['kind']}"
            for each in versions
            for kind in self._get(f"/apis/{each['groupVersion']}")["resources"]
        }

    def everywhere(self, group: str, version: str, plural: str, *, name: str = "") -> list[Mapping[str, Any]]:
        """All objects of a kind, of any namespace; ``name``: only those called so."""
        query = {"fieldSelector": f"metadata.name={name}"} if name else {}
        found: list[Mapping[str, Any]] = self._get(f"/apis/{group}/{version}/{plural}", query)["items"]
        return found

    def within(
        self, namespace: str, group: str, version: str, plural: str, *, labels: str = ""
    ) -> list[Mapping[str, Any]]:
        """A namespace's objects of a kind; ``labels``: only those with ``name=value``."""
        query = {"labelSelector": labels} if labels else {}
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        path = f"{root}/namespaces/{namespace}/{plural}"
        found: list[Mapping[str, Any]] = self._get(path, query)["items"]
        return found

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap; None if it is not there or may not be read."""
        try:
            data: Mapping[str, str] = self._get(f"/api/v1/namespaces/{namespace}/configmaps/{name}").get("data", {})
        except DeniedError:
            return None
        except ApiException as exc:
            if exc.status == 404:
                return None
            raise
        return data

    def may(self, right: Right, namespace: str, account: Account | None = None) -> bool:
        """Whether the caller, or an account, has a right in a namespace; "": to what belongs to none.

        Raises:
            DeniedError: the caller may not ask for others.
        """
        asked = client.V1ResourceAttributes(
            namespace=namespace, verb=right.verb, group=right.group, resource=right.resource, name=right.name or None
        )
        api = client.AuthorizationV1Api(self._api)
        if account is None:
            mine = client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
            review = client.V1SelfSubjectAccessReview(spec=mine)
            return bool(api.create_self_subject_access_review(review, _request_timeout=10).status.allowed)
        return self._account_may(account, asked)

    def _account_may(self, account: Account, asked: client.V1ResourceAttributes) -> bool:
        spec = client.V1SubjectAccessReviewSpec(user=account.user, groups=account.groups, resource_attributes=asked)
        api = client.AuthorizationV1Api(self._api)
        try:
            answer = api.create_subject_access_review(client.V1SubjectAccessReview(spec=spec), _request_timeout=10)
        except ApiException as exc:
            if exc.status == 403:
                raise DeniedError("you may not create subjectaccessreviews.authorization.k8s.io") from exc
            raise
        return bool(answer.status.allowed)

    def pods(self) -> list[Mapping[str, Any]]:
        """The namespace's pods, as the API gives them."""
        found: list[Mapping[str, Any]] = self._get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return found

    def cron_jobs(self) -> list[Mapping[str, Any]]:
        """The namespace's CronJobs, as the API gives them."""
        found: list[Mapping[str, Any]] = self._get(f"/apis/batch/v1/namespaces/{self.namespace}/cronjobs")["items"]
        return found

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._answer(path, query or {}).data)
        except ApiException as exc:
            if exc.status == 403:
                raise DeniedError(f"you may not read {path}") from exc
            raise
        return found

    def _answer(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._api.call_api(
            path, "GET", auth_settings=["BearerToken"], _preload_content=False, _request_timeout=10,
            query_params=list((query or {}).items()), header_params={"Accept": "application/json"},
        )[0]  # fmt: skip


def _load_own_account() -> None:
    try:
        config.load_incluster_config()
    except config.ConfigException as exc:
        raise UsageError("no Kubernetes: no kubeconfig, and this is no pod; set KUBECONFIG") from exc


def _current() -> str:
    """The namespace one works in: the kubeconfig's, the pod's, or default."""
    try:
        _, context = config.list_kube_config_contexts()
    except config.ConfigException:
        return IN_POD.read_text().strip() if IN_POD.is_file() else "default"
    return str(context["context"].get("namespace") or "default")


def look(question: Callable[[Cluster], Result], namespace: str) -> Result | None:
    """The answer to a question about a namespace; None: there is no cluster, or it does not tell."""
    try:
        return question(KubernetesCluster(namespace))
    except (KedgeError, ApiException, HTTPError, OSError):
        return None
