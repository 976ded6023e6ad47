"""The last step of a retraining: a version in the registry."""
