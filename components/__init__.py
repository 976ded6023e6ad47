"""The components of the pipelines: one import and one call each. The work is in ``kedge``."""
