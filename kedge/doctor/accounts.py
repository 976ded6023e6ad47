"""Who may do what: the person who asks, and the accounts that an installation runs as.

An installation is known by its CronJobs: they name the monitor's account, the way of releasing, the models and the
namespace of the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kedge.doctor.api import Account, Cluster, DeniedError, Right
from kedge.doctor.finding import Finding, bad, good, skipped, warning
from kedge.doctor.runs import GRANT

COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One release of the chart, or one overlay."""

    monitor: str
    """The account that checks run as."""
    models: tuple[str, ...]
    knative: bool
    """Whether slots are Knative revisions."""
    runs_in: str | None
    """Namespace of the runs: the profile of a multi-user Kubeflow; None for the one of a single user."""
    steps: str | None = None
    """Account of the steps of a release, as NAMESPACE/NAME; None: Kubeflow's own."""
    slots: str | None = None
    """ConfigMap that says what slots are."""

    @property
    def release(self) -> str:
        """The account that releases made from here run as."""
        name = self.slots.removesuffix("-slots") if self.slots else self.monitor.removesuffix("-monitor")
        return f"{name}-release"


def installations(jobs: Iterable[Mapping[str, Any]]) -> list[Installation]:
    """What a namespace's CronJobs tell, one for each account of a monitor."""
    checks: dict[str, dict[str, dict[str, str]]] = {}
    for job in jobs:
        pod, env = job["spec"]["jobTemplate"]["spec"]["template"]["spec"], environment(job)
        labels = job["metadata"].get("labels") or {}
        if "KEDGE_PLATFORM" in env and labels.get(COMPONENT) != "guard":  # that one runs as the account of releases
            model = str(labels.get("kedge.dev/model", ""))
            checks.setdefault(str(pod.get("serviceAccountName", "default")), {})[model] = env
    return [_installation(monitor, by_model) for monitor, by_model in sorted(checks.items())]


