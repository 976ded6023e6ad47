"""The servers that benchmarks/serve.py compares: each is started as ``python serve_peers.py NAME FOLDER PORT``.

The model is the same everywhere: 100 trees on 12 numbers and 8 categories, XGBoost's of depth 6 beside other servers;
kedge's own server serves LightGBM's trees of 31 leaves and three classes too (100 trees a class).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

NUMBERS, CATEGORIES = 12, 8
CODES = [f"c{code}" for code in range(12)]


def rows(count: int) -> dict[str, list[Any]]:
    """Columns of random rows."""
    import numpy as np

    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {f"n{place}": random.normal(size=count).tolist() for place in range(NUMBERS)}
    return columns | {f"k{place}": random.choice(CODES, count).tolist() for place in range(CATEGORIES)}


def outcome(columns: dict[str, list[Any]]) -> Any:
    """A label of two classes."""
    return (raw_score(columns) > 0.5).astype(int)


def raw_score(columns: dict[str, list[Any]]) -> Any:
    """What a label comes of; it takes interactions and categories to learn."""
    import numpy as np

    numbers = [np.array(columns[f"n{place}"]) for place in range(4)]
    first, second = (np.array([CODES.index(value) for value in columns[name]]) for name in ("k0", "k1"))
    raw = numbers[0] + numbers[1] * numbers[2] + (first % 3 == 1) + (second > 6) * numbers[3]
    return raw + np.random.default_rng(1).normal(size=len(raw))


def write_bundle(folder: Path, estimator: str = "xgboost", classes: int = 2) -> None:
    """The model as a kedge bundle."""
    import numpy as np
    import pyarrow as pa

    from kedge import bundle, policy
    from kedge.bundle.estimators import Rows
    from kedge.training.estimators import attempt

    features: dict[str, Any] = {f"n{place}": {"type": "number"} for place in range(NUMBERS)}
    features |= {f"k{place}": {"type": "category", "values": CODES} for place in range(CATEGORIES)}
    model = {"name": "bench", "target": "y", "features": features}
    depth = {"max_depth": 6} if estimator == "xgboost" else {}
    declared = policy.parse(
        {
            "model": model | ({"task": "multiclass", "classes": list(range(classes))} if classes > 2 else {}),
            "data": {"source": {"format": "parquet", "location": "none"}, "time_column": "at"},
            "train": {"estimators": [estimator], "parameters": {estimator: {"n_estimators": 100} | depth}},
        }
    )
    columns = rows(20_000)
    table, signature = pa.table(columns), bundle.Signature.of(declared.model)
    label = np.digitize(raw_score(columns), [0.5] if classes == 2 else [0.0, 1.0])
    tried = attempt(
        estimator, declared, signature, Rows(signature.encode(table), label.astype(float), np.arange(len(label)))
    )
    bundle.write(
        folder, model=tried.estimator.fit(tried.settings, tried.rows), signature=signature, policy=declared,
        estimator=estimator, golden=table.slice(0, 64), profile=b"{}", snapshot="0" * 40,
    )  # fmt: skip


def kedge(folder: Path, port: int, *, constant: bool = False) -> None:
    """The model server; ``constant`` puts a model that says the same of every row in the same server."""
    from kedge.bundle import Bundle
    from kedge.serving.__main__ import main

    if constant:
        Bundle.load_model = lambda opened, **__: Constant(len(opened.manifest.classes))  # type: ignore[method-assign]
    sys.exit(main(["--bundle", str(folder / "bundle"), "--port", str(port)]))


class Constant:
    """A predictor that costs nothing."""

    quick = True

    def __init__(self, classes: int) -> None:
        self._said: Any = [1 / classes] * classes if classes else 0.5

    def score(self, matrix: Any) -> Any:
        import numpy as np

        return np.array([self._said] * len(matrix))

    def score_row(self, row: Any) -> Any:
        return self._said


def kserve_server(folder: Path, port: int, kind: str) -> None:
    """KServe's own ModelServer, logs quiet, uvloop: a constant, ``inplace_predict``, or as its scikit-learn server."""
    import logging

    import uvloop

    sys.argv = sys.argv[:1]
    from kserve import Model, ModelServer

    predict = {"constant": _constant, "inplace": _inplace, "sklearn": _sklearn}[kind]
    if kind != "constant":
        predict = predict(folder)

    class Served(Model):  # type: ignore[misc]
        async def predict(self, payload: Any, headers: Any = None) -> Any:
            return predict(payload)

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    model = Served("bench")
    model.load()
    server = ModelServer(http_port=port, enable_grpc=False, workers=1, enable_latency_logging=False)
    for name in ("kserve", "kserve.trace", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the server has just set its own
    server.start([model])


def _constant(payload: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": [0.5] * len(payload["instances"])}


def _inplace(folder: Path) -> Any:
    import numpy as np
    import xgboost

    booster = xgboost.Booster(model_file=folder / "bundle" / "model.ubj")
    codes = {code: float(place) for place, code in enumerate(CODES)}

    def predict(payload: dict[str, Any]) -> dict[str, Any]:
        instances = payload["instances"]
        matrix = np.array([[codes.get(value, value) for value in row.values()] for row in instances], np.float32)
        return {"predictions": booster.inplace_predict(matrix).tolist()}

    return predict


def fit_pipeline() -> Any:
    """ColumnTransformer and XGBClassifier, as tutorials have it."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder
    from xgboost import XGBClassifier

    columns = rows(20_000)
    frame = pd.DataFrame(columns)
    texts = [f"k{place}" for place in range(CATEGORIES)]
    spread = ColumnTransformer([("texts", OneHotEncoder(handle_unknown="ignore"), texts)], remainder="passthrough")
    model = XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1)
    return Pipeline([("columns", spread), ("model", model)]).fit(frame, outcome(columns))


def _sklearn(folder: Path) -> Any:
    from kserve.utils.utils import get_predict_input, get_predict_response

    pipeline = fit_pipeline()

    def predict(payload: dict[str, Any]) -> Any:
        return get_predict_response(payload, pipeline.predict_proba(get_predict_input(payload)), "bench")

    return predict


MLSERVER = """
import sys; sys.path.insert(0, {here!r})
import pandas as pd
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceResponse
from serve_peers import fit_pipeline

class Bench(MLModel):
    async def load(self):
        self._pipeline = fit_pipeline()
        return True

    async def predict(self, payload):
        scores = self._pipeline.predict_proba(PandasCodec.decode_request(payload))[:, 1]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("score", scores)])
