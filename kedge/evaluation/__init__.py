"""Champion against challenger on the same newest rows, and the gates a challenger must pass."""

from kedge.evaluation.evaluation import Evaluation, measure
from kedge.evaluation.gates import Verdict, outcome
from kedge.records.kinds import Outcome

__all__ = ["Evaluation", "Outcome", "Verdict", "measure", "outcome"]
