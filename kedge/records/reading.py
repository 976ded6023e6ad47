"""A model's state read from a store, where nothing is asked of its checks: they are thousands, and none is read."""

from __future__ import annotations

from kedge.records.checked import Checked, Window
from kedge.records.kinds import TYPES, Accepted, Data, Quarantined
from kedge.records.record import Record, in_order, read
from kedge.records.state import ModelState
from kedge.store import Store


def read_events(store: Store, model: str) -> list[Record[Data]]:
    """All records of a model but its checks, in order.

    Raises:
        StoreError: a record cannot be read.
    """
    return read(store, model, *(kind for kind in TYPES.values() if kind is not Checked))


def read_state(store: Store, model: str) -> ModelState:
    """The state of a model as of now, without its checks.

    Raises:
        StoreError: a record cannot be read.
    """
    return ModelState.of(read_events(store, model))


def quarantined_windows(store: Store, model: str) -> tuple[Window, ...]:
    """Times whose rows were found corrupt and not accepted since: joined where they touch, in time order.

    Training leaves these rows out, and so does the measure of labelled error: wrong inputs make wrong predictions, and
    their labels arrive when the feed is long whole again.

    Raises:
        StoreError: a mark or an acceptance cannot be read.
    """
    return ModelState.of(in_order([*read(store, model, Quarantined), *read(store, model, Accepted)])).quarantined
