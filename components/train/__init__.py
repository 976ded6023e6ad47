"""The third step: from rows to a bundle."""
