"""Messages to people: how a run ended, as a card beside the run and a text to where the policy says."""

from kedge.notify.notify import card, post, send, text

__all__ = ["card", "post", "send", "text"]
