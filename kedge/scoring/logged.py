"""A batch's predictions as the log holds served ones: appended whole, in one commit."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import MIRRORED, log
from kedge.tables.appending import SETTINGS, day_of, key_of
from kedge.tables.columns import ID
from kedge.tables.privacy import Features
from kedge.tables.staged import Staged

SLOT = "batch"


class PredictionLog:
    """Appends to the prediction log of a model, once for each batch."""

    def __init__(self, store: Store, policy: Policy, at: datetime, received: datetime) -> None:
        """Begin a batch whose predictions are dated alike.

        Raises:
            UsageError: the policy hashes a feature, and there is no key in ``$KEDGE_HASH_KEY``.
            DataError: the log holds a column of another type.
            StoreError: the store cannot be read.
        """
        key = key_of(policy, "predictions")
        self._schema = pa.schema([field for field in log.schema(policy) if field.name != "_day"])
        self._features = [
            name for name in self._schema.names if not name.startswith("_") or name in policy.model.features
        ]
        self._private = Features(policy, (os.environ.get("KEDGE_HASH_KEY") or "").encode() or None)
        self._changed = {name for name, feature in policy.model.features.items() if feature.privacy != "keep"}
        self._at, self._received = at, received
        self._staged = Staged(
            store.uri(key),
            self._schema,
            options=store.options(),
            partition=("_day", day_of(at)),
            settings=SETTINGS,
            times={"_time": at, "_received": received},
        )

    def write(
        self,
        rows: pa.RecordBatch,
        version: str,
        scores: NDArray[np.float64],
        decided: NDArray[np.float64],
        *,
        copies: bool,
    ) -> None:
        """Add the answers of a bundle to some rows; ``copies``: of a candidate, which nobody gets."""
        count = len(rows)
        ids = rows.column(ID)
        own: dict[str, Any] = {
            "_id": pc.binary_join_element_wise(ids, MIRRORED, "") if copies else ids,
            "_time": self._constant(self._at, count, log.TIME),
            "_received": self._constant(self._received, count, log.TIME),
            "_version": self._constant(version, count, pa.string()),
            "_slot": self._constant(SLOT, count, pa.string()),
            "_score": pa.array(scores)
            if scores.ndim == 1
            else pa.ListArray.from_arrays(
                np.arange(count + 1, dtype=np.int32) * scores.shape[1], np.ascontiguousarray(scores).ravel()
            ).cast(self._schema.field("_score").type),
            "_prediction": pa.array(decided),
        }
        own |= self._logged_features(rows)
        arrays = [own.get(field.name, pa.nulls(count, field.type)) for field in self._schema]
        self._staged.write(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def commit(self, batch: str) -> bool:
        """Append them all; False: they are in the log already."""
        return self._staged.commit(f"batch-{batch}")

    def abort(self) -> None:
        """Append nothing."""
        self._staged.abort()

    def _logged_features(self, rows: pa.RecordBatch) -> dict[str, pa.Array]:
        """As the policy's privacy lets them into the log."""
        there = [name for name in self._features if name in rows.schema.names]
        found = {name: rows.column(name) for name in there}
        if self._changed & set(there):
            values = [
                rows.column(name).to_pylist() if name in found else [None] * len(rows) for name in self._private.names
            ]
            private = dict(zip(self._private.names, self._private.private(values), strict=True))
            found |= {name: pa.array(private[name], pa.string()) for name in self._changed & set(there)}
        return found

    @staticmethod
    def _constant(value: Any, count: int, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), count)
