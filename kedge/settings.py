"""Where this installation keeps and finds things: one answer for every command, from flags and the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Addresses. Secrets are never here, only in the environment of who needs them."""

    store: str
    """Root of the store: a folder, or a prefix in object storage. ``$KEDGE_STORE``, default ``.kedge``."""
    registry: str
    """MLflow tracking address. ``$MLFLOW_TRACKING_URI``, default SQLite in a local store."""
    platform: str
    """Where models are served: the folder in which the local platform is declared, or the address of a driver such as
    ``gateway:NAMESPACE``. ``$KEDGE_PLATFORM``, default a folder in a local store."""
    kfp_host: str | None
    """Address of the KFP API. ``$KEDGE_KFP_HOST``; None: runs go to the local runner."""
    kfp_ui: str | None = None
    """Address of KFP's user interface as people reach it. ``$KEDGE_KFP_UI``, default ``kfp_host``."""
    kfp_namespace: str | None = None
    """Namespace of the runs in a multi-user installation, the profile. ``$KEDGE_KFP_NAMESPACE``, default none."""
    image: str | None = None
    """Step image of runs on KFP, at best by digest. ``$KEDGE_STEP_IMAGE``, default the name in ``kedge.image``."""

    policies: str | None = None
    """Folder of policies, a file NAME.yaml a model, that ``--model NAME`` reads before the store's.
    ``$KEDGE_POLICIES``, default none."""
    release_account: str | None = None
    """Account that release steps run as on KFP, as NAMESPACE/NAME or NAME, beside the run. ``$KEDGE_RELEASE_ACCOUNT``,
    default KFP's own."""

    @classmethod
    def of(cls, store: str | None = None) -> Settings:
        """Settings for a store given on the command line, or for the environment's."""
        root = store or os.environ.get("KEDGE_STORE") or ".kedge"
        local = Path(".kedge") if "://" in root else Path(root)
        local = local.expanduser().absolute()
        return cls(
            store=root if "://" in root else str(local),
            registry=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{local}/mlflow.db",
            platform=os.environ.get("KEDGE_PLATFORM") or str(local / "platform"),
            kfp_host=os.environ.get("KEDGE_KFP_HOST") or None,
            kfp_ui=os.environ.get("KEDGE_KFP_UI") or None,
            kfp_namespace=os.environ.get("KEDGE_KFP_NAMESPACE") or None,
            image=os.environ.get("KEDGE_STEP_IMAGE") or None,
            policies=os.environ.get("KEDGE_POLICIES") or None,
            release_account=os.environ.get("KEDGE_RELEASE_ACCOUNT") or None,
        )
