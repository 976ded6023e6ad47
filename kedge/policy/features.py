"""Section `features`: the team's own feature code."""

from __future__ import annotations

from pydantic import field_validator

from kedge.policy.section import PATH, Section


class Features(Section):
    """What becomes of a row's features before the model sees them."""

    transform: str | None = None
    """Import path of a function that makes of a pandas frame another one, or of a scikit-learn transformer, such as
    `churn.features:build` in the package that `code` names; null: the model sees the features as they are."""

    @field_validator("transform")
    @classmethod
    def _path(cls, transform: str | None) -> str | None:
        if transform is not None and not PATH.fullmatch(transform):
            raise ValueError(f"{transform!r} is no import path such as churn.features:build")
        return transform
