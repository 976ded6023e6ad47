"""From a snapshot to a bundle: the estimators of the policy, the better one on the newest rows it may read."""
