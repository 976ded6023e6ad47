"""The release's step: dark, smoke, shadow, canary, promotion or rollback."""
