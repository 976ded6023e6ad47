"""The model registry: versions with their lineage, and the aliases champion, challenger and previous."""

from kedge.registry.registry import Registry, Version

__all__ = ["Registry", "Version"]
