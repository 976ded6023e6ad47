"""The model artefact: one immutable folder, named by its hash, verified before anything in it is loaded."""

from kedge.bundle.estimators import merge
from kedge.bundle.folder import Bundle, address, fetch, golden_difference, open_bundle, publish, write
from kedge.bundle.manifest import Agreement, Fits, Holdout, Manifest, Window
from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Input, Matrix, Signature, observed_categories

__all__ = [
    "Agreement",
    "Bundle",
    "Fits",
    "Holdout",
    "Input",
    "Manifest",
    "Matrix",
    "Predictor",
    "Signature",
    "Window",
    "address",
    "fetch",
    "golden_difference",
    "merge",
    "observed_categories",
    "open_bundle",
    "publish",
    "write",
]
