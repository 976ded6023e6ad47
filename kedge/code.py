"""Whether this installation runs code that a policy names."""

from __future__ import annotations

import os

from kedge.errors import CodeNotAllowed

VARIABLE = "KEDGE_ALLOW_CODE"


def allowed() -> bool:
    """Whether ``$KEDGE_ALLOW_CODE`` is 1."""
    return os.environ.get(VARIABLE) == "1"


def require_allowed(what: str) -> None:
    """Refuse to run code where the installation does not say that it may.

    Raises:
        CodeNotAllowed: ``$KEDGE_ALLOW_CODE`` is not 1.
    """
    if not allowed():
        raise CodeNotAllowed(
            f"{what}: is code that this installation does not run; who trusts the authors of policies sets "
            f"{VARIABLE}=1 for the steps and for the model servers"
        )
