"""Batches: a table scored by the champion."""
