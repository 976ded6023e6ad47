"""The same comparison, asked of other columns: predictions, outcomes, confidence, training against serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kedge.drift.arrow_reader import aligned_numbers
from kedge.drift.compare import Comparison, compare
from kedge.drift.profile import Profile
from kedge.errors import DataError

SCORE, LABEL, CONFIDENCE = "_score", "_label", "_confidence"


def prediction_drift(reference: Profile, current: Profile, **thresholds: Any) -> Comparison:
    """Has the distribution of the model's scores changed? Needs no labels, and moves before the error is known.

    Args:
        reference, current: With the column ``_score``; the reference on rows the model was not trained on.
        thresholds: As :func:`~kedge.drift.compare` takes them.

    Raises:
        DataError: a profile has no such column.
    """
    return _compared(reference, current, [SCORE], thresholds)


def target_drift(reference: Profile, current: Profile, **thresholds: Any) -> Comparison:
    """Has the distribution of outcomes changed? A changed base rate, for a binary model. Needs labels (``_label``)."""
    return _compared(reference, current, [LABEL], thresholds)


def confidence_drift(reference: Profile, current: Profile, **thresholds: Any) -> Comparison:
    """Is a binary model less, or more, sure than it was? On ``_confidence``, which :func:`with_confidence` adds.

    Scores can keep their mean while both ends move towards the middle; confidence sees that with all its power.
    """
    return _compared(reference, current, [CONFIDENCE], thresholds)


def training_serving_skew(
    training: Profile, serving: Profile, features: Sequence[str], **thresholds: Any
) -> Comparison:
    """Do the features logged while serving differ from the same period's rows as training reads them?

    Both should hold the same rows, so any drift is a difference between two pipelines, not in the world: select the
    same time for both.
    """
    return _compared(training, serving, list(features), thresholds)


def new_data_drift(previous: Profile, new: Profile, features: Sequence[str], **thresholds: Any) -> Comparison:
    """Do the rows about to be trained on differ from those the champion was trained on?"""
    return _compared(previous, new, list(features), thresholds)


def with_confidence(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Add ``_confidence`` = |2 score - 1|, 0 for a coin toss and 1 for certainty, to batches with ``_score``.

    Raises:
        DataError: there is no score, or one is not a probability.
    """
    for batch in batches:
        if SCORE not in batch.schema.names:
            raise DataError(
                f"confidence needs the column {SCORE!r}; the batch has: {', '.join(batch.schema.names[:20])}"
            )
        scores = aligned_numbers(batch.column(SCORE))
        if np.any((scores < 0) | (scores > 1)):
            raise DataError(f"{SCORE} holds {float(scores[(scores < 0) | (scores > 1)][0])}, which is no probability")
        column = pa.Array.from_buffers(pa.float64(), len(scores), [None, pa.py_buffer(np.abs(2 * scores - 1))])
        yield batch.append_column(CONFIDENCE, column)


def _compared(reference: Profile, current: Profile, names: list[str], thresholds: dict[str, Any]) -> Comparison:
    return compare(reference.select(names), current.select(names), **thresholds)
