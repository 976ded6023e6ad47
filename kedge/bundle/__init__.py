"""The model artefact: one immutable folder, named by its hash, verified before anything in it is loaded."""

from kedge.bundle.folder import Bundle, address, fetch, golden_difference, open_bundle, publish, write
from kedge.bundle.manifest import Manifest
from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Input, Matrix, Signature, observed_categories

__all__ = [
    "Bundle",
    "Input",
    "Manifest",
    "Matrix",
    "Predictor",
    "Signature",
    "address",
    "fetch",
    "golden_difference",
    "observed_categories",
    "open_bundle",
    "publish",
    "write",
]
