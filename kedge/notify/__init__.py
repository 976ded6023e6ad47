"""Messages to people: how a run ended, as a card and a line; and what else must be known."""

from kedge.notify.notices import OF_CHECK, OF_GUARD, Notice, of_check, of_records, tell
from kedge.notify.notify import card, post, send, text

__all__ = ["OF_CHECK", "OF_GUARD", "Notice", "card", "of_check", "of_records", "post", "send", "tell", "text"]