"""
BENTO = """
import sys; sys.path.insert(0, {here!r})
import bentoml
import pandas as pd
from serve_peers import fit_pipeline

@bentoml.service(workers=1, logging={{"access": {{"enabled": False}}}})
class Bench:
    def __init__(self):
        self._pipeline = fit_pipeline()

    @bentoml.api
    def predict(self, instances: list[dict]) -> list[float]:
        return self._pipeline.predict_proba(pd.DataFrame(instances))[:, 1].tolist()
"""


def mlserver(folder: Path, port: int) -> None:
    """MLServer, the model in the server's own process."""
    home = folder / "mlserver"
    home.mkdir(exist_ok=True)
    (home / "bench.py").write_text(MLSERVER.format(here=str(Path(__file__).parent)))
    (home / "model-settings.json").write_text(json.dumps({"name": "bench", "implementation": "bench.Bench"}))
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0}
    (home / "settings.json").write_text(json.dumps(settings | {"debug": False, "host": "127.0.0.1"}))
    os.chdir(home)
    _become("mlserver", "start", ".")


def mlflow(folder: Path, port: int) -> None:
    """``mlflow models serve``."""
    import mlflow.sklearn

    home = folder / "mlflow"
    if not home.exists():
        mlflow.sklearn.save_model(
            fit_pipeline(), home, serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba"
        )
    _become("mlflow", "models", "serve", "-m", str(home), "--env-manager", "local", "-p", str(port), "-w", "1")


def bentoml(folder: Path, port: int) -> None:
    """BentoML's service."""
    home = folder / "bentoml"
    home.mkdir(exist_ok=True)
    (home / "service.py").write_text(BENTO.format(here=str(Path(__file__).parent)))
    os.chdir(home)
    _become("bentoml", "serve", "service:Bench", "--port", str(port), "--host", "127.0.0.1")


def _become(program: str, *words: str) -> None:
    path = Path(sys.executable).parent / program
    os.environ["PATH"] = f"{path.parent}:{os.environ['PATH']}"
    os.execv(path, [str(path), *words])


def main() -> None:
    """Serve as the command line says."""
    name, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    start = {
        "kedge": lambda: kedge(folder, port),
        "kedge-constant": lambda: kedge(folder, port, constant=True),
        "kserve-constant": lambda: kserve_server(folder, port, "constant"),
        "kserve-inplace": lambda: kserve_server(folder, port, "inplace"),
        "kserve-sklearn": lambda: kserve_server(folder, port, "sklearn"),
        "mlserver": lambda: mlserver(folder, port),
        "mlflow": lambda: mlflow(folder, port),
        "bentoml": lambda: bentoml(folder, port),
    }
    start[name]()


if __name__ == "__main__":
    main()
