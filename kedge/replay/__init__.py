"""What a policy would have done with a history, beside simple rules, on the same rows and with the same training."""

from kedge.replay.blocks import Blocks
from kedge.replay.replay import RULES, Replay, replay
from kedge.replay.walk import BlockDecision, Walk

__all__ = ["RULES", "BlockDecision", "Blocks", "Replay", "Walk", "replay"]
