"""From a snapshot to a bundle: the policy's recipe on several windows of the rows, weighed by the newest ones."""

from kedge.training.challenger import Challenger, fit_challenger

__all__ = ["Challenger", "fit_challenger"]
