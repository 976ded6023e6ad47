"""Section `gates`: what a challenger proves offline."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kedge.policy.section import Probability, Section, Span


class Fairness(Section):
    """How differently groups may be decided about, on columns that need not be features (binary only)."""

    columns: tuple[str, ...] = ()
    """Protected columns: category or boolean features, or columns of `data.extra_columns`, which no model sees."""
    max_parity_difference: Annotated[float, Field(ge=0, le=1)] | None = None
    """Demographic parity: largest less smallest share of a group that is decided positively; null: no limit."""
    max_odds_difference: Annotated[float, Field(ge=0, le=1)] | None = 0.1
    """Equalised odds: the same of the true and of the false positive rates, whichever is larger; null: no limit."""
    min_impact_ratio: Annotated[float, Field(ge=0, le=1)] | None = 0.8
    """Disparate impact: smallest over largest share decided positively. 0.8, the rule of four fifths, lets no group's
    share lie outside 0.8 to 1.25 times another's; null: no limit."""
    min_rows: Annotated[int, Field(ge=10)] = 100
    """Smaller groups are reported, not judged."""


class Gates(Section):
    """What a challenger proves, on rows no training step has read, before it may be registered for release."""

    alpha: Probability = 0.05
    """Chance that a challenger that is no better gets through, over all challengers under one alarm: the k-th meets the
    one-sided level 6 alpha / (pi k)²."""
    min_improvement: Annotated[float, Field(ge=0)] = 0.0
    """Least mean improvement of the loss, in its unit: nats (log loss of classes) or that of `model.loss`."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    """While the champion is stale it is enough to show that the loss is not higher by this share of the champion's."""
    stale_after_seconds: Span | None = None
    """The champion is stale when its newest training row is older than this. Null: `monitor.triggers.max_age_seconds`;
    where that is null too, it never is."""
    max_loss: Annotated[float, Field(gt=0)] | None = None
    """Highest mean loss allowed at all; null: no limit."""
    max_cost_increase: Annotated[float, Field(ge=0)] = 0.0025
    """A challenger whose wrong decisions are shown to cost more than the champion's by more than this share is refused
    (classes only)."""
    max_slice_loss_increase: Annotated[float, Field(ge=0)] = 0.1
    """Refused is a challenger whose mean loss is shown to be higher than the champion's in any slice of at least
    `min_slice_rows` rows, by more than this share of the champion's loss there."""
    min_slice_rows: Annotated[int, Field(ge=10)] = 100
    """Smaller slices are reported, not judged."""
    min_rows: Annotated[int, Field(ge=20)] = 200
    """Fewest holdout rows a judgement is made on, none of which the champion was trained on."""
    min_class_rows: Annotated[int, Field(ge=2)] = 20
    """Fewest of them of each class: a mean over a handful of positives has no normal error, and one of them
    would decide."""
    fairness: Fairness = Fairness()
    """How differently groups of protected columns may be decided about; without columns it is not looked at."""
