"""Section `model`: what is predicted, from what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from kedge.policy.section import Section, fault_below

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
COLUMN = re.compile(r"[^_\W]\w*( \w+)*")
MAX_CHARACTERS = 128
"""Of the name of a feature or a target."""
TableColumn = Annotated[str, Field(min_length=1, max_length=1000)]
NumberFormat = Literal["1,234.5", "1.234,5"]


def may_name(name: str) -> bool:
    """Whether a feature or a target may be called so.

    >>> may_name("order total"), may_name("Umsatz.netto"), may_name("_id")
    (True, False, False)
    """
    return bool(COLUMN.fullmatch(name)) and len(name) <= MAX_CHARACTERS


def fault_of_name(name: str, field: str) -> str | None:
    """What is wrong with the name of a feature or a target; ``field`` is where the table's own name belongs."""
    if may_name(name):
        return None
    return (
        f"column {name!r} must be letters, digits, _ and single spaces, must not start with _ "
        f"(reserved for kedge's own columns) and have at most {MAX_CHARACTERS} characters; call it otherwise here, "
        f"and write what the table calls it into {field}"
    )


class Feature(Section):
    """One input column of the model."""

    type: Literal["number", "integer", "boolean", "category"]
    """How the column is read. A category is text; the other three reach the model as one float each."""
    min: float | None = None
    """Smallest value allowed, inclusive. Rows below it are invalid rows; null: no limit."""
    max: float | None = None
    """Largest value allowed, inclusive."""
    values: tuple[str, ...] | None = None
    """Categories allowed. Without it, those of the training rows; a category never seen is treated as missing."""
    nullable: bool = True
    """Whether a row may lack this value. If false, such a request gets 400 and such a training row is invalid."""
    privacy: Literal["keep", "drop", "hash", "mask", "bucket"] = "keep"
    """What the prediction log may hold: the value, nothing, a keyed hash, the mere fact that it was there, or only its
    bucket. Whatever is not `keep` never reaches a disk of the collector."""
    buckets: tuple[float, ...] | None = None
    """Ascending edges for `privacy: bucket`: a value is stored as the lower edge of its bucket."""
    column: TableColumn | None = None
    """What tables call it, where that is no name for a feature, such as `Umsatz.netto`; null: as the feature is called.
    Requests, the prediction log and reports know the feature by its own name only."""
    format: NumberFormat | None = None
    """How tables write the number as text, where that is not 1234.5: with such separators of thousands and decimals.
    Signs of currencies and percent are left away: `$1,234.50` is 1234.5, `7%` is 7."""
    description: str = ""
    """For people."""

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        numeric = self.type in ("number", "integer")
        if not numeric and self.format is not None:
            raise ValueError(f"format belongs to number and integer, not to {self.type}")
        if not numeric and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max belong to number and integer, not to {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    @model_validator(mode="after")
    def _of_good_values(self) -> Feature:
        if self.values is not None:
            if self.type != "category":
                raise ValueError(f"values belong to category, not to {self.type}")
            if not self.values or len(set(self.values)) != len(self.values):
                raise ValueError("values must be at least one category, each once")
            if "" in self.values:
                raise ValueError("values: an empty text is a missing value, which `nullable` allows; leave it out")
        return self

    @model_validator(mode="after")
    def _of_good_buckets(self) -> Feature:
        if (self.privacy == "bucket") != (self.buckets is not None):
            raise ValueError("buckets and `privacy: bucket` belong together")
        if self.buckets is not None:
            if self.type not in ("number", "integer"):
                raise ValueError(f"privacy: bucket needs a number or an integer, not {self.type}")
            if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
                raise ValueError("buckets must be at least one edge, ascending, each once")
        return self


MAX_CLASSES = 100
"""Of a target. Each is a column of the log's scores, and a tree a round."""


class Costs(Section):
    """What a wrong decision costs, in any one unit; only the ratio counts."""

    false_positive: Annotated[float, Field(gt=0)] = 1.0
    """Cost of acting on a row that was negative."""
    false_negative: Annotated[float, Field(gt=0)] = 1.0
    """Cost of missing a row that was positive."""
    matrix: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...] | None = None
    """Of several classes: a row for each class that is true, in it the cost of deciding for each, in the order of
    `classes`. Null: each wrong decision costs 1, and the likeliest class is decided for."""


