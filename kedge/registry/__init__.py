"""The model registry: versions with their lineage, and the aliases champion, challenger and previous."""

from kedge.registry.registry import Registry, Version, aliases

__all__ = ["Registry", "Version", "aliases"]
