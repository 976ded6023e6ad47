"""Runs of the pipelines: their compiled specs, completed for a policy, and started on KFP or on this machine."""
