"""The few verbs kedge needs of a model registry, on MLflow. The one place that imports it."""

from __future__ import annotations

import fcntl
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kedge.errors import RegistryError
from kedge.records import ModelState

Alias = Literal["champion", "challenger", "previous"]
BUNDLE, SOURCE, RUN = "kedge.bundle", "kedge.source", "kedge.run"
KEY = re.compile(r"[^\w\-. :/]")
"""What no name of a metric or a parameter may have."""
BATCH = 100
"""Parameters or tags in one request; metrics may be ten times as many."""
SQLITE = "sqlite:///"
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; MLflow's own 120, with 7 retries, look like a hang
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""What MLflow is told unless the environment says otherwise. It reads them once, when it is imported."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered bundle."""

    version: str
    bundle: str
    source: str
    """Where the bundle lies."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: datetime


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training, as MLflow lists runs."""

    run: str
    """Its name: that of the pipeline's run, from the second attempt on with the attempt."""
    started: datetime
    ended: datetime
    failed: bool
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    dataset: Mapping[str, str] | None
    """Fields of MLflow's ``Dataset``: the rows."""
    pages: Mapping[str, str]
    """HTML by file name."""


class Registry:
    """Versions and aliases of models, each a bundle.

    The registry is asked at the first call, not on construction; that call imports MLflow, which takes 1 to 3 s.

    Args:
        uri: ``http(s)://host:port`` of an MLflow server, or ``sqlite:///file`` (needs the full ``mlflow`` package).

    Every method raises RegistryError when the registry cannot be reached or refuses.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def register(
        self, model: str, bundle: str, source: str, tags: Mapping[str, str], *, run_id: str | None = None
    ) -> str:
        """Make a version of a bundle and return its number; a bundle that has one keeps it.

        Args:
            source: Where the bundle lies, for whoever deploys it.
            tags: Lineage. Values longer than 5,000 characters are cut.
            run_id: Of its training, as :meth:`log` returned it; default: the one that KFP's plugin opened, if any.
        """
        with self._translated(f"register bundle {bundle[:12]} of {model}"):
            self._ensure(model)
            for known in self._all(model):
                if known.tags.get(BUNDLE) == bundle:
                    return str(known.version)
            kept = {name: value[:5000] for name, value in {**tags, BUNDLE: bundle, SOURCE: source}.items()}
            run_id = run_id or self._run()
            made = self._client.create_model_version(model, acceptable(self.uri, source), run_id=run_id, tags=kept)
            return str(made.version)

    def log(self, model: str, training: Training) -> str:
        """Make a run of a training in the experiment of its model, and return its id; one that is there is completed.

        Pages that MLflow's store of artefacts does not take are left out: kedge's own store has them.
        """
        with self._translated(f"log the training {training.run} of {model}"):
            from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

            client, experiment = self._client, self._experiment(model)
            run_id, complete = self._logged(experiment).get(training.run, (None, False))
            started, ended = (int(time.timestamp() * 1000) for time in (training.started, training.ended))
            if run_id is None:
                parent = self._run()
                first = {RUN: training.run} | ({"mlflow.parentRunId": parent} if parent else {})
                made = client.create_run(experiment, start_time=started, run_name=training.run, tags=first)
                run_id = str(made.info.run_id)
            if complete:
                return run_id
            tags = [RunTag(name, value[:5000]) for name, value in training.tags.items() if value]
            params = [Param(KEY.sub("_", name), value) for name, value in training.params.items()]
            figures = {KEY.sub("_", name): value for name, value in training.metrics.items() if math.isfinite(value)}
            metrics = [Metric(name, value, ended, 0) for name, value in figures.items()]
            for start in range(0, max(len(tags), len(params), len(metrics)), BATCH):
                some = slice(start, start + BATCH)
                client.log_batch(run_id, metrics=metrics[some], params=params[some], tags=tags[some])
            if training.dataset is not None:
                used = DatasetInput(Dataset(**training.dataset), [InputTag("mlflow.data.context", "training")])
                client.log_inputs(run_id, [used])
            with suppress(Exception):
                for name, page in training.pages.items():
                    client.log_text(run_id, page, name)
            client.set_terminated(run_id, "FAILED" if training.failed else "FINISHED", ended)
            return run_id

    def runs(self, model: str) -> dict[str, str]:
        """Names of the trainings that MLflow knows completely -> ids of their runs."""
        with self._translated(f"list the trainings of {model}"):
            logged = self._logged(self._experiment(model))
            return {name: run_id for name, (run_id, complete) in logged.items() if complete}

    def _experiment(self, model: str) -> str:
        """The experiment of a model, made where there is none."""
        found = self._client.get_experiment_by_name(model)
        if found is None:
            place = None
            if self.uri.startswith(SQLITE):  # else in the folder that a step happens to run in
                place = str(Path(self.uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts" / model)
            return str(self._client.create_experiment(model, artifact_location=place))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _logged(self, experiment: str) -> dict[str, tuple[str, bool]]:
        """Name of a training -> id of its run, and whether all of it was logged."""
        logged: dict[str, tuple[str, bool]] = {}
        token = None
        while True:
            page = self._client.search_runs([experiment], page_token=token)
            for run in page:
                if RUN in run.data.tags:
                    logged[run.data.tags[RUN]] = (str(run.info.run_id), run.info.status != "RUNNING")
            token = page.token
            if not token:
                return logged

    def publish(self, model: str, state: ModelState) -> None:
        """Let the aliases name what the records say. Nobody in kedge asks an alias; again is harmless.

        One whose bundle is nobody, or has no version here, is removed: it would name another one.
        """
        with self._translated(f"set the aliases of {model}"):
            known = self._all(model)
            versions = {each.tags.get(BUNDLE): str(each.version) for each in known}
            for alias, bundle in aliases(state).items():
                now = next((str(each.version) for each in known if alias in each.aliases), None)
                version = versions.get(bundle) if bundle is not None else None
                if version is None and now is not None:
                    self._client.delete_registered_model_alias(model, alias)
                elif version is not None and version != now:
                    self._client.set_registered_model_alias(model, alias, version)

    @property
    def exists(self) -> bool:
        """False of a file that is not there, which asking would make."""
        return not self.uri.startswith(SQLITE) or Path(self.uri.removeprefix(SQLITE)).exists()

    def versions(self, model: str) -> list[Version]:
        """All versions, newest first; empty for a model nobody registered."""
        with self._translated(f"list versions of {model}"):
            found = [_version(known) for known in self._all(model)]
        return sorted(found, key=lambda each: int(each.version), reverse=True)

    def _run(self) -> str | None:
        """The MLflow run that KFP's plugin opened for this task, where it reports to this MLflow and not to another."""
        from mlflow.exceptions import MlflowException

        run = os.environ.get("MLFLOW_RUN_ID")
        try:
            return str(self._client.get_run(run).info.run_id) if run else None
        except MlflowException as exc:
            if exc.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    @cached_property
    def _client(self) -> Any:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        _make_room(self.uri)
        from mlflow.tracking import MlflowClient

        with _alone(self.uri):
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            if self.uri.startswith(SQLITE):
                client.search_registered_models(max_results=1)  # MLflow makes the tables at the first question
        return client

    def _ensure(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _all(self, model: str) -> list[Any]:
        found, token = [], None
        while True:
            page = self._client.search_model_versions(f"name='{model}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return self._with_aliases(model, found)

    def _with_aliases(self, model: str, found: list[Any]) -> list[Any]:
        """A search over HTTP leaves aliases out; the model itself has them."""
        if found:
            by_version: dict[str, list[str]] = {}
            for alias, version in self._client.get_registered_model(model).aliases.items():
                by_version.setdefault(str(version), []).append(alias)
            for known in found:
                known.aliases = by_version.get(str(known.version), [])
        return found

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except RegistryError:
            raise
        except ImportError as exc:
            raise RegistryError(
                f"registry {self.uri}: cannot {what}: {exc}; install mlflow (http: mlflow-skinny)"
            ) from exc
        except Exception as exc:  # MLflow's, requests' or SQLAlchemy's own
            asked = "is MLflow running there" if self.uri.startswith("http") else "can it be written, is the disk full"
            raise RegistryError(
                f"registry {self.uri}: cannot {what}: {_first_line(exc)}; {asked}? $MLFLOW_TRACKING_URI names another"
            ) from exc


def aliases(state: ModelState) -> dict[Alias, str | None]:
    """The bundle that each alias is to name by the records; None: none."""
    return {"champion": state.champion_bundle, "challenger": state.challenger, "previous": state.previous}


def acceptable(uri: str, source: str) -> str:
    """The source as this registry takes it: an MLflow server refuses every path, even on a volume it does not see.

    >>> acceptable("http://mlflow:5000", "/store/bundles/fraud/1f3a"), acceptable("sqlite:///m.db", "/store")
    ('kedge:///store/bundles/fraud/1f3a', '/store')
    """
    return f"kedge://{source}" if uri.startswith("http") and "://" not in source else source


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time for SQLite's file: two that make its tables at once find each other's half."""
    if not uri.startswith(SQLITE):
        yield
        return
    with Path(f"{uri.removeprefix(SQLITE)}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        yield


def _make_room(uri: str) -> None:
    """A folder for SQLite's file: MLflow would try for a minute to open a file in none."""
    if not uri.startswith(SQLITE):
        return
    file = Path(uri.removeprefix(SQLITE))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
        with file.open("rb") as opened:
            head = opened.read(16)
    except OSError as exc:
        raise RegistryError(f"registry {uri}: {file} cannot be written: {exc.strerror}") from exc
    if head and head != b"SQLite format 3\0":
        raise RegistryError(f"registry {uri}: {file} is not an SQLite database; name another with $MLFLOW_TRACKING_URI")


def _version(known: Any) -> Version:
    return Version(
        version=str(known.version),
        bundle=known.tags.get(BUNDLE, ""),
        source=known.tags.get(SOURCE, known.source),
        aliases=tuple(sorted(known.aliases)),
        tags=dict(known.tags),
        created=datetime.fromtimestamp(known.creation_timestamp / 1000, UTC),
    )


def _first_line(exc: Exception) -> str:
    cause: BaseException | None = exc
    while cause is not None:  # the network's own words lie beneath those of four libraries
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
