"""Keep a tabular model that is served on KServe good: what notebooks and scripts use.

``read_policy``, ``profile``, ``compare``, ``open_bundle`` and ``read_history``, each with a docstring and an example;
errors are those of :mod:`kedge.errors`. Everything is imported with its first use, so that ``import kedge`` costs
nothing. All else lies in rooms, one concern each, whose imports point downwards; see ``docs/design.md``.

>>> import kedge
>>> before, now = kedge.profile("examples/payments.csv"), "examples/payments.csv"
>>> kedge.compare(before, now).drifted
[]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kedge.image import VERSION

if TYPE_CHECKING:
    from kedge.api.bundle import open_bundle
    from kedge.api.comparison import compare, profile
    from kedge.api.history import read_history
    from kedge.policy.parse import load as read_policy

__version__ = VERSION
__all__ = ["__version__", "compare", "open_bundle", "profile", "read_history", "read_policy"]

HOMES = {
    "compare": ("kedge.api.comparison", "compare"),
    "open_bundle": ("kedge.api.bundle", "open_bundle"),
    "profile": ("kedge.api.comparison", "profile"),
    "read_history": ("kedge.api.history", "read_history"),
    "read_policy": ("kedge.policy.parse", "load"),
}
"""Where each name lives."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'kedge' has no attribute {name!r}; it has {', '.join(__all__)}")
    from kedge.extras import needed_by

    module, attribute = HOMES[name]
    with needed_by(f"kedge.{name}", "data"):
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
