"""A whole policy, and what holds between its sections."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from kedge.policy.cluster import Cluster
from kedge.policy.costs import RetrainingCosts
from kedge.policy.data import Data, Labels
from kedge.policy.features import Features
from kedge.policy.gates import Gates
from kedge.policy.metrics import OF_TASK, Metric
from kedge.policy.model import Model, fault_of_name, may_name
from kedge.policy.monitor import Monitor
from kedge.policy.notify import Notify
from kedge.policy.release import Release
from kedge.policy.retention import Retention
from kedge.policy.section import Section, fault_below
from kedge.policy.train import Train


class Policy(Section):
    """Everything kedge needs to know about one model."""

    version: Literal[1] = 1
    """Version of this format."""
    model: Model
    """What is predicted, from what."""
    data: Data
    """The rows it is trained on."""
    labels: Labels = Labels()
    """When their outcomes, and those of predictions, become known."""
    code: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """The team's own package: its folder, called as one imports it, or a wheel, seen from the policy's file; or
    `sha256:` and a digest, under which the store keeps it. It runs only where the installation allows it."""
    features: Features = Features()
    """What becomes of a row's features before the model sees them."""
    train: Train = Train()
    """How a challenger is made."""
    metrics: tuple[Metric, ...] = ()
    """What it is measured by besides its loss, and within which limits."""
    gates: Gates = Gates()
    """What a challenger proves offline."""
    release: Release = Release()
    """How it reaches traffic, and comes back."""
    monitor: Monitor = Monitor()
    """How the served model is watched."""
    costs: RetrainingCosts = RetrainingCosts()
    """When a retraining pays."""
    cluster: Cluster = Cluster()
    """What the steps of a run use on a cluster."""
    retention: Retention = Retention()
    """What the store keeps of the past."""
    notify: Notify = Notify()
    """Who is told how a run ended."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def primary(self) -> Metric | None:
        """The metric that a challenger must be better by; None: the loss."""
        return next((metric for metric in self.metrics if metric.primary), None)

    @property
    def hash(self) -> str:
        """SHA-256 over the policy's canonical JSON, 64 hex digits: two runs with one hash were asked the same.

        The order of features is left out: Helm sorts the names in its values, and a bundle's signature says the order.
        """
        plain: dict[str, Any] = self.to_dict()
        plain["model"]["features"].sort(key=lambda feature: feature["name"])
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """The policy as plain JSON values: how it travels as the pipeline parameter ``policy: dict``.

        Features become a list, each with its name: KFP's API server keeps no order in a mapping, and theirs counts.
        Parameters of estimators become a text: its numbers are all floats, and libraries tell 1 from 1.0.
        The positive label is always there: ``true`` equals the default 1, and means another text in a table of text.
        """
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        features = plain["model"]["features"]
        plain["model"]["features"] = [{"name": name, **features[name]} for name in self.model.features]
        plain["model"]["positive_label"] = self.model.positive_label
        if self.train.parameters:
            plain["train"]["parameters"] = json.dumps(self.train.parameters, sort_keys=True)
        return plain

    @model_validator(mode="before")
    @classmethod
    def _delay_where_it_is_today(cls, value: Any) -> Any:
        """``data.label_delay_seconds`` was the delay's earlier place; 0 was its default there, and stated nothing."""
        data = value.get("data") if isinstance(value, dict) else None
        if not isinstance(data, dict) or "label_delay_seconds" not in data:
            return value
        field, seconds, labels = ("data", "label_delay_seconds"), data["label_delay_seconds"], value.get("labels") or {}
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
            fault = fault_below(field, seconds, f"must be greater than or equal to 0, got {seconds!r}")
            raise ValidationError.from_exception_data("policy", [fault])
        if isinstance(labels, dict) and "delay_seconds" in labels:
            fault = fault_below(field, seconds, "is the earlier name of labels.delay_seconds; write one of them")
            raise ValidationError.from_exception_data("policy", [fault])
        rest = {name: part for name, part in data.items() if name != "label_delay_seconds"}
        stated = {**labels, "delay_seconds": seconds} if seconds and isinstance(labels, dict) else labels
        return {**value, "data": rest, **({"labels": stated} if stated else {})}

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        columns = self.model.columns
        target = columns.pop(self.model.target)
        faults = []
        if self.labels.absent_means == "negative" and self.model.task != "binary":
            said = f"negative belongs to task binary, not to {self.model.task}"
            faults.append(fault_below(("labels", "absent_means"), "negative", said))
        for field, column in (("time_column", self.data.time_column), ("id_column", self.data.id_column)):
            if column is not None and column in columns.values():
                said = f"{column!r} is also a feature: a model that learns it cannot generalise"
                faults.append(fault_below(("data", field), column, said))
            if column is not None and column == target:
                faults.append(fault_below(("data", field), column, f"{column!r} is also the target"))
        faults += [fault_below(("data", "extra_columns"), name, said) for name, said in self._faults_of_extra_columns()]
        for name in self.model.slices:
            if name not in self.model.features and name not in self.data.extra_columns:
                said = f"slice {name!r} must be a category or boolean feature, or one of data.extra_columns"
                faults.append(fault_below(("model", "slices"), name, said))
        faults += [
            fault_below(("gates", "fairness", "columns"), name, said) for name, said in self._faults_of_fairness()
        ]
        faults += [fault_below(("train", "monotone"), name, said) for name, said in self._faults_of_monotone()]
        if self.train.class_weight is not None and self.model.task == "regression":
            said = "belongs to classes, not to regression"
            faults.append(fault_below(("train", "class_weight"), self.train.class_weight, said))
        transform = self.features.transform
        if transform is not None and self.code is None and not transform.startswith("sklearn."):
            said = f"{transform} needs `code`: the folder or the wheel of its package"
            faults.append(fault_below(("features", "transform"), transform, said))
        faults += self._faults_of_metrics()
        if faults:
            raise ValidationError.from_exception_data("policy", faults)
        return self

    def _faults_of_metrics(self) -> Iterator[InitErrorDetails]:
        allowed = OF_TASK[self.model.task]
        labels = [metric.label for metric in self.metrics]
        for index, metric in enumerate(self.metrics):
            if ":" not in metric.name and metric.name not in allowed:
                said = f"{metric.name} is none of task {self.model.task}; there are {', '.join(allowed)}"
                yield fault_below(("metrics", str(index), "name"), metric.name, said)
            if metric.label in labels[:index]:
                yield fault_below(("metrics", str(index), "name"), metric.name, f"{metric.label} is given twice")
        if sum(metric.primary for metric in self.metrics) > 1:
            yield fault_below(("metrics",), labels, "at most one metric is primary")

    def _faults_of_fairness(self) -> Iterator[tuple[str, str]]:
        """Protected columns that the held-out rows would lack, or that have no groups."""
        columns = self.gates.fairness.columns
        for index, name in enumerate(columns):
            feature = self.model.features.get(name)
            if self.model.task != "binary":
                yield name, f"belongs to task binary, not to {self.model.task}"
            elif name in columns[:index]:
                yield name, f"{name!r} is given twice"
            elif feature is not None and feature.type not in ("category", "boolean"):
                yield name, f"{name!r} is of type {feature.type}: groups need a category or a boolean"
            elif feature is None and name not in self.data.extra_columns and self.data.source.format == "log":
                yield (
                    name,
                    (
                        f"{name!r} is no feature, and the prediction log holds features alone: it lacks the column; "
                        "train on a table that has it, and name it in data.extra_columns"
                    ),
                )
            elif feature is None and name not in self.data.extra_columns:
                yield name, f"{name!r} must be a category or boolean feature, or one of data.extra_columns"

    def _faults_of_monotone(self) -> Iterator[tuple[str, str]]:
        for name in self.train.monotone:
            feature = self.model.features.get(name)
            if feature is None and self.features.transform is not None:
                continue  # a derived column, which training knows
            if feature is None:
                yield name, f"{name!r} is no feature; there are {', '.join(self.model.features)}"
            elif feature.type == "category":
                yield name, f"{name!r} is a category, which has no order"

    def _faults_of_extra_columns(self) -> Iterator[tuple[str, str]]:
        """Each extra column is plainly named and is nothing else: a name inside is one column's."""
        taken: dict[str | None, str] = {
            **dict.fromkeys((*self.model.features, *self.model.columns.values()), "a feature"),
            **dict.fromkeys((self.model.target, self.model.columns[self.model.target]), "the target"),
            self.data.time_column: "data.time_column",
            self.data.id_column: "data.id_column",
        }
        for index, name in enumerate(self.data.extra_columns):
            if not may_name(name):
                yield name, f"{fault_of_name(name, 'a view or a copy of the table')}"
            elif name in taken:
                yield name, f"{name!r} is also {taken[name]}"
            elif name in self.data.extra_columns[:index]:
                yield name, f"{name!r} is given twice"
