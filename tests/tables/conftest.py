"""A small table of parcels, and ways to lay it down."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.policy import Policy

END = datetime(2026, 3, 3, tzinfo=UTC)
"""After every row."""


@pytest.fixture
def parcels() -> pa.Table:
    """Ten parcels an hour apart, in time order, with each type once."""
    start = datetime(2026, 3, 2, tzinfo=UTC)
    return pa.table(
        {
            "parcel": [f"p{k}" for k in range(10)],
            "sent": pa.array([start + timedelta(hours=k) for k in range(10)], pa.timestamp("us", tz="UTC")),
            "weight": [0.5 * k if k != 3 else None for k in range(10)],
            "items": list(range(10)),
            "express": [k % 2 == 0 for k in range(10)],
            "country": ["AT", "BE", None, "AT", "BE", "AT", "BE", "AT", "BE", "AT"],
            "late": [int(k in (2, 5, 8)) for k in range(10)],
        }
    )


@pytest.fixture
def policy_for() -> Callable[..., Policy]:
    def make(location: Path | str, format: str = "parquet", **data: Any) -> Policy:
        return policies.parse(
            {
                "model": {
                    "name": "parcels",
                    "target": "late",
                    "features": {
                        "weight": {"type": "number"},
                        "items": {"type": "integer"},
                        "express": {"type": "boolean"},
                        "country": {"type": "category"},
                    },
                },
                "data": {
                    "source": {"format": format, "location": str(location)},
                    "time_column": "sent",
                    "id_column": "parcel",
                    **data,
                },
            }
        )

    return make
