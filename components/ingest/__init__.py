"""The first step of a retraining: keep the training table's rows as they are now."""