def environment(job: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a CronJob gives its check in plain words; one from a Secret or the pod is empty."""
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each.get("value") or "" for each in container.get("env") or ()}


def _installation(monitor: str, checks: dict[str, dict[str, str]]) -> Installation:
    environments = list(checks.values())
    return Installation(
        monitor=monitor,
        models=tuple(sorted(model for model in checks if model)),
        knative=any(env["KEDGE_PLATFORM"].startswith("knative:") for env in environments),
        steps=next((env["KEDGE_RELEASE_ACCOUNT"] for env in environments if env.get("KEDGE_RELEASE_ACCOUNT")), None),
        slots=next((_slots(env["KEDGE_PLATFORM"]) for env in environments), None),
        runs_in=next((env["KEDGE_KFP_NAMESPACE"] for env in environments if env.get("KEDGE_KFP_NAMESPACE")), None),
    )


def _slots(platform: str) -> str | None:
    return next(
        (each.removeprefix("slots=") for each in platform.replace("?", "&").split("&") if "slots=" in each), None
    )


def releasing(models: Iterable[str] = (), *, knative: bool = False, slots: str | None = None) -> list[Right]:
    """What a release does: slots, the route or the record of the revisions, and why a slot is not ready."""
    models = tuple(models)
    services = models if knative else tuple(f"{model}-{slot}" for model in models for slot in ("blue", "green"))
    rights = _rights("serving.kserve.io", "inferenceservices", ("create",))
    rights += _rights("serving.kserve.io", "inferenceservices", ("get", "patch", "delete"), services)
    if knative:
        rights += _rights("serving.knative.dev", "revisions", ("get",))
        rights += _rights("", "configmaps", ("create",))
        rights += _rights("", "configmaps", ("get", "patch"), [f"{model}-release" for model in models])
    else:
        predictors = [f"{service}-predictor" for service in services]
        rights += _rights("gateway.networking.k8s.io", "httproutes", ("create",))
        rights += _rights("gateway.networking.k8s.io", "httproutes", ("get", "patch"), models)
        rights += _rights("apps", "deployments", ("get",), predictors) + _rights("", "services", ("get",), predictors)
    rights += _rights("", "configmaps", ("get",), [slots] if slots else [])
    return rights + _rights("", "pods", ("list",)) + _rights("", "events", ("list",))


def reviewing() -> Right:
    """What a collector asks whose a sender's token is by; TokenReviews are of no namespace."""
    return Right(verb="create", group="authentication.k8s.io", resource="tokenreviews")


def submitting() -> list[Right]:
    """What a multi-user Kubeflow Pipelines asks of who submits a run."""
    group = "pipelines.kubeflow.org"
    rights = [right for resource in ("runs", "experiments") for right in _rights(group, resource, ("list", "create"))]
    rights += _rights(group, "runs", ("terminate",))
    return rights + [
        right for resource in ("pipelines", "pipelineversions") for right in _rights(group, resource, ("list",))
    ]


def _rights(group: str, resource: str, verbs: Iterable[str], names: Iterable[str] = ("",)) -> list[Right]:
    """Verbs of a kind, or of its objects of these names: none, if there are no names."""
    names = tuple(names)
    return [Right(verb=verb, group=group, resource=resource, name=name) for name in names for verb in verbs]


def permissions(cluster: Cluster, steps: str | None = None) -> list[Finding]:
    """What is done is allowed to whoever asks, and to each account that does it.

    ``steps``: the account of Kubeflow's steps as NAMESPACE/NAME; default the one of a usual installation.
    """
    try:
        found = installations(cluster.cron_jobs())
    except DeniedError as exc:
        return [*_persons(cluster, releasing()), _unknown(str(exc), cluster)]
    if not found:
        nothing = skipped("accounts", f"{cluster.namespace} has no checks", "helm install kedge charts/kedge ...")
        return [*_persons(cluster, releasing()), nothing]
    wanted = [right for each in found for right in releasing(each.models, knative=each.knative, slots=each.slots)]
    return [
        *_persons(cluster, list(dict.fromkeys(wanted))),
        *(line for each in found for line in _accounts(cluster, each, steps)),
    ]


def _persons(cluster: Cluster, rights: list[Right]) -> list[Finding]:
    denied = [right for right in rights if not cluster.may(right, cluster.namespace)]
    what, space = "may: you", cluster.namespace
    if not denied:
        return [good(what, f"all that a release does in {space}")]
    fix = f"kubectl -n {space} create rolebinding kedge-release-me --role kedge-release --user YOU"
    seen = f"not {_listed(denied)} in {space}; `kedge submit` and `kedge rollback` from here need it"
    return [warning(what, seen, fix)]


def _of_steps(installed: Installation, steps: str | None, space: str) -> Account:
    """The account that steps run as: the one that is said, else Kubeflow's."""
    kubeflows = f"{installed.runs_in}/default-editor" if installed.runs_in else "kubeflow/pipeline-runner"
    namespace, _, name = (steps or installed.steps or kubeflows).rpartition("/")
    return Account(namespace=namespace or space, name=name)


def _accounts(cluster: Cluster, installed: Installation, steps: str | None) -> list[Finding]:
    """The accounts of an installation; one finding where nobody may ask for them."""
    space = cluster.namespace
    rights = releasing(installed.models, knative=installed.knative, slots=installed.slots)
    own = Account(namespace=space, name=installed.release)
    theirs = _of_steps(installed, steps, space)
    named = f"kind: ServiceAccount, name: {theirs.name}, namespace: {theirs.namespace}"
    try:
        return [
            _released(cluster, own, rights, "helm upgrade: the chart's Role kedge-release grants it"),
            _released(
                cluster, theirs, rights, f"helm upgrade with release.subjects: [{{{named}}}]; other steps: --steps"
            ),
            _submitted(cluster, installed),
        ]
    except DeniedError as exc:
        return [_unknown(str(exc), cluster, own)]


def _released(cluster: Cluster, account: Account, rights: list[Right], fix: str) -> Finding:
    what = f"may: {account.namespace}/{account.name}"
    denied = [right for right in rights if not cluster.may(right, cluster.namespace, account)]
    if denied:
        return bad(what, f"not {_listed(denied)} in {cluster.namespace}", fix)
    return good(what, f"all that a release does in {cluster.namespace}")


def _submitted(cluster: Cluster, installed: Installation) -> Finding:
    account = Account(namespace=cluster.namespace, name=installed.monitor)
    what, space = f"may: {account.namespace}/{account.name}", installed.runs_in or cluster.namespace
    denied = [right for right in submitting() if not cluster.may(right, space, account)]
    if not denied:
        return good(what, f"submit runs in {space}")
    if installed.runs_in:
        return bad(what, f"not {_listed(denied)} in {space}", GRANT)
    return warning(what, f"not {_listed(denied)} in {space}; a multi-user Kubeflow asks for it", GRANT)


def may_review(cluster: Cluster, account: Account) -> Finding:
    """Whether a collector's account may ask Kubernetes whose a token is."""
    what, right = f"may: {account.namespace}/{account.name}", reviewing()
    try:
        allowed = cluster.may(right, "", account)
    except DeniedError as exc:
        return _unknown(str(exc), cluster, account)
    if allowed:
        return good(what, f"{right}: it can ask whose a sender's token is")
    way = "helm upgrade with collector.tokens.enabled, or kustomize with components/collector-tokens"
    fix = f"{way}: its ClusterRole NAME-token-review grants it"
    return bad(what, f"not {right}; who shows a token is answered 503", fix)


def _unknown(why: str, cluster: Cluster, account: Account | None = None) -> Finding:
    user = (account or Account(namespace=cluster.namespace, name="kedge-release")).user
    fix = f"an administrator asks: kubectl auth can-i --list --namespace {cluster.namespace} --as {user}"
    return skipped("accounts", f"not asked what they may do: {why}", fix)


def _listed(rights: list[Right]) -> str:
    """Rights in few words: verbs of one kind together."""
    kinds: dict[str, list[str]] = {}
    for right in rights:
        verb, kind = str(right).split(" ", 1)
        kinds.setdefault(kind, []).append(verb)
    return "; ".join(f"{', '.join(verbs)} {kind}" for kind, verbs in kinds.items())
