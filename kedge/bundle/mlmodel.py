"""The bundle as MLflow reads a model: ``mlflow.pyfunc.load_model(...).predict(frame)``. Needs no MLflow itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Input, Signature

NAME, EXAMPLE = "MLmodel", "input_example.json"
TYPES = {"number": "double", "integer": "long", "category": "string", "boolean": "boolean"}
EXAMPLE_ROWS = 5


def description(signature: Signature, classes: int = 0) -> bytes:
    """The file ``MLmodel``: how to load the bundle, and its signature. JSON, which is YAML too."""
    python = ".".join(map(str, sys.version_info[:2]))
    score: dict[str, Any] = {"type": "double", "name": "score", "required": True}
    if classes:
        score = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, classes]}}
    return json.dumps(
        {
            "flavors": {"python_function": {"loader_module": __name__, "python_version": python}},
            "signature": {
                "inputs": json.dumps(columns(signature)),
                "outputs": json.dumps([score]),
            },
            "saved_input_example_info": {
                "artifact_path": EXAMPLE, "type": "dataframe", "pandas_orient": "split",
            },
        },
        indent=1,
    ).encode()  # fmt: skip


def columns(signature: Signature) -> list[dict[str, object]]:
    """The features as MLflow's column specification."""
    return [{"name": each.name, "type": _type(each), "required": True} for each in signature.inputs]


def example(signature: Signature, golden: pa.Table) -> bytes:
    """The file with an input example: a few golden rows."""
    rows = golden.select(list(signature.names)).slice(0, EXAMPLE_ROWS).to_pylist()
    data = [[_shown(row[each.name], each) for each in signature.inputs] for row in rows]
    return json.dumps({"columns": list(signature.names), "data": data}).encode()


def _shown(value: Any, column: Input) -> Any:
    """As a client writes it: whole numbers without a fraction, true and false, nothing for NaN."""
    if value is None or value != value:
        return None
    return {"integer": int, "boolean": bool}.get(column.type, lambda same: same)(value)


class Loaded:
    """A bundle's model, asked with a pandas frame."""

    def __init__(self, signature: Signature, predictor: Predictor) -> None:
        self._signature = signature
        self._predictor = predictor

    def predict(self, frame: Any, params: dict[str, Any] | None = None) -> NDArray[np.float64]:  # noqa: ARG002
        """Probabilities of the positive label (binary) or values of rows, shape (n,): the served ones, to the last bit.
        Of several classes the probability of each, shape (n, classes).

        Raises:
            DataError: a feature is missing, or holds what cannot be read as the policy declares it.
        """
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return self._predictor.score(self._signature.encode(table))


def _load_pyfunc(path: str) -> Loaded:
    """What MLflow calls: the bundle in a folder, after every hash is verified."""
    from kedge.bundle.folder import open_bundle

    bundle = open_bundle(Path(path))
    return Loaded(bundle.signature, bundle.load_model())


def _type(each: Input) -> str:
    """MLflow's type of a column. Where whole numbers or booleans may be missing, pandas has floats or objects in their
    place, which MLflow takes for neither."""
    return "any" if each.nullable and each.type in ("integer", "boolean") else TYPES[each.type]
