"""The model artefact: one immutable folder, named by its hash, verified before anything in it is loaded."""

from kedge.bundle.estimators import merge
from kedge.bundle.folder import Bundle, address, fetch, golden_difference, open_bundle, publish, write
from kedge.bundle.manifest import Agreement, Effect, Fits, Holdout, Manifest, Permutation, Window
from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Input, Matrix, Signature, observed_categories

__all__ = [
    "Agreement",
    "Bundle",
    "Effect",
    "Fits",
    "Holdout",
    "Input",
    "Manifest",
    "Matrix",
    "Permutation",
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
