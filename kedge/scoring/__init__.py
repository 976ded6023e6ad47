"""A table scored by the champion: read in batches, written whole, logged as served predictions are."""
