"""Distributions of columns: exact mergeable counts, distances, tests. No I/O but record batches and JSON."""

from components.profile.compare import Comparison, Feature, compare
from components.profile.counting import build, count
from components.profile.profile import Profile
from components.profile.reading import Kind

__all__ = ["Comparison", "Feature", "Kind", "Profile", "build", "compare", "count"]
