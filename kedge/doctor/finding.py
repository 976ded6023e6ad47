"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from kedge.errors import KedgeError, without_passwords

State = Literal["good", "warning", "bad", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    """What was looked at."""
    state: State
    """``bad``: kedge cannot do its work; ``warning``: it can, but; ``skipped``: could not or need not be looked at."""
    seen: str
    """What was there."""
    fix: str = ""
    """What to type, or to do; empty when good."""

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return {name: without_passwords(value) for name, value in asdict(self).items()}


def good(what: str, seen: str) -> Finding:
    """All is well."""
    return Finding(what=what, state="good", seen=seen)


def bad(what: str, seen: str, fix: str) -> Finding:
    """Kedge cannot do its work."""
    return Finding(what=what, state="bad", seen=seen, fix=fix)


def warning(what: str, seen: str, fix: str) -> Finding:
    """Kedge can do its work, but."""
    return Finding(what=what, state="warning", seen=seen, fix=fix)


def skipped(what: str, seen: str, fix: str = "") -> Finding:
    """Could not, or need not, be looked at."""
    return Finding(what=what, state="skipped", seen=seen, fix=fix)


def run(checks: Mapping[str, Callable[[], Iterable[Finding]]]) -> list[Finding]:
    """The findings of all checks, by what they look at; one that breaks is a finding, not the end of the others."""
    found: list[Finding] = []
    for what, check in checks.items():
        try:
            found += check()
        except KedgeError as exc:
            if str(exc) not in {each.seen for each in found}:  # one illness, one line
                found.append(bad(what, str(exc), "as it says; then ask again"))
        except Exception as exc:  # noqa: BLE001  (a doctor who dies of one illness tells nothing about the others)
            found.append(bad(what, f"{type(exc).__name__}: {_short(exc)}", "run it again with KEDGE_DEBUG=1"))
    return found


def _short(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else "no message"
