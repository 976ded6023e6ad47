"""A profile: what is kept of a table's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from kedge.drift import columns
from kedge.drift.columns import Column
from kedge.drift.dependence import Dependence
from kedge.errors import DataError, some

FORMAT = "kedge-profile/1"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Counts of a table's columns, on edges and categories chosen once on a reference.

    Profiles counted on one reference add up exactly: shards merged in any order give the same bytes.
    """

    rows: int
    """Rows counted."""
    columns: Mapping[str, Column]
    """By name, in the reference's order."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Columns the reference does not have, with their Arrow type."""
    dependence: Dependence | None = None
    """Sums over pairs of columns, if asked for when the reference was built."""

    def __repr__(self) -> str:
        return f"<Profile of {self.rows:,} rows: {some(self.columns)}>"

    @property
    def unreadable(self) -> dict[str, int]:
        """Columns with values that could not be read as a number or a time -> how many."""
        numbers = {name: column for name, column in self.columns.items() if isinstance(column, columns.Numbers)}
        return {name: column.unreadable for name, column in numbers.items() if column.unreadable}

    def merge(self, other: Profile) -> Profile:
        """Add two profiles counted on the same reference.

        Raises:
            DataError: they were counted on different references.
        """
        if list(self.columns) != list(other.columns):
            raise DataError("profiles of different columns cannot be merged: count both on one reference profile")
        merged = {name: _merged(name, column, other.columns[name]) for name, column in self.columns.items()}
        names = sorted({*self.extra, *other.extra})
        extra = {name: columns.types(self.extra.get(name, ""), other.extra.get(name, "")) for name in names}
        return Profile(
            rows=self.rows + other.rows, columns=merged, extra=extra, dependence=self._merged_dependence(other)
        )

    def _merged_dependence(self, other: Profile) -> Dependence | None:
        if self.dependence is None or other.dependence is None:
            return None
        try:
            return self.dependence.merge(other.dependence)
        except ValueError as exc:
            raise DataError(f"profiles cannot be merged: {exc}; count both on one reference profile") from exc

    def select(self, names: list[str]) -> Profile:
        """The profile of some of the columns, in this order, and of the pairs among them.

        Raises:
            DataError: a name is not in the profile.
        """
        for name in names:
            if name not in self.columns:
                raise DataError(f"the profile has no column {name!r}; it has: {some(self.columns)}")
        return Profile(
            rows=self.rows,
            columns={name: self.columns[name] for name in names},
            extra=self.extra,
            dependence=self.dependence.select(names) if self.dependence is not None else None,
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from kedge.drift.html_view import profile_section
        from kedge.report import fragment

        return fragment(profile_section(self))

    def to_json(self) -> bytes:
        """The profile as JSON; the same counts give the same bytes."""
        return orjson.dumps(
            {
                "format": FORMAT,
                "rows": self.rows,
                "columns": {name: column.to_dict() for name, column in self.columns.items()},
                "extra": dict(self.extra),
                "dependence": self.dependence and self.dependence.to_dict(),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> Profile:
        """Read a profile back.

        Raises:
            DataError: it is not a profile, is damaged, or is of another version.
        """
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as exc:
            raise DataError(f"not a profile: not JSON ({exc}); `kedge profile DATA -o REF.json` writes one") from exc
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            found = body.get("format") if isinstance(body, dict) else None
            raise DataError(f"not a profile of this version: format {found!r}, expected {FORMAT!r}; build it again")
        try:
            read = {str(name): columns.from_dict(column) for name, column in body["columns"].items()}
            pairs = Dependence.from_dict(body["dependence"]) if body["dependence"] else None
            return cls(rows=int(body["rows"]), columns=read, extra=dict(body["extra"]), dependence=pairs)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise DataError(f"a damaged profile: {type(exc).__name__}: {exc}; build it again") from exc


def _merged(name: str, column: Column, other: Column) -> Column:
    try:
        return columns.merged(column, other)
    except ValueError as exc:
        raise DataError(
            f"profiles cannot be merged: column {name!r}: {exc}; count both on one reference profile"
        ) from exc
