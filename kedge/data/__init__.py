"""The rows of a retraining: kept as they are now, and checked against the policy."""
