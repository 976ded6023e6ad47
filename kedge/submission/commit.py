"""Which commit of the team's own repository a policy is from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

VARIABLE = "KEDGE_POLICY_COMMIT"


def policy_commit(file: Path | None) -> str:
    """The git commit of the folder that a policy's file is in, ``-dirty`` behind it where tracked files differ from it.

    ``$KEDGE_POLICY_COMMIT`` comes before it: where policies are installed, there is no repository. Empty: not known.
    """
    named = os.environ.get(VARIABLE)
    if named or file is None:
        return named or ""
    git = ("git", "-C", str(file.absolute().parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
