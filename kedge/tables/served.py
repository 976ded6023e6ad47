"""The model's own prediction log as a training table: what was served, joined with the outcomes that became known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow.compute as pc

from kedge.errors import DataError
from kedge.policy import Data, Model, Policy
from kedge.store import Store
from kedge.tables import MIRRORED, log
from kedge.tables.columns import ID, TIME
from kedge.tables.reader import BATCH_ROWS, Bounds, Piece

LABEL = "_label"
EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class LogReader:
    """Predictions with a label, or all that answered a client if asked for; one row an id.

    See :class:`kedge.tables.reader.Reader`.

    Features whose privacy is not ``keep`` are in the log only as privacy left them: training on those is refused.
    """

    version = None

    def __init__(self, store: Store, model: Model, data: Data) -> None:
        altered = [name for name, feature in model.features.items() if feature.privacy != "keep"]
        if altered:
            raise DataError(
                f"prediction log of {model.name}: feature {altered[0]!r} is not in it as it was served (privacy: "
                f"{model.features[altered[0]].privacy}); train from another source"
            )
        self.place = f"prediction log of {model.name}"
        self.names = [TIME, ID, *model.features, LABEL]
        self._store = store
        self._policy = Policy(model=model, data=data)

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        start = bounds.start if bounds and bounds.start else EVER[0]
        end = bounds.end if bounds and bounds.end else EVER[1]
        logged = [name for name in dict.fromkeys((ID, *columns)) if name != LABEL]
        rows = log.read_window(
            self._store,
            self._policy,
            start,
            end,
            columns=logged,
            labels="left" if bounds and bounds.unlabelled else "inner",
            known_at=bounds.known_at if bounds else None,
        )
        if bounds and bounds.unlabelled:  # a candidate's answers to mirrored requests never have an outcome
            rows = rows.filter(pc.invert(pc.ends_with(rows[ID], MIRRORED)))
        first = 1
        for batch in rows.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS):
            yield Piece(batch, self.place, first)
            first += batch.num_rows
