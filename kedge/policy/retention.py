"""Section `retention`: what the store keeps of the past."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kedge.policy.section import Section


class Retention(Section):
    """What the store keeps of the past. What is needed stays whatever its age, and records stay for ever."""

    keep_days: Annotated[float, Field(ge=1, le=36_500)] | None = 180.0
    """Bundles, snapshots and pages stay for so many days after their last use; null: everything stays."""
    keep_bundles: Annotated[int, Field(ge=1)] = 10
    """The newest so many bundles stay, with their rows and pages."""
    keep_pages: Annotated[int, Field(ge=1)] = 100
    """The newest so many pages of checks stay."""
