"""What a sender shows the collector."""

from __future__ import annotations

import os
from pathlib import Path

FILE = "KEDGE_COLLECT_TOKEN_FILE"
"""A projected service account token, which the kubelet renews."""
SHARED = "KEDGE_COLLECT_TOKEN"
REQUESTED = "KEDGE_COLLECT_TOKEN_FOR"
"""Steps of Kubeflow's runs cannot mount such a token: they ask Kubernetes for one, of the account NAMESPACE/NAME that
they run as and for an audience, ``NAMESPACE/NAME@AUDIENCE``."""


def shown() -> dict[str, str]:
    """Headers to send along: the token in ``$KEDGE_COLLECT_TOKEN_FILE`` as it is now, else ``$KEDGE_COLLECT_TOKEN``.

    Raises:
        OSError: the file cannot be read.
    """
    file = os.environ.get(FILE)
    token = Path(file).read_text().strip() if file else os.environ.get(SHARED)
    return {"authorization": f"Bearer {token}"} if token else {}
