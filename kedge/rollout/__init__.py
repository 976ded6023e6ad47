"""The release: candidate dark, smoke, shadow, canary steps, promotion, and the way back."""
