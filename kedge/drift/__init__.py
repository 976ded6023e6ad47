"""Distributions of columns: exact mergeable counts, distances, tests. No I/O but record batches and JSON."""

from kedge.drift.arrow_reader import Kind
from kedge.drift.compare import Comparison, Feature, compare
from kedge.drift.counting import build, count
from kedge.drift.profile import Profile

__all__ = ["Comparison", "Feature", "Kind", "Profile", "build", "compare", "count"]
