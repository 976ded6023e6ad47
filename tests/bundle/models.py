"""Small real models, trained once a test session."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kedge import bundle, policy

COUNTRIES = ("AT", "BE", "DE", "ES", "FR", "NL", "PL")


def payments_policy(task: str = "binary", **features: Any) -> policy.Policy:
    """Three numbers (one whole), a boolean, a category."""
    columns = {
        "amount": {"type": "number"},
        "age_days": {"type": "integer", "nullable": False},
        "ratio": {"type": "number", "min": 0},
        "recurring": {"type": "boolean"},
        "country": {"type": "category", "values": list(COUNTRIES)},
    } | features
    return policy.parse(
        {
            "model": {"name": "payments", "task": task, "target": "returned", "features": columns},
            "data": {"source": {"format": "parquet", "location": "x"}, "time_column": "at"},
        }
    )


@functools.cache
def payments(rows: int = 2000, seed: int = 0) -> pa.Table:
    """Rows with missing values in every nullable column."""
    rng = np.random.default_rng(seed)

    def holes(values: Any) -> list[Any]:
        return [None if missing else value for value, missing in zip(values, rng.random(rows) < 0.1, strict=True)]

    return pa.table(
        {
            "amount": pa.array(holes(rng.lognormal(3, 1, rows).tolist()), pa.float64()),
            "age_days": pa.array(rng.integers(0, 4000, rows), pa.int64()),
            "ratio": pa.array(holes(rng.random(rows).tolist()), pa.float64()),
            "recurring": pa.array(holes((rng.random(rows) < 0.5).tolist()), pa.bool_()),
            "country": pa.array(holes(rng.choice(COUNTRIES, rows).tolist()), pa.string()),
        }
    )


def outcomes(table: pa.Table, task: str) -> Any:
    """Something learnable from every column."""
    frame = {name: table.column(name).to_pylist() for name in table.column_names}
    raw = np.array([
        (amount or 20) / 40 - age / 4000 + (ratio or 0) + (0.5 if recurring else 0) + (country in ("BE", "FR", "PL"))
        for amount, age, ratio, recurring, country in zip(*frame.values(), strict=True)
    ])  # fmt: skip
    noisy = raw + np.random.default_rng(1).normal(0, 0.5, len(raw))
    return (noisy > np.median(noisy)).astype(float) if task == "binary" else noisy


@functools.cache
def booster(task: str = "binary", trees: int = 30, depth: int = 4) -> xgboost.Booster:
    """Trees with number, one-category and many-category splits."""
    signature = bundle.Signature.of(payments_policy(task).model)
    table = payments()
    data = xgboost.DMatrix(
        signature.encode(table), outcomes(table, task), feature_names=list(signature.names),
        feature_types=signature.feature_types, enable_categorical=True,
    )  # fmt: skip
    objective = "binary:logistic" if task == "binary" else "reg:squarederror"
    parameters = {"objective": objective, "max_depth": depth, "max_cat_to_onehot": 3, "nthread": 1, "seed": 0}
    return xgboost.train(parameters, data, trees)


@functools.cache
def linear(task: str = "binary", rows: int | None = None) -> Pipeline:
    """The usual simple baseline on encoded rows, the first ones only where it says so."""
    signature = bundle.Signature.of(payments_policy(task).model)
    numbers = [place for place, each in enumerate(signature.inputs) if each.type != "category"]
    texts = [place for place, each in enumerate(signature.inputs) if each.type == "category"]
    table = payments()
    number = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    text = Pipeline([
        ("fill", SimpleImputer(strategy="constant", fill_value=-1)), ("code", OneHotEncoder(handle_unknown="ignore"))
    ])  # fmt: skip
    columns = ColumnTransformer([("numbers", number, numbers), ("texts", text, texts)])
    model = LogisticRegression() if task == "binary" else Ridge()
    matrix, label = signature.encode(table)[:rows], outcomes(table, task)[:rows]
    return Pipeline([("columns", columns), ("model", model)]).fit(matrix, label)


def written(folder: Path, *, kind: str = "xgboost", task: str = "binary", **changes: Any) -> bundle.Bundle:
    """A bundle in ``folder`` (which must not exist)."""
    declared = payments_policy(task)
    fields: dict[str, Any] = {
        "model": booster(task) if kind == "xgboost" else linear(task),
        "signature": bundle.Signature.of(declared.model),
        "policy": declared,
        "estimator": kind if kind == "xgboost" else "linear",
        "golden": payments().slice(100, 64),
        "profile": b"{}",
        "snapshot": "0" * 40,
        "commit": "c0ffee",
    }
    return bundle.write(folder, **(fields | changes))
