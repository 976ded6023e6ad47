"""The fourth step: champion against challenger, and the gates."""
