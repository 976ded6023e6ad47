"""The release: candidate dark, smoke, shadow, canary steps, promotion, and rollback."""
