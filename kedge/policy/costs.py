"""Section `costs`: when a retraining pays."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kedge.policy.section import Section


class RetrainingCosts(Section):
    """When a retraining pays. In any one unit; only the ratios count."""

    error: Annotated[float, Field(ge=0)] = 1.0
    """Cost of one wrong decision (a regression's: of a row whose loss is that of the best constant). 0: errors cost
    nothing, and none starts a retraining."""
    run: Annotated[float, Field(ge=0)] = 20.0
    """Cost of a retraining, whatever it brings: machines, and attention."""
    release: Annotated[float, Field(ge=0)] = 10.0
    """Cost of a release: its risk, and attention."""
    horizon_rows: Annotated[int, Field(ge=100)] = 2000
    """Labelled rows within which both must pay: a rise of the error that would not is left alone."""