class Answer(Section):
    """Where a model server that kedge did not train puts the score, if it is not the one thing that it answers."""

    output: str | None = None
    """The output tensor of v2; null: `score`, else `predict_proba`, else the first."""
    field: str | None = None
    """Of rows that are objects, the field; `probabilities.spam` is a field within one."""
    index: int | None = Field(default=None, ge=0)
    """Of rows that are lists, one value a class, the place of the positive class from 0; null: the last of one or
    two."""
    label: bool = False
    """Whether it answers with classes instead of probabilities: `positive_label` is 1, any other 0; of several classes
    the answer's is sure."""


class Model(Section):
    """What is predicted, from what."""

    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
    """Lower-case letters, digits and dashes, at most 40 characters: slots are `<name>-blue` and `<name>-green`."""
    task: Literal["binary", "multiclass", "regression"] = "binary"
    """`binary` predicts the probability of `positive_label`, `multiclass` that of each of `classes`, `regression` a
    number."""
    target: str
    """Column of the training table that holds the outcome."""
    target_column: TableColumn | None = None
    """What the table calls it, as a feature's `column`."""
    target_format: NumberFormat | None = None
    """How tables write it (regression only), as a feature's `format`."""
    classes: tuple[str | int, ...] = ()
    """The values of `target` (multiclass only), 3 to 100. The log holds a class by its place here: a new class goes to
    the end, and none is taken away or moved while the model has a log."""
    loss: Annotated[str, Field(pattern=r"^(squared|absolute|poisson|quantile\(0?\.\d+\))$")] = "squared"
    """What a regression minimises, and is judged by: the `squared` or the `absolute` error (it predicts the mean, or
    the median), the `poisson` deviance of counts, or the pinball loss of a quantile, `quantile(0.9)`."""
    positive_label: str | int | bool = 1
    """The value of `target` that counts as positive (binary only)."""
    negative_label: str | int | bool | None = None
    """The one other value of `target` (binary only): a label that is neither is an invalid row in training, and
    refused by the collector. Null: every value but `positive_label` counts as negative."""
    features: dict[str, Feature] = Field(min_length=1, max_length=2000)
    """The model's inputs by name; this order is the order of the columns the model sees."""
    slices: tuple[str, ...] = ()
    """Category or boolean features, or columns of `data.extra_columns`, whose groups are measured on their own."""
    costs: Costs = Costs()
    """Sets the decision threshold of a binary model: false_positive / (false_positive + false_negative)."""
    answer: Answer = Answer()
    """Where the answers of an adopted model server hold the score."""
    description: str = ""
    """For people."""

    @property
    def threshold(self) -> float:
        """Probability from which on acting is cheaper than not acting (C. Elkan, IJCAI 2001, eq. 2)."""
        return self.costs.false_positive / (self.costs.false_positive + self.costs.false_negative)

    @property
    def objective(self) -> str:
        """What is minimised: the task where it predicts classes, else the loss."""
        return self.loss if self.task == "regression" else self.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """What people call the outcomes, in the order of their codes in the log; empty for a number."""
        if self.task == "binary":
            return ("negative", "positive")
        return tuple(str(each) for each in self.classes)

    @property
    def columns(self) -> dict[str, str]:
        """Features and target -> what tables call them."""
        found = {name: feature.column or name for name, feature in self.features.items()}
        return {**found, self.target: self.target_column or self.target}

    @field_validator("target")
    @classmethod
    def _called_plainly(cls, target: str) -> str:
        said = fault_of_name(target, "target_column")
        if said is not None:
            raise ValueError(said)
        return target

    @field_validator("negative_label", mode="before")
    @classmethod
    def _other(cls, value: Any, seen: ValidationInfo) -> Any:
        """The negative label beside the positive one: of its kind, and another."""
        if value is None:
            return None
        if not isinstance(value, str | int) and not (isinstance(value, float) and value.is_integer()):
            raise ValueError(f"must be text, a whole number, true or false, got {value!r}")
        if seen.data.get("task") in ("regression", "multiclass"):
            raise ValueError(f"belongs to task binary, not to {seen.data['task']}: leave it out")
        positive = seen.data.get("positive_label")  # None where it has a fault of its own
        if positive is None:
            return value
        if isinstance(value, str) != isinstance(positive, str):
            kind = "text, in quotes" if isinstance(positive, str) else "a number, true or false, without quotes"
            raise ValueError(f"must be {kind}, because positive_label is {positive!r}, got {value!r}")
        if isinstance(positive, bool) and value not in (0, 1):
            raise ValueError(f"must be true or false, because positive_label is {positive!r}, got {value!r}")
        if value == positive:
            raise ValueError(f"{value!r} is also the positive_label: name the other class, or leave it out")
        return value

    @field_validator("classes")
    @classmethod
    def _told_apart(cls, classes: tuple[str | int, ...], seen: ValidationInfo) -> tuple[str | int, ...]:
        """Several, each once, of one kind."""
        if seen.data.get("task") != "multiclass":
            if classes:
                raise ValueError("belong to task multiclass: leave them out")
            return classes
        if not 3 <= len(classes) <= MAX_CLASSES:
            raise ValueError(
                f"must be 3 to {MAX_CLASSES} values of the target, got {len(classes):,}: two are task binary; of very "
                "many keep the frequent ones and put the rest into one, such as `other`"
            )
        if len({isinstance(each, str) for each in classes}) > 1:
            raise ValueError("must be all texts, in quotes, or all whole numbers")
        if len(set(classes)) != len(classes) or "" in classes:
            raise ValueError("must be each once, and none an empty text")
        return classes

    @field_validator("features", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Features as :meth:`Policy.to_dict` lists them, back as a mapping in that order."""
        if not isinstance(value, list):
            return value
        if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value):
            raise ValueError("a list of features needs a `name` in each")
        named = {item["name"]: {key: part for key, part in item.items() if key != "name"} for item in value}
        if len(named) != len(value):
            raise ValueError("a feature is given twice")
        return named

    @field_validator("features")
    @classmethod
    def _of_columns_of_their_own(cls, features: dict[str, Feature]) -> dict[str, Feature]:
        """Each feature has a plain name, and each column is one feature's."""
        first: dict[str, str] = {}
        faults = []
        for name, feature in features.items():
            said = fault_of_name(name, "the field `column` of a feature")
            if said is not None:
                faults.append(fault_below((name,), name, said))
            column = feature.column or name
            other = first.setdefault(column, name)
            if other != name:
                blamed, rival = (name, other) if feature.column is not None else (other, name)
                said = f"column {column!r} is also that of feature {rival!r}: a column is one feature's"
                faults.append(fault_below((blamed, "column"), column, said))
        if faults:
            raise ValidationError.from_exception_data("features", faults)
        return features

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if self.target_format is not None and self.task != "regression":
            raise ValueError("target_format belongs to task regression: a class is text as it is")
        if self.task == "multiclass" and not self.classes:
            raise ValueError("classes: task multiclass needs the values of the target, such as [setosa, versicolor]")
        if self.loss != "squared" and self.task != "regression":
            raise ValueError(f"loss belongs to task regression, not to {self.task}: it has the log loss")
        if self.loss.startswith("quantile") and not 0 < float(self.loss[9:-1]) < 1:
            raise ValueError(f"loss {self.loss!r}: the quantile must lie between 0 and 1")
        matrix = self.costs.matrix
        if matrix is not None:
            size = len(self.classes)
            if self.task != "multiclass":
                raise ValueError("costs.matrix belongs to task multiclass: write false_positive and false_negative")
            if len(matrix) != size or any(len(row) != size for row in matrix):
                raise ValueError(f"costs.matrix must have a row and a column for each of the {size} classes")
            if any(row[place] for place, row in enumerate(matrix)) or not any(map(any, matrix)):
                raise ValueError("costs.matrix must have 0 where the decision is right, and a cost somewhere else")
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} must be 1 to 40 lower-case letters, digits and dashes, starting with a letter"
            )
        if self.target in self.features:
            raise ValueError(f"target {self.target!r} is also a feature: the model would be told the answer")
        for name, feature in self.features.items():
            if (feature.column or name) == (self.target_column or self.target):
                raise ValueError(
                    f"target_column {self.target_column or self.target!r} is also the column of feature {name!r}: "
                    "the model would be told the answer"
                )
        for name in self.slices:
            if name in self.features and self.features[name].type not in ("category", "boolean"):
                raise ValueError(f"slice {name!r} must be a category or boolean feature")
        return self
