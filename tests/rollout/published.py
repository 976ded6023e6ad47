"""Bundles of one feature, published to a store, whose probability is known."""

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from kedge import bundle as bundles
from kedge.bundle import Signature


def published(store, policy, folder, *, slope=3.0, intercept=0.0):
    """A bundle that says the probability 1 / (1 + exp(-(intercept + slope x)))."""
    model = LogisticRegression().fit([[-1.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[slope]]), np.array([intercept])
    written = bundles.write(
        folder / f"{slope}{intercept}",
        model=model,
        signature=Signature.of(policy.model),
        policy=policy,
        estimator="linear",
        golden=pa.table({"x": np.linspace(-2, 2, 64)}),
        profile=b"{}",
        snapshot="s",
    )
    bundles.publish(store, written)
    return written.id
