"""The pipelines, and how they are compiled and submitted."""
